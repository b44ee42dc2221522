//! Metrics as values: what one node tells another of itself, and the text that a scraper reads of them.
//! Measures nothing.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::DescriptorEncoder;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::{Metric, Registry, Unit};
use serde::{Deserialize, Serialize};

/// Name → metric.
pub type Figures = BTreeMap<String, Figure>;

/// One metric and its values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Figure {
    /// `gauge` or `counter`.
    pub r#type: String,
    pub help: String,
    pub data: Vec<Sample>,
}

/// One value.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    pub labels: BTreeMap<String, String>,
    pub value: f64,
}

/// What a node tells of itself. It counts only for the name and the start that it carries: another node may have the address.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Page {
    pub node: String,
    /// Its incarnation, as it is printed.
    pub start: String,
    /// Under the names of the reference client.
    pub documented: Figures,
    /// Under our own.
    pub own: Figures,
}

/// Nodes, and what each said of itself; `None`: it did not answer.
pub type Pages = Vec<(String, Option<Page>)>;

impl Figure {
    /// A gauge without values.
    pub fn gauge(help: &str) -> Self {
        Self {
            r#type: "gauge".to_owned(),
            help: help.to_owned(),
            data: Vec::new(),
        }
    }

    /// A counter without values.
    pub fn counter(help: &str) -> Self {
        Self {
            r#type: "counter".to_owned(),
            ..Self::gauge(help)
        }
    }

    /// With one more value.
    pub fn with(mut self, labels: &[(&str, &str)], value: f64) -> Self {
        let labels = labels.iter();
        self.data.push(Sample {
            labels: labels
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
            value,
        });
        self
    }
}

/// A count as a value: exact below 2^53.
#[allow(clippy::cast_precision_loss)]
pub fn value(count: u64) -> f64 {
    count as f64
}

/// The same figures with one more label on every value.
pub fn labelled(figures: &Figures, name: &str, value: &str) -> Figures {
    let mut figures = figures.clone();
    for sample in figures.values_mut().flat_map(|figure| &mut figure.data) {
        sample.labels.insert(name.to_owned(), value.to_owned());
    }
    figures
}

/// Adds figures: values of a name that is there are put beside those that it has.
pub fn add(all: &mut Figures, more: Figures) {
    for (name, figure) in more {
        match all.get_mut(&name) {
            Some(known) => known.data.extend(figure.data),
            None => drop(all.insert(name, figure)),
        }
    }
}

#[derive(Debug)]
struct Told(Figures);

impl Collector for Told {
    fn encode(&self, mut encoder: DescriptorEncoder) -> std::fmt::Result {
        for (name, figure) in &self.0 {
            // A counter would get another name (`_total`), and documented names are kept.
            let mut metric =
                encoder.encode_descriptor(name, &figure.help, None, MetricType::Gauge)?;
            for sample in &figure.data {
                let labels: Vec<(&str, &str)> = sample
                    .labels
                    .iter()
                    .map(|(name, value)| (name.as_str(), value.as_str()))
                    .collect();
                // What is whole is written so.
                #[allow(clippy::cast_possible_truncation)]
                let whole = sample.value as i64;
                #[allow(clippy::cast_precision_loss)]
                let exact = whole as f64 == sample.value;
                match (labels.is_empty(), exact) {
                    (true, true) => metric.encode_gauge(&whole)?,
                    (true, false) => metric.encode_gauge(&sample.value)?,
                    (false, true) => metric.encode_family(&labels)?.encode_gauge(&whole)?,
                    (false, false) => metric.encode_family(&labels)?.encode_gauge(&sample.value)?,
                }
            }
        }
        Ok(())
    }
}

/// A registry that has these figures and nothing else.
pub fn registry(figures: Figures) -> Registry {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(Told(figures)));
    registry
}

/// The text that a scraper reads.
pub fn text(figures: Figures) -> String {
    let mut out = String::new();
    encode(&mut out, &registry(figures)).expect("writing to a string cannot fail");
    out
}

