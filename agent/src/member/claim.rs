//! Whose the database is, as a node says it that knows the cluster's key.
//! Writes nothing.

use secrecy::ExposeSecret as _;

use crate::config::Settings;
use crate::db::identity::Identity;
use crate::net::keys;

/// The cluster of this configuration, with the print of the key in force.
pub fn cluster_of(settings: &Settings) -> Identity {
    let key = settings.cluster_key.current();
    let print = keys::prints(key.expose_secret()).into_iter().next();
    Identity {
        key_print: print.unwrap_or_default(),
        ..Identity::of(settings)
    }
}
