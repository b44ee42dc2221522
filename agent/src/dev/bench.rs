//! The intake benchmark: closed loop, keep-alive connections, 200-byte texts, counted in the database afterwards.
//! Asserts nothing about time: it prints figures.

use std::io::Write as _;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::json;

use super::args::DevArgs;
use super::cluster::Cluster;
use super::cost::Meter;
use super::traffic::log_in;
use crate::exit::Exit;
use crate::net::client::OutsideClient;
use crate::sys::clock;

/// Runs for `--seconds` with `--connections`, prints what came of it.
///
/// # Errors
/// When the cluster does not come up.
pub async fn intake(cluster: &Cluster, args: &DevArgs) -> anyhow::Result<Exit> {
    cluster.refuse_leftovers().await?;
    let state = cluster.plan.state.clone();
    let fsyncs_us = tokio::task::spawn_blocking(move || fsyncs_us(&state)).await??;
    let url = cluster.plan.webapp_url(1);
    let token = log_in(&OutsideClient::new(Duration::from_secs(2), 1), &url).await?;
    let before = cluster.db.message_states().await?.len();
    let (stop, failed) = (
        Arc::new(AtomicBool::new(false)),
        Arc::new(AtomicU64::new(0)),
    );
    let mut meter = Meter::default();
    meter.look(cluster).await;
    let workers: Vec<_> = (0..args.connections)
        .map(|n| {
            let (url, token, stop, failed) = (
                url.clone(),
                token.clone(),
                Arc::clone(&stop),
                Arc::clone(&failed),
            );
            tokio::spawn(async move { one_connection(n, &url, &token, &stop, &failed).await })
        })
        .collect();
    let started = clock::now();
    for second in 1..=args.seconds {
        clock::sleep(Duration::from_secs(1)).await;
        meter.look(cluster).await;
        if second % 10 == 0 {
            eprintln!("{second} of {} s", args.seconds);
        }
    }
    stop.store(true, Ordering::Release);
    let mut times_us = Vec::new();
    for worker in workers {
        times_us.extend(worker.await?);
    }
    let took = clock::now().since(started);
    meter.look(cluster).await;
    let used = meter.cores();
    times_us.sort_unstable();
    let rows = cluster.db.message_states().await?.len() - before;
    let report = json!({
        "accepted": times_us.len(), "accepted_per_second": times_us.len() as u64 * 1000 / (took.as_millis().max(1) as u64),
        "p50_us": at(&times_us, 500), "p99_us": at(&times_us, 990), "failed": failed.load(Ordering::Relaxed),
        "rows_in_database": rows, "connections": args.connections, "seconds": took.as_secs(),
        "fdatasync_p50_us": at(&fsyncs_us, 500), "fdatasync_p99_us": at(&fsyncs_us, 990), "cores": used.by_kind, "cores_of_others": used.others,
    });
    eprintln!("{}", used.limit());
    println!("{report}");
    Ok(if rows == times_us.len() {
        Exit::Ok
    } else {
        Exit::Refuted
    })
}

/// Sorted times of 500 writes of 4 KiB with fdatasync, in microseconds: what one commit costs at least.
fn fsyncs_us(directory: &Path) -> std::io::Result<Vec<u64>> {
    let path = directory.join("fdatasync-probe");
    let mut file = std::fs::File::create(&path)?;
    let mut times = Vec::with_capacity(500);
    for _ in 0..500 {
        let started = clock::now();
        file.write_all(&[7; 4096])?;
        file.sync_data()?;
        times.push(u64::try_from(clock::now().since(started).as_micros()).unwrap_or(u64::MAX));
    }
    std::fs::remove_file(path)?;
    times.sort_unstable();
    Ok(times)
}

fn at(sorted: &[u64], per_mille: usize) -> u64 {
    let at = sorted.len() * per_mille / 1000;
    sorted.get(at).copied().unwrap_or(0)
}

/// One connection: the next request leaves when the last was answered. Returns the times of the accepted ones.
async fn one_connection(
    n: u32,
    url: &str,
    token: &str,
    stop: &AtomicBool,
    failed: &AtomicU64,
) -> Vec<u64> {
    let client = OutsideClient::new(Duration::from_secs(5), 1);
    let text = "x".repeat(200);
    let mut times_us = Vec::new();
    let mut count = 0u32;
    while !stop.load(Ordering::Acquire) {
        count += 1;
        let to = format!(
            "4477{:08}",
            n.wrapping_mul(1_000_003)
                .wrapping_add(count.wrapping_mul(7919))
                % 100_000_000
        );
        let body = json!({"to": to, "type": "text", "text": {"body": text}}).to_string();
        let request = Request::post(format!("{url}/v1/messages"))
            .header("authorization", format!("Bearer {token}"))
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body)));
        let Ok(request) = request else { break };
        let started = clock::now();
        match client.call(request, Duration::from_secs(20)).await {
            Ok(answer) if answer.status().is_success() => {
                times_us.push(
                    u64::try_from(clock::now().since(started).as_micros()).unwrap_or(u64::MAX),
                );
            }
            _ => {
                failed.fetch_add(1, Ordering::Relaxed);
            }
        }
    }
    times_us
}
