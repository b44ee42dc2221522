//! The attacks themselves, and the client that goes on sending beside them. Judges nothing: `door.rs` and `figure.rs` do.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use serde_json::json;

use crate::drill::request;
use crate::media::Bench;

/// Where the client calls from: no node of this cluster does.
const CLIENT: [u8; 4] = [127, 0, 7, 1];
/// A call that takes longer has failed.
const ANSWERED_WITHIN: Duration = Duration::from_secs(20);
/// How long the client sends, however short an attack is.
const AT_LEAST: Duration = Duration::from_secs(2);
/// Threads that share the client's rate.
const SENDERS: u32 = 8;

/// A connection from an address of the attackers'.
pub fn from(source: [u8; 4], port: u16) -> std::io::Result<TcpStream> {
    let socket = socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::STREAM, None)?;
    let source: SocketAddr = (Ipv4Addr::from(source), 0).into();
    socket.bind(&source.into())?;
    let to: SocketAddr = (Ipv4Addr::LOCALHOST, port).into();
    socket.connect_timeout(&to.into(), Duration::from_secs(10))?;
    let stream = TcpStream::from(socket);
    stream.set_write_timeout(Some(Duration::from_secs(5)))?;
    stream.set_read_timeout(Some(ANSWERED_WITHIN))?;
    Ok(stream)
}

/// The process of this role and instance.
pub fn process(bench: &Bench, role: &str, instance: &str) -> i32 {
    let is_it = |pid: &&i32| {
        let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = words.split(|b| *b == 0).collect();
        words.contains(&role.as_bytes()) && words.contains(&instance.as_bytes())
    };
    let all = bench.dev.processes();
    *all.iter().find(is_it).expect("it runs")
}

/// The most memory that a process ever had, in MiB.
fn peak_mib(pid: i32) -> u64 {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status")).expect("it runs");
    let line = text.lines().find(|l| l.starts_with("VmHWM:"));
    let kib = line.and_then(|l| l.split_whitespace().nth(1)?.parse::<u64>().ok());
    kib.expect("a figure") >> 10
}

/// From now on the peak is what it is now.
fn reset(pid: i32) {
    std::fs::write(format!("/proc/{pid}/clear_refs"), "5").expect("our own process");
}

/// What one attack did.
#[derive(Debug)]
pub struct Outcome {
    pub name: &'static str,
    pub before_mib: u64,
    pub peak_mib: u64,
    pub sent: usize,
    /// What was not answered 201.
    pub failed: Vec<String>,
    pub slowest: Duration,
}

impl Outcome {
    /// What it cost the process, in MiB.
    pub fn cost_mib(&self) -> u64 {
        self.peak_mib.saturating_sub(self.before_mib)
    }
}

