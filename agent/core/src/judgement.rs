//! What is wrong with a cluster: from evidence to problems, each with its sentence and with what to type. This one judgement
//! stands behind `wa-agent status` and its exit code, `/v1/health`, the gauges, `STATUS=` of the units, and `wa-agent doctor`.
//! Reads no clock and asks nobody. Whoever collects evidence says how old it is, and what is too old counts as not known.

use crate::alarm::Alarm;
use crate::hold::Why;
use crate::id::Role;
use crate::time::Duration;

/// A word of a coreapp on itself that is older than this says nothing about now.
pub const WORD_AGE_MAX: Duration = Duration::from_secs(10);
/// An owner that does not answer its own page for so long refuses requests as well.
pub const MUTE_AFTER: Duration = Duration::from_secs(20);
/// A write or a commit that failed is tried again at once: it is a problem when that has not helped for so long.
pub const FAILS_FOR_MIN: Duration = Duration::from_secs(1);
/// Callbacks that failed are a problem when the oldest waits longer than this; a single failure is not.
pub const CALLBACKS_WAIT_MAX: Duration = Duration::from_secs(10);
/// Callbacks without a failure (a long queue, or no address set) are one after this.
pub const CALLBACKS_QUEUE_MAX: Duration = Duration::from_secs(60);

/// Something that fails, since when, and in whose words.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    /// Time since the first failure without a success after it.
    pub since: Duration,
    pub error: String,
}

/// The database as whoever judges meets it.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Database {
    /// Time since it last answered a read; `None`: it never did.
    pub read_age: Option<Duration>,
    /// A read that is older than this says nothing about now.
    pub fresh_for: Duration,
    pub read_error: Option<String>,
    /// Writes get no answer or are refused.
    pub writes: Option<Failing>,
}

/// The row of the master lease.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct MasterLease {
    pub holder: Option<String>,
    /// Whoever judges holds it, and its own clock says that it lives.
    pub own: bool,
    /// Time since it was last seen to change; `None`: not seen long enough to say.
    pub unchanged: Option<Duration>,
    /// It is over after so long without a renewal.
    pub over_after: Duration,
}

/// One row of the shard map.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Shard {
    pub shard: u16,
    pub owner: Option<String>,
    pub active: bool,
    /// Why it has no active owner, where that is known.
    pub why: Option<String>,
    /// Time since the owner's renewals last changed; `None`: not seen long enough to say.
    pub unchanged: Option<Duration>,
    /// The owner's lease is over after so long without a renewal.
    pub over_after: Duration,
    /// Time since the owner last answered its own page; `None`: it was never asked.
    pub mute_for: Option<Duration>,
    /// A coreapp could take it over now.
    pub standby: bool,
    /// What keeps each of the other coreapps out.
    pub unfit: Vec<String>,
}

/// A registered node that is asked for heartbeats.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    pub node: String,
    pub role: Role,
    pub answers: bool,
    /// Two starts that answer under this name, and where.
    pub twice: Option<String>,
}

/// Callbacks that the business has not taken.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Callbacks {
    pub count: u64,
    /// How long the oldest of them waits.
    pub oldest: Duration,
    /// What came of the newest attempt, if it failed.
    pub error: Option<String>,
    /// Refused for too long, and not tried any more.
    pub parked: u64,
}

/// What a coreapp says of its own work.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Word {
    pub node: String,
    pub shard: u16,
    /// Time since it said so.
    pub age: Duration,
    /// Messages are not taken.
    pub intake: Option<Failing>,
    pub callbacks: Callbacks,
    /// The upstream refuses, or does not answer.
    pub upstream: Option<Failing>,
    /// Messages are held, why, and for how long.
    pub held: Option<(Why, Duration)>,
    /// Messages of unknown fate that wait for a person.
    pub for_person: u64,
}

/// Everything that is known, by whoever judges. What it does not know stays empty and is no problem.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Evidence {
    pub database: Option<Database>,
    pub master: Option<MasterLease>,
    pub shards: Vec<Shard>,
    /// `None`: it does not know who is registered.
    pub nodes: Option<Vec<Node>>,
    pub words: Vec<Word>,
    /// Requests of clients that were answered 503, by the webapp that answered.
    pub refused: Option<Failing>,
    /// No master answers whoever judges.
    pub masters_mute: bool,
    /// What other rooms found, in their own words.
    pub told: Vec<(Kind, String)>,
}

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Grade {
    /// Worth knowing: how machines are laid out, what an operator switched off.
    Remark,
    /// All goes on; the next failure may not be survived, or something is late.
    Weak,
    /// Something is refused, stands still, or is not protected now.
    Broken,
}

