//! The own row in the node table, and where the masters are. Both come from the database, and neither waits for it:
//! without it the agent goes on with the addresses that it knows.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio_util::sync::CancellationToken;
use wa_core::id::Incarnation;
use wa_core::roll::Roll;
use wa_core::time::Instant;

use super::agent::Host;
use super::gate::derived;
use crate::db::fence::FenceWord;
use crate::db::identity::Identity;
use crate::db::{Db, DbError};
use crate::member::register::{OwnRow, row};
use crate::sys::clock;
use crate::sys::dial::Dialer;

/// How often masters are looked up.
const EVERY: Duration = Duration::from_secs(2);
/// How often the own row is refreshed.
const BEAT_EVERY: Duration = Duration::from_secs(30);
/// For one name; names that do not resolve are left out until they do.
const RESOLVE_MAX: Duration = Duration::from_secs(1);
/// For one round of statements.
const DEADLINE: Duration = Duration::from_secs(5);

/// Registers and looks up until `stop`.
pub fn start(host: Arc<Host>, incarnation: Incarnation, stop: CancellationToken) {
    tokio::spawn(async move {
        let settings = &host.settings;
        let mut own = OwnRow::new(
            row(settings, incarnation),
            &settings.cluster_key,
            BEAT_EVERY,
        );
        let mut told = false;
        let mut told_fence = None;
        let roll = Mutex::default();
        // Databases and name servers are needed before the node table can be read.
        let mut names = Names::new();
        exempt(&host, &mut names, &[host.settings.advertise], true).await;
        while !stop.is_cancelled() {
            let round = async {
                let db = register(&host, &mut own).await?;
                look(&host, &db, &mut names, &roll).await?;
                tell_fence(&host, &db, &mut told_fence).await;
                Ok::<(), DbError>(())
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

/// Connects where nobody has, and writes the own row where that is due.
async fn register(host: &Host, own: &mut OwnRow) -> Result<Arc<Db>, DbError> {
    let db = match host.db.load_full() {
        Some(db) => db,
        None => {
            // Two: what is said of mounts need not wait for the look-up.
            let db = Arc::new(Db::connect(&host.settings.database, 2).await?);
            host.db.store(Some(Arc::clone(&db)));
            db
        }
    };
    if own.due() {
        db.same_cluster(&Identity::of(&host.settings)).await?;
        own.write(&db).await?;
    }
    Ok(db)
}

async fn look(host: &Host, db: &Db, names: &mut Names, roll: &Mutex<Roll>) -> Result<(), DbError> {
    let nodes = db.members(roll).await?;
    host.masters.learn(&nodes);
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
        if let Ok(found) = Dialer::system().lookup(name, RESOLVE_MAX).await {
            let of_family = |six: bool| found.iter().any(|address| address.is_ipv6() == six);
            // A family that was not answered for in time keeps what it had.
            let old = known.remove(name).unwrap_or_default().into_iter();
            let kept: Vec<IpAddr> = old.filter(|a| !of_family(a.is_ipv6())).collect();
            known.insert(name.clone(), found.into_iter().chain(kept).collect());
        }
        all.extend(known.get(name).into_iter().flatten());
    }
    all
}
