//! What a drill breaks, and how.

use std::sync::atomic::Ordering;
use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use nix::sys::signal::Signal;
use serde_json::json;
use wa_core::time::Instant;

use super::super::cluster::{Cluster, Process};
use super::super::galera::{Galera, NODES};
use super::super::mariadb::Server;
use super::renewal;
use crate::api::control::{SwitchoverRequest, path};
use crate::db::setting::APPLICATION;
use crate::net::client::OutsideClient;
use crate::sys::clock;

/// Longer than any transaction of a running process.
const LOCK_FREE_WITHIN: Duration = Duration::from_millis(100);

/// How long a database server is of no use: longer than any lease of the drills.
const SERVER_AWAY: Duration = Duration::from_secs(2);

/// One kind of drill.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    CoreappKilled,
    CoreappHung,
    CoreappHungUnfenced,
    CoreappHungOneMaster,
    CoreappRestarted,
    Switchover,
    MasterKilled,
    MastersAllKilled,
    WebappRestarted,
    SettingsChanged,
    SettingsUnannounced,
    ShardsChanged,
    KeysRotated,
    SecretsRenewed,
    DatabaseRestarted,
    DatabaseHostile,
    DatabaseStalled,
    DatabaseReadOnly,
    GaleraNodeKilled,
    GaleraSplit,
    GaleraQuorumLost,
}

const NAMES: [(Fault, &str); 21] = [
    (Fault::CoreappKilled, "coreapp-killed"),
    (Fault::CoreappHung, "coreapp-hung"),
    (Fault::CoreappHungUnfenced, "coreapp-hung-unfenced"),
    (Fault::CoreappHungOneMaster, "coreapp-hung-one-master"),
    (Fault::CoreappRestarted, "coreapp-restarted"),
    (Fault::Switchover, "switchover"),
    (Fault::MasterKilled, "master-killed"),
    (Fault::MastersAllKilled, "masters-all-killed"),
    (Fault::WebappRestarted, "webapp-restarted"),
    (Fault::SettingsChanged, "settings-changed"),
    (Fault::SettingsUnannounced, "settings-unannounced"),
    (Fault::ShardsChanged, "shards-changed"),
    (Fault::KeysRotated, "keys-rotated"),
    (Fault::SecretsRenewed, "secrets-renewed"),
    (Fault::DatabaseRestarted, "database-restarted"),
    (Fault::DatabaseHostile, "database-hostile"),
    (Fault::DatabaseStalled, "database-stalled"),
    (Fault::DatabaseReadOnly, "database-read-only"),
    (Fault::GaleraNodeKilled, "galera-node-killed"),
    (Fault::GaleraSplit, "galera-split"),
    (Fault::GaleraQuorumLost, "galera-quorum-lost"),
];

impl Fault {
    /// In the order in which they run.
    pub const ALL: [Self; 21] = {
        let mut all = [Self::CoreappKilled; 21];
        let mut i = 0;
        while i < 21 {
            all[i] = NAMES[i].0;
            i += 1;
        }
        all
    };

    /// The name on the command line.
    pub fn name(self) -> &'static str {
        NAMES
            .iter()
            .find(|(fault, _)| *fault == self)
            .map_or("?", |(_, name)| name)
    }

    /// Reads a name; an unknown one is answered with all that there are.
    pub fn parse(name: &str) -> anyhow::Result<Self> {
        let known = || NAMES.map(|(_, n)| n).join(", ");
        NAMES
            .iter()
            .find(|(_, n)| *n == name)
            .map(|(fault, _)| *fault)
            .with_context(|| format!("no drill {name:?}; there are: {}", known()))
    }

    /// It breaks the database server, so there must be one that may be broken.
    pub fn of_the_server(self) -> bool {
        matches!(
            self,
            Self::SecretsRenewed
                | Self::DatabaseRestarted
                | Self::DatabaseHostile
                | Self::DatabaseStalled
                | Self::DatabaseReadOnly
        )
    }

    /// It breaks servers of a Galera cluster.
    pub fn of_galera(self) -> bool {
        matches!(
            self,
            Self::GaleraNodeKilled | Self::GaleraSplit | Self::GaleraQuorumLost
        )
    }

    /// The store itself is down for longer than clients are held: refusals are no finding, losses are.
    pub fn stops_the_store(self) -> bool {
        self == Self::GaleraQuorumLost
    }

    /// Least time of traffic after the fault.
    pub fn aftermath(self) -> Duration {
        match self {
            Self::CoreappHungUnfenced
            | Self::CoreappHungOneMaster
            | Self::SecretsRenewed
            | Self::DatabaseRestarted
            | Self::DatabaseHostile
            | Self::DatabaseStalled
            | Self::DatabaseReadOnly => Duration::from_secs(7),
            Self::GaleraNodeKilled | Self::GaleraSplit | Self::GaleraQuorumLost => {
                Duration::from_secs(12)
            }
            Self::CoreappKilled
            | Self::CoreappHung
            | Self::CoreappRestarted
            | Self::Switchover
            | Self::MasterKilled
            | Self::MastersAllKilled
            | Self::WebappRestarted
            | Self::SettingsChanged
            | Self::SettingsUnannounced
            | Self::ShardsChanged
            | Self::KeysRotated => Duration::from_secs(2),
        }
    }
}

