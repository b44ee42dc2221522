//! Strikes under traffic, one after the other, and a watch on every term and epoch in between: an owner or a primary that
//! was not struck and lost its place all the same is a false failover. Measures takeovers; judges by counts only.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use nix::sys::signal::Signal;
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use wa_core::id::Role;
use wa_core::time::Instant;

use super::args::DevArgs;
use super::cluster::Cluster;
use super::drill::{self, DrillResult};
use super::hogs::Hogs;
use super::traffic::{Load, Sent, Traffic, log_in};
use crate::api::control::{OperatorRequest, Verb, path};
use crate::exit::Exit;
use crate::net::client::OutsideClient;
use crate::sys::clock;

/// A takeover that takes longer than this is none.
const TAKEOVER_WITHIN: Duration = Duration::from_secs(30);
/// A healthy cluster after a strike, on a machine with far too much to do.
const HEALTHY_WITHIN: Duration = Duration::from_secs(120);
/// Between two looks at the shard map while a takeover is awaited.
const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Some quiet before each strike, so that a late consequence of the one before is not taken for its own.
const QUIET: Duration = Duration::from_millis(800);
/// After its network came back, until a coreapp may act on a grant: more than the longest ttl of the profiles that are struck.
const SAFE: Duration = Duration::from_secs(3);

/// What is done to a node.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Strike {
    /// SIGKILL to the owner.
    Kill,
    /// SIGSTOP to the owner; the host agent ends it when it is told to.
    Freeze,
    /// The owner's network goes, and its host agent with it.
    Cable,
    /// SIGKILL to the primary master.
    Master,
}

impl Strike {
    fn parse(name: &str) -> anyhow::Result<Self> {
        Ok(match name {
            "kill" => Self::Kill,
            "freeze" => Self::Freeze,
            "cable" => Self::Cable,
            "master" => Self::Master,
            _ => anyhow::bail!("no strike {name:?}; there are: kill, freeze, cable, master"),
        })
    }
}

/// Whose word counts: the newest term, and epoch of shard 0.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Marks {
    term: u64,
    epoch: u64,
}

/// Decisions so far: owners that were activated, masters that became primary.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
struct Decided {
    activated: u64,
    primaries: u64,
}

/// One strike and what came of it.
#[derive(Debug, Serialize)]
struct Struck {
    strike: Strike,
    #[serde(skip)]
    at: Instant,
    /// Until the row named a successor, or the next master.
    detected_ms: Option<u64>,
    /// Until a request that was sent after the strike was answered.
    takeover_ms: Option<u64>,
}

#[derive(Debug, Serialize)]
struct Outcome<'a> {
    profile: &'a str,
    hogs: usize,
    /// The heartbeat threads of all nodes run under SCHED_FIFO.
    realtime: bool,
    seconds: u64,
    strikes: &'a [Struck],
    /// Owners and primaries that lost their place though no strike hit them.
    false_failovers: u64,
    /// Epochs and terms that were drawn again within a failover, before anybody acted under the first.
    drawn_again: u64,
    /// Strikes that nobody took over.
    missed: u64,
    /// Lost, double and so on.
    traffic: &'a DrillResult,
    passed: bool,
}

/// Runs the strikes that the arguments name, in turn, until their count or the time is reached.
///
/// # Errors
/// When the cluster does not come up, or does not heal between two strikes.
pub async fn run(
    cluster: &Cluster,
    args: &DevArgs,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let kinds: Vec<Strike> = args
        .strikes
        .iter()
        .map(|s| Strike::parse(s))
        .collect::<Result<_, _>>()?;
    anyhow::ensure!(
        !kinds.contains(&Strike::Cable) || cluster.plan.lab.is_some(),
        "a cable can only be pulled in a network of namespaces: cargo xtask bench detection"
    );
    cluster.refuse_leftovers().await?;
    let client = OutsideClient::new(Duration::from_secs(2), 4);
    let token = log_in(&client, &cluster.plan.webapp_url(1)).await?;
    drill::ready(cluster, &client).await?;
    cluster.wait_healthy(HEALTHY_WITHIN).await?;
    let realtime = realtime(cluster, &client).await;
    let urls = vec![cluster.plan.webapp_url(1), cluster.plan.webapp_url(2)];
    let traffic = Traffic::start(Load {
        urls,
        token,
        rate: args.rate,
        fail_over: false,
        text: "soak".into(),
    });
    let hogs = Hogs::start(args.hogs).context("no processes that compute")?;
    let began = clock::now();
    let run = Run {
        cluster,
        args,
        client: &client,
        kinds: &kinds,
        stop,
    };
    let done = run.strikes(began).await;
    let sent = traffic.finish().await;
    let hogs_count = hogs.count();
    drop(hogs);
    let mut tally = done?;
    for struck in &mut tally.strikes {
        struck.takeover_ms = takeover(&sent, struck.at);
    }
    let result = drill::compare(cluster, &client, began, &sent).await?;
    let passed = tally.false_failovers == 0
        && tally.missed == 0
        && result.lost == 0
        && result.double_primary == 0;
    print(&tally, &result, realtime);
    let outcome = Outcome {
        profile: &args.profile,
        hogs: hogs_count,
        realtime,
        seconds: clock::now().since(began).as_secs(),
        strikes: &tally.strikes,
        false_failovers: tally.false_failovers,
        drawn_again: tally.drawn_again,
        missed: tally.missed,
        traffic: &result,
        passed,
    };
    println!("{}", serde_json::to_string(&outcome)?);
    Ok(if passed { Exit::Ok } else { Exit::Refuted })
}

