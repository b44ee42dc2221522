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
        Body::Receipt(receipt) => Event::Receipt(receipt),
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