/// The business wants its callbacks: in force on every node before the first message, or its statuses go nowhere.
pub async fn prepare(cluster: &Cluster, client: &OutsideClient) -> anyhow::Result<()> {
    let url = format!(
        "http://{}:{}/business",
        cluster.plan.center(),
        cluster.plan.simulator_port()
    );
    prepare_for(cluster, client, &url).await
}

/// The same with the business elsewhere.
pub async fn prepare_for(
    cluster: &Cluster,
    client: &OutsideClient,
    url: &str,
) -> anyhow::Result<()> {
    let settings = json!({"webhooks": {"url": url, "max_concurrent_requests": 24, "message": {"sent": true, "delivered": true, "read": true}}});
    // In development the settings document may name a loopback address; the API itself wants https.
    let (version, _) = cluster.db.setting(APPLICATION).await?;
    if version == 0 {
        cluster
            .db
            .store_setting(APPLICATION, 0, &settings.to_string())
            .await?;
    }
    in_force(cluster, client, version.max(1)).await?;
    Ok(())
}

/// Breaks it. Returns the moment just before the system call.
pub async fn strike(
    cluster: &Cluster,
    fault: Fault,
    client: &OutsideClient,
    token: &str,
) -> anyhow::Result<Instant> {
    let owner = cluster.owner().await.context("no owner to break")?;
    let owner = cluster.process(&owner);
    let mut struck_at = clock::now();
    match fault {
        Fault::CoreappKilled => owner.signal(Signal::SIGKILL),
        // Also here: where silence takes longer than the ttl, the primary's lease would run out on a locked file first.
        Fault::CoreappHung => struck_at = freeze(cluster, owner).await,
        Fault::CoreappHungUnfenced | Fault::CoreappHungOneMaster => {
            struck_at = freeze_unfenced(cluster, owner).await;
        }
        Fault::CoreappRestarted => owner.signal(Signal::SIGTERM),
        Fault::Switchover => {
            let wish = SwitchoverRequest {
                shard: 0,
                to: None,
                dry_run: false,
                reason: Some("drill".into()),
                ..SwitchoverRequest::default()
            };
            let answer = cluster
                .control(path::SWITCHOVER, serde_json::to_vec(&wish)?)
                .await;
            anyhow::ensure!(answer.is_some(), "no primary master took the switchover");
        }
        Fault::MasterKilled => {
            kill_primary(cluster).await?;
        }
        Fault::MastersAllKilled => {
            for process in cluster
                .processes
                .values()
                .filter(|p| p.role == wa_core::id::Role::Master)
            {
                process.keep(false);
                process.signal(Signal::SIGKILL);
            }
            settings_need_a_master(cluster, client, token).await?;
        }
        Fault::WebappRestarted => cluster.process("webapp-1").signal(Signal::SIGTERM),
        Fault::SettingsChanged => change_settings(cluster, client, token).await?,
        Fault::SettingsUnannounced => change_settings_unannounced(cluster, client).await?,
        Fault::ShardsChanged => {
            for count in [2, 1] {
                change_shards(cluster, client, token, count).await?;
            }
        }
        Fault::KeysRotated => rotate_keys(cluster).await?,
        Fault::SecretsRenewed
        | Fault::DatabaseRestarted
        | Fault::DatabaseHostile
        | Fault::DatabaseStalled
        | Fault::DatabaseReadOnly
        | Fault::GaleraNodeKilled
        | Fault::GaleraSplit
        | Fault::GaleraQuorumLost => struck_at = strike_store(cluster, fault, client).await?,
    }
    Ok(struck_at)
}