/// Makes a metric known. The end of its name is its unit, which OpenMetrics wants to be told.
pub fn known(registry: &mut Registry, name: &str, help: &str, metric: impl Metric) {
    let units = [("_seconds", Unit::Seconds), ("_bytes", Unit::Bytes)];
    let found = units
        .into_iter()
        .find_map(|(end, unit)| Some((name.strip_suffix(end)?, unit)));
    match found {
        Some((stem, unit)) => registry.register_with_unit(stem, help, unit, metric),
        None => registry.register(name, help, metric),
    }
}

/// How often something was done, and how long it took in all. Nothing but atomics.
#[derive(Debug, Default)]
pub struct Span {
    us: AtomicU64,
    count: AtomicU64,
}

impl Span {
    /// Once more.
    pub fn add(&self, took: Duration) {
        let us = u64::try_from(took.as_micros()).unwrap_or(u64::MAX);
        self.us.fetch_add(us, Ordering::Relaxed);
        self.count.fetch_add(1, Ordering::Relaxed);
    }

    /// Microseconds, and how often.
    pub fn get(&self) -> (u64, u64) {
        let load = |of: &AtomicU64| of.load(Ordering::Relaxed);
        (load(&self.us), load(&self.count))
    }
}

/// A metric of ours that can be read.
pub trait Measured {
    /// Its figures, under this name.
    fn figures(&self, name: &str, help: &str) -> Figures;
}

impl Measured for Counter {
    fn figures(&self, name: &str, help: &str) -> Figures {
        let figure = Figure::counter(help).with(&[], value(self.get()));
        [(format!("{name}_total"), figure)].into()
    }
}

impl Measured for Gauge {
    fn figures(&self, name: &str, help: &str) -> Figures {
        #[allow(clippy::cast_precision_loss)]
        let figure = Figure::gauge(help).with(&[], self.get() as f64);
        [(name.to_owned(), figure)].into()
    }
}

impl Measured for Gauge<f64, AtomicU64> {
    fn figures(&self, name: &str, help: &str) -> Figures {
        let figure = Figure::gauge(help).with(&[], self.get());
        [(name.to_owned(), figure)].into()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: names stay as they are, labels are escaped, whole numbers look whole, and the text ends as the format wants it.
    #[test]
    fn figures_become_text() {
        let some = Figure::counter("Some").with(&[("node", "a\"b")], 7.0);
        let mut all: Figures = [("callback_requests".to_owned(), some)].into();
        let half = Figure::gauge("Half").with(&[], 0.5);
        add(&mut all, [("wa_half".to_owned(), half)].into());
        let more = Figure::counter("Some").with(&[("node", "c")], 8.0);
        add(&mut all, [("callback_requests".to_owned(), more)].into());
        assert_eq!(
            text(all),
            "# HELP callback_requests Some\n# TYPE callback_requests gauge\n\
             callback_requests{node=\"a\\\"b\"} 7\ncallback_requests{node=\"c\"} 8\n\
             # HELP wa_half Half\n# TYPE wa_half gauge\nwa_half 0.5\n# EOF\n"
        );
    }

    #[test]
    fn figures_are_read_as_they_were_written() {
        let counter = Counter::default();
        counter.inc_by(3);
        let mut page = Page {
            own: counter.figures("wa_x", "X"),
            ..Page::default()
        };
        page.documented = labelled(&page.own, "node", "n");
        let text = serde_json::to_string(&page).expect("plain data");
        assert_eq!(serde_json::from_str::<Page>(&text).expect("JSON"), page);
        assert_eq!(page.documented["wa_x_total"].data[0].labels["node"], "n");
        let span = Span::default();
        span.add(Duration::from_millis(2));
        span.add(Duration::from_micros(500));
        assert_eq!(span.get(), (2500, 2));
    }
}