impl Grade {
    /// As JSON says it.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Remark => "remark",
            Self::Weak => "weak",
            Self::Broken => "broken",
        }
    }
}

macro_rules! kinds {
    ($($kind:ident $word:literal $grade:ident $help:literal;)*) => {
        /// Every kind of problem. Its word is the label of a gauge, and stands in `--json`.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum Kind { $(#[doc = $help] $kind,)* }

        impl Kind {
            /// All of them.
            pub const ALL: &[Self] = &[$(Self::$kind,)*];

            /// Its word, as gauges and JSON say it.
            pub fn as_str(self) -> &'static str {
                match self { $(Self::$kind => $word,)* }
            }

            /// How bad it is.
            pub fn grade(self) -> Grade {
                match self { $(Self::$kind => Grade::$grade,)* }
            }
        }
    };
}

kinds! {
    DatabaseSilent "database_silent" Broken "The database does not answer reads.";
    DatabaseTakesNoWrites "database_takes_no_writes" Broken "The database answers reads, and takes no write.";
    MastersMute "masters_mute" Broken "No master answers.";
    NoMaster "no_master" Broken "No master holds a live lease.";
    ShardWithoutOwner "shard_without_owner" Broken "A shard has no active owner.";
    OwnerLapsed "owner_lapsed" Broken "An owner's renewals are older than its lease.";
    OwnerMute "owner_mute" Broken "An owner does not answer its own page.";
    IntakeRefuses "intake_refuses" Broken "An owner takes no messages.";
    RequestsRefused "requests_refused" Broken "A webapp answers 503.";
    UpstreamRefuses "upstream_refuses" Broken "The upstream refuses the owner, or does not answer it.";
    MessagesHeld "messages_held" Broken "The upstream refuses the account, and messages are kept.";
    CallbacksWait "callbacks_wait" Broken "The business does not take its callbacks.";
    Unregistered "unregistered" Broken "The number is not registered at the upstream.";
    ShardBlocked "shard_blocked" Broken "A shard has to move and nobody can take it.";
    Restored "restored" Broken "The database is older than what it has shown before.";
    ServerChanged "server_changed" Broken "Another database server took over and may lack commits.";
    Rewound "rewound" Weak "The database was put back to an older state while the cluster went on.";
    Voided "voided" Broken "A setting of the database voids a promise.";
    FateUnknown "fate_unknown" Weak "Messages whose fate nobody learned wait for a person.";
    NodeSilent "node_silent" Weak "A node does not answer heartbeats.";
    NodeTwice "node_twice" Weak "Two machines or processes answer under one name.";
    NoStandby "no_standby" Weak "No coreapp can take over.";
    OneMaster "one_master" Weak "Only one master answers.";
    Ungated "ungated" Weak "A coreapp is not behind a kernel gate and is not promoted.";
    OddNumber "odd_number" Weak "A node, a file or a row names a number that cannot be true.";
    Media "media" Weak "The media directory of a node does not work.";
    CallbacksParked "callbacks_parked" Weak "The business refused callbacks for so long that they are not tried any more.";
    RegistrationStopped "registration_stopped" Weak "A registration of the number failed, or nobody knows what became of it.";
    CertificateEndsSoon "certificate_ends_soon" Weak "The certificate that was sent for the public port ends within 7 days, or has ended.";
    Late "late" Weak "A master's own timers were late.";
    TimersByApi "timers_by_api" Remark "Timers that were set over the API are in force, and not the configured ones.";
    Paused "paused" Remark "An operator paused failover.";
    Drained "drained" Remark "An operator drained a coreapp.";
    RegistrationRuns "registration_runs" Remark "A registration of the number runs, or waits for its code.";
    CertificateEnds "certificate_ends" Remark "The certificate that was sent for the public port ends within 30 days.";
    EventsUnread "events_unread" Remark "Events of the upstream could not be read and were not told.";
    AccountNews "account_news" Remark "The upstream told of the account what somebody should look at.";
    Spread "spread" Remark "Nodes share a machine or a zone.";
}

