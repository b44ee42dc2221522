//! Tests of the certificate of the public port through the router: who may send one, what is shown after it, and how two webapps
//! of one database come to show the same.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::net::server::{self, Public};
use crate::webapp::tests::{Bench, bench, bench_set, code};

const TLS: &str = "tls = \"self-signed\"";

/// A chain with its key, and the authority behind it.
fn issued(name: &str) -> (String, String) {
    let mut params = CertificateParams::new(["Example CA".to_owned()]).expect("a name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let ca = params.self_signed(&key).expect("made").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("a name");
    let server = params.signed_by(&key, &issuer).expect("made").pem();
    (format!("{server}{ca}{}", key.serialize_pem()), ca)
}

fn kept(bench: &Bench) -> &Arc<Keeper> {
    match &bench.webapp.certificates {
        Certificates::Kept(keeper) => keeper,
        Certificates::Off | Certificates::Files(_) => panic!("not kept"),
    }
}

/// A server of this webapp, with what it shows.
async fn serve(bench: &Bench) -> (SocketAddr, DropGuard) {
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = server::listen("test", at).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    let stop = CancellationToken::new();
    let shown = bench.webapp.certificates.shown().expect("TLS");
    let public = Public {
        tls: Some(tls::acceptor(shown).expect("usable")),
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

/// A connection that trusts this authority and asks for this name.
async fn connect(
    address: SocketAddr,
    authority: &str,
    name: &str,
) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for root in certificate::of_text(authority) {
        roots.add(root).expect("an authority");
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(address).await?;
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    connector.connect(name, tcp).await
}

/// Asks for the root on a connection that stays open.
async fn asks(stream: &mut TlsStream<TcpStream>) -> bool {
    let request = b"GET / HTTP/1.1\r\nhost: x\r\n\r\n";
    stream.write_all(request).await.expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"}}") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    answer.starts_with(b"HTTP/1.1 200")
}

async fn call(
    bench: &Bench,
    admin: &str,
    method: &str,
    path: &str,
    body: &str,
) -> (u16, serde_json::Value) {
    let headers = [("authorization", admin), ("content-type", "text/plain")];
    bench.call(method, path, &headers, body).await
}

/// Goal: a certificate that was sent is shown from the next handshake on, an open connection goes on, and the authority that
/// `GET` tells is the one that clients need. Method: a client with one connection across the change, and others before and after.
#[tokio::test]
async fn what_is_sent_is_shown_and_no_connection_breaks() {
    let bench = bench_set(TLS).await;
    let keeper = kept(&bench);
    bench
        .webapp
        .certificates
        .start(&CancellationToken::new())
        .await;
    let admin = bench.admin().await;
    let (address, _stop) = serve(&bench).await;
    const CA: &str = "/v1/certificates/external/ca";
    let (status, own) = call(&bench, &admin, "GET", CA, "").await;
    let own = own.as_str().expect("PEM").to_owned();
    assert_eq!(status, 200);
    let mut open = connect(address, &own, "localhost").await.expect("verified");
    assert!(asks(&mut open).await);

    let (sent, authority) = issued("api.example");
    let (status, body) = call(&bench, &admin, "POST", "/v1/certificates/external", &sent).await;
    assert_eq!(status, 200, "{body}");
    assert!(asks(&mut open).await, "the open connection goes on");
    assert!(connect(address, &own, "localhost").await.is_err());
    connect(address, &authority, "api.example")
        .await
        .expect("verified");
    let (_, told) = call(&bench, &admin, "GET", CA, "").await;
    let der = |pem: &str| certificate::of_text(pem);
    assert_eq!(der(told.as_str().expect("PEM")), der(&authority));
    // The row holds the key, and nobody can read it there.
    let (_, row) = bench.db.setting(External::NAME).await.expect("read");
    assert!(
        !row.contains("PRIVATE") && row.contains("\"key\":\"v1."),
        "{row}"
    );

    // What is refused changes nothing.
    let broken = sent.replace("END PRIVATE", "END NO");
    for (body, status_is) in [
        (broken.as_str(), 400),
        ("", 400),
        (&"x".repeat(70_000), 413),
    ] {
        let (status, answer) =
            call(&bench, &admin, "POST", "/v1/certificates/external", body).await;
        assert_eq!(status, status_is, "{answer}");
        let wanted = if status_is == 400 {
            1009
        } else {
            code(&answer)
        };
        assert_eq!(code(&answer), wanted, "{answer}");
    }
    keeper.look().await;
    connect(address, &authority, "api.example")
        .await
        .expect("as before");
}

/// Goal: two webapps of one database show one certificate, good for the names of both; clients that trust the authority notice
/// nothing when the second one comes; a start without the database shows what was shown last. Method: two keepers on one store.
#[tokio::test]
async fn webapps_share_a_certificate_and_survive_without_the_database() {
    let bench = bench_set(TLS).await;
    let keeper = kept(&bench);
    // As every start has made it.
    std::fs::create_dir_all(keeper.settings.instance_directory()).expect("made");
    keeper.look().await;
    let first = keeper.shown.chain();
    let names = |chain: &[CertificateDer<'_>]| {
        let read = chain.first().and_then(certificate::span_and_names);
        read.expect("readable").1
    };
    assert!(names(&first).contains(&"localhost".to_owned()));
    let other = Keeper {
        settings: Arc::clone(&keeper.settings),
        keys: keeper.keys.clone(),
        names: vec!["web2.example".into()],
        shown: Arc::default(),
        map: Arc::clone(&keeper.map),
        db: Arc::clone(&keeper.db),
        seen: Mutex::default(),
    };
    other.look().await;
    let second = other.shown.chain();
    assert_ne!(second.first(), first.first());
    assert_eq!(second.last(), first.last(), "the authority stays");
    assert!(names(&second).contains(&"web2.example".to_owned()));
    // Both come to rest at the second one.
    for _ in 0..3 {
        keeper.look().await;
        other.look().await;
    }
    assert_eq!(keeper.shown.chain(), second);
    assert_eq!(other.shown.chain(), second);
    let (version, _) = bench.db.setting(OwnRow::NAME).await.expect("read");
    assert_eq!(version, 2);

    let again = Keeper {
        settings: Arc::clone(&keeper.settings),
        keys: keeper.keys.clone(),
        names: Vec::new(),
        shown: Arc::default(),
        map: Arc::clone(&keeper.map),
        db: Arc::default(),
        seen: Mutex::default(),
    };
    again.look().await;
    again.without_database();
    assert_eq!(again.shown.chain(), second);
}

/// Goal: a certificate under a key that is gone is replaced once, and not again and again.
#[tokio::test]
async fn a_row_that_nobody_can_open_is_replaced_once() {
    let bench = bench_set(TLS).await;
    let keeper = kept(&bench);
    let foreign = Keys::new("6b".repeat(32).as_bytes());
    let made = own_certificate::make(None, "shop", &["a.example".into()], now_s()).expect("made");
    let row = OwnRow::sealed(&foreign, &made).expect("sealed");
    let store = async |row: &OwnRow| {
        let text = settings::text_of(row);
        let (version, _) = bench.db.setting(OwnRow::NAME).await.expect("read");
        assert!(
            bench
                .db
                .store_setting(OwnRow::NAME, version, &text)
                .await
                .expect("stored")
        );
    };
    store(&row).await;
    keeper.look().await;
    let shown = keeper.shown.chain();
    assert!(!shown.is_empty() && shown != certificate::of_text(&row.certificate));
    store(&row).await;
    keeper.look().await;
    assert_eq!(keeper.shown.chain(), shown, "the last one stays");
    let (version, _) = bench.db.setting(OwnRow::NAME).await.expect("read");
    assert_eq!(version, 3, "nobody has replaced it again");
}

/// Goal: where the configuration has the say, nobody is told that a certificate is in force; authorities of webhook servers are
/// kept, told and deleted, and what vouches for nobody is refused.
#[tokio::test]
async fn the_configuration_wins_and_webhook_authorities_are_kept() {
    let bench = bench().await;
    let admin = bench.admin().await;
    let (sent, authority) = issued("api.example");
    let (status, body) = call(&bench, &admin, "POST", "/v1/certificates/external", &sent).await;
    assert_eq!((status, code(&body)), (403, 1005));
    let (status, body) = call(&bench, &admin, "GET", "/v1/certificates/external/ca", "").await;
    assert_eq!((status, code(&body)), (404, 1006));

    const CA: &str = "/v1/certificates/webhooks/ca";
    let (status, body) = call(&bench, &admin, "GET", CA, "").await;
    assert_eq!((status, code(&body)), (404, 1006));
    let (status, body) = call(&bench, &admin, "POST", CA, "no certificate").await;
    assert_eq!((status, code(&body)), (400, 1009));
    let (status, _) = call(&bench, &admin, "POST", &format!("{CA}/"), &authority).await;
    assert_eq!(status, 200);
    let (status, told) = call(&bench, &admin, "GET", CA, "").await;
    assert_eq!(status, 200);
    assert_eq!(
        certificate::of_text(told.as_str().expect("PEM")),
        certificate::of_text(&authority)
    );
    for _ in 0..2 {
        let (status, _) = call(&bench, &admin, "DELETE", CA, "").await;
        assert_eq!(status, 200);
        let (status, _) = call(&bench, &admin, "GET", CA, "").await;
        assert_eq!(status, 404);
    }
}
