//! Tests of forwarding against coreapps that refuse, hang, die and come back. Real sockets, no database.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::extract::State;
use axum::routing::post;

use super::*;
use crate::api::owner::{OwnerAnswer, OwnerRequest, Setback};
use crate::api::v1::message::Content;
use crate::api::v1::message::text::Text;
use crate::metrics::WebappMetrics;
use crate::net::client::InternalClient;
use crate::webapp::owner::HELD_BYTES_MAX;
use crate::webapp::shard_map::Route;
use crate::webapp::watcher::Watched;

/// A coreapp that does what it is told, and notes the ids that it accepted.
#[derive(Default)]
struct Fake {
    accepted: Mutex<Vec<String>>,
    /// Forms in which messages came.
    forms: Mutex<Vec<u16>>,
    calls: AtomicUsize,
    hang: std::sync::atomic::AtomicBool,
    refuse_first: AtomicUsize,
    /// So many times it cannot tell about messages whose id begins with `newer`.
    unsettled: AtomicUsize,
    /// It takes no more messages.
    full: std::sync::atomic::AtomicBool,
}

async fn accept(
    State(fake): State<Arc<Fake>>,
    axum::Json(request): axum::Json<OwnerRequest>,
) -> axum::Json<OwnerAnswer> {
    fake.calls.fetch_add(1, Ordering::SeqCst);
    if fake.hang.load(Ordering::SeqCst) {
        std::future::pending::<()>().await;
    }
    let refused = fake
        .refuse_first
        .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
    if refused.is_ok() {
        return axum::Json(OwnerAnswer::Setback(Setback::Busy));
    }
    if fake.full.load(Ordering::SeqCst) {
        let (code, details) = (Code::Overloaded, "as many wait as may".into());
        return axum::Json(OwnerAnswer::Settled(Settled::Refused { code, details }));
    }
    let OwnerCall::Accept { messages } = request.call else {
        panic!("a forwarder asks for nothing else");
    };
    let forms = messages.iter().map(|message| message.form);
    fake.forms.lock().expect("not poisoned").extend(forms);
    let mut accepted = fake.accepted.lock().expect("not poisoned");
    let unsettled = &fake.unsettled;
    let verdicts = messages
        .into_iter()
        .map(|message| {
            let first = |n: usize| n.checked_sub(1);
            if message.id.starts_with("newer")
                && unsettled
                    .fetch_update(Ordering::SeqCst, Ordering::SeqCst, first)
                    .is_ok()
            {
                Acceptance::Unsettled
            } else if accepted.contains(&message.id) {
                Acceptance::Duplicate
            } else {
                accepted.push(message.id);
                Acceptance::Accepted
            }
        })
        .collect();
    axum::Json(OwnerAnswer::Settled(Settled::Accepted { verdicts }))
}

async fn coreapp() -> (Arc<Fake>, String) {
    let fake = Arc::new(Fake::default());
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let url = format!("http://{}", listener.local_addr().expect("bound"));
    let router = Router::new()
        .route(owner::PATH, post(accept))
        .layer(axum::extract::DefaultBodyLimit::max(4 << 20))
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
        form: 1,
        master: None,
    }
}

fn forwarder(hold: Duration) -> (Arc<Watched>, Arc<Forwarder>) {
    let watched = Arc::new(Watched::new(hold));
    let metrics = Arc::new(WebappMetrics::default());
    let client = InternalClient::of_node(&crate::net::keys::Keys::new(b"test"));
    let stop = CancellationToken::new();
    let within = Duration::from_secs(5);
    let owners = Owners::new(Arc::clone(&watched), metrics, client, within);
    let forwarder = Forwarder::start(Arc::new(owners), &stop);
    (watched, Arc::new(forwarder))
}

fn message(id: &str) -> Outgoing {
    let text = br#"{"to":"447700900123","text":{"body":"hi"}}"#;
    Outgoing {
        id: id.into(),
        recipient_hash: 5,
        message: Message::parse(text, None).expect("well-formed"),
    }
}

