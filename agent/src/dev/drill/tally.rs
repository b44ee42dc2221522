//! What a drill found: outage, failures, and a three-way comparison of driver, database and simulator.

use std::collections::BTreeSet;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde::Serialize;
use serde::de::DeserializeOwned;
use wa_core::message::MessageState;
use wa_core::time::Instant;

use super::super::cluster::Cluster;
use super::super::simulator::Report;
use super::super::traffic::Sent;
use crate::net::client::OutsideClient;
use crate::sys::clock;

/// How long an accepted message may take to reach the simulator after the traffic stopped.
const SETTLE_WITHIN: Duration = Duration::from_secs(30);

/// The figures of one drill.
#[derive(Debug, Clone, Serialize)]
pub struct Result {
    pub name: String,
    /// From the fault's system call to the first 2xx of a request sent after it.
    pub outage_ms: u64,
    pub outage_worst_ms: u64,
    pub requests: u64,
    /// Requests with no answer or an answer that is neither 2xx nor counted as shed.
    pub failed: u64,
    /// 503: could not be held.
    pub shed: u64,
    pub held_max_ms: u64,
    pub accepted: u64,
    pub sent: u64,
    /// 2xx ids that neither the simulator has nor the database reports as failed.
    pub lost: u64,
    pub sent_twice: u64,
    /// From a send until its receipt was stored: half of them, 99 of 100, all were at most so late.
    pub receipt_lag_p50_ms: u32,
    pub receipt_lag_p99_ms: u32,
    pub receipt_lag_worst_ms: u32,
    pub double_primary: u64,
    /// 2xx ids of which the business was never told a status.
    pub untold: u64,
    /// Ids in the database that no driver holds: answers that were lost on the way.
    pub unanswered: u64,
    /// The store was down for longer than clients are held: what was refused is no finding.
    pub store_stopped: bool,
}

impl Result {
    /// Nothing that must not be was found.
    pub fn passed(&self) -> bool {
        self.lost == 0
            && self.untold == 0
            && self.double_primary == 0
            && self.sent_twice == 0
            && (self.store_stopped || self.failed == 0 && self.shed == 0)
    }
}

async fn get<T: DeserializeOwned>(
    client: &OutsideClient,
    cluster: &Cluster,
    path: &str,
) -> anyhow::Result<T> {
    let url = format!(
        "http://{}:{}{path}",
        cluster.plan.center(),
        cluster.plan.simulator_port()
    );
    let answer = client
        .call(
            Request::get(url).body(Full::new(Bytes::new()))?,
            Duration::from_secs(10),
        )
        .await?;
    Ok(serde_json::from_slice(answer.body())?)
}

/// The simulator forgets the drills before.
pub async fn reset_simulator(client: &OutsideClient, cluster: &Cluster) -> anyhow::Result<()> {
    // What is still on its way belongs to the drill before: wait for it, bounded.
    let until = clock::now() + SETTLE_WITHIN;
    while clock::now() < until && cluster.db.outbox_depth().await.unwrap_or(1) > 0 {
        clock::sleep(Duration::from_millis(50)).await;
    }
    let url = format!(
        "http://{}:{}/admin/reset",
        cluster.plan.center(),
        cluster.plan.simulator_port()
    );
    client
        .call(
            Request::post(url).body(Full::new(Bytes::new()))?,
            Duration::from_secs(10),
        )
        .await?;
    Ok(())
}

/// Sends and webhooks that still arrive are waited for, until none did for this long and the delay of webhooks.
const STILL_AFTER: Duration = Duration::from_secs(10);

/// What became of the accepted messages, once all is settled, or [`SETTLE_WITHIN`] is over and nothing moves any more.
struct Settled {
    /// Neither taken by the upstream nor reported failed.
    lost: u64,
    /// The business was told no status.
    untold: u64,
    /// Taken by the upstream though the driver got no 2xx.
    unanswered: u64,
}

async fn settled(
    cluster: &Cluster,
    client: &OutsideClient,
    accepted: &BTreeSet<&String>,
) -> anyhow::Result<Settled> {
    let until = clock::now() + SETTLE_WITHIN;
    let (mut moved_before, mut moved_at) = (0, clock::now());
    loop {
        let taken: BTreeSet<String> = get::<Vec<String>>(client, cluster, "/admin/ids")
            .await?
            .into_iter()
            .collect();
        let states = cluster.db.message_states().await.unwrap_or_default();
        let failed: BTreeSet<&String> = states
            .iter()
            .filter(|(_, s)| *s == MessageState::Failed)
            .map(|(id, _)| id)
            .collect();
        let told: BTreeSet<String> = get(client, cluster, "/admin/told").await?;
        let count = |keep: &dyn Fn(&String) -> bool| accepted.iter().filter(|id| keep(id)).count();
        let settled = Settled {
            lost: count(&|id| !taken.contains(id) && !failed.contains(id)) as u64,
            // In a lab the business is not on loopback, where alone plain HTTP may go: nobody is told anything.
            untold: if cluster.plan.lab.is_some() {
                0
            } else {
                count(&|id| !told.contains(id)) as u64
            },
            unanswered: taken.iter().filter(|id| !accepted.contains(id)).count() as u64,
        };
        let moved = told.len() + taken.len();
        if moved != moved_before {
            (moved_before, moved_at) = (moved, clock::now());
        }
        let still = STILL_AFTER + Duration::from_millis(cluster.plan.webhook_delay_ms);
        let over = clock::now() >= until && clock::now().since(moved_at) >= still;
        if settled.lost + settled.untold == 0 || over {
            return Ok(settled);
        }
        clock::sleep(Duration::from_millis(100)).await;
    }
}

