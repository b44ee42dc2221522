//! What is in a backup comes back whole, into another cluster too; nothing but its password opens it.

use std::time::Duration;

use secrecy::ExposeSecret as _;
use serde_json::json;

use super::*;
use crate::api::provider::{Credentials, Provider};
use crate::api::v1::backup::{Cost, SALT_LEN};
use crate::config::{DatabaseSettings, Replication};
use crate::member::{provider, settings};

struct Bench {
    db: Db,
    keys: Keys,
    _directory: tempfile::TempDir,
}

async fn bench(key: &str) -> Bench {
    let directory = tempfile::tempdir().expect("a directory");
    let settings = DatabaseSettings {
        urls: vec![format!("sqlite://{}/wa.db", directory.path().display())],
        logins: Default::default(),
        replication: Replication::Auto,
        ssl_ca: None,
        ssl_cert: None,
        ssl_key: None,
        connect_timeout: Duration::from_secs(5),
        busy_timeout: Duration::from_secs(5),
    };
    let db = Db::connect(&settings, 2).await.expect("connected");
    db.ensure_lease_table().await.expect("made");
    db.migrate().await.expect("made");
    Bench {
        db,
        keys: Keys::new(key.as_bytes()),
        _directory: directory,
    }
}

fn blank() -> Blob {
    Blob {
        cost: Cost::NEW,
        salt: [1; SALT_LEN],
        nonce: [0; NONCE_LEN],
        ciphertext: vec![0; 16],
    }
}

fn key(byte: u8) -> PasswordKey {
    PasswordKey::new([byte; 32])
}

fn user(name: &str, salt: &str) -> User {
    User {
        username: name.into(),
        password_hash: format!(
            "$argon2id$v=19$m=19456,t=2,p=1${salt}$w0z2vLSBOlC2qBHrBLdIiAgN2iE7WRZVGB+l24cjvn8"
        ),
        admin: i64::from(name == "admin"),
        must_change: 0,
    }
}

async fn filled(bench: &Bench) {
    let sent = External::sealed(&bench.keys, "the chain".into(), "the private key");
    let trusted = WebhookCa {
        certificates: "the authorities".into(),
    };
    let rows = [
        (
            CERTIFICATE_EXTERNAL,
            settings::text_of(&sent.expect("sealed")),
        ),
        (WEBHOOK_CA, settings::text_of(&trusted)),
    ];
    for (name, text) in rows {
        assert!(
            bench
                .db
                .store_setting(name, 0, &text)
                .await
                .expect("stored")
        );
    }
    let row = json!({"webhooks": {"url": "https://business.example/hook"}});
    assert!(
        bench
            .db
            .store_setting(APPLICATION, 0, &row.to_string())
            .await
            .expect("stored")
    );
    let secret = Provider {
        credentials: Credentials::Bearer("token-of-the-provider".into()),
        hosts: vec!["cdn.example".into()],
    };
    let sealed = provider::seal(&bench.keys, "cdn", &secret).expect("sealed");
    let strange = provider::seal(&Keys::new(b"a key of nobody here, long"), "lost", &secret);
    let row = json!({"providers": {"cdn": sealed, "lost": strange.expect("sealed")}});
    assert!(
        bench
            .db
            .store_setting(MEDIA_PROVIDERS, 0, &row.to_string())
            .await
            .expect("stored")
    );
    for name in ["admin", "bot1", "bot2"] {
        assert!(
            bench
                .db
                .create_user(&user(name, "c29tZXNhbHQ"))
                .await
                .expect("stored")
        );
    }
}

async fn provider_of(bench: &Bench, name: &str) -> Result<Provider, SealError> {
    let (_, text) = bench.db.setting(MEDIA_PROVIDERS).await.expect("read");
    let row: Providers = serde_json::from_str(&text).expect("readable");
    provider::open(&bench.keys, name, &row.providers[name])
}

