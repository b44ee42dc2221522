//! What operators watch, with the real Prometheus. Goal: the rules are good, each alarm rings and is quiet when it should; a
//! scrape of a whole cluster reads every node, and every query of every rule and dashboard answers with data, so that a metric
//! that is renamed turns this red. Method: promtool; a cluster with messages, the list of targets that `setup --monitoring`
//! writes, a Prometheus that scrapes each second, and every query of the packaged files; then a standby that stands still, until
//! the alarm rings.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::alarm::Frozen;
use super::disks::settled;
use super::{Dev, status_until};
use crate::drill::{TURN, port};
use crate::media::have_curl;

/// For everything that needs some scrapes.
const PATIENCE: Duration = Duration::from_secs(40);
const PACKAGED: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/packaging/monitoring");

fn have_prometheus() -> bool {
    let have = |program: &str| {
        let version = Command::new(program).arg("--version").output();
        version.is_ok_and(|output| output.status.success())
    };
    let have = have("promtool") && have("prometheus");
    if !have {
        crate::skipped("monitoring", "prometheus is not installed");
    }
    have
}

fn promtool(words: &[&str]) {
    let output = Command::new("promtool")
        .args(words)
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    let said = String::from_utf8_lossy(&said);
    assert!(output.status.success(), "promtool {words:?}: {said}");
}

/// Goal and method: see above; each alarm once firing and once not.
#[test]
fn the_rules_do_what_the_table_says() {
    if !have_prometheus() {
        return;
    }
    let at = |name: &str| format!("{PACKAGED}/{name}");
    promtool(&["check", "rules", &at("rules.yml")]);
    promtool(&["test", "rules", &at("rules-test.yml")]);
}

/// A Prometheus that is ended with the test.
struct Prometheus {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Prometheus {
    /// With this configuration, and its data in the same folder.
    fn start(folder: &Path) -> Self {
        let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
        let port = free.local_addr().expect("bound").port();
        drop(free);
        let log = folder.join("log");
        let child = Command::new("prometheus")
            .arg(format!(
                "--config.file={}",
                folder.join("prometheus.yml").display()
            ))
            .arg(format!(
                "--storage.tsdb.path={}",
                folder.join("data").display()
            ))
            .arg(format!("--web.listen-address=127.0.0.1:{port}"))
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(&log).expect("a file"))
            .spawn()
            .expect("prometheus starts");
        Self { child, port, log }
    }

    /// The answer to a query; nothing while it does not answer.
    fn ask(&self, query: &str) -> Vec<Value> {
        let output = Command::new("curl")
            .args(["-sG", "--max-time", "5"])
            .arg(format!("http://127.0.0.1:{}/api/v1/query", self.port))
            .arg("--data-urlencode")
            .arg(format!("query={query}"))
            .output()
            .expect("curl runs");
        let answer: Value = serde_json::from_slice(&output.stdout).unwrap_or_default();
        assert_ne!(answer["status"], "error", "{query}: {answer}");
        let result = answer["data"]["result"].as_array();
        result.cloned().unwrap_or_default()
    }

    /// Asks until the answer is as wanted.
    fn until(&self, query: &str, until: Instant, wanted: impl Fn(&[Value]) -> bool) {
        loop {
            let found = self.ask(query);
            if wanted(&found) {
                return;
            }
            let log = || std::fs::read_to_string(&self.log).unwrap_or_default();
            assert!(
                Instant::now() < until,
                "{query} answers {found:?}; {}",
                log()
            );
            std::thread::sleep(Duration::from_millis(300));
        }
    }
}

/// Every query of every packaged dashboard, as Grafana asks it.
fn panels() -> Vec<String> {
    let folder = std::fs::read_dir(format!("{PACKAGED}/dashboards")).expect("listed");
    let boards = folder.flatten().map(|entry| {
        let text = std::fs::read_to_string(entry.path()).expect("read");
        serde_json::from_str::<Value>(&text).expect("JSON")
    });
    let queries = boards.flat_map(|board| {
        let panels = board["panels"].as_array().cloned().unwrap_or_default();
        let query = |panel: &Value| panel["targets"][0]["expr"].as_str().map(str::to_owned);
        panels.iter().filter_map(query).collect::<Vec<_>>()
    });
    queries
        .map(|query| query.replace("$cluster", ".*"))
        .collect()
}

