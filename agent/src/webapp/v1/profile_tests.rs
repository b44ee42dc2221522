//! The calls about the business through the router, against a coreapp that does as it is told.

use axum::body::Body as Sent;
use axum::http::Request;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::webapp::tests::{Bench, code, whole_with};

const JPEG: &[u8] = b"\xff\xd8\xff\xe0 a photo";

async fn send(bench: &Bench, token: &str, kind: Option<&str>, body: Vec<u8>) -> (u16, Value) {
    let mut request = Request::post("/v1/settings/profile/photo").header("authorization", token);
    if let Some(kind) = kind {
        request = request.header("content-type", kind);
    }
    let request = request.body(Sent::from(body)).expect("a request");
    let answer = bench.router().oneshot(request).await.expect("infallible");
    let status = answer.status().as_u16();
    let bytes = answer
        .into_body()
        .collect()
        .await
        .expect("whole")
        .to_bytes();
    (status, serde_json::from_slice(&bytes).unwrap_or_default())
}

/// Goal: a photo is taken in every form in which clients send one, and nothing else is. Method: forms, types, and lengths
/// around the limit.
#[tokio::test]
async fn photos_come_raw_and_in_forms() {
    let bench = whole_with(false).await;
    let token = bench.admin().await;
    let form = |name: &str, head: &str, bytes: &[u8]| {
        let head = format!(
            "--x\r\ncontent-disposition: form-data; name=\"note\"\r\n\r\nhello\r\n--x\r\ncontent-disposition: form-data; name=\"{name}\"{head}\r\n\r\n"
        );
        [head.as_bytes(), bytes, b"\r\n--x--\r\n"].concat()
    };
    let multipart = Some("multipart/form-data; boundary=x");
    for (kind, body) in [
        (Some("image/jpeg"), JPEG.to_vec()),
        (Some("image/jpg"), JPEG.to_vec()),
        (Some("Image/PNG"), JPEG.to_vec()),
        (Some("application/x-www-form-urlencoded"), JPEG.to_vec()),
        (None, JPEG.to_vec()),
        (multipart, form("file", "; filename=\"a.jpg\"", JPEG)),
        (
            multipart,
            form("photo", "\r\ncontent-type: image/jpeg", JPEG),
        ),
    ] {
        let (status, body) = send(&bench, &token, kind, body).await;
        assert_eq!(status, 200, "{kind:?}: {body}");
    }
    let long = |len: usize| [JPEG, &vec![0; len - JPEG.len()]].concat();
    for (kind, body, wanted) in [
        (Some("image/gif"), JPEG.to_vec(), (400, 1009)),
        (Some("text/plain"), JPEG.to_vec(), (400, 1009)),
        (Some("image/jpeg"), b"GIF89a".to_vec(), (400, 1009)),
        (Some("image/jpeg"), vec![], (400, 1008)),
        (Some("image/jpeg"), long((5 << 20) + 1), (413, 1025)),
        (Some("image/jpeg"), long(6 << 20), (413, 1025)),
        (
            multipart,
            form("file", "; filename=\"a\"", &long(6 << 20)),
            (413, 1025),
        ),
        (multipart, b"--x\r\n".to_vec(), (400, 1025)),
        (multipart, b"--x--\r\n".to_vec(), (400, 1008)),
        (Some("multipart/form-data"), JPEG.to_vec(), (400, 1025)),
    ] {
        let (status, body) = send(&bench, &token, kind, body).await;
        assert_eq!((status, code(&body)), wanted, "{kind:?}: {body}");
    }
}

/// Method, path, body; status and code of the answer.
const REQUESTS: &[(&str, &str, &str, u16, u64)] = &[
    (
        "POST",
        "/v1/settings/business/profile",
        r#"{"vertical":"Automotive","websites":"https://a.example/"}"#,
        200,
        0,
    ),
    (
        "POST",
        "/v1/settings/business/profile/",
        r#"{"vertical":"Undertaker"}"#,
        400,
        1009,
    ),
    ("POST", "/v1/settings/business/profile", "", 400, 1025),
    (
        "POST",
        "/v1/settings/business/compliance_info",
        r#"{"entity_name":"Example"}"#,
        200,
        0,
    ),
    (
        "POST",
        "/v1/settings/business/profile/compliance_info",
        "{}",
        400,
        1008,
    ),
    (
        "PATCH",
        "/v1/settings/profile/about",
        r#"{"text":"Open all day"}"#,
        200,
        0,
    ),
    (
        "PATCH",
        "/v1/settings/profile/about",
        r#"{"text":""}"#,
        400,
        1008,
    ),
    ("GET", "/v1/settings/profile/photo", "", 404, 1006),
    (
        "GET",
        "/v1/settings/profile/photo?format=link",
        "",
        404,
        1006,
    ),
    (
        "GET",
        "/v1/settings/profile/photo?format=png",
        "",
        400,
        1009,
    ),
    ("DELETE", "/v1/settings/profile/photo", "", 403, 1005),
    (
        "POST",
        "/v1/contacts/+16315551000/block",
        r#"{"reason":"spam"}"#,
        200,
        0,
    ),
    ("POST", "/v1/contacts/%2B16315551000/block/", "", 200, 0),
    ("POST", "/v1/contacts/US.1349/unblock", "{}", 200, 0),
    ("POST", "/v1/contacts/US.ENT.1349/block", "", 400, 1009),
    ("POST", "/v1/contacts/447700900999/block", "", 400, 1009),
    ("POST", "/v1/contacts/16315551000/unblock", "[", 400, 1025),
];

/// Goal: bodies are judged before the owner is asked. Method: a table of requests.
#[tokio::test]
async fn the_calls_about_the_business_are_as_documented() {
    let bench = whole_with(false).await;
    let token = bench.admin().await;
    let headers = [("authorization", token.as_str())];
    for (method, path, body, status, wanted) in REQUESTS {
        let (found, answer) = bench.call(method, path, &headers, body).await;
        let code = if found == 200 { 0 } else { code(&answer) };
        assert_eq!(
            (found, code),
            (*status, *wanted),
            "{method} {path}: {answer}"
        );
        if found == 200 {
            assert!(answer["meta"].is_object(), "{method} {path}: {answer}");
        }
    }
}

/// Goal: answers have the documented shapes. Method: what an upstream that knows nothing says.
#[tokio::test]
async fn answers_about_the_business_are_as_documented() {
    let bench = whole_with(false).await;
    let token = bench.admin().await;
    let headers = [("authorization", token.as_str())];
    for (path, wanted) in [
        (
            "/v1/settings/profile/about",
            json!({"profile": {"about": {"text": ""}}}),
        ),
        (
            "/v1/settings/business/compliance_info",
            json!({"business": {"compliance_info": {}}}),
        ),
        (
            "/v1/settings/business/profile/compliance_info/",
            json!({"business": {"profile": {"compliance_info": {}}}}),
        ),
    ] {
        let (status, answer) = bench.call("GET", path, &headers, "").await;
        assert_eq!((status, &answer["settings"]), (200, &wanted), "{path}");
    }
}
