//! Where the masters are, and asking all of them side by side: the primary's answer counts, else that of any other.
//! Changes nothing, and reads no table: the caller has read it in the database.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use arc_swap::{ArcSwap, ArcSwapOption};
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::StatusCode;
use serde::de::DeserializeOwned;
use wa_core::id::Role;
use wa_core::time::Instant;

use crate::api::control::{ClusterStatus, Explanation, path};
use crate::api::look::KnownMaster;
use crate::db::node::{Registered, Registration};
use crate::net::client::InternalClient;
use crate::sys::clock;

/// How long one master may take to answer, and all of them together.
pub const ANSWER_WITHIN: Duration = Duration::from_secs(3);
/// Most masters that are asked. The freshest beats come first; rows of dead ones may stay for long.
pub const ASKED_MAX: usize = 32;

/// Where masters are, as they were registered when the database last answered.
#[derive(Default)]
pub struct Masters {
    heartbeats: ArcSwap<Vec<SocketAddr>>,
    /// The freshest beat first, and when that was read.
    control: ArcSwapOption<(Vec<KnownMaster>, Instant)>,
}

impl Masters {
    /// Where they hear heartbeats.
    pub fn addresses(&self) -> Arc<Vec<SocketAddr>> {
        self.heartbeats.load_full()
    }

    /// Where they are called, with the ages of their beats as of now.
    pub fn known(&self) -> Vec<KnownMaster> {
        let Some(read) = self.control.load_full() else {
            return Vec::new();
        };
        let since = clock::now().since(read.1).as_millis();
        let since = u64::try_from(since).unwrap_or(u64::MAX);
        let mut known = read.0.clone();
        for master in &mut known {
            master.beat_age_ms = master.beat_age_ms.saturating_add(since);
        }
        known
    }

    /// Takes what the database says.
    pub fn learn(&self, nodes: &[Registered]) {
        let masters = nodes
            .iter()
            .map(|node| &node.registration)
            .filter(|node| node.role == Role::Master);
        let addresses = masters.filter_map(Registration::heartbeat);
        self.heartbeats.store(Arc::new(addresses.collect()));
        let masters = nodes
            .iter()
            .filter(|node| node.registration.role == Role::Master);
        let mut known: Vec<KnownMaster> = masters
            .map(|node| KnownMaster {
                node: node.registration.node.as_str().to_owned(),
                control_url: node.registration.control_url(),
                beat_age_ms: node.beat_age_ms,
            })
            .collect();
        known.sort_by_key(|master| master.beat_age_ms);
        self.control.store(Some(Arc::new((known, clock::now()))));
    }
}

/// One call to one node; why it came to nothing, in words.
///
/// # Errors
/// When it does not answer, refuses, or says what nobody understands.
pub async fn get<T: DeserializeOwned>(
    client: &InternalClient,
    master: &str,
    path: &str,
) -> Result<T, String> {
    let url = format!("{master}{path}");
    let call = client.call(http::Method::GET, &url, Vec::new(), ANSWER_WITHIN);
    let (status, body) = call.await.map_err(|error| error.to_string())?;
    if status == StatusCode::UNAUTHORIZED {
        return Err(format!(
            "{master} answered {status}: it is of an older release, which does not know how this release looks, or has another cluster key"
        ));
    }
    if !status.is_success() {
        return Err(format!("{master} answered {status}"));
    }
    serde_json::from_slice(&body).map_err(|error| error.to_string())
}

/// The control URL of a master at this address.
pub fn control_url(address: IpAddr, port: u16) -> String {
    format!("http://{}", SocketAddr::new(address, port))
}

/// Asks all masters at once, until one answers as the primary, or the time is over; without one, the answer of the first in the list
/// that said something. With it, the URL of who answered. A master that says nothing usable is passed over. Only for calls that change
/// nothing: every master hears them.
pub async fn ask<T, F: Future<Output = Option<T>>>(
    masters: &[String],
    call: impl Fn(String) -> F,
    primary: impl Fn(&T) -> bool,
) -> Option<(String, T)> {
    ask_within(ANSWER_WITHIN, masters, call, primary).await
}

async fn ask_within<T, F: Future<Output = Option<T>>>(
    within: Duration,
    masters: &[String],
    call: impl Fn(String) -> F,
    primary: impl Fn(&T) -> bool,
) -> Option<(String, T)> {
    let asked = masters.iter().take(ASKED_MAX).enumerate();
    let mut asked: FuturesUnordered<_> = asked
        .map(|(at, master)| {
            let call = call(master.clone());
            async move { (at, call.await) }
        })
        .collect();
    let mut any: Option<(usize, T)> = None;
    let all = async {
        while let Some((at, answer)) = asked.next().await {
            let Some(answer) = answer else { continue };
            let done = primary(&answer);
            if done || any.as_ref().is_none_or(|(before, _)| at < *before) {
                any = Some((at, answer));
            }
            if done {
                return;
            }
        }
    };
    // Without the rest of the answers, those that came count.
    let _ = tokio::time::timeout(within, all).await;
    any.map(|(at, answer)| (masters[at].clone(), answer))
}

