//! Files of customers, over a whole coreapp. Goal: those that the business wants are here when it hears of the message; any other
//! comes when somebody asks for it, once, whole, and while the upstream has it. Method: an upstream with files that counts who
//! asked for what, and that can be slow, wrong and forgetful.

use axum::body::Body;
use axum::extract::{Path, Query};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use sha2::{Digest as _, Sha256};
use tokio::sync::Semaphore;

use super::*;
use crate::api::v1::code::Code;
use crate::config::Require;
use crate::coreapp::fetch::{Missed, bring};
use crate::coreapp::node::Node;
use crate::coreapp::upstream::Upstream;
use crate::coreapp::work::Work;
use crate::db::remote::Remote;
use crate::media::file::Files;
use crate::sys::dial::Dialer;
use crate::sys::mount::Trouble;

mod behind;

const CUSTOMER: &str = "447700900456";

/// What the upstream was asked, and how it answers.
#[derive(Default)]
struct Shop {
    /// Questions for addresses.
    asked: Vec<String>,
    /// Files whose bytes were asked for, at an address that was good.
    fetched: Vec<String>,
    /// So many addresses lead nowhere.
    dead: u32,
    /// It sends other bytes than it says.
    wrong: bool,
    forgotten: bool,
    at: Option<SocketAddr>,
}

/// Bytes of a file whose id begins with `slow` come when somebody lets one come.
type Counter = Arc<(Mutex<Shop>, Semaphore)>;

fn shop(counter: &Counter) -> std::sync::MutexGuard<'_, Shop> {
    counter.0.lock().expect("no panic before")
}

fn bytes_of(id: &str) -> Vec<u8> {
    format!("the bytes of {id}").into_bytes()
}

async fn about(State(counter): State<Counter>, Path(id): Path<String>) -> Response {
    let mut shop = shop(&counter);
    shop.asked.push(id.clone());
    if shop.forgotten {
        let error = json!({"error": {"code": 100, "message": "Unsupported get request. Object does not exist"}});
        return (StatusCode::BAD_REQUEST, Json(error)).into_response();
    }
    let (at, nth) = (shop.at.expect("bound"), shop.asked.len());
    let sha256 = hex::encode(Sha256::digest(bytes_of(&id)));
    let answer = json!({"url": format!("http://{at}/bytes/{id}?nth={nth}"), "mime_type": "image/png", "sha256": sha256, "id": id});
    Json(answer).into_response()
}

async fn bytes(
    State(counter): State<Counter>,
    Path(id): Path<String>,
    Query(address): Query<HashMap<String, usize>>,
    headers: HeaderMap,
) -> Response {
    assert_eq!(headers["authorization"], "Bearer t");
    let wrong = {
        let mut shop = shop(&counter);
        assert!(
            address["nth"] <= shop.asked.len(),
            "an address that it never said"
        );
        if shop.dead > 0 {
            shop.dead -= 1;
            return StatusCode::NOT_FOUND.into_response();
        }
        shop.fetched.push(id.clone());
        shop.wrong
    };
    let (first, rest) = match wrong {
        true => (b"something".to_vec(), b" else".to_vec()),
        false => {
            let mut first = bytes_of(&id);
            let rest = first.split_off(9);
            (first, rest)
        }
    };
    let held = Arc::clone(&counter);
    let rest = stream::once(async move {
        if id.starts_with("slow") {
            held.1.acquire().await.expect("open").forget();
        }
        Ok::<_, std::io::Error>(Bytes::from(rest))
    });
    let whole = stream::once(async { Ok(Bytes::from(first)) }).chain(rest);
    Body::from_stream(whole).into_response()
}

async fn upstream() -> (Counter, Outside, SocketAddr) {
    let counter: Counter = Arc::new((Mutex::default(), Semaphore::new(0)));
    let seen = Outside::default();
    // The small business refuses the first call.
    seen.lock().expect("new").webhook_calls = 1;
    let routes = Router::new()
        .route("/v1/{id}", get(about))
        .route("/bytes/{id}", get(bytes))
        .with_state(Arc::clone(&counter));
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await;
    let listener = listener.expect("a free port");
    let at = listener.local_addr().expect("bound");
    shop(&counter).at = Some(at);
    let routes = routes.merge(router(&seen));
    tokio::spawn(async move { axum::serve(listener, routes).await });
    (counter, seen, at)
}