/// One problem.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Problem {
    pub kind: Kind,
    /// The node or shard that it is about; empty: the whole cluster.
    pub about: String,
    /// Who, what happened, what happens next.
    pub says: String,
    /// What to type; empty where the sentence says it.
    pub remedy: String,
}

impl Problem {
    fn new(kind: Kind, about: &str, says: String, remedy: impl Into<String>) -> Self {
        Self {
            kind,
            about: about.into(),
            says,
            remedy: remedy.into(),
        }
    }

    /// The whole of it, in one line.
    pub fn line(&self) -> String {
        match self.remedy.is_empty() {
            true => self.says.clone(),
            false => format!("{} ({})", self.says, self.remedy),
        }
    }
}

/// `80ms`, `2.4s`, `3m12s`: what a person reads at a glance.
fn span(span: Duration) -> String {
    let ms = span.as_millis();
    match ms {
        0..=999 => format!("{ms}ms"),
        1_000..=59_999 => format!("{}.{}s", ms / 1000, ms % 1000 / 100),
        _ => format!("{}m{}s", ms / 60_000, ms % 60_000 / 1000),
    }
}

/// The unit of a node, as systemd names it: `core1:coreapp-1` runs as `wa-coreapp@1`.
pub fn unit_of(node: &str) -> String {
    let (_, unit) = node.rsplit_once(':').unwrap_or(("", node));
    if unit == "host" || unit.starts_with("host-") {
        return "wa-host".into();
    }
    format!("wa-{}", unit.replacen('-', "@", 1))
}

/// Everything that is wrong, the worst first.
pub fn judge(evidence: &Evidence) -> Vec<Problem> {
    let mut out = Vec::new();
    let rows_are_fresh = database(evidence, &mut out);
    if evidence.masters_mute {
        out.push(Problem::new(
            Kind::MastersMute,
            "",
            "no master answers: nothing fails over".into(),
            "systemctl start wa-master@1, then journalctl -u 'wa-master@*'",
        ));
    }
    // Rows that were read long ago say who was in office then, not who is now.
    if rows_are_fresh {
        master(evidence, &mut out);
        evidence.shards.iter().for_each(|s| shard(s, &mut out));
    }
    let fresh = |word: &&Word| word.age <= WORD_AGE_MAX;
    for word in evidence.words.iter().filter(fresh) {
        work(word, &mut out);
    }
    if let Some(failing) = &evidence.refused {
        let says = format!(
            "requests of clients are answered 503 for {}: {}",
            span(failing.since),
            failing.error
        );
        out.push(Problem::new(
            Kind::RequestsRefused,
            "",
            says,
            "wa-agent status",
        ));
    }
    nodes(evidence, rows_are_fresh, &mut out);
    let told = evidence.told.iter();
    out.extend(told.map(|(kind, says)| Problem::new(*kind, "", says.clone(), "")));
    out.sort_by_key(|problem| (std::cmp::Reverse(problem.kind.grade()), problem.kind));
    out
}

/// The worst grade among them.
pub fn worst(problems: &[Problem]) -> Option<Grade> {
    problems.iter().map(|problem| problem.kind.grade()).max()
}

/// One line for `STATUS=`: the worst problem, and how many there are; nothing where there is only something to remark.
pub fn remark(problems: &[Problem]) -> Option<String> {
    let mut bad = problems.iter().filter(|p| p.kind.grade() != Grade::Remark);
    let first = bad.next()?;
    let more = match bad.count() {
        0 => String::new(),
        more => format!(" (and {more} more: wa-agent status)"),
    };
    Some(format!("{}{more}", first.says))
}

fn lasting(failing: Option<&Failing>) -> Option<&Failing> {
    failing.filter(|failing| failing.since >= FAILS_FOR_MIN)
}

