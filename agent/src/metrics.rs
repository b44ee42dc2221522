//! Every metric, in one struct per role. Names start with `wa_`; units end them.
//! Measures nothing by itself.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use prometheus_client::encoding::text::{encode_eof, encode_registry};
use prometheus_client::encoding::{EncodeMetric, MetricEncoder, NoLabelSet};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use wa_core::judgement::{Kind, Problem};

/// Counters of calls.
pub mod calls;
/// What a coreapp measures under the names of the reference client.
pub mod coreapp;
/// Connections, and bytes of callers who have not shown yet who they are.
pub mod door;
/// Metrics as values.
pub mod figure;
/// Answers of the upstream that refuse, by class.
pub mod refusals;
/// What was deleted because it is old.
pub mod swept;
/// What a webapp measures under the names of the reference client.
pub mod webapp;

use calls::Calls;
use door::DoorCounts;
use figure::{Figure, Figures, Measured, known};
use refusals::Refusals;
use swept::Swept;

/// Counted where lines are queued for the journal; every role shows it.
pub static LOG_LINES_DROPPED: AtomicU64 = AtomicU64::new(0);

/// Upper bounds of [`Ticks`]: a tenth of a millisecond, twice that, and so on to about six and a half seconds.
const TICKS_LEN: usize = 17;
const TICK_NS: u64 = 100_000;

/// A histogram of spans that a thread may count in without waiting for whoever reads it: nothing but atomics.
#[derive(Debug, Clone, Default)]
pub struct Ticks(Arc<TickCounts>);

#[derive(Debug, Default)]
struct TickCounts {
    buckets: [AtomicU64; TICKS_LEN],
    above: AtomicU64,
    sum_ns: AtomicU64,
}

impl Ticks {
    /// Counts one span.
    pub fn observe(&self, span: Duration) {
        let ns = u64::try_from(span.as_nanos()).unwrap_or(u64::MAX);
        let at = (0..TICKS_LEN).find(|at| ns <= TICK_NS << at);
        let count = at.map_or(&self.0.above, |at| &self.0.buckets[at]);
        count.fetch_add(1, Ordering::Relaxed);
        self.0.sum_ns.fetch_add(ns, Ordering::Relaxed);
    }
}

impl EncodeMetric for Ticks {
    fn encode(&self, mut encoder: MetricEncoder<'_>) -> Result<(), std::fmt::Error> {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let mut buckets = [(f64::MAX, get(&self.0.above)); TICKS_LEN + 1];
        for (at, count) in self.0.buckets.iter().enumerate() {
            buckets[at] = ((TICK_NS << at) as f64 / 1e9, get(count));
        }
        let count = buckets.iter().map(|(_, count)| count).sum();
        encoder.encode_histogram::<NoLabelSet>(
            get(&self.0.sum_ns) as f64 / 1e9,
            count,
            &buckets,
            None,
        )
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Histogram
    }
}

type Float = Gauge<f64, AtomicU64>;

