//! One coreapp with an upstream that takes files, and a server with links: what is uploaded, sent, fetched and refused.

use std::collections::HashSet;

use axum::extract::{Multipart, Path};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use tokio::sync::Semaphore;

use super::*;
use crate::api::v1::message;
use crate::config::Links;
use crate::db::media::Medium;
use crate::db::setting::MEDIA_PROVIDERS;
use crate::media::file::Files;

const ID: &str = "f043afd0-0000-4000-8000-000000000001";

/// A form that the upstream took.
struct Taken {
    kind: String,
    mime: String,
    name: String,
    bytes: Bytes,
}

/// What the upstream, and the server of the links, have seen.
#[derive(Default)]
struct Shop {
    forms: Vec<Taken>,
    /// Objects of sends, and whether they were taken.
    sends: Vec<(Value, bool)>,
    /// Ids that it does not know any more.
    forgotten: HashSet<String>,
    forgets_all: bool,
    fetched: Vec<(String, Option<String>)>,
    /// An upload takes so long.
    form_takes: Duration,
}

type Counter = Arc<(Mutex<Shop>, Semaphore)>;

fn shop(counter: &Counter) -> std::sync::MutexGuard<'_, Shop> {
    counter.0.lock().expect("no panic before")
}

async fn take_form(State(counter): State<Counter>, mut form: Multipart) -> Json<Value> {
    let mut kind = String::new();
    while let Some(field) = form.next_field().await.expect("a form") {
        match field.name().expect("a name") {
            "type" => kind = field.text().await.expect("text"),
            "file" => {
                let (mime, name) = (field.content_type(), field.file_name());
                let (mime, name) = (mime.expect("a type").into(), name.expect("a name").into());
                let bytes = field.bytes().await.expect("bytes");
                let kind = std::mem::take(&mut kind);
                let takes = shop(&counter).form_takes;
                clock::sleep(takes).await;
                let mut shop = shop(&counter);
                shop.forms.push(Taken {
                    kind,
                    mime,
                    name,
                    bytes,
                });
                return Json(json!({"id": format!("up-{}", shop.forms.len())}));
            }
            other => assert_eq!(other, "messaging_product"),
        }
    }
    panic!("no file");
}

async fn take_send(State(counter): State<Counter>, Json(body): Json<Value>) -> Response {
    let kind = body["type"].as_str().expect("a type");
    let object = body[kind].clone();
    let mut shop = shop(&counter);
    let known = object["id"].as_str();
    let known = known.is_none_or(|id| !shop.forgets_all && !shop.forgotten.contains(id));
    shop.sends.push((object, known));
    match known {
        true => Json(json!({"messages": [{"id": format!("wamid.{}", shop.sends.len())}]}))
            .into_response(),
        false => {
            let error =
                json!({"error": {"code": 131053, "message": "(#131053) Media upload error"}});
            (StatusCode::BAD_REQUEST, Json(error)).into_response()
        }
    }
}