/// Says whether what was read of the rows is about now.
fn database(evidence: &Evidence, out: &mut Vec<Problem>) -> bool {
    let Some(database) = &evidence.database else {
        return true;
    };
    let fresh = database
        .read_age
        .is_some_and(|age| age <= database.fresh_for);
    if !fresh {
        let since = database.read_age.map_or_else(
            || "has never answered".into(),
            |age| format!("has not answered for {}", span(age)),
        );
        let why = database
            .read_error
            .as_deref()
            .unwrap_or("no answer in time");
        let says = format!(
            "the database {since} ({why}): no lease is renewed, requests are refused, and who is in office is not known"
        );
        out.push(Problem::new(
            Kind::DatabaseSilent,
            "",
            says,
            "start it, then wa-agent doctor",
        ));
    }
    if let Some(failing) = lasting(database.writes.as_ref()) {
        let says = format!(
            "the database has taken no writes for {} ({}): no lease is renewed, and requests are refused",
            span(failing.since),
            failing.error
        );
        let remedy = "look for a full disk, a backup that holds a lock, or read_only on its server; then wa-agent doctor";
        out.push(Problem::new(Kind::DatabaseTakesNoWrites, "", says, remedy));
    }
    fresh
}

fn master(evidence: &Evidence, out: &mut Vec<Problem>) {
    let Some(lease) = evidence.master.as_ref().filter(|lease| !lease.own) else {
        return;
    };
    match (&lease.holder, lease.unchanged) {
        (None, _) => out.push(Problem::new(
            Kind::NoMaster,
            "",
            "no primary master: nothing fails over".into(),
            "systemctl start wa-master@1",
        )),
        (Some(holder), Some(age)) if age > lease.over_after => {
            let says = format!(
                "no master holds a live lease: {holder} held it last and has not renewed it for {}. Nothing fails over",
                span(age)
            );
            let remedy = format!("wa-agent doctor, then journalctl -u {}", unit_of(holder));
            out.push(Problem::new(Kind::NoMaster, holder, says, remedy));
        }
        (Some(_), _) => {}
    }
}

fn shard(s: &Shard, out: &mut Vec<Problem>) {
    let about = format!("shard {}", s.shard);
    let owner = s.owner.as_deref().unwrap_or("nobody");
    if !s.active {
        let why = s.why.as_deref().unwrap_or("it is being moved");
        let says = format!("{about} has no active owner ({why}): its requests wait or are refused");
        out.push(Problem::new(
            Kind::ShardWithoutOwner,
            &about,
            says,
            format!("wa-agent explain --shard {}", s.shard),
        ));
        return;
    }
    if let Some(age) = s.unchanged.filter(|age| *age > s.over_after) {
        let says = format!(
            "{owner} has not renewed its lease of {about} for {}, and may not act: requests are refused until it does or another takes over",
            span(age)
        );
        let remedy = format!("wa-agent explain --shard {}, then wa-agent doctor", s.shard);
        out.push(Problem::new(Kind::OwnerLapsed, &about, says, remedy));
    }
    if let Some(age) = s.mute_for.filter(|age| *age > MUTE_AFTER) {
        let says = format!(
            "{owner} renews its lease of {about}, and has not answered calls on its API port for {}: requests are refused",
            span(age)
        );
        let remedy = format!(
            "journalctl -u {}, then wa-agent doctor there",
            unit_of(owner)
        );
        out.push(Problem::new(Kind::OwnerMute, &about, says, remedy));
    }
}

fn work(word: &Word, out: &mut Vec<Problem>) {
    let (node, unit) = (&word.node, unit_of(&word.node));
    if let Some(failing) = lasting(word.intake.as_ref()) {
        let says = format!(
            "{node} takes no messages for shard {} for {}: {}",
            word.shard,
            span(failing.since),
            failing.error
        );
        out.push(Problem::new(
            Kind::IntakeRefuses,
            node,
            says,
            format!("wa-agent doctor, then journalctl -u {unit}"),
        ));
    }
    sending(word, out);
    let whole = word.held.is_some_and(|(why, _)| !why.partly());
    if let Some(failing) = word.upstream.as_ref().filter(|_| !whole) {
        let says = format!(
            "the upstream refuses {node} for {}: {}. Messages wait",
            span(failing.since),
            failing.error
        );
        let remedy = format!(
            "check [upstream] and its token; after a new token type: systemctl reload {unit}"
        );
        out.push(Problem::new(Kind::UpstreamRefuses, node, says, remedy));
    }
    let waits = &word.callbacks;
    let longest = match waits.error {
        Some(_) => CALLBACKS_WAIT_MAX,
        None => CALLBACKS_QUEUE_MAX,
    };
    if waits.count > 0 && waits.oldest > longest {
        let why = waits
            .error
            .as_deref()
            .unwrap_or("they are not delivered yet");
        let says = format!(
            "{} callbacks of {node} wait, the oldest for {}: {why}. They are tried again",
            waits.count,
            span(waits.oldest)
        );
        let remedy = Alarm::CallbacksFail.remedy();
        out.push(Problem::new(Kind::CallbacksWait, node, says, remedy));
    }
    if waits.parked > 0 {
        let says = format!(
            "the business refused {} callbacks of shard {} for longer than [webhooks] park_after. They are parked: kept, and not \
             tried any more",
            waits.parked, word.shard
        );
        let remedy = Alarm::CallbacksParked.remedy();
        out.push(Problem::new(Kind::CallbacksParked, node, says, remedy));
    }
}