macro_rules! metrics {
    ($(#[$doc:meta])* $name:ident { $($field:ident: $type:ty = $new:expr, $metric:literal, $help:literal;)* }) => {
        $(#[$doc])*
        pub struct $name {
            registry: Registry,
            log_lines_dropped: Gauge,
            /// What the ports of this process count.
            pub door: DoorCounts,
            /// Room of the state directory.
            pub room: RoomGauges,
            $(#[doc = $help] pub $field: $type,)*
        }

        impl $name {
            /// All at zero.
            pub fn new() -> Self {
                let mut registry = Registry::default();
                $(let $field: $type = $new; known(&mut registry, $metric, $help, $field.clone());)*
                let log_lines_dropped = Gauge::default();
                let help = "Log lines dropped because the journal did not read";
                registry.register("wa_log_lines_dropped", help, log_lines_dropped.clone());
                let door = DoorCounts::default();
                door.register(&mut registry);
                let room = RoomGauges::default();
                room.register(&mut registry);
                Self { registry, log_lines_dropped, door, room, $($field,)* }
            }

            /// The text that a scraper reads.
            pub fn encode(&self) -> String {
                self.encode_with(Figures::new())
            }

            /// The same, with figures of other names behind it.
            pub fn encode_with(&self, more: Figures) -> String {
                self.look();
                let mut out = String::new();
                let done = encode_registry(&mut out, &self.registry)
                    .and_then(|()| encode_registry(&mut out, &figure::registry(more)))
                    .and_then(|()| encode_eof(&mut out));
                done.expect("writing to a string cannot fail");
                out
            }

            /// The same as values; of a histogram its sum and count.
            pub fn figures(&self) -> Figures {
                self.look();
                let mut all = self.log_lines_dropped.figures("wa_log_lines_dropped", "Log lines dropped because the journal did not read");
                all.extend(self.door.figures());
                $(all.extend(self.$field.figures($metric, $help));)*
                all
            }

            fn look(&self) {
                let dropped = LOG_LINES_DROPPED.load(Ordering::Relaxed);
                self.log_lines_dropped.set(i64::try_from(dropped).unwrap_or(i64::MAX));
            }
        }

        impl Default for $name {
            fn default() -> Self { Self::new() }
        }
    };
}

impl Ticks {
    /// Seconds in all, and how many spans.
    pub fn sum_and_count(&self) -> (f64, u64) {
        let get = |count: &AtomicU64| count.load(Ordering::Relaxed);
        let counts: u64 = self.0.buckets.iter().map(get).sum();
        let seconds = figure::value(get(&self.0.sum_ns)) / 1e9;
        (seconds, counts + get(&self.0.above))
    }
}

impl Measured for Ticks {
    fn figures(&self, name: &str, help: &str) -> Figures {
        let (seconds, count) = self.sum_and_count();
        let counter = |value| Figure::counter(help).with(&[], value);
        [
            (format!("{name}_sum"), counter(seconds)),
            (format!("{name}_count"), counter(figure::value(count))),
        ]
        .into()
    }
}

/// Room of the file system that holds the state directory. `sys/room.rs` looks.
#[derive(Debug, Clone, Default)]
pub struct RoomGauges {
    pub free: Gauge,
    /// 0: nobody has looked yet.
    pub size: Gauge,
}

impl RoomGauges {
    fn register(&self, registry: &mut Registry) {
        let help = "Free space of the file system of the state directory";
        known(registry, "wa_state_free_bytes", help, self.free.clone());
        let help = "Size of the file system of the state directory";
        known(registry, "wa_state_size_bytes", help, self.size.clone());
    }

    /// How much is free, in percent; `None`: not known yet.
    pub fn percent(&self) -> Option<i64> {
        let size = self.size.get();
        (size > 0).then(|| {
            i64::try_from(i128::from(self.free.get()) * 100 / i128::from(size)).unwrap_or(100)
        })
    }
}

/// Counters that the kernel keeps, under its own names.
#[derive(Debug, Clone, Default)]
pub struct GateCounters(Family<[(&'static str, &'static str); 1], Gauge>);

impl GateCounters {
    /// As they were read just now.
    pub fn set(&self, counters: &[(&'static str, u64)]) {
        for (name, count) in counters {
            let gauge = self.0.get_or_create(&[("what", *name)]);
            gauge.set(i64::try_from(*count).unwrap_or(i64::MAX));
        }
    }
}

impl EncodeMetric for GateCounters {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        // They only grow, but start at what the kernel holds: this process may be younger than they are.
        MetricType::Gauge
    }
}

impl Measured for GateCounters {
    /// Host agents are asked by scrapers only.
    fn figures(&self, _: &str, _: &str) -> Figures {
        Figures::new()
    }
}

/// How many problems of each kind there are, by the judgement that `wa-agent status` prints.
#[derive(Debug, Clone, Default)]
pub struct Problems(Family<[(&'static str, &'static str); 1], Gauge>);

impl Problems {
    /// As they were judged just now; every kind is there, mostly as 0.
    pub fn set(&self, problems: &[Problem]) {
        for kind in Kind::ALL {
            let count = problems.iter().filter(|p| p.kind == *kind).count();
            let gauge = self.0.get_or_create(&[("kind", kind.as_str())]);
            gauge.set(i64::try_from(count).unwrap_or(i64::MAX));
        }
    }
}

impl Measured for Problems {
    fn figures(&self, name: &str, help: &str) -> Figures {
        let figure = Kind::ALL.iter().fold(Figure::gauge(help), |figure, kind| {
            let found = self
                .0
                .get(&[("kind", kind.as_str())])
                .map(|gauge| gauge.get());
            #[allow(clippy::cast_precision_loss)]
            figure.with(&[("kind", kind.as_str())], found.unwrap_or(0) as f64)
        });
        [(name.to_owned(), figure)].into()
    }
}

impl EncodeMetric for Problems {
    fn encode(&self, encoder: MetricEncoder<'_>) -> std::fmt::Result {
        self.0.encode(encoder)
    }

    fn metric_type(&self) -> MetricType {
        MetricType::Gauge
    }
}

metrics!(
    /// What a master measures.
    MasterMetrics {
        primary: Gauge = Gauge::default(), "wa_master_primary", "1 while this master holds the lease";
        lease_margin: Float = Float::default(), "wa_lease_margin_seconds", "Time left on the own lease";
        lease: Float = Float::default(), "wa_lease_seconds", "How long a lease of a master lasts without a renewal";
        takeover: Float = Float::default(), "wa_takeover_seconds", "How long the newest takeover took, from the last answer of the old owner; 0: none within an hour";
        takeover_promised: Float = Float::default(), "wa_takeover_promised_seconds", "How long that takeover may have taken by the timers in force, else the next one";
        database_read: Float = Float::default(), "wa_database_read_seconds", "How long the newest read of the shard map took, or how long one that runs has taken";
        false_starts: Counter = Counter::default(), "wa_false_starts", "Owners that were replaced for silence and whose same process answered later";
        heartbeat_rtt: Ticks = Ticks::default(), "wa_heartbeat_rtt_seconds", "Round trip of answered heartbeats";
        round_lateness: Ticks = Ticks::default(), "wa_heartbeat_round_lateness_seconds", "How late rounds of pings left";
        rounds_abstained: Counter = Counter::default(), "wa_rounds_abstained", "Rounds of pings that left late, by which this master judged nobody";
        heartbeat_wait: Ticks = Ticks::default(), "wa_heartbeat_wait_seconds", "How long datagrams lay in the kernel until the heartbeat thread read them";
        renewal_margin: Ticks = Ticks::default(), "wa_lease_renewal_margin_seconds", "Time left on the own lease when it was renewed";
        heartbeat_realtime: Gauge = Gauge::default(), "wa_heartbeat_realtime", "1 while the heartbeat thread runs under SCHED_FIFO";
        heartbeat_locked: Gauge = Gauge::default(), "wa_heartbeat_locked_bytes", "Address space that stays in memory for the heartbeat thread";
        datagrams_refused: Gauge = Gauge::default(), "wa_datagrams_refused", "Datagrams that ICMP said a peer refused; a diagnosis, never evidence";
        datagrams_kept_away: Gauge = Gauge::default(), "wa_datagrams_kept_away", "Datagrams that the kernel dropped on the heartbeat socket: not ours, or no room";
        problems: Problems = Problems::default(), "wa_problems", "Problems of the cluster as this master sees it, by kind; 0: none";
        handovers: Counter = Counter::default(), "wa_handovers", "Handovers started";
        store_failures: Counter = Counter::default(), "wa_store_failures", "Reads or writes of the store that failed";
        datagrams_dropped: Gauge = Gauge::default(), "wa_datagrams_dropped", "Datagrams that were not understood or not authentic";
        settings_version: Gauge = Gauge::default(), "wa_settings_version", "Version of the application settings in force";
    }
);

metrics!(
    /// What a coreapp measures.
    CoreappMetrics {
        owner: Gauge = Gauge::default(), "wa_coreapp_owner", "1 while this coreapp has a live tenure";
        tenure_margin: Float = Float::default(), "wa_tenure_margin_seconds", "Time left on the tenure";
        tenure: Float = Float::default(), "wa_tenure_seconds", "How long a tenure lasts without a renewal";
        heartbeat_wait: Ticks = Ticks::default(), "wa_heartbeat_wait_seconds", "How long datagrams lay in the kernel until the heartbeat thread read them";
        renewal_margin: Ticks = Ticks::default(), "wa_tenure_renewal_margin_seconds", "Time left on the tenure when it was renewed";
        heartbeat_realtime: Gauge = Gauge::default(), "wa_heartbeat_realtime", "1 while the heartbeat thread runs under SCHED_FIFO";
        heartbeat_locked: Gauge = Gauge::default(), "wa_heartbeat_locked_bytes", "Address space that stays in memory for the heartbeat thread";
        datagrams_dropped: Gauge = Gauge::default(), "wa_datagrams_dropped", "Datagrams that were not understood or not authentic";
        datagrams_kept_away: Gauge = Gauge::default(), "wa_datagrams_kept_away", "Datagrams that the kernel dropped on the heartbeat socket: not ours, or no room";
        problems: Problems = Problems::default(), "wa_problems", "Problems of this coreapp, by kind; 0: none";
        accepted: Counter = Counter::default(), "wa_messages_accepted", "Messages accepted";
        commit: Ticks = Ticks::default(), "wa_intake_commit_seconds", "Duration of intake commits";
        sent: Counter = Counter::default(), "wa_messages_sent", "Messages that the upstream took";
        failed: Counter = Counter::default(), "wa_messages_failed", "Messages that the upstream refused for good";
        ambiguous: Counter = Counter::default(), "wa_messages_ambiguous", "Sends with an unknown outcome";
        media_fetched: Counter = Counter::default(), "wa_media_fetched", "Files of inbound messages stored";
        media_sent: Counter = Counter::default(), "wa_media_sent", "Files given to the upstream";
        answers_bare: Counter = Counter::default(), "wa_answers_without_context", "Answers that went out as none, because the message that they name was not sent or is not known";
        statuses_late: Counter = Counter::default(), "wa_statuses_late", "Statuses that were not told, because a higher one of their message was told before";
        identities_left_out: Counter = Counter::default(), "wa_identities_left_out", "Identity keys of customers that were not kept, because the key or the customer's address is too long";
        statuses_foreign: Counter = Counter::default(), "wa_statuses_foreign", "Statuses that were not told, because their messages are not ours; wa-agent events list";
        events_unread: Counter = Counter::default(), "wa_events_unread", "Events that nobody could read when they were read again; they are kept: wa-agent events list";
        account_news: Counter = Counter::default(), "wa_account_news", "News of the account that the upstream told";
        statuses_contradicted: Counter = Counter::default(), "wa_statuses_contradicted", "Failures that were not told, because their message had arrived";
        media_forgotten: Counter = Counter::default(), "wa_media_forgotten", "Files that the upstream did not know any more, to be given to it again";
        links_fetched: Counter = Counter::default(), "wa_links_fetched", "Files behind links that were fetched and given to the upstream";
        links_refused: Counter = Counter::default(), "wa_links_refused", "Files behind links that cannot be sent: not found, not of the right type, too long, not public";
        links_failed: Counter = Counter::default(), "wa_links_failed", "Attempts to fetch a link whose server was away or busy";
        in_flight: Gauge = Gauge::default(), "wa_upstream_in_flight", "Upstream requests in flight";
        outbox_depth: Gauge = Gauge::default(), "wa_outbox_depth", "Accepted messages that are not finished";
        outbox_growth: Gauge = Gauge::default(), "wa_outbox_growth", "Messages of the own shard that wait beyond those that waited 10 minutes ago";
        inbox_depth: Gauge = Gauge::default(), "wa_inbox_depth", "Events of the own shard that wait in the inbox";
        inbox_growth: Gauge = Gauge::default(), "wa_inbox_growth", "Events of the own shard that wait beyond those that waited 10 minutes ago";
        receipts_silent: Gauge = Gauge::default(), "wa_receipts_silent_seconds", "Time since the upstream took a message without a receipt of any message after it; 0: a receipt came";
        answers: Counter = Counter::default(), "wa_upstream_answers", "Answers of the upstream to sends";
        refusals: Refusals = Refusals::default(), "wa_upstream_refusals", "Answers of the upstream to sends that refuse, by class";
        held_for: Gauge = Gauge::default(), "wa_messages_held_seconds", "For how long messages are held because the upstream refuses the account; 0: they are not";
        token_end: Gauge = Gauge::default(), "wa_upstream_token_end_timestamp_seconds", "When the access token ends; 0: it does not, or that is not known";
        version_end: Gauge = Gauge::default(), "wa_upstream_version_end_timestamp_seconds", "When the configured version of the Cloud API ends; 0: that is not known";
        media_ok: Gauge = Gauge::default(), "wa_media_ok", "1 while the media directory works, or none is wanted";
        media_free: Gauge = Gauge::default(), "wa_media_free_bytes", "Free space of the media directory";
        swept: Swept = Swept::default(), "wa_swept_rows", "Rows that were deleted or blanked, and unfinished uploads that were removed, because they are old, by sweep";
        webhook_oldest: Gauge = Gauge::default(), "wa_webhook_oldest_seconds", "For how long the oldest event that the business has not taken waits under this owner";
        webhook_depth: Gauge = Gauge::default(), "wa_webhook_depth", "Events of the own shard that the business has not taken yet";
        webhooks_parked_now: Gauge = Gauge::default(), "wa_webhooks_parked", "Webhooks of the own shard that were refused for too long and are not tried any more";
        webhooks_parked: Counter = Counter::default(), "wa_webhooks_put_aside", "Webhooks that this node has parked";
        settings_version: Gauge = Gauge::default(), "wa_settings_version", "Version of the application settings in force";
    }
);

metrics!(
    /// What a webapp measures.
    WebappMetrics {
        requests: Counter = Counter::default(), "wa_api_requests", "Requests to the public API";
        calls: Calls = Calls::default(), "wa_api_calls", "Requests to each call of the public API, by class of the answer";
        problems: Problems = Problems::default(), "wa_problems", "Problems that this webapp meets, by kind; 0: none";
        held: Gauge = Gauge::default(), "wa_requests_held", "Requests held for a failover or a busy owner";
        shed: Counter = Counter::default(), "wa_requests_shed", "Requests answered 503 because they could not be held";
        forward: Ticks = Ticks::default(), "wa_forward_seconds", "Duration of forwards to the owner";
        media_ok: Gauge = Gauge::default(), "wa_media_ok", "1 while the media directory works, or none is wanted";
        media_free: Gauge = Gauge::default(), "wa_media_free_bytes", "Free space of the media directory";
        media_uploads: Counter = Counter::default(), "wa_media_uploads", "Files taken from clients";
        events_stored: Counter = Counter::default(), "wa_events_stored", "Upstream events stored";
        events_of_others: Counter = Counter::default(), "wa_events_of_other_numbers", "Messages and statuses of other numbers of the account, which are not told";
        events_unread: Counter = Counter::default(), "wa_events_unread", "Events of the upstream that nobody could read; they are kept: wa-agent events list";
        events_echoed: Counter = Counter::default(), "wa_events_echoed", "Changes with messages that others wrote or that are history, which are not told";
        settings_version: Gauge = Gauge::default(), "wa_settings_version", "Version of the application settings in force";
        certificate_end: Gauge = Gauge::default(), "wa_certificate_end_timestamp_seconds", "When the certificate of the public port ends; 0: there is none";
        hsm_fallback: Counter = Counter::default(), "wa_hsm_fallback", "Messages of type hsm that asked for another language where theirs is missing, which the upstream does not do";
        templates_unchecked: Counter = Counter::default(), "wa_templates_unchecked", "Template messages that were sent because nobody could look at their template in time";
    }
);

metrics!(
    /// What a host agent measures.
    HostMetrics {
        media_ok: Gauge = Gauge::default(), "wa_media_ok", "1 while the media directory works, or none is wanted";
        media_free: Gauge = Gauge::default(), "wa_media_free_bytes", "Free space of the media directory";
        obituaries: Counter = Counter::default(), "wa_host_obituaries", "Deaths of units told to the masters";
        fences: Counter = Counter::default(), "wa_host_fences", "Fence requests for units of this machine";
        gate_attested: Gauge = Gauge::default(), "wa_gate_attested", "1 while the kernel gate was found whole at the last look";
        gate: GateCounters = GateCounters::default(), "wa_gate", "What the kernel gate let through, dropped or refused, by reason";
    }
);

/// The gauges of a role's heartbeat socket.
pub struct HeartbeatGauges<'a> {
    pub dropped: &'a Gauge,
    pub kept_away: &'a Gauge,
    /// Only who asks is refused.
    pub refused: Option<&'a Gauge>,
    pub realtime: &'a Gauge,
    pub locked: &'a Gauge,
}

impl MasterMetrics {
    /// Those of its heartbeat socket.
    pub fn heartbeat(&self) -> HeartbeatGauges<'_> {
        HeartbeatGauges {
            dropped: &self.datagrams_dropped,
            kept_away: &self.datagrams_kept_away,
            refused: Some(&self.datagrams_refused),
            realtime: &self.heartbeat_realtime,
            locked: &self.heartbeat_locked,
        }
    }
}

impl CoreappMetrics {
    /// Those of its heartbeat socket.
    pub fn heartbeat(&self) -> HeartbeatGauges<'_> {
        HeartbeatGauges {
            dropped: &self.datagrams_dropped,
            kept_away: &self.datagrams_kept_away,
            refused: None,
            realtime: &self.heartbeat_realtime,
            locked: &self.heartbeat_locked,
        }
    }
}
