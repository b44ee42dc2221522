//! What ten million rows cost: intake, claim and a takeover on a full store, beside the same on an empty one, in one run and on
//! one server. Calls the store as owners do. Measures; of times it judges only whether the full store keeps four fifths.

mod owner;
mod report;

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::Context as _;
use wa_core::time::Instant;

use self::owner::{Owner, Tenure};
use self::report::{Pace, Report, Scan};
use super::args::DevArgs;
use super::cluster::SERVER_PORT;
use super::mariadb::{self, Server};
use crate::config::{DatabaseSettings, Replication};
use crate::db::past::Part;
use crate::exit::Exit;
use crate::sys::clock;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// What the server has beside the settings of every private one. Statements that look at many rows are written down with their plans.
const SETTINGS: [&str; 8] = [
    "--innodb-buffer-pool-size=2G",
    "--innodb-log-file-size=1G",
    "--userstat=1",
    "--slow-query-log=1",
    "--long-query-time=0",
    "--log-slow-verbosity=query_plan,explain",
    "--min-examined-row-limit=2000",
    "--slow-query-log-file=slow",
];
/// Where plans are found afterwards.
const PLANS: &str = "target/bench/rows-plans.txt";
/// Between two lines of progress.
const TOLD_EVERY: Duration = Duration::from_secs(10);

/// The stores: without rows, with what is not finished, and with everything.
const NAMES: [&str; 3] = ["wa", "wa_few", "wa_full"];

/// Fills the stores, measures in turn, and prints a table, and JSON as the last line.
///
/// # Errors
/// When the private server does not come up, or the database fails.
pub async fn run(args: &DevArgs, state: &Path) -> anyhow::Result<Exit> {
    let _ = std::fs::remove_dir_all(state);
    std::fs::create_dir_all(state).with_context(|| format!("cannot make {}", state.display()))?;
    let done = measure(args, state).await;
    // Gigabytes.
    let _ = std::fs::remove_dir_all(state);
    let report = done?;
    report.print();
    println!("{}", serde_json::to_string(&report)?);
    Ok(if report.held { Exit::Ok } else { Exit::Refuted })
}

async fn measure(args: &DevArgs, state: &Path) -> anyhow::Result<Report> {
    let server = match args.database.as_deref() {
        Some(mariadb::WORD) => Some(server(args, state).await?),
        None => None,
        Some(_) => {
            anyhow::bail!("rows are measured on \"mariadb\", or embedded without --database")
        }
    };
    // Whole hundreds, in two passes.
    let messages = (args.rows / 200).max(1) * 200;
    let mut owners = Vec::new();
    for name in NAMES {
        let url = match &server {
            Some(_) => {
                let base = Server::url(port(args), LOOPBACK);
                let base = base.trim_end_matches(NAMES[0]);
                format!("{base}{name}")
            }
            None => format!("sqlite://{}/{name}.db", state.display()),
        };
        owners.push(Owner::begin(settings(url)).await?);
    }
    let [empty, few, full] = &mut owners[..] else {
        anyhow::bail!("three stores");
    };
    let began = clock::now();
    fill(few, &[Part::Unfinished], messages).await?;
    fill_all(full, messages).await?;
    let filled_s = clock::now().since(began).as_secs();
    if let Some(server) = &server {
        server.forget_slow_log();
    }
    let (paces, scans) = rounds(args.rounds.max(1), [empty, few, full], server.as_ref()).await?;
    if let Some(server) = &server {
        server.keep_slow_log(Path::new(PLANS))?;
    }
    for owner in &owners {
        owner.db.close().await;
    }
    Ok(Report::of(
        (messages, server.is_some()),
        (filled_s, bytes_of(state)),
        paces,
        scans,
    ))
}