/// Compares what the driver holds, what the database says, and what the simulator took.
pub async fn compare(
    cluster: &Cluster,
    client: &OutsideClient,
    (name, store_stopped): (&str, bool),
    struck_at: Instant,
    sent: &[Sent],
) -> anyhow::Result<Result> {
    let accepted: BTreeSet<&String> = sent
        .iter()
        .filter(|s| (200..300).contains(&s.status))
        .filter_map(|s| s.id.as_ref())
        .collect();
    let settled = settled(cluster, client, &accepted).await?;
    let report: Report = get(client, cluster, "/admin/report").await?;
    for offence in &report.offences {
        eprintln!("{name}: {offence}");
    }
    let ok = |s: &&Sent| (200..300).contains(&s.status);
    let first = sent
        .iter()
        .filter(|s| s.sent_at >= struck_at)
        .filter(ok)
        .map(|s| s.answered_at)
        .min();
    let outage_ms = first.map_or(u64::MAX, |at| ms(at.since(struck_at)));
    let shed = sent.iter().filter(|s| s.status == 503).count() as u64;
    Ok(Result {
        name: name.into(),
        outage_ms,
        outage_worst_ms: outage_ms,
        requests: sent.len() as u64,
        failed: sent.iter().filter(|s| !ok(s) && s.status != 503).count() as u64,
        shed,
        held_max_ms: sent
            .iter()
            .map(|s| ms(s.answered_at.since(s.sent_at)))
            .max()
            .unwrap_or(0),
        accepted: accepted.len() as u64,
        sent: report.accepted,
        lost: settled.lost,
        sent_twice: report.sent_twice,
        receipt_lag_p50_ms: report.receipt_lag.p50_ms,
        receipt_lag_p99_ms: report.receipt_lag.p99_ms,
        receipt_lag_worst_ms: report.receipt_lag.worst_ms,
        double_primary: report.double_primary,
        untold: settled.untold,
        unanswered: settled.unanswered,
        store_stopped,
    })
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// The median outage of several runs, the worst of everything else.
pub fn median(mut runs: Vec<Result>) -> Option<Result> {
    runs.sort_by_key(|r| r.outage_ms);
    let mut result = runs.get(runs.len().checked_sub(1)? / 2)?.clone();
    for run in &runs {
        result.outage_worst_ms = result.outage_worst_ms.max(run.outage_ms);
        result.held_max_ms = result.held_max_ms.max(run.held_max_ms);
        result.failed = result.failed.max(run.failed);
        result.shed = result.shed.max(run.shed);
        result.lost = result.lost.max(run.lost);
        result.untold = result.untold.max(run.untold);
        result.sent_twice = result.sent_twice.max(run.sent_twice);
        result.receipt_lag_p50_ms = result.receipt_lag_p50_ms.max(run.receipt_lag_p50_ms);
        result.receipt_lag_p99_ms = result.receipt_lag_p99_ms.max(run.receipt_lag_p99_ms);
        result.receipt_lag_worst_ms = result.receipt_lag_worst_ms.max(run.receipt_lag_worst_ms);
        result.double_primary = result.double_primary.max(run.double_primary);
    }
    Some(result)
}

/// One line for a person.
pub fn print(r: &Result) {
    eprintln!(
        "{:<24} outage {:>6} ms  held {:>6} ms  {} requests, {} failed, {} shed, {} accepted, {} sent, {} lost, {} untold, {} twice (receipts after {}/{}/{} ms), {} double primary  {}",
        r.name,
        r.outage_ms,
        r.held_max_ms,
        r.requests,
        r.failed,
        r.shed,
        r.accepted,
        r.sent,
        r.lost,
        r.untold,
        r.sent_twice,
        r.receipt_lag_p50_ms,
        r.receipt_lag_p99_ms,
        r.receipt_lag_worst_ms,
        r.double_primary,
        if r.passed() { "ok" } else { "FAILED" }
    );
}
