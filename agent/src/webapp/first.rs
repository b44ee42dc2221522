//! The administrator's first password: the one that `setup` was told, or the documented one, which counts on the cluster's own
//! machines only and until the first login.
//! Checks no password: `password.rs` does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use secrecy::ExposeSecret as _;

use super::answer::database;
use super::state::Webapp;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::user::{ADMIN, ADMIN_FIRST_PASSWORD};
use crate::db::Db;
use crate::db::user::User;
use crate::log::seldom;
use crate::sys::clock;

/// Headers by which a proxy says that it speaks for somebody else.
const OF_PROXIES: [&str; 3] = ["forwarded", "x-forwarded-for", "x-real-ip"];
/// How often the row of the administrator is tried while there is no database.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// The hash of the password that `setup` was told; `None`: the documented word.
fn chosen(webapp: &Webapp) -> Option<String> {
    let text = webapp.settings.first_password.now();
    let text = text.expose_secret().trim();
    (!text.is_empty() && text != ADMIN_FIRST_PASSWORD).then(|| text.to_owned())
}

/// Makes the built-in administrator where there is none.
///
/// # Errors
/// When the database does not answer.
pub async fn make_admin(webapp: &Webapp, db: &Db) -> Result<(), ApiError> {
    let (password_hash, must_change) = match chosen(webapp) {
        Some(hash) => (hash, 0),
        None => (webapp.passwords.hash(ADMIN_FIRST_PASSWORD).await?, 1),
    };
    let first = User {
        username: ADMIN.to_owned(),
        password_hash,
        admin: 1,
        must_change,
    };
    // Two webapps at once: one row wins, and both hashes fit the same password.
    db.create_user(&first).await.map_err(|e| database(&e))?;
    Ok(())
}

/// With a chosen password the administrator is made as soon as the database is there: no webapp without that password can make
/// him with the documented one.
pub async fn make_chosen(webapp: Arc<Webapp>) {
    while chosen(&webapp).is_some() && !webapp.stopping.is_cancelled() {
        if let Ok(db) = webapp.db()
            && make_admin(&webapp, &db).await.is_ok()
        {
            return;
        }
        clock::sleep(AGAIN_AFTER).await;
    }
}

/// Whether a client is on a machine of the cluster: what a proxy that is not listed says of its client is nobody's word.
fn is_own(source: IpAddr, headers: &HeaderMap, listed: bool, nodes: &[IpAddr]) -> bool {
    let source = source.to_canonical();
    let by_a_stranger = !listed && OF_PROXIES.iter().any(|name| headers.contains_key(*name));
    !by_a_stranger && (source.is_loopback() || nodes.contains(&source))
}

/// Refuses the documented first password where it does not count.
///
/// # Errors
/// 1005 with 403 from elsewhere; when the database does not answer.
pub async fn admit(
    webapp: &Webapp,
    db: &Db,
    (source, headers): (IpAddr, &HeaderMap),
) -> Result<(), ApiError> {
    let nodes = db.nodes().await.map_err(|e| database(&e))?;
    let address = |node: &crate::db::node::Registered| node.registration.address.parse().ok();
    let mut own: Vec<IpAddr> = nodes.iter().filter_map(address).collect();
    own.push(webapp.settings.advertise);
    let listed = !webapp.settings.trusted_proxies.is_empty();
    if is_own(source, headers, listed, &own) {
        return Ok(());
    }
    // Everybody knows that password, and may try it as often as he likes.
    seldom!(tracing::warn!(
        %source,
        "somebody from elsewhere knew the first password of {ADMIN}, which counts on the cluster's own machines only: change it \
         now (wa-agent doctor says how)"
    ));
    Err(ApiError::with(
        Code::AccessDenied,
        "The first password counts on the cluster's own machines only: log in there once, with new_password",
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the documented password counts from loopback and from machines of the cluster, and for nobody behind a proxy that
    /// nobody listed. Method: a table.
    #[test]
    fn the_documented_password_counts_on_own_machines_only() {
        let address = |text: &str| text.parse::<IpAddr>().expect("an address");
        let nodes = [address("192.0.2.1"), address("2001:db8::1")];
        for (source, header, listed, own) in [
            ("127.0.0.1", "", false, true),
            ("127.8.9.1", "", false, true),
            ("::1", "", false, true),
            ("192.0.2.1", "", false, true),
            ("::ffff:192.0.2.1", "", false, true),
            ("2001:db8::1", "", false, true),
            ("192.0.2.2", "", false, false),
            ("10.0.0.1", "", false, false),
            ("2001:db8::2", "", false, false),
            ("0.0.0.0", "", false, false),
            // A proxy on this machine that [webapp] trusted_proxies does not name.
            ("127.0.0.1", "x-forwarded-for", false, false),
            ("127.0.0.1", "forwarded", false, false),
            ("127.0.0.1", "x-real-ip", false, false),
            // One that it names says who the client is: the source is that client.
            ("192.0.2.1", "x-forwarded-for", true, true),
            ("203.0.113.9", "x-forwarded-for", true, false),
        ] {
            let mut headers = HeaderMap::new();
            if !header.is_empty() {
                let name = axum::http::HeaderName::from_static(header);
                headers.insert(name, "203.0.113.9".parse().expect("plain"));
            }
            let found = is_own(address(source), &headers, listed, &nodes);
            assert_eq!(found, own, "{source} {header} {listed}");
        }
    }
}
