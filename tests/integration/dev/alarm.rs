//! An alarm from its cause to everybody who looks. Goal: a standby that stands still makes the alarm ring in `status`, on the console, in
//! `doctor` and on the page of figures, each with what to type, and in none of them any more once it goes on. Method: the real processes, a
//! SIGSTOP of the standby, a SIGCONT. `monitoring.rs` does the same before the real Prometheus.

use std::time::Instant;

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::disks::{has, pid_of, settled};
use super::{Dev, PATIENCE, status_until, verb};
use crate::drill::{TURN, request};
use crate::media::{Bench, have_curl};

const NAME: &str = "WaNoStandby";
const SAYS: &str = "no standby coreapp: the next failure has nobody to take over";

/// A process that stands still, until it is let go; at the latest with the test.
pub struct Frozen(Pid);

impl Frozen {
    /// The coreapp of this name.
    pub fn coreapp(dev: &Dev, node: &str) -> Self {
        let pid = Pid::from_raw(pid_of(dev, node).expect("it runs"));
        kill(pid, Signal::SIGSTOP).expect("it runs");
        Self(pid)
    }
}

impl Drop for Frozen {
    fn drop(&mut self) {
        let _ = kill(self.0, Signal::SIGCONT);
    }
}

fn rings(status: &Value) -> bool {
    let alarms = status["alarms"].as_array();
    let mut alarms = alarms.into_iter().flatten();
    alarms.any(|alarm| alarm["name"] == NAME && alarm["severity"] == "page")
}

/// Asks until the answer is as wanted.
fn until(what: &str, mut ask: impl FnMut() -> String, wanted: impl Fn(&str) -> bool) -> String {
    let end = Instant::now() + PATIENCE;
    loop {
        let answer = ask();
        if wanted(&answer) {
            return answer;
        }
        assert!(Instant::now() < end, "not {what}: {answer}");
    }
}

/// The page of the cluster, as the administrator sees it.
fn console(bench: &Bench) -> String {
    let cookie = format!("Cookie: wa-console={}", bench.token);
    let (status, body) = bench.curl(&["-H", &cookie], "/console");
    assert_eq!(status, 200);
    String::from_utf8_lossy(&body).into_owned()
}

/// The figure behind the alarm, of the first master's page.
fn figure(bench: &Bench) -> String {
    let at = 6257 + bench.webapp - 9090;
    let page = request([127, 0, 0, 1], at, "GET /metrics HTTP/1.1", "");
    let name = "wa_problems{kind=\"no_standby\"} ";
    let line = page.lines().find_map(|line| line.strip_prefix(name));
    line.unwrap_or("none").trim().to_owned()
}

/// Goal and method: see above.
#[test]
fn an_alarm_rings_everywhere_and_ends() {
    if !have_curl() {
        return;
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let bench = Bench::start();
    let (_, standby) = settled(&bench.dev);
    let well = status_until(&bench.dev, "well", |s| s["problems"] == json!([]));
    assert!(!rings(&well), "{well}");
    assert!(!console(&bench).contains(SAYS));
    until("calm", || figure(&bench), |value| value == "0");

    let frozen = Frozen::coreapp(&bench.dev, &standby);
    let told = status_until(&bench.dev, "an alarm", rings);
    assert!(has(&told, "no_standby"), "{told}");
    let (code, said) = verb(&bench.dev, &["status"]);
    assert!(code == 3 && said.contains(SAYS), "{code} {said}");
    // The webapp looks once a second or so.
    let shown = until("shown", || console(&bench), |page| page.contains(SAYS));
    let panel = shown.split("id=\"verdict\"").nth(1).expect("the panel");
    let panel = panel.split("</section>").next().unwrap_or_default();
    assert!(
        panel.contains(SAYS) && panel.contains("class=\"warn\""),
        "{panel}"
    );
    assert!(panel.contains(&standby), "whom it lacks: {panel}");
    let (_, said) = verb(&bench.dev, &["doctor"]);
    let line = said.lines().find(|line| line.contains(SAYS));
    assert!(line.is_some(), "{said}");
    until("rings", || figure(&bench), |value| value == "1");

    drop(frozen);
    status_until(&bench.dev, "well again", |s| {
        s["problems"] == json!([]) && !rings(s)
    });
    until(
        "shown no more",
        || console(&bench),
        |page| !page.contains(SAYS),
    );
    let (_, said) = verb(&bench.dev, &["doctor"]);
    assert!(!said.contains(SAYS), "{said}");
    until("calm again", || figure(&bench), |value| value == "0");
}
