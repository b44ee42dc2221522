//! Providers are replaced by name, sealed, and kept where only a mask or nothing is said of them.

use std::time::Duration;

use super::*;
use crate::api::provider::{Credentials, MASK};
use crate::config::{DatabaseSettings, Replication};
use crate::db::setting::MEDIA_PROVIDERS;

struct Bench {
    db: Db,
    keys: Keys,
    _directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
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
        Self {
            db,
            keys: Keys::new(b"the key of this cluster, which is long"),
            _directory: directory,
        }
    }

    async fn store(&self, name: &str, token: &str, hosts: Option<&[&str]>) -> Served {
        let one = ProviderWish {
            name: name.into(),
            credentials: Credentials::Bearer(token.into()),
            hosts: hosts.map(|hosts| hosts.iter().map(ToString::to_string).collect()),
        };
        self.change(ProvidersRequest {
            store: vec![one],
            delete: None,
        })
        .await
    }

    async fn change(&self, wish: ProvidersRequest) -> Served {
        change(&self.db, &self.keys, &wish).await.expect("stored")
    }

    async fn delete(&self, name: &str) -> Served {
        self.change(ProvidersRequest {
            store: Vec::new(),
            delete: Some(name.into()),
        })
        .await
    }

    /// The row as text, and token and hosts of a provider in it.
    async fn stored(&self, name: &str) -> (String, String, Vec<String>) {
        let (_, text) = self.db.setting(MEDIA_PROVIDERS).await.expect("read");
        let row: Providers = serde_json::from_str(&text).expect("readable");
        let opened = provider::open(&self.keys, name, &row.providers[name]).expect("opened");
        let token = match &opened.credentials {
            Credentials::Bearer(token) => token.clone(),
            Credentials::Basic { .. } => panic!("{name} is another sort"),
        };
        (text, token, opened.hosts.clone())
    }
}

fn code(served: Served) -> Code {
    match served {
        Served::Refused { code, .. } => code,
        other => panic!("{other:?}"),
    }
}

/// Goal: a POST replaces by name and leaves the others; what is masked or not said stays; DELETE takes one. Method: one after the
/// other, and the row after each.
#[tokio::test]
async fn providers_are_replaced_by_name() {
    let bench = Bench::new().await;
    assert_eq!(
        bench.store("a", "token-a", Some(&["a.example"])).await,
        Served::Done
    );
    assert_eq!(bench.store("b", "token-b", None).await, Served::Done);
    let (text, token, hosts) = bench.stored("a").await;
    assert!(!text.contains("token"), "{text}");
    assert_eq!(
        (token.as_str(), hosts.as_slice()),
        ("token-a", &["a.example".to_owned()][..])
    );
    assert_eq!(bench.store("a", MASK, None).await, Served::Done);
    assert_eq!(bench.stored("a").await.1, "token-a");
    assert_eq!(bench.store("a", "token-2", None).await, Served::Done);
    let (_, token, hosts) = bench.stored("a").await;
    assert_eq!(
        (token.as_str(), hosts.len()),
        ("token-2", 1),
        "hosts that are not named stay"
    );
    assert_eq!(bench.store("a", MASK, Some(&[])).await, Served::Done);
    assert_eq!(bench.stored("a").await.2.len(), 0);
    assert_eq!(bench.stored("b").await.1, "token-b");
    assert_eq!(
        code(bench.store("new", MASK, None).await),
        Code::ParameterNotValid
    );
    assert_eq!(bench.delete("a").await, Served::Done);
    assert_eq!(code(bench.delete("a").await), Code::NotFound);
    assert_eq!(bench.stored("b").await.1, "token-b");
}

/// Goal: what a release before sealing wrote is sealed by the next write, what a newer one wrote stays, and one provider whose
/// key is gone keeps nobody from storing others and is asked for again. Method: a row with all three.
#[tokio::test]
async fn rows_of_other_releases_and_keys() {
    let bench = Bench::new().await;
    let other = Keys::new(b"the key of another cluster, long");
    let lost = Provider {
        credentials: Credentials::Bearer("gone".into()),
        hosts: vec!["c.example".into()],
    };
    let lost = provider::seal(&other, "lost", &lost).expect("sealed");
    let row = serde_json::json!({"providers": {"plain": {"bearer": "readable"}, "newer": {"signed": 7}, "lost": lost}});
    let text = row.to_string();
    assert!(
        bench
            .db
            .store_setting(MEDIA_PROVIDERS, 0, &text)
            .await
            .expect("stored")
    );
    assert_eq!(bench.store("a", "token-a", None).await, Served::Done);
    let (text, token, _) = bench.stored("plain").await;
    assert!(!text.contains("readable") && token == "readable", "{text}");
    let after: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    for name in ["newer", "lost"] {
        assert_eq!(after["providers"][name], row["providers"][name]);
    }
    let Served::Refused { code, details } = bench.store("lost", MASK, None).await else {
        panic!("a secret that nobody can open was kept");
    };
    assert_eq!(code, Code::ParameterNotValid);
    assert!(
        details.contains("setting/media-providers/providers/lost/sealed"),
        "{details}"
    );
    assert_eq!(bench.store("lost", "token-l", None).await, Served::Done);
    let (_, token, hosts) = bench.stored("lost").await;
    assert_eq!(
        (token.as_str(), hosts.len()),
        ("token-l", 1),
        "its hosts are known"
    );
}
