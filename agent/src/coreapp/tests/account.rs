//! What WhatsApp says of the number, asked by whoever looks.

use std::collections::BTreeMap;

use axum::extract::RawQuery;

use super::*;
use crate::api::internal::{AccountAnswer, AccountWord, path};

/// How often each look was made.
type Asked = Arc<Mutex<BTreeMap<&'static str, u32>>>;

async fn upstream(asked: &Asked) -> (Outside, SocketAddr) {
    let seen = Outside::default();
    let answers = |look: &'static str, answer: Value| {
        let asked = Arc::clone(asked);
        get(move || async move {
            *asked
                .lock()
                .expect("no panic before")
                .entry(look)
                .or_default() += 1;
            Json(answer)
        })
    };
    let number = Arc::clone(asked);
    let number = get(move |RawQuery(query): RawQuery| async move {
        let query = query.unwrap_or_default();
        let look = match query.split(['=', ',']).nth(1) {
            Some("status") => "standing",
            Some("whatsapp_business_manager_messaging_limit") => "limit",
            _ => "other",
        };
        *number
            .lock()
            .expect("no panic before")
            .entry(look)
            .or_default() += 1;
        Json(match look {
            "standing" => {
                json!({"status": "CONNECTED", "quality_rating": "GREEN", "verified_name": "Shop"})
            }
            "limit" => {
                json!({"error": {"code": 100, "message": "Tried accessing nonexisting field"}})
            }
            _ => json!({"id": "number"}),
        })
    });
    let token = json!({"data": {"is_valid": true, "app_id": "7", "scopes": [], "expires_at": 1_900_000_000}});
    let apps = json!({"data": [{"whatsapp_business_api_data": {"id": "8"}}]});
    let router = Router::new()
        .route("/v1/number", number)
        .route("/v1/debug_token", answers("token", token))
        .route("/v1/account/subscribed_apps", answers("apps", apps))
        .with_state(Arc::clone(&seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (seen, address)
}

async fn heard(cluster: &Cluster) -> Option<AccountWord> {
    let looks = InternalClient::of_looks(&Keys::new(KEY));
    let url = format!("{}{}", cluster.base, path::ACCOUNT);
    let call = looks.call(http::Method::GET, &url, Vec::new(), Duration::from_secs(8));
    let (status, body) = call.await.expect("answered");
    assert_eq!(status, http::StatusCode::OK);
    let answer: AccountAnswer = serde_json::from_slice(&body).expect("an answer of ours");
    assert_eq!(answer.node, "t:coreapp-1");
    answer.heard
}

/// Goal: an owner tells what WhatsApp says, a look that is refused hides no other one, however many look WhatsApp is asked once, and the
/// token is told to nobody. Method: a small upstream that counts, and four who look.
#[tokio::test(flavor = "multi_thread")]
async fn an_owner_tells_what_it_heard() {
    let asked = Asked::default();
    let upstream = upstream(&asked).await;
    let cluster = Cluster::start_at(json!({}), upstream, |settings| {
        settings.upstream.waba_id = "account".into();
        settings.upstream.app_id = "7".into();
    })
    .await;
    let first = within(async {
        loop {
            match heard(&cluster).await {
                Some(word) => return word,
                None => clock::sleep(Duration::from_millis(20)).await,
            }
        }
    })
    .await;
    let number = first.number.as_ref().expect("told");
    assert_eq!(
        (&*number.status, &*number.verified_name),
        ("CONNECTED", "Shop")
    );
    let refused = first.limit.as_ref().expect_err("refused");
    assert!(refused.contains("nonexisting field"), "{refused}");
    let token = first.token.as_ref().expect("told");
    assert_eq!((token.is_valid, token.expires_s), (true, 1_900_000_000));
    assert_eq!(token.missing.len(), 2);
    let apps = first.subscription.as_ref().expect("told");
    assert_eq!(
        (&*apps.apps, apps.ours),
        (&["8".to_owned()][..], Some(false))
    );
    for _ in 0..3 {
        assert_eq!(heard(&cluster).await.as_ref(), Some(&first));
    }
    let asked = asked.lock().expect("no panic before").clone();
    assert_eq!(
        (asked["standing"], asked["limit"], asked["apps"]),
        (1, 1, 1),
        "{asked:?}"
    );
    cluster.stop.cancel();
}