/// One message, over a connection of its own.
fn message(webapp: u16, token: &str, n: usize) -> Result<(), String> {
    let body = json!({"to": "447700900123", "type": "text", "text": {"body": format!("n{n}")}});
    let body = body.to_string();
    let told = |error: std::io::Error| error.to_string();
    let mut stream = from(CLIENT, webapp).map_err(told)?;
    let request = format!(
        "POST /v1/messages HTTP/1.1\r\nhost: x\r\nconnection: close\r\nauthorization: Bearer {token}\r\n\
         content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    stream.write_all(request.as_bytes()).map_err(told)?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).map_err(told)?;
    match answer.starts_with("HTTP/1.1 201") {
        true => Ok(()),
        false => Err(answer),
    }
}

/// Sends so many messages a second until it is stopped, and for [`AT_LEAST`]. Each thread has every `SENDERS`-th message.
fn client(
    (webapp, token): (u16, &str),
    rate: u32,
    stop: &AtomicBool,
) -> (usize, Vec<String>, Duration) {
    let next = AtomicUsize::new(0);
    let began = Instant::now();
    let send = || {
        let (mut failed, mut slowest) = (Vec::new(), Duration::ZERO);
        loop {
            let n = next.fetch_add(1, Ordering::Relaxed);
            if stop.load(Ordering::Relaxed) && began.elapsed() >= AT_LEAST {
                return (failed, slowest);
            }
            let due = Duration::from_secs_f64(n as f64 / f64::from(rate));
            while began.elapsed() < due {
                std::thread::park_timeout(due.saturating_sub(began.elapsed()));
            }
            let asked = Instant::now();
            failed.extend(message(webapp, token, n).err());
            slowest = slowest.max(asked.elapsed());
        }
    };
    let (mut failed, mut slowest) = (Vec::new(), Duration::ZERO);
    std::thread::scope(|threads| {
        let all: Vec<_> = (0..SENDERS).map(|_| threads.spawn(send)).collect();
        for one in all {
            let (bad, slow) = one.join().expect("a sender");
            failed.extend(bad);
            slowest = slowest.max(slow);
        }
    });
    // Each sender took one number that it did not use.
    let sent = next.load(Ordering::Relaxed) - SENDERS as usize;
    (sent, failed, slowest)
}

/// Runs an attack on a process while the client sends.
pub fn under(
    bench: &Bench,
    pid: i32,
    (name, rate): (&'static str, u32),
    attack: impl FnOnce(),
) -> Outcome {
    let (stop, user) = (AtomicBool::new(false), (bench.webapp, bench.token.as_str()));
    reset(pid);
    let before_mib = peak_mib(pid);
    let (sent, failed, slowest) = std::thread::scope(|threads| {
        let sending = threads.spawn(|| client(user, rate, &stop));
        attack();
        stop.store(true, Ordering::Relaxed);
        sending.join().expect("the client")
    });
    let outcome = Outcome {
        name,
        before_mib,
        peak_mib: peak_mib(pid),
        sent,
        failed,
        slowest,
    };
    println!(
        "{name}: {before_mib} MiB before, {} MiB at most; {sent} messages, {} failed, the slowest took {} ms",
        outcome.peak_mib,
        outcome.failed.len(),
        slowest.as_millis()
    );
    outcome
}

/// Part of a body that is written at once.
const CHUNK_LEN: usize = 64 << 10;

/// Connections at once that each send this head, and as much of `sent` bytes of a body of `length` as is taken. What each was answered.
fn bodies(port: u16, count: u16, head: &str, (sent, length): (usize, usize)) -> Vec<String> {
    let chunk = vec![b'x'; CHUNK_LEN];
    let send = |n: u16| {
        let source = [127, 0, 1, u8::try_from(n % 4 + 1).expect("small")];
        let Ok(mut stream) = from(source, port) else {
            return "no connection".to_owned();
        };
        let head = format!(
            "{head}\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {length}\r\n\r\n"
        );
        let mut done = stream.write_all(head.as_bytes());
        for _ in 0..sent / chunk.len() {
            if done.is_ok() {
                done = stream.write_all(&chunk);
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

/// Webhooks of 4 MiB at once, with these lines in their heads.
pub fn webhooks(port: u16, lines: &str) -> Vec<String> {
    let head = format!("POST /cloud/webhook HTTP/1.1{lines}");
    bodies(port, 200, &head, (4 << 20, 4 << 20))
}

/// Webhooks of 4 MiB at once of which the last part never comes: whoever reads them must keep the rest until it gives them up.
pub fn held_webhooks(port: u16, lines: &str) -> Vec<String> {
    let head = format!("POST /cloud/webhook HTTP/1.1{lines}");
    bodies(port, 200, &head, ((4 << 20) - CHUNK_LEN, 4 << 20))
}

/// Bodies of 2 MiB at once for a master's control port.
pub fn deeds(control: u16) -> Vec<String> {
    let head = "POST /control/operate HTTP/1.1\r\nauthorization: Bearer guess";
    bodies(control, 200, head, (2 << 20, 2 << 20))
}

/// Sockets that say nothing, from sixteen addresses. Those that were taken; they stay open with the list.
pub fn silent(port: u16, count: u16) -> Vec<TcpStream> {
    let source = |n: u16| [127, 0, 2, u8::try_from(n % 16 + 1).expect("small")];
    (0..count)
        .filter_map(|n| from(source(n), port).ok())
        .collect()
}

/// Heads that are almost as long as a head may be and never end, from sixteen addresses; with `line` as their last line that is whole.
pub fn half_heads(port: u16, count: u16, line: &str) -> Vec<TcpStream> {
    let source = |n: u16| [127, 0, 4, u8::try_from(n % 16 + 1).expect("small")];
    let long = "x".repeat(31 << 10);
    let head = format!("POST /v1/messages HTTP/1.1\r\nhost: x\r\n{line}x-long: {long}");
    let send = |n: u16| {
        let mut stream = from(source(n), port).ok()?;
        stream
            .set_write_timeout(Some(Duration::from_millis(200)))
            .ok()?;
        // Whoever takes no more of it may do so.
        let _ = stream.write_all(head.as_bytes());
        Some(stream)
    };
    (0..count).filter_map(send).collect()
}

/// Readers that ask for much and take nothing, from an address each.
pub fn readers(port: u16) -> Vec<TcpStream> {
    let ask = "GET /v1/openapi.json HTTP/1.1\r\nhost: x\r\n\r\n".repeat(200);
    let begin = |n: u8| {
        let mut stream = from([127, 0, 3, n + 1], port).ok()?;
        let _ = stream.write_all(ask.as_bytes());
        Some(stream)
    };
    (0..50).filter_map(begin).collect()
}

/// A counter of a process, by the beginning of its line; zero where there is none.
pub fn metric(health: u16, name: &str) -> u64 {
    let page = request([127, 0, 0, 1], health, "GET /metrics HTTP/1.1", "");
    let line = page.lines().find(|l| l.starts_with(name));
    line.and_then(|l| l.rsplit(' ').next()?.parse().ok())
        .unwrap_or(0)
}
