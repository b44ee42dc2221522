//! What a person reads while a development cluster runs: how to use it, and what happens.

use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::args::DevArgs;
use super::cluster::Cluster;
use crate::config::without_password;
use crate::sys::clock;

/// Where everything is, and what to type.
pub fn welcome(cluster: &Cluster, args: &DevArgs) {
    let plan = &cluster.plan;
    let url = plan.webapp_url(1);
    println!(
        "A cluster is starting; profile {}, state and logs in {}",
        plan.profile,
        plan.state.display()
    );
    println!("  webapps    {url} and {}", plan.webapp_url(2));
    println!("  database   {}", without_password(&plan.database));
    println!(
        "  upstream   http://127.0.0.1:{} (simulated Cloud API)",
        plan.simulator_port()
    );
    println!(
        "\nLog in once (the password that the product comes with must be changed), then send:"
    );
    println!("  TOKEN=$(curl -s -u admin:secret -X POST {url}/v1/users/login \\");
    println!(
        "    -H 'content-type: application/json' -d '{{\"new_password\":\"Try-it-0ut!\"}}' | sed 's/.*\"token\":\"\\([^\"]*\\)\".*/\\1/')"
    );
    println!("  curl -s -X POST {url}/v1/messages -H \"authorization: Bearer $TOKEN\" \\");
    println!(
        "    -H 'content-type: application/json' -d '{{\"to\":\"447700900456\",\"type\":\"text\",\"text\":{{\"body\":\"hello\"}}}}'"
    );
    let port = if args.port == 9090 {
        String::new()
    } else {
        format!(" --config {}/wa-agent.toml", plan.state.display())
    };
    println!(
        "\nBreak something: kill -9 any process of  pgrep -fa 'wa-agent (master|coreapp|webapp)'"
    );
    println!(
        "Look:            wa-agent status{port}   (target/release/wa-agent after cargo run --release)"
    );
    println!("Stop:            Ctrl-C\n");
}

/// Prints what happens, one short line each, until the stop.
pub async fn follow(cluster: &Cluster, stop: &CancellationToken) {
    let mut seen_decisions: std::collections::BTreeSet<String> = Default::default();
    let mut healthy = false;
    while !stop.is_cancelled() {
        let lines: Vec<String> = {
            let mut events = cluster
                .events
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner);
            events.drain(..).collect()
        };
        for line in lines {
            println!("{line}");
        }
        if let Some(status) = cluster.status().await {
            for d in &status.decisions {
                let line = format!("{}: {} ({})", d.what, d.sentence, d.reason);
                if seen_decisions.insert(format!("{} {} {line}", status.node, d.at_unix_s)) {
                    println!("{line}");
                }
            }
            let now_healthy = status.problems.is_empty() && status.primary;
            if now_healthy && !healthy {
                let owner = status
                    .shards
                    .iter()
                    .filter_map(|s| s.owner.clone())
                    .collect::<Vec<_>>()
                    .join(", ");
                println!(
                    "ready: primary master {}, owner {owner}",
                    status.primary_master.unwrap_or_default()
                );
            }
            healthy = now_healthy;
        }
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep(Duration::from_millis(250)) => {}
        }
    }
    println!("stopping");
}