struct Bench {
    cluster: Cluster,
    counter: Counter,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn start(auto_download: &[&str], require: Require) -> Self {
        let (counter, seen, at) = upstream().await;
        let directory = tempfile::tempdir().expect("a directory");
        let application = json!({"callback_backoff_delay_ms": 50, "media": {"auto_download": auto_download},
            "webhooks": {"url": "hook", "max_concurrent_requests": 6}});
        let change = |settings: &mut Settings| {
            settings.media.directory = directory.path().into();
            settings.media.require = require;
        };
        Self {
            cluster: Cluster::start_at(application, (seen, at), change).await,
            counter,
            directory,
        }
    }

    /// Stores the events of one call.
    async fn store(&self, value: Value) {
        let call = json!({"entry": [{"changes": [{"value": value}]}]});
        let items = cloud::event::items(&call);
        let events: Vec<NewEvent> = items
            .iter()
            .map(|item| NewEvent {
                key: item.key.clone(),
                recipient_hash: recipient_hash(&item.customer),
                payload: serde_json::to_string(item).expect("plain JSON"),
                state: Default::default(),
            })
            .collect();
        self.cluster.db.store_events(&events).await.expect("stored");
    }

    /// A customer sends a file; what the business is told of it.
    async fn told(&self, id: &str) -> Value {
        let sha256 = hex::encode(Sha256::digest(bytes_of(id)));
        let image = json!({"id": id, "mime_type": "image/jpeg", "sha256": sha256});
        let message = json!({"from": CUSTOMER, "id": format!("wamid.{id}"), "timestamp": "1", "type": "image", "image": image});
        self.store(json!({"messages": [message]})).await;
        let wanted = format!("wamid.{id}");
        within(async {
            loop {
                let seen = self.cluster.seen.lock().expect("no panic").webhooks.clone();
                let messages = seen.iter().map(|told| &told["messages"][0]);
                let mut found = messages.filter(|message| message["id"] == wanted.as_str());
                if let Some(found) = found.next() {
                    return found["image"].clone();
                }
                clock::sleep(Duration::from_millis(10)).await;
            }
        })
        .await
    }

    /// Our id of a file that was not fetched.
    async fn undownloaded(&self, id: &str) -> String {
        let told = self.told(id).await;
        assert_eq!(told["status"], "undownloaded", "{told}");
        told["id"].as_str().expect("an id").to_owned()
    }

    /// What the owner says to a webapp.
    async fn fetch(&self, id: &str) -> OwnerAnswer {
        let request = OwnerRequest {
            shard: 0,
            generation: 1,
            epoch: 3,
            call: OwnerCall::FetchMedium { id: id.into() },
        };
        let (url, body) = (
            format!("{}{}", self.cluster.base, owner::PATH),
            serde_json::to_vec(&request).expect("plain JSON"),
        );
        let client = &self.cluster.client;
        let answer = client.call(http::Method::POST, &url, body, Duration::from_secs(60));
        let (status, body) = answer.await.expect("an answer");
        assert_eq!(status, StatusCode::OK);
        serde_json::from_slice(&body).expect("an answer of ours")
    }

    async fn sql(&self, statement: &'static str) {
        let Db::Sqlite(pool) = &self.cluster.db else {
            unreachable!("embedded");
        };
        sqlx::query(statement).execute(pool).await.expect("done");
    }

    fn asked(&self) -> usize {
        shop(&self.counter).asked.len()
    }

    fn fetched(&self) -> usize {
        shop(&self.counter).fetched.len()
    }

    /// Files in the directory, parts of them included.
    fn files(&self) -> usize {
        let folders = std::fs::read_dir(self.directory.path()).expect("read");
        let files = folders.map(|folder| std::fs::read_dir(folder.expect("read").path()));
        files.map(|folder| folder.expect("a folder").count()).sum()
    }
}

fn done() -> OwnerAnswer {
    OwnerAnswer::Settled(Settled::Done)
}

fn code(answer: &OwnerAnswer) -> Option<Code> {
    match answer {
        OwnerAnswer::Settled(Settled::Refused { code, .. }) => Some(*code),
        OwnerAnswer::Settled(_) | OwnerAnswer::Setback(_) => None,
    }
}

