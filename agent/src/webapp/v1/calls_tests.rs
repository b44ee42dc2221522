//! The table, the router, the description and `tests/fixtures/v1/calls.txt` are one; and who may not call is answered before
//! the body is read.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::path::Path;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::super::calls_examples::example;
use super::*;
use crate::net::server;
use crate::webapp::tests::{bench, code, whole_with};

const METHODS: [Method; 5] = [
    Method::GET,
    Method::POST,
    Method::PUT,
    Method::PATCH,
    Method::DELETE,
];

fn rows() -> BTreeSet<(String, String)> {
    let row = |call: &Call| (call.method.to_string(), call.path.to_owned());
    CALLS.iter().map(row).collect()
}

/// The table as text, one line a call, for people.
fn text() -> String {
    let mut out = String::new();
    for call in CALLS {
        let body = match call.body {
            Body::Nothing => "-".to_owned(),
            Body::Json => format!("json {JSON_LEN_MAX}"),
            Body::Backup => format!("json {BACKUP_LEN_MAX}"),
            Body::Events => format!("events {}", events::EVENTS_LEN_MAX),
            Body::Photo => format!("photo {PHOTO_BODY_LEN_MAX}"),
            Body::Pem => format!("pem {}", crate::net::certificate::LEN_MAX),
            Body::File => format!("file {}", crate::api::v1::media::LEN_MAX),
        };
        let within = match call.within {
            Within::Hold => "hold",
            Within::Registration => "registration",
            Within::Transfer => "transfer",
        };
        // Writing into a String cannot fail.
        let _ = writeln!(
            out,
            "{:<6} {:<48} {:<7} {:<6} {body:<15} {within}",
            call.method.as_str(),
            call.path,
            call.access.as_str(),
            call.by.as_str(),
        );
    }
    out
}

/// Goal: people read the same table. `UPDATE_FIXTURES=1 cargo test -p wa-agent --lib` writes it anew: read the difference.
#[test]
fn the_fixture_is_the_table() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures/v1/calls.txt");
    if std::env::var_os("UPDATE_FIXTURES").is_some() {
        std::fs::write(&path, text()).expect("written");
    }
    let stored = std::fs::read_to_string(&path).expect("tests/fixtures/v1/calls.txt");
    assert_eq!(stored, text(), "if right: UPDATE_FIXTURES=1");
}

/// Goal: no row hides another, and each counts for itself.
#[test]
fn rows_are_different() {
    assert_eq!(rows().len(), CALLS.len());
    let labels: BTreeSet<String> = CALLS.iter().map(Call::label).collect();
    assert_eq!(labels.len(), CALLS.len());
    assert!(labels.contains("PUT_v1_messages_id"), "{labels:?}");
}

/// Goal: the description has every call and no other, each with its credentials.
#[test]
fn the_description_is_the_table() {
    let api: serde_json::Value = serde_json::from_slice(&DESCRIPTION).expect("JSON");
    let paths = api["paths"].as_object().expect("paths");
    let described: BTreeSet<(String, String)> = paths
        .iter()
        .flat_map(|(path, item)| {
            let methods = item.as_object().expect("an item").keys();
            methods.map(|method| (method.to_uppercase(), path.clone()))
        })
        .collect();
    assert_eq!(described, rows());
    for call in CALLS {
        let operation = &paths[call.path][call.method.as_str().to_lowercase()];
        let schemes: Vec<&str> = operation["security"]
            .as_array()
            .into_iter()
            .flatten()
            .flat_map(|needed| needed.as_object().expect("an object").keys())
            .map(String::as_str)
            .collect();
        let wanted: &[&str] = match call.access {
            Access::Open | Access::Signed => &[],
            Access::Basic => &["basic"],
            Access::User | Access::Admin => &["bearer"],
            Access::Monitor => &["bearer", "apikey"],
        };
        assert_eq!(schemes, wanted, "{} {}", call.method, call.path);
        assert!(operation["summary"].is_string(), "{}", call.path);
    }
}