/// Empty and full in turn, and a takeover after each.
async fn rounds(
    count: u32,
    [empty, few, full]: [&mut Owner; 3],
    server: Option<&Server>,
) -> anyhow::Result<(Vec<Pace>, Vec<Scan>)> {
    let mut paces = vec![Pace::default(); owner::PHASES.len()];
    let mut scans: Vec<Scan> = Vec::new();
    for round in 0..count {
        for owner in [&mut *few, &mut *full] {
            owner.db.put_past_off().await?;
        }
        // Whoever is second finds the disk busy with what the first one wrote: in turn.
        let pair = [(false, &mut *empty), (true, &mut *full)];
        let order: Vec<_> = match round % 2 {
            0 => pair.into_iter().collect(),
            _ => pair.into_iter().rev().collect(),
        };
        for (is_full, owner) in order {
            let rates = owner.round().await?;
            for (pace, rate) in paces.iter_mut().zip(rates) {
                pace.note(is_full, rate);
            }
        }
        for (is_full, owner, name) in [(false, &mut *few, NAMES[1]), (true, &mut *full, NAMES[2])] {
            let tenure = take_over(owner, server, name).await?;
            report::note(&mut scans, is_full, tenure);
        }
        eprintln!("round {} of {}", round + 1, count);
    }
    Ok((paces, scans))
}

fn port(args: &DevArgs) -> u16 {
    SERVER_PORT + args.port - 9090
}

async fn server(args: &DevArgs, state: &Path) -> anyhow::Result<Server> {
    let more = SETTINGS.map(String::from);
    let at = (port(args), LOOPBACK);
    let server = Server::start_with(state, at, false, more.into()).await?;
    for name in &NAMES[1..] {
        server.make_database(name).await?;
    }
    Ok(server)
}

fn settings(url: String) -> DatabaseSettings {
    DatabaseSettings {
        urls: vec![url],
        logins: Default::default(),
        replication: Replication::Auto,
        ssl_ca: None,
        ssl_cert: None,
        ssl_key: None,
        connect_timeout: Duration::from_secs(10),
        busy_timeout: Duration::from_secs(10),
    }
}

/// Messages and events beside each other where there is more than one writer.
async fn fill_all(full: &Owner, messages: u64) -> anyhow::Result<()> {
    let (one, other) = (
        [
            Part::Finished,
            Part::Unfinished,
            Part::Ids,
            Part::Customers,
            Part::Routes,
        ],
        [Part::Events],
    );
    if full.db.embedded() {
        fill(full, &one, messages).await?;
        fill(full, &other, messages).await?;
    } else {
        tokio::try_join!(fill(full, &one, messages), fill(full, &other, messages))?;
    }
    full.db.look_at_past().await?;
    Ok(())
}

async fn fill(owner: &Owner, parts: &[Part], messages: u64) -> anyhow::Result<()> {
    let began = clock::now();
    let told_at = AtomicU64::new(0);
    for part in parts {
        let told = |rows: u64| progress(*part, (rows, part.len(messages)), began, &told_at);
        owner.db.fill_past(*part, messages, told).await?;
    }
    Ok(())
}

/// A line now and then.
fn progress(part: Part, (rows, all): (u64, u64), began: Instant, told_at: &AtomicU64) {
    let now_s = clock::now().since(began).as_secs();
    let last = told_at.load(Ordering::Relaxed);
    if now_s >= last + TOLD_EVERY.as_secs() {
        told_at.store(now_s, Ordering::Relaxed);
        eprintln!("{now_s} s: {part:?}: {rows} rows of about {all}");
    }
}

/// What a tenure asks at its start and again and again, with what each took and how many rows the server read for it.
async fn take_over(
    owner: &mut Owner,
    server: Option<&Server>,
    name: &str,
) -> anyhow::Result<Vec<(Tenure, Duration, Option<u64>)>> {
    owner.leave_in_hand().await?;
    owner.next().await?;
    let mut seen = Vec::new();
    for what in Tenure::ALL {
        let before = rows_read(server, name).await?;
        let began = clock::now();
        owner
            .ask(what)
            .await
            .with_context(|| what.as_str().to_owned())?;
        let took = clock::now().since(began);
        let after = rows_read(server, name).await?;
        let read = before.zip(after).map(|(b, a)| a.saturating_sub(b));
        seen.push((what, took, read));
    }
    Ok(seen)
}

async fn rows_read(server: Option<&Server>, name: &str) -> anyhow::Result<Option<u64>> {
    match server {
        Some(server) => Ok(Some(server.rows_read(name).await?)),
        None => Ok(None),
    }
}

/// Bytes of all files below.
fn bytes_of(folder: &Path) -> u64 {
    let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
    entries
        .map(|entry| match entry.metadata() {
            Ok(of) if of.is_dir() => bytes_of(&entry.path()),
            Ok(of) => of.len(),
            Err(_) => 0,
        })
        .sum()
}