async fn give(
    State(counter): State<Counter>,
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Response {
    let shown = headers.get(header::AUTHORIZATION);
    let shown = shown.map(|value| value.to_str().expect("text").to_owned());
    shop(&counter).fetched.push((name.clone(), shown.clone()));
    match name.as_str() {
        "gone.png" => StatusCode::NOT_FOUND.into_response(),
        "private.pdf" if shown.is_none() => StatusCode::UNAUTHORIZED.into_response(),
        slow if slow.starts_with("slow") => {
            let _ = counter.1.acquire().await;
            ([("content-type", "image/png")], "slow").into_response()
        }
        _ => ([("content-type", "image/png; charset=x")], "png").into_response(),
    }
}

struct Bench {
    cluster: Cluster,
    counter: Counter,
    at: SocketAddr,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn start(links: Links) -> Self {
        let counter: Counter = Arc::new((Mutex::default(), Semaphore::new(0)));
        let routes = Router::new()
            .route(
                "/v1/number",
                get(|| async { Json(json!({"id": "number"})) }),
            )
            .route("/v1/number/media", post(take_form))
            .route("/v1/number/messages", post(take_send))
            .route("/files/{name}", get(give))
            .with_state(Arc::clone(&counter));
        let seen = Outside::default();
        let hook = Router::new().route("/hook", post(take_webhook));
        let routes = routes.merge(hook.with_state(Arc::clone(&seen)));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
        let listener = listener.expect("a free port");
        let at = listener.local_addr().expect("bound");
        tokio::spawn(async move { axum::serve(listener, routes).await });
        let directory = tempfile::tempdir().expect("a directory");
        let application = json!({"callback_backoff_delay_ms": 50, "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
        let change = |settings: &mut Settings| {
            settings.media.directory = directory.path().into();
            settings.client.links = links;
            settings.client.link_hosts = vec!["127.0.0.1".into()];
        };
        let cluster = Cluster::start_at(application, (seen, at), change).await;
        Self {
            cluster,
            counter,
            at,
            directory,
        }
    }

    fn shop(&self) -> std::sync::MutexGuard<'_, Shop> {
        shop(&self.counter)
    }

    /// A file as a webapp stores it.
    async fn store(&self, id: &str, mime: &str, bytes: &'static [u8]) {
        let files = Files::new(self.directory.path());
        let mut file = files.create(id, 1000).await.expect("made");
        file.write(Bytes::from_static(bytes))
            .await
            .expect("written");
        let (bytes, sha256) = file.finish().await.expect("stored");
        let medium = Medium {
            id: id.into(),
            mime: mime.into(),
            bytes,
            sha256,
        };
        self.cluster.db.add_medium(&medium).await.expect("stored");
    }

    /// Each to a customer of its own: those of one wait for each other.
    fn message(&self, id: &str, kind: &str, object: Value) -> Message {
        let to = format!("4477009{:05}", recipient_hash(id) % 100_000);
        let body = json!({"to": to, "type": kind, kind: object}).to_string();
        let parsed = message::Message::parse(body.as_bytes(), None).expect("well-formed");
        Message {
            id: id.into(),
            recipient_hash: recipient_hash(&to),
            form: Form::NEWEST.number(),
            payload: message::stored::write(Form::NEWEST, &parsed),
        }
    }

    async fn send(&self, id: &str, kind: &str, object: Value) {
        let message = self.message(id, kind, object);
        self.cluster.accept_owned(&request(vec![message])).await;
    }

    /// Sends it, and waits for what becomes of it.
    async fn sent(&self, id: &str, object: Value, state: MessageState) {
        self.send(id, "image", object).await;
        self.cluster.state_of(id, state).await;
    }

    fn link(&self, name: &str) -> String {
        format!("http://{}/files/{name}", self.at)
    }

    /// The error that the business is told of a message.
    async fn told(&self, id: &str) -> Value {
        within(async {
            loop {
                let webhooks = self.cluster.seen.lock().expect("no panic").webhooks.clone();
                let status = |w: &Value| w["statuses"][0].clone();
                let found = webhooks.iter().map(status).find(|s| s["id"] == id);
                if let Some(found) = found {
                    return found["errors"][0].clone();
                }
                clock::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }
}

/// Goal (F14): a file that the upstream has forgotten is given again and the message sent, once; one that it refuses all the
/// same fails the message. Method: ids that stop being known; uploads and sends counted.
#[tokio::test(flavor = "multi_thread")]
async fn f14_a_forgotten_file_is_given_again() {
    let bench = Bench::start(Links::Upstream).await;
    bench.store(ID, "image/jpeg; charset=utf-8", b"jpeg").await;
    let own = || json!({"id": ID});
    bench.sent("m1", own(), MessageState::Sent).await;
    bench.shop().forgotten.insert("up-1".into());
    bench.sent("m2", own(), MessageState::Sent).await;
    bench.sent("m3", own(), MessageState::Sent).await;
    let ids = |bench: &Bench| {
        let sends = &bench.shop().sends;
        sends
            .iter()
            .map(|(object, known)| (object["id"].as_str().expect("an id").to_owned(), *known))
            .collect::<Vec<_>>()
    };
    let wanted = [
        ("up-1", true),
        ("up-1", false),
        ("up-2", true),
        ("up-2", true),
    ];
    let wanted: Vec<_> = wanted.map(|(id, known)| (id.to_owned(), known)).into();
    assert_eq!(ids(&bench), wanted);
    bench.shop().forgets_all = true;
    bench.sent("m4", own(), MessageState::Failed).await;
    assert_eq!(bench.told("m4").await["code"], 1014);
    assert_eq!(
        ids(&bench)[4..],
        [("up-2".into(), false), ("up-3".into(), false)]
    );
    let shop = bench.shop();
    assert_eq!(shop.forms.len(), 3);
    // F15: as it was cleaned, under a name with its ending.
    let form = &shop.forms[0];
    assert_eq!(
        (form.kind.as_str(), form.mime.as_str()),
        ("image/jpeg", "image/jpeg")
    );
    assert_eq!(
        (form.name.clone(), &form.bytes[..]),
        (format!("{ID}.jpg"), &b"jpeg"[..])
    );
}

/// Goal (F14): the second refusal is final, also when the upload in between took so long that the message went back to the
/// store. Method: an upstream with slow uploads that refuses every file; uploads and sends counted.
#[tokio::test(flavor = "multi_thread")]
async fn f14_a_file_that_is_slow_to_give_is_given_again_once() {
    let bench = Bench::start(Links::Upstream).await;
    bench.store(ID, "image/png", b"png").await;
    let own = || json!({"id": ID});
    bench.sent("m1", own(), MessageState::Sent).await;
    bench.shop().forgets_all = true;
    // Longer than a message waits for a file.
    bench.shop().form_takes = Duration::from_millis(3300);
    bench.sent("m2", own(), MessageState::Failed).await;
    assert_eq!(bench.told("m2").await["code"], 1014);
    let shop = bench.shop();
    let sent: Vec<_> = shop.sends.iter().map(|(object, _)| &object["id"]).collect();
    assert_eq!(sent, ["up-1", "up-1", "up-2"]);
    assert_eq!(shop.forms.len(), 2);
}

/// Goal (F14): a failure that comes later by webhook is final, and the next message uploads the file again. Method: the event.
#[tokio::test(flavor = "multi_thread")]
async fn f14_a_file_refused_by_webhook_is_given_to_later_messages_again() {
    let bench = Bench::start(Links::Upstream).await;
    bench.store(ID, "image/png", b"png").await;
    bench
        .sent("m1", json!({"id": ID}), MessageState::Sent)
        .await;
    let status = json!({"id": "wamid.1", "status": "failed", "timestamp": "1", "recipient_id": "447700900456",
        "biz_opaque_callback_data": "m1.0", "errors": [{"code": 131053, "title": "Media upload error"}]});
    let body = json!({"entry": [{"changes": [{"value": {"statuses": [status]}}]}]});
    let events = cloud::event::items(&body);
    let events: Vec<NewEvent> = events
        .iter()
        .map(|event| NewEvent {
            key: event.key.clone(),
            recipient_hash: recipient_hash(&event.customer),
            payload: serde_json::to_string(event).expect("plain JSON"),
            state: Default::default(),
        })
        .collect();
    bench
        .cluster
        .db
        .store_events(&events)
        .await
        .expect("stored");
    bench.cluster.state_of("m1", MessageState::Failed).await;
    bench
        .sent("m2", json!({"id": ID}), MessageState::Sent)
        .await;
    bench.cluster.state_of("m1", MessageState::Failed).await;
    let shop = bench.shop();
    assert_eq!(shop.sends[1].0["id"], "up-2");
    assert_eq!((shop.sends.len(), shop.forms.len()), (2, 2));
}

/// Goal: a link is fetched once for many messages, given to the upstream with a clean type and a name, and sent by id; what is
/// not there fails with the code that the upstream's own fetching has. Method: links of one server.
#[tokio::test(flavor = "multi_thread")]
async fn links_are_fetched_and_sent_by_id() {
    let bench = Bench::start(Links::Fetch).await;
    let link = bench.link("photo?size=1");
    for id in ["m1", "m2"] {
        let object = json!({"link": link, "caption": "c"});
        bench.sent(id, object, MessageState::Sent).await;
    }
    let gone = json!({"link": bench.link("gone.png?key=secret")});
    bench.sent("m3", gone, MessageState::Failed).await;
    let error = bench.told("m3").await;
    assert_eq!(error["code"], 1014);
    assert_eq!(
        error["details"],
        "Downloading image.link failed: its server answered 404"
    );
    let inside = json!({"link": format!("http://localhost:{}/files/photo", bench.at.port())});
    bench.sent("m4", inside, MessageState::Failed).await;
    let error = bench.told("m4").await;
    let why = "Downloading image.link failed: localhost has no address that is public";
    assert_eq!(
        (&error["code"], &error["details"]),
        (&json!(1014), &json!(why))
    );
    // F14: the upstream forgets what it was given of a link, too.
    bench.shop().forgotten.insert("up-1".into());
    let object = json!({"link": link, "caption": "c"});
    bench.sent("m5", object, MessageState::Sent).await;
    let shop = bench.shop();
    let fetched: Vec<&str> = shop.fetched.iter().map(|(name, _)| name.as_str()).collect();
    assert_eq!(fetched, ["photo", "gone.png", "photo"]);
    for ((object, _), id) in shop.sends.iter().zip(["up-1", "up-1", "up-1", "up-2"]) {
        assert_eq!(object, &json!({"id": id, "caption": "c"}));
    }
    assert_eq!((shop.sends.len(), shop.forms.len()), (4, 2));
    assert_eq!(shop.forms[0].mime, "image/png");
    assert!(
        shop.forms[0].name.ends_with(".png"),
        "{}",
        shop.forms[0].name
    );
}

/// Goal: by default a link is sent as it is, unless its host is listed or a provider is named, which is always fetched with its
/// credentials; an unknown one ends the message. Method: each of them.
#[tokio::test(flavor = "multi_thread")]
async fn providers_and_listed_hosts_are_always_fetched() {
    let bench = Bench::start(Links::Upstream).await;
    let row = r#"{"providers":{"cdn":{"bearer":"word"}}}"#;
    let stored = bench
        .cluster
        .db
        .store_setting(MEDIA_PROVIDERS, 0, row)
        .await;
    assert!(stored.expect("stored"));
    let elsewhere = json!({"link": "https://files.example/a.png"});
    bench
        .sent("m1", elsewhere.clone(), MessageState::Sent)
        .await;
    bench
        .sent(
            "m2",
            json!({"link": bench.link("photo")}),
            MessageState::Sent,
        )
        .await;
    let private =
        |provider: &str| json!({"link": bench.link("private.pdf"), "provider": {"name": provider}});
    bench.sent("m3", private("cdn"), MessageState::Sent).await;
    bench
        .sent("m4", private("other"), MessageState::Failed)
        .await;
    let error = bench.told("m4").await;
    let why = "image.provider.name is not the name of a media provider";
    assert_eq!(
        (&error["code"], &error["details"]),
        (&json!(1009), &json!(why))
    );
    let shop = bench.shop();
    let sent: Vec<&Value> = shop.sends.iter().map(|(object, _)| object).collect();
    assert_eq!(
        sent,
        [&elsewhere, &json!({"id": "up-1"}), &json!({"id": "up-2"})]
    );
    let fetched = [
        ("photo".to_owned(), None),
        ("private.pdf".to_owned(), Some("Bearer word".to_owned())),
    ];
    assert_eq!(shop.fetched, fetched);
}

/// Goal: servers that take their time hold up nobody else's messages, and their own go out when the files come. Method: more
/// slow links than there are attempts at once, then a text and a file of ours; then the server answers.
#[tokio::test(flavor = "multi_thread")]
async fn slow_links_hold_up_no_other_message() {
    let bench = Bench::start(Links::Fetch).await;
    let slow = |n: usize| json!({"link": bench.link(&format!("slow-{n}"))});
    let messages = (0..20).map(|n| bench.message(&format!("s{n}"), "image", slow(n)));
    let messages = messages.collect();
    bench.cluster.accept_owned(&request(messages)).await;
    bench.send("t", "text", json!({"body": "hello"})).await;
    bench.cluster.state_of("t", MessageState::Sent).await;
    bench.store(ID, "image/png", b"png").await;
    let own = json!({"id": ID});
    bench.sent("own", own, MessageState::Sent).await;
    assert_eq!(bench.shop().sends.len(), 2);
    assert!(bench.shop().fetched.len() <= 2);
    bench.counter.1.add_permits(Semaphore::MAX_PERMITS / 2);
    for n in 0..20 {
        bench
            .cluster
            .state_of(&format!("s{n}"), MessageState::Sent)
            .await;
    }
    assert_eq!(bench.shop().forms.len(), 21);
}
