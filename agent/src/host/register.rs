//! The own row in the node table, and where the masters are. Both come from the database, and neither waits for it:
//! without it the agent goes on with the addresses that it knows.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio_util::sync::CancellationToken;
use wa_core::id::{Incarnation, Role};
use wa_core::time::Instant;

use super::Host;
use super::gate::derived;
use crate::db::fence::FenceWord;
use crate::db::identity::Identity;
use crate::db::node::Registration;
use crate::db::{Db, DbError};
use crate::net::keys::Keys;
use crate::sys::clock;

/// How often masters are looked up.
const EVERY: Duration = Duration::from_secs(2);
/// How often the own row is refreshed.
const BEAT_EVERY: Duration = Duration::from_secs(30);
/// For one name; names that do not resolve are left out until they do.
const RESOLVE_MAX: Duration = Duration::from_secs(1);
/// For one round of statements.
const DEADLINE: Duration = Duration::from_secs(5);

/// Where masters hear.
#[derive(Default)]
pub struct Masters(ArcSwap<Vec<SocketAddr>>);

impl Masters {
    /// As they were registered when the database last answered.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.0.load_full()
    }
}

/// Registers and looks up until `stop`.
pub fn start(host: Arc<Host>, incarnation: Incarnation, stop: CancellationToken) {
    tokio::spawn(async move {
        let key = &host.settings.cluster_key;
        let mut told_keys = None;
        let mut beat_at = clock::now();
        let mut told = false;
        let mut told_fence = None;
        // Databases and name servers are needed before the node table can be read.
        let mut names = Names::new();
        exempt(&host, &mut names, &[host.settings.advertise], true).await;
        while !stop.is_cancelled() {
            let round = async {
                if host.db.load().is_none() {
                    // Two: what is said of mounts need not wait for the look-up.
                    let db = Db::connect(&host.settings.database, 2).await?;
                    host.db.store(Some(Arc::new(db)));
                }
                let Some(db) = host.db.load_full() else {
                    return Ok::<(), DbError>(());
                };
                let replaced = Some(key.replaced());
                if clock::now() >= beat_at || told_keys != replaced {
                    db.same_cluster(&Identity::of(&host.settings)).await?;
                    db.register(&registration(&host, incarnation)).await?;
                    told_keys = replaced;
                    beat_at = clock::now() + BEAT_EVERY;
                }
                look(&host, &db, &mut names).await?;
                tell_fence(&host, &db, &mut told_fence).await;
                Ok(())
            };
            let failed = match tokio::time::timeout(DEADLINE, round).await {
                Ok(Ok(())) => None,
                Ok(Err(error)) => Some(error.brief()),
                Err(_) => Some("no answer in time".into()),
            };
            match &failed {
                Some(why) if !told => {
                    tracing::warn!(
                        why,
                        "the database does not answer; going on with the masters that are known"
                    );
                }
                None if told => tracing::info!("the database answers again"),
                _ => {}
            }
            told = failed.is_some();
            tokio::select! {
                () = clock::sleep(EVERY) => {}
                () = stop.cancelled() => return,
            }
        }
    });
}

async fn look(host: &Host, db: &Db, names: &mut Names) -> Result<(), DbError> {
    let nodes = db.nodes().await?;
    let masters = nodes
        .iter()
        .map(|node| &node.registration)
        .filter(|node| node.role == Role::Master && node.port_heartbeat != 0);
    let addresses = masters.filter_map(|node| {
        Some(SocketAddr::new(
            node.address.parse().ok()?,
            node.port_heartbeat,
        ))
    });
    host.masters.0.store(Arc::new(addresses.collect()));
    let nodes = nodes.iter().map(|node| &node.registration.address);
    let nodes: Vec<IpAddr> = nodes.filter_map(|address| address.parse().ok()).collect();
    exempt(host, names, &nodes, false).await;
    Ok(())
}

/// Tells why the fence is no better than it is, at once when that changes, else with the beat. Tried again in the next
/// round: until a master has brought the schema forward, there is no place for it.
async fn tell_fence(host: &Host, db: &Db, told: &mut Option<(FenceWord, Instant)>) {
    let (level, sentence) = host.gate.level();
    let word = FenceWord {
        node: host.settings.node.as_str().into(),
        level: level.into(),
        sentence,
    };
    let now = clock::now();
    let lately = |(before, at): &(FenceWord, Instant)| *before == word && now < *at + BEAT_EVERY;
    if told.as_ref().is_some_and(lately) {
        return;
    }
    match db.report_fence(&word).await {
        Ok(()) => *told = Some((word, now)),
        Err(error) => {
            tracing::debug!(error = %error.brief(), "the fence's kind cannot be told now")
        }
    }
}

/// Names as they resolved last: one that does not resolve now keeps its addresses.
type Names = BTreeMap<String, Vec<IpAddr>>;

/// Tells the gate what the cluster itself needs.
async fn exempt(host: &Host, names: &mut Names, nodes: &[IpAddr], keep: bool) {
    let urls = &host.settings.database.urls;
    let hosts: Vec<String> = urls.iter().filter_map(|url| host_of(url)).collect();
    let databases = resolve(names, &hosts).await;
    let hosts: Vec<String> = host_of(&host.settings.upstream.base_url)
        .into_iter()
        .collect();
    let upstream = resolve(names, &hosts).await;
    let resolv_conf = tokio::fs::read_to_string("/etc/resolv.conf").await;
    let derived = derived(&databases, nodes, &resolv_conf.unwrap_or_default());
    host.gate.exempt(derived, &upstream, keep);
}

fn host_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url).ok()?;
    url.host_str()
        .map(|host| host.trim_matches(['[', ']']).to_owned())
}

async fn resolve(known: &mut Names, names: &[String]) -> Vec<IpAddr> {
    let mut all = Vec::new();
    for name in names {
        let found = tokio::net::lookup_host((name.as_str(), 0));
        if let Ok(Ok(found)) = tokio::time::timeout(RESOLVE_MAX, found).await {
            let found = found.map(|address| address.ip()).collect();
            known.insert(name.clone(), found);
        }
        all.extend(known.get(name).into_iter().flatten());
    }
    all
}

fn registration(host: &Host, incarnation: Incarnation) -> Registration {
    let s = &host.settings;
    Registration {
        node: s.node.clone(),
        role: Role::Host,
        incarnation,
        machine: s.machine.clone(),
        zone: s.zone.clone(),
        address: s.advertise.to_string(),
        port_heartbeat: s.ports.heartbeat,
        port_control: 0,
        port_api: 0,
        version: env!("CARGO_PKG_VERSION").into(),
        weight: 0,
        keys: Keys::of(&s.cluster_key).ids(),
    }
}
