//! The registration of the number through the real processes. Goal: whoever is killed in the middle of which call, nothing is
//! asked of the upstream twice by itself, the state is told, and a person can go on. Method: the simulator hangs each call,
//! before and after it takes effect; the owner is killed meanwhile, once the primary master as well; the simulator counts.

use std::sync::PoisonError;
use std::time::{Duration, Instant};

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::disks::{has, settled};
use super::{Dev, status, status_until, verb};
use crate::drill::{TURN, request};
use crate::media::{Api, Bench, have_curl, settings};
use crate::{mariadb, skipped};

const PATIENCE: Duration = Duration::from_secs(60);
const PIN: &str = "111222";

/// The process of a node, by its name in the cluster.
fn pid(dev: &Dev, node: &str) -> Option<Pid> {
    let (_, unit) = node.rsplit_once(':')?;
    let (role, instance) = unit.rsplit_once('-')?;
    let is = |pid: &i32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let words: Vec<&[u8]> = line.split(|b| *b == 0).collect();
        let at = words.iter().position(|word| *word == b"--instance");
        at.is_some_and(|at| words.get(at + 1) == Some(&instance.as_bytes()))
    };
    dev.processes_of(role)
        .into_iter()
        .find(is)
        .map(Pid::from_raw)
}

pub fn kill_node(dev: &Dev, node: &str) {
    let pid = pid(dev, node).unwrap_or_else(|| panic!("{node} runs"));
    kill(pid, Signal::SIGKILL).expect("a signal");
}

fn admin(bench: &Bench, path: &str, body: &Value) {
    let head = format!("POST {path} HTTP/1.1");
    let answer = request([127, 0, 0, 1], bench.simulator, &head, &body.to_string());
    assert!(answer.contains(" 204 "), "{path} {body}: {answer}");
}

/// Puts the number into a state, and forgets what was asked of it.
fn number(bench: &Bench, verified: bool, code_sent: bool) {
    let verified = ["NOT_VERIFIED", "VERIFIED"][usize::from(verified)];
    let number = json!({"status": "PENDING", "platform_type": "NOT_APPLICABLE", "code_verification_status": verified,
        "code_sent": code_sent, "pin": PIN});
    admin(bench, "/admin/number", &json!({ "number": number }));
}

fn count(bench: &Bench, what: &str, call: &str) -> u64 {
    let shown = bench.upstream("/admin/number");
    shown[what][call].as_u64().unwrap_or_default()
}

fn account(pin: bool) -> Value {
    let mut body = json!({"cc": "44", "phone_number": "7700900999", "method": "sms"});
    if pin {
        body["pin"] = json!(PIN);
    }
    body
}

fn code(answer: &Value) -> u64 {
    answer["errors"][0]["code"].as_u64().unwrap_or_default()
}

/// What is told of a registration that came to nothing.
fn stopped(status: &Value) -> String {
    let judged = status["judged"].as_array().into_iter().flatten();
    let mut stopped = judged.filter(|judged| judged["kind"] == "registration_stopped");
    stopped
        .next()
        .map_or(String::new(), |judged| judged["says"].to_string())
}

/// A call that hangs, made by a person.
fn begin(api: &Api, call: &'static str) -> std::thread::JoinHandle<(u16, Value)> {
    let api = api.clone();
    std::thread::spawn(move || match call {
        "request_code" => api.post("/v1/account", &account(false)),
        "verify_code" => api.post(
            "/v1/account/verify",
            &json!({"code": "123-456", "pin": PIN}),
        ),
        _ => api.post("/v1/account/", &account(true)),
    })
}

