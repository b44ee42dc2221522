//! A deed is done once, by the node that it names, as it was meant; what was heard of it is worth nothing, and no answer is believed that
//! is not the node's.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};

use axum::Router;
use axum::body::Body;
use axum::response::IntoResponse as _;
use secrecy::ExposeSecret as _;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::net::doer::{At, DeedError, Doer};
use crate::net::keys::for_webapps;
use crate::net::server;

const KEY: &[u8] = b"the key of this cluster, which is long";
const OTHER: &[u8] = b"the key of another cluster, also long";
const PATH: &str = "/control/operate";
const BODY: &[u8] = br#"{"verb":"adopt","secret":"of-a-provider"}"#;
const ANSWER: &[u8] = br#"{"accepted":true,"backup":"of-everything"}"#;
const TOKEN: &str = "token-of-the-administrator";
const WITHIN: Duration = Duration::from_secs(5);
const YEAR: Duration = Duration::from_secs(365 * 24 * 3600);

fn start(counter: u64) -> Incarnation {
    Incarnation { counter, random: 9 }
}

fn door(key: &[u8], node: &str, counter: u64) -> Taker {
    Taker::new(&Keys::new(key), &NodeId::new(node), start(counter))
}

/// What somebody does who stands between.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
enum Between {
    #[default]
    Nothing,
    /// Another body goes on to the node.
    ChangesBodies,
    /// One bit of the answer.
    ChangesAnswers,
    ChangesStatus,
    /// An answer of his own, as the node would write it.
    Forges,
    /// A refusal of his own.
    Refuses,
    /// The answer of the call before.
    Repeats,
    /// The node looks like one of the release before.
    MakesOlder,
}

/// One address: who listens there keeps all that he hears, and hands it on to a node.
#[derive(Clone)]
struct Wire {
    door: Arc<Taker>,
    /// Calls: what, head and body.
    heard: Arc<Mutex<Vec<(String, HeaderMap, Bytes)>>>,
    /// Bodies of answers to deeds.
    said: Arc<Mutex<Vec<Bytes>>>,
    done: Arc<Mutex<Vec<Bytes>>>,
    refused: Arc<Mutex<Vec<Refused>>>,
    /// An administrator's calls come here, not an operator's.
    asked: bool,
    between: Between,
}

impl Wire {
    fn new(door: Taker) -> Self {
        Self {
            door: Arc::new(door),
            heard: Arc::default(),
            said: Arc::default(),
            done: Arc::default(),
            refused: Arc::default(),
            asked: false,
            between: Between::Nothing,
        }
    }

    async fn listen(&self) -> (String, CancellationToken) {
        let listener = server::listen("test", SocketAddr::from(([127, 0, 0, 1], 0)));
        let listener = listener.await.expect("bound");
        let base = format!("http://{}", listener.local_addr().expect("bound"));
        let wire = self.clone();
        let router = Router::new().fallback(move |request: Request| {
            let wire = wire.clone();
            async move { wire.hear(request).await }
        });
        let stop = CancellationToken::new();
        tokio::spawn(server::serve(listener, router, stop.clone()));
        (base, stop)
    }

    async fn hear(self, request: Request) -> Response {
        let (parts, body) = request.into_parts();
        let body = axum::body::to_bytes(body, 1 << 20).await.expect("whole");
        let what = format!("{} {}", parts.method, parts.uri);
        let heard = (what, parts.headers.clone(), body.clone());
        self.heard.lock().expect("whole").push(heard);
        if parts.uri.path() == path::NONCE {
            let challenge = parts.uri.query().expect("a challenge");
            let mut given = self.door.nonce(challenge.trim_start_matches("challenge="));
            if self.between == Between::MakesOlder {
                given.sealed = None;
            }
            return axum::Json(given).into_response();
        }
        let body = match self.between {
            Between::ChangesBodies => Bytes::from_static(b"{}"),
            _ => body,
        };
        let answer = self
            .take(Request::from_parts(parts, Body::from(body)))
            .await;
        let (mut parts, body) = answer.into_parts();
        let mut body = axum::body::to_bytes(body, 1 << 20)
            .await
            .expect("whole")
            .to_vec();
        let before = self.said.lock().expect("whole").last().cloned();
        self.said.lock().expect("whole").push(body.clone().into());
        match self.between {
            Between::Nothing | Between::ChangesBodies | Between::MakesOlder => {}
            Between::ChangesAnswers => *body.last_mut().expect("a byte") ^= 1,
            Between::ChangesStatus => parts.status = StatusCode::ACCEPTED,
            Between::Forges => body = ANSWER.to_vec(),
            Between::Refuses => {
                parts.status = StatusCode::CONFLICT;
                body = br#"{"code":1008,"message":"nothing was done\u001b[2J"}"#.to_vec();
            }
            Between::Repeats => body = before.map_or(body, Vec::from),
        }
        Response::from_parts(parts, body.into())
    }

