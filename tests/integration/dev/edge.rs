//! The edge of a whole cluster: timers by the API under a failover, one certificate on two webapps, and webhooks to a receiver
//! with a certificate of a company's own authority.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use base64::Engine as _;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use rcgen::{BasicConstraints, CertificateParams, DnType, IsCa, Issuer, KeyPair};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::client::TlsStream;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::{owner, status, status_until};
use crate::drill::{TURN, request};
use crate::media::{Bench, have_curl};

const PATIENCE: Duration = Duration::from_secs(60);
/// What a stored certificate promises.
const IN_FORCE: Duration = Duration::from_secs(2);

fn patch(bench: &Bench, body: &Value) -> (u16, Value) {
    bench.json(
        &["-X", "PATCH", "-d", &body.to_string()],
        "/v1/settings/application",
    )
}

fn intervals(status: &Value) -> (u64, u64) {
    let ms = |key: &str| status[key].as_u64().unwrap_or_default();
    (ms("heartbeat_interval_ms"), ms("unhealthy_interval_ms"))
}

fn told(status: &Value) -> bool {
    status["problems"].to_string().contains("set over the API")
}

/// Goal: an old client that sends the reference's own 5 and 30 makes no takeover slower; a pair that is meant is in force, and
/// told with both takeovers. Method: the intervals in force by `status --json` after each PATCH, and an owner that is killed
/// while 5 and 30 are stored.
#[test]
fn the_references_own_timers_leave_the_profile_in_force() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let fresh = status(&bench.dev);
    let profile = intervals(&fresh);
    assert_eq!(profile, (50, 300));
    let version = fresh["settings_version"].as_u64().expect("a version");
    let (code, said) = patch(
        &bench,
        &json!({"heartbeat_interval": 5, "unhealthy_interval": "30"}),
    );
    assert_eq!(code, 200, "{said}");
    let read = |s: &Value| s["settings_version"].as_u64() > Some(version);
    let stored = status_until(&bench.dev, "read", read);
    assert_eq!(intervals(&stored), profile, "{stored}");
    assert_eq!(stored["timers"]["by_api"], false, "{stored}");
    assert!(!told(&stored), "{stored}");
    let (_, shown) = bench.json(&[], "/v1/settings/application");
    let shown = &shown["settings"]["application"];
    assert_eq!(
        (&shown["heartbeat_interval"], &shown["unhealthy_interval"]),
        (&json!(5), &json!(30))
    );
    assert_eq!(
        shown["effective"],
        json!({"heartbeat_interval": 0.05, "unhealthy_interval": 0.3})
    );

    let before = owner(&stored).expect("an owner");
    let epoch = stored["shards"][0]["epoch"].as_u64().expect("an epoch");
    let instance = before.rsplit('-').next().expect("an instance");
    let number = format!("--instance\0{instance}\0");
    let victim = bench.dev.processes_of("coreapp").into_iter().find(|pid| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline"));
        line.is_ok_and(|line| line.contains(&number))
    });
    let victim = Pid::from_raw(victim.expect("its process"));
    let began = Instant::now();
    kill(victim, Signal::SIGKILL).expect("killed");
    let after = status_until(&bench.dev, "taken over", |s| {
        s["shards"][0]["phase"] == "active" && s["shards"][0]["epoch"].as_u64() > Some(epoch)
    });
    // 30 s would pass before anybody noticed.
    assert!(
        began.elapsed() < Duration::from_secs(20),
        "{:?}",
        began.elapsed()
    );
    assert_eq!(intervals(&after), profile, "{after}");

    a_pair_that_is_meant_is_told(&bench, profile);
}

/// Any other pair is in force, told with both takeovers by status and doctor, and unset by null.
fn a_pair_that_is_meant_is_told(bench: &Bench, profile: (u64, u64)) {
    let (code, said) = patch(
        bench,
        &json!({"heartbeat_interval": 1, "unhealthy_interval": 6}),
    );
    assert_eq!(code, 200, "{said}");
    let meant = status_until(&bench.dev, "in force", |s| intervals(s) == (1000, 6000));
    assert_eq!(meant["timers"]["by_api"], true, "{meant}");
    assert!(
        meant["timers"]["takeover_ms"].as_u64() > Some(8_000),
        "{meant}"
    );
    assert!(
        meant["timers"]["configured_takeover_ms"].as_u64() < Some(3_000),
        "{meant}"
    );
    assert!(told(&meant), "{meant}");
    let (_, doctor) = super::verb(&bench.dev, &["doctor"]);
    assert!(doctor.contains("timers were set over the API"), "{doctor}");
    let (code, said) = patch(
        bench,
        &json!({"heartbeat_interval": null, "unhealthy_interval": null}),
    );
    assert_eq!(code, 200, "{said}");
    let back = status_until(&bench.dev, "back", |s| intervals(s) == profile);
    assert!(!told(&back), "{back}");
}

/// An authority, and a chain with its key for `localhost`.
struct Issued {
    authority: String,
    chain: String,
    key: String,
}

