//! Tests of `/v1/media` through the router: what is refused, and with which documented code.

use serde_json::{Value, json};

use crate::webapp::tests::{code, whole_with};

/// Goal: bad uploads, unknown ids and messages with files that are not there get the documented codes; nothing is left
/// behind. Method: one webapp with a directory of its own.
#[tokio::test]
async fn bad_media_calls_get_documented_codes() {
    let bench = whole_with(true).await;
    let admin = bench.admin().await;
    let call = async |method: &str, path: &str, kind: Option<&str>, body: &str| {
        let mut headers = vec![("authorization", admin.as_str())];
        headers.extend(kind.map(|kind| ("content-type", kind)));
        let (status, answer): (u16, Value) = bench.call(method, path, &headers, body).await;
        (status, code(&answer))
    };
    let upload = async |kind, body| call("POST", "/v1/media", kind, body).await;
    assert_eq!(upload(None, "x").await, (400, 1008));
    assert_eq!(upload(Some("image"), "x").await, (400, 1009));
    assert_eq!(upload(Some("image/png"), "").await, (400, 1008));
    let nobody = "/v1/media/f043afd0-0000-4000-8000-000000000001";
    for path in [nobody, "/v1/media/..%2F..%2Fetc%2Fpasswd", "/v1/media/x"] {
        assert_eq!(call("GET", path, None, "").await, (404, 1006), "{path}");
        assert_eq!(call("DELETE", path, None, "").await, (404, 1006), "{path}");
    }
    let message = json!({"to": "447700900123", "type": "image", "image": {"id": "f043afd0-0000-4000-8000-000000000001"}});
    let sent = call("POST", "/v1/messages", None, &message.to_string()).await;
    assert_eq!(sent, (404, 1006));
    let link = json!({"to": "447700900123", "type": "image", "image": {"link": "https://files.example/a.png"}});
    let headers = [("authorization", admin.as_str())];
    let (sent, _) = bench
        .call("POST", "/v1/messages", &headers, &link.to_string())
        .await;
    assert_eq!(sent, 201);
    let (status, _) = bench.call("POST", "/v1/media", &[], "x").await;
    assert_eq!(status, 401);
}

#[tokio::test]
async fn without_a_directory_media_calls_say_so() {
    let bench = whole_with(false).await;
    let admin = bench.admin().await;
    let headers = [
        ("authorization", admin.as_str()),
        ("content-type", "image/png"),
    ];
    let (status, answer) = bench.call("POST", "/v1/media", &headers, "x").await;
    assert_eq!((status, code(&answer)), (503, 1011));
    assert!(answer.to_string().contains("require"), "{answer}");
}