/// The same for what breaks servers of the database.
async fn strike_store(
    cluster: &Cluster,
    fault: Fault,
    client: &OutsideClient,
) -> anyhow::Result<Instant> {
    let mut struck_at = clock::now();
    match fault {
        Fault::SecretsRenewed => {
            renewal::renew(cluster, client, server(cluster)?).await?;
            struck_at = clock::now();
            server(cluster)?.crash_and_restart().await?;
        }
        Fault::DatabaseHostile => server(cluster)?.restart_hostile().await?,
        Fault::DatabaseRestarted => server(cluster)?.crash_and_restart().await?,
        Fault::DatabaseStalled => server(cluster)?.stall(SERVER_AWAY).await,
        Fault::DatabaseReadOnly => server(cluster)?.refuse_writes(SERVER_AWAY).await?,
        Fault::GaleraNodeKilled => {
            let node = galera(cluster)?.busiest().await;
            struck_at = clock::now();
            galera(cluster)?.kill(node).await;
        }
        Fault::GaleraSplit => {
            let node = galera(cluster)?.busiest().await;
            struck_at = clock::now();
            galera(cluster)?.isolate(node, true).await?;
        }
        Fault::GaleraQuorumLost => lose_quorum(galera(cluster)?).await?,
        Fault::CoreappKilled
        | Fault::CoreappHung
        | Fault::CoreappHungUnfenced
        | Fault::CoreappHungOneMaster
        | Fault::CoreappRestarted
        | Fault::Switchover
        | Fault::MasterKilled
        | Fault::MastersAllKilled
        | Fault::WebappRestarted
        | Fault::SettingsChanged
        | Fault::SettingsUnannounced
        | Fault::ShardsChanged
        | Fault::KeysRotated => {}
    }
    Ok(struck_at)
}

fn server(cluster: &Cluster) -> anyhow::Result<&Server> {
    cluster.server.as_ref().context("no server to break")
}

fn galera(cluster: &Cluster) -> anyhow::Result<&Galera> {
    cluster.galera.as_ref().context("no Galera to break")
}

/// Two of three die at once. The third refuses everybody until an administrator says that it is the cluster.
async fn lose_quorum(galera: &Galera) -> anyhow::Result<()> {
    let left = (galera.busiest().await + 1) % NODES;
    let (a, b) = ((left + 1) % NODES, (left + 2) % NODES);
    tokio::join!(galera.kill(a), galera.kill(b));
    galera.until(left, "non-Primary").await?;
    clock::sleep(SERVER_AWAY).await;
    galera.bootstrap(left).await?;
    galera.in_step(left, 1).await
}

/// Nobody fences it, and it wakes up two seconds after the takeover: it must step down by itself.
async fn freeze_unfenced(cluster: &Cluster, owner: &Process) -> Instant {
    cluster.host.ignore_fences.store(true, Ordering::Release);
    let struck_at = freeze(cluster, owner).await;
    let (before, until) = (owner.node.clone(), clock::now() + Duration::from_secs(20));
    while clock::now() < until
        && cluster
            .owner()
            .await
            .is_none_or(|now| before.as_str().ends_with(&now))
    {
        clock::sleep(Duration::from_millis(20)).await;
    }
    clock::sleep(Duration::from_secs(2)).await;
    owner.signal(Signal::SIGCONT);
    struck_at
}

/// Stops the owner. A writer that is frozen in the middle keeps the embedded database's lock, which nobody promises to
/// survive unfenced: there it is stopped between two writes.
async fn freeze(cluster: &Cluster, owner: &Process) -> Instant {
    let mut struck_at = clock::now();
    for _ in 0..50 {
        struck_at = clock::now();
        owner.signal(Signal::SIGSTOP);
        if !cluster.db.embedded() {
            break;
        }
        let write = cluster.host.beat(&cluster.db);
        if tokio::time::timeout(LOCK_FREE_WITHIN, write).await == Ok(true) {
            break;
        }
        owner.signal(Signal::SIGCONT);
        clock::sleep(LOCK_FREE_WITHIN / 4).await;
    }
    struck_at
}

