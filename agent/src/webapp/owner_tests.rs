//! Tests of the way to the owner against coreapps that do as they are told. Real sockets, no database.

use std::collections::VecDeque;
use std::sync::Mutex;

use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::post;
use axum::{Json, Router};
use tokio_util::sync::CancellationToken;

use super::*;
use crate::api::owner::Acceptance;

/// What a coreapp does with a call.
#[derive(Clone)]
enum Play {
    Answer(OwnerAnswer),
    Status(StatusCode),
    /// Takes the call and never answers.
    Hang,
}

/// Plays one after the other, the last one for ever; notes what it was asked.
struct Fake {
    plays: Mutex<VecDeque<Play>>,
    asked: Mutex<Vec<OwnerRequest>>,
}

impl Fake {
    fn asked(&self) -> usize {
        self.asked.lock().expect("not poisoned").len()
    }
}

async fn answer(State(fake): State<Arc<Fake>>, Json(request): Json<OwnerRequest>) -> Response {
    fake.asked.lock().expect("not poisoned").push(request);
    let play = {
        let mut plays = fake.plays.lock().expect("not poisoned");
        let next = plays.front().expect("something to play").clone();
        if plays.len() > 1 {
            plays.pop_front();
        }
        next
    };
    match play {
        Play::Answer(answer) => Json(answer).into_response(),
        Play::Status(status) => status.into_response(),
        Play::Hang => std::future::pending().await,
    }
}

