//! Tests of forwarding against coreapps that refuse, hang, die and come back. Real sockets, no database.

use std::sync::Mutex;

use axum::Router;
use axum::extract::State;
use axum::routing::post;

use super::*;
use crate::webapp::shard_map::Route;

/// A coreapp that does what it is told, and notes the ids that it accepted.
#[derive(Default)]
struct Fake {
    accepted: Mutex<Vec<String>>,
    calls: AtomicUsize,
    hang: std::sync::atomic::AtomicBool,
    refuse_first: AtomicUsize,
}

async fn accept(
    State(fake): State<Arc<Fake>>,
    axum::Json(request): axum::Json<AcceptRequest>,
) -> axum::Json<AcceptAnswer> {
    fake.calls.fetch_add(1, Ordering::SeqCst);
    if fake.hang.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let refused = fake
        .refuse_first
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    if refused.is_ok() {
        return axum::Json(AcceptAnswer::Busy);
    }
    let mut accepted = fake.accepted.lock().expect("not poisoned");
    let verdicts = request
        .messages
        .into_iter()
        .map(|message| {
            if accepted.contains(&message.id) {
                Verdict::Duplicate
            } else {
                accepted.push(message.id);
                Verdict::Accepted
            }
        })
        .collect();
    axum::Json(AcceptAnswer::Accepted { verdicts })
}

async fn coreapp() -> (Arc<Fake>, String) {
    let fake = Arc::new(Fake::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = Router::new()
        .route(path::MESSAGES, post(accept))
        .with_state(Arc::clone(&fake));
    tokio::spawn(crate::net::server::serve(
        listener,
        router,
        CancellationToken::new(),
    ));
    (fake, url)
}

fn map(url: Option<&str>, epoch: u64) -> Map {
    let route = Route {
        shard: 0,
        generation: 1,
        epoch,
        url: url.map(Arc::from),
    };
    Map {
        count: 1,
        generation: 1,
        routes: vec![route],
        master: None,
    }
}

fn forwarder(hold: Duration) -> (Arc<Watched>, Arc<Forwarder>) {
    let watched = Arc::new(Watched::new(hold));
    let metrics = Arc::new(WebappMetrics::default());
    let client = InternalClient::of_node(&crate::net::keys::Keys::new(b"test"));
    let stop = CancellationToken::new();
    let forwarder = Forwarder::start(
        Arc::clone(&watched),
        metrics,
        client,
        Duration::from_secs(5),
        &stop,
    );
    (watched, Arc::new(forwarder))
}

fn message(id: &str) -> Message {
    Message {
        id: id.into(),
        body_hash: 1,
        recipient: "447700900123".into(),
        recipient_hash: 5,
        payload: "{}".into(),
    }
}

#[tokio::test]
async fn many_requests_share_a_call() {
    let (fake, url) = coreapp().await;
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    watched.set(map(Some(&url), 1));
    let sends = (0..200).map(|n| {
        let forwarder = Arc::clone(&forwarder);
        tokio::spawn(async move { forwarder.send(message(&format!("m{n}"))).await })
    });
    for send in sends.collect::<Vec<_>>() {
        assert_eq!(send.await.expect("ran"), Ok(Verdict::Accepted));
    }
    assert_eq!(fake.accepted.lock().expect("not poisoned").len(), 200);
    assert!(
        fake.calls.load(Ordering::SeqCst) < 150,
        "requests were not gathered"
    );
}

#[tokio::test]
async fn a_request_waits_for_an_owner() {
    let (_fake, url) = coreapp().await;
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    watched.set(map(None, 1));
    let send = tokio::spawn(async move { forwarder.send(message("m")).await });
    clock::sleep(Duration::from_millis(50)).await;
    assert!(!send.is_finished());
    watched.set(map(Some(&url), 2));
    assert_eq!(send.await.expect("ran"), Ok(Verdict::Accepted));
}

/// Goal: a hung owner costs no more than its replacement takes. Method: it never answers; then the map changes.
#[tokio::test]
async fn an_attempt_is_given_up_when_the_map_names_a_later_owner() {
    let (hung, hung_url) = coreapp().await;
    let (next, next_url) = coreapp().await;
    hung.hang.store(true, Ordering::SeqCst);
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    watched.set(map(Some(&hung_url), 1));
    let started = clock::now();
    let send = tokio::spawn(async move { forwarder.send(message("m")).await });
    while hung.calls.load(Ordering::SeqCst) == 0 {
        clock::sleep(Duration::from_millis(1)).await;
    }
    watched.set(map(Some(&next_url), 2));
    assert_eq!(send.await.expect("ran"), Ok(Verdict::Accepted));
    assert!(clock::now().since(started) < Duration::from_secs(3));
    assert_eq!(*next.accepted.lock().expect("not poisoned"), ["m"]);
}

#[tokio::test]
async fn a_busy_or_dead_owner_is_asked_again_under_the_same_id() {
    let (fake, url) = coreapp().await;
    fake.refuse_first.store(3, Ordering::SeqCst);
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    // First a port where nobody listens.
    watched.set(map(Some("http://127.0.0.1:1"), 1));
    let send = tokio::spawn(async move { forwarder.send(message("m")).await });
    clock::sleep(Duration::from_millis(30)).await;
    watched.set(map(Some(&url), 2));
    assert_eq!(send.await.expect("ran"), Ok(Verdict::Accepted));
    assert_eq!(*fake.accepted.lock().expect("not poisoned"), ["m"]);
}

#[tokio::test]
async fn nobody_takes_over_and_the_request_is_shed() {
    let (watched, forwarder) = forwarder(Duration::from_millis(80));
    watched.set(map(None, 1));
    let error = forwarder.send(message("m")).await.expect_err("no owner");
    assert_eq!(
        (error.code, error.http_status(), error.retry_after_s),
        (1018, 503, Some(1))
    );
    assert_eq!(forwarder.shared.metrics.shed.get(), 1);
    assert_eq!(forwarder.shared.waiting.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn too_many_bytes_are_shed_at_once() {
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    watched.set(map(None, 1));
    let mut big = message("m");
    big.payload = "x".repeat(HELD_BYTES_MAX);
    let error = forwarder.send(big).await.expect_err("too big");
    assert_eq!((error.code, error.http_status()), (1016, 503));
    assert_eq!(forwarder.shared.waiting_bytes.load(Ordering::SeqCst), 0);
}

#[tokio::test]
async fn a_changed_shard_count_regroups_what_waits() {
    let (fake, url) = coreapp().await;
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    watched.set(map(None, 1));
    let send = tokio::spawn(async move { forwarder.send(message("m")).await });
    clock::sleep(Duration::from_millis(30)).await;
    let route = |shard, epoch| Route {
        shard,
        generation: 2,
        epoch,
        url: Some(Arc::from(url.as_str())),
    };
    // Hash 5 belongs to shard 1 of 2.
    watched.set(Map {
        count: 2,
        generation: 2,
        routes: vec![route(0, 2), route(1, 3)],
        master: None,
    });
    assert_eq!(send.await.expect("ran"), Ok(Verdict::Accepted));
    assert_eq!(*fake.accepted.lock().expect("not poisoned"), ["m"]);
}