/// The names that rules record.
fn figures(rules: &str) -> Vec<String> {
    let record = regex_lite::Regex::new(r"record: (\S+)").expect("an expression");
    let names = record.captures_iter(rules);
    names.map(|found| found[1].to_owned()).collect()
}

/// Every metric that a text names. A query that joins two by `or` would hide that one of them is gone.
fn metrics(text: &str) -> Vec<String> {
    let name = regex_lite::Regex::new(r"\bwa_[a-z0-9_]+").expect("an expression");
    let mut all: Vec<String> = name
        .find_iter(text)
        .map(|found| found.as_str().to_owned())
        .collect();
    all.sort();
    all.dedup();
    all
}

/// What a target answers to a scraper that accepts this: the head, and the body.
fn page(target: &str, accept: &str) -> (String, String) {
    let output = Command::new("curl")
        .args(["-si", "--max-time", "5", "-H", &format!("Accept: {accept}")])
        .arg(format!("http://{target}/metrics"))
        .output()
        .expect("curl runs");
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    let (head, body) = text.split_once("\r\n\r\n").unwrap_or((&text, ""));
    (head.to_ascii_lowercase(), body.to_owned())
}

/// The commands of the README, one a line.
fn readme() -> Vec<String> {
    let text = include_str!("../../../README.md");
    let section = text.split("### Prometheus and Grafana").nth(1);
    let block = section.and_then(|text| text.split("```sh\n").nth(1)?.split("```").next());
    let lines = block.expect("a block of commands").lines();
    lines.map(str::to_owned).collect()
}

/// Types a line in this folder, as somebody on a machine with this cluster only.
fn type_line(dev: &Dev, folder: &Path, line: &str) -> String {
    let program = env!("CARGO_BIN_EXE_wa-agent");
    let config = dev.directory().join("wa-agent.toml");
    let line = line.replace("/usr/share/wa-agent/monitoring", PACKAGED);
    let script = format!(
        "wa-agent() {{ '{program}' \"$@\" --config '{}'; }}\n{line}",
        config.display()
    );
    let typed = Command::new("bash")
        .args(["-c", &script])
        .current_dir(folder)
        .stdin(Stdio::null())
        .output()
        .expect("bash runs");
    let said = [typed.stdout, typed.stderr].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(typed.status.success(), "{line}: {said}");
    said
}

/// The packaged rules, whose alarms wait for a second where they wait for a minute; where they are.
fn quick_rules(folder: &Path) -> String {
    let text = std::fs::read_to_string(format!("{PACKAGED}/rules.yml")).expect("read");
    assert!(text.contains("for: 60s"), "{text}");
    let quick = folder.join("quick-rules.yml");
    std::fs::write(&quick, text.replace("for: 60s", "for: 1s")).expect("written");
    quick.display().to_string()
}

/// Writes the list of targets as the README says, for a Prometheus that scrapes each second, and returns the targets.
fn write_targets(dev: &Dev, folder: &Path) -> Vec<String> {
    let own = folder.join("monitoring/prometheus.yml");
    let lines = readme();
    assert!(lines.len() == 4 && lines[0].contains("setup --monitoring"));
    for line in &lines {
        let said = type_line(dev, folder, line);
        if line == &lines[0] {
            assert!(said.contains("promtool check config"), "{said}");
            let text = std::fs::read_to_string(&own).expect("written");
            assert!(text.contains("/usr/share/wa-agent/monitoring/rules.yml"));
            let rules = quick_rules(folder);
            let text = text.replace("/usr/share/wa-agent/monitoring/rules.yml", &rules);
            std::fs::write(&own, text.replace("15s", "1s")).expect("written");
        }
    }
    // What an operator has changed stays; the list is written anew.
    let list = folder.join("monitoring/targets.json");
    std::fs::write(&list, "[]").expect("written");
    let said = type_line(dev, folder, &lines[0]);
    assert!(said.contains("it was kept"), "{said}");
    let list = std::fs::read_to_string(&list).expect("written");
    let list: Value = serde_json::from_str(&list).expect("JSON");
    let list = list.as_array().expect("a list");
    let target = |entry: &Value| entry["targets"][0].as_str().map(str::to_owned);
    list.iter().filter_map(target).collect()
}

