//! Fence requests of the primary master: makes sure that an epoch is over, then says so in a receipt. Behind the kernel
//! gate a seal is enough; without one the processes must be gone. Kills only through the control group of exactly that
//! start, and never what obeys a newer epoch.

use std::collections::BTreeSet;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, ShardId, Term};
use wa_core::wire::Body;

use super::agent::{Host, Verified};
use super::units::{Instance, Judgement};
use crate::log::message_id;
use crate::net::udp::{Heard, Inbox};
use crate::sys::cgroup::Cgroup;
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
pub fn start(host: Arc<Host>, mut heard: Inbox) {
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
        // Not for host agents.
        Body::Ping { .. }
        | Body::Answer { .. }
        | Body::Opinions { .. }
        | Body::Nudge(_)
        | Body::Receipt(_)
        | Body::Ended { .. }
        | Body::Quiesce { .. }
        | Body::Quiesced { .. }
        | Body::Ask { .. } => None,
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
    let judged = judged(host, &instance, &request).await;
    let gone = |seal| Verified {
        seal,
        cgroup_empty: true,
    };
    let (run, verified) = match judged {
        Judgement::Gone(run) => {
            let mut sealed = host.gate.covers_the_dead();
            let left = host.units().group(&instance);
            if let Some(group) = left.filter(|_| sealed) {
                // Empty and not removed yet, or the next start's: the old epoch is sealed there as well.
                sealed = matches!(seal(host, &request, &group), Sealing::Done(_));
            }
            (run, gone(sealed.then(|| above(request.what.1))))
        }
        // The kernel removes no group with somebody in it, and what runs now has another: nothing of it can leave.
        Judgement::Replaced(run) if host.gate.covers_the_dead() => {
            let seal = Some(above(request.what.1));
            let verified = Verified {
                seal,
                cgroup_empty: false,
            };
            (run, verified)
        }
        Judgement::Replaced(_) => return none(&request, UNSEEN),
        Judgement::Refused(why) => return none(&request, why.sentence()),
        Judgement::Newer(run, group) => match seal(host, &request, &group) {
            Sealing::Done(verified) => (run, verified),
            Sealing::Failed | Sealing::NoGate => {
                return none(&request, "the instance obeys a newer epoch by now");
            }
        },
        Judgement::Runs(run, group) => match seal(host, &request, &group) {
            Sealing::Done(verified) => {
                // The receipt goes first: nothing of that epoch leaves any more, whatever the processes do.
                let receipt = host.receipt(
                    request.node.clone(),
                    &run,
                    request.what,
                    request.nonce,
                    verified,
                );
                host.heartbeats.send(request.from, Body::Receipt(receipt));
                restart(host, &instance, &request, &group).await;
                return;
            }
            Sealing::Failed => return,
            Sealing::NoGate => {
                if !kill(host, &request, &group).await {
                    return;
                }
                (run, gone(None))
            }
        },
    };
    let receipt = host.receipt(request.node, &run, request.what, request.nonce, verified);
    host.heartbeats.send(request.from, Body::Receipt(receipt));
}

async fn judged(host: &Host, instance: &Instance, request: &Request) -> Judgement {
    let said = host.written.of(instance).await;
    let units = host.units();
    units.judge(instance, request.incarnation, request.what.1, &said)
}

const UNSEEN: &str = "another start runs, and this agent did not see the named one end";

/// Says why there is no receipt.
fn none(request: &Request, why: &str) {
    tracing::warn!(node = %request.node, EPOCH = request.what.1.0, "no receipt: {why}");
}

/// The seal that an epoch is under.
fn above(epoch: Epoch) -> Epoch {
    Epoch(epoch.0.saturating_add(1))
}

/// What came of sealing.
enum Sealing {
    Done(Verified),
    /// Nothing was verified: no receipt.
    Failed,
    NoGate,
}

/// Seals the epoch in the kernel and ends its connections, both read back.
fn seal(host: &Host, request: &Request, group: &Cgroup) -> Sealing {
    let Ok(id) = group.id() else {
        return Sealing::Failed;
    };
    match host.gate.fence(id, request.what.1) {
        None => Sealing::NoGate,
        Some(Ok(fenced)) => {
            tracing::warn!(MESSAGE_ID = message_id::COREAPP_FENCED, node = %request.node, EPOCH = request.what.1.0, TERM = request.term.0,
                seal = fenced.seal, connections_ended = fenced.destroyed, "fenced: the epoch is sealed in the kernel");
            Sealing::Done(Verified {
                seal: Some(Epoch(fenced.seal)),
                cgroup_empty: false,
            })
        }
        Some(Err(error)) => {
            tracing::error!(node = %request.node, EPOCH = request.what.1.0, %error, "no receipt: the seal could not be verified; the lease has to run out");
            Sealing::Failed
        }
    }
}

/// Behind the seal nobody waits for this: the processes are ended so that the unit starts clean, unless a newer epoch
/// has come to live there meanwhile.
async fn restart(host: &Host, instance: &Instance, request: &Request, group: &Cgroup) {
    let again = judged(host, instance, request).await;
    if matches!(again, Judgement::Runs(..))
        && let Err(error) = group.kill()
    {
        tracing::error!(node = %request.node, %error, "sealed, but its processes cannot be killed; restart the unit");
    }
}

/// Without a gate only a dead process is harmless: kills every process of this start and waits until none is left.
async fn kill(host: &Host, request: &Request, group: &Cgroup) -> bool {
    tracing::warn!(MESSAGE_ID = message_id::COREAPP_FENCED, node = %request.node, EPOCH = request.what.1.0, TERM = request.term.0,
        "fencing: killing every process of this start");
    if let Err(error) = group.kill() {
        tracing::error!(node = %request.node, %error, "the processes cannot be killed; the lease has to run out");
        return false;
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
    let gone = tokio::time::timeout(GONE_WITHIN, gone).await.is_ok();
    if !gone {
        tracing::error!(node = %request.node, "killed processes do not end (stuck in the kernel?); the lease has to run out");
    }
    gone
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