/// Goal: a backup of one cluster gives another, with another key, the same settings, users and secrets; a secret that did not open
/// there stays lost and keeps nothing else. Method: made here, restored there.
#[tokio::test]
async fn a_backup_moves_to_another_cluster() {
    let (from, to) = (
        bench("the key of one cluster, long").await,
        bench("the key of another, long").await,
    );
    filled(&from).await;
    assert!(
        to.db
            .create_user(&user("admin", "b3RoZXJzYWx0"))
            .await
            .expect("stored")
    );
    let blob = make(&from.db, &from.keys, &key(7), blank())
        .await
        .expect("made");
    let text = blob.to_string();
    assert!(!text.contains("token-of") && text.starts_with("wa-agent-backup.v1."));
    let blob = Blob::parse(&text).expect("its own form");
    restore(&to.db, &to.keys, (&key(7), &blob), "admin")
        .await
        .expect("restored");
    assert_eq!(
        to.db.setting(APPLICATION).await.expect("read").1,
        from.db.setting(APPLICATION).await.expect("read").1
    );
    let opened = provider_of(&to, "cdn").await.expect("opened");
    assert_eq!(
        opened.credentials,
        Credentials::Bearer("token-of-the-provider".into())
    );
    assert_eq!(opened.hosts, ["cdn.example"]);
    assert!(provider_of(&to, "lost").await.is_err());
    let sent = settings::read::<External>(&to.db).await.expect("read");
    let sent = sent.or_default();
    let private = sent.open(&to.keys).expect("every webapp opens it");
    assert_eq!(
        (sent.certificate.as_str(), private.as_str()),
        ("the chain", "the private key")
    );
    let trusted = settings::read::<WebhookCa>(&to.db).await.expect("read");
    assert_eq!(trusted.or_default().certificates, "the authorities");
    let users = to.db.users().await.expect("read");
    let names: Vec<&str> = users.iter().map(|user| user.username.as_str()).collect();
    assert_eq!(names, ["admin", "bot1", "bot2"]);
    assert!(
        users[0].password_hash.contains("b3RoZXJzYWx0"),
        "whoever asked keeps the password"
    );
    assert!(users[1].password_hash.contains("c29tZXNhbHQ"));
}

/// Goal: another password, and anything that was changed in the text, opens nothing and changes nothing. Method: another key; each
/// character of the text replaced in turn.
#[tokio::test]
async fn only_its_password_opens_a_backup() {
    let bench = bench("the key of one cluster, long").await;
    filled(&bench).await;
    let blob = make(&bench.db, &bench.keys, &key(7), blank())
        .await
        .expect("made");
    let before = bench.db.setting(APPLICATION).await.expect("read");
    let wrong = restore(&bench.db, &bench.keys, (&key(8), &blob), "admin").await;
    assert!(matches!(wrong, Err(BackupError::Password)), "{wrong:?}");
    let text = blob.to_string();
    let mut refused = 0;
    for at in 0..text.len() {
        let mut changed = text.clone().into_bytes();
        changed[at] = if changed[at] == b'A' { b'B' } else { b'A' };
        let changed = String::from_utf8(changed).expect("ASCII");
        if let Ok(changed) = Blob::parse(&changed) {
            assert!(
                matches!(open(&key(7), &changed), Err(BackupError::Password)),
                "{at}"
            );
            refused += 1;
        }
    }
    assert!(refused > 100, "{refused} reached the cipher");
    assert_eq!(bench.db.setting(APPLICATION).await.expect("read"), before);
}

