//! Tests of what wraps every call, over real connections: the probe of a load balancer, our own version, and who a proxy says
//! that its client is.

use crate::db::user::User;
use std::net::SocketAddr;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::tests::{Bench, bench, bench_set};
use crate::net::server::{self, Public};

/// A server of this webapp that trusts these proxies.
async fn serve(bench: &Bench, proxies: &[&str]) -> (SocketAddr, DropGuard) {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = server::listen("test", at).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let public = Public {
        proxies: proxies
            .iter()
            .map(|p| p.parse().expect("a network"))
            .collect(),
        ..Public::default()
    };
    tokio::spawn(server::serve_with(
        listener,
        bench.router(),
        public,
        stop.clone(),
    ));
    (address, stop.drop_guard())
}

/// Everything that is answered to these bytes.
async fn ask(address: SocketAddr, bytes: &[u8]) -> String {
    let mut client = TcpStream::connect(address).await.expect("connected");
    client.write_all(bytes).await.expect("sent");
    let mut answer = String::new();
    let end = client.read_to_string(&mut answer);
    let end = tokio::time::timeout(std::time::Duration::from_secs(10), end).await;
    end.expect("in time").expect("answered");
    answer
}

/// Goal: both forms of a load balancer's probe are answered 200 without a login, and say what really answers; `meta.version`
/// is the reference client's. Method: the bytes that such probes send.
#[tokio::test]
async fn probes_are_answered_without_a_login() {
    let bench = bench().await;
    let (address, _stop) = serve(&bench, &[]).await;
    for probe in [
        "GET / HTTP/1.0\r\n\r\n",
        "HEAD / HTTP/1.0\r\n\r\n",
        "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
        "HEAD / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n",
    ] {
        let answer = ask(address, probe.as_bytes()).await;
        let (head, body) = answer.split_once("\r\n\r\n").expect("a head");
        assert!(
            head.starts_with("HTTP/1.") && head.contains(" 200 OK"),
            "{answer}"
        );
        let ours = format!("\r\nserver: wa-agent/{}\r\n", env!("CARGO_PKG_VERSION"));
        assert!(
            format!("{head}\r\n").to_lowercase().contains(&ours),
            "{head}"
        );
        if probe.starts_with("GET") {
            let meta = r#"{"meta":{"api_status":"stable","version":"v2.57.2"}}"#;
            assert_eq!(body, meta);
        } else {
            assert_eq!(body, "");
        }
    }
    // Whatever is refused says it, too.
    let refused = ask(address, b"GET /v1/nothing HTTP/1.0\r\n\r\n").await;
    assert!(
        refused.to_lowercase().contains("server: wa-agent/"),
        "{refused}"
    );
}

/// A login with a wrong password, behind these bytes and with this header.
async fn guess(address: SocketAddr, before: &[u8], header: &str) -> u16 {
    let basic = BASE64_STANDARD.encode("admin:guess");
    let request = format!(
        "POST /v1/users/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-length: 0\r\nauthorization: Basic {basic}\r\n{header}\r\n"
    );
    let answer = ask(address, &[before, request.as_bytes()].concat()).await;
    let status = answer.split(' ').nth(1).expect("a status");
    status.parse().expect("a number")
}

/// The administrator has chosen a password: from elsewhere the first one is not even looked at.
async fn chosen(bench: &Bench) {
    let hash = bench.webapp.passwords.hash("Abcdef1!").await;
    let admin = User {
        username: "admin".into(),
        password_hash: hash.expect("hashed"),
        admin: 1,
        must_change: 0,
    };
    assert!(bench.db.create_user(&admin).await.expect("made"));
}

/// A header of the PROXY protocol for this client.
fn proxied(client: [u8; 4]) -> Vec<u8> {
    let mut bytes = b"\r\n\r\n\0\r\nQUIT\n\x21\x11\0\x0c".to_vec();
    bytes.extend(client);
    bytes.extend([127, 0, 0, 1, 0x9c, 0x40, 0x23, 0x82]);
    bytes
}

/// Goal: behind a listed proxy failures count for the client, by either way of naming it; what a stranger writes counts for
/// the stranger. Method: one client fails five times and is refused then; another one is looked at.
#[tokio::test]
async fn behind_a_listed_proxy_the_source_is_the_client() {
    let bench = bench().await;
    chosen(&bench).await;
    let (trusted, _stop) = serve(&bench, &["127.0.0.0/8"]).await;
    for _ in 0..5 {
        assert_eq!(guess(trusted, &proxied([203, 0, 113, 1]), "").await, 401);
    }
    assert_eq!(guess(trusted, &proxied([203, 0, 113, 1]), "").await, 429);
    assert_eq!(guess(trusted, &proxied([203, 0, 113, 2]), "").await, 401);
    // Without a header of that protocol the connection is served as well.
    assert_eq!(guess(trusted, b"", "").await, 401);
    let (stranger, _stop) = serve(&bench, &["192.0.2.0/24"]).await;
    let forged = guess(stranger, &proxied([203, 0, 113, 9]), "").await;
    assert_eq!(forged, 400, "the header is no request");
}

/// The same by X-Forwarded-For: the list of the settings decides.
#[tokio::test]
async fn forwarded_for_names_the_client_of_a_listed_proxy_only() {
    let listed = bench_set("trusted_proxies = [\"127.0.0.0/8\"]").await;
    chosen(&listed).await;
    let (address, _stop) = serve(&listed, &[]).await;
    let by = |client: &str| format!("x-forwarded-for: 6.6.6.6, {client}\r\n");
    for _ in 0..5 {
        assert_eq!(guess(address, b"", &by("203.0.113.1")).await, 401);
    }
    assert_eq!(guess(address, b"", &by("203.0.113.1")).await, 429);
    assert_eq!(guess(address, b"", &by("203.0.113.2")).await, 401);
    let unlisted = bench().await;
    chosen(&unlisted).await;
    let (address, _stop) = serve(&unlisted, &[]).await;
    for n in 0..5 {
        assert_eq!(
            guess(address, b"", &by(&format!("203.0.113.{n}"))).await,
            401
        );
    }
    assert_eq!(guess(address, b"", &by("203.0.113.77")).await, 429);
}