/// Goal (F05): an owner that keeps as many messages as it may is believed, and the client hears of it at once.
#[tokio::test]
async fn f05_a_full_owner_refuses_at_once() {
    let (fake, url) = coreapp().await;
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    watched.set(map(Some(&url), 1));
    fake.full.store(true, Ordering::SeqCst);
    let error = forwarder.send(message("m")).await.expect_err("full");
    assert_eq!((error.code.number(), error.http_status()), (1016, 503));
    assert_eq!(fake.calls.load(Ordering::SeqCst), 1, "asked once");
    fake.full.store(false, Ordering::SeqCst);
    let verdict = forwarder.send(message("m")).await.expect("taken");
    assert_eq!(verdict, Acceptance::Accepted);
}

/// Goal: a message travels in the form that the newest map names, also one that was accepted under another map. Method: an
/// owner that refuses the first attempt; the map changes before the second.
#[tokio::test]
async fn messages_travel_in_the_form_that_every_owner_reads() {
    let (fake, url) = coreapp().await;
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    let with = |form| Map {
        form,
        ..map(Some(&url), 1)
    };
    watched.set(with(Form::NEWEST.number()));
    forwarder.send(message("m1")).await.expect("accepted");
    fake.refuse_first.store(1_000_000, Ordering::SeqCst);
    let waits = tokio::spawn(async move { forwarder.send(message("m2")).await });
    while fake.calls.load(Ordering::SeqCst) < 3 {
        tokio::task::yield_now().await;
    }
    watched.set(with(1));
    fake.refuse_first.store(0, Ordering::SeqCst);
    waits.await.expect("ran").expect("accepted");
    let newest = Form::NEWEST.number();
    let forms = fake.forms.lock().expect("not poisoned");
    assert_eq!((forms.first(), forms.last()), (Some(&newest), Some(&1)));
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
        assert_eq!(send.await.expect("ran"), Ok(Acceptance::Accepted));
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
    assert_eq!(send.await.expect("ran"), Ok(Acceptance::Accepted));
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
    assert_eq!(send.await.expect("ran"), Ok(Acceptance::Accepted));
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
    assert_eq!(send.await.expect("ran"), Ok(Acceptance::Accepted));
    assert_eq!(*fake.accepted.lock().expect("not poisoned"), ["m"]);
}

#[tokio::test]
async fn nobody_takes_over_and_the_request_is_shed() {
    let (watched, forwarder) = forwarder(Duration::from_millis(80));
    watched.set(map(None, 1));
    let error = forwarder.send(message("m")).await.expect_err("no owner");
    assert_eq!(
        (
            error.code.number(),
            error.http_status(),
            error.retry_after_s
        ),
        (1018, 503, Some(1))
    );
    let owners = &forwarder.shared.owners;
    assert_eq!((owners.metrics.shed.get(), owners.waiting()), (1, (0, 0)));
}

#[tokio::test]
async fn too_many_bytes_are_shed_at_once() {
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    watched.set(map(None, 1));
    let mut big = message("m");
    let body = "x".repeat(HELD_BYTES_MAX);
    big.message.content = Content::Text(Text { body });
    let error = forwarder.send(big).await.expect_err("too big");
    assert_eq!((error.code.number(), error.http_status()), (1016, 503));
    assert_eq!(forwarder.shared.owners.waiting(), (0, 0));
}

fn location(id: &str) -> Outgoing {
    let text =
        br#"{"to":"447700900123","type":"location","location":{"latitude":1,"longitude":2}}"#;
    Outgoing {
        message: Message::parse(text, None).expect("well-formed"),
        ..message(id)
    }
}

/// Goal: a type that came later goes to nobody who does not read it: held while some coreapp does not, by itself, and then
/// refused by its name. Method: maps with the form before and with its own.
#[tokio::test]
async fn a_type_goes_only_where_every_coreapp_reads_it() {
    let (fake, url) = coreapp().await;
    let with = |form, url: Option<&str>, epoch| Map {
        form,
        ..map(url, epoch)
    };
    let (watched, brief) = forwarder(Duration::from_millis(50));
    watched.set(with(2, Some(&url), 1));
    let refused = brief.send(location("early")).await.expect_err("not yet");
    let (watched, forwarder) = forwarder(Duration::from_secs(20));
    assert_eq!(refused.code, Code::NotReady);
    assert!(refused.to_string().contains("location"), "{refused}");
    watched.set(with(3, None, 2));
    let send = |outgoing| {
        let forwarder = Arc::clone(&forwarder);
        tokio::spawn(async move { forwarder.send(outgoing).await })
    };
    let (place, text) = (send(location("place")), send(message("text")));
    while forwarder.shared.owners.waiting().0 < 2 {
        tokio::task::yield_now().await;
    }
    watched.set(with(2, Some(&url), 3));
    assert_eq!(text.await.expect("ran"), Ok(Acceptance::Accepted));
    assert!(!place.is_finished());
    watched.set(with(3, Some(&url), 3));
    assert_eq!(place.await.expect("ran"), Ok(Acceptance::Accepted));
    let accepted = fake.accepted.lock().expect("not poisoned");
    assert_eq!(*accepted, ["text", "place"]);
}

