//! A deed is done once, by the node that it names, as it was meant, and what was heard of it is worth nothing.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::net::keys::for_webapps;
use crate::net::server;

const KEY: &[u8] = b"the key of this cluster, which is long";
const OTHER: &[u8] = b"the key of another cluster, also long";
const PATH: &str = "/control/operate";
const BODY: &[u8] = br#"{"verb":"adopt"}"#;
const WITHIN: Duration = Duration::from_secs(5);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn start(counter: u64) -> Incarnation {
    Incarnation { counter, random: 9 }
}

fn door(key: &[u8], node: &str, counter: u64) -> Taker {
    Taker::new(&Keys::new(key), &NodeId::new(node), start(counter))
}

/// What was sent to one address, and what came of it.
#[derive(Clone)]
struct Wire {
    door: Arc<Taker>,
    heard: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    done: Arc<Mutex<Vec<Bytes>>>,
    refused: Arc<Mutex<Vec<Refused>>>,
    /// An administrator's calls come here, not an operator's.
    asked: bool,
    /// Something on the way changes bodies.
    changes: bool,
}

impl Wire {
    fn new(door: Taker) -> Self {
        Self {
            door: Arc::new(door),
            heard: Arc::default(),
            done: Arc::default(),
            refused: Arc::default(),
            asked: false,
            changes: false,
        }
    }

    async fn listen(&self) -> (String, CancellationToken) {
        let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listener.await.expect("bound");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let wire = self.clone();
        let router = Router::new().fallback(move |request: Request| {
            let wire = wire.clone();
            async move { wire.take(request).await }
        });
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, router, stop.clone()));
        (base, stop)
    }

    async fn take(self, request: Request) -> axum::response::Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("whole");
        let what = format!("{} {}", parts.method, parts.uri);
        let heard = (what, parts.headers.clone(), body.clone());
        self.heard.lock().expect("whole").push(heard);
        if parts.uri.path() == path::NONCE {
            let challenge = parts.uri.query().expect("a challenge");
            let challenge = challenge.trim_start_matches("challenge=");
            return axum::Json(self.door.nonce(challenge)).into_response();
        }
        let body = match self.changes {
            true => Bytes::from_static(b"{}"),
            false => body,
        };
        let request = Request::from_parts(parts, Body::from(body));
        let came = match self.asked {
            true => self
                .door
                .administrator(request)
                .await
                .map(|(token, _)| Bytes::copy_from_slice(token.expose_secret().as_bytes())),
            false => self.door.operator(request).await,
        };
        match came {
            Ok(body) => {
                self.done.lock().expect("whole").push(body);
                StatusCode::OK.into_response()
            }
            Err(why) => {
                self.refused.lock().expect("whole").push(why);
                StatusCode::CONFLICT.into_response()
            }
        }
    }

    /// The last call, as whoever listened can send it again.
    fn again(&self) -> Request {
        let heard = self.heard.lock().expect("whole");
        let (what, headers, body) = heard.last().expect("a call");
        let (method, uri) = what.split_once(' ').expect("two words");
        let mut request = Request::new(Body::from(body.clone()));
        *request.method_mut() = method.parse().expect("a method");
        *request.uri_mut() = uri.parse().expect("an address");
        *request.headers_mut() = headers.clone();
        request
    }

    fn all(&self) -> String {
        format!("{:?}", self.heard.lock().expect("whole"))
    }
}

fn at(base: &str) -> At<'_> {
    At {
        base,
        node: Some("a:master-1"),
    }
}

async fn pause(doer: &Doer, base: &str) -> Result<StatusCode, DeedError> {
    let done = doer.operator(at(base), PATH, BODY.to_vec(), WITHIN).await;
    done.map(|(status, _)| status)
}

/// Goal: a deed is done once. Whoever heard it can do nothing with it: not here, not at another node, not at another start of this
/// node, not with another body, path or method. Method: one deed over a wire that keeps all, then what a listener could send.
#[tokio::test]
async fn what_was_heard_of_a_deed_is_worth_nothing() {
    let wire = Wire::new(door(KEY, "a:master-1", 7));
    let (base, stop) = wire.listen().await;
    let doer = Doer::new(&Keys::new(KEY));
    assert_eq!(pause(&doer, &base).await.expect("answered"), StatusCode::OK);
    assert_eq!(
        *wire.done.lock().expect("whole"),
        [Bytes::from_static(BODY)]
    );
    let repeated = wire.door.operator(wire.again()).await;
    assert_eq!(repeated, Err(Refused::Repeated));
    for (node, counter) in [("b:master-1", 7), ("a:master-1", 8), ("a:master-1", 7)] {
        let other = door(KEY, node, counter);
        assert_eq!(other.operator(wire.again()).await, Err(Refused::Stale));
    }
    // Each with a nonce that was not used: only the MAC is in the way.
    let fresh = || async {
        let given = wire.door.nonce("");
        let mut request = wire.again();
        let text = request.headers()["authorization"].to_str().expect("words");
        let old = text.split(' ').nth(1).expect("a nonce").to_owned();
        let text = text.replace(&old, &given.nonce);
        request
            .headers_mut()
            .insert("authorization", text.parse().expect("a header"));
        request
    };
    assert_eq!(
        wire.door.operator(fresh().await).await,
        Err(Refused::Stranger)
    );
    let keys = Keys::new(KEY);
    for secret in [
        keys.internal_header(),
        keys.former_operator_header().expect("a cluster key"),
        hex::encode(KEY),
    ] {
        let secret = secret.split(' ').next_back().expect("a secret");
        assert!(!wire.all().contains(secret));
    }
    stop.cancel();
}

