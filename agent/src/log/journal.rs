//! The way to the journal: a bounded queue and a thread of its own, so that a journal that does not read stops nobody.
//! What does not fit is counted and told when there is room again.

use std::fmt::Write as _;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Arc, OnceLock};

use tracing::field::{Field, Visit};
use tracing::{Event, Level, Subscriber};
use tracing_subscriber::layer::{Context, Layer, SubscriberExt as _};

use crate::metrics::LOG_LINES_DROPPED;

/// Lines that wait for the journal; about as much as 20 s of a bad day.
const QUEUE_LEN: usize = 8192;

/// Name of this node, once the configuration is read.
static NODE: OnceLock<String> = OnceLock::new();

/// From now on lines carry `WA_NODE=`.
pub fn set_node(node: &str) {
    // A second role in one process does not happen; the first name stays.
    let _ = NODE.set(node.to_owned());
}

/// Name of this node; `-` until the configuration is read.
pub fn node() -> &'static str {
    NODE.get().map_or("-", String::as_str)
}

/// One event, taken out of its borrowed form.
#[derive(Debug, Default, PartialEq, Eq)]
struct Line {
    target: String,
    level: Option<Level>,
    message: String,
    message_id: Option<String>,
    shard: Option<String>,
    epoch: Option<String>,
    term: Option<String>,
    reason: Option<String>,
}

impl Line {
    fn of(event: &Event<'_>) -> Self {
        let mut line = Self {
            target: event.metadata().target().to_owned(),
            level: Some(*event.metadata().level()),
            ..Self::default()
        };
        let mut rest = Rest {
            line: &mut line,
            words: String::new(),
        };
        event.record(&mut rest);
        let words = rest.words;
        line.message.push_str(&words);
        line
    }
}

/// Sorts the fields of an event: those with a name in the journal, and words that follow the message.
struct Rest<'a> {
    line: &'a mut Line,
    words: String,
}

impl Rest<'_> {
    fn take(&mut self, name: &str, value: String) {
        let named = match name {
            "message" => {
                self.line.message = value;
                return;
            }
            "MESSAGE_ID" => &mut self.line.message_id,
            "SHARD" | "shard" => &mut self.line.shard,
            "EPOCH" | "epoch" => &mut self.line.epoch,
            "TERM" | "term" => &mut self.line.term,
            "REASON" | "reason" => &mut self.line.reason,
            other => {
                // Writing to a string cannot fail.
                let _ = write!(self.words, " {other}={value}");
                return;
            }
        };
        *named = Some(value);
    }
}

impl Visit for Rest<'_> {
    fn record_debug(&mut self, field: &Field, value: &dyn std::fmt::Debug) {
        self.take(field.name(), format!("{value:?}"));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.take(field.name(), value.to_owned());
    }
}

/// The layer: takes events apart and queues them. Never waits.
pub struct Queue {
    lines: SyncSender<Line>,
    dropped: Arc<AtomicU64>,
}

impl<S: Subscriber> Layer<S> for Queue {
    fn on_event(&self, event: &Event<'_>, _: Context<'_, S>) {
        if self.lines.try_send(Line::of(event)).is_err() {
            self.dropped.fetch_add(1, Ordering::Relaxed);
            LOG_LINES_DROPPED.fetch_add(1, Ordering::Relaxed);
        }
    }
}

/// Opens the journal and starts the thread that writes to it; `None` where nobody listens.
pub fn start() -> Option<Queue> {
    let journal = tracing_journald::layer().ok()?.with_field_prefix(None);
    let (queue, waiting) = queue();
    let dropped = Arc::clone(&queue.dropped);
    std::thread::Builder::new()
        .name("journal".into())
        .spawn(move || {
            let subscriber = tracing_subscriber::registry().with(journal);
            tracing::subscriber::with_default(subscriber, || drain(&waiting, &dropped));
        })
        .ok()?;
    Some(queue)
}

fn queue() -> (Queue, Receiver<Line>) {
    let (lines, waiting) = sync_channel(QUEUE_LEN);
    let dropped = Arc::default();
    (Queue { lines, dropped }, waiting)
}

fn drain(waiting: &Receiver<Line>, dropped: &AtomicU64) {
    while let Ok(line) = waiting.recv() {
        write(&line);
        let lost = dropped.swap(0, Ordering::Relaxed);
        if lost > 0 {
            tracing::warn!("the journal did not keep up: {lost} lines were dropped");
        }
    }
}

/// The same event again, for the subscriber of this thread: fields that are `None` are left out.
fn write(line: &Line) {
    let node = NODE.get().map(String::as_str);
    macro_rules! again {
        ($level:expr) => {
            tracing::event!(
                target: "wa_agent",
                $level,
                WA_NODE = node,
                WA_TARGET = line.target.as_str(),
                MESSAGE_ID = line.message_id.as_deref(),
                SHARD = line.shard.as_deref(),
                EPOCH = line.epoch.as_deref(),
                TERM = line.term.as_deref(),
                REASON = line.reason.as_deref(),
                "{}",
                line.message
            )
        };
    }
    match line.level.unwrap_or(Level::INFO) {
        Level::ERROR => again!(Level::ERROR),
        Level::WARN => again!(Level::WARN),
        Level::INFO => again!(Level::INFO),
        Level::DEBUG => again!(Level::DEBUG),
        Level::TRACE => again!(Level::TRACE),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a journal that does not read stops nobody, and what was lost is counted. Method: a queue that nobody
    /// drains, and more lines than it holds.
    #[test]
    fn a_journal_that_does_not_read_stops_nobody() {
        let (queue, waiting) = queue();
        let dropped = Arc::clone(&queue.dropped);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(queue), || {
            for n in 0..QUEUE_LEN + 7 {
                tracing::info!(n, "line");
            }
        });
        assert_eq!(dropped.load(Ordering::Relaxed), 7);
        assert_eq!(waiting.try_iter().count(), QUEUE_LEN);
    }

    /// Goal: fields that operators search by keep their names; the others follow the message.
    #[test]
    fn fields_with_a_name_are_kept_apart() {
        let (queue, waiting) = queue();
        tracing::subscriber::with_default(tracing_subscriber::registry().with(queue), || {
            let epoch = 7;
            tracing::warn!(MESSAGE_ID = "ab", shard = %3, epoch, REASON = "Lapsed", node = %"x:coreapp-1", "moved");
        });
        let line = waiting.try_recv().expect("one line");
        assert_eq!(line.message, "moved node=x:coreapp-1");
        assert_eq!(line.level, Some(Level::WARN));
        assert_eq!(line.message_id.as_deref(), Some("ab"));
        assert_eq!(line.shard.as_deref(), Some("3"));
        assert_eq!(line.epoch.as_deref(), Some("7"));
        assert_eq!(line.reason.as_deref(), Some("Lapsed"));
        assert_eq!(line.term, None);
    }
}
