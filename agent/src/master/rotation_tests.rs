//! A rotation of the cluster key loses no secret, wherever it is stopped. Goal: whatever step a master dies in, and whoever goes
//! on, every secret opens with what every live node holds at that moment, and at the end with the new key alone. Method: real
//! rows; the step that seals anew is dropped at each of its waits in turn, and another master makes it again.

use std::future::Future;
use std::pin::pin;
use std::task::Poll;

use secrecy::ExposeSecret as _;

use super::*;
use crate::api::provider::{Credentials, Provider, Providers};
use crate::api::served::{ProviderWish, ProvidersRequest, Served};
use crate::master::provider;
use crate::member::provider as providers;
use crate::net::seal::{Place, Seal};

const OLD: &str = "the key of yesterday, which is long";
const NEW: &str = "the key of tomorrow, which is long";

async fn store(place: &std::path::Path) -> Db {
    let settings = crate::config::DatabaseSettings {
        urls: vec![format!("sqlite://{}/wa.db", place.display())],
        logins: Default::default(),
        replication: crate::config::Replication::Auto,
        ssl_ca: None,
        ssl_cert: None,
        ssl_key: None,
        connect_timeout: Duration::from_secs(5),
        busy_timeout: Duration::from_secs(5),
    };
    let db = Db::connect(&settings, 2).await.expect("connected");
    db.ensure_lease_table().await.expect("made");
    db.migrate().await.expect("made");
    db
}

fn keys(lines: &[&str]) -> Keys {
    Keys::new(lines.join("\n").as_bytes())
}

fn id(line: &str) -> String {
    crate::net::keys::id_of(line.as_bytes())
}

fn wish(name: &str, token: &str) -> ProvidersRequest {
    let one = ProviderWish {
        name: name.into(),
        credentials: Credentials::Bearer(token.into()),
        hosts: None,
    };
    ProvidersRequest {
        store: vec![one],
        delete: None,
    }
}

fn to(phase: Option<KeysPhase>) -> KeysStep {
    KeysStep {
        from: id(OLD),
        to: id(NEW),
        phase,
        reason: None,
        by: None,
        dry_run: false,
    }
}

/// Every secret opens with these keys: three providers, and one that webapps may read.
async fn all_open(db: &Db, keys: &Keys) {
    let row = settings::read::<Providers>(db).await.expect("read");
    let row = row.value.expect("readable");
    assert_eq!(row.providers.len(), 3);
    for (name, stored) in &row.providers {
        let opened = providers::open(keys, name, stored);
        let provider = opened.unwrap_or_else(|error| panic!("{name}: {error}"));
        let token = Credentials::Bearer(format!("token of {name}"));
        assert_eq!(provider.credentials, token);
    }
    let (_, text) = db.setting("certificate").await.expect("read");
    let text: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let place = Place::setting("certificate", "key");
    let sealed = text["key"].as_str().expect("a text");
    let opened = keys.open(Seal::Webapp, &place, sealed).expect("opened");
    assert_eq!(opened.expose_secret(), b"pem");
}

async fn prepared(db: &Db) {
    let old = keys(&[OLD]);
    for name in ["a", "b", "c"] {
        let wish = wish(name, &format!("token of {name}"));
        assert_eq!(
            provider::change(db, &old, &wish).await.expect("stored"),
            Served::Done
        );
    }
    let place = Place::setting("certificate", "key");
    let key = old.seal(Seal::Webapp, &place, b"pem").expect("sealed");
    let row = serde_json::json!({"key": key}).to_string();
    assert!(
        db.store_setting("certificate", 0, &row)
            .await
            .expect("stored")
    );
    let rotation = KeyRotation(Some(Rotation {
        from: id(OLD),
        to: id(NEW),
        phase: KeysPhase::Send,
    }));
    assert!(
        db.store_setting(KEYS, 0, &settings::text_of(&rotation))
            .await
            .expect("stored")
    );
    all_open(db, &old).await;
}

