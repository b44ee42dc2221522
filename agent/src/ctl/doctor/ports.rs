//! Ports of this machine, and whether machines reach each other's: UDP by what masters hear, TCP by connecting.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use wa_core::id::Role;
use wa_core::judgement::Kind;

use super::store::Cluster;
use super::{Asked, Check, Instance};
use crate::api::act::Acts;
use crate::api::control::{ClusterStatus, path};
use crate::api::judged::Judged;
use crate::config::Settings;
use crate::ctl::reach;
use crate::db::node::{Registered, Registration};
use crate::sys::listener::{Listener, listeners};
use crate::sys::{clock, dial};

const CONNECT_WITHIN: Duration = Duration::from_secs(2);
/// Masters read the node table every half second.
const TABLE_READ_WITHIN: Duration = Duration::from_secs(1);
/// However slow the heartbeats are.
const PATIENCE_MAX: Duration = Duration::from_secs(12);
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A node whose database beat is older is taken for gone, not for closed: more than two beats.
const BEAT_AGE_MAX_MS: u64 = 150_000;

/// Ports of each instance: free, ours, or somebody else's.
pub fn here(asked: &Asked, instances: &[Instance]) -> Vec<Check> {
    let all = if asked.live() {
        listeners()
    } else {
        Vec::new()
    };
    let mut checks = Vec::new();
    for instance in instances {
        if let Ok(settings) = asked.settings(*instance) {
            checks.push(judge(*instance, &settings, &all));
        }
    }
    checks
}

fn judge(instance: Instance, settings: &Settings, all: &[Listener]) -> Check {
    const AREA: &str = "ports here";
    let p = settings.ports;
    let wanted = [
        (p.heartbeat, true),
        (p.control, false),
        (p.api, false),
        (p.health, false),
    ];
    let wanted = wanted.into_iter().filter(|(port, _)| *port != 0);
    let mut shown = Vec::new();
    let mut ours = 0;
    for (port, udp) in wanted {
        shown.push(format!("{port}{}", if udp { "/udp" } else { "" }));
        let Some(taken) = all.iter().find(|l| l.port == port && l.udp == udp) else {
            continue;
        };
        match &taken.holder {
            Some(holder) if !holder.ours() => {
                return Check::bad(
                    AREA,
                    format!(
                        "{}: port {port} is taken by {}",
                        instance.shown(),
                        holder.shown()
                    ),
                    format!(
                        "stop it, or set [ports] in /etc/wa-agent/instances/{}.toml",
                        instance.shown()
                    ),
                );
            }
            _ => ours += 1,
        }
    }
    let state = if ours == 0 {
        "free"
    } else {
        "in use by wa-agent"
    };
    Check::ok(
        AREA,
        format!("{}: {} {state}", instance.shown(), shown.join(" ")),
    )
}

/// Ports of the cluster: from here by connecting, and among all by what each master hears.
pub async fn there(asked: &Asked, settings: &Settings, cluster: &Cluster) -> Vec<Check> {
    const AREA: &str = "ports there";
    let fresh: Vec<&Registered> = cluster
        .nodes
        .iter()
        .filter(|node| node.beat_age_ms < BEAT_AGE_MAX_MS)
        .collect();
    if fresh.is_empty() {
        return Vec::new();
    }
    let others = fresh
        .iter()
        .map(|node| &node.registration)
        .filter(|node| node.machine != settings.machine);
    let doors: Vec<(&Registration, u16)> = others.flat_map(tcp_ports).collect();
    let tried = join_all(doors.iter().map(|(node, port)| knock(node, *port))).await;
    let open = tried.iter().filter(|tried| tried.is_ok()).count();
    let here = settings.advertise.to_string();
    let known = fresh.iter().any(|node| node.registration.address == here);
    let shut = doors.iter().zip(tried).filter_map(|((node, _), tried)| {
        let (silent, check) = tried.err()?;
        // The gate of a coreapp's machine answers the addresses of registered nodes, and nobody else.
        (known || !silent || node.role != Role::Coreapp).then_some(check)
    });
    let mut checks: Vec<Check> = shut.collect();
    if open > 0 {
        // Others are reached from here: who is not is dead, or behind a firewall of its own.
        checks = checks.into_iter().map(Check::elsewhere).collect();
        checks.push(Check::ok(
            AREA,
            format!("{open} TCP ports of other machines answer from here"),
        ));
    }
    if asked.live() || asked.config.is_some() {
        let (views, lost) = settled(|| views(asked), &fresh).await;
        checks.extend(judged(&views));
        checks.extend(timers(&views));
        checks.extend(certificate(&views));
        checks.extend(alarms(&views));
        let here = (settings.machine.as_str(), settings.console.acts);
        checks.extend(acts(&views, here, &fresh));
        let silent = lost.len();
        checks.extend(lost);
        if silent == 0 && !views.is_empty() {
            checks.push(Check::ok(
                AREA,
                format!(
                    "{} masters hear the heartbeats of every node that is at work",
                    views.len()
                ),
            ));
        }
    }
    checks
}

