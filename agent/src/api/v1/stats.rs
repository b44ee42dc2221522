//! `GET /v1/stats/db`: how many rows of each kind the database holds, as JSON or as Prometheus text.
//! Counts nothing itself.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::Meta;

/// The JSON answer: node → metric → value. Filled only under the node that counted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatsAnswer {
    pub stats: StatsDb,
    pub meta: Meta,
}

/// `{"db":{"<node>":{"<metric>":…}}}`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatsDb {
    pub db: BTreeMap<String, BTreeMap<String, Metric>>,
}

/// One metric in the reference client's JSON shape.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Metric {
    /// `gauge` or `counter`.
    pub r#type: String,
    pub help: String,
    pub data: Vec<Sample>,
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: u64,
}

impl Metric {
    /// A gauge of one value without labels.
    pub fn gauge(help: &str, value: u64) -> Self {
        Self {
            r#type: "gauge".to_owned(),
            help: help.to_owned(),
            data: vec![Sample {
                labels: BTreeMap::new(),
                value,
            }],
        }
    }
}

/// The same as Prometheus text (`?format=prometheus`).
pub fn prometheus(metrics: &BTreeMap<String, Metric>) -> String {
    let mut text = String::new();
    for (name, metric) in metrics {
        // Writing into a String cannot fail.
        let _ = writeln!(text, "# HELP {name} {}", metric.help);
        let _ = writeln!(text, "# TYPE {name} {}", metric.r#type);
        for sample in &metric.data {
            let labels: Vec<String> = sample
                .labels
                .iter()
                .map(|(key, value)| {
                    let value = value.replace('\\', "\\\\").replace('"', "\\\"");
                    format!("{key}=\"{value}\"")
                })
                .collect();
            let labels = if labels.is_empty() {
                String::new()
            } else {
                format!("{{{}}}", labels.join(","))
            };
            let _ = writeln!(text, "{name}{labels} {}", sample.value);
        }
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn prometheus_text_names_help_type_and_labels() {
        let mut metric = Metric::gauge("Messages waiting", 7);
        metric.data[0]
            .labels
            .insert("type".to_owned(), "te\"xt".to_owned());
        let text = prometheus(&BTreeMap::from([("db_messages".to_owned(), metric)]));
        assert_eq!(
            text,
            "# HELP db_messages Messages waiting\n# TYPE db_messages gauge\ndb_messages{type=\"te\\\"xt\"} 7\n"
        );
    }
}