async fn coreapp(plays: &[Play]) -> (Arc<Fake>, Arc<str>) {
    let fake = Arc::new(Fake {
        plays: Mutex::new(plays.iter().cloned().collect()),
        asked: Mutex::default(),
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = Router::new().route(PATH, post(answer));
    let router = router.with_state(Arc::clone(&fake));
    let stop = CancellationToken::new();
    tokio::spawn(crate::net::server::serve(listener, router, stop));
    (fake, url.into())
}

/// A cluster of one shard whose owner is at this address.
fn owned(url: Option<&Arc<str>>, epoch: u64) -> Map {
    Map {
        count: 1,
        generation: 1,
        routes: vec![Route {
            shard: 0,
            generation: 1,
            epoch,
            url: url.cloned(),
        }],
        form: 1,
        master: None,
    }
}

fn owners(hold: Duration) -> Arc<Owners> {
    let client = InternalClient::of_node(&crate::net::keys::Keys::new(b"test"));
    let map = Arc::new(Watched::new(hold));
    let within = Duration::from_secs(5);
    Arc::new(Owners::new(map, Arc::default(), client, within))
}

fn read() -> OwnerCall {
    OwnerCall::MarkRead {
        wamid: "wamid.A".into(),
    }
}

const LONG: Duration = Duration::from_secs(20);
const DONE: Play = Play::Answer(OwnerAnswer::Settled(Settled::Done));

fn setback(setback: Setback) -> Play {
    Play::Answer(OwnerAnswer::Setback(setback))
}

/// Goal: a call reaches its end over owners that are not one yet, are busy, break off, or run another release. Method: each of
/// them once, then the good answer; every request names the shard and the epoch of the map.
#[tokio::test]
async fn a_call_is_asked_again_until_an_owner_settles_it() {
    let (fake, url) = coreapp(&[
        setback(Setback::NotOwner),
        setback(Setback::Busy),
        setback(Setback::Unknown),
        Play::Status(StatusCode::NOT_FOUND),
        Play::Status(StatusCode::BAD_GATEWAY),
        DONE,
    ])
    .await;
    let owners = owners(LONG);
    owners.map.set(owned(Some(&url), 7));
    owners.ask(read()).await.expect("done");
    let asked = fake.asked.lock().expect("not poisoned");
    assert_eq!(asked.len(), 6);
    assert!(asked.iter().all(|r| (r.shard, r.epoch) == (0, 7)));
    assert_eq!(owners.waiting(), (0, 0));
}

/// Goal: an owner that hangs costs a call no more than the takeover. Method: it never answers; then the map names another.
#[tokio::test]
async fn a_call_follows_the_map() {
    let (hung, first) = coreapp(&[Play::Hang]).await;
    let (next, second) = coreapp(&[DONE]).await;
    let owners = owners(LONG);
    owners.map.set(owned(Some(&first), 1));
    let call = {
        let owners = Arc::clone(&owners);
        tokio::spawn(async move { owners.ask(read()).await })
    };
    while hung.asked() == 0 {
        tokio::task::yield_now().await;
    }
    owners.map.set(owned(Some(&second), 2));
    assert_eq!(call.await.expect("ran"), Ok(()));
    assert_eq!((hung.asked(), next.asked()), (1, 1));
}

/// Goal: what ends a call is told in the API's words. Method: each end once.
#[tokio::test]
async fn every_end_has_its_code() {
    let refused = Settled::Refused {
        code: Code::NotFound,
        details: "no such message".into(),
    };
    let answered = |settled| Play::Answer(OwnerAnswer::Settled(settled));
    let foreign = Settled::Accepted {
        verdicts: vec![Acceptance::Accepted],
    };
    for (play, code) in [
        (answered(refused), 1006),
        (answered(Settled::Unreachable), 1011),
        (answered(foreign), 1014),
        (Play::Status(StatusCode::UNAUTHORIZED), 1014),
        // A release that has no such call.
        (Play::Status(StatusCode::UNPROCESSABLE_ENTITY), 1011),
    ] {
        let (fake, url) = coreapp(&[play]).await;
        let owners = owners(LONG);
        owners.map.set(owned(Some(&url), 1));
        let error = owners.ask(read()).await.expect_err("refused");
        assert_eq!((error.code.number(), fake.asked()), (code, 1), "{error}");
    }
    let owners = owners(Duration::from_millis(20));
    owners.map.set(owned(None, 1));
    let error = owners.ask(read()).await.expect_err("nobody");
    assert_eq!((error.code.number(), error.retry_after_s), (1018, Some(1)));
    assert!(owners.map.evidence().refused.is_some());
}

/// Goal: what the owner of shard 0 remembers, nobody else is asked to change. Method: a cluster in which shard 0 has no owner, and
/// shard 1 has one.
#[tokio::test]
async fn what_one_owner_remembers_it_alone_is_asked() {
    let (fake, url) = coreapp(&[DONE]).await;
    let owners = owners(Duration::from_millis(50));
    let mut map = owned(None, 1);
    map.count = 2;
    map.routes.push(Route {
        shard: 1,
        generation: 1,
        epoch: 1,
        url: Some(url),
    });
    owners.map.set(map);
    owners.ask(read()).await.expect("any owner will do");
    let change = OwnerCall::ChangeProfile {
        change: Default::default(),
    };
    let error = owners.ask(change).await.expect_err("nobody");
    assert_eq!((error.code.number(), fake.asked()), (1018, 1));
}

/// Goal: codes that have no HTTP status of their own are the client's, and nothing is wrong with this server.
#[tokio::test]
async fn a_refusal_is_no_fault_of_this_server() {
    for (code, status) in [
        (Code::ReEngagement, 400),
        (Code::GenericError, 400),
        (Code::NotReady, 503),
    ] {
        let details = "words".to_owned();
        let refused = OwnerAnswer::Settled(Settled::Refused { code, details });
        let (_, url) = coreapp(&[Play::Answer(refused)]).await;
        let owners = owners(LONG);
        owners.map.set(owned(Some(&url), 1));
        let error = owners.ask(read()).await.expect_err("refused");
        assert_eq!((error.code, error.http_status()), (code, status));
    }
}

/// A call that does more when it is made twice.
struct Once(One);

impl Errand for Once {
    fn wanted(&mut self) -> usize {
        self.0.wanted()
    }

    fn place<'a>(&mut self, map: &'a Map) -> Place<'a> {
        self.0.place(map)
    }

    fn call(&mut self, map: &Map) -> OwnerCall {
        self.0.call(map)
    }

    fn repeat(&self, _: &OwnerCall) -> Repeat {
        Repeat::Harmful
    }

    fn hear(&mut self, settled: Settled) -> Heard {
        self.0.hear(settled)
    }
}

/// Goal: what may have been done is not done again, unless that is harmless. Method: owners that surely did nothing, then one
/// that may have: by its word, by an answer that broke off, and by the map that names another meanwhile.
#[tokio::test]
async fn what_does_more_twice_is_not_repeated_in_doubt() {
    for doubt in [
        setback(Setback::Unknown),
        Play::Status(StatusCode::BAD_GATEWAY),
        Play::Hang,
    ] {
        let plays = [
            setback(Setback::NotOwner),
            setback(Setback::Busy),
            doubt,
            DONE,
        ];
        let (fake, url) = coreapp(&plays).await;
        let owners = owners(LONG);
        owners.map.set(owned(Some(&url), 1));
        let (asked, then) = (Arc::clone(&fake), Arc::clone(&owners));
        let moves = async move {
            while asked.asked() < 3 {
                tokio::task::yield_now().await;
            }
            then.map.set(owned(Some(&url), 2));
        };
        let mut once = Once(One {
            call: read(),
            answer: None,
        });
        let (end, ()) = tokio::join!(owners.run(&mut once), moves);
        assert!(matches!(end, End::Doubt), "asked {} times", fake.asked());
        assert_eq!(fake.asked(), 3);
    }
}