/// Runs it up to its wait number `waits`, and drops it there. True: it came to its end before.
async fn up_to<F: Future>(waits: usize, work: F) -> bool {
    let mut work = pin!(work);
    let mut met = 0;
    std::future::poll_fn(|context| match work.as_mut().poll(context) {
        Poll::Ready(_) => Poll::Ready(true),
        Poll::Pending if met == waits => Poll::Ready(false),
        Poll::Pending => {
            met += 1;
            Poll::Pending
        }
    })
    .await
}

#[tokio::test]
async fn a_master_that_dies_in_any_step_loses_no_secret() {
    let both = || keys(&[NEW, OLD]);
    let mut stops = 0;
    for waits in 0.. {
        let directory = tempfile::tempdir().expect("a directory");
        let db = store(directory.path()).await;
        prepared(&db).await;
        let roll = std::sync::Mutex::default();
        let live = || (&roll, Duration::from_secs(1));
        let (first, asked) = (both(), to(Some(KeysPhase::Drop)));
        let ended = up_to(waits, step(&db, live(), &first, &asked)).await;
        // Whatever was done, everybody still has both keys.
        all_open(&db, &both()).await;
        let (_, status) = read(&db, live()).await.expect("read");
        let phase = status.rotation.map(|rotation| rotation.phase);
        if phase == Some(KeysPhase::Drop) {
            all_open(&db, &keys(&[NEW])).await;
        }
        // Another master goes on. The statement that was under way may still be on its way: then it is told to ask again.
        let second = both();
        let mut answer = step(&db, live(), &second, &asked).await.expect("read");
        if !answer.accepted {
            answer = step(&db, live(), &second, &asked).await.expect("read");
        }
        assert!(answer.accepted, "{}", answer.message);
        all_open(&db, &keys(&[NEW])).await;
        let over = step(&db, live(), &keys(&[NEW]), &to(None))
            .await
            .expect("read");
        assert!(over.accepted, "{}", over.message);
        all_open(&db, &keys(&[NEW])).await;
        if ended {
            break;
        }
        stops += 1;
    }
    assert!(stops >= 6, "only {stops} steps were stopped");
}

/// Goal: the old key does not go while a secret is under it, and a master that does not sign with the new one yet drops nothing;
/// a row of an unknown key is named and keeps nobody. Method: each of them.
#[tokio::test]
async fn the_old_key_stays_until_nothing_needs_it() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = store(directory.path()).await;
    prepared(&db).await;
    let roll = std::sync::Mutex::default();
    let live = || (&roll, Duration::from_secs(1));
    let asked = to(Some(KeysPhase::Drop));
    let late = keys(&[OLD, NEW]);
    let answer = step(&db, live(), &late, &asked).await.expect("read");
    assert!(
        !answer.accepted && answer.message.contains("does not sign with the key"),
        "{}",
        answer.message
    );
    all_open(&db, &keys(&[OLD])).await;
    let strange = keys(&["a key that nobody here has had, ever"]);
    let place = Place::setting("stray", "pin");
    let stray = strange.seal(Seal::Owner, &place, b"1").expect("sealed");
    let row = serde_json::json!({"pin": stray}).to_string();
    assert!(db.store_setting("stray", 0, &row).await.expect("stored"));
    let answer = step(&db, live(), &keys(&[NEW, OLD]), &asked)
        .await
        .expect("read");
    assert!(answer.accepted, "{}", answer.message);
    assert!(
        answer.message.contains("4 secrets were sealed anew"),
        "{}",
        answer.message
    );
    assert!(
        answer.message.contains("setting/stray/pin"),
        "{}",
        answer.message
    );
    all_open(&db, &keys(&[NEW])).await;
}