fn issued(common_name: &str) -> Issued {
    let mut params = CertificateParams::default();
    params
        .distinguished_name
        .push(DnType::CommonName, common_name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("made").pem();
    let issuer = Issuer::new(params, key);
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new(["localhost".to_owned()]).expect("a name");
    let server = params.signed_by(&key, &issuer).expect("made").pem();
    Issued {
        chain: format!("{server}{authority}"),
        authority,
        key: key.serialize_pem(),
    }
}

/// A webapp beside those of the cluster, with TLS.
struct Secure {
    child: Child,
    port: u16,
}

impl Drop for Secure {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Secure {
    fn start(bench: &Bench, instance: u16) -> Self {
        let state = bench.dev.directory();
        let text = std::fs::read_to_string(state.join("wa-agent.toml")).expect("a configuration");
        let text = text.replace("[webapp]\n", "[webapp]\ntls = \"self-signed\"\n");
        let file = state.join(format!("secure-{instance}.toml"));
        std::fs::write(&file, text).expect("written");
        let child = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
            .args(["webapp", "--instance", &instance.to_string(), "--config"])
            .arg(&file)
            .stdin(Stdio::null())
            .stderr(
                std::fs::File::create(state.join(format!("secure-{instance}.log"))).expect("a log"),
            )
            .spawn()
            .expect("it starts");
        let port = bench.webapp + instance - 1;
        Self { child, port }
    }

    fn at(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }
}

async fn connect(at: SocketAddr, authority: &str) -> std::io::Result<TlsStream<TcpStream>> {
    let mut roots = rustls::RootCertStore::empty();
    for root in CertificateDer::pem_slice_iter(authority.as_bytes()) {
        roots.add(root.expect("PEM")).expect("an authority");
    }
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let connector = TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from("localhost").expect("a name");
    connector.connect(name, TcpStream::connect(at).await?).await
}

/// Asks on a connection that stays open.
async fn alive(stream: &mut TlsStream<TcpStream>) {
    stream
        .write_all(b"GET / HTTP/1.1\r\nhost: x\r\n\r\n")
        .await
        .expect("sent");
    let mut answer = Vec::new();
    while !answer.ends_with(b"}}") {
        answer.push(stream.read_u8().await.expect("an answer"));
    }
    assert!(answer.starts_with(b"HTTP/1.1 200"));
}

fn written(state: &Path, name: &str, text: &str) -> PathBuf {
    let path = state.join(name);
    std::fs::write(&path, text).expect("written");
    path
}

/// A call over TLS, to whoever shows whatever.
fn secure_curl(bench: &Bench, words: &[&str], port: u16, path: &str) -> String {
    let output = Command::new("curl")
        .args([
            "-sk",
            "-H",
            &format!("Authorization: Bearer {}", bench.token),
        ])
        .args(words)
        .arg(format!("https://127.0.0.1:{port}{path}"))
        .output()
        .expect("curl runs");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// The authority that both webapps tell.
fn common_authority(bench: &Bench, webapps: &[Secure; 2]) -> String {
    const PATH: &str = "/v1/certificates/external/ca";
    let until = Instant::now() + PATIENCE;
    loop {
        let told = webapps
            .each_ref()
            .map(|webapp| secure_curl(bench, &[], webapp.port, PATH));
        if told[0].contains("BEGIN CERTIFICATE") && told[0] == told[1] {
            return told[0].clone();
        }
        assert!(Instant::now() < until, "no common authority: {told:?}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// The authority of what was sent is told, and its key lies in no store.
fn told_and_sealed(bench: &Bench, port: u16, sent: &Issued) {
    let told = secure_curl(bench, &[], port, "/v1/certificates/external/ca");
    assert_eq!(
        told.replace(['\r', '\n'], ""),
        sent.authority.replace(['\r', '\n'], "")
    );
    let database = std::fs::read(bench.dev.directory().join("wa.db")).expect("a store");
    let text = String::from_utf8_lossy(&database);
    assert!(
        !text.contains("BEGIN PRIVATE KEY"),
        "a private key lies in the store"
    );
}

/// Goal: two webapps show one certificate of the cluster; one that is sent to one of them is shown by both within two seconds,
/// and connections that are open go on. Method: clients that trust one authority only, before and after; what is sent does not
/// fit first.
#[test]
fn a_certificate_is_in_force_on_both_webapps_and_breaks_no_connection() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let webapps = [Secure::start(&bench, 3), Secure::start(&bench, 4)];
    let state = bench.dev.directory();
    let curl = |words: &[&str], port: u16, path: &str| secure_curl(&bench, words, port, path);
    let own = common_authority(&bench, &webapps);
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let mut open = runtime.block_on(async {
        let mut open = Vec::new();
        for webapp in &webapps {
            let mut one = connect(webapp.at(), &own).await.expect("verified");
            alive(&mut one).await;
            open.push(one);
        }
        open
    });

    let (sent, other) = (issued("Company CA"), issued("Other CA"));
    let post = |name: &str, text: &str| {
        let file = format!("@{}", written(&state, name, text).display());
        curl(
            &["--data-binary", &file],
            webapps[0].port,
            "/v1/certificates/external",
        )
    };
    let wrong = post("wrong.pem", &format!("{}{}", sent.chain, other.key));
    assert!(
        wrong.contains("1009") && wrong.contains("private key"),
        "{wrong}"
    );
    let answer = post("right.pem", &format!("{}{}", sent.chain, sent.key));
    assert!(
        answer.contains("meta") && !answer.contains("errors"),
        "{answer}"
    );
    let stored = Instant::now();
    runtime.block_on(async {
        // In force where it was sent, with the answer.
        connect(webapps[0].at(), &sent.authority)
            .await
            .expect("verified");
        while connect(webapps[1].at(), &sent.authority).await.is_err() {
            assert!(
                stored.elapsed() < IN_FORCE,
                "not in force after {:?}",
                stored.elapsed()
            );
        }
        for webapp in &webapps {
            assert!(
                connect(webapp.at(), &own).await.is_err(),
                "the old one is gone"
            );
        }
        for one in &mut open {
            alive(one).await;
        }
    });
    told_and_sealed(&bench, webapps[1].port, &sent);
}

/// A receiver that speaks TLS: how many handshakes failed, and how many events it took.
#[derive(Default)]
struct Receiver {
    failed: AtomicUsize,
    taken: AtomicUsize,
}

async fn receive(listener: TcpListener, acceptor: TlsAcceptor, receiver: Arc<Receiver>) {
    while let Ok((tcp, _)) = listener.accept().await {
        let (acceptor, receiver) = (acceptor.clone(), Arc::clone(&receiver));
        tokio::spawn(async move {
            let Ok(mut stream) = acceptor.accept(tcp).await else {
                receiver.failed.fetch_add(1, Ordering::SeqCst);
                return;
            };
            let mut read = Vec::new();
            while !read.ends_with(b"}") {
                match stream.read_u8().await {
                    Ok(byte) => read.push(byte),
                    Err(_) => break,
                }
            }
            let _ = stream
                .write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
                .await;
            let _ = stream.shutdown().await;
            receiver
                .taken
                .fetch_add(usize::from(!read.is_empty()), Ordering::SeqCst);
        });
    }
}

/// Goal (F10): a receiver with a certificate of a company's own authority gets nothing before that authority is sent, and what
/// waited for it afterwards. Method: a receiver that counts handshakes and events.
#[test]
fn f10_webhooks_go_to_a_receiver_of_an_own_authority() {
    if !have_curl() {
        return;
    }
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::start();
    let company = issued("Company CA");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let receiver = Arc::<Receiver>::default();
    let port = runtime.block_on(async {
        let chain = CertificateDer::pem_slice_iter(company.chain.as_bytes());
        let chain = chain.collect::<Result<Vec<_>, _>>().expect("PEM");
        let key = PrivateKeyDer::from_pem_slice(company.key.as_bytes()).expect("PEM");
        let ring = Arc::new(rustls::crypto::ring::default_provider());
        let config = rustls::ServerConfig::builder_with_provider(ring)
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(chain, key)
            .expect("a pair");
        let listener = TcpListener::bind(("127.0.0.1", 0)).await.expect("a port");
        let port = listener.local_addr().expect("bound").port();
        tokio::spawn(receive(
            listener,
            TlsAcceptor::from(Arc::new(config)),
            Arc::clone(&receiver),
        ));
        port
    });
    let url = format!("https://localhost:{port}/hook");
    let (code, said) = patch(&bench, &json!({"webhooks": {"url": url}}));
    assert_eq!(code, 200, "{said}");
    let picture = base64::prelude::BASE64_STANDARD.encode("a picture");
    let event = json!({"from": "447700900456", "media": {"kind": "image", "mime": "image/png", "base64": picture}});
    request(
        [127, 0, 0, 1],
        bench.simulator,
        "POST /admin/inbound HTTP/1.1",
        &event.to_string(),
    );
    let until = |what: &str, over: &dyn Fn() -> bool| {
        let until = Instant::now() + PATIENCE;
        while !over() {
            assert!(Instant::now() < until, "not {what}");
            std::thread::sleep(Duration::from_millis(20));
        }
    };
    let count = |counter: &AtomicUsize| counter.load(Ordering::SeqCst);
    until("refused", &|| count(&receiver.failed) >= 1);
    assert_eq!(
        count(&receiver.taken),
        0,
        "nobody vouches for the receiver yet"
    );

    let file = format!(
        "@{}",
        written(&bench.dev.directory(), "company.pem", &company.authority).display()
    );
    let (code, said) = bench.json(&["--data-binary", &file], "/v1/certificates/webhooks/ca");
    assert_eq!(code, 200, "{said}");
    until("delivered", &|| count(&receiver.taken) >= 1);
    let (code, said) = bench.json(&["-X", "DELETE"], "/v1/certificates/webhooks/ca");
    assert_eq!(code, 200, "{said}");
    let (code, _) = bench.json(&[], "/v1/certificates/webhooks/ca");
    assert_eq!(code, 404);
}
