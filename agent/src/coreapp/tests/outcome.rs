//! What answers of the upstream mean, in a whole coreapp: a refused account holds all and loses nothing (F05), success has an id
//! (F06), unknown outcomes have an end (F07). Method: the coreapp on the embedded store, with an upstream that answers what the
//! test asks for.

use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};

use super::*;
use crate::config::{OnAmbiguity, Secret, SendsThen};

/// What the upstream answers a message.
#[derive(Debug, Clone, Copy)]
pub(super) enum Mood {
    Good,
    /// Whatever the token, this error; to templates only, or to all.
    Error(u32, bool),
    /// A page of somebody else.
    Page(u16),
    /// Nothing, as long as this is its mood.
    Silent,
    /// Nothing, ever: what comes now is lost.
    Lost,
    /// The number's limit, and a pause of so many seconds.
    Limited(u64),
}

/// An upstream with moods.
pub(super) struct Moody {
    pub(super) seen: Outside,
    pub(super) mood: Mutex<Mood>,
    /// The token that it takes; empty: any.
    token: Mutex<String>,
    /// It answers questions about the number.
    answers: Mutex<bool>,
    /// Texts in the order in which they were taken.
    pub(super) taken: Mutex<Vec<String>>,
    /// Messages that came, taken or not.
    pub(super) came: Mutex<u32>,
    /// When.
    at: Mutex<Vec<wa_core::time::Instant>>,
}

pub(super) fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex.lock().expect("no panic before")
}

fn error(status: StatusCode, code: u32) -> Response {
    let error = json!({"error": {"code": code, "message": "refused", "fbtrace_id": "A"}});
    (status, Json(error)).into_response()
}

impl Moody {
    fn refuses(&self, headers: &HeaderMap) -> bool {
        let token = lock(&self.token).clone();
        let given = headers["authorization"].to_str().unwrap_or_default();
        !token.is_empty() && given != format!("Bearer {token}")
    }
}

async fn number(State(moody): State<Arc<Moody>>, headers: HeaderMap) -> Response {
    if moody.refuses(&headers) || !*lock(&moody.answers) {
        return error(StatusCode::UNAUTHORIZED, 190);
    }
    Json(json!({"id": "number"})).into_response()
}

async fn messages(
    State(moody): State<Arc<Moody>>,
    headers: HeaderMap,
    Json(body): Json<Value>,
) -> Response {
    *lock(&moody.came) += 1;
    lock(&moody.at).push(clock::now());
    if moody.refuses(&headers) {
        return error(StatusCode::UNAUTHORIZED, 190);
    }
    while matches!(*lock(&moody.mood), Mood::Silent) {
        clock::sleep(Duration::from_millis(10)).await;
    }
    let mood = *lock(&moody.mood);
    match mood {
        Mood::Error(code, all) if all || body["type"] == "template" => {
            return error(StatusCode::BAD_REQUEST, code);
        }
        Mood::Page(status) => {
            let status = StatusCode::from_u16(status).expect("a status");
            return (status, "<html><body>Please sign in</body></html>").into_response();
        }
        Mood::Limited(seconds) => {
            let mut answer = error(StatusCode::TOO_MANY_REQUESTS, 130_429);
            answer.headers_mut().insert("retry-after", seconds.into());
            return answer;
        }
        Mood::Lost => return std::future::pending().await,
        Mood::Good | Mood::Silent | Mood::Error(..) => {}
    }
    let id = body["biz_opaque_callback_data"]
        .as_str()
        .unwrap_or_default();
    let text = body["text"]["body"].as_str().unwrap_or("template");
    let mut seen = lock(&moody.seen);
    *seen.sent.entry(id.to_owned()).or_default() += 1;
    lock(&moody.taken).push(text.to_owned());
    Json(json!({"messages": [{"id": format!("wamid.{id}")}]})).into_response()
}

