//! The one table of alarms: which figure may go beyond which limit, for how long, what that means and what to type. It stands
//! behind the alarms of `wa-agent status` and `doctor`, and behind the rules for Prometheus in `packaging/monitoring`.
//! Measures nothing, reads no clock, and tells nobody.

use std::collections::{BTreeMap, VecDeque};

use crate::judgement::Kind;
use crate::time::{Duration, Instant};

/// How soon somebody must look.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Severity {
    /// Within days: something ends or fills up.
    Ticket,
    /// Now, at night as well.
    Page,
}

impl Severity {
    /// As the label of a Prometheus alert says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ticket => "ticket",
            Self::Page => "page",
        }
    }
}

/// On which side of its limit a figure is bad.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Bad {
    Above,
    Below,
}

impl Bad {
    /// The operator of a rule.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Above => ">",
            Self::Below => "<",
        }
    }
}

/// One row of the table.
#[derive(Debug, Clone, Copy)]
pub struct Row {
    pub alarm: Alarm,
    /// The name of the alert in Prometheus.
    pub name: &'static str,
    /// The recorded series in Prometheus. Its end is the unit.
    pub figure: &'static str,
    pub bad: Bad,
    pub limit: i64,
    /// Prometheus waits for so long before it tells somebody, in seconds.
    pub lasting_s: u32,
    pub severity: Severity,
    /// What happened.
    pub says: &'static str,
    /// What it means.
    pub means: &'static str,
    /// What to type.
    pub remedy: &'static str,
}

macro_rules! alarms {
    ($($alarm:ident $name:literal $figure:literal $bad:ident $limit:literal for $lasting:literal $severity:ident $says:literal $means:literal $remedy:literal;)*) => {
        /// Every alarm.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Alarm { $(#[doc = $says] $alarm,)* }

        /// In the order of the enum.
        const TABLE: &[Row] = &[$(Row {
            alarm: Alarm::$alarm,
            name: $name,
            figure: $figure,
            bad: Bad::$bad,
            limit: $limit,
            lasting_s: $lasting,
            severity: Severity::$severity,
            says: $says,
            means: $means,
            remedy: $remedy,
        },)*];

        impl Alarm {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$alarm,)*];
        }
    };
}