/// What keeps messages from being sent.
fn sending(word: &Word, out: &mut Vec<Problem>) {
    let node = &word.node;
    if let Some((why, since)) = word.held {
        let which = match why.partly() {
            true => "Messages of that kind",
            false => "Messages",
        };
        let says = format!(
            "{} ({node}, for {}). {which} are kept and go on by themselves",
            why.says(),
            span(since)
        );
        out.push(Problem::new(
            Kind::MessagesHeld,
            node,
            says,
            why.remedy(&unit_of(node)),
        ));
    }
    if word.for_person > 0 {
        let says = format!(
            "{} messages of {node} were sent with an outcome that nobody learned, as often as allowed, and wait for a person",
            word.for_person
        );
        let remedy = format!(
            "raise [upstream] ambiguity_sends_max to send them again, or write ambiguity_sends_then = \"report\"; then type: \
             systemctl restart {}",
            unit_of(node)
        );
        out.push(Problem::new(Kind::FateUnknown, node, says, remedy));
    }
}

fn nodes(evidence: &Evidence, rows_are_fresh: bool, out: &mut Vec<Problem>) {
    let Some(nodes) = &evidence.nodes else { return };
    for node in nodes.iter().filter(|node| !node.answers) {
        let says = format!("{} does not answer heartbeats", node.node);
        let remedy = format!(
            "look at journalctl -u {}; if it is gone for good: wa-agent forget {}",
            unit_of(&node.node),
            node.node
        );
        out.push(Problem::new(Kind::NodeSilent, &node.node, says, remedy));
    }
    for (node, twice) in nodes.iter().filter_map(|n| Some((n, n.twice.as_ref()?))) {
        let says = format!(
            "{} runs twice ({twice}), as a copy of a machine beside its original does: neither is given a shard, and who has one \
             keeps it",
            node.node
        );
        let remedy = "stop the one that is too many: systemctl stop 'wa-*' on its machine; before it starts again that machine \
                      needs a hostname of its own and an empty /var/lib/wa-agent";
        out.push(Problem::new(Kind::NodeTwice, &node.node, says, remedy));
    }
    let without = evidence.shards.iter().filter(|s| s.active && !s.standby);
    let unfit: Vec<String> = without.clone().flat_map(|s| s.unfit.clone()).collect();
    if rows_are_fresh && without.count() > 0 {
        let mut why = String::new();
        for (at, sentence) in unfit.iter().enumerate() {
            // Each names its node: one sentence a node is enough.
            if !unfit[..at].contains(sentence) {
                why.push_str("; ");
                why.push_str(sentence);
            }
        }
        let says = format!("no standby coreapp: the next failure has nobody to take over{why}");
        let remedy = match unfit.is_empty() {
            true => Alarm::NoStandby.remedy(),
            false => "",
        };
        out.push(Problem::new(Kind::NoStandby, "", says, remedy));
    }
    let masters = nodes.iter().filter(|n| n.role == Role::Master && n.answers);
    if masters.count() < 2 {
        out.push(Problem::new(
            Kind::OneMaster,
            "",
            "only one master answers: start another on another machine".into(),
            "",
        ));
    }
}

#[cfg(test)]
#[path = "judgement_tests.rs"]
mod tests;