/// Every heartbeat thread says whether it is under SCHED_FIFO.
async fn realtime(cluster: &Cluster, client: &OutsideClient) -> bool {
    for process in cluster
        .processes
        .values()
        .filter(|p| p.role != Role::Webapp)
    {
        let page = drill::page(cluster, client, process).await;
        // The whole line: its help begins with the same words.
        if !page.lines().any(|line| line == "wa_heartbeat_realtime 1") {
            return false;
        }
    }
    true
}

#[derive(Default)]
struct Tally {
    strikes: Vec<Struck>,
    false_failovers: u64,
    drawn_again: u64,
    missed: u64,
}

struct Run<'a> {
    cluster: &'a Cluster,
    args: &'a DevArgs,
    client: &'a OutsideClient,
    kinds: &'a [Strike],
    stop: &'a CancellationToken,
}

impl Run<'_> {
    async fn strikes(&self, began: Instant) -> anyhow::Result<Tally> {
        let mut tally = Tally::default();
        let over = began + Duration::from_secs(self.args.seconds);
        let first = (self.marks().await?, self.decided().await?);
        while tally.strikes.len() < self.args.failovers as usize || clock::now() < over {
            anyhow::ensure!(!self.stop.is_cancelled(), "stopped");
            // What is left of the time, shared among the strikes that are left.
            let left = (self.args.failovers as usize).saturating_sub(tally.strikes.len()) as u32;
            let quiet =
                (over.since(clock::now()) / (left + 1)).clamp(QUIET, Duration::from_secs(20));
            clock::sleep(quiet).await;
            self.judge(&mut tally, first).await?;
            if left == 0 {
                continue;
            }
            let kind = self.kinds[tally.strikes.len() % self.kinds.len()];
            let struck = self.strike(kind, self.marks().await?).await?;
            tally.missed += u64::from(struck.detected_ms.is_none());
            tally.strikes.push(struck);
            self.cluster.wait_healthy(HEALTHY_WITHIN).await?;
            self.serving().await?;
            self.acknowledge().await;
        }
        clock::sleep(QUIET).await;
        self.judge(&mut tally, first).await?;
        Ok(tally)
    }

    /// What was decided, against what the strikes so far explain: one owner activated, or one primary, for each.
    async fn judge(&self, tally: &mut Tally, first: (Marks, Decided)) -> anyhow::Result<()> {
        let (marks, decided) = (self.marks().await?, self.decided().await?);
        let of_masters = tally
            .strikes
            .iter()
            .filter(|s| s.strike == Strike::Master)
            .count() as u64;
        let of_owners = tally.strikes.len() as u64 - of_masters;
        let owners = decided
            .activated
            .saturating_sub(first.1.activated + of_owners);
        let masters = decided
            .primaries
            .saturating_sub(first.1.primaries + of_masters);
        if owners + masters > tally.false_failovers {
            eprintln!(
                "false failover: {owners} owners and {masters} primaries too many after {} strikes",
                tally.strikes.len()
            );
        }
        tally.false_failovers = tally.false_failovers.max(owners + masters);
        let drawn =
            marks.epoch.saturating_sub(first.0.epoch) + marks.term.saturating_sub(first.0.term);
        tally.drawn_again =
            drawn.saturating_sub(tally.strikes.len() as u64 + tally.false_failovers);
        Ok(())
    }

    async fn decided(&self) -> anyhow::Result<Decided> {
        let rows = self
            .cluster
            .db
            .decisions(100_000)
            .await
            .context("the history cannot be read")?;
        let count = |what: &str| rows.iter().filter(|row| row.what == what).count() as u64;
        Ok(Decided {
            activated: count("activate"),
            primaries: count("primary"),
        })
    }

    async fn marks(&self) -> anyhow::Result<Marks> {
        let until = clock::now() + HEALTHY_WITHIN;
        loop {
            match self.cluster.db.shard_map().await {
                Ok((master, rows)) => {
                    let epoch = rows.first().map_or(0, |row| row.epoch.0);
                    return Ok(Marks {
                        term: master.term.0,
                        epoch,
                    });
                }
                Err(error) if clock::now() >= until => {
                    return Err(error).context("the shard map cannot be read");
                }
                Err(_) => clock::sleep(LOOK_EVERY).await,
            }
        }
    }

    async fn strike(&self, kind: Strike, before: Marks) -> anyhow::Result<Struck> {
        let owner = self.cluster.owner().await.context("no owner to break")?;
        let process = self.cluster.process(&owner);
        if kind == Strike::Master {
            let status = self.cluster.status().await;
            let primary = status
                .and_then(|s| s.primary_master)
                .context("no primary master to kill")?;
            let name = primary
                .rsplit_once(':')
                .map_or(&*primary, |(_, name)| name)
                .to_owned();
            let at = clock::now();
            self.cluster.process(&name).signal(Signal::SIGKILL);
            return self.await_change(kind, at, before).await;
        }
        let at = clock::now();
        match kind {
            Strike::Kill => process.signal(Signal::SIGKILL),
            Strike::Freeze => process.signal(Signal::SIGSTOP),
            Strike::Cable | Strike::Master => {
                // The host agent of that machine is behind the same cable.
                self.cluster
                    .host
                    .ignore_fences
                    .store(true, Ordering::Release);
                self.cluster.plan.cable(&owner, false).await?;
            }
        }
        let struck = self.await_change(kind, at, before).await;
        if kind == Strike::Cable {
            // Traffic goes on for a while without it: a successor that only looks like one would show.
            clock::sleep(QUIET).await;
            self.cluster.plan.cable(&owner, true).await?;
            self.cluster
                .host
                .ignore_fences
                .store(false, Ordering::Release);
            // Its connections are new: until this is over it would take no tenure, and the next strike would measure that.
            clock::sleep(SAFE).await;
        }
        struck
    }

    /// So many strikes in a short time are what the masters' limit is for: lifted where it has been reached, or every later
    /// frozen owner would be waited for.
    async fn acknowledge(&self) {
        let wish = OperatorRequest {
            verb: Verb::Ack { shard: 0 },
            dry_run: false,
            reason: Some("soak".into()),
            by: None,
        };
        let body = serde_json::to_vec(&wish).expect("plain words are JSON");
        let _ = self.cluster.control(path::OPERATE, body).await;
    }

    /// Waits until a tenure has begun: an owner that is only named does not serve, and is not worth a strike.
    async fn serving(&self) -> anyhow::Result<()> {
        let until = clock::now() + HEALTHY_WITHIN;
        while clock::now() < until {
            for process in self.cluster.processes.values() {
                if process.role == Role::Coreapp {
                    let page = drill::page(self.cluster, self.client, process).await;
                    let margin = page
                        .lines()
                        .find_map(|line| line.strip_prefix("wa_tenure_margin_seconds "));
                    if margin.is_some_and(|left| left.parse::<f64>().is_ok_and(|s| s > 0.0)) {
                        return Ok(());
                    }
                }
            }
            clock::sleep(LOOK_EVERY).await;
        }
        anyhow::bail!("no tenure began within {HEALTHY_WITHIN:?}")
    }

    async fn await_change(
        &self,
        strike: Strike,
        at: Instant,
        before: Marks,
    ) -> anyhow::Result<Struck> {
        let mut struck = Struck {
            strike,
            at,
            detected_ms: None,
            takeover_ms: None,
        };
        while clock::now() < at + TAKEOVER_WITHIN {
            let now = self.marks().await?;
            let changed = if strike == Strike::Master {
                now.term > before.term
            } else {
                now.epoch > before.epoch
            };
            if changed {
                struck.detected_ms = Some(ms(clock::now().since(at)));
                return Ok(struck);
            }
            clock::sleep(LOOK_EVERY).await;
        }
        eprintln!("{strike:?}: nobody took over within {TAKEOVER_WITHIN:?}");
        Ok(struck)
    }
}