async fn upstream() -> (Arc<Moody>, SocketAddr) {
    let seen = Outside::default();
    lock(&seen).webhook_calls = 1;
    let moody = Arc::new(Moody {
        seen: Arc::clone(&seen),
        mood: Mutex::new(Mood::Good),
        token: Mutex::default(),
        answers: Mutex::new(true),
        taken: Mutex::default(),
        came: Mutex::default(),
        at: Mutex::default(),
    });
    let router = Router::new()
        .route("/v1/number", get(number))
        .route("/v1/number/messages", post(messages))
        .with_state(Arc::clone(&moody))
        .route("/hook", post(take_webhook).with_state(seen));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0")
        .await
        .expect("a free port");
    let address = listener.local_addr().expect("bound");
    tokio::spawn(async move { axum::serve(listener, router).await });
    (moody, address)
}

pub(super) async fn start(change: impl FnOnce(&mut Settings)) -> (Arc<Moody>, Cluster, Secret) {
    let (moody, address) = upstream().await;
    let hook = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
    let mut token = None;
    let outside = (Arc::clone(&moody.seen), address);
    let cluster = Cluster::start_at(hook, outside, |settings| {
        change(settings);
        token = Some(settings.upstream.token.clone());
    });
    let cluster = cluster.await;
    (moody, cluster, token.expect("settings"))
}

/// A text to a customer of its own number.
pub(super) fn to(id: &str, customer: u32, text: &str) -> Message {
    let recipient = format!("4477009{customer:05}");
    Message {
        recipient_hash: recipient_hash(&recipient),
        payload: json!({"to": {"phone": recipient}, "content": {"text": {"body": text}}})
            .to_string(),
        ..message(id, "")
    }
}

