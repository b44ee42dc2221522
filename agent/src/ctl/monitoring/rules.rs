//! The rules for Prometheus, and the tests of them for promtool, from the table of alarms.
//! Writes no file.

use std::collections::BTreeMap;

use serde::Serialize;
use wa_core::alarm::{Alarm, Row};

use super::queries::{self, Query};

/// When a test looks: later than every alarm lasts.
const LOOK: &str = "20m";

const HEAD: &str = "# Written from the table of alarms (agent/core/src/alarm.rs). Change that table, not this file.\n";

#[derive(Serialize)]
struct Groups {
    groups: [Group; 1],
}

/// Rules of one group are evaluated one after the other: each alarm sees the figure of this moment.
#[derive(Serialize)]
struct Group {
    name: &'static str,
    rules: Vec<Rule>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum Rule {
    Record(Record),
    Alert(Alert),
}

#[derive(Serialize)]
struct Record {
    record: &'static str,
    expr: &'static str,
}

#[derive(Serialize)]
struct Alert {
    alert: &'static str,
    expr: String,
    r#for: String,
    labels: BTreeMap<&'static str, &'static str>,
    annotations: BTreeMap<&'static str, String>,
}

fn yaml(document: &impl Serialize) -> String {
    let text = serde_saphyr::to_string(document).expect("plain data");
    format!("{HEAD}{text}")
}

fn record(alarm: Alarm) -> Rule {
    Rule::Record(Record {
        record: alarm.row().figure,
        expr: queries::of(alarm).expr,
    })
}

fn annotations(row: &Row, value: &str) -> BTreeMap<&'static str, String> {
    [
        ("summary", row.says.to_owned()),
        ("description", row.means.to_owned()),
        ("runbook", row.remedy.to_owned()),
        ("value", value.to_owned()),
    ]
    .into()
}

fn alert(alarm: Alarm) -> Rule {
    let row = alarm.row();
    Rule::Alert(Alert {
        alert: row.name,
        expr: format!("{} {} {}", row.figure, row.bad.as_str(), row.limit),
        r#for: format!("{}s", row.lasting_s),
        labels: [("severity", row.severity.as_str())].into(),
        annotations: annotations(row, "{{ $value | humanize }}"),
    })
}

/// The figures, and behind them the alarms.
pub fn all() -> String {
    let (records, alerts) = (Alarm::ALL.iter(), Alarm::ALL.iter());
    let records = records.map(|alarm| record(*alarm));
    yaml(&Groups {
        groups: [Group {
            name: "wa-agent",
            rules: records.chain(alerts.map(|alarm| alert(*alarm))).collect(),
        }],
    })
}

#[derive(Serialize)]
struct Tests {
    rule_files: [&'static str; 1],
    evaluation_interval: &'static str,
    tests: Vec<Test>,
}

#[derive(Serialize)]
struct Test {
    name: String,
    interval: &'static str,
    input_series: Vec<Series>,
    alert_rule_test: [Look; 1],
}

#[derive(Serialize)]
struct Series {
    series: &'static str,
    values: &'static str,
}

#[derive(Serialize)]
struct Look {
    eval_time: &'static str,
    alertname: &'static str,
    exp_alerts: Vec<Expected>,
}

#[derive(Serialize)]
struct Expected {
    exp_labels: BTreeMap<&'static str, &'static str>,
    exp_annotations: BTreeMap<&'static str, String>,
}

fn test(row: &Row, query: &Query, rings: bool) -> Test {
    let (word, series) = match rings {
        true => ("rings", query.rings),
        false => ("is quiet", query.quiet),
    };
    let mut labels: BTreeMap<_, _> = query.labels.iter().copied().collect();
    labels.insert("cluster", "c");
    labels.insert("severity", row.severity.as_str());
    let expected = Expected {
        exp_labels: labels,
        exp_annotations: annotations(row, query.shown),
    };
    Test {
        name: format!("{} {word}", row.name),
        interval: "1m",
        input_series: series
            .iter()
            .map(|(series, values)| Series { series, values })
            .collect(),
        alert_rule_test: [Look {
            eval_time: LOOK,
            alertname: row.name,
            exp_alerts: rings.then_some(expected).into_iter().collect(),
        }],
    }
}

/// For each alarm a test in which it rings, and one in which it does not.
pub fn tests() -> String {
    let both = |alarm: &Alarm| {
        let (row, query) = (alarm.row(), queries::of(*alarm));
        [true, false].map(|rings| test(row, &query, rings))
    };
    yaml(&Tests {
        rule_files: ["rules.yml"],
        evaluation_interval: "1m",
        tests: Alarm::ALL.iter().flat_map(both).collect(),
    })
}
