//! Who may only look changes nothing at a coreapp.

use http::{Method, StatusCode};

use super::*;
use crate::api::internal::path;

/// Goal: what looks show opens looks at a coreapp, and no message, two-step pin or nudge; calls between nodes are served as before. Method:
/// each credential at each of its calls, over real HTTP.
#[tokio::test]
async fn a_look_is_no_call_of_a_webapp() {
    let cluster = Cluster::start(serde_json::json!({})).await;
    let keys = Keys::new(KEY);
    let looks = InternalClient::of_looks(&keys);
    let body = br#"{"shard":0,"generation":0,"epoch":3,"call":"read_profile"}"#;
    let call = async |client: &InternalClient, method: Method, path: &str| {
        let url = format!("{}{path}", cluster.base);
        let sent = client.call(method, &url, body.to_vec(), Duration::from_secs(5));
        sent.await.expect("answered").0
    };
    for path in [path::HEALTH, path::FIGURES, path::ACCOUNT] {
        assert_eq!(call(&looks, Method::GET, path).await, StatusCode::OK);
        let nodes = call(&cluster.client, Method::GET, path).await;
        assert_eq!(nodes, StatusCode::OK, "of the release before");
    }
    for path in [owner::PATH, path::EVENTS] {
        let refused = call(&looks, Method::POST, path).await;
        assert_eq!(refused, StatusCode::UNAUTHORIZED, "{path}");
    }
    let nudge = call(&cluster.client, Method::POST, path::EVENTS).await;
    assert_eq!(nudge, StatusCode::OK);
    cluster.stop.cancel();
}
