//! What the ports of one process count: connections, those that were ended, and bytes of callers who have not shown yet who they
//! are. Limits nothing: `net/places.rs` and `net/room.rs` do.

use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::figure::{Figure, Figures, known, value};

const CONNECTIONS: (&str, &str) = ("wa_connections", "Connections that are open, by port");
const ENDED: (&str, &str) = (
    "wa_connections_ended",
    "Connections that were refused or ended to protect this process, by port and reason",
);
const BYTES: (&str, &str) = (
    "wa_unauthenticated_bytes",
    "Room that is taken by bodies whose senders have not shown yet who they are",
);
const REFUSED: (&str, &str) = (
    "wa_unauthenticated_refused",
    "Bodies that were refused because that room was full, or because they came too slowly",
);

/// Why a connection was refused or ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Why {
    /// The port has no place for more connections.
    Full,
    /// Its source has as many connections as one source may have.
    Source,
    /// It did not read what it was sent.
    Unread,
}

impl Why {
    /// Every reason.
    pub const ALL: [Self; 3] = [Self::Full, Self::Source, Self::Unread];

    /// Its name in metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Full => "full",
            Self::Source => "source",
            Self::Unread => "unread",
        }
    }
}

type Label = (&'static str, &'static str);

/// The counts of one process.
#[derive(Debug, Clone, Default)]
pub struct DoorCounts {
    open: Family<[Label; 1], Gauge>,
    ended: Family<[Label; 2], Counter>,
    /// See [`BYTES`].
    pub bytes: Gauge,
    /// See [`REFUSED`].
    pub refused: Counter,
}

impl DoorCounts {
    /// The gauge of open connections of one port.
    pub fn open(&self, port: &'static str) -> Gauge {
        self.open.get_or_create(&[("port", port)]).clone()
    }

    /// The counter of connections of one port that were refused or ended for this reason.
    pub fn of(&self, port: &'static str, why: Why) -> Counter {
        let labels = [("port", port), ("why", why.as_str())];
        self.ended.get_or_create(&labels).clone()
    }

    /// Makes them known to a scraper.
    pub fn register(&self, registry: &mut Registry) {
        registry.register(CONNECTIONS.0, CONNECTIONS.1, self.open.clone());
        registry.register(ENDED.0, ENDED.1, self.ended.clone());
        known(registry, BYTES.0, BYTES.1, self.bytes.clone());
        registry.register(REFUSED.0, REFUSED.1, self.refused.clone());
    }

    /// The same as values; connections are for scrapers only.
    pub fn figures(&self) -> Figures {
        let bytes = value(u64::try_from(self.bytes.get()).unwrap_or_default());
        let refused = value(self.refused.get());
        [
            (BYTES.0.to_owned(), Figure::gauge(BYTES.1).with(&[], bytes)),
            (
                REFUSED.0.to_owned(),
                Figure::counter(REFUSED.1).with(&[], refused),
            ),
        ]
        .into()
    }
}
