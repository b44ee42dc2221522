//! Tests of the certificate of the public port through the router: who may send one, what is shown after it, and how two webapps
//! of one database come to show the same.

use std::future::Future as _;
use std::net::SocketAddr;
use std::sync::Arc;
use std::task::Poll;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::{CertificateDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_rustls::client::TlsStream;
use tokio_util::sync::{CancellationToken, DropGuard};

use super::*;
use crate::net::keys::for_webapps;
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
        tls: Some(
            tls::acceptor(shown, &bench.webapp.settings.upstream.mtls_authorities).expect("usable"),
        ),
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
    let other = another(keeper, keeper.keys.clone(), &["web2.example"]);
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
        db: Arc::default(),
        ..another(keeper, keeper.keys.clone(), &[])
    };
    again.look().await;
    again.without_database();
    assert_eq!(again.shown.chain(), second);
}

/// Another webapp of the same database, with keys and names of its own.
fn another(keeper: &Keeper, keys: Keys, names: &[&str]) -> Keeper {
    Keeper {
        settings: Arc::clone(&keeper.settings),
        keys,
        names: names.iter().map(ToString::to_string).collect(),
        shown: Arc::default(),
        map: Arc::clone(&keeper.map),
        db: Arc::clone(&keeper.db),
        seen: Mutex::default(),
    }
}

/// Goal: a webapp with a wrong key, or of an older release, leaves the cluster's authority alone: it serves what it served last,
/// or something made up, and comes back with the right key. Who empties the row on purpose gets another authority. Method: a row
/// that a webapp has made, and another one that cannot open it; rows that cannot be read; an empty one.
#[tokio::test]
async fn a_row_that_cannot_be_opened_here_is_left_as_it_is() {
    let bench = bench_set(TLS).await;
    let keeper = kept(&bench);
    keeper.look().await;
    let right = keeper.shown.chain();
    let (version, row) = bench.db.setting(OwnRow::NAME).await.expect("read");
    let wrong = another(keeper, Keys::new("6b".repeat(32).as_bytes()), &["web2"]);
    for _ in 0..3 {
        wrong.look().await;
        assert!(wrong.shown.chain().is_empty());
    }
    wrong.without_database();
    let made_up = wrong.shown.chain();
    assert!(!made_up.is_empty() && made_up != right);
    wrong.look().await;
    assert_eq!(wrong.shown.chain(), made_up);
    let now = bench.db.setting(OwnRow::NAME).await.expect("read");
    assert_eq!(now, (version, row), "the row is as it was");

    let store = async |text: &str| {
        let (version, _) = bench.db.setting(OwnRow::NAME).await.expect("read");
        let stored = bench.db.store_setting(OwnRow::NAME, version, text).await;
        assert!(stored.expect("stored"));
    };
    for newer in [
        r#"{"authority":{"of":"a newer release"}}"#,
        r#"{"key":"v2.x"}"#,
    ] {
        store(newer).await;
        keeper.look().await;
        let (_, row) = bench.db.setting(OwnRow::NAME).await.expect("read");
        assert_eq!(row, newer);
        assert_eq!(keeper.shown.chain(), right, "the last one stays");
    }
    store("{}").await;
    keeper.look().await;
    assert_ne!(keeper.shown.chain().last(), right.last());
}

/// Goal: a webapp that cannot seal makes no certificate, and shows what the release before it showed. Method: a line of a key as
/// older releases wrote it, with and without their files.
#[tokio::test]
async fn an_older_part_of_the_key_makes_nothing() {
    let bench = bench_set(TLS).await;
    let keeper = kept(&bench);
    let line = for_webapps("5a".repeat(32).as_bytes());
    let (older, _) = line.trim_end().rsplit_once(' ').expect("words");
    let keys = Keys::new(older.as_bytes());
    assert!(keys.is_older_part());
    let webapp = another(keeper, keys, &[]);
    let said = webapp.judge(Stored::of(0, "{}"), &Wanted::default(), true);
    assert!(matches!(said, Err(Missing::Seal(SealError::OlderPart))));
    webapp.look().await;
    let (version, _) = bench.db.setting(OwnRow::NAME).await.expect("read");
    assert_eq!((version, webapp.shown.chain().len()), (0, 0));
    let own = own_certificate::make(None, "shop", &["old.example".into()], now_s()).expect("made");
    let directory = keeper.settings.instance_directory();
    std::fs::create_dir_all(&directory).expect("made");
    std::fs::write(directory.join(OLDER[0]), &own.certificate).expect("written");
    std::fs::write(directory.join(OLDER[1]), &*own.key).expect("written");
    webapp.without_database();
    assert_eq!(webapp.shown.chain(), certificate::of_text(&own.certificate));
}

/// Goal: names that come one after another do not make one certificate after another; they come with the next one. Method: a
/// webapp that made one a moment ago, and finds another's in its place.
#[tokio::test]
async fn a_webapp_makes_one_for_names_once_in_a_minute() {
    let bench = bench_set(TLS).await;
    let keeper = kept(&bench);
    let other = another(keeper, keeper.keys.clone(), &["web2.example"]);
    keeper.look().await;
    other.look().await;
    let with_both = other.shown.chain();
    let row = own_certificate::make(None, "shop", &["other.example".into()], now_s());
    let row = OwnRow::sealed(&keeper.keys, &row.expect("made")).expect("sealed");
    let (version, _) = bench.db.setting(OwnRow::NAME).await.expect("read");
    let text = settings::text_of(&row);
    let stored = bench.db.store_setting(OwnRow::NAME, version, &text).await;
    assert!(stored.expect("stored"));
    for _ in 0..3 {
        other.look().await;
    }
    let (now, _) = bench.db.setting(OwnRow::NAME).await.expect("read");
    assert_eq!(now, version + 1, "it was not made anew");
    assert_ne!(other.shown.chain(), with_both);
    other.seen.lock().await.made = None;
    other.look().await;
    let names = other.shown.chain();
    let names = names.first().and_then(certificate::span_and_names);
    let names = names.expect("readable").1;
    assert!(names.contains(&"web2.example".into()) && names.contains(&"other.example".into()));
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

/// Goal: the cluster's own certificate is under the key that signs, whenever that changes. Method: the key is replaced at each wait
/// of a webapp that makes the certificate, as a reload does it.
#[tokio::test]
async fn what_is_made_in_the_middle_of_a_rotation_is_under_the_new_key() {
    const OLD: &str = "the key of yesterday, which is long";
    const NEW: &str = "the key of tomorrow, which is long";
    let mut stops = 0;
    for waits in 0.. {
        let bench = bench_set(TLS).await;
        let source = &bench.webapp.settings.cluster_key;
        source.replace(format!("{OLD}\n{NEW}").as_bytes());
        let keeper = kept(&bench);
        let mut work = std::pin::pin!(keeper.look());
        let mut met = 0;
        let ended = std::future::poll_fn(|context| match work.as_mut().poll(context) {
            Poll::Ready(()) => Poll::Ready(true),
            Poll::Pending if met == waits => Poll::Ready(false),
            Poll::Pending => {
                met += 1;
                Poll::Pending
            }
        });
        let ended = ended.await;
        source.replace(format!("{NEW}\n{OLD}").as_bytes());
        if ended {
            break;
        }
        stops += 1;
        work.await;
        let row = settings::read::<OwnRow>(&bench.db).await.expect("read");
        let row = row.or_default();
        assert!(!row.is_empty(), "it was made");
        row.open(&Keys::new(NEW.as_bytes()))
            .expect("under the new key");
    }
    assert!(stops >= 2, "only {stops} waits were met");
}