/// One call, hung before or after it takes effect; its owner is killed in it.
fn killed_in(bench: &Bench, api: &Api, (call, when): (&'static str, &str)) {
    let (owner, _) = settled(&bench.dev);
    number(bench, call == "register", call == "verify_code");
    admin(
        bench,
        "/admin/number/faults",
        &json!({"hang": {call: when}}),
    );
    let person = begin(api, call);
    bench.upstream_until("the call is made", "/admin/number", |n| {
        n["calls"][call] == 1
    });
    let (status, second) = api.post("/v1/account", &account(true));
    assert_eq!((status, code(&second)), (429, 1015), "{second}");
    let runs = status_until(&bench.dev, "told", |s| has(s, "registration_runs"));
    assert!(runs["problems"].to_string().contains(call), "{runs}");
    if (call, when) == ("request_code", "after") {
        let master = runs["primary_master"]
            .as_str()
            .expect("a master")
            .to_owned();
        kill_node(&bench.dev, &master);
    }
    kill_node(&bench.dev, &owner);
    let (status, answer) = person.join().expect("it ends");
    assert_eq!(
        (status, code(&answer)),
        (503, 1011),
        "{call} {when}: {answer}"
    );
    let told = status_until(&bench.dev, "told", |s| stopped(s).contains("nobody knows"));
    assert!(stopped(&told).contains("POST /v1/account"), "{told}");
    settled(&bench.dev);
    assert_eq!(
        count(bench, "calls", call),
        1,
        "{call} {when}: made again by itself"
    );
    go_on(bench, api, (call, when));
}

/// The person asks again, and comes to the end.
fn go_on(bench: &Bench, api: &Api, (call, when): (&str, &str)) {
    let registered = (call, when) == ("register", "after");
    let verified = call == "register" || (call, when) == ("verify_code", "after");
    let (status, answer) = api.post("/v1/account", &account(true));
    let wanted = if verified { 201 } else { 202 };
    assert_eq!(status, wanted, "{call} {when}: {answer}");
    if !verified {
        assert_eq!(answer["account"], json!([{"vname": "Example Shop"}]));
        let (status, answer) = api.post("/v1/account/verify/", &json!({"code": "123456"}));
        assert_eq!(status, 201, "{call} {when}: {answer}");
    }
    assert_eq!(count(bench, "done", "register"), 1, "{call} {when}");
    let made = 1 + u64::from(call == "register" && !registered);
    assert_eq!(count(bench, "calls", "register"), made, "{call} {when}");
    status_until(&bench.dev, "over", |s| stopped(s).is_empty());
}

fn gateway_statuses(api: &Api) -> String {
    api.get("/v1/health").1["health"].to_string()
}

fn until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + PATIENCE;
    while !done() {
        assert!(Instant::now() < deadline, "not {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

#[test]
fn a_registration_survives_every_death_and_makes_nothing_twice() {
    if have_curl() {
        survives_every_death(&[]);
    }
}

#[test]
fn a_registration_survives_every_death_on_mariadb() {
    match mariadb::missing() {
        Some(why) => skipped("registration on MariaDB", &why),
        None if have_curl() => survives_every_death(&["--database", "mariadb"]),
        None => {}
    }
}

fn survives_every_death(more: &[&str]) {
    let _turn = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    let bench = Bench::with(more);
    let url = format!("http://127.0.0.1:{}/business", bench.simulator);
    settings(&bench, &url);
    let api = bench.api();
    unregistered_is_told(&bench, &api);
    for call in ["request_code", "verify_code", "register"] {
        for when in ["before", "after"] {
            killed_in(&bench, &api, (call, when));
        }
    }
    killed_between(&bench, &api);
    let (status, answer) = api.post("/v1/settings/account/two-step", &json!({"pin": "333444"}));
    assert_eq!(status, 200, "{answer}");
    assert_eq!(bench.upstream("/admin/number")["number"]["pin"], "333444");
    let (_, history) = verb(&bench.dev, &["history", "--limit", "500"]);
    for word in [
        "registration",
        "Admitted",
        "OutcomeUnknown",
        "CodeSent",
        "Registered",
    ] {
        assert!(history.contains(word), "{word}: {history}");
    }
    until("well again", || {
        !gateway_statuses(&api).contains("unregistered")
    });
    let sent = json!({"to": "447700900456", "text": {"body": "registered"}});
    let (status, answer) = bench.send(&sent);
    assert_eq!(status, 201, "{answer}");
    let id = answer["messages"][0]["id"]
        .as_str()
        .expect("an id")
        .to_owned();
    bench.upstream_until("sent", "/admin/ids", |ids| ids.to_string().contains(&id));
}

/// A send is refused, so that the owner looks at the number; it goes on to serve what needs no registration.
fn unregistered_is_told(bench: &Bench, api: &Api) {
    settled(&bench.dev);
    number(bench, false, false);
    let (status, answer) =
        bench.send(&json!({"to": "447700900456", "text": {"body": "too early"}}));
    assert_eq!(status, 201, "{answer}");
    until("told by health", || {
        gateway_statuses(api).contains("unregistered")
    });
    let told = status_until(&bench.dev, "told by status", |s| has(s, "unregistered"));
    assert!(
        told["problems"].to_string().contains("POST /v1/account"),
        "{told}"
    );
    let (status, _) = api.get("/v1/account/shards");
    assert_eq!(status, 200);
}

/// The owner is killed between the two calls of a person: the pin was kept.
fn killed_between(bench: &Bench, api: &Api) {
    let (owner, _) = settled(&bench.dev);
    number(bench, false, false);
    let (status, answer) = api.post("/v1/account", &account(true));
    assert_eq!(status, 202, "{answer}");
    kill_node(&bench.dev, &owner);
    settled(&bench.dev);
    assert!(
        has(&status_of(bench), "registration_runs"),
        "waits for its code"
    );
    let (status, answer) = api.post("/v1/account/verify", &json!({"code": "123456"}));
    assert_eq!(status, 201, "{answer}");
    for call in ["request_code", "verify_code", "register"] {
        assert_eq!(count(bench, "calls", call), 1, "{call}");
    }
}

fn status_of(bench: &Bench) -> Value {
    status(&bench.dev)
}
