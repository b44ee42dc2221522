//! A flood at the heartbeat ports of a running cluster: rubbish, forgeries and replays as fast as another process can send.
//! Judges counts: no failover, no term, rounds go on being answered. Processor time is printed, not judged.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::net::{Ipv4Addr, UdpSocket};
use std::path::Path;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use serde_json::Value;
use wa_agent::net::keys::{Keys, Voice};
use wa_agent::sys::{process, state};
use wa_core::id::{Epoch, Grant, NodeId, Nonce, Role, ShardId, Term};
use wa_core::wire::{Body, DATAGRAM_LEN_MAX, Datagram, MAC_LEN, Nudge, VERSION, encode};

use crate::dev::{Dev, owner, status, status_until};
use crate::drill::{TURN, port, request};

/// How long it is flooded.
const SPAN: Duration = Duration::from_secs(8);
/// Between two looks at the cluster.
const BURST: usize = 20_000;

/// Datagrams as nodes of this cluster sent them: the first of their running start, long behind what came after.
fn recorded(dir: &Path, node: &str, cluster: u64, bodies: Vec<Body>) -> Vec<Vec<u8>> {
    let key = std::fs::read(dir.join("cluster-key")).expect("written by dev");
    let keys = Keys::new(&key);
    let run = state::last_run(dir, node).expect("readable");
    let run = run.expect("it runs");
    let role = if node.starts_with("master") {
        Role::Master
    } else {
        Role::Coreapp
    };
    let sign = |body: Body| {
        let voice = Voice::of(role, &body);
        let datagram = Datagram {
            version: VERSION,
            cluster,
            key_id: keys.id(),
            role,
            sender: NodeId::new(&format!("dev:{node}")),
            incarnation: run.incarnation,
            sequence: 1,
            body,
        };
        let mut bytes = [0u8; DATAGRAM_LEN_MAX];
        let len = encode(&datagram, &mut bytes);
        let mac = keys.mac(voice, &bytes[..len]);
        bytes[len..len + MAC_LEN].copy_from_slice(&mac);
        bytes[..len + MAC_LEN].to_vec()
    };
    bodies.into_iter().map(sign).collect()
}

/// Everything that somebody without a key can send.
fn ammunition(dir: &Path, owner: &str, epoch: u64) -> Vec<Vec<u8>> {
    let config = dir.join("wa-agent.toml");
    let loaded = wa_agent::config::load(Role::Master, 1, Some(&config)).expect("it is in use");
    let cluster = loaded.settings.cluster_id;
    let owned = (ShardId(0), Epoch(epoch), Grant(1));
    let (shard, epoch, grant) = owned;
    let mut all = recorded(
        dir,
        "master-1",
        cluster,
        vec![
            Body::Ping {
                nonce: Nonce(7),
                sent_at_ns: 1,
                term: Term(1),
                epoch_high: epoch,
            },
            Body::Nudge(Nudge::ShardMap),
            Body::Quiesce {
                shard,
                epoch,
                grant,
                on: true,
            },
        ],
    );
    all.extend(recorded(
        dir,
        owner,
        cluster,
        vec![
            Body::Ended {
                shard,
                epoch,
                grant,
            },
            Body::Ask {
                shard,
                epoch,
                grant,
            },
        ],
    ));
    let forged: Vec<Vec<u8>> = all
        .iter()
        .map(|bytes| {
            let mut bytes = bytes.clone();
            let last = bytes.len() - 1;
            bytes[last] ^= 1;
            bytes
        })
        .collect();
    all.extend(forged);
    all.extend([
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![b'W'; 300],
        vec![0; 1400],
        Vec::new(),
    ]);
    all
}

fn figure(page: &str, name: &str) -> u64 {
    let line = page.lines().find(|l| l.split(' ').next() == Some(name));
    let value = line.and_then(|l| l.split(' ').nth(1)?.parse::<f64>().ok());
    value.unwrap_or_else(|| panic!("no {name} in {page}")) as u64
}

struct Aimed {
    name: String,
    pid: u32,
    heartbeats: u16,
    health: u16,
}