/// What masters hear, and whom not. A node that came just now is pinged after the next reading of the table, and answers
/// within two intervals: before that its silence says nothing about firewalls.
async fn settled(
    mut look: impl AsyncFnMut() -> Vec<ClusterStatus>,
    fresh: &[&Registered],
) -> (Vec<ClusterStatus>, Vec<Check>) {
    let began = clock::now();
    loop {
        let views = look().await;
        let lost: Vec<Check> = views.iter().flat_map(|view| closed(view, fresh)).collect();
        let interval = views.iter().map(|view| view.heartbeat_interval_ms).max();
        let patience = Duration::from_millis(interval.unwrap_or(0).saturating_mul(2));
        let patience = (patience + TABLE_READ_WITHIN).min(PATIENCE_MAX);
        if lost.is_empty() || clock::now().since(began) >= patience {
            return (views, lost);
        }
        clock::sleep(LOOK_EVERY).await;
    }
}

/// TCP ports that other machines use: control of masters, API of coreapps.
fn tcp_ports(node: &Registration) -> Vec<(&Registration, u16)> {
    let ports = match node.role {
        Role::Master => vec![node.port_control],
        Role::Coreapp => vec![node.port_api],
        Role::Webapp | Role::Host => Vec::new(),
    };
    ports
        .into_iter()
        .filter(|port| *port != 0)
        .map(|port| (node, port))
        .collect()
}

/// Connects; what is wrong otherwise, and whether nobody answered at all.
async fn knock(node: &Registration, port: u16) -> Result<(), (bool, Check)> {
    const AREA: &str = "ports there";
    let Ok(address) = node.address.parse() else {
        let text = format!("{} registered the address {:?}", node.node, node.address);
        let check = Check::bad(AREA, text, "set [node] advertise there");
        return Err((false, check.elsewhere()));
    };
    let connect = dial::connect_to(SocketAddr::new(address, port), CONNECT_WITHIN);
    let Err(error) = connect.await else {
        return Ok(());
    };
    let door = format!("TCP port {port} of {} ({})", node.node, node.address);
    let machine = &node.machine;
    if error.silent() {
        let text = format!("{door} is closed from here");
        let advice = format!("let it through in the firewall of {machine}, and on the way");
        return Err((true, Check::bad(AREA, text, advice)));
    }
    let advice = if address.is_loopback() {
        "it advertises a loopback address: set [node] advertise there".to_owned()
    } else {
        format!("is it running there? systemctl status 'wa-*' on {machine}")
    };
    let check = Check::bad(AREA, format!("{door}: {error}"), advice);
    Err((false, check.elsewhere()))
}

/// What each master says that answers.
async fn views(asked: &Asked) -> Vec<ClusterStatus> {
    let Ok(cluster) = reach::Cluster::find(asked.config.as_deref()).await else {
        return Vec::new();
    };
    let all = cluster
        .masters
        .iter()
        .map(|master| cluster.get::<ClusterStatus>(master, path::STATUS));
    join_all(all)
        .await
        .into_iter()
        .filter_map(Result::ok)
        .collect()
}

/// What the primary master, else any, finds wrong with the cluster: the same judgement as `wa-agent status`.
fn judged(views: &[ClusterStatus]) -> Vec<Check> {
    let view = views.iter().max_by_key(|view| view.primary);
    let all = view.into_iter().flat_map(|view| &view.judged);
    let wrong = all.filter(|judged| judged.wrong());
    wrong
        .map(|judged| match judged.broken() {
            true => Check::bad("cluster", &judged.says, &judged.remedy).elsewhere(),
            false => Check::warn("cluster", &judged.says, &judged.remedy),
        })
        .collect()
}