    /// The node itself.
    async fn take(&self, request: Request) -> Response {
        let came = match self.asked {
            true => self
                .door
                .administrator(request)
                .await
                .map(|(asked, answering)| {
                    let token = asked.0.expose_secret().as_bytes();
                    let both = [token, b" ", &asked.1].concat();
                    (Bytes::from(both), answering)
                }),
            false => self.door.operator(request).await,
        };
        match came {
            Ok((body, answering)) => {
                self.done.lock().expect("whole").push(body);
                answering.seal(ANSWER.into_response()).await
            }
            Err(denied) => {
                self.refused.lock().expect("whole").push(denied.why);
                let response = StatusCode::CONFLICT.into_response();
                match denied.answering {
                    Some(answering) => answering.seal(response).await,
                    None => response,
                }
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

    /// Every byte that went by.
    fn all(&self) -> Vec<u8> {
        let mut all = Vec::new();
        for (what, headers, body) in self.heard.lock().expect("whole").iter() {
            all.extend_from_slice(format!("{what} {headers:?} ").as_bytes());
            all.extend_from_slice(body);
        }
        for body in self.said.lock().expect("whole").iter() {
            all.extend_from_slice(body);
        }
        all
    }

    fn done(&self) -> usize {
        self.done.lock().expect("whole").len()
    }

    /// What came of the last call that is not taken.
    async fn refusal(&self, request: Request) -> Option<(Refused, bool)> {
        let denied = self.door.operator(request).await.err()?;
        Some((denied.why, denied.answering.is_some()))
    }
}

fn contains(all: &[u8], part: &[u8]) -> bool {
    all.windows(part.len()).any(|found| found == part)
}

fn at(base: &str) -> At<'_> {
    At {
        base,
        node: Some("a:master-1"),
    }
}

async fn pause(doer: &Doer, base: &str) -> Result<(StatusCode, Bytes), DeedError> {
    doer.operator(at(base), PATH, BODY.to_vec(), WITHIN).await
}

/// A call as a caller with this key would make it.
fn call(keys: &Keys, given: &NonceAnswer, (method, path): (&Method, &str)) -> Request {
    let key = keys.deed_key(Caller::Operator).expect("a cluster key");
    let bound = Bound {
        of: Caller::Operator,
        target: (&given.node, &given.start),
        nonce: &given.nonce,
        method,
        path,
    };
    let envelopes = key.envelopes(&given.nonce);
    let sealed = envelopes
        .seal(Way::Asked, &bound.asked(), BODY)
        .expect("sealed");
    let digest = digest_of(&sealed);
    let mac = hex::encode(key.mac(&bound.head(&digest)));
    let header = format!(
        "{} {} {digest} {mac}",
        scheme(Caller::Operator),
        given.nonce
    );
    let mut request = Request::new(Body::from(sealed));
    *request.method_mut() = method.clone();
    *request.uri_mut() = path.parse().expect("an address");
    let header = header.parse().expect("a header");
    request.headers_mut().insert("authorization", header);
    request
}

/// Goal: whoever stands between reads no byte of a body, an answer or a secret. Method: a relay that keeps all, for an operator's and an
/// administrator's call.
#[tokio::test]
async fn nobody_between_reads_a_word() {
    for asked in [false, true] {
        let mut wire = Wire::new(door(KEY, "a:master-1", 7));
        wire.asked = asked;
        let (base, stop) = wire.listen().await;
        let doer = Doer::new(&Keys::new(KEY));
        let token = SecretString::from(TOKEN);
        let (status, answer) = match asked {
            true => {
                let asked = (BODY.to_vec(), &token);
                doer.administrator(at(&base), PATH, asked, WITHIN).await
            }
            false => pause(&doer, &base).await,
        }
        .expect("answered");
        assert_eq!((status, &answer[..]), (StatusCode::OK, ANSWER));
        assert_eq!(wire.done(), 1);
        let all = wire.all();
        let keys = Keys::new(KEY);
        let secret = |header: String| header.split(' ').next_back().map(str::to_owned);
        let secrets = [
            secret(keys.internal_header()),
            keys.former_operator_header().and_then(secret),
            secret(keys.look_header()),
            Some(hex::encode(KEY)),
        ];
        for secret in secrets.into_iter().flatten() {
            assert!(!contains(&all, secret.as_bytes()), "{secret}");
        }
        // Any eight bytes in a row of what was meant.
        for text in [BODY, ANSWER, TOKEN.as_bytes()] {
            for part in text.windows(8) {
                assert!(!contains(&all, part), "{}", String::from_utf8_lossy(part));
            }
        }
        stop.cancel();
    }
}

/// Goal: an answer that is not the node's own to this very call is refused, and the words say what to do. Method: whoever stands between
/// changes a bit of it, its status, puts his own in its place, or that of the call before; or lets the call through and refuses it.
#[tokio::test]
async fn no_answer_can_be_forged() {
    for between in [
        Between::ChangesAnswers,
        Between::ChangesStatus,
        Between::Forges,
        Between::Repeats,
    ] {
        let mut wire = Wire::new(door(KEY, "a:master-1", 7));
        let doer = Doer::new(&Keys::new(KEY));
        if between == Between::Repeats {
            let (base, stop) = wire.listen().await;
            pause(&doer, &base).await.expect("nobody is between yet");
            stop.cancel();
        }
        wire.between = between;
        let (base, stop) = wire.listen().await;
        let why = pause(&doer, &base).await.expect_err("not believed");
        assert!(matches!(why, DeedError::Changed(_)), "{between:?}: {why}");
        assert!(why.to_string().contains("not known"), "{why}");
        assert!(why.to_string().contains("wa-agent audit"), "{why}");
        stop.cancel();
    }
    let mut wire = Wire::new(door(KEY, "a:master-1", 7));
    wire.between = Between::Refuses;
    let (base, stop) = wire.listen().await;
    let why = pause(&Doer::new(&Keys::new(KEY)), &base).await;
    let why = why.expect_err("not believed");
    assert!(matches!(why, DeedError::Unproved { .. }), "{why}");
    let words = why.to_string();
    assert!(words.contains("without a proof"), "{words}");
    assert!(words.contains("(nothing was done?[2J)"), "{words}");
    assert_eq!(wire.done(), 1, "it was done all the same");
    assert!(words.contains("not known"), "{words}");
    assert!(words.contains("wa-agent audit"), "{words}");
    assert!(!words.contains("Most likely"), "{words}");
    stop.cancel();
}

/// Goal: nobody can have a caller send in the form of a release before, which others can read. Method: a relay that takes the newer proof
/// out of the node's answer.
#[tokio::test]
async fn a_node_that_is_made_older_hears_nothing() {
    let mut wire = Wire::new(door(KEY, "a:master-1", 7));
    wire.between = Between::MakesOlder;
    let (base, stop) = wire.listen().await;
    let why = pause(&Doer::new(&Keys::new(KEY)), &base).await;
    let why = why.expect_err("not asked");
    assert!(matches!(why, DeedError::Older(_)), "{why}");
    assert!(why.to_string().contains("Upgrade that machine"), "{why}");
    assert_eq!(wire.heard.lock().expect("whole").len(), 1, "the nonce only");
    stop.cancel();
}

/// Goal: a deed is done once. Whoever heard it can do nothing with it: not here, not at another node, not at another start of this
/// node, not with another nonce. Only the first answer to a nonce has a proof. Method: one deed over a wire that keeps all, then what a
/// listener could send.
#[tokio::test]
async fn what_was_heard_of_a_deed_is_worth_nothing() {
    let wire = Wire::new(door(KEY, "a:master-1", 7));
    let (base, stop) = wire.listen().await;
    let doer = Doer::new(&Keys::new(KEY));
    assert_eq!(
        pause(&doer, &base).await.expect("answered").0,
        StatusCode::OK
    );
    assert_eq!(
        *wire.done.lock().expect("whole"),
        [Bytes::from_static(BODY)]
    );
    let unproved = |why| Some((why, false));
    assert_eq!(
        wire.refusal(wire.again()).await,
        unproved(Refused::Repeated)
    );
    for (node, counter) in [("b:master-1", 7), ("a:master-1", 8), ("a:master-1", 7)] {
        let other = Wire::new(door(KEY, node, counter));
        assert_eq!(other.refusal(wire.again()).await, unproved(Refused::Stale));
    }
    // With a nonce that was not used: only the MAC is in the way.
    let given = wire.door.nonce("");
    let mut request = wire.again();
    let text = request.headers()["authorization"].to_str().expect("words");
    let old = text.split(' ').nth(1).expect("a nonce").to_owned();
    let text = text.replace(&old, &given.nonce);
    let header = text.parse().expect("a header");
    request.headers_mut().insert("authorization", header);
    assert_eq!(wire.refusal(request).await, unproved(Refused::Stranger));
    stop.cancel();
}

/// Goal: a call binds node, start, nonce, method, path with its query, and body. Method: each of them changed in turn under one good
/// MAC.
#[tokio::test]
async fn a_call_binds_everything() {
    let keys = Keys::new(KEY);
    let wire = Wire::new(door(KEY, "a:master-1", 7));
    let path = "/control/operate?x=1";
    let tried = async |change: &dyn Fn(&mut NonceAnswer), method: Method, to: &str| {
        let mut given = wire.door.nonce("");
        change(&mut given);
        let mut request = call(&keys, &given, (&method, path));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = to.parse().expect("an address");
        wire.refusal(request).await
    };
    let same = |_: &mut NonceAnswer| {};
    assert_eq!(tried(&same, Method::POST, path).await, None);
    let stranger = Some((Refused::Stranger, false));
    let node = |given: &mut NonceAnswer| given.node = "b:master-1".into();
    assert_eq!(tried(&node, Method::POST, path).await, stranger);
    let other = |given: &mut NonceAnswer| given.start = start(8).to_string();
    assert_eq!(tried(&other, Method::POST, path).await, stranger);
    assert_eq!(tried(&same, Method::PUT, path).await, stranger);
    assert_eq!(tried(&same, Method::POST, PATH).await, stranger);
    let mut request = call(&keys, &wire.door.nonce(""), (&Method::POST, path));
    *request.body_mut() = Body::from("{}");
    let changed = Some((Refused::Changed, true));
    assert_eq!(wire.refusal(request).await, changed);
    // An operator's call is no administrator's.
    let request = call(&keys, &wire.door.nonce(""), (&Method::POST, path));
    let asked = wire.door.administrator(request).await.map(|_| ());
    assert_eq!(
        asked.err().map(|denied| denied.why),
        Some(Refused::Stranger)
    );
}

/// Goal: a body that is changed on the way is not taken, the deed is not done, and the refusal is proved. Method: a wire that changes every
/// body.
#[tokio::test]
async fn a_body_that_was_changed_is_refused() {
    let mut wire = Wire::new(door(KEY, "a:master-1", 7));
    wire.between = Between::ChangesBodies;
    let (base, stop) = wire.listen().await;
    let doer = Doer::new(&Keys::new(KEY));
    let (status, _) = pause(&doer, &base).await.expect("answered, and proved");
    assert_eq!(status, StatusCode::CONFLICT);
    assert_eq!(*wire.refused.lock().expect("whole"), [Refused::Changed]);
    assert_eq!(wire.done(), 0);
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
    assert!(matches!(why, DeedError::NoNonce { .. }), "{why}");
    assert!(why.to_string().contains("Upgrade that machine first"));
    for stop in [stop, stop_named, stop_older] {
        stop.cancel();
    }
}

/// Goal: what an administrator asks of a webapp arrives with the administrator's token; the webapps' part of the key is enough for that,
/// and for no operator's deed. Method: a webapp's part against a node with the cluster key.
#[tokio::test]
async fn an_administrators_token_arrives() {
    let mut wire = Wire::new(door(KEY, "a:master-1", 7));
    wire.asked = true;
    let (base, stop) = wire.listen().await;
    let part = Keys::new(for_webapps(KEY).as_bytes());
    let doer = Doer::new(&part);
    let token = SecretString::from(TOKEN);
    let asked = (BODY.to_vec(), &token);
    let done = doer.administrator(at(&base), "/control/shards", asked, WITHIN);
    assert_eq!(done.await.expect("answered").0, StatusCode::OK);
    let expected = [TOKEN.as_bytes(), b" ", BODY].concat();
    assert_eq!(*wire.done.lock().expect("whole"), [Bytes::from(expected)]);
    let came = wire.door.administrator(wire.again()).await.map(|_| ());
    assert_eq!(came.err().map(|denied| denied.why), Some(Refused::Repeated));
    let stranger = Some((Refused::Stranger, false));
    assert_eq!(wire.refusal(wire.again()).await, stranger);
    let why = pause(&doer, &base).await.expect_err("not signed");
    assert!(matches!(why, DeedError::WebappKey), "{why}");
    stop.cancel();
}

/// Goal: what the releases before showed does nothing, and says why. Method: all credentials and former forms at both sorts of calls,
/// and none.
#[tokio::test]
async fn former_credentials_do_nothing() {
    let wire = Wire::new(door(KEY, "a:master-1", 7));
    let keys = Keys::new(KEY);
    let call = |header: &str| {
        let mut request = Request::new(Body::from(BODY));
        let header = header.parse().expect("a header");
        request.headers_mut().insert("authorization", header);
        request
    };
    let former = keys.former_operator_header().expect("a cluster key");
    let (internal, look) = (keys.internal_header(), keys.look_header());
    for (header, operator, asked) in [
        (former.as_str(), Refused::Older, Refused::Older),
        (internal.as_str(), Refused::WebappKey, Refused::Older),
        (look.as_str(), Refused::Stranger, Refused::Stranger),
        ("wa-deed x y z", Refused::Older, Refused::Older),
        ("wa-asked x y z", Refused::Older, Refused::Older),
        ("wa-sealed-deed x y", Refused::Stranger, Refused::Stranger),
        ("wa-sealed-deed x y z", Refused::Stale, Refused::Stranger),
        ("", Refused::Stranger, Refused::Stranger),
    ] {
        let said = wire.refusal(call(header)).await;
        assert_eq!(said, Some((operator, false)), "{header}");
        let said = wire.door.administrator(call(header)).await.map(|_| ());
        assert_eq!(said.err().map(|denied| denied.why), Some(asked), "{header}");
    }
}

/// Goal: no clock is compared with another one. Method: nodes whose boot clocks are ten years apart, both taking a caller's deed,
/// who reads no clock; on each a nonce that is used too late. No file of deeds reads the wall clock.
#[tokio::test]
async fn clocks_ten_years_apart_change_nothing() {
    let keys = Keys::new(KEY);
    for now in [
        Instant::from_millis(1),
        Instant::ZERO + 10 * YEAR,
        Instant::ZERO + 20 * YEAR,
    ] {
        let door = door(KEY, "a:master-1", 7);
        let call = || call(&keys, &door.nonce_at(now, ""), (&Method::POST, PATH));
        let soon = now + Duration::from_secs(9);
        assert!(door.operator_at(soon, call()).await.is_ok());
        let late = now + Duration::from_secs(10);
        let late = door.operator_at(late, call()).await.map(|_| ());
        assert_eq!(late.err().map(|denied| denied.why), Some(Refused::Stale));
    }
    for source in [
        include_str!("deed.rs"),
        include_str!("doer.rs"),
        include_str!("envelope.rs"),
        include_str!("nonces.rs"),
    ] {
        assert!(!source.contains("wall_ms") && !source.contains("SystemTime"));
    }
}