alarms! {
    FailoverImminent "WaFailoverImminent" "wa:lease_margin_percent" Below 40 for 0 Page
        "An owner or the primary master has not renewed its lease in time: less than 40 percent of the lease is left."
        "When the lease ends, another node takes over. Requests wait until then."
        "wa-agent status; then on the machine of that node: wa-agent doctor, and journalctl -u 'wa-*'";
    NoStandby "WaNoStandby" "wa:no_standby" Above 0 for 60 Page
        "No coreapp could take over a shard."
        "When its owner fails, the shard has no owner: requests are refused and no message is sent."
        "systemctl start wa-coreapp@2";
    TakeoverSlow "WaTakeoverSlow" "wa:takeover_percent" Above 100 for 0 Ticket
        "The newest takeover took longer than the timers in force promise."
        "The database, a machine or the network is slower than the timers allow for. The next takeover may be slow as well."
        "wa-agent history; then wa-agent explain, and wa-agent doctor on each machine";
    GateNotAttested "WaGateNotAttested" "wa:ungated" Above 0 for 60 Page
        "A coreapp is not behind an attested kernel gate, and the configuration requires one."
        "This coreapp is not promoted. If no other one is left, the next failure has nobody to take over."
        "on its machine: wa-agent gate status; then wa-agent doctor";
    MountFails "WaMountFails" "wa:mounts_failing" Above 0 for 60 Page
        "The media directory of a node does not work."
        "That node can neither take nor send files. A coreapp with a good directory may take its shard over."
        "wa-agent status says which node and why; on its machine: wa-agent doctor";
    OutboxGrows "WaOutboxGrows" "wa:outbox_growth" Above 1000 for 600 Ticket
        "Messages come in faster than they go out: the outbox has grown by more than 1,000 within 10 minutes."
        "New messages wait longer and longer. A campaign does this for a while, and so does an upstream that slows the number down."
        "wa-agent status; then see wa_upstream_refusals_total by class, and [upstream] rate_per_second";
    InboxGrows "WaInboxGrows" "wa:inbox_growth" Above 1000 for 600 Ticket
        "Events of WhatsApp come in faster than their owner works them off: more than 1,000 more wait than 10 minutes ago."
        "The business learns of messages and receipts later and later. None is lost."
        "wa-agent status; then journalctl -u 'wa-coreapp@*', and look at the load of the database";
    ReceiptsLate "WaReceiptsLate" "wa:receipts_silent_seconds" Above 600 for 0 Page
        "WhatsApp took messages, and no receipt of any message has come for more than 10 minutes."
        "Events of WhatsApp do not arrive. The business gets no receipts, and most likely no messages of customers either."
        "wa-agent doctor says whether the account's events come here; then look at the proxy in front of the webapps";
    CallbacksFail "WaCallbacksFail" "wa:callbacks_failing" Above 0 for 60 Page
        "The business does not take its callbacks."
        "Messages of customers and receipts wait here. They are tried again until [webhooks] park_after."
        "look at the business's receiver, or set webhooks.url: PATCH /v1/settings/application";
    CallbacksParked "WaCallbacksParked" "wa:callbacks_parked" Above 0 for 0 Ticket
        "The business refused callbacks for so long that they are parked."
        "They are kept, and not tried any more until somebody says so."
        "wa-agent webhooks list; then wa-agent webhooks retry --all, or purge --all to delete them";
    UpstreamRefuses "WaUpstreamRefuses" "wa:upstream_refusals_percent" Above 5 for 300 Ticket
        "WhatsApp refuses more than 5 percent of the messages for reasons of one class."
        "limit: it slows the number down. account: it refuses the account. message: it refuses messages for good. later: for hours."
        "wa-agent status; then journalctl -u 'wa-coreapp@*' | grep refuse, which names WhatsApp's code";
    QueueHeld "WaQueueHeld" "wa:queue_held" Above 0 for 60 Page
        "WhatsApp refuses the account, and an owner keeps its messages."
        "Nothing is lost and nothing is sent. Messages go on by themselves when WhatsApp takes them again."
        "wa-agent status says why, and what to type";
    TokenEnds "WaTokenEnds" "wa:token_days" Below 30 for 0 Ticket
        "The access token ends in less than 30 days."
        "From then on WhatsApp refuses every message, until there is a new token."
        "make one that does not expire; write it into the file of [upstream] token_file, and type on each machine with coreapps: systemctl reload 'wa-coreapp@*'";
    CertificateEnds "WaCertificateEnds" "wa:certificate_days" Below 7 for 0 Ticket
        "The certificate of the public port ends in less than 7 days."
        "From then on clients and WhatsApp refuse to connect. Events wait at WhatsApp for some days."
        "POST /v1/certificates/external with a new one, or put it into the files of [webapp] tls_cert and tls_key";
    VersionEnds "WaVersionEnds" "wa:version_days" Below 90 for 0 Ticket
        "The version of the Cloud API that is configured ends in less than 90 days."
        "From then on WhatsApp answers with another version, or with errors."
        "set [upstream] version to a newer one (v25.0), and restart the coreapps one after the other";
    DiskFull "WaDiskFull" "wa:disk_free_percent" Below 10 for 60 Page
        "The file system of /var/lib/wa-agent is almost full: less than 10 percent are free."
        "A node that cannot write there takes no shard. An embedded database takes no messages."
        "df -h /var/lib/wa-agent; then delete what is not needed, or make the file system larger";
    DatabaseSlow "WaDatabaseSlow" "wa:database_read_milliseconds" Above 250 for 60 Ticket
        "The database needs more than 250 ms for a read of a few rows."
        "Messages are accepted slowly. When it takes as long as a lease lasts, leases end and nodes stop acting."
        "look at load, disk and slow queries of the database server; then wa-agent doctor";
    FalseStarts "WaFalseStarts" "wa:false_starts" Above 0 for 0 Ticket
        "An owner was replaced for silence within the last hour, and the same process answered later."
        "It was alive: the machine, its network or its timers were held up. Each such takeover interrupts sending for a moment."
        "wa-agent history; then wa-agent doctor on its machine, and longer timers with wa-agent setup --profile";
}