/// Goal: a MAC binds node, start, nonce, method, path with its query, and body. Method: each of them changed in turn under one good
/// MAC.
#[tokio::test]
async fn a_mac_binds_everything() {
    let keys = Keys::new(KEY);
    let door = door(KEY, "a:master-1", 7);
    let digest = digest_of(BODY);
    let tried = async |node: &str, start: &str, method: Method, path: &str, body: &'static [u8]| {
        let given = door.nonce("");
        let bound = Bound {
            target: (node, start),
            nonce: &given.nonce,
            method: &method,
            path,
            digest: &digest,
        };
        let mac = hex::encode(keys.deed_mac(&bound.bytes()).expect("a cluster key"));
        let mut request = Request::new(Body::from(body));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = "/control/operate?x=1".parse().expect("an address");
        let header = format!("{OPERATOR} {} {digest} {mac}", given.nonce);
        request
            .headers_mut()
            .insert("authorization", header.parse().expect("a header"));
        door.operator(request).await
    };
    let own = start(7).to_string();
    let path = "/control/operate?x=1";
    assert!(
        tried("a:master-1", &own, Method::POST, path, BODY)
            .await
            .is_ok()
    );
    let stranger = Err(Refused::Stranger);
    let other = start(8).to_string();
    assert_eq!(
        tried("b:master-1", &own, Method::POST, path, BODY).await,
        stranger
    );
    assert_eq!(
        tried("a:master-1", &other, Method::POST, path, BODY).await,
        stranger
    );
    assert_eq!(
        tried("a:master-1", &own, Method::PUT, path, BODY).await,
        stranger
    );
    let plain = "/control/operate";
    assert_eq!(
        tried("a:master-1", &own, Method::POST, plain, BODY).await,
        stranger
    );
    let changed = Err(Refused::Changed);
    assert_eq!(
        tried("a:master-1", &own, Method::POST, path, b"{}").await,
        changed
    );
}

/// Goal: a body that is changed on the way is not taken, and the deed is not done. Method: a wire that changes every body.
#[tokio::test]
async fn a_body_that_was_changed_is_refused() {
    let mut wire = Wire::new(door(KEY, "a:master-1", 7));
    wire.changes = true;
    let (base, stop) = wire.listen().await;
    let doer = Doer::new(&Keys::new(KEY));
    let status = pause(&doer, &base).await.expect("answered");
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(*wire.refused.lock().expect("whole"), [Refused::Changed]);
    assert!(wire.done.lock().expect("whole").is_empty());
    stop.cancel();
}

/// Goal: who does not know the cluster key, or is not the node that is meant, is told nothing but that somebody asks. Method: a node
/// with another key, one with another name, one of a release before; what each of them hears.
#[tokio::test]
async fn a_stranger_hears_no_deed() {
    let doer = Doer::new(&Keys::new(KEY));
    let planted = Wire::new(door(OTHER, "a:master-1", 7));
    let (base, stop) = planted.listen().await;
    let why = pause(&doer, &base).await.expect_err("not asked");
    assert!(matches!(why, DeedError::Stranger(_)), "{why}");
    let named = Wire::new(door(KEY, "b:master-1", 7));
    let (base, stop_named) = named.listen().await;
    let why = pause(&doer, &base).await.expect_err("not asked");
    assert!(matches!(why, DeedError::Other { .. }), "{why}");
    for wire in [&planted, &named] {
        let heard = wire.heard.lock().expect("whole");
        assert_eq!(heard.len(), 1);
        let (what, headers, body) = &heard[0];
        assert!(what.starts_with("GET /control/nonce?challenge=") && body.is_empty());
        assert!(headers.get("authorization").is_none());
    }
    let older = Router::new().fallback(|| async { StatusCode::NOT_FOUND });
    let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
    let listener = listener.await.expect("bound");
    let base = format!("http://{}", listener.local_addr().expect("bound"));
    let stop_older = CancellationToken::new();
    tokio::spawn(server::serve(listener, older, stop_older.clone()));
    let why = pause(&doer, &base).await.expect_err("not asked");
    assert!(matches!(why, DeedError::Older(_)), "{why}");
    assert!(why.to_string().contains("Upgrade that machine first"));
    for stop in [stop, stop_named, stop_older] {
        stop.cancel();
    }
}

