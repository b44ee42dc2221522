//! New secrets under traffic (F13): wrong ones first, then the right ones, in either order with whoever checks them.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};
use wa_core::message::MessageState;

use super::super::cluster::Cluster;
use super::super::mariadb::Server;
use crate::net::client::OutsideClient;
use crate::sys::clock;

/// A reload, and what it asks others, take less.
const RELOADED: Duration = Duration::from_millis(1500);
const NEW: &str = "drill-password-2";

/// All who have to send, fetch and store go on through all of it, and nobody fails over.
pub async fn renew(
    cluster: &Cluster,
    client: &OutsideClient,
    server: &Server,
) -> anyhow::Result<()> {
    let before = epochs(cluster).await?;
    let file = |name: &str| cluster.plan.state.join(name);
    let password = file("database-password");
    let line = format!("password_file = {password:?}\n[timers]");
    let name_it = |text: String| match text.contains("database-password") {
        true => text,
        false => text.replacen("[timers]", &line, 1),
    };
    // Nobody takes these: the ones of the start stay in force.
    for name in ["database-password", "token"] {
        std::fs::write(file(name), "wrong-and-refused")?;
    }
    cluster.reload(name_it)?;
    clock::sleep(RELOADED).await;
    // The upstream and the signer of webhooks change after the reload, the database before it.
    std::fs::write(file("token"), "token-2")?;
    std::fs::write(file("app-secret"), "app-secret-2")?;
    cluster.reload(name_it)?;
    clock::sleep(RELOADED).await;
    set_knobs(
        cluster,
        client,
        &json!({"token": "token-2", "app_secret": "app-secret-2"}),
    )
    .await?;
    server
        .say("ALTER USER wa@'127.0.0.1' IDENTIFIED BY 'drill-password-2'")
        .await?;
    std::fs::write(&password, NEW)?;
    cluster.reload(name_it)?;
    let own = cluster
        .plan
        .database
        .replacen("wa@", &format!("wa:{NEW}@"), 1);
    cluster.logins.put(0, &own);
    clock::sleep(RELOADED).await;
    anyhow::ensure!(
        epochs(cluster).await? == before,
        "somebody failed over while secrets were renewed"
    );
    let states = cluster.db.message_states().await?;
    let failed = states.iter().find(|(_, s)| *s == MessageState::Failed);
    anyhow::ensure!(failed.is_none(), "a message failed: {failed:?}");
    Ok(())
}

async fn epochs(cluster: &Cluster) -> anyhow::Result<Vec<wa_core::id::Epoch>> {
    let (_, rows) = cluster.db.shard_map().await?;
    Ok(rows.iter().map(|row| row.epoch).collect())
}

/// Changes some of the simulator's knobs.
async fn set_knobs(cluster: &Cluster, client: &OutsideClient, some: &Value) -> anyhow::Result<()> {
    let url = format!(
        "http://{}:{}/admin/knobs",
        cluster.plan.center(),
        cluster.plan.simulator_port()
    );
    let within = Duration::from_secs(5);
    let asked = Request::get(&url).body(Full::new(Bytes::new()))?;
    let answer = client.call(asked, within).await?;
    let mut knobs: Value = serde_json::from_slice(answer.body())?;
    let all = knobs.as_object_mut().context("knobs are an object")?;
    all.extend(some.as_object().cloned().unwrap_or_default());
    let set = Request::post(&url)
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(knobs.to_string())))?;
    let answer = client.call(set, within).await?;
    anyhow::ensure!(answer.status().is_success(), "knobs: {}", answer.status());
    Ok(())
}
