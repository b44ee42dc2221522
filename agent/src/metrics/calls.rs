//! Counters of the calls of the public API: by call, class and status, how long they took, how much they answered.
//! Knows no call by name.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus_client::encoding::{EncodeMetric, MetricEncoder};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;

use super::figure::{Figure, Figures, Measured, Span, value};

/// Statuses that calls answer with; the last place is for all others.
const STATUSES: [u16; 19] = [
    200, 201, 202, 204, 206, 400, 401, 403, 404, 405, 408, 409, 413, 415, 416, 429, 500, 502, 503,
];

/// Requests to the calls of the public API, by call and class of the answer: as many series as the table of calls has rows,
/// four times.
#[derive(Debug, Clone, Default)]
pub struct Calls {
    classes: Family<[(&'static str, String); 2], Counter>,
    all: Arc<Mutex<Vec<Arc<Call>>>>,
    running: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

/// One call.
#[derive(Debug)]
struct Call {
    label: String,
    classes: [Counter; CLASSES.len()],
    by_status: [Span; STATUSES.len() + 1],
}

const CLASSES: [&str; 4] = ["2xx", "3xx", "4xx", "5xx"];

/// The counters of one call.
#[derive(Debug, Clone)]
pub struct CallAnswers {
    call: Arc<Call>,
    running: Arc<AtomicU64>,
    bytes: Arc<AtomicU64>,
}

/// A request that is being answered; counted until dropped.
#[derive(Debug)]
pub struct Answering<'a>(&'a AtomicU64);

impl Drop for Answering<'_> {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

impl Calls {
    /// The counters of the call of this label; they are there from now on, at zero.
    pub fn of(&self, label: &str) -> CallAnswers {
        let mut all = self.all.lock().unwrap_or_else(PoisonError::into_inner);
        let known = all.iter().find(|call| call.label == label).cloned();
        let call = known.unwrap_or_else(|| {
            let counter = |class: &str| {
                let labels = [("call", label.to_owned()), ("answer", class.to_owned())];
                self.classes.get_or_create_owned(&labels)
            };
            let call = Arc::new(Call {
                label: label.to_owned(),
                classes: CLASSES.map(counter),
                by_status: Default::default(),
            });
            all.push(Arc::clone(&call));
            call
        });
        CallAnswers {
            call,
            running: Arc::clone(&self.running),
            bytes: Arc::clone(&self.bytes),
        }
    }

    fn all(&self) -> Vec<Arc<Call>> {
        self.all
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Requests that are being answered.
    pub fn running(&self) -> u64 {
        self.running.load(Ordering::Relaxed)
    }

    /// Bytes of all answers.
    pub fn bytes(&self) -> u64 {
        self.bytes.load(Ordering::Relaxed)
    }

    /// What was answered: label of the call, status (`other` for a rare one), microseconds in all, and how often.
    pub fn answered(&self) -> Vec<(String, String, u64, u64)> {
        let mut found = Vec::new();
        for call in self.all() {
            for (at, span) in call.by_status.iter().enumerate() {
                let (us, times) = span.get();
                let status = STATUSES.get(at).map_or("other".to_owned(), u16::to_string);
                if times > 0 {
                    found.push((call.label.clone(), status, us, times));
                }
            }
        }
        found
    }
}

impl CallAnswers {
    /// Counts a request until it is answered.
    pub fn begin(&self) -> Answering<'_> {
        self.running.fetch_add(1, Ordering::Relaxed);
        Answering(&self.running)
    }

    /// Counts an answer of this status, with as many bytes of body as it announces.
    pub fn count(&self, status: u16, took: Duration, bytes: u64) {
        let class = usize::from(status / 100).clamp(2, 5);
        self.call.classes[class - 2].inc();
        let at = STATUSES.iter().position(|known| *known == status);
        self.call.by_status[at.unwrap_or(STATUSES.len())].add(took);
        self.bytes.fetch_add(bytes, Ordering::Relaxed);
    }
}

impl EncodeMetric for Calls {
    fn encode(&self, encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        self.classes.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Counter
    }
}

impl Measured for Calls {
    fn figures(&self, name: &str, help: &str) -> Figures {
        let mut figure = Figure::counter(help);
        for call in self.all() {
            for (class, count) in CLASSES.iter().zip(&call.classes) {
                let labels = [("call", call.label.as_str()), ("answer", *class)];
                figure = figure.with(&labels, value(count.get()));
            }
        }
        [(format!("{name}_total"), figure)].into()
    }
}