/// The primary's view, else that of any master that answers.
pub async fn status(client: &InternalClient, masters: &[String]) -> Option<ClusterStatus> {
    let call = |master: String| async move { get(client, &master, path::STATUS).await.ok() };
    let said = ask(masters, call, |status: &ClusterStatus| status.primary).await;
    said.map(|(_, status)| status)
}

/// Why each shard is where it is, by the primary, else by any master that answers.
pub async fn explain(client: &InternalClient, masters: &[String]) -> Option<Vec<Explanation>> {
    let call = |master: String| async move {
        let all = get::<Vec<Explanation>>(client, &master, path::EXPLAIN);
        let status = get::<ClusterStatus>(client, &master, path::STATUS);
        let (all, status) = tokio::join!(all, status);
        Some((all.ok()?, status.is_ok_and(|status| status.primary)))
    };
    let said = ask(masters, call, |(_, primary)| *primary).await;
    said.map(|(_, (all, _))| all)
}

#[cfg(test)]
mod tests {
    use wa_core::id::{Incarnation, NodeId};

    use super::*;

    /// Goal: the primary is found wherever it stands in the list; without one the first answer of the list counts; who is silent is
    /// passed over. Method: lists of answers by name.
    #[tokio::test]
    async fn the_primary_is_found_among_all() {
        let masters: Vec<String> = ["a", "b", "c"].map(String::from).into();
        let go = async |said: [Option<bool>; 3]| {
            let call = |master: String| {
                let at = usize::from(master.as_bytes()[0] - b'a');
                std::future::ready(said[at])
            };
            let found = ask(&masters, call, |primary| *primary).await;
            found.map(|(master, _)| master)
        };
        let found = go([None, Some(true), Some(false)]).await;
        assert_eq!(found.as_deref(), Some("b"));
        let found = go([Some(false), Some(false), None]).await;
        assert_eq!(found.as_deref(), Some("a"));
        assert_eq!(go([None; 3]).await, None);
    }

    /// Goal: rows of dead masters cost no time where the primary answers, and one deadline where it does not. Method: thirty masters
    /// that never answer, before and behind one that does.
    #[tokio::test]
    async fn dead_masters_are_asked_side_by_side() {
        let masters: Vec<String> = (0..31).map(|n| n.to_string()).collect();
        let go = async |primary: bool| {
            let within = Duration::from_millis(200);
            let began = clock::now();
            let call = |master: String| async move {
                if master != "15" {
                    std::future::pending::<()>().await;
                }
                Some(primary)
            };
            let found = ask_within(within, &masters, call, |primary| *primary).await;
            assert_eq!(found.map(|(master, _)| master).as_deref(), Some("15"));
            clock::now().since(began)
        };
        let took = go(true).await;
        assert!(took < Duration::from_millis(200), "{took:?}");
        let took = go(false).await;
        assert!(
            took < Duration::from_secs(3),
            "{took:?}, and one after the other it is 6 s"
        );
    }

    /// Goal: whoever asks while the database is not to be had learns where the masters were. Method: what it said before.
    #[test]
    fn masters_are_remembered() {
        let one = |node: &str, role, beat_age_ms| Registered {
            beat_ms: 0,
            clock_ms: 0,
            registration: Registration {
                node: NodeId::new(node),
                role,
                incarnation: Incarnation {
                    counter: 1,
                    random: 1,
                },
                machine: "a".into(),
                zone: "a".into(),
                address: "192.0.2.1".into(),
                port_heartbeat: 6250,
                port_control: 6251,
                port_api: 0,
                version: String::new(),
                weight: 0,
                keys: (String::new(), String::new()),
            },
            beat_age_ms,
            draining: false,
        };
        let masters = Masters::default();
        assert!(masters.known().is_empty() && masters.addresses().is_empty());
        masters.learn(&[
            one("a:master-1", Role::Master, 9000),
            one("a:coreapp-1", Role::Coreapp, 1),
            one("b:master-1", Role::Master, 100),
        ]);
        let known = masters.known();
        let names: Vec<&str> = known.iter().map(|master| master.node.as_str()).collect();
        assert_eq!(names, ["b:master-1", "a:master-1"], "the freshest first");
        assert!(known[1].beat_age_ms >= 9000);
        assert_eq!(masters.addresses().len(), 2);
    }
}