/// Figures beyond their limits that are not among the problems: the same table as that of `wa-agent status` and of Prometheus.
fn alarms(views: &[ClusterStatus]) -> Vec<Check> {
    let view = views.iter().max_by_key(|view| view.primary);
    let all = view.into_iter().flat_map(ClusterStatus::other_alarms);
    all.map(|alarm| {
        let text = format!("{} {}", alarm.says, alarm.means);
        Check::warn("figures", text.trim_end_matches('.'), &alarm.remedy)
    })
    .collect()
}

/// Timers that were set over the API, with what each pair means for a takeover: nobody may have meant it.
fn timers(views: &[ClusterStatus]) -> Option<Check> {
    let view = views.iter().max_by_key(|view| view.primary)?;
    let set = |judged: &&Judged| judged.kind == Kind::TimersByApi.as_str();
    let said = view.judged.iter().find(set)?;
    Some(Check::warn("timers", &said.says, ""))
}

/// The certificate that was sent for the public port ends: `status` only remarks on it as long as it is not soon.
fn certificate(views: &[ClusterStatus]) -> Option<Check> {
    let view = views.iter().max_by_key(|view| view.primary)?;
    let ends = |judged: &&Judged| judged.kind == Kind::CertificateEnds.as_str();
    let said = view.judged.iter().find(ends)?;
    Some(Check::warn("certificate", &said.says, &said.remedy))
}

/// Masters that do other acts for consoles than this machine says. That matters beside a webapp, which shows buttons by it, and beside a
/// master.
fn acts(
    views: &[ClusterStatus],
    (machine, here): (&str, Acts),
    fresh: &[&Registered],
) -> Option<Check> {
    let serves = |row: &&Registered| {
        let row = &row.registration;
        row.machine == machine && matches!(row.role, Role::Webapp | Role::Master)
    };
    let says = |view: &ClusterStatus| {
        let acts = view.console_acts.as_deref();
        let other = acts.filter(|acts| *acts != here.as_str())?;
        Some(format!("{} goes by \"{other}\"", view.node))
    };
    let others: Vec<String> = views.iter().filter_map(says).collect();
    let differs = !others.is_empty() && fresh.iter().any(serves);
    differs.then(|| {
        let others = others.join(", ");
        let text = format!("[console] acts is \"{here}\" here, and {others}");
        let remedy = "write the same word in [console] on every machine with a master or a webapp, and restart both";
        Check::warn("console", text, remedy)
    })
}

