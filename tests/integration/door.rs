//! What strangers can do to the ports of a running cluster: bodies that nobody signed, sockets that say nothing, readers that never read.
//! Judges counts and resident memory, no times; a client goes on sending all the while, and none of its messages may fail.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::PoisonError;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::drill::{TURN, request};
use crate::media::{Bench, have_curl};

/// Memory that one attack may cost a process, in MiB: the room for strangers' bodies twice, and what the program uses by itself.
const COST_MAX_MIB: u64 = 96;
const PATIENCE: Duration = Duration::from_secs(90);
/// Where the client calls from: no node of this cluster does.
const CLIENT: [u8; 4] = [127, 0, 7, 1];

/// A connection from an address of the attackers'.
fn from(source: [u8; 4], port: u16) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let source: SocketAddr = (Ipv4Addr::from(source), 0).into();
    socket.bind(&source.into())?;
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    socket.connect_timeout(&to.into(), Duration::from_secs(10))?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(Duration::from_secs(20)))?;
    Ok(stream)
}

/// The process that has this port as its API, health or control port.
fn process(bench: &Bench, role: &str, instance: &str) -> i32 {
    let is_it = |pid: &&i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|b| *b == 0).collect();
        words.contains(&role.as_bytes()) && words.contains(&instance.as_bytes())
    };
    let all = bench.dev.processes();
    *all.iter().find(is_it).expect("it runs")
}

