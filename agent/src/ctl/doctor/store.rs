//! The database as the doctor sees it: reachable, which version, what voids a promise, whose it is, who is registered.

use std::net::SocketAddr;
use std::time::Duration;

use secrecy::ExposeSecret as _;

use super::Check;
use crate::config::{Settings, without_password};
use crate::db::Db;
use crate::db::identity::Identity;
use crate::db::node::Registered;
use crate::db::server::Facts;
use crate::net::keys;

const AREA: &str = "database";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// A coreapp opens ten connections, the others fewer: what a small cluster needs.
const CONNECTIONS_MIN: u64 = 100;

/// What the database says of the cluster; empty when it says nothing.
#[derive(Debug, Default)]
pub struct Cluster {
    pub nodes: Vec<Registered>,
}

impl Cluster {
    /// Control addresses of other machines' nodes, for measuring round trips: at most four.
    pub fn peers(&self, own: &Settings) -> Vec<SocketAddr> {
        let others = self.nodes.iter().map(|node| &node.registration);
        let others = others.filter(|node| node.machine != own.machine && node.port_control != 0);
        others
            .filter_map(|node| {
                Some(SocketAddr::new(
                    node.address.parse().ok()?,
                    node.port_control,
                ))
            })
            .take(4)
            .collect()
    }
}

/// Asks the database everything.
pub async fn examine(settings: &Settings, checks: &mut Vec<Check>) -> Cluster {
    let shown: Vec<String> = settings
        .database
        .urls
        .iter()
        .map(|url| without_password(url))
        .collect();
    let shown = shown.join(" ");
    if let Some(path) = file(settings)
        && !path.exists()
    {
        checks.push(Check::ok(
            AREA,
            format!("embedded, {}: the first master makes it", path.display()),
        ));
        return Cluster::default();
    }
    let asking = tokio::time::timeout(ANSWER_WITHIN, ask(settings));
    match asking.await {
        Ok(Ok((facts, identity, nodes))) => {
            let before = checks.len();
            judge_facts(&shown, &facts, checks);
            checks.extend(judge_identity(settings, identity.as_ref()));
            if file(settings).is_some() {
                checks.extend(judge_machines(settings, &nodes));
            }
            if checks.len() == before {
                let whose = identity.map_or(String::new(), |identity| {
                    format!(", cluster {:?}", identity.name)
                });
                checks.push(Check::ok(
                    AREA,
                    format!("{} at {shown}{whose}", facts.version),
                ));
            }
            Cluster { nodes }
        }
        Ok(Err(error)) => {
            checks.push(Check::bad(AREA, format!("{shown}: {}", error.brief()), ""));
            Cluster::default()
        }
        Err(_) => {
            checks.push(Check::bad(
                AREA,
                format!("{shown} did not answer within {ANSWER_WITHIN:?}"),
                "start it, or correct [database] urls",
            ));
            Cluster::default()
        }
    }
}

async fn ask(
    settings: &Settings,
) -> Result<(Facts, Option<Identity>, Vec<Registered>), crate::db::DbError> {
    let db = Db::connect(&settings.database, 1).await?;
    let facts = db.facts().await?;
    let identity = db.identity().await?;
    // No table of nodes yet: nobody is registered.
    let nodes = db.nodes().await.unwrap_or_default();
    db.close().await;
    Ok((facts, identity, nodes))
}

/// The file of an embedded database.
pub fn file(settings: &Settings) -> Option<std::path::PathBuf> {
    crate::db::file(&settings.database)
}

fn judge_facts(shown: &str, facts: &Facts, checks: &mut Vec<Check>) {
    checks.extend(facts.voids.iter().map(|void| Check::bad(AREA, void, "")));
    if !facts.lacking.is_empty() {
        let rights = facts.lacking.join(", ");
        checks.push(Check::bad(
            AREA,
            format!("the user lacks {rights} at {shown}"),
            format!("type on the server: GRANT {rights} ON the database TO that user"),
        ));
    }
    if facts.connections_max > 0 && facts.connections_max < CONNECTIONS_MIN {
        checks.push(Check::warn(
            AREA,
            format!("max_connections = {}", facts.connections_max),
            format!("set it to {CONNECTIONS_MIN} or more: each coreapp opens ten"),
        ));
    }
    if facts.connections_max > 0 && facts.connections * 10 > facts.connections_max * 9 {
        checks.push(Check::warn(
            AREA,
            format!(
                "{} of {} connections are open",
                facts.connections, facts.connections_max
            ),
            "set max_connections higher on the server",
        ));
    }
}

fn judge_identity(settings: &Settings, identity: Option<&Identity>) -> Option<Check> {
    let identity = identity?;
    if let Some(why) = Identity::of(settings).contradicts(identity) {
        return Some(Check::bad(AREA, why, ""));
    }
    let key = settings.cluster_key.current();
    let own = keys::prints(key.expose_secret());
    (!identity.key_print.is_empty() && !own.contains(&identity.key_print)).then(|| {
        Check::bad(
            "key",
            format!("the key here is not the one that cluster {:?} uses", identity.name),
            "copy /etc/wa-agent/credentials/cluster-key from a machine of the cluster, then: wa-agent setup",
        )
    })
}

/// An embedded database belongs to one machine.
fn judge_machines(settings: &Settings, nodes: &[Registered]) -> Option<Check> {
    let other = nodes
        .iter()
        .find(|node| node.registration.machine != settings.machine && !settings.development)?;
    Some(Check::bad(
        AREA,
        format!(
            "the embedded database has a node of another machine, {}",
            other.registration.machine
        ),
        "an embedded database is for one machine: install MariaDB or MySQL, then wa-agent setup --single --database-socket --replace",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::ctl::doctor::Verdict;

    /// Goal: each setting that voids the promise is a line with its remedy, and a good server is none.
    #[test]
    fn a_server_is_judged() {
        let mut checks = Vec::new();
        let good = Facts {
            version: "10.11".into(),
            connections_max: 151,
            ..Facts::default()
        };
        judge_facts("x", &good, &mut checks);
        assert!(checks.is_empty());
        let poor = Facts {
            voids: vec!["innodb_flush_log_at_trx_commit=2: set it to 1".into()],
            lacking: vec!["ALTER"],
            connections_max: 20,
            connections: 19,
            ..good
        };
        judge_facts("x", &poor, &mut checks);
        let verdicts: Vec<Verdict> = checks.iter().map(|check| check.verdict).collect();
        assert_eq!(
            verdicts,
            [Verdict::Bad, Verdict::Bad, Verdict::Warn, Verdict::Warn]
        );
    }
}
