//! Rows that were deleted or blanked because they are old, by sweep.
//! Knows no sweep by name.

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::figure::{Figures, Measured};

/// Counters by the name of the sweep.
#[derive(Debug, Clone, Default)]
pub struct Swept(Family<[(&'static str, &'static str); 1], Counter>);

impl Swept {
    /// So many rows more.
    pub fn add(&self, sweep: &'static str, rows: u64) {
        self.0.get_or_create(&[("sweep", sweep)]).inc_by(rows);
    }
}

impl EncodeMetric for Swept {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl Measured for Swept {
    /// For scrapers only.
    fn figures(&self, _: &str, _: &str) -> Figures {
        Figures::new()
    }
}
