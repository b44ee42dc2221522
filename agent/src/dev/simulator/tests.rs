//! The simulator by itself: what it writes down and delivers, whatever becomes of whoever sends.

use std::io::Write as _;
use std::net::{Ipv4Addr, TcpStream};

use super::*;

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
    let (simulator, queue) = assemble(args);
    serve(Arc::clone(&simulator), queue, listener, stop.clone());
    (simulator, port, stop)
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
        webhooks::statuses(
            &simulator,
            &knobs,
            &format!("w{n}"),
            "447700900456",
            &format!("m{n}"),
        );
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
