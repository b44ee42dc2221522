//! The pin of a registration as it is kept between two calls of a person: sealed, so that the database alone does not give it away.
//! Decides nothing about how long it is kept: `wa_core::registration` does.

use secrecy::ExposeSecret as _;

use super::node::Node;
use crate::api::registration::Hidden;
use crate::db::setting::REGISTRATION;
use crate::net::seal::{Place, Seal};

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
