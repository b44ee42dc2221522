//! The simulator by itself: what it writes down and delivers, whatever becomes of whoever sends.

mod business;
mod calls;
mod registration;
mod sends;
mod told;

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::Bytes;
use http::Request;
use http_body_util::Full;
use serde_json::{Value, json};

use super::event::{self, Send};
use super::knobs::Knobs;
use super::reader::sent::Recipient;
use super::state::lock;
use super::*;
use crate::net::client::OutsideClient;
use crate::sys::clock;

fn args(more: &[&str]) -> SimulatorArgs {
    #[derive(clap::Parser)]
    struct Line {
        #[command(flatten)]
        args: SimulatorArgs,
    }
    let mut args = <Line as clap::Parser>::parse_from(["simulator"].iter().chain(more)).args;
    // Any port, unless one is named.
    if !more.contains(&"--listen") {
        args.listen.set_port(0);
    }
    args
}

async fn started(args: SimulatorArgs) -> (Arc<Simulator>, u16, CancellationToken) {
    let listener = server::listen("simulator", args.listen)
        .await
        .expect("any port");
    let port = listener.local_addr().expect("it is bound").port();
    let stop = CancellationToken::new();
    let (simulator, queue) = Simulator::new(args);
    serve(Arc::clone(&simulator), queue, listener, stop.clone());
    (simulator, port, stop)
}

/// A simulator that tells a listener of its own.
struct Bench {
    simulator: Arc<Simulator>,
    client: OutsideClient,
    port: u16,
    told: Arc<std::sync::Mutex<Vec<Value>>>,
    stop: CancellationToken,
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

impl Bench {
    async fn start() -> Self {
        let told: Arc<std::sync::Mutex<Vec<Value>>> = Arc::default();
        let taken = Arc::clone(&told);
        let take = move |axum::Json(body): axum::Json<Value>| {
            lock(&taken).push(body);
            std::future::ready(axum::http::StatusCode::OK)
        };
        let any = "127.0.0.1:0".parse().expect("an address");
        let listener = server::listen("taker", any).await.expect("any port");
        let url = format!(
            "http://{}/hook",
            listener.local_addr().expect("it is bound")
        );
        let (simulator, port, stop) = started(args(&[
            "--webhook",
            &url,
            "--latency-ms",
            "0",
            "--webhook-delay-ms",
            "0",
        ]))
        .await;
        let router = Router::new().route("/hook", post(take));
        tokio::spawn(server::serve(listener, router, stop.clone()));
        let client = OutsideClient::new(Duration::from_secs(1), 4);
        Self {
            simulator,
            client,
            port,
            told,
            stop,
        }
    }

    /// Status, and the body where it is JSON.
    async fn call(&self, method: &str, path: &str, body: &Value) -> (u16, Value) {
        let request = Request::builder()
            .method(method)
            .uri(format!("http://127.0.0.1:{}{path}", self.port))
            .header("authorization", "Bearer simulator-token")
            .header("content-type", "application/json")
            .body(Full::new(Bytes::from(body.to_string())))
            .expect("a request");
        let answer = self.client.call(request, Duration::from_secs(5)).await;
        let answer = answer.expect("an answer");
        let body = serde_json::from_slice(answer.body()).unwrap_or_default();
        (answer.status().as_u16(), body)
    }

    async fn get(&self, path: &str) -> Value {
        let (status, body) = self.call("GET", path, &Value::Null).await;
        assert_eq!(status, 200, "{path}: {body}");
        body
    }

    async fn post(&self, path: &str, body: &Value) -> (u16, Value) {
        self.call("POST", path, body).await
    }

    async fn send(&self, body: &Value) -> (u16, Value) {
        self.post("/v25.0/100200300/messages", body).await
    }

    fn knobs(&self, change: impl FnOnce(&mut Knobs)) {
        change(&mut lock(&self.simulator.knobs));
    }

    /// All values of webhooks so far that have this list, with their items.
    fn items(&self, list: &str) -> Vec<(Value, Value)> {
        let told = lock(&self.told);
        let entries = told
            .iter()
            .flat_map(|body| body["entry"].as_array().into_iter().flatten());
        let changes = entries.flat_map(|entry| entry["changes"].as_array().into_iter().flatten());
        let values = changes.map(|change| &change["value"]);
        let items = values.flat_map(|value| {
            let items = value[list].as_array().into_iter().flatten();
            items.map(|item| (value.clone(), item.clone()))
        });
        items.collect()
    }