impl Alarm {
    /// Its row.
    pub fn row(self) -> &'static Row {
        &TABLE[self as usize]
    }

    /// What to type.
    pub fn remedy(self) -> &'static str {
        self.row().remedy
    }

    /// The alarm of this name.
    pub fn named(name: &str) -> Option<Self> {
        let mut all = TABLE.iter();
        all.find(|row| row.name == name).map(|row| row.alarm)
    }

    /// A figure of this value is beyond the limit.
    pub fn rings(self, value: i64) -> bool {
        let row = self.row();
        match row.bad {
            Bad::Above => value > row.limit,
            Bad::Below => value < row.limit,
        }
    }

    /// A value that rings.
    pub fn beyond(self) -> i64 {
        let row = self.row();
        match row.bad {
            Bad::Above => row.limit + 1,
            Bad::Below => row.limit - 1,
        }
    }

    /// The alarm that a problem of this kind is, if it is one.
    pub fn of(kind: Kind) -> Option<Self> {
        match kind {
            Kind::NoStandby => Some(Self::NoStandby),
            Kind::Ungated => Some(Self::GateNotAttested),
            Kind::Media => Some(Self::MountFails),
            Kind::CallbacksWait => Some(Self::CallbacksFail),
            Kind::CallbacksParked => Some(Self::CallbacksParked),
            Kind::MessagesHeld => Some(Self::QueueHeld),
            Kind::CertificateEndsSoon => Some(Self::CertificateEnds),
            Kind::DatabaseSilent
            | Kind::DatabaseTakesNoWrites
            | Kind::MastersMute
            | Kind::NoMaster
            | Kind::ShardWithoutOwner
            | Kind::OwnerLapsed
            | Kind::OwnerMute
            | Kind::IntakeRefuses
            | Kind::RequestsRefused
            | Kind::UpstreamRefuses
            | Kind::Unregistered
            | Kind::ShardBlocked
            | Kind::Restored
            | Kind::ServerChanged
            | Kind::Rewound
            | Kind::Voided
            | Kind::FateUnknown
            | Kind::NodeSilent
            | Kind::NodeTwice
            | Kind::OneMaster
            | Kind::OddNumber
            | Kind::RegistrationStopped
            | Kind::Late
            | Kind::TimersByApi
            | Kind::Paused
            | Kind::Drained
            | Kind::RegistrationRuns
            | Kind::CertificateEnds
            | Kind::EventsUnread
            | Kind::AccountNews
            | Kind::Spread => None,
        }
    }
}

/// What is known of the figures, by the alarm that watches each. What is not there is not known, and rings nothing.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Figures(BTreeMap<Alarm, i64>);

impl Figures {
    /// A figure has this value. Of several values the worst counts.
    pub fn put(&mut self, alarm: Alarm, value: i64) {
        let worst = |known: i64| match alarm.row().bad {
            Bad::Above => known.max(value),
            Bad::Below => known.min(value),
        };
        let value = self.0.get(&alarm).map_or(value, |known| worst(*known));
        self.0.insert(alarm, value);
    }

    /// Takes the worse of each of both.
    pub fn join(&mut self, other: &Self) {
        for (alarm, value) in &other.0 {
            self.put(*alarm, *value);
        }
    }

    /// All that is known.
    pub fn all(&self) -> impl Iterator<Item = (Alarm, i64)> {
        self.0.iter().map(|(alarm, value)| (*alarm, *value))
    }

