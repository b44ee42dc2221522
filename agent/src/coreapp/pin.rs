//! The pin of a registration as it is kept between two calls of a person: sealed, so that the database alone does not give it away.
//! Decides nothing about how long it is kept: `wa_core::registration` does.

use secrecy::ExposeSecret as _;
use wa_core::registration::{Intent, Pin};

use super::node::Node;
use crate::api::registration::Hidden;
use crate::db::setting::REGISTRATION;
use crate::net::seal::{Place, Seal, Sealed};

/// Where it stands in the row.
fn place() -> Place<'static> {
    Place::setting(REGISTRATION, "pin")
}

/// Seals a pin; `None`: it cannot be kept, and is used at once or asked for again.
pub fn seal(node: &Node, pin: &Hidden) -> Option<String> {
    let sealed = node.keys.seal(Seal::Owner, &place(), pin.0.as_bytes());
    sealed
        .inspect_err(|error| tracing::warn!(%error, "the pin of the registration is not kept"))
        .ok()
}

/// Opens a pin that was kept; `None`: its key is gone, and the pin is asked for again.
pub fn open(node: &Node, sealed: &str) -> Option<Hidden> {
    let opened = node.keys.open(Seal::Owner, &place(), sealed);
    let opened = opened
        .inspect_err(
            |error| tracing::warn!(%error, "the pin of the registration is asked for again"),
        )
        .ok()?;
    String::from_utf8(opened.expose_secret().clone())
        .ok()
        .map(Hidden)
}

/// The intent with its pin under the key that signs. One that does not open stays as it is: it is asked for again.
pub fn renewed(node: &Node, intent: &Intent) -> Intent {
    let sealed_anew = |pin: &Pin| {
        let sealed = Sealed::parse(&pin.sealed)?;
        if node.keys.sealed_newest(&sealed) {
            return None;
        }
        let sealed = seal(node, &open(node, &pin.sealed)?)?;
        Some(Pin {
            sealed,
            at_ms: pin.at_ms,
        })
    };
    let anew = intent.pin.as_ref().and_then(sealed_anew);
    Intent {
        pin: anew.or_else(|| intent.pin.clone()),
        ..intent.clone()
    }
}