/// Nodes that are at work by the database, and that a master does not hear.
fn closed(view: &ClusterStatus, fresh: &[&Registered]) -> Vec<Check> {
    let lost = view
        .nodes
        .iter()
        .filter(|node| node.role != "webapp" && node.node != view.node);
    let lost = lost.filter(|node| {
        node.heartbeat_age_ms
            .is_none_or(|age| age > view.unhealthy_interval_ms)
    });
    let known = lost.filter_map(|node| {
        let row = fresh
            .iter()
            .map(|row| &row.registration)
            .find(|row| row.node.as_str() == node.node)?;
        Some((node, row))
    });
    known
        .map(|(node, row)| {
            let age = node.heartbeat_age_ms.map_or("never".to_owned(), |ms| {
                format!("not for {}", crate::ctl::render::span_text(ms))
            });
            Check::bad(
                "ports there",
                format!(
                    "UDP port {} of {} ({}): {} has heard its heartbeats {age}",
                    row.port_heartbeat, row.node, row.address, view.node
                ),
                format!(
                    "let UDP {} through in the firewall of {}, and answers back",
                    row.port_heartbeat, row.machine
                ),
            )
            .elsewhere()
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::control::NodeStatus;
    use wa_core::id::{Incarnation, NodeId};

    fn row(name: &str, beat_age_ms: u64) -> Registered {
        Registered {
            beat_ms: 0,
            clock_ms: 0,
            beat_age_ms,
            draining: false,
            registration: Registration {
                node: NodeId::new(name),
                role: Role::Coreapp,
                incarnation: Incarnation {
                    counter: 1,
                    random: 1,
                },
                machine: "core2".into(),
                zone: "z".into(),
                address: "10.0.0.2".into(),
                port_heartbeat: 6250,
                port_control: 6251,
                port_api: 6252,
                version: "0".into(),
                weight: 0,
                keys: Default::default(),
            },
        }
    }

    fn heard(name: &str, role: &str, age: Option<u64>) -> NodeStatus {
        NodeStatus {
            node: name.into(),
            role: role.into(),
            address: "10.0.0.2:6250".into(),
            heartbeat_age_ms: age,
            ..serde_json::from_value(serde_json::json!({
                "node": "", "role": "", "address": "", "zone": "", "version": "", "heartbeat_age_ms": null,
                "db_beat_age_ms": null, "healthy": true, "shard": null, "epoch": null, "health": []
            }))
            .expect("a status")
        }
    }

    fn view() -> ClusterStatus {
        serde_json::from_value(serde_json::json!({
            "node": "core1:master-1", "version": "0", "primary": true, "primary_master": null, "term": 1,
            "lease_margin_ms": null, "safe_ms": null, "database_error": null, "fence": "", "heartbeat_interval_ms": 50,
            "unhealthy_interval_ms": 300, "settings_version": 1, "shards": [], "nodes": [], "problems": [], "decisions": []
        }))
        .expect("a status")
    }

    /// Goal: a node that started a second ago raises no alarm about firewalls, and one that stays unheard does.
    /// Method: a master's view that hears it at the third look, and one that never does.
    #[tokio::test]
    async fn a_node_that_came_just_now_is_no_closed_port() {
        let rows = [row("core2:coreapp-1", 10)];
        let rows: Vec<&Registered> = rows.iter().collect();
        for heard_at in [Some(3), None] {
            let mut looks = 0;
            let look = async || {
                looks += 1;
                let age = heard_at.filter(|at| looks >= *at).map(|_| 40);
                let mut view = view();
                view.nodes = vec![heard("core2:coreapp-1", "coreapp", age)];
                vec![view]
            };
            let (_, lost) = settled(look, &rows).await;
            assert_eq!(lost.len(), usize::from(heard_at.is_none()), "{lost:?}");
        }
    }

    /// Goal: a node that beats in the database and is not heard by UDP is named with its port and machine; one that is
    /// heard, one that is gone, and a webapp are not.
    #[test]
    fn a_closed_udp_port_is_named() {
        let mut view = view();
        view.nodes = vec![
            heard("core2:coreapp-1", "coreapp", None),
            heard("core2:coreapp-2", "coreapp", Some(40)),
            heard("core2:coreapp-3", "coreapp", None),
            heard("core2:webapp-1", "webapp", None),
        ];
        let rows = [
            row("core2:coreapp-1", 10),
            row("core2:coreapp-2", 10),
            row("core2:webapp-1", 10),
        ];
        let rows: Vec<&Registered> = rows.iter().collect();
        let found = closed(&view, &rows);
        assert_eq!(found.len(), 1, "{found:?}");
        for part in ["UDP port 6250", "core2:coreapp-1", "core1:master-1"] {
            assert!(found[0].text.contains(part), "{found:?}");
        }
    }

    /// Goal: who goes by the buttons of a console is told when masters go by another word. A machine without webapps and masters raises
    /// nothing, nor does a master of an older release. Method: views of masters with each word, and rows of this machine and of another.
    #[test]
    fn other_words_for_acts_are_named() {
        let of = |role, machine: &str| {
            let mut row = row("x:webapp-1", 10);
            row.registration.role = role;
            row.registration.machine = machine.into();
            row
        };
        let said_by = |acts: Option<&str>| ClusterStatus {
            console_acts: acts.map(str::to_owned),
            ..view()
        };
        let (webapp, master) = (of(Role::Webapp, "core1"), of(Role::Master, "core1"));
        let (coreapp, other) = (of(Role::Coreapp, "core1"), of(Role::Webapp, "core2"));
        for (row, said, named) in [
            (&webapp, &["safe", "all"][..], Some("all")),
            (&webapp, &["none"], Some("none")),
            (&master, &["all"], Some("all")),
            (&webapp, &["safe", "safe"], None),
            (&webapp, &[], None),
            (&coreapp, &["all"], None),
            (&other, &["all"], None),
        ] {
            let views = said.iter().map(|acts| said_by(Some(acts)));
            let views: Vec<ClusterStatus> = views.chain([said_by(None)]).collect();
            let check = acts(&views, ("core1", Acts::Safe), &[row]);
            let text = named.map(|acts| {
                format!("[console] acts is \"safe\" here, and core1:master-1 goes by \"{acts}\"")
            });
            assert_eq!(check.map(|check| check.text), text, "{said:?}");
        }
    }
}