/// From the strike to the first good answer of a request that was sent after it.
fn takeover(sent: &[Sent], at: Instant) -> Option<u64> {
    let after = sent
        .iter()
        .filter(|s| s.sent_at >= at && (200..300).contains(&s.status));
    after
        .map(|s| s.answered_at)
        .min()
        .map(|answered| ms(answered.since(at)))
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

fn print(tally: &Tally, result: &DrillResult, realtime: bool) {
    let mut takeovers: Vec<u64> = tally.strikes.iter().filter_map(|s| s.takeover_ms).collect();
    takeovers.sort_unstable();
    eprintln!(
        "{} strikes, {} false failovers, {} drawn again, {} missed, takeover median {} ms, worst {} ms, heartbeats {}; {} requests, \
         {} failed, {} shed, {} lost, {} twice, {} double primary",
        tally.strikes.len(),
        tally.false_failovers,
        tally.drawn_again,
        tally.missed,
        takeovers.get(takeovers.len() / 2).copied().unwrap_or(0),
        takeovers.last().copied().unwrap_or(0),
        if realtime {
            "SCHED_FIFO"
        } else {
            "normal priority"
        },
        result.requests,
        result.failed,
        result.shed,
        result.lost,
        result.sent_twice,
        result.double_primary
    );
}