/// Goal: what the settings do not name is told at once and fetched by nobody, until somebody asks for it; then once. Method: a
/// photo where only videos are wanted; two who ask at once, and a third.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_downloaded_comes_when_it_is_asked_for() {
    let bench = Bench::start(&["video"], Require::Directory).await;
    let id = bench.undownloaded("slow-1").await;
    assert_eq!((bench.asked(), bench.fetched()), (0, 0));
    assert_eq!(bench.cluster.db.medium(&id).await.expect("read"), None);
    let let_come = async {
        while bench.fetched() == 0 {
            clock::sleep(Duration::from_millis(5)).await;
        }
        bench.counter.1.add_permits(1);
    };
    let (one, two, ()) = tokio::join!(bench.fetch(&id), bench.fetch(&id), let_come);
    assert_eq!([one, two, bench.fetch(&id).await], [done(), done(), done()]);
    assert_eq!((bench.asked(), bench.fetched()), (1, 1));
    let medium = bench.cluster.db.medium(&id).await.expect("read");
    let medium = medium.expect("here");
    let digest = hex::encode(Sha256::digest(bytes_of("slow-1")));
    assert_eq!((&*medium.mime, medium.sha256), ("image/png", digest));
    let opened = Files::new(bench.directory.path()).open(&id).await;
    assert_eq!(
        opened.expect("asked").expect("there").length(),
        medium.bytes
    );
    assert_eq!(bench.files(), 1);
}

/// Goal: an address that leads nowhere any more is asked for anew, and the business hears of a file that is here. Method: two dead
/// addresses.
#[tokio::test(flavor = "multi_thread")]
async fn a_dead_address_is_asked_for_anew() {
    let bench = Bench::start(&["image"], Require::Directory).await;
    shop(&bench.counter).dead = 2;
    let told = bench.told("7").await;
    assert_eq!(told["status"], Value::Null, "{told}");
    assert_eq!((bench.asked(), bench.fetched()), (3, 1));
    let id = told["id"].as_str().expect("an id");
    assert!(bench.cluster.db.medium(id).await.expect("read").is_some());
}

/// Goal: a file that could not be fetched at once is told without it, and can be asked for later. Method: other bytes than the
/// digest says, then the right ones.
#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_are_not_taken() {
    let bench = Bench::start(&["image"], Require::Directory).await;
    shop(&bench.counter).wrong = true;
    let id = bench.undownloaded("8").await;
    assert_eq!(bench.fetched(), 3);
    let refused = bench.fetch(&id).await;
    assert_eq!(code(&refused), Some(Code::NotReady), "{refused:?}");
    within(async {
        while bench.files() > 0 {
            clock::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    shop(&bench.counter).wrong = false;
    assert_eq!(bench.fetch(&id).await, done());
}

/// Goal: what nobody has is said to be unknown, and who has forgotten it: nobody tries for ever. Method: an upstream that forgets,
/// a row of eight days ago, one that a client deleted, an id of nobody.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_gone_is_not_there() {
    let bench = Bench::start(&[], Require::Directory).await;
    let (first, second) = (bench.undownloaded("1").await, bench.undownloaded("2").await);
    shop(&bench.counter).forgotten = true;
    let gone = bench.fetch(&first).await;
    assert_eq!(code(&gone), Some(Code::NotFound), "{gone:?}");
    assert_eq!(bench.asked(), 1, "it is not asked again");
    shop(&bench.counter).forgotten = false;
    bench
        .sql("UPDATE media SET cloud_ms=cloud_ms+8*86400000")
        .await;
    let old = bench.fetch(&first).await;
    assert_eq!(code(&old), Some(Code::NotFound), "{old:?}");
    assert_eq!(bench.asked(), 1);
    let db = &bench.cluster.db;
    assert!(db.remove_medium(&second).await.expect("deleted"));
    for nobody in [second.as_str(), "f043afd0-0000-4000-8000-000000000001"] {
        let unknown = bench.fetch(nobody).await;
        assert_eq!(code(&unknown), Some(Code::NotFound), "{unknown:?}");
    }
    assert_eq!(bench.files(), 0);
}

/// Goal: a client that deletes a file while it comes has deleted it. Method: a slow one.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_deleted_on_its_way_does_not_come() {
    let bench = Bench::start(&[], Require::Directory).await;
    let id = bench.undownloaded("slow-d").await;
    let delete = async {
        while bench.fetched() == 0 {
            clock::sleep(Duration::from_millis(5)).await;
        }
        assert!(bench.cluster.db.remove_medium(&id).await.expect("deleted"));
        bench.counter.1.add_permits(1);
    };
    let (answer, ()) = tokio::join!(bench.fetch(&id), delete);
    assert_eq!(code(&answer), Some(Code::NotFound), "{answer:?}");
    assert_eq!(bench.files(), 0);
}

