//! Drills: traffic runs, something is broken, the figures say what a client saw and whether anything was lost.

mod fault;
mod renewal;
mod tally;

use std::time::Duration;

use serde::Serialize;
use tokio_util::sync::CancellationToken;
use wa_core::time::Instant;

use super::args::DevArgs;
use super::cluster::{Cluster, Plan, Process, SERVER_PORT};
use super::mariadb;
use super::traffic::{Load, Sent, Traffic, log_in};
use crate::exit::Exit;
use crate::net::client::OutsideClient;
use crate::sys::clock;
pub use fault::Fault;
pub use tally::Result as DrillResult;

/// All drills of a run.
#[derive(Debug, Serialize)]
struct Outcome<'a> {
    profile: &'a str,
    drills: &'a [DrillResult],
    passed: bool,
}

/// Runs the drills named, or all.
///
/// # Errors
/// When a name is unknown or the cluster does not come up.
pub async fn run(
    cluster: &Cluster,
    names: &[String],
    args: &DevArgs,
    stop: &CancellationToken,
) -> anyhow::Result<Exit> {
    let faults = if names.is_empty() {
        Fault::ALL.to_vec()
    } else {
        names
            .iter()
            .map(|n| Fault::parse(n))
            .collect::<Result<_, _>>()?
    };
    cluster.refuse_leftovers().await?;
    let mut results = Vec::new();
    for fault in faults {
        let mut runs = Vec::new();
        for _ in 0..args.repeat.max(1) {
            if stop.is_cancelled() {
                anyhow::bail!("stopped");
            }
            if let Some(why) = hindered(cluster, fault) {
                eprintln!("{:<24} skipped: {why}", fault.name());
                continue;
            }
            let result = if fault == Fault::CoreappHungOneMaster {
                one_master(cluster, args, stop).await?
            } else {
                once(cluster, fault, args).await?
            };
            tally::print(&result);
            runs.push(result);
        }
        results.extend(tally::median(runs));
    }
    let passed = results.iter().all(DrillResult::passed);
    if args.json {
        println!(
            "{}",
            serde_json::to_string(&Outcome {
                profile: &args.profile,
                drills: &results,
                passed
            })?
        );
    } else {
        println!(
            "{}",
            if passed {
                "all drills passed"
            } else {
                "a drill found what it must not find"
            }
        );
    }
    Ok(if passed { Exit::Ok } else { Exit::Refuted })
}

/// Why a drill cannot run on this database, if that is so.
fn hindered(cluster: &Cluster, fault: Fault) -> Option<&'static str> {
    let other = !cluster.db.embedded() && cluster.server.is_none();
    if fault == Fault::CoreappHungOneMaster && other {
        Some("it needs a second, empty database; use --database mariadb")
    } else if fault.of_the_server() && cluster.server.is_none() {
        Some("there is no server that this drill may break; add --database mariadb")
    } else if fault.of_galera() && cluster.galera.is_none() {
        Some("there is no cluster of servers that this drill may break; add --database galera")
    } else {
        None
    }
}

/// This drill needs a cluster of its own: one master, database-based monitoring at 1 s / 2 s.
async fn one_master(
    cluster: &Cluster,
    args: &DevArgs,
    stop: &CancellationToken,
) -> anyhow::Result<DrillResult> {
    let state = cluster.plan.state.join("one-master");
    let offset = cluster.plan.offset + 200;
    let database = if cluster.plan.private_server {
        mariadb::Server::url(SERVER_PORT + offset, cluster.plan.center())
    } else {
        format!("sqlite://{}/wa.db", state.display())
    };
    let plan = Plan {
        offset,
        database,
        masters: 1,
        state,
        ..cluster.plan.clone()
    };
    plan.wipe()?;
    let own = Cluster::start(plan, stop.child_token()).await?;
    let result = once(&own, Fault::CoreappHungOneMaster, args).await;
    own.stop().await;
    result
}

/// The simulator knows of nothing yet, and the business's callbacks are in force.
///
/// # Errors
/// When the cluster does not answer.
pub async fn ready(cluster: &Cluster, client: &OutsideClient) -> anyhow::Result<()> {
    tally::reset_simulator(client, cluster).await?;
    fault::prepare(cluster, client).await
}

/// The same with the business elsewhere.
///
/// # Errors
/// When the cluster does not answer.
pub async fn ready_for(
    cluster: &Cluster,
    client: &OutsideClient,
    business: &str,
) -> anyhow::Result<()> {
    tally::reset_simulator(client, cluster).await?;
    fault::prepare_for(cluster, client, business).await
}

/// Another number of shards, in force when it returns.
///
/// # Errors
/// When a webapp does not take it.
pub async fn set_shards(
    cluster: &Cluster,
    client: &OutsideClient,
    token: &str,
    count: u16,
) -> anyhow::Result<()> {
    fault::change_shards(cluster, client, token, count).await
}

/// The page of figures of one process; empty when it does not answer.
pub async fn page(cluster: &Cluster, client: &OutsideClient, process: &Process) -> String {
    let plan = &cluster.plan;
    let home = plan.home(process.role, process.instance);
    let url = format!("http://{home}:{}/metrics", plan.health_port(process));
    let Ok(request) = http::Request::get(url).body(Default::default()) else {
        return String::new();
    };
    let answer = client.call(request, Duration::from_secs(2)).await;
    answer.map_or_else(
        |_| String::new(),
        |page| String::from_utf8_lossy(page.body()).into_owned(),
    )
}

/// What became of everything that was sent since `began`.
///
/// # Errors
/// When the simulator does not answer.
pub async fn compare(
    cluster: &Cluster,
    client: &OutsideClient,
    began: Instant,
    sent: &[Sent],
) -> anyhow::Result<DrillResult> {
    tally::compare(cluster, client, ("soak", false), began, sent).await
}

/// One drill: traffic, fault, traffic, rest, comparison.
async fn once(cluster: &Cluster, fault: Fault, args: &DevArgs) -> anyhow::Result<DrillResult> {
    cluster.wait_healthy(Duration::from_secs(60)).await?;
    let client = OutsideClient::new(Duration::from_secs(2), 4);
    let token = log_in(&client, &cluster.plan.webapp_url(1)).await?;
    tally::reset_simulator(&client, cluster).await?;
    fault::prepare(cluster, &client).await?;
    let urls = vec![cluster.plan.webapp_url(1), cluster.plan.webapp_url(2)];
    let traffic = Traffic::start(Load {
        urls,
        token: token.clone(),
        rate: args.rate,
        fail_over: fault == Fault::WebappRestarted,
        text: "drill".into(),
    });
    clock::sleep(Duration::from_secs(args.seconds)).await;
    let struck_at = fault::strike(cluster, fault, &client, &token).await?;
    clock::sleep(Duration::from_secs(args.seconds).max(fault.aftermath())).await;
    let sent = traffic.finish().await;
    fault::mend(cluster, fault).await?;
    let named = (fault.name(), fault.stops_the_store());
    tally::compare(cluster, &client, named, struck_at, &sent).await
}
