//! An upstream with a certificate of an authority that nobody else knows. Goal: it is reached with `[upstream] ca`, and not
//! without. Method: the small upstream behind TLS.

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls_pki_types::CertificateDer;

use super::*;
use crate::net::certificate;
use crate::net::server::{self, Public};
use crate::net::tls::{self, Shown};

/// The small upstream over TLS, and the authority of its certificate.
async fn behind_tls(
    stop: &CancellationToken,
) -> (Outside, SocketAddr, Vec<CertificateDer<'static>>) {
    let mut params = CertificateParams::new(Vec::<String>::new()).expect("no name");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = params.self_signed(&key).expect("made").der().clone();
    let issuer = Issuer::new(params, key);
    let names = CertificateParams::new(vec!["127.0.0.1".to_owned()]).expect("an address");
    let key = KeyPair::generate().expect("a key");
    let made = names.signed_by(&key, &issuer).expect("made");
    let shown = Arc::new(Shown::default());
    let pair = certificate::certified(&made.pem(), key.serialize_pem().as_bytes());
    shown.show(pair.expect("a pair"));
    let public = Public {
        tls: Some(tls::acceptor(&shown, &[]).expect("usable")),
        ..Public::default()
    };
    let seen = Outside::default();
    let at = SocketAddr::from((Ipv4Addr::LOCALHOST, 0));
    let listener = server::listen("test", at).await.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(server::serve_with(
        listener,
        router(&seen),
        public,
        stop.clone(),
    ));
    (seen, address, vec![authority])
}

async fn cluster(at: (Outside, SocketAddr), authorities: &[CertificateDer<'static>]) -> Cluster {
    let (url, authorities) = (format!("https://{}", at.1), authorities.to_vec());
    let cluster = Cluster::start_at(json!({}), at, |settings| {
        settings.upstream.base_url = url;
        settings.upstream.authorities = authorities;
    });
    let cluster = cluster.await;
    let message = request(vec![message("m", "hello")]);
    cluster.accept_owned(&message).await;
    cluster
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_with_its_own_authority_is_reached_with_the_key() {
    let stop = CancellationToken::new();
    let (seen, at, authorities) = behind_tls(&stop).await;
    let cluster = cluster((Arc::clone(&seen), at), &authorities).await;
    cluster.state_of("m", MessageState::Sent).await;
    assert_eq!(seen.lock().expect("no panic before").sent["m"], 1);
    stop.cancel();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_upstream_with_its_own_authority_is_not_reached_without_the_key() {
    let stop = CancellationToken::new();
    let (seen, at, _) = behind_tls(&stop).await;
    let cluster = cluster((Arc::clone(&seen), at), &[]).await;
    let Db::Sqlite(pool) = &cluster.db else {
        unreachable!("embedded");
    };
    within(async {
        loop {
            let tries = sqlx::query_as("SELECT SUM(attempts) FROM message");
            let (tries,): (i64,) = tries.fetch_one(pool).await.expect("read");
            if tries >= 2 {
                return;
            }
            clock::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert!(seen.lock().expect("no panic before").sent.is_empty());
    stop.cancel();
}