/// Goal: the router has every call, with and without a slash at the end, and no other method of its path; nobody gets in
/// without the credentials that the row names. Method: each method of each path, asked for without any.
#[tokio::test]
async fn the_router_is_the_table() {
    let bench = bench().await;
    let paths: BTreeSet<&str> = CALLS.iter().map(|call| call.path).collect();
    for path in paths {
        for method in METHODS {
            let row = CALLS.iter().find(|c| c.path == path && c.method == method);
            let wanted = match row.map(|call| call.access) {
                None => (405, 1014),
                Some(Access::Open) if path == "/cloud/webhook" => (403, 1005),
                Some(Access::Open) => (200, 0),
                Some(Access::Signed) => (403, 1005),
                Some(Access::Basic | Access::User | Access::Admin | Access::Monitor) => (401, 1005),
            };
            let ends: &[&str] = if path == "/" { &[""] } else { &["", "/"] };
            for end in ends {
                let asked = format!("{}{end}", example(path));
                let (status, body) = bench.call(method.as_str(), &asked, &[], "{}").await;
                let found = (status, if status == 200 { 0 } else { code(&body) });
                assert_eq!(found, wanted, "{method} {asked}: {body}");
            }
        }
    }
    for unknown in ["/v1", "/v1/nothing", "/v1/contacts/x/y", "/v1//messages"] {
        let (status, body) = bench.call("GET", unknown, &[], "").await;
        assert_eq!((status, code(&body)), (404, 1014), "{unknown}");
    }
}

/// Goal: a metric for every call, with the class of its answers and nothing of what was asked for.
#[tokio::test]
async fn answers_are_counted_by_call() {
    let bench = whole_with(false).await;
    bench.call("GET", "/v1/users/some-body", &[], "").await;
    let key = [("authorization", "Apikey 0123456789abcdef")];
    bench.call("GET", "/v1/health", &key, "").await;
    let (_, text) = bench
        .call("GET", "/metrics?format=prometheus", &key, "")
        .await;
    let text = text.as_str().expect("text").to_owned();
    for line in [
        r#"wa_api_calls_total{call="GET_v1_users_username",answer="4xx"} 1"#,
        r#"wa_api_calls_total{call="GET_v1_health",answer="2xx"} 1"#,
        r#"wa_api_calls_total{call="POST_v1_messages",answer="5xx"} 0"#,
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    assert!(!text.contains("some-body"));
}

/// Asks for a call over a socket: the head, and nothing of the body that it announces. The answer's status.
async fn head_only(port: u16, call: &Call, announce: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port))
        .await
        .expect("it listens");
    let head = format!(
        "{} {} HTTP/1.1\r\nhost: test\r\ncontent-type: application/json\r\n{announce}\r\n\r\n",
        call.method,
        example(call.path)
    );
    stream.write_all(head.as_bytes()).await.expect("sent");
    let mut answer = vec![0; 12];
    let read = tokio::time::timeout(Duration::from_secs(5), stream.read_exact(&mut answer));
    let read = read.await;
    let read = read.unwrap_or_else(|_| panic!("{}: the body is waited for", call.path));
    read.expect("an answer");
    String::from_utf8_lossy(&answer).into_owned()
}

/// Goal: a stranger's body costs nothing, however long or slow it is. Method: a socket that sends the head of each call
/// that has a body, and then stands still.
#[tokio::test]
async fn strangers_are_answered_before_their_body_is_read() {
    let bench = bench().await;
    let listener = server::listen("test", ([127, 0, 0, 1], 0).into())
        .await
        .expect("any port");
    let port = listener.local_addr().expect("it is bound").port();
    let stop = CancellationToken::new();
    tokio::spawn(server::serve(listener, bench.router(), stop.clone()));
    let _ends = stop.drop_guard();
    for call in CALLS.iter().filter(|call| call.body != Body::Nothing) {
        let wanted = match call.access {
            Access::Signed => "HTTP/1.1 403",
            Access::Open | Access::Basic | Access::User | Access::Admin | Access::Monitor => {
                "HTTP/1.1 401"
            }
        };
        for announce in [
            "content-length: 99999999",
            "content-length: 9999999999",
            "transfer-encoding: chunked",
        ] {
            let found = head_only(port, call, announce).await;
            assert_eq!(found, wanted, "{} {} {announce}", call.method, call.path);
        }
    }
}

/// Goal: a request that is held for an owner is not ended before its hold is over, also when settings made the hold longer
/// since this webapp began. Method: the deadline of each row under two holds.
#[tokio::test]
async fn deadlines_follow_the_hold() {
    let bench = bench().await;
    for hold in [Duration::from_secs(1), Duration::from_secs(90)] {
        bench.webapp.map.set_hold(hold);
        for call in CALLS {
            let within = call.within()(&bench.webapp);
            assert!(within > hold, "{} {}: {within:?}", call.method, call.path);
        }
    }
}
