//! `/v1/stats/…` and `/metrics`: the JSON form of figures. Prometheus text is made where metrics are.
//! Counts nothing itself.

use std::collections::BTreeMap;

use serde::{Serialize, Serializer};
use utoipa::ToSchema;

use super::Meta;
use crate::api::error::ErrorObject;

/// Name → metric.
pub type Metrics = BTreeMap<String, Metric>;

/// What the nodes measure.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatsAppAnswer {
    pub stats: StatsApp,
    pub meta: Meta,
}

/// `{"app":{"<node>":{"<metric>":…}}}`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatsApp {
    pub app: BTreeMap<String, NodeStats>,
}

/// What the database holds. Filled only under the node that counted.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatsDbAnswer {
    pub stats: StatsDb,
    pub meta: Meta,
}

/// `{"db":{"<node>":{"<metric>":…}}}`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct StatsDb {
    pub db: BTreeMap<String, NodeStats>,
}

/// The metrics of one node, or that it does not answer.
#[derive(Debug, Clone, Serialize, ToSchema)]
#[serde(untagged)]
pub enum NodeStats {
    Metrics(BTreeMap<String, Metric>),
    Mute { errors: Vec<ErrorObject> },
}

/// What one webapp measures.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct MetricsAnswer {
    #[serde(flatten)]
    pub metrics: BTreeMap<String, Metric>,
    pub meta: Meta,
}

/// One metric in the reference client's JSON shape.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Metric {
    /// `gauge` or `counter`.
    pub r#type: String,
    pub help: String,
    pub data: Vec<Sample>,
}

/// One value of a metric.
#[derive(Debug, Clone, PartialEq, Serialize, ToSchema)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    #[serde(serialize_with = "number")]
    pub value: f64,
}

/// What is whole is written so.
fn number<S: Serializer>(value: &f64, serializer: S) -> Result<S::Ok, S::Error> {
    #[allow(clippy::cast_possible_truncation)]
    let whole = *value as i64;
    #[allow(clippy::cast_precision_loss)]
    let exact = whole as f64 == *value;
    match exact {
        true => serializer.serialize_i64(whole),
        false => serializer.serialize_f64(*value),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the shape of the fixture, which was written from the documentation.
    #[test]
    fn a_metric_has_the_documented_shape() {
        let wanted: serde_json::Value = serde_json::from_str(include_str!(
            "../../../../tests/fixtures/v1/monitoring/stats.json"
        ))
        .expect("JSON");
        let sample = |value| Sample {
            labels: [("node".to_owned(), "core1.example:coreapp-1".to_owned())].into(),
            value,
        };
        let metric = Metric {
            r#type: "counter".into(),
            help: "Messages accepted".into(),
            data: vec![sample(11.0)],
        };
        let mean = Metric {
            r#type: "gauge".into(),
            help: "Half".into(),
            data: vec![sample(0.5)],
        };
        let metrics = [("out_message_persisted", metric), ("half", mean)];
        let metrics = metrics.map(|(name, metric)| (name.to_owned(), metric));
        let why = Some("The node does not answer".to_owned());
        let errors = vec![ErrorObject::new(crate::api::v1::code::Code::NotReady, why)];
        let app = [
            (
                "core1.example:coreapp-1",
                NodeStats::Metrics(metrics.into()),
            ),
            ("core2.example:coreapp-1", NodeStats::Mute { errors }),
            ("m1.example:master-1", NodeStats::Metrics(Metrics::new())),
        ];
        let app = app.map(|(node, stats)| (node.to_owned(), stats)).into();
        let shown = serde_json::to_value(StatsApp { app }).expect("plain data");
        assert_eq!(shown, wanted["stats"]);
    }
}
