//! `wa-agent setup --monitoring`: the targets of the cluster for Prometheus, from the node table, and a configuration that reads
//! them. Starts nothing and changes nothing in Prometheus itself.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use serde::Serialize;
use wa_core::id::Role;

use super::INSTALLED;
use crate::config::{self, Settings, health_port};
use crate::ctl::draft::Draft;
use crate::ctl::reach;
use crate::db::Db;
use crate::db::node::{Registered, Registration};
use crate::exit::Exit;

/// Where the files go, if nothing else is said.
pub const FOLDER: &str = "/etc/wa-agent/monitoring";
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Whoever has not said anything for a day is gone.
const BEAT_AGE_MAX_MS: u64 = 24 * 3600 * 1000;

/// One entry of the list, in the form of Prometheus's `file_sd_configs`.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Target {
    targets: [String; 1],
    labels: BTreeMap<&'static str, String>,
}

/// What is to be written, and where.
pub struct Wanted<'a> {
    pub folder: &'a Path,
    pub config: Option<&'a Path>,
    pub root: &'a Path,
    pub dry_run: bool,
    pub replace: bool,
}

/// Writes the list and, where there is none yet, the configuration; says what to type next.
///
/// # Errors
/// When there is no configuration, or the database does not answer.
pub async fn run(wanted: &Wanted<'_>) -> anyhow::Result<Exit> {
    let settings = settings(wanted)?;
    let nodes = tokio::time::timeout(ANSWER_WITHIN, async {
        Db::connect(&settings.database, 1).await?.nodes().await
    })
    .await
    .context("the database did not answer in time; type: wa-agent doctor")?
    .context("the database does not say which nodes there are; type: wa-agent doctor")?;
    let (targets, left_out) = targets(&nodes, &settings.cluster_name);
    anyhow::ensure!(
        !targets.is_empty(),
        "no node of this cluster has said anything for a day: start it first, then type this again"
    );
    let folder = std::path::absolute(wanted.folder)?;
    let (list, own) = (folder.join("targets.json"), folder.join("prometheus.yml"));
    let mut draft = Draft::new(wanted.root);
    draft.text(&list, serde_json::to_string_pretty(&targets)? + "\n");
    let there = std::fs::read_to_string(draft.below(&own)).ok();
    let written = configuration(&draft.below(&list));
    let kept = there.is_some_and(|there| there != written) && !wanted.replace;
    if !kept {
        draft.text(&own, written);
    }
    if wanted.dry_run {
        print!("{}", draft.show()?);
        println!("nothing was changed");
        return Ok(Exit::Ok);
    }
    for path in draft.write()? {
        println!("wrote {}", path.display());
    }
    if kept {
        println!(
            "{} is there and differs: it was kept (--replace writes it anew)",
            own.display()
        );
    }
    for node in left_out {
        println!("{node} was left out: it has said nothing for a day");
    }
    println!("{}", next(targets.len(), &draft.below(&own)));
    Ok(Exit::Ok)
}

fn settings(wanted: &Wanted<'_>) -> anyhow::Result<Settings> {
    let installed = wanted.root == Path::new("/");
    let named = match (wanted.config, installed) {
        (None, false) => None,
        (named, _) => Some(reach::config_file(named).context(
            "no configuration: neither /etc/wa-agent/wa-agent.toml nor a running `wa-agent dev` was found; name one with --config FILE",
        )?),
    };
    let load = |role| match &named {
        Some(file) => config::load(role, 1, Some(file)),
        None => config::load_below(wanted.root, role, 1),
    };
    // A machine with webapps only has a webapp's part of the key.
    let loaded = load(Role::Master).or_else(|error| load(Role::Webapp).map_err(|_| error))?;
    Ok(loaded.settings)
}

/// Every node that lives, and the names of those that do not.
fn targets(nodes: &[Registered], cluster: &str) -> (Vec<Target>, Vec<String>) {
    let (fresh, old): (Vec<_>, Vec<_>) = nodes
        .iter()
        .partition(|node| node.beat_age_ms < BEAT_AGE_MAX_MS);
    let mut all: Vec<Target> = fresh
        .iter()
        .filter_map(|node| target(&node.registration, cluster))
        .collect();
    all.sort_by(|a, b| a.labels.cmp(&b.labels));
    let names = old.iter().map(|node| node.registration.node.to_string());
    (all, names.collect())
}