fn pages_are_openmetrics(targets: &[String]) {
    for target in targets {
        let (head, body) = page(target, "application/openmetrics-text;version=1.0.0");
        let kind = "content-type: application/openmetrics-text; version=1.0.0; charset=utf-8";
        assert!(head.contains(kind), "{target}: {head}");
        assert!(body.ends_with("# EOF\n"), "{target}: {body}");
        assert_eq!(body.matches("# EOF").count(), 1, "{target}");
        assert!(body.contains("# UNIT wa_"), "{target}: {body}");
        let (head, _) = page(target, "*/*");
        assert!(
            head.contains("content-type: text/plain; version=0.0.4"),
            "{head}"
        );
    }
}

/// Goal and method: see above.
#[test]
fn a_real_prometheus_reads_everything() {
    if !have_prometheus() || !have_curl() {
        return;
    }
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut dev = Dev::start(port());
    let script = dev.commands();
    dev.until("ready: primary");
    let sent = Command::new("bash").arg("-c").arg(&script).output();
    assert!(sent.expect("bash runs").status.success());

    // The verb in the README says by its exit code that all is well.
    let well = status_until(&dev, "well", |status| status["problems"] == json!([]));
    assert!(well["alarms"].is_array(), "{well}");

    let folder = tempfile::tempdir().expect("a directory");
    let targets = write_targets(&dev, folder.path());
    // Two masters, two coreapps, a webapp and the host agent at least.
    assert!(targets.len() >= 6, "{targets:?}");
    pages_are_openmetrics(&targets);

    let prometheus = Prometheus::start(&folder.path().join("monitoring"));
    let until = Instant::now() + PATIENCE;
    let all = targets.len();
    let up = |found: &[Value]| found.len() == all && found.iter().all(|one| one["value"][1] == "1");
    prometheus.until("up", until, up);
    let data = |found: &[Value]| !found.is_empty();
    let rules = std::fs::read_to_string(format!("{PACKAGED}/rules.yml")).expect("read");
    let (panels, figures) = (panels(), figures(&rules));
    assert!(panels.len() > 40 && figures.len() == 18, "{figures:?}");
    for query in panels.iter().chain(&figures) {
        prometheus.until(query, until, data);
    }
    for metric in metrics(&(rules + &panels.join("\n"))) {
        prometheus.until(&metric, until, data);
    }
    // A cluster that is well says so in every figure.
    prometheus.until("wa:no_standby == 0", until, data);
    prometheus.until("wa:lease_margin_percent > 40", until, data);
    prometheus.until(r#"sum(wa_messages_sent_total) > 0"#, until, data);
    an_alarm_fires_and_ends(&dev, &prometheus);
}

/// Goal: what happens in a cluster makes the packaged rule fire, with its severity and what to type, and mending it ends the alarm. Method: a
/// standby that stands still.
fn an_alarm_fires_and_ends(dev: &Dev, prometheus: &Prometheus) {
    let until = Instant::now() + PATIENCE;
    let fires = r#"ALERTS{alertname="WaNoStandby",alertstate="firing",severity="page"}"#;
    prometheus.until(fires, until, <[Value]>::is_empty);
    let (_, standby) = settled(dev);
    let frozen = Frozen::coreapp(dev, &standby);
    prometheus.until(fires, until, |found| found.len() == 1);
    drop(frozen);
    prometheus.until(fires, until, <[Value]>::is_empty);
    prometheus.until("wa:no_standby == 0", until, |found| !found.is_empty());
}
