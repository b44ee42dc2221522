//! A registration while the cluster key is replaced. Goal: the row of the registration, which a rotation seals anew in the middle of
//! a call, still gets what became of the call; and a pin never ends up under the key that goes. Method: the coreapp on the embedded
//! store, with an upstream that seals the row anew before it answers.

use secrecy::ExposeSecret as _;

use super::*;
use crate::api::registration::{Asked, CodeMethod, Hidden, Outcome, StoredIntent, Verified};
use crate::config::ClusterKey;
use crate::db::setting::{Change, REGISTRATION};
use crate::member::sealed;
use crate::net::seal::{Place, Seal};

const OLD: &str = "the key of yesterday, which is long";
const NEW: &str = "the key of tomorrow, which is long";

/// What happens at the upstream while it is asked.
#[derive(Default)]
struct Upstream {
    /// Where the row is, once it is known.
    db: Option<Db>,
    /// The key of the coreapp, and the one that takes its place in the middle of the next call.
    key: Option<ClusterKey>,
    calls: Vec<&'static str>,
}

type Shared = Arc<Mutex<Upstream>>;

async fn in_the_middle(shared: &Shared, call: &'static str) -> Json<Value> {
    let (db, key) = {
        let mut upstream = shared.lock().expect("no panic before");
        upstream.calls.push(call);
        (upstream.db.clone(), upstream.key.clone())
    };
    let (db, key) = (db.expect("known"), key.expect("known"));
    key.replace(format!("{NEW}\n{OLD}").as_bytes());
    let keys = Keys::new(format!("{NEW}\n{OLD}").as_bytes());
    let done = sealed::reseal(&db, &keys).await.expect("sealed anew");
    if done.count == 0 {
        // Nothing of it was under the old key; somebody else writes the row.
        let write = |_: u64, text: &str| Ok::<_, ()>(Change::Write(text.to_owned(), ()));
        let written = db.change_setting(REGISTRATION, write).await;
        written.expect("written").expect("no refusal");
    }
    Json(json!({"success": true}))
}

fn upstream(shared: &Shared) -> Router {
    let (code, register) = (Arc::clone(shared), Arc::clone(shared));
    let number = || async {
        Json(
            json!({"id": "number", "status": "DISCONNECTED", "verified_name": "Shop",
            "display_phone_number": "+44 7700 900999", "code_verification_status": "NOT_VERIFIED"}),
        )
    };
    Router::new()
        .route("/v1/number", get(number))
        .route(
            "/v1/number/request_code",
            post(|| async move { in_the_middle(&code, "request_code").await }),
        )
        .route(
            "/v1/number/verify_code",
            post(|| async { Json(json!({"success": true})) }),
        )
        .route(
            "/v1/number/register",
            post(|| async move { in_the_middle(&register, "register").await }),
        )
}

async fn start(shared: &Shared) -> Cluster {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    let router = upstream(shared);
    tokio::spawn(async move { axum::serve(listener, router).await });
    let key = ClusterKey::new(format!("{OLD}\n{NEW}").into_bytes());
    shared.lock().expect("no panic before").key = Some(key.clone());
    let change = |settings: &mut Settings| settings.cluster_key = key;
    let outside = (Outside::default(), address);
    let mut cluster = Cluster::start_at(json!({}), outside, change).await;
    cluster.client = InternalClient::of_node(&Keys::new(OLD.as_bytes()));
    shared.lock().expect("no panic before").db = Some(cluster.db.clone());
    cluster
}

/// A master lets the wish in, and the owner carries it out.
async fn carried_out(cluster: &Cluster, wish: Value, call: OwnerCall) -> Outcome {
    let admit = |_: u64, text: &str| {
        let mut row: Value = serde_json::from_str(text).unwrap_or_else(|_| json!({}));
        for (name, value) in wish.as_object().expect("an object") {
            row[name] = value.clone();
        }
        Ok::<_, ()>(Change::Write(row.to_string(), ()))
    };
    within(async {
        loop {
            let written = cluster.db.change_setting(REGISTRATION, admit).await;
            written.expect("written").expect("no refusal");
            let asked = OwnerRequest {
                call: call.clone(),
                ..request(Vec::new())
            };
            match cluster.accept(&asked).await {
                OwnerAnswer::Settled(Settled::Registration(outcome)) => return outcome,
                OwnerAnswer::Settled(other) => panic!("{other:?}"),
                // The tenure has not begun yet.
                OwnerAnswer::Setback(_) => clock::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await
}

async fn row(cluster: &Cluster) -> Value {
    let (_, text) = cluster.db.setting(REGISTRATION).await.expect("read");
    let _: StoredIntent = serde_json::from_str(&text).expect("readable");
    serde_json::from_str(&text).expect("JSON")
}

/// With what every live node holds at the end of a rotation: the new key alone.
fn opened(row: &Value) -> String {
    let place = Place::setting(REGISTRATION, "pin");
    let sealed = row["pin"].as_str().expect("it is kept");
    let keys = Keys::new(NEW.as_bytes());
    let pin = keys
        .open(Seal::Owner, &place, sealed)
        .expect("under the new key");
    String::from_utf8(pin.expose_secret().clone()).expect("a text")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rotation_in_the_middle_of_a_call_loses_no_outcome() {
    let shared = Shared::default();
    let cluster = start(&shared).await;
    let wish = json!({"attempt": 7, "step": "admitted", "wish": "ask"});
    let ask = OwnerCall::AskRegistration(Asked {
        attempt: 7,
        method: CodeMethod::Sms,
        number: None,
        pin: Some(Hidden("123456".into())),
    });
    let outcome = carried_out(&cluster, wish, ask).await;
    assert!(matches!(outcome, Outcome::CodeSent { .. }), "{outcome:?}");
    let after = row(&cluster).await;
    assert_eq!(after["step"], "code_sent", "{after}");
    assert_eq!(opened(&after), "123456");
    // Once more, with the pin that was kept: the row is written by somebody else in the middle of it.
    let wish = json!({"attempt": 8, "step": "admitted", "wish": "verify"});
    let verify = OwnerCall::VerifyRegistration(Verified {
        attempt: 8,
        code: Hidden("654321".into()),
        pin: None,
        backup: None,
    });
    let outcome = carried_out(&cluster, wish, verify).await;
    assert_eq!(outcome, Outcome::Registered);
    let after = row(&cluster).await;
    assert_eq!(after["step"], "done", "{after}");
    assert_eq!(
        shared.lock().expect("no panic before").calls,
        ["request_code", "register"]
    );
}

/// Another attempt in the row is another attempt: nothing is written over it.
#[tokio::test(flavor = "multi_thread")]
async fn another_attempt_is_not_written_over() {
    let shared = Shared::default();
    let cluster = start(&shared).await;
    let wish = json!({"attempt": 7, "step": "admitted", "wish": "ask"});
    let ask = OwnerCall::AskRegistration(Asked {
        attempt: 6,
        method: CodeMethod::Sms,
        number: None,
        pin: None,
    });
    let outcome = carried_out(&cluster, wish, ask).await;
    assert!(matches!(outcome, Outcome::Failed { .. }), "{outcome:?}");
    let after = row(&cluster).await;
    assert_eq!(
        (&after["attempt"], &after["step"]),
        (&json!(7), &json!("admitted"))
    );
    assert!(shared.lock().expect("no panic before").calls.is_empty());
}