fn target(node: &Registration, cluster: &str) -> Option<Target> {
    let instance = node.node.as_str().rsplit_once('-');
    let instance = instance.and_then(|(_, number)| number.parse().ok());
    let known = match node.role {
        Role::Webapp => node.port_api,
        Role::Master | Role::Coreapp | Role::Host => node.port_heartbeat,
    };
    let port = health_port(node.role, instance.unwrap_or(1), known)?;
    let address = match node.address.contains(':') {
        true => format!("[{}]:{port}", node.address),
        false => format!("{}:{port}", node.address),
    };
    let labels = [
        ("cluster", cluster),
        ("machine", &node.machine),
        ("node", node.node.as_str()),
        ("role", node.role.as_str()),
        ("zone", &node.zone),
    ];
    Some(Target {
        targets: [address],
        labels: labels.map(|(name, value)| (name, value.to_owned())).into(),
    })
}

#[derive(Serialize)]
struct Configuration {
    global: Global,
    rule_files: [String; 1],
    scrape_configs: [Job; 1],
}

#[derive(Serialize)]
struct Global {
    scrape_interval: &'static str,
    evaluation_interval: &'static str,
}

#[derive(Serialize)]
struct Job {
    job_name: &'static str,
    file_sd_configs: [Lists; 1],
}

#[derive(Serialize)]
struct Lists {
    files: [PathBuf; 1],
}

fn configuration(list: &Path) -> String {
    let document = Configuration {
        global: Global {
            scrape_interval: "15s",
            evaluation_interval: "15s",
        },
        rule_files: [format!("{INSTALLED}/rules.yml")],
        scrape_configs: [Job {
            job_name: "wa-agent",
            file_sd_configs: [Lists {
                files: [list.to_path_buf()],
            }],
        }],
    };
    let text = serde_saphyr::to_string(&document).expect("plain data");
    format!(
        "# A configuration for Prometheus. If you have one, take rule_files and the job wa-agent over into it.\n{text}"
    )
}

fn next(count: usize, own: &Path) -> String {
    let own = own.display();
    format!(
        "\n{count} targets. Prometheus reads the list again by itself when it changes: after each new machine type this again.\n\
         Look whether Prometheus takes it:\n  promtool check config {own}\n\
         A machine with nothing else for Prometheus to do takes it whole:\n  cp {own} /etc/prometheus/prometheus.yml && systemctl reload prometheus\n\
         Nodes show their figures on [node] advertise: let Prometheus reach the ports of the list.\n\
         Where [ports] health or [node] metrics_bind is written, correct the list. Dashboards for Grafana: {INSTALLED}/dashboards"
    )
}

#[cfg(test)]
mod tests {
    use wa_core::id::{Incarnation, NodeId};

    use super::*;

    fn node(role: Role, name: &str, address: &str, ports: (u16, u16), age_ms: u64) -> Registered {
        Registered {
            beat_ms: 0,
            clock_ms: 0,
            beat_age_ms: age_ms,
            draining: false,
            registration: Registration {
                node: NodeId::new(name),
                role,
                incarnation: Incarnation {
                    counter: 1,
                    random: 1,
                },
                machine: "core2".into(),
                zone: "z".into(),
                address: address.into(),
                port_heartbeat: ports.0,
                port_control: 0,
                port_api: ports.1,
                version: "0".into(),
                weight: 0,
                keys: Default::default(),
            },
        }
    }

    /// Goal: every role is asked at its health port, wherever its ports begin. Method: one of each role, an offset, IPv6, and
    /// one that is gone.
    #[test]
    fn every_role_is_a_target() {
        let nodes = [
            node(
                Role::Coreapp,
                "core2:coreapp-2",
                "10.0.0.2",
                (6260, 6262),
                1,
            ),
            node(Role::Master, "core2:master-1", "10.0.0.2", (7254, 0), 1),
            node(Role::Webapp, "core2:webapp-1", "fd00::2", (9290, 9090), 1),
            node(Role::Host, "core2:host", "10.0.0.2", (6248, 0), 1),
            node(Role::Host, "core3:host", "10.0.0.3", (6248, 0), 86_400_000),
        ];
        let (found, old) = targets(&nodes, "test");
        let addresses: Vec<&str> = found.iter().map(|t| t.targets[0].as_str()).collect();
        assert_eq!(
            addresses,
            [
                "10.0.0.2:6263",
                "10.0.0.2:6249",
                "10.0.0.2:7257",
                "[fd00::2]:9190"
            ]
        );
        assert_eq!(old, ["core3:host"]);
        assert_eq!(found[0].labels["role"], "coreapp");
        assert_eq!(found[0].labels["cluster"], "test");
    }
}