/// Goal: what an administrator asks of a webapp arrives with the administrator's token, which nobody can read on the way; the webapps'
/// part of the key is enough for that, and for no operator's deed. Method: a webapp's part against a node with the cluster key.
#[tokio::test]
async fn an_administrators_token_arrives_unseen() {
    let mut wire = Wire::new(door(KEY, "a:master-1", 7));
    wire.asked = true;
    let (base, stop) = wire.listen().await;
    let part = Keys::new(for_webapps(KEY).as_bytes());
    let doer = Doer::new(&part);
    let token = SecretString::from("token-of-the-administrator");
    let asked = (BODY.to_vec(), &token);
    let done = doer.administrator(at(&base), "/control/shards", asked, WITHIN);
    assert_eq!(done.await.expect("answered").0, StatusCode::OK);
    let expected = Bytes::from_static(b"token-of-the-administrator");
    assert_eq!(*wire.done.lock().expect("whole"), [expected]);
    assert!(!wire.all().contains("token-of-the-administrator"));
    let came = wire.door.administrator(wire.again()).await.map(|_| ());
    assert_eq!(came, Err(Refused::Repeated));
    assert_eq!(
        wire.door.operator(wire.again()).await,
        Err(Refused::Stranger)
    );
    let why = pause(&doer, &base).await.expect_err("not signed");
    assert!(matches!(why, DeedError::WebappKey), "{why}");
    stop.cancel();
}

/// Goal: what the releases before showed does nothing, and says why. Method: both credentials at both sorts of calls, and none.
#[tokio::test]
async fn former_credentials_do_nothing() {
    let door = door(KEY, "a:master-1", 7);
    let keys = Keys::new(KEY);
    let call = |header: &str| {
        let mut request = Request::new(Body::from(BODY));
        let header = header.parse().expect("a header");
        request.headers_mut().insert("authorization", header);
        request
    };
    let former = keys.former_operator_header().expect("a cluster key");
    let internal = keys.internal_header();
    for (header, operator, asked) in [
        (former.as_str(), Refused::Older, Refused::Older),
        (internal.as_str(), Refused::WebappKey, Refused::Older),
        ("wa-deed x y", Refused::Stranger, Refused::Stranger),
        ("wa-deed x y z", Refused::Stale, Refused::Stranger),
        ("", Refused::Stranger, Refused::Stranger),
    ] {
        let said = door.operator(call(header)).await;
        assert_eq!(said, Err(operator), "{header}");
        let said = door.administrator(call(header)).await.map(|_| ());
        assert_eq!(said, Err(asked), "{header}");
    }
}

/// Goal: no clock is compared with another one. Method: nodes whose boot clocks are ten years apart, both taking a caller's deed,
/// who reads no clock; on each a nonce that is used too late. Neither file reads the wall clock.
#[tokio::test]
async fn clocks_ten_years_apart_change_nothing() {
    let keys = Keys::new(KEY);
    for now in [
        Instant::from_millis(1),
        Instant::ZERO + 10 * YEAR,
        Instant::ZERO + 20 * YEAR,
    ] {
        let door = door(KEY, "a:master-1", 7);
        let call = || {
            let given = door.nonce_at(now, "");
            let digest = digest_of(BODY);
            let bound = Bound {
                target: (&given.node, &given.start),
                nonce: &given.nonce,
                method: &Method::POST,
                path: PATH,
                digest: &digest,
            };
            let mac = hex::encode(keys.deed_mac(&bound.bytes()).expect("a cluster key"));
            let header = format!("{OPERATOR} {} {digest} {mac}", given.nonce);
            let mut request = Request::new(Body::from(BODY));
            *request.method_mut() = Method::POST;
            *request.uri_mut() = PATH.parse().expect("an address");
            request
                .headers_mut()
                .insert("authorization", header.parse().expect("a header"));
            request
        };
        let soon = now + Duration::from_secs(9);
        assert!(door.operator_at(soon, call()).await.is_ok());
        let late = now + Duration::from_secs(10);
        assert_eq!(door.operator_at(late, call()).await, Err(Refused::Stale));
    }
    for source in [include_str!("deed.rs"), include_str!("nonces.rs")] {
        assert!(!source.contains("wall_ms") && !source.contains("SystemTime"));
    }
}