/// The most memory that a process ever had, in MiB. `reset` begins anew.
fn peak_mib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find(|l| l.starts_with("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("a figure") >> 10
}

fn reset(pid: i32) {
    // clear_refs(5): the peak is what it is now.
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("our own process");
}

/// Sends a message after the other until it is stopped; how many, and what was not answered 201.
fn client((webapp, token): (u16, &str), stop: &AtomicBool) -> (usize, Vec<String>) {
    let (mut sent, mut bad) = (0, Vec::new());
    let head = format!("POST /v1/messages HTTP/1.1\r\nauthorization: Bearer {token}");
    while !stop.load(Ordering::Relaxed) {
        let body =
            json!({"to": "447700900123", "type": "text", "text": {"body": format!("n{sent}")}});
        let answer = request(CLIENT, webapp, &head, &body.to_string());
        if !answer.starts_with("HTTP/1.1 201") {
            bad.push(answer);
        }
        sent += 1;
    }
    (sent, bad)
}

/// Runs an attack while the client sends; what it cost the process, in MiB.
fn under(bench: &Bench, pid: i32, name: &str, attack: impl FnOnce()) -> u64 {
    let (stop, user) = (AtomicBool::new(false), (bench.webapp, bench.token.as_str()));
    reset(pid);
    let before = peak_mib(pid);
    let (sent, bad) = std::thread::scope(|threads| {
        let sending = threads.spawn(|| client(user, &stop));
        attack();
        stop.store(true, Ordering::Relaxed);
        sending.join().expect("the client")
    });
    let after = peak_mib(pid);
    println!(
        "{name}: {before} MiB before, {after} MiB at most; {sent} messages, {} failed",
        bad.len()
    );
    assert!(sent > 0 && bad.is_empty(), "{name}: {bad:?}");
    after - before
}

/// Connections at once that each send this head, and as much of a body as is taken. What each was answered.
fn bodies(port: u16, count: u16, head: &str, length: usize) -> Vec<String> {
    let chunk = vec![b'x'; 64 << 10];
    let send = |n: u16| {
        let source = [127, 0, 1, u8::try_from(n % 4 + 1).expect("small")];
        let Ok(mut stream) = from(source, port) else {
            return "no connection".to_owned();
        };
        let head = format!(
            "{head}\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut sent = stream.write_all(head.as_bytes());
        for _ in 0..length / chunk.len() {
            if sent.is_ok() {
                sent = stream.write_all(&chunk);
            }
        }
        let mut answer = vec![0; 4096];
        let read = stream.read(&mut answer).unwrap_or(0);
        String::from_utf8_lossy(&answer[..read]).into_owned()
    };
    std::thread::scope(|threads| {
        let all: Vec<_> = (0..count).map(|n| threads.spawn(move || send(n))).collect();
        all.into_iter()
            .map(|one| one.join().expect("a thread"))
            .collect()
    })
}

fn metric(health: u16, name: &str) -> u64 {
    let page = request([127, 0, 0, 1], health, "GET /metrics HTTP/1.1", "");
    let line = page.lines().find(|l| l.starts_with(name));
    line.and_then(|l| l.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0)
}

/// A cluster of this test's own, while it has its turn.
fn alone(test: impl FnOnce(&Bench, u16)) {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    test(&bench, bench.webapp - 9090);
}

/// Goal: bodies of people without a credential cost a process little memory, and no message of a client fails. Method: 200 webhooks of 4 MiB
/// at once without a signature, then with a wrong one; 200 bodies of 2 MiB at a master's control port.
#[test]
fn bodies_of_strangers_cost_little_memory() {
    alone(|bench, offset| {
        let webapp = process(bench, "webapp", "1");
        let digest = "00".repeat(32);
        for (name, more) in [
            ("200 webhooks without a signature", String::new()),
            (
                "200 webhooks with a wrong signature",
                format!("\r\nx-hub-signature-256: sha256={digest}"),
            ),
        ] {
            let head = format!("POST /cloud/webhook HTTP/1.1{more}");
            let cost = under(bench, webapp, name, || {
                let answers = bodies(bench.webapp, 200, &head, 4 << 20);
                assert!(!answers.iter().any(|a| a.starts_with("HTTP/1.1 200")));
            });
            assert!(cost < COST_MAX_MIB, "{name}: {cost} MiB");
        }
        let (master, control) = (process(bench, "master", "1"), 6255 + offset);
        let head = "POST /control/operate HTTP/1.1\r\nauthorization: Bearer guess";
        let cost = under(bench, master, "200 strangers at the control port", || {
            let answers = bodies(control, 200, head, 2 << 20);
            let told = answers.iter().filter(|a| a.starts_with("HTTP/1.1 401"));
            println!("{} of them were told 401", told.count());
        });
        assert!(cost < COST_MAX_MIB, "control port: {cost} MiB");
    });
}

/// Goal: silent sockets close no port. Method: more of them than there are places, from sixteen addresses; a client connects anew for every
/// message, while they come and while they stay.
#[test]
fn silent_sockets_close_no_port() {
    alone(|bench, _| {
        let webapp = process(bench, "webapp", "1");
        let mut held = Vec::new();
        let cost = under(bench, webapp, "4,150 silent sockets", || {
            for n in 0..4150u16 {
                let source = [127, 0, 2, u8::try_from(n % 16 + 1).expect("small")];
                held.extend(from(source, bench.webapp));
            }
        });
        assert_eq!(held.len(), 4150, "each was taken");
        assert!(cost < COST_MAX_MIB, "silent sockets: {cost} MiB");
        under(bench, webapp, "while they stay", || {
            let until = Instant::now() + Duration::from_secs(1);
            while Instant::now() < until {
                std::thread::yield_now();
            }
        });
        drop(held);
    });
}

/// Goal: readers that ask for much and take nothing are ended, and cost little. Method: fifty of them, until the process says that all are gone.
#[test]
fn readers_that_never_read_are_ended() {
    alone(|bench, offset| {
        let (webapp, health) = (process(bench, "webapp", "1"), 9190 + offset);
        let ended = || {
            metric(
                health,
                r#"wa_connections_ended_total{port="api",why="unread"}"#,
            )
        };
        let before = ended();
        let cost = under(bench, webapp, "50 readers that never read", || {
            let ask = "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
            let mut held = Vec::new();
            for n in 0..50u8 {
                let mut stream = from([127, 0, 3, n + 1], bench.webapp).expect("connected");
                let _ = stream.write_all(ask.as_bytes());
                held.push(stream);
            }
            let until = Instant::now() + PATIENCE;
            while ended() < before + 50 {
                assert!(
                    Instant::now() < until,
                    "{} of 50 are gone",
                    ended() - before
                );
            }
        });
        assert!(cost < COST_MAX_MIB, "readers that never read: {cost} MiB");
    });
}
