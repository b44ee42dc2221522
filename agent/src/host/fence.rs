//! Fence requests of the primary master: makes sure that a start is over, then says so in a receipt.
//! Kills only through the control group of exactly that start, and never what obeys a newer epoch.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, ShardId, Term};
use wa_core::wire::Body;

use super::Host;
use super::units::{Instance, Judgement};
use crate::log::message_id;
use crate::net::udp::Heard;
use crate::sys::clock;

/// How long a killed unit may take to disappear before no receipt is given; the master asks again.
const GONE_WITHIN: Duration = Duration::from_secs(2);
/// Fences under way at a time: more than there are units on any machine.
const UNDER_WAY_MAX: usize = 64;

/// What a fence request asks.
#[derive(Debug, Clone)]
struct Request {
    term: Term,
    node: NodeId,
    incarnation: Incarnation,
    what: (ShardId, Epoch, Grant),
    nonce: Nonce,
    from: SocketAddr,
}

/// The fences under way, and the highest term heard.
#[derive(Default)]
struct Desk {
    under_way: BTreeSet<(NodeId, Incarnation, Epoch, Grant)>,
    term: Term,
}

/// Answers until the socket ends.
pub fn start(host: Arc<Host>, mut heard: mpsc::Receiver<Heard>) {
    let desk = Arc::new(Mutex::new(Desk::default()));
    tokio::spawn(async move {
        while let Some(heard) = heard.recv().await {
            if let Some(request) = request_in(heard) {
                take(&host, &desk, request);
            }
        }
    });
}

fn request_in(heard: Heard) -> Option<Request> {
    let Heard::Body { body, address, .. } = heard else {
        return None;
    };
    match body {
        Body::Fence {
            term,
            node,
            incarnation,
            shard,
            epoch,
            grant,
            nonce,
        } => Some(Request {
            term,
            node,
            incarnation,
            what: (shard, epoch, grant),
            nonce,
            from: address,
        }),
        _ => None,
    }
}

fn take(host: &Arc<Host>, desk: &Arc<Mutex<Desk>>, request: Request) {
    let key = (
        request.node.clone(),
        request.incarnation,
        request.what.1,
        request.what.2,
    );
    {
        let mut desk = desk
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if request.term < desk.term {
            tracing::warn!(TERM = request.term.0, newest = desk.term.0, node = %request.node,
                "ignoring a fence request of a master that is no longer primary");
            return;
        }
        desk.term = request.term;
        // The master repeats its request until it is answered: one at a time is enough.
        if desk.under_way.len() >= UNDER_WAY_MAX || !desk.under_way.insert(key.clone()) {
            return;
        }
    }
    let (host, desk) = (Arc::clone(host), Arc::clone(desk));
    tokio::spawn(async move {
        answer(&host, request).await;
        let mut desk = desk
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        desk.under_way.remove(&key);
    });
}

/// The instance on this machine that a node is.
fn instance_of(node: &NodeId) -> Option<Instance> {
    let (_, name) = node.as_str().rsplit_once(':')?;
    let (role, number) = name.rsplit_once('-')?;
    Some((role.to_owned(), number.parse().ok()?))
}

async fn answer(host: &Arc<Host>, request: Request) {
    let local = instance_of(&request.node).filter(|i| host.node_of(i) == request.node);
    let Some(instance) = local else {
        return;
    };
    host.metrics.fences.inc();
    let judge = || {
        host.units()
            .judge(&instance, request.incarnation, request.what.1)
    };
    let run = match judge() {
        Judgement::Gone(run) => run,
        Judgement::Refused(why) => {
            tracing::warn!(node = %request.node, EPOCH = request.what.1.0, "no receipt: {}", why.sentence());
            return;
        }
        Judgement::Runs(run, group) => {
            tracing::warn!(MESSAGE_ID = message_id::COREAPP_FENCED, node = %request.node, EPOCH = request.what.1.0, TERM = request.term.0,
                "fencing: killing every process of this start");
            if let Err(error) = group.kill() {
                tracing::error!(node = %request.node, %error, "the processes cannot be killed; the lease has to run out");
                return;
            }
            let gone = async {
                loop {
                    let looked = host.looked.notified();
                    if group.empty().unwrap_or(false) {
                        return;
                    }
                    tokio::select! {
                        () = looked => {}
                        () = clock::sleep(Duration::from_millis(20)) => {}
                    }
                }
            };
            if tokio::time::timeout(GONE_WITHIN, gone).await.is_err() {
                tracing::error!(node = %request.node, "killed processes do not end (stuck in the kernel?); the lease has to run out");
                return;
            }
            run
        }
    };
    let receipt = host.receipt(request.node, &run, request.what, request.nonce);
    host.heartbeats.send(request.from, Body::Receipt(receipt));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn instances_are_read_from_names() {
        let of = |name: &str| instance_of(&NodeId::new(name));
        assert_eq!(
            of("core-1.example:coreapp-12"),
            Some(("coreapp".into(), 12))
        );
        assert_eq!(of("x"), None);
        assert_eq!(of("x:coreapp"), None);
    }
}