/// Goal: files that are asked for take four places and no more, and all come. Method: six slow ones.
#[tokio::test(flavor = "multi_thread")]
async fn files_that_are_asked_for_are_bounded() {
    let bench = Bench::start(&[], Require::Directory).await;
    let mut ids = Vec::new();
    for n in 0..6 {
        ids.push(bench.undownloaded(&format!("slow-{n}")).await);
    }
    let one_by_one = async {
        for fetched in 4..=6 {
            while bench.fetched() < fetched {
                clock::sleep(Duration::from_millis(5)).await;
            }
            assert_eq!(bench.fetched(), fetched);
            bench.counter.1.add_permits(1);
        }
        bench.counter.1.add_permits(3);
    };
    let all = futures_util::future::join_all(ids.iter().map(|id| bench.fetch(id)));
    let (answers, ()) = tokio::join!(all, one_by_one);
    assert!(answers.iter().all(|a| *a == done()), "{answers:?}");
    assert_eq!(bench.fetched(), 6);
}

/// Goal: without a place for files no id is promised. Method: an installation without a directory.
#[tokio::test(flavor = "multi_thread")]
async fn without_a_directory_there_is_no_id() {
    let bench = Bench::start(&["image"], Require::None).await;
    let told = bench.told("9").await;
    assert_eq!(
        (&told["status"], told.get("id")),
        (&json!("undownloaded"), None)
    );
    assert_eq!(bench.asked(), 0);
}

/// Goal: a directory that fills up while a file comes ends that file, and nothing of it stays. Method: a slow file, and a probe that
/// finds no room between its chunks.
#[tokio::test(flavor = "multi_thread")]
async fn the_directory_is_looked_at_for_each_chunk() {
    let (counter, _, at) = upstream().await;
    let place = tempfile::tempdir().expect("a directory");
    let mut settings = settings(place.path(), at);
    settings.media.directory = place.path().into();
    settings.media.require = Require::Directory;
    let me = Incarnation::default();
    let own = Ownership {
        shard: ShardId(0),
        epoch: Epoch(1),
        grant: Grant(1),
        owner: settings.node.clone(),
        incarnation: me,
    };
    let node = Node::new(Arc::new(settings), Keys::new(KEY), me);
    let until = clock::now() + Duration::from_secs(60);
    node.gate.open(Epoch(1), until);
    let gate = Arc::clone(&node.gate);
    let upstream = Upstream::new(
        &node.settings.upstream,
        &node.roots,
        Dialer::system(),
        gate,
        own.clone(),
    );
    let runtime = node.runtime.clone();
    let (work, _queues) = Work::new(upstream, own, 1, Generation(1), runtime);
    let file = Remote {
        id: "f043afd0-0000-4000-8000-000000000001".into(),
        cloud_id: "slow-9".into(),
        mime: String::new(),
        sha256: String::new(),
    };
    let fill_up = async {
        while shop(&counter).fetched.is_empty() {
            clock::sleep(Duration::from_millis(5)).await;
        }
        node.media.found(Trouble::Full(0), "it is full");
        counter.1.add_permits(1);
    };
    let (missed, ()) = tokio::join!(bring(&node, &work, &file), fill_up);
    let Err(Missed::Later(why)) = missed else {
        panic!("{missed:?}");
    };
    assert!(why.contains("it is full"), "{why}");
    assert_eq!(shop(&counter).fetched.len(), 1, "no other try begins");
    let files = Files::new(place.path()).open(&file.id).await;
    assert!(files.expect("asked").is_none());
}
