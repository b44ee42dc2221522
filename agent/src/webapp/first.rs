//! The administrator's first password: the one that `setup` was told, or the documented one, which counts on the cluster's own
//! machines only and until the first login.
//! Checks no password: `password.rs` does.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::http::HeaderMap;
use ipnet::IpNet;
use secrecy::ExposeSecret as _;

use super::answer::database;
use super::homes;
use super::state::Webapp;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::user::{ADMIN, ADMIN_FIRST_PASSWORD};
use crate::db::Db;
use crate::db::user::User;
use crate::log::seldom;
use crate::net::proxy::listed;
use crate::net::source;
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
    let made = db.create_user(&first).await.map_err(|e| database(&e))?;
    // Another webapp, which does not have the chosen one, may have been quicker.
    if !made && first.must_change == 0 {
        let chosen = db.choose_first_password(ADMIN, &first.password_hash).await;
        chosen.map_err(|e| database(&e))?;
    }
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
fn is_own(peer: IpAddr, headers: &HeaderMap, proxies: &[IpNet], nodes: &[IpAddr]) -> bool {
    let source = source::of(headers, peer, proxies);
    let for_another = OF_PROXIES.iter().any(|name| headers.contains_key(*name));
    let by_a_stranger = for_another && !listed(peer, proxies);
    // A proxy that names no client speaks for anybody.
    let unnamed = listed(source, proxies);
    !by_a_stranger && !unnamed && (source.is_loopback() || nodes.contains(&source))
}

/// Refuses the documented first password where it does not count.
///
/// # Errors
/// 1005 with 403 from elsewhere; when the database does not answer.
pub async fn admit(
    webapp: &Webapp,
    db: &Db,
    (peer, headers): (IpAddr, &HeaderMap),
) -> Result<(), ApiError> {
    let own = homes::of(db, &webapp.settings).await;
    let own = own.map_err(|e| database(&e))?;
    let proxies = &webapp.settings.trusted_proxies;
    if is_own(peer, headers, proxies, &own) {
        return Ok(());
    }
    // Everybody knows that password, and may try it as often as he likes.
    let source = source::of(headers, peer, proxies);
    seldom!(tracing::warn!(
        %source,
        "somebody from elsewhere tried to log in as {ADMIN}, whose first password counts on the cluster's own machines only: change it \
         now (wa-agent doctor says how)"
    ));
    Err(ApiError::with(
        Code::AccessDenied,
        "The first password counts on the cluster's own machines only: log in there once, with new_password, and not through a proxy",
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
        let proxy = ["10.0.0.5/32".parse::<IpNet>().expect("a network")];
        let own_proxy = ["127.0.0.1/32".parse::<IpNet>().expect("a network")];
        for (peer, header, proxies, own) in [
            ("127.0.0.1", None, &[][..], true),
            ("127.8.9.1", None, &[], true),
            ("::1", None, &[], true),
            ("192.0.2.1", None, &[], true),
            ("::ffff:192.0.2.1", None, &[], true),
            ("2001:db8::1", None, &[], true),
            ("192.0.2.2", None, &[], false),
            ("10.0.0.1", None, &[], false),
            ("2001:db8::2", None, &[], false),
            ("0.0.0.0", None, &[], false),
            // A proxy on this machine that [webapp] trusted_proxies does not name, whether it names others or not.
            ("127.0.0.1", Some("x-forwarded-for"), &[], false),
            ("127.0.0.1", Some("forwarded"), &[], false),
            ("127.0.0.1", Some("x-real-ip"), &[], false),
            ("127.0.0.1", Some("x-forwarded-for"), &proxy, false),
            // One that it names says who the client is; if it does not, it is anybody.
            ("10.0.0.5", Some("x-forwarded-for"), &proxy, false),
            ("127.0.0.1", None, &own_proxy, false),
            ("192.0.2.1", None, &own_proxy, true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(name) = header {
                headers.insert(name, "203.0.113.9".parse().expect("plain"));
            }
            let found = is_own(address(peer), &headers, proxies, &nodes);
            assert_eq!(found, own, "{peer} {header:?} {proxies:?}");
        }
        let mut headers = HeaderMap::new();
        headers.insert("x-forwarded-for", "192.0.2.1".parse().expect("plain"));
        assert!(
            is_own(address("10.0.0.5"), &headers, &proxy, &nodes),
            "a node, says a listed proxy"
        );
    }
}