    /// The words of the statuses of a message of ours, in the order in which they came.
    fn words(&self, id: &str) -> Vec<String> {
        let statuses = self.items("statuses").into_iter();
        let ours = statuses.filter(|(_, status)| status["biz_opaque_callback_data"] == id);
        ours.map(|(_, status)| status["status"].as_str().expect("a word").to_owned())
            .collect()
    }
}

/// A text.
fn text(to: &str, id: &str) -> Value {
    json!({"messaging_product": "whatsapp", "to": to, "type": "text", "text": {"body": "x"}, "biz_opaque_callback_data": id})
}

fn number(digits: &str) -> Recipient {
    let (input, digits) = (digits.to_owned(), digits.to_owned());
    Recipient::Number { input, digits }
}

/// Begins a send: the head of a request under epoch 1, and so much of its body.
fn begin(port: u16, id: &str, part: usize) -> TcpStream {
    let body = json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "text", "text": {"body": "x"},
        "biz_opaque_callback_data": id})
    .to_string();
    let mut stream = TcpStream::connect((Ipv4Addr::LOCALHOST, port)).expect("it listens");
    write!(
        stream,
        "POST /v23.0/100200300/messages HTTP/1.1\r\nhost: simulator\r\nauthorization: Bearer simulator-token\r\n\
         x-wa-shard: 0\r\nx-wa-epoch: 1\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{}",
        body.len(),
        &body[..part.min(body.len())]
    )
    .expect("it is taken");
    stream
}

async fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = clock::now() + Duration::from_secs(20);
    while !done() {
        assert!(clock::now() < deadline, "{what}");
        clock::sleep(Duration::from_millis(5)).await;
    }
}

/// Goal: the log has a line for every send that was taken. Method: the answer is held back, and the sender is gone before it.
#[tokio::test]
async fn a_send_whose_sender_died_is_written_down() {
    let directory = tempfile::tempdir().expect("a directory");
    let log = directory.path().join("requests.log");
    let path = log.display().to_string();
    let (simulator, port, stop) =
        started(args(&["--request-log", &path, "--latency-ms", "30000"])).await;
    let stream = begin(port, "m1", usize::MAX);
    until("the send is not taken", || {
        lock(&simulator.seen).accepted == 1
    })
    .await;
    drop(stream);
    let written = || std::fs::read_to_string(&log).unwrap_or_default();
    until("there is no line for m1", || {
        written().contains("\"id\":\"m1\"")
    })
    .await;
    let nothing = || lock(&simulator.seen).ban.under_way() == 0;
    until("the request counts as under way", nothing).await;
    stop.cancel();
}

/// Goal: a request that broke off is over: it speaks against no later owner. Method: half a body, and the sender is gone.
#[tokio::test]
async fn a_request_that_broke_off_is_no_offence() {
    let (simulator, port, stop) = started(args(&[])).await;
    let stream = begin(port, "m1", 10);
    until("it has not begun", || {
        lock(&simulator.seen).ban.under_way() == 1
    })
    .await;
    drop(stream);
    until("it is not over", || {
        lock(&simulator.seen).ban.under_way() == 0
    })
    .await;
    let mut seen = lock(&simulator.seen);
    seen.ban.begin(0, 2, None);
    assert!(!seen.ban.banned(), "{:?}", seen.ban.offences());
    stop.cancel();
}

/// Goal: three statuses each of many messages all arrive, none is dropped, and their lag is known. Method: the simulator's
/// own business takes them; prints the rate.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_status_is_delivered_once() {
    let probe = std::net::TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("any port");
    let port = probe.local_addr().expect("it is bound").port();
    drop(probe);
    let (listen, url) = (
        format!("127.0.0.1:{port}"),
        format!("http://127.0.0.1:{port}/business"),
    );
    let (simulator, _, stop) = started(args(&["--listen", &listen, "--webhook", &url])).await;
    let knobs = Knobs::default();
    let (began, messages) = (clock::now(), 4000);
    for n in 0..messages {
        let send = Send {
            at: clock::now(),
            at_s: 7,
            wamid: format!("w{n}"),
            to: number("447700900456"),
            opaque: format!("m{n}"),
            category: "service",
            strange: false,
        };
        webhooks::statuses(&simulator, &knobs, send, event::usual(false));
    }
    until("receipts are missing", || {
        lock(&simulator.lags).len() == messages
    })
    .await;
    let took = clock::now().since(began);
    println!(
        "{messages} messages, three statuses each, in {took:?}: {:.0} messages/s",
        messages as f64 / took.as_secs_f64()
    );
    assert_eq!(simulator.webhooks_dropped.load(Ordering::Relaxed), 0);
    assert!(lock(&simulator.lags).spread().worst_ms >= 20);
    stop.cancel();
}