/// Puts back what the drill left broken.
///
/// # Errors
/// When a server does not come back.
pub async fn mend(cluster: &Cluster, fault: Fault) -> anyhow::Result<()> {
    cluster.host.ignore_fences.store(false, Ordering::Release);
    if fault == Fault::MastersAllKilled {
        for process in cluster.processes.values() {
            process.keep(true);
        }
    }
    let Some(galera) = cluster.galera.as_ref().filter(|_| fault.of_galera()) else {
        return Ok(());
    };
    for node in 0..NODES {
        // Whichever was broken: the others are whole and running already.
        if fault == Fault::GaleraSplit {
            galera.isolate(node, false).await?;
        } else if !galera.runs(node).await {
            galera.rejoin(node).await?;
        }
    }
    for node in 0..NODES {
        galera.in_step(node, NODES).await?;
    }
    Ok(())
}

/// Halves the heartbeat interval, or doubles it again, and waits until every master is at it.
async fn change_settings(
    cluster: &Cluster,
    client: &OutsideClient,
    token: &str,
) -> anyhow::Result<()> {
    let status = cluster.status().await.context("no master answers")?;
    let to = if status.heartbeat_interval_ms > 80 {
        0.05
    } else {
        0.1
    };
    let body = json!({"heartbeat_interval": to, "unhealthy_interval": to * 6.0}).to_string();
    let request = Request::patch(format!(
        "{}/v1/settings/application",
        cluster.plan.webapp_url(1)
    ))
    .header("authorization", format!("Bearer {token}"))
    .header("content-type", "application/json")
    .body(Full::new(Bytes::from(body)))?;
    let answer = client.call(request, Duration::from_secs(10)).await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    anyhow::ensure!(
        answer.status().is_success(),
        "PATCH of the settings was answered {}: {text}",
        answer.status()
    );
    let (version, _) = cluster.db.setting(APPLICATION).await?;
    let took = in_force(cluster, client, version).await?;
    eprintln!("settings: in force on every node after {took} ms");
    let status = cluster.status().await.context("no master answers")?;
    anyhow::ensure!(
        status.heartbeat_interval_ms == (to * 1000.0) as u64,
        "the interval in force is {} ms",
        status.heartbeat_interval_ms
    );
    Ok(())
}

/// The same, but the primary master dies between the write and the word to the others: the setting is stored, nobody is
/// told, and every node must find it all the same.
async fn change_settings_unannounced(
    cluster: &Cluster,
    client: &OutsideClient,
) -> anyhow::Result<()> {
    let (version, json) = cluster.db.setting(APPLICATION).await?;
    let mut settings: serde_json::Value = serde_json::from_str(&json)?;
    let fields = settings.as_object_mut().context("settings are an object")?;
    fields.insert("heartbeat_interval".into(), json!(0.08));
    fields.insert("unhealthy_interval".into(), json!(0.48));
    let settings = settings.to_string();
    let stored = cluster.db.store_setting(APPLICATION, version, &settings);
    anyhow::ensure!(stored.await?, "somebody else changed the settings");
    kill_primary(cluster).await?;
    let took = in_force(cluster, client, version + 1).await?;
    eprintln!("settings: in force on every node after {took} ms, though nobody was told");
    Ok(())
}

/// Waits until every process says that this version of the settings is in force; how many milliseconds that took.
async fn in_force(cluster: &Cluster, client: &OutsideClient, version: u64) -> anyhow::Result<u128> {
    let began = clock::now();
    let wanted = format!("wa_settings_version {version}");
    for (name, process) in &cluster.processes {
        let url = format!(
            "http://{}:{}/metrics",
            cluster.plan.home(process.role, process.instance),
            cluster.plan.health_port(process)
        );
        loop {
            let request = Request::get(&url).body(Full::new(Bytes::new()))?;
            let page = client.call(request, Duration::from_secs(2)).await;
            if page.is_ok_and(|p| String::from_utf8_lossy(p.body()).contains(&wanted)) {
                break;
            }
            anyhow::ensure!(
                clock::now().since(began) < Duration::from_secs(5),
                "{name} has not taken version {version} of the settings within 5 s"
            );
            clock::sleep(Duration::from_millis(10)).await;
        }
    }
    let took = clock::now().since(began).as_millis();
    tracing::debug!(version, took, "settings are in force on every node");
    Ok(took)
}