impl Aimed {
    fn at(dev: &Dev, name: &str, offset: u16) -> Self {
        let (role, instance) = name.rsplit_once('-').expect("role and instance");
        let step = (instance.parse::<u16>().expect("a number") - 1) * 10;
        let (heartbeats, health) = if role == "master" {
            (6254, 6257)
        } else {
            (6250, 6253)
        };
        let is_it = |pid: &&i32| {
            let words = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let words: Vec<&[u8]> = words.split(|b| *b == 0).collect();
            words.contains(&role.as_bytes()) && words.contains(&instance.as_bytes())
        };
        let processes = dev.processes();
        let pid = *processes.iter().find(is_it).expect("it runs");
        Self {
            name: name.to_owned(),
            pid: u32::try_from(pid).expect("positive"),
            heartbeats: heartbeats + step + offset,
            health: health + step + offset,
        }
    }

    fn page(&self) -> String {
        request([127, 0, 0, 1], self.health, "GET /metrics HTTP/1.1", "")
    }
}

fn marks(status: &Value) -> (Option<u64>, Option<u64>, Option<String>) {
    (
        status["term"].as_u64(),
        status["shards"][0]["epoch"].as_u64(),
        owner(status),
    )
}

/// Goal: nobody without a key causes a failover, stops heartbeats or takes the processor. Method: the primary's and the
/// owner's ports under fire from this process, for eight seconds, with all that such a one can have.
#[test]
fn a_flood_causes_no_failover() {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let first = port();
    let mut dev = Dev::with(first, &["--profile", "standard"]);
    dev.until("ready: primary");
    let before = status_until(&dev, "healthy", |s| s["problems"] == serde_json::json!([]));
    let dir = dev.directory();
    let short = |name: &str| {
        name.rsplit_once(':')
            .map(|(_, name)| name.to_owned())
            .expect("host and name")
    };
    let owner_name = short(&owner(&before).expect("an owner"));
    let primary = short(before["primary_master"].as_str().expect("a primary"));
    let shots = ammunition(
        &dir,
        &owner_name,
        before["shards"][0]["epoch"].as_u64().expect("an epoch"),
    );
    let aims = [&primary, &owner_name].map(|name| Aimed::at(&dev, name, first - 9090));
    let answered = |page: &str| figure(page, "wa_heartbeat_rtt_seconds_count");
    let rounds_before = answered(&aims[0].page());
    let used_before = aims
        .each_ref()
        .map(|a| process::cpu_time(a.pid).expect("it runs"));

    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("bound");
    let (began, mut sent) = (Instant::now(), 0u64);
    while began.elapsed() < SPAN {
        for n in 0..BURST {
            let shot = &shots[n % shots.len()];
            let _ = socket.send_to(shot, (Ipv4Addr::LOCALHOST, aims[n / 4 % 2].heartbeats));
        }
        sent += BURST as u64;
    }
    let took = began.elapsed();

    for (aim, used) in aims.iter().zip(used_before) {
        let page = aim.page();
        let used = process::cpu_time(aim.pid).expect("the same process still runs") - used;
        println!(
            "{}: {} a second aimed at two ports, {:.1} % of a core used by the whole process",
            aim.name,
            sent * 1000 / took.as_millis() as u64,
            used.as_secs_f64() / took.as_secs_f64() * 100.0
        );
        assert!(
            figure(&page, "wa_datagrams_kept_away") > 1000,
            "the kernel kept most away: {page}"
        );
        assert!(
            figure(&page, "wa_datagrams_dropped") > 0,
            "what had the right prefix was dropped: {page}"
        );
    }
    assert_eq!(
        marks(&status(&dev)),
        marks(&before),
        "no term, no epoch, the same owner"
    );
    let rounds = answered(&aims[0].page()) - rounds_before;
    // Two masters' worth of peers, five rounds a second: most of them, on a machine that has other work.
    assert!(rounds >= 40, "{rounds} pings were answered in {took:?}");
    let after = status_until(&dev, "healthy", |s| s["problems"] == serde_json::json!([]));
    assert_eq!(marks(&after), marks(&before));
}