pub(super) async fn until(wanted: impl Fn() -> bool) {
    within(async {
        while !wanted() {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
}

async fn states(cluster: &Cluster) -> HashMap<String, MessageState> {
    let states = cluster.db.message_states().await.expect("read");
    states.into_iter().collect()
}

/// Goal (F05): a token that is refused costs no message; clients are served, and all goes out in order once there is a good one,
/// without a restart. Method: six messages to each of ten customers, half of them while the token is refused.
#[tokio::test(flavor = "multi_thread")]
async fn f05_a_refused_token_holds_all_and_a_new_one_frees_them() {
    let (moody, cluster, token) = start(|_| ()).await;
    *lock(&moody.token) = "new".into();
    for round in 0..6 {
        let some = (0..10).map(|customer| {
            let id = format!("m{round}-{customer}");
            to(&id, customer, &format!("{customer}:{round}"))
        });
        let verdicts = cluster.accept_owned(&request(some.collect())).await;
        assert_eq!(verdicts, [Acceptance::Accepted; 10]);
        if round == 2 {
            until(|| *lock(&moody.came) > 0).await;
        }
    }
    // Everything that was on its way has come back.
    within(async {
        while states(&cluster)
            .await
            .values()
            .any(|state| *state != MessageState::Queued)
        {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let refused = *lock(&moody.came);
    assert!(refused <= 16, "{refused} messages met the refusal");
    assert!(token.replace("new"));
    for customer in 0..10 {
        let last = format!("m5-{customer}");
        cluster.state_of(&last, MessageState::Sent).await;
    }
    let taken = lock(&moody.taken).clone();
    assert_eq!(taken.len(), 60, "each once");
    for customer in 0..10 {
        let mine = format!("{customer}:");
        let mine: Vec<&String> = taken.iter().filter(|t| t.starts_with(&mine)).collect();
        let wanted: Vec<String> = (0..6).map(|n| format!("{customer}:{n}")).collect();
        assert_eq!(mine, wanted.iter().collect::<Vec<_>>());
    }
}

/// Goal (F05): a refusal that may be the message's is the account's only if a question about the number is refused, too. Method: a
/// permission (10), and a number that may be gone (33).
#[tokio::test(flavor = "multi_thread")]
async fn f05_a_question_tells_whether_it_is_the_account() {
    for code in [10, 33] {
        a_question_tells(code).await;
    }
}

async fn a_question_tells(code: u32) {
    let (moody, cluster, _) = start(|_| ()).await;
    *lock(&moody.mood) = Mood::Error(code, true);
    cluster
        .accept_owned(&request(vec![to("own", 1, "x")]))
        .await;
    cluster.state_of("own", MessageState::Failed).await;
    *lock(&moody.answers) = false;
    // The answer to the question before is believed for a moment.
    within(async {
        for n in 0.. {
            let id = format!("kept{n}");
            let before = *lock(&moody.came);
            cluster
                .accept_owned(&request(vec![to(&id, 100 + n, "x")]))
                .await;
            // It was refused, and the account with it; or nobody tries it any more.
            let tried = || *lock(&moody.came) > before;
            let mut looks = 0;
            loop {
                match states(&cluster).await[&id] {
                    MessageState::Failed => break,
                    MessageState::Queued if tried() || looks > 500 => return,
                    _ => looks += 1,
                }
                clock::sleep(Duration::from_millis(10)).await;
            }
        }
    })
    .await;
    (*lock(&moody.answers), *lock(&moody.mood)) = (true, Mood::Good);
    within(async {
        while states(&cluster)
            .await
            .values()
            .any(|state| *state == MessageState::Queued)
        {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    // Whoever is claimed is no longer queued, and not yet taken: it goes by itself.
    until(|| !lock(&moody.taken).is_empty()).await;
}

/// Goal (F05): payment for one kind of messages holds that kind only. Method: a template and texts.
#[tokio::test(flavor = "multi_thread")]
async fn f05_payment_holds_templates_only() {
    let (moody, cluster, _) = start(|_| ()).await;
    *lock(&moody.mood) = Mood::Error(131_042, false);
    let content = json!({"template": {"name": "offer", "language": "en"}});
    let template = |id: &str| Message {
        form: Form::NEWEST.number(),
        payload: json!({"to": {"phone": "447700900456"}, "content": content}).to_string(),
        ..message(id, "")
    };
    cluster.accept_owned(&request(vec![template("t1")])).await;
    until(|| *lock(&moody.came) == 1).await;
    cluster.state_of("t1", MessageState::Queued).await;
    let rest = vec![template("t2"), to("x1", 1, "a"), to("x2", 2, "b")];
    cluster.accept_owned(&request(rest)).await;
    cluster.state_of("x1", MessageState::Sent).await;
    cluster.state_of("x2", MessageState::Sent).await;
    cluster.state_of("t2", MessageState::Queued).await;
    assert_eq!(*lock(&moody.came), 3, "the second template was not tried");
}

/// Goal (F05): while nothing can be sent, as many messages are kept as configured, and the next one is told so.
#[tokio::test(flavor = "multi_thread")]
async fn f05_what_waits_has_a_bound() {
    let (moody, cluster, _) = start(|settings| settings.client.queue_max = 5).await;
    *lock(&moody.token) = "new".into();
    cluster.accept_owned(&request(vec![to("a", 1, "a")])).await;
    until(|| *lock(&moody.came) > 0).await;
    cluster.state_of("a", MessageState::Queued).await;
    let many = |n: u32| (0..n).map(|m| to(&format!("{n}-{m}"), m, "x")).collect();
    let answer = cluster.accept(&request(many(4))).await;
    assert!(
        matches!(answer, OwnerAnswer::Settled(Settled::Accepted { .. })),
        "{answer:?}"
    );
    let answer = cluster.accept(&request(many(3))).await;
    let OwnerAnswer::Settled(Settled::Refused { code, details }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(code.number(), 1016);
    assert!(details.contains("queue_max"), "{details}");
}

/// Goal (F05): the bound holds until messages go at full pace again: also while one message shows whether they may, and while
/// those go that waited. Method: many that wait, an upstream that is silent over the one, then takes a few a second.
#[tokio::test(flavor = "multi_thread")]
async fn f05_the_bound_holds_until_all_is_well() {
    let change = |settings: &mut Settings| {
        settings.client.queue_max = 650;
        settings.upstream.rate_per_second = Some(4);
        settings.upstream.request_timeout = Duration::from_secs(60);
    };
    let (moody, cluster, _) = start(change).await;
    *lock(&moody.mood) = Mood::Error(190, true);
    cluster.accept_owned(&request(vec![to("a", 1, "a")])).await;
    until(|| *lock(&moody.came) > 0).await;
    cluster.state_of("a", MessageState::Queued).await;
    let many = |name: &str| {
        (0..100)
            .map(|m| to(&format!("{name}-{m}"), 10 + m, "x"))
            .collect()
    };
    for n in 0..6 {
        let verdicts = cluster.accept_owned(&request(many(&n.to_string()))).await;
        assert_eq!(verdicts, [Acceptance::Accepted; 100]);
    }
    let full = async |name: &str| {
        let answer = cluster.accept(&request(many(name))).await;
        let refused = matches!(&answer, OwnerAnswer::Settled(Settled::Refused { code, .. }) if code.number() == 1016);
        assert!(refused, "{name}: {answer:?}");
    };
    full("held").await;
    let before = *lock(&moody.came);
    *lock(&moody.mood) = Mood::Silent;
    until(|| *lock(&moody.came) > before).await;
    full("one shows").await;
    *lock(&moody.mood) = Mood::Good;
    until(|| lock(&moody.taken).len() > 2).await;
    full("what waited goes").await;
}

/// Goal (F05): payment for one kind of messages has the same bound, for that kind only. Method: templates, texts, and both in one
/// call.
#[tokio::test(flavor = "multi_thread")]
async fn f05_what_waits_for_payment_has_a_bound() {
    let (moody, cluster, _) = start(|settings| settings.client.queue_max = 2).await;
    *lock(&moody.mood) = Mood::Error(131_042, false);
    let content = json!({"template": {"name": "offer", "language": "en"}});
    let template = |id: &str| Message {
        form: Form::NEWEST.number(),
        payload: json!({"to": {"phone": "447700900456"}, "content": content}).to_string(),
        ..message(id, "")
    };
    cluster.accept_owned(&request(vec![template("t1")])).await;
    until(|| *lock(&moody.came) == 1).await;
    cluster.state_of("t1", MessageState::Queued).await;
    let too_many = request(vec![template("t2"), template("t3")]);
    let answer = cluster.accept(&too_many).await;
    let OwnerAnswer::Settled(Settled::Refused { code, details }) = answer else {
        panic!("{answer:?}");
    };
    assert_eq!(code.number(), 1016);
    assert!(details.contains("queue_max"), "{details}");
    let both = request(vec![template("t4"), to("x1", 1, "a"), to("x2", 2, "b")]);
    assert_eq!(
        cluster.accept_owned(&both).await,
        [
            Acceptance::Unsettled,
            Acceptance::Accepted,
            Acceptance::Accepted
        ]
    );
    cluster.state_of("x1", MessageState::Sent).await;
    cluster.state_of("x2", MessageState::Sent).await;
    assert_eq!(*lock(&moody.came), 3, "no other template was tried");
}

/// Goal (F06): 200 with somebody else's page is no success: the message waits for its receipt, and is sent again only when none
/// came. So is any other answer that is not the API's.
#[tokio::test(flavor = "multi_thread")]
async fn f06_a_page_is_no_success() {
    for status in [200, 403, 502] {
        let (moody, cluster, _) = start(|_| ()).await;
        *lock(&moody.mood) = Mood::Page(status);
        cluster.accept_owned(&request(vec![to("m", 1, "m")])).await;
        cluster.state_of("m", MessageState::Ambiguous).await;
        *lock(&moody.mood) = Mood::Good;
        cluster.state_of("m", MessageState::Sent).await;
        assert_eq!(*lock(&moody.came), 2, "{status}: twice");
        assert_eq!(lock(&moody.taken).len(), 1, "{status}");
        cluster.stop.cancel();
    }
}

/// Goal (F07): unknown outcomes have an end. Method: an upstream that answers 502 for ever.
#[tokio::test(flavor = "multi_thread")]
async fn f07_a_message_is_sent_three_times_at_most() {
    let (moody, cluster, _) = start(|_| ()).await;
    *lock(&moody.mood) = Mood::Page(502);
    cluster.accept_owned(&request(vec![to("m", 1, "m")])).await;
    cluster.state_of("m", MessageState::Failed).await;
    assert_eq!(*lock(&moody.came), 3);
    until(|| !lock(&moody.seen).webhooks.is_empty()).await;
    let told = lock(&moody.seen).webhooks[0].clone();
    assert_eq!(told["statuses"][0]["errors"][0]["code"], 500, "{told}");
}

/// Goal (F07): where a person is to decide, it stays, and is counted. Method: one send at most, and a message that has waited for
/// several windows.
#[tokio::test(flavor = "multi_thread")]
async fn f07_a_message_can_wait_for_a_person() {
    let change = |settings: &mut Settings| {
        settings.upstream.on_ambiguity = OnAmbiguity::Resend;
        settings.upstream.ambiguity_sends_max = 1;
        settings.upstream.ambiguity_sends_then = SendsThen::Wait;
        settings.upstream.ambiguity_window = Duration::from_millis(100);
    };
    let (moody, cluster, _) = start(change).await;
    *lock(&moody.mood) = Mood::Page(502);
    cluster.accept_owned(&request(vec![to("m", 1, "m")])).await;
    cluster.state_of("m", MessageState::Ambiguous).await;
    let own = cluster.own().await;
    within(async {
        // It has waited for twenty windows.
        let long = Duration::from_secs(2);
        while cluster
            .db
            .overdue_ambiguous(&own, 1, long, 9)
            .await
            .expect("read")
            .is_empty()
        {
            clock::sleep(Duration::from_millis(20)).await;
        }
    })
    .await;
    assert_eq!(*lock(&moody.came), 1);
    assert_eq!(
        cluster.db.unknown_of(&own, 1, 1).await.expect("read"),
        (1, 1)
    );
    assert_eq!(states(&cluster).await["m"], MessageState::Ambiguous);
}

/// Goal: later messages of a customer wait behind one of unknown fate, and others do not. Method: one that is answered with a page,
/// another one to the same customer, and one to somebody else.
#[tokio::test(flavor = "multi_thread")]
async fn a_customers_messages_keep_their_order_behind_one_of_unknown_fate() {
    let (moody, cluster, _) = start(|_| ()).await;
    *lock(&moody.mood) = Mood::Page(502);
    cluster
        .accept_owned(&request(vec![to("m1", 1, "first")]))
        .await;
    until(|| *lock(&moody.came) == 1).await;
    cluster.state_of("m1", MessageState::Ambiguous).await;
    *lock(&moody.mood) = Mood::Good;
    let rest = vec![to("m2", 1, "second"), to("x", 2, "other")];
    cluster.accept_owned(&request(rest)).await;
    cluster.state_of("m2", MessageState::Sent).await;
    cluster.state_of("m1", MessageState::Sent).await;
    assert_eq!(*lock(&moody.taken), ["other", "first", "second"]);
}

/// Goal: a pause that the upstream asks for is kept. Method: 130429 with three seconds in `Retry-After`, which is three times the
/// pause without it; the moments at which the message came. A slow machine makes the pause longer, never shorter.
#[tokio::test(flavor = "multi_thread")]
async fn a_pause_that_is_asked_for_is_kept() {
    let (moody, cluster, _) = start(|_| ()).await;
    *lock(&moody.mood) = Mood::Limited(3);
    cluster.accept_owned(&request(vec![to("m", 1, "m")])).await;
    until(|| *lock(&moody.came) > 0).await;
    *lock(&moody.mood) = Mood::Good;
    cluster.state_of("m", MessageState::Sent).await;
    let at = lock(&moody.at).clone();
    assert_eq!(at.len(), 2, "{at:?}");
    let pause = at[1].since(at[0]);
    assert!(pause >= Duration::from_millis(2900), "{pause:?}");
}