/// Goal: what a client sends while the key changes is under the new key, whoever looked at the row meanwhile. Method: the key is
/// replaced between sealing and the end of the write, as a reload does it.
#[tokio::test]
async fn a_secret_that_comes_in_the_middle_is_under_the_new_key() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = store(directory.path()).await;
    let mut stops = 0;
    for waits in 0.. {
        let source = crate::config::ClusterKey::new(format!("{OLD}\n{NEW}").into_bytes());
        let keys = Keys::of(&source);
        let wish = wish("late", &format!("token {waits}"));
        let mut work = pin!(provider::change(&db, &keys, &wish));
        let ended = up_to(waits, work.as_mut()).await;
        source.replace(format!("{NEW}\n{OLD}").as_bytes());
        if ended {
            break;
        }
        stops += 1;
        assert_eq!(work.await.expect("stored"), Served::Done);
        let row = settings::read::<Providers>(&db)
            .await
            .expect("read")
            .or_default();
        let new = Keys::new(NEW.as_bytes());
        let opened = providers::open(&new, "late", &row.providers["late"]).expect("opened");
        let token = Credentials::Bearer(format!("token {waits}"));
        assert_eq!(
            opened,
            Provider {
                credentials: token,
                hosts: vec![]
            }
        );
    }
    assert!(stops >= 2, "only {stops} waits were met");
}

/// Goal: a secret that was sealed before the old key went, and came into the database after everything was sealed anew, is found
/// by whoever types the command again. Method: the last phase, a row under the old key, and the same phase once more.
#[tokio::test]
async fn a_secret_that_comes_late_is_sealed_anew_when_the_last_phase_is_asked_for_again() {
    let directory = tempfile::tempdir().expect("a directory");
    let db = store(directory.path()).await;
    prepared(&db).await;
    let roll = std::sync::Mutex::default();
    let live = || (&roll, Duration::from_secs(1));
    let asked = to(Some(KeysPhase::Drop));
    let both = keys(&[NEW, OLD]);
    let answer = step(&db, live(), &both, &asked).await.expect("read");
    assert!(answer.accepted, "{}", answer.message);
    let place = Place::setting("late", "pin");
    let late = keys(&[OLD])
        .seal(Seal::Owner, &place, b"1")
        .expect("sealed");
    let row = serde_json::json!({"pin": late}).to_string();
    assert!(db.store_setting("late", 0, &row).await.expect("stored"));
    let dry = KeysStep {
        dry_run: true,
        ..asked.clone()
    };
    step(&db, live(), &both, &dry).await.expect("read");
    assert_eq!(db.setting("late").await.expect("read").1, row, "a dry run");
    let answer = step(&db, live(), &both, &asked).await.expect("read");
    assert!(
        answer.accepted && answer.message.contains("1 secrets were sealed anew"),
        "{}",
        answer.message
    );
    let (_, text) = db.setting("late").await.expect("read");
    let text: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let sealed = text["pin"].as_str().expect("a text");
    let opened = keys(&[NEW]).open(Seal::Owner, &place, sealed);
    assert_eq!(opened.expect("opened").expose_secret(), b"1");
}

/// The same for the certificate that somebody sends. Method: as for providers.
#[tokio::test]
async fn a_certificate_that_comes_in_the_middle_is_under_the_new_key() {
    use crate::member::certificate::{External, send};
    let directory = tempfile::tempdir().expect("a directory");
    let db = store(directory.path()).await;
    let mut stops = 0;
    for waits in 0.. {
        let source = crate::config::ClusterKey::new(format!("{OLD}\n{NEW}").into_bytes());
        let keys = Keys::of(&source);
        let pem = format!("key {waits}");
        let mut work = pin!(send(&db, &keys, "chain", &pem));
        let ended = up_to(waits, work.as_mut()).await;
        source.replace(format!("{NEW}\n{OLD}").as_bytes());
        if ended {
            break;
        }
        stops += 1;
        work.await.expect("stored");
        let row = settings::read::<External>(&db).await.expect("read");
        let opened = row.or_default().open(&Keys::new(NEW.as_bytes()));
        assert_eq!(*opened.expect("opened"), pem);
    }
    assert!(stops >= 2, "only {stops} waits were met");
}