/// Goal: one message that its owner cannot tell about holds up nobody else, and is asked for again by itself. Method: a batch
/// in which one is unsettled three times; the others are answered by the first call.
#[tokio::test]
async fn one_unsettled_message_holds_up_nobody() {
    let (fake, url) = coreapp().await;
    fake.unsettled.store(usize::MAX, Ordering::SeqCst);
    let (watched, forwarder) = forwarder(Duration::from_secs(5));
    watched.set(map(None, 1));
    let send = |id: &str| {
        let (forwarder, message) = (Arc::clone(&forwarder), message(id));
        tokio::spawn(async move { forwarder.send(message).await })
    };
    let sends = [send("m1"), send("newer"), send("m2")];
    while forwarder.shared.owners.waiting().0 < sends.len() {
        tokio::task::yield_now().await;
    }
    watched.set(map(Some(&url), 2));
    let [one, newer, two] = sends;
    assert_eq!(one.await.expect("ran"), Ok(Acceptance::Accepted));
    assert_eq!(two.await.expect("ran"), Ok(Acceptance::Accepted));
    assert!(!newer.is_finished());
    fake.unsettled.store(0, Ordering::SeqCst);
    assert_eq!(newer.await.expect("ran"), Ok(Acceptance::Accepted));
    let accepted = fake.accepted.lock().expect("not poisoned");
    assert_eq!(accepted.len(), 3, "{accepted:?}");
}

/// Goal: what an owner cannot tell about keeps no call of its shard. Method: as many such batches as there are calls at once,
/// one after the other, and then a message like any other.
#[tokio::test]
async fn unsettled_batches_do_not_stop_their_shard() {
    let (fake, url) = coreapp().await;
    fake.unsettled.store(usize::MAX, Ordering::SeqCst);
    let (watched, forwarder) = forwarder(Duration::from_secs(20));
    watched.set(map(Some(&url), 1));
    for n in 0..=CALLS_AT_ONCE {
        let (before, forwarder) = (fake.calls.load(Ordering::SeqCst), Arc::clone(&forwarder));
        tokio::spawn(async move { forwarder.send(message(&format!("newer{n}"))).await });
        while fake.calls.load(Ordering::SeqCst) == before {
            tokio::task::yield_now().await;
        }
    }
    let plain = forwarder.send(message("plain"));
    let plain = tokio::time::timeout(Duration::from_secs(10), plain).await;
    assert_eq!(plain.expect("at once"), Ok(Acceptance::Accepted));
}

/// Goal: many large messages that wait together are no larger than a coreapp reads at once. Method: 6 MB of them.
#[tokio::test]
async fn a_call_has_a_bound_in_bytes() {
    let (fake, url) = coreapp().await;
    let (watched, forwarder) = forwarder(Duration::from_secs(20));
    watched.set(map(None, 1));
    let large = |n: usize| {
        let body = "x".repeat(150_000);
        let content = Content::Text(Text { body });
        let mut large = message(&format!("m{n}"));
        large.message.content = content;
        large
    };
    let sends = (0..40).map(|n| {
        let (forwarder, large) = (Arc::clone(&forwarder), large(n));
        tokio::spawn(async move { forwarder.send(large).await })
    });
    let sends: Vec<_> = sends.collect();
    while forwarder.shared.owners.waiting().0 < sends.len() {
        tokio::task::yield_now().await;
    }
    watched.set(map(Some(&url), 2));
    for send in sends {
        assert_eq!(send.await.expect("ran"), Ok(Acceptance::Accepted));
    }
    assert!(fake.calls.load(Ordering::SeqCst) >= 3);
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
        form: 1,
        master: None,
    });
    assert_eq!(send.await.expect("ran"), Ok(Acceptance::Accepted));
    assert_eq!(*fake.accepted.lock().expect("not poisoned"), ["m"]);
}
