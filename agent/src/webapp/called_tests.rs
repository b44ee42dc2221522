//! Tests of events that must come with the upstream's own certificate (mTLS), over real TLS.

use std::net::SocketAddr;
use std::sync::Arc;

use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    Issuer, KeyPair,
};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::auth::UPSTREAM_NAME;
use super::tests::{Bench, bench_called, signature};
use crate::net::server::{self, Public};
use crate::net::tls;

/// An authority, and what it signs.
struct Authority {
    pem: String,
    issuer: Issuer<'static, KeyPair>,
}

impl Authority {
    fn new() -> Self {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no name");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let pem = params.self_signed(&key).expect("made").pem();
        let issuer = Issuer::new(params, key);
        Self { pem, issuer }
    }

    /// A client's certificate with this common name, and its key.
    fn client(&self, name: &str) -> (CertificateDer<'static>, PrivateKeyDer<'static>) {
        let mut params = CertificateParams::new(Vec::<String>::new()).expect("no name");
        params.distinguished_name = DistinguishedName::new();
        params.distinguished_name.push(DnType::CommonName, name);
        params.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
        let key = KeyPair::generate().expect("a key");
        let made = params.signed_by(&key, &self.issuer).expect("made");
        let key = PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes());
        (made.der().clone(), key.expect("a key"))
    }
}

async fn serve(bench: &Bench, stop: &CancellationToken) -> (SocketAddr, CertificateDer<'static>) {
    let webapp = &bench.webapp;
    webapp.certificates.start(stop).await;
    let shown = webapp.certificates.shown().expect("TLS");
    let authorities = &webapp.settings.upstream.mtls_authorities;
    let public = Public {
        tls: Some(tls::acceptor(shown, authorities).expect("usable")),
        ..Public::default()
    };
    let at = SocketAddr::from(([127, 0, 0, 1], 0));
    let listener = server::listen("test", at).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(server::serve_with(
        listener,
        bench.router(),
        public,
        stop.clone(),
    ));
    (address, shown.chain().pop().expect("a chain"))
}

/// The status with which a request is answered; 0: there was no connection.
async fn asked(
    (address, own): &(SocketAddr, CertificateDer<'static>),
    client: Option<(CertificateDer<'static>, PrivateKeyDer<'static>)>,
    request: &str,
) -> u16 {
    let mut roots = rustls::RootCertStore::empty();
    roots.add(own.clone()).expect("a certificate");
    let ring = Arc::new(rustls::crypto::ring::default_provider());
    let config = rustls::ClientConfig::builder_with_provider(ring)
        .with_safe_default_protocol_versions()
        .expect("versions")
        .with_root_certificates(roots);
    let config = match client {
        None => config.with_no_client_auth(),
        Some((certificate, key)) => config
            .with_client_auth_cert(vec![certificate], key)
            .expect("a pair"),
    };
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let tcp = TcpStream::connect(address).await.expect("connected");
    let name = ServerName::try_from("localhost").expect("a name");
    let Ok(mut stream) = connector.connect(name, tcp).await else {
        return 0;
    };
    let mut answer = Vec::new();
    if stream.write_all(request.as_bytes()).await.is_err() {
        return 0;
    }
    let _ = stream.read_to_end(&mut answer).await;
    let answer = String::from_utf8_lossy(&answer);
    let status = answer.split(' ').nth(1).and_then(|word| word.parse().ok());
    status.unwrap_or(0)
}

/// Goal: with the upstream's authority configured, events come from the upstream and nobody else, however well they are signed; all
/// other clients are served as before. Method: a signed event over connections with no certificate, with one of another name, with
/// one of another authority, and with the upstream's; the root of the API without a certificate.
#[tokio::test]
async fn events_come_with_the_upstreams_certificate_only() {
    let upstream = Authority::new();
    let place = tempfile::tempdir().expect("a directory");
    let file = place.path().join("ca.pem");
    std::fs::write(&file, &upstream.pem).expect("written");
    let bench = bench_called(&format!("mtls_ca = {file:?}"), "tls = \"self-signed\"").await;
    let stop = CancellationToken::new();
    let server = serve(&bench, &stop).await;
    let body = r#"{"entry":[]}"#;
    let event = format!(
        "POST /cloud/webhook HTTP/1.1\r\nhost: x\r\nconnection: close\r\ncontent-type: application/json\r\n\
         x-hub-signature-256: {}\r\ncontent-length: {}\r\n\r\n{body}",
        signature(body),
        body.len()
    );
    assert_eq!(asked(&server, None, &event).await, 403);
    let other = upstream.client("another.example");
    assert_eq!(asked(&server, Some(other), &event).await, 403);
    let forged = Authority::new().client(UPSTREAM_NAME);
    assert_eq!(asked(&server, Some(forged), &event).await, 0);
    let own = upstream.client(UPSTREAM_NAME);
    assert_eq!(asked(&server, Some(own), &event).await, 200);
    let root = "GET / HTTP/1.1\r\nhost: x\r\nconnection: close\r\n\r\n";
    assert_eq!(asked(&server, None, root).await, 200);
    stop.cancel();
}