/// Goal: a document that this product would not have made is refused whole, though its password is right. Method: a costly
/// password hash, a name that cannot be, a row that cannot be read, a secret without a place; then settings of a newer release,
/// which are left out.
#[tokio::test]
async fn strange_documents_are_refused_whole() {
    let bench = bench("the key of one cluster, long").await;
    filled(&bench).await;
    let good = |name: &str| json!({"username": name, "password_hash": user(name, "c29tZXNhbHQ").password_hash, "admin": false, "must_change": false});
    let hashed = |hash: &str| json!({"username": "bot9", "password_hash": hash, "admin": false, "must_change": false});
    let whole = user("bot9", "c29tZXNhbHQ").password_hash;
    let (head, output) = whole.rsplit_once('$').expect("an output");
    let strange = [
        whole.replace("m=19456", "m=4194304"),
        whole.replace("t=2", "t=4294967295"),
        whole.replace("p=1", "p=4294967295"),
        whole.replace("p=1", "p=16"),
        whole.replace("argon2id", "argon2i"),
        whole.replace("v=19", "v=16"),
        head.to_owned(),
        format!("{}${output}", head.replace("$c29tZXNhbHQ", "")),
        head.replace("$c29tZXNhbHQ", ""),
    ];
    for hash in &strange {
        assert!(!may_be_checked(hash), "{hash}");
    }
    assert!(may_be_checked(&whole));
    let row = |name: &str, value: Value, secrets: Value| json!({"name": name, "value": value, "secrets": secrets});
    let secret = json!([{"at": "providers/cdn/sealed", "webapps": false, "secret": "AAAA"}]);
    for (rows, users) in [
        (json!([]), json!([hashed(&strange[0])])),
        (json!([]), json!([hashed(&strange[1])])),
        (json!([]), json!([hashed(head)])),
        (json!([]), json!([good("b ad")])),
        (
            json!([row(APPLICATION, json!({"webhooks": 7}), json!([]))]),
            json!([]),
        ),
        (json!([row(MEDIA_PROVIDERS, json!({}), secret)]), json!([])),
    ] {
        let document = json!({"release": "9", "rows": rows, "users": users});
        let blob = close(&key(7), blank(), document.to_string().as_bytes()).expect("closed");
        let done = restore(&bench.db, &bench.keys, (&key(7), &blob), "admin").await;
        assert!(
            matches!(done, Err(BackupError::Content(_))),
            "{document}: {done:?}"
        );
        assert_eq!(bench.db.users().await.expect("read").len(), 3);
    }
    let rows = json!([row("of a newer release", json!({"a": 1}), json!([]))]);
    let document = json!({"release": "9", "rows": rows, "users": [good("bot1")], "more": 1});
    let blob = close(&key(7), blank(), document.to_string().as_bytes()).expect("closed");
    restore(&bench.db, &bench.keys, (&key(7), &blob), "admin")
        .await
        .expect("restored");
    assert_eq!(
        bench.db.users().await.expect("read").len(),
        2,
        "admin and bot1"
    );
    assert_eq!(
        bench
            .db
            .setting("of a newer release")
            .await
            .expect("read")
            .0,
        0
    );
}

/// Goal: a secret for every role comes back for every role. Method: a row with one, there and back.
#[test]
fn secrets_of_both_sorts_come_back() {
    let keys = Keys::new(b"the key of one cluster, long");
    let place = Place::setting("certificate", "key");
    let sealed = keys.seal(Seal::Webapp, &place, b"pem").expect("sealed");
    let text = json!({"key": sealed, "chain": "v1.x"}).to_string();
    let row = row(&keys, "certificate", &text).expect("read");
    assert_eq!(row.value, json!({"key": null, "chain": "v1.x"}));
    let other = Keys::new(b"the key of another cluster, long");
    let again: Value =
        serde_json::from_str(&sealed_again(&other, &row).expect("sealed")).expect("JSON");
    let sealed = again["key"].as_str().expect("a text");
    let opened = other.open(Seal::Webapp, &place, sealed).expect("opened");
    assert_eq!(opened.expose_secret(), b"pem");
}

/// Goal: a backup without a certificate takes none away, for clients trust the one that is shown; one with a certificate puts that
/// into force. Method: a cluster to which one was sent, and backups of two others.
#[tokio::test]
async fn a_backup_without_a_certificate_takes_none_away() {
    let (empty, whole, here) = (
        bench("key one").await,
        bench("key two").await,
        bench("key three").await,
    );
    filled(&whole).await;
    let sent = External::sealed(&here.keys, "the chain of here".into(), "its key").expect("sealed");
    let text = settings::text_of(&sent);
    assert!(
        here.db
            .store_setting(CERTIFICATE_EXTERNAL, 0, &text)
            .await
            .expect("stored")
    );
    for (from, chain) in [(&empty, "the chain of here"), (&whole, "the chain")] {
        let blob = make(&from.db, &from.keys, &key(1), blank())
            .await
            .expect("made");
        restore(&here.db, &here.keys, (&key(1), &blob), "admin")
            .await
            .expect("restored");
        let row = settings::read::<External>(&here.db)
            .await
            .expect("read")
            .or_default();
        assert_eq!(row.certificate, chain);
        row.open(&here.keys).expect("it opens");
    }
}
