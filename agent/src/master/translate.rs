//! Between the core and what is outside: datagrams in, names of decisions out.
//! Decides nothing.

use wa_core::id::{Incarnation, NodeId};
use wa_core::master::Event;
use wa_core::opinion::Said;
use wa_core::reason::Reason;
use wa_core::wire::{Body, Nudge};

use crate::log::message_id;

/// The journal's name of a decision, where it has one.
pub fn message_of(what: &str, reason: Reason) -> Option<&'static str> {
    Some(match what {
        "primary" => message_id::LEASE_WON,
        "secondary" if matches!(reason, Reason::LeaseExpired | Reason::LeaseLost) => {
            message_id::LEASE_LOST
        }
        "secondary" => message_id::LEASE_RELEASED,
        "handover" => message_id::FAILOVER_DECIDED,
        _ if matches!(
            reason,
            Reason::AntiFlap | Reason::NoStandby | Reason::NoGatedStandby
        ) =>
        {
            message_id::FAILOVER_BLOCKED
        }
        _ => return None,
    })
}

/// What a datagram means to the core, if it is for masters.
pub fn event_of(from: NodeId, incarnation: Incarnation, body: Body) -> Option<Event> {
    Some(match body {
        Body::Opinions {
            term,
            lateness_ms,
            heard,
            opinions,
            ..
        } => Event::Opinions {
            from,
            said: Said {
                term,
                lateness_ms,
                heard,
                opinions,
            },
        },
        Body::Receipt(receipt) => Event::Receipt((from, incarnation), receipt),
        Body::Ended {
            shard,
            epoch,
            grant,
        } => Event::Ended {
            from,
            incarnation,
            shard,
            epoch,
            grant,
        },
        Body::Quiesced {
            shard,
            epoch,
            grant,
        } => Event::Quiesced {
            from,
            shard,
            epoch,
            grant,
        },
        Body::Ask {
            shard,
            epoch,
            grant,
        } => Event::Ask {
            from,
            shard,
            epoch,
            grant,
        },
        Body::Nudge(Nudge::ShardMap) => Event::Nudged,
        // Said by masters to others, or taken in before it comes here. Settings are read again and again anyhow.
        Body::Nudge(Nudge::Settings)
        | Body::Ping { .. }
        | Body::Answer { .. }
        | Body::Fence { .. }
        | Body::Quiesce { .. } => return None,
    })
}

#[cfg(test)]
mod tests {
    use wa_core::id::{Epoch, Grant, Nonce, ShardId};
    use wa_core::wire::Receipt;

    use super::*;

    /// Goal: the core learns who sent a receipt: any host agent can sign one (attack 42). Method: a receipt for a node of one machine
    /// from the host agent of another.
    #[test]
    fn a_receipt_comes_with_who_sent_it() {
        let start = Incarnation {
            counter: 3,
            random: 9,
        };
        let receipt = Receipt {
            machine_id: 1,
            boot_id: 2,
            invocation: 3,
            node: NodeId::new("a:coreapp-1"),
            incarnation: Incarnation::default(),
            shard: ShardId(0),
            epoch: Epoch(1),
            grant: Grant(1),
            seal: Epoch(2),
            nonce: Nonce(0),
            sealed: true,
            cgroup_empty: true,
        };
        let from = NodeId::new("b:host-1");
        let event = event_of(from.clone(), start, Body::Receipt(receipt.clone()));
        assert_eq!(event, Some(Event::Receipt((from, start), receipt)));
    }
}