    /// The alarms that ring, with their values.
    pub fn ringing(&self) -> Vec<(Alarm, i64)> {
        self.all()
            .filter(|(alarm, value)| alarm.rings(*value))
            .collect()
    }
}

/// By how much a count has grown within a span: a few points of it are kept.
#[derive(Debug, Clone)]
pub struct Growth {
    span: Duration,
    points: VecDeque<(Instant, i64)>,
}

/// Points that are kept of a span.
const POINTS: u32 = 20;

impl Growth {
    /// Nothing is known yet.
    pub fn within(span: Duration) -> Self {
        Self {
            span,
            points: VecDeque::new(),
        }
    }

    /// The count is this now. By how much it is more than at the beginning of the span, or than at the oldest point within it;
    /// 0 where it is not more.
    pub fn now(&mut self, now: Instant, count: i64) -> i64 {
        let (span, each) = (self.span, self.span / POINTS);
        while self
            .points
            .front()
            .is_some_and(|(at, _)| now.since(*at) > span)
        {
            self.points.pop_front();
        }
        if self
            .points
            .back()
            .is_none_or(|(at, _)| now.since(*at) >= each)
        {
            self.points.push_back((now, count));
        }
        let first = self.points.front().map_or(count, |(_, first)| *first);
        count.saturating_sub(first).max(0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the table is whole. Method: every row stands at its place, its name and figure are its own, its sentences are
    /// sentences of at most 25 words, and it says what to type.
    #[test]
    fn the_table_is_whole() {
        for (at, row) in TABLE.iter().enumerate() {
            assert_eq!((row.alarm as usize, Alarm::ALL[at]), (at, row.alarm));
            assert_eq!(row.name, format!("Wa{:?}", row.alarm));
            assert_eq!(Alarm::named(row.name), Some(row.alarm));
            let same = TABLE.iter().filter(|other| other.figure == row.figure);
            assert_eq!(same.count(), 1, "{}", row.figure);
            assert!(row.figure.starts_with("wa:"), "{}", row.figure);
            assert!(!row.remedy.is_empty());
            for text in [row.says, row.means] {
                assert!(text.ends_with('.'), "{text}");
                for sentence in text.split(". ") {
                    assert!(sentence.split_whitespace().count() <= 25, "{sentence}");
                }
            }
        }
        assert_eq!(Alarm::named("WaNothing"), None);
    }

    /// Goal: each alarm rings beyond its limit and not at it. Method: both values of each; the worst of several counts.
    #[test]
    fn alarms_ring_beyond_their_limits() {
        for alarm in Alarm::ALL {
            let (beyond, limit) = (alarm.beyond(), alarm.row().limit);
            let fine = limit + limit - beyond;
            assert!(!alarm.rings(limit), "{alarm:?}");
            let mut figures = Figures::default();
            figures.put(*alarm, fine);
            assert_eq!(figures.ringing(), []);
            let mut other = Figures::default();
            other.put(*alarm, beyond);
            figures.join(&other);
            figures.put(*alarm, fine);
            assert_eq!(figures.ringing(), [(*alarm, beyond)]);
        }
    }

    /// Goal: growth is that of the span, and few points are kept. Method: a count that grows by one a second, stays, and falls.
    #[test]
    fn growth_is_that_of_the_span() {
        let mut growth = Growth::within(Duration::from_secs(600));
        let at = |s: u64| Instant::ZERO + Duration::from_secs(s);
        assert_eq!(growth.now(at(0), 5), 0);
        assert_eq!(growth.now(at(1), 9), 4);
        for s in 2..2000 {
            growth.now(at(s), 5 + i64::try_from(s).expect("small"));
        }
        let grown = growth.now(at(2000), 2005);
        assert!((570..=600).contains(&grown), "{grown}");
        assert!(growth.points.len() <= 21, "{}", growth.points.len());
        assert_eq!(growth.now(at(3000), 2005), 0);
        assert_eq!(growth.now(at(3060), 7), 0);
    }
}
