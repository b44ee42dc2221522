//! The reply gap of a heartbeat thread while other processes take the processors: how late its answers are.
//! Prints figures; judges nothing.

use std::net::SocketAddr;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use tokio::io::AsyncBufReadExt as _;
use wa_core::id::{Incarnation, NodeId, Role};

use super::args::DevArgs;
use super::hogs::Hogs;
use crate::exit::Exit;
use crate::net::keys::Keys;
use crate::net::udp::{self, Heard, Heartbeats, Inbox, Target};
use crate::sys::sched::PLAIN;
use crate::sys::{child, clock};

/// Between two pings.
const INTERVAL: Duration = Duration::from_millis(10);

fn side(role: Role, interval: Option<Duration>) -> anyhow::Result<(Heartbeats, Inbox)> {
    let identity = udp::Identity {
        cluster: 1,
        node: NodeId::new(&format!("gap:{}-1", role.as_str())),
        role,
        incarnation: Incarnation {
            counter: 1,
            random: 1,
        },
        keys: Keys::new(b"a key for one measurement"),
    };
    let local = SocketAddr::from(([127, 0, 0, 1], 0));
    Ok(udp::start(identity, local, interval, Arc::default())?)
}

/// The child: answers pings until its parent ends it. Says where, and whether under SCHED_FIFO.
///
/// # Errors
/// When no port can be had.
pub async fn respond() -> anyhow::Result<Exit> {
    let (heartbeats, mut heard) = side(Role::Coreapp, None)?;
    let standing = heartbeats.standing();
    while !standing.ready.load(std::sync::atomic::Ordering::Acquire) {
        clock::sleep(Duration::from_millis(1)).await;
    }
    let realtime = standing.realtime.load(std::sync::atomic::Ordering::Relaxed);
    println!("{} {realtime}", heartbeats.local_addr()?);
    while heard.recv().await.is_some() {}
    Ok(Exit::Ok)
}

/// Microseconds.
#[derive(Debug, Serialize)]
struct Figures {
    answers: usize,
    p50: u64,
    p99: u64,
    p999: u64,
    worst: u64,
}

fn figures(mut times: Vec<u64>) -> Figures {
    times.sort_unstable();
    let at = |per_mille: usize| {
        times
            .get(times.len() * per_mille / 1000)
            .or(times.last())
            .copied()
            .unwrap_or(0)
    };
    Figures {
        answers: times.len(),
        p50: at(500),
        p99: at(990),
        p999: at(999),
        worst: times.last().copied().unwrap_or(0),
    }
}

#[derive(Debug, Serialize)]
struct Measured {
    priority: &'static str,
    hogs: u16,
    pings: u64,
    /// From ping to answer, by the kernel's stamp.
    delay_us: Figures,
    /// From answer to answer: ten milliseconds when all is well.
    gap_us: Figures,
}

/// Measures at normal priority and under SCHED_FIFO, without and with the hogs, `--seconds` each.
///
/// # Errors
/// When the child does not start.
pub async fn run(args: &DevArgs) -> anyhow::Result<Exit> {
    let mut all = Vec::new();
    for (hogs, plain) in [(0, true), (0, false), (args.hogs, true), (args.hogs, false)] {
        let measured = measure(hogs, plain, Duration::from_secs(args.seconds)).await?;
        eprintln!(
            "{:<12} {:>2} hogs  reply gap p50 {:.1} ms, p99 {:.1} ms, p99.9 {:.1} ms, worst {:.1} ms  delay p50 {} µs, worst {:.1} ms",
            measured.priority,
            measured.hogs,
            measured.gap_us.p50 as f64 / 1000.0,
            measured.gap_us.p99 as f64 / 1000.0,
            measured.gap_us.p999 as f64 / 1000.0,
            measured.gap_us.worst as f64 / 1000.0,
            measured.delay_us.p50,
            measured.delay_us.worst as f64 / 1000.0,
        );
        all.push(measured);
    }
    println!("{}", serde_json::to_string(&all)?);
    Ok(Exit::Ok)
}

async fn measure(hogs: u16, plain: bool, span: Duration) -> anyhow::Result<Measured> {
    let mut command = tokio::process::Command::new("/proc/self/exe");
    command
        .arg0("wa-agent")
        .args(["dev", "--gap-responder"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .kill_on_drop(true);
    if plain {
        command.env(PLAIN, "1");
    } else {
        command.env_remove(PLAIN);
    }
    child::die_with_parent(&mut command);
    let mut responder = command.spawn()?;
    let out = responder.stdout.take().context("it was piped")?;
    let line = tokio::io::BufReader::new(out)
        .lines()
        .next_line()
        .await?
        .context("the responder did not start")?;
    let (address, realtime) = line.split_once(' ').context("address and scheduling")?;
    let priority = if realtime == "true" {
        "SCHED_FIFO"
    } else {
        "normal"
    };
    let (master, mut heard) = side(Role::Master, Some(INTERVAL))?;
    master.set_targets(vec![Target {
        node: NodeId::new("gap:coreapp-1"),
        address: address.parse()?,
    }]);
    let busy = Hogs::start(hogs)?;
    let until = clock::now() + span;
    let (mut pings, mut delays, mut gaps, mut last) = (0, Vec::new(), Vec::new(), None);
    while clock::now() < until {
        match tokio::time::timeout(Duration::from_secs(1), heard.recv()).await {
            Ok(Some(Heard::Round { .. })) => pings += 1,
            Ok(Some(Heard::Answered { rtt, arrived, .. })) => {
                delays.push(us(rtt));
                if let Some(before) = last.replace(arrived) {
                    gaps.push(us(arrived.since(before)));
                }
            }
            Ok(Some(Heard::Body { .. }) | None) | Err(_) => {}
        }
    }
    drop(busy);
    let _ = responder.kill().await;
    Ok(Measured {
        priority,
        hogs,
        pings,
        delay_us: figures(delays),
        gap_us: figures(gaps),
    })
}

fn us(span: Duration) -> u64 {
    u64::try_from(span.as_micros()).unwrap_or(u64::MAX)
}
