//! Goal: the way to the database is encrypted where the server can do it, verified where a CA is named, and a setting that
//! cannot work is named in the error. Method: a private MariaDB with a certificate of a CA made here.

use std::path::Path;

use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use wa_agent::db::Db;

use crate::mariadb::{self, Server};
use crate::store::{create_database, settings};

fn ca(name: &str) -> CertifiedIssuer<'static, KeyPair> {
    let mut params = CertificateParams::new(Vec::new()).expect("parameters");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, name);
    CertifiedIssuer::self_signed(params, KeyPair::generate().expect("a key")).expect("a CA")
}

/// A server that has a certificate for 127.0.0.1, and may insist on TLS.
fn server(insist: bool) -> Server {
    server_for(&["127.0.0.1", "localhost"], insist)
}

/// The same with other names in its certificate.
pub fn server_for(names: &[&str], insist: bool) -> Server {
    let directory = mariadb::directory().expect("a directory");
    let ca = ca("wa test CA");
    let key = KeyPair::generate().expect("a key");
    let names: Vec<String> = names.iter().map(ToString::to_string).collect();
    let params = CertificateParams::new(names).expect("parameters");
    let certificate = params.signed_by(&key, &ca).expect("a certificate");
    let at = |name: &str| directory.path().join(name);
    let write = |name: &str, text: String| std::fs::write(at(name), text).expect("written");
    write("ca.pem", ca.pem());
    write("cert.pem", certificate.pem());
    write("key.pem", key.serialize_pem());
    let mut more = vec![
        format!("--ssl-ca={}", at("ca.pem").display()),
        format!("--ssl-cert={}", at("cert.pem").display()),
        format!("--ssl-key={}", at("key.pem").display()),
    ];
    if insist {
        more.push("--require-secure-transport=ON".into());
    }
    Server::start_in(directory, more).expect("a server")
}

async fn cipher(url: &str) -> String {
    let db = Db::connect(&settings(vec![url.to_owned()]), 1).await;
    let Db::MySql(hosts) = db.expect("connected") else {
        unreachable!("a server")
    };
    let row: (String, String) = sqlx::query_as("SHOW SESSION STATUS LIKE 'Ssl_cipher'")
        .fetch_one(&hosts.pool())
        .await
        .expect("a row");
    row.1
}

async fn refusal(urls: Vec<String>, ca: Option<&Path>) -> String {
    let mut settings = settings(urls);
    settings.ssl_ca = ca.map(Path::to_owned);
    let error = Db::connect(&settings, 1).await.err();
    error.expect("it must not connect").brief()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn encrypted_by_default_and_verified_with_a_ca() {
    if let Some(why) = mariadb::missing() {
        return crate::skipped("TLS to the database", &why);
    }
    let server = tokio::task::block_in_place(|| server(false));
    assert_ne!(
        cipher(&server.url("mysql")).await,
        "",
        "TLS without being asked"
    );

    let url = create_database(&server.url("")).await;
    let mut verified = settings(vec![url.clone()]);
    verified.ssl_ca = Some(server.path("ca.pem"));
    Db::connect(&verified, 1)
        .await
        .expect("its own CA verifies it");

    let stranger = server.path("stranger.pem");
    std::fs::write(&stranger, ca("another CA").pem()).expect("written");
    let why = refusal(vec![url.clone()], Some(&stranger)).await;
    assert!(why.contains("ssl_ca"), "{why}");
    let why = refusal(vec![url], Some(Path::new("/nowhere/ca.pem"))).await;
    assert!(
        why.contains("/nowhere/ca.pem") || why.contains("ssl_ca"),
        "{why}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_insists_names_the_setting() {
    if let Some(why) = mariadb::missing() {
        return crate::skipped("a database that insists on TLS", &why);
    }
    let server = tokio::task::block_in_place(|| server(true));
    Db::connect(&settings(vec![server.url("mysql")]), 1)
        .await
        .expect("TLS by default");
    let plain = format!("{}?ssl-mode=DISABLED", server.url("mysql"));
    let why = refusal(vec![plain], None).await;
    assert!(why.contains("WA_DB_SSL_CA"), "{why}");
}