/// Asks a webapp for another number of shards; it answers when the map says so.
pub async fn change_shards(
    cluster: &Cluster,
    client: &OutsideClient,
    token: &str,
    to: u16,
) -> anyhow::Result<()> {
    let url = format!("{}/v1/account/shards", cluster.plan.webapp_url(1));
    let request = Request::post(url)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(json!({"shards": to}).to_string())))?;
    let answer = client.call(request, Duration::from_secs(20)).await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    anyhow::ensure!(
        answer.status() == http::StatusCode::CREATED,
        "a change to {to} shards was answered {}: {text}",
        answer.status()
    );
    // Traffic flows through the owners for a while before the count changes again.
    clock::sleep(Duration::from_secs(1)).await;
    Ok(())
}

/// Without a primary master the settings cannot be changed, and the answer says so.
async fn settings_need_a_master(
    cluster: &Cluster,
    client: &OutsideClient,
    token: &str,
) -> anyhow::Result<()> {
    let url = format!("{}/v1/settings/application", cluster.plan.webapp_url(2));
    let request = Request::patch(url)
        .header("authorization", format!("Bearer {token}"))
        .header("content-type", "application/json")
        .body(Full::new(Bytes::from(
            r#"{"heartbeat_interval": 1, "unhealthy_interval": 6}"#,
        )))?;
    let answer = client.call(request, Duration::from_secs(10)).await?;
    let text = String::from_utf8_lossy(answer.body()).into_owned();
    anyhow::ensure!(
        text.contains("1017"),
        "a change of settings with no master up was answered {}: {text}",
        answer.status()
    );
    Ok(())
}

/// Types `wa-agent keys rotate`, with a script that makes every process read its file again. Nobody may fail over.
async fn rotate_keys(cluster: &Cluster) -> anyhow::Result<()> {
    let (_, before) = cluster.db.shard_map().await?;
    let pids = cluster.processes.values().filter_map(|p| p.pid());
    let mut pids: Vec<String> = pids.map(|pid| pid.to_string()).collect();
    pids.push(std::process::id().to_string());
    let old = std::fs::read_to_string(cluster.plan.state.join("cluster-key"))?;
    let done = tokio::process::Command::new("/proc/self/exe")
        .arg0("wa-agent")
        .args(["keys", "rotate", "--reason", "drill", "--wait", "30s"])
        .args(["--distribute", &format!("kill -HUP {}", pids.join(" "))])
        .arg("--config")
        .arg(cluster.plan.state.join("wa-agent.toml"))
        .stdin(std::process::Stdio::null())
        .output()
        .await?;
    let said = [&done.stdout[..], &done.stderr[..]].concat();
    let said = String::from_utf8_lossy(&said);
    anyhow::ensure!(
        done.status.success(),
        "keys rotate ended with {}: {said}",
        done.status
    );
    let new = std::fs::read_to_string(cluster.plan.state.join("cluster-key"))?;
    let lines: Vec<&str> = new.split_whitespace().collect();
    anyhow::ensure!(
        lines.len() == 1 && !old.contains(lines[0]),
        "the key file does not hold one new key"
    );
    let (_, after) = cluster.db.shard_map().await?;
    let epochs =
        |rows: &[wa_core::shard_map::ShardRow]| rows.iter().map(|r| r.epoch).collect::<Vec<_>>();
    anyhow::ensure!(
        epochs(&before) == epochs(&after),
        "somebody failed over while keys were rotated: {said}"
    );
    Ok(())
}

async fn kill_primary(cluster: &Cluster) -> anyhow::Result<()> {
    let status = cluster.status().await;
    let primary = status
        .and_then(|s| s.primary_master)
        .context("no primary master to kill")?;
    let name = primary.rsplit_once(':').map_or(&*primary, |(_, name)| name);
    cluster.process(name).signal(Signal::SIGKILL);
    Ok(())
}
