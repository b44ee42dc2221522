//! Answers of the upstream to sends that refuse, by class.
//! Knows no error number: `wa_core::outcome` says what an answer means.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use wa_core::outcome::Outcome;

use super::figure::{Figure, Figures, Measured, value};

/// Classes of refusals, as the label says them.
pub const CLASSES: [&str; 5] = ["limit", "account", "message", "later", "unclear"];

/// The class of an outcome; `None`: nothing was refused. An outcome that nobody knows yet is `unclear`.
fn class(outcome: Option<Outcome>) -> Option<usize> {
    match outcome {
        Some(Outcome::Sent) => None,
        Some(Outcome::Rejected(_)) => Some(0),
        Some(Outcome::Account(_)) => Some(1),
        Some(Outcome::Failed) => Some(2),
        Some(Outcome::WaitLong) => Some(3),
        Some(Outcome::Unknown) | None => Some(4),
    }
}

/// A counter for each class. Counting takes no lock.
#[derive(Debug, Clone)]
pub struct Refusals {
    family: Family<[(&'static str, &'static str); 1], Counter>,
    counts: [Counter; CLASSES.len()],
}

impl Default for Refusals {
    fn default() -> Self {
        let family = Family::<[(&'static str, &'static str); 1], Counter>::default();
        let counts = CLASSES.map(|class| family.get_or_create(&[("class", class)]).clone());
        Self { family, counts }
    }
}

impl Refusals {
    /// A send came to this.
    pub fn count(&self, outcome: Option<Outcome>) {
        if let Some(at) = class(outcome) {
            self.counts[at].inc();
        }
    }

    /// So many of each class.
    pub fn all(&self) -> [u64; CLASSES.len()] {
        std::array::from_fn(|at| self.counts[at].get())
    }
}

impl EncodeMetric for Refusals {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.family.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl Measured for Refusals {
    fn figures(&self, name: &str, help: &str) -> Figures {
        let classes = CLASSES.iter().zip(self.all());
        let figure = classes.fold(Figure::counter(help), |figure, (class, count)| {
            figure.with(&[("class", *class)], value(count))
        });
        [(format!("{name}_total"), figure)].into()
    }
}

#[cfg(test)]
mod tests {
    use wa_core::outcome::{Account, Limit};

    use super::*;

    /// Goal: every refusal is counted in its class, and what was taken in none. Method: one of each.
    #[test]
    fn refusals_are_counted_by_class() {
        let refusals = Refusals::default();
        for outcome in [
            Some(Outcome::Sent),
            Some(Outcome::Rejected(Limit::Pair)),
            Some(Outcome::Rejected(Limit::Number)),
            Some(Outcome::Account(Account::Token)),
            Some(Outcome::Failed),
            Some(Outcome::WaitLong),
            Some(Outcome::Unknown),
            None,
        ] {
            refusals.count(outcome);
        }
        assert_eq!(refusals.all(), [2, 1, 1, 1, 2]);
        let figures = refusals.figures("wa_x", "X");
        assert_eq!(figures["wa_x_total"].data[0].labels["class"], "limit");
    }
}
