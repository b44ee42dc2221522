//! The control calls between nodes and from operator verbs to masters: types only.
//! A webapp asks for a broadcast, `wa-agent status` and `wa-agent switchover` ask everything else.

use serde::{Deserialize, Serialize};
use wa_core::alarm::Alarm;
use wa_core::judgement::Kind;

use super::alarm::AlarmStatus;
use super::judged::Judged;

/// Where the control calls of a master live.
pub mod path {
    /// GET with `challenge`, no credential: [`super::NonceAnswer`]. Every call that changes something needs one (`net/deed.rs`).
    pub const NONCE: &str = "/control/nonce";
    /// GET: [`super::ClusterStatus`], answered by every master.
    pub const STATUS: &str = "/control/status";
    /// POST [`super::SwitchoverRequest`]: primary master only.
    pub const SWITCHOVER: &str = "/control/switchover";
    /// POST, no body: the settings row changed, tell every node. Primary master only.
    pub const SETTINGS_CHANGED: &str = "/control/settings-changed";
    /// POST [`super::ShardsRequest`]: primary master only.
    pub const SHARDS: &str = "/control/shards";
    /// POST [`super::RegistrationRequest`]: primary master only.
    pub const REGISTRATION: &str = "/control/registration";
    /// POST [`super::OperatorRequest`]: primary master only.
    pub const OPERATE: &str = "/control/operate";
    /// GET: a list of [`super::Explanation`], one for each shard.
    pub const EXPLAIN: &str = "/control/explain";
    /// GET: [`super::KeysStatus`] of every master; POST [`super::KeysStep`]: primary master only.
    pub const KEYS: &str = "/control/keys";
    /// GET: database statistics. Primary master only.
    pub const STATS_DB: &str = "/control/stats/db";
    /// GET: the same as figures under documented names and our own (`metrics::figure::Page`).
    pub const FIGURES_DB: &str = "/control/figures/db";
    /// GET: what this master measures, in the same form.
    pub const FIGURES: &str = "/control/figures";
}

/// What the next deed is bound to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NonceAnswer {
    /// Who answers, and its incarnation as it is printed.
    pub node: String,
    pub start: String,
    /// Good for one call, for a few seconds.
    pub nonce: String,
    /// Shows that who answers knows the cluster key: a MAC over the challenge and the above. For callers of the release before.
    pub proof: String,
    /// The same, and that who answers takes sealed deeds only.
    #[serde(default)]
    pub sealed: Option<String>,
}

/// What a master knows of the cluster, as `wa-agent status --json` prints it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ClusterStatus {
    /// Who answered.
    pub node: String,
    /// Version of the answering binary.
    pub version: String,
    /// The answering master holds the lease.
    pub primary: bool,
    /// The incarnation of who answered, as it is printed.
    #[serde(default)]
    pub start: String,
    /// Holder of the master lease, while it lives as far as whoever answers can see.
    pub primary_master: Option<String>,
    pub term: u64,
    /// Time left on this master's own lease, in milliseconds; `None` when it is not primary.
    pub lease_margin_ms: Option<u64>,
    /// The store connection is new or the server changed: no promotion step until this many milliseconds passed.
    pub safe_ms: Option<u64>,
    /// What the store said last, when it did not answer well.
    pub database_error: Option<String>,
    /// Whether the kernel gate is required.
    pub fence: String,
    /// Which acts this master does for consoles; `None`: it is of a release that does not say so.
    #[serde(default)]
    pub console_acts: Option<String>,
    pub heartbeat_interval_ms: u64,
    pub unhealthy_interval_ms: u64,
    pub settings_version: u64,
    /// The intervals in force and the configured ones, with what each means for a takeover.
    #[serde(default)]
    pub timers: Option<TimersStatus>,
    /// By how much the timers of a master were late lately, at worst.
    #[serde(default)]
    pub late_ms: u64,
    pub shards: Vec<ShardStatus>,
    pub nodes: Vec<NodeStatus>,
    /// What is wrong and what to do, one sentence each; empty when all is well.
    pub problems: Vec<String>,
    /// The same, by kind.
    #[serde(default)]
    pub judged: Vec<Judged>,
    /// Figures that are beyond their limits, those to be looked at now first. Some are problems as well.
    #[serde(default)]
    pub alarms: Vec<AlarmStatus>,
    /// Switchovers that wait for their time.
    #[serde(default)]
    pub planned: Vec<StoredSwitchover>,
    /// The newest decisions, newest last.
    pub decisions: Vec<DecisionStatus>,
}

impl ClusterStatus {
    /// Something is wrong, not only worth a remark.
    pub fn wrong(&self) -> bool {
        self.judged.iter().any(Judged::wrong)
    }

    /// Alarms that no problem tells already.
    pub fn other_alarms(&self) -> impl Iterator<Item = &AlarmStatus> {
        let kinds = self.judged.iter().filter_map(|judged| {
            let mut all = Kind::ALL.iter();
            all.find(|kind| kind.as_str() == judged.kind)
        });
        let told: Vec<Alarm> = kinds.filter_map(|kind| Alarm::of(*kind)).collect();
        let other = move |alarm: &&AlarmStatus| {
            Alarm::named(&alarm.name).is_none_or(|alarm| !told.contains(&alarm))
        };
        self.alarms.iter().filter(other)
    }
}

/// Which intervals are in force, and what a takeover from a lost machine takes at worst. All in milliseconds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TimersStatus {
    /// They were set over the API, and differ from what is configured.
    pub by_api: bool,
    pub takeover_ms: u64,
    pub configured_heartbeat_interval_ms: u64,
    pub configured_unhealthy_interval_ms: u64,
    pub configured_takeover_ms: u64,
}

/// One shard as the map says it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardStatus {
    pub shard: u16,
    pub generation: u32,
    pub phase: String,
    pub owner: Option<String>,
    pub epoch: u64,
    /// Since when, by the answering master's clock, the owner's renewals have not changed, in milliseconds.
    pub renewal_age_ms: Option<u64>,
    /// Earlier owners that are not settled yet.
    pub unsettled: Vec<String>,
    /// The diagnosis of the owner.
    pub diagnosis: Option<String>,
}

/// One node as the answering master sees it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct NodeStatus {
    pub node: String,
    pub role: String,
    pub address: String,
    pub zone: String,
    pub version: String,
    /// Milliseconds since it last answered a heartbeat; `None` when it never did or is not asked.
    pub heartbeat_age_ms: Option<u64>,
    /// Round trip of the last heartbeat that it answered, in microseconds.
    #[serde(default)]
    pub reply_us: Option<u64>,
    /// Milliseconds since its last database beat, by the database's clock.
    pub db_beat_age_ms: Option<u64>,
    /// It answered in time.
    pub healthy: bool,
    /// Two starts that answer under this name, and where: a copy of the machine beside its original.
    #[serde(default)]
    pub twice: Option<String>,
    pub shard: Option<u16>,
    pub epoch: Option<u64>,
    /// What holds its packets back when it is no longer primary: `bpf` (the kernel gate), `process` (its own code only);
    /// empty for roles that have none.
    #[serde(default)]
    pub fence: String,
    /// Words for its health bits, for example `database`, `upstream`, `draining`.
    pub health: Vec<String>,
}

/// One decision with its named reason.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct DecisionStatus {
    /// Wall clock of the master that decided, seconds since 1970; for people, nothing is computed with it.
    pub at_unix_s: u64,
    pub shard: Option<u16>,
    pub what: String,
    pub reason: String,
    pub sentence: String,
}

/// Ask for a planned move of a shard.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct SwitchoverRequest {
    pub shard: u16,
    /// Node to move to; the master chooses when absent.
    pub to: Option<String>,
    /// Say what would happen, do nothing.
    #[serde(default)]
    pub dry_run: bool,
    /// Written to the decision record.
    #[serde(default)]
    pub reason: Option<String>,
    /// Who typed it where, for the record.
    #[serde(default)]
    pub by: Option<String>,
    /// Not now, but in so many milliseconds by the clock of the primary master.
    #[serde(default)]
    pub in_ms: Option<u64>,
    /// Not now, but then: milliseconds since 1970 by the wall clock of whoever is primary master then.
    #[serde(default)]
    pub at_ms: Option<u64>,
    /// Forget the one that waits.
    #[serde(default)]
    pub cancel: bool,
}

/// A switchover that waits for its time, as the settings row `planned` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredSwitchover {
    pub shard: u16,
    pub to: Option<String>,
    /// Milliseconds since 1970 by the wall clock of the primary master.
    pub at_ms: u64,
    pub reason: Option<String>,
    pub by: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SwitchoverAnswer {
    /// It was started (or, in a dry run, would be).
    pub accepted: bool,
    pub from: Option<String>,
    pub to: Option<String>,
    /// Not the primary master: ask another.
    #[serde(default)]
    pub elsewhere: bool,
    pub epoch_before: u64,
    /// What happens next, or why not, in a sentence.
    pub message: String,
}

/// Ask for another number of shards.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardsRequest {
    /// 1, 2, 4, 8, 16 or 32.
    pub shards: u16,
    /// Say what would happen, do nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShardsAnswer {
    /// It was started (or, in a dry run, would be), or it is so already.
    pub accepted: bool,
    /// The count that the map has now.
    pub before: u16,
    /// What happens next, or why not, in a sentence.
    pub message: String,
}

/// Let a registration of the number in. What it brings along goes to the owner, never here.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RegistrationRequest {
    /// Register, or ask for a code.
    Ask,
    /// Register with the code that came.
    Verify,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RegistrationAnswer {
    /// The attempt that the owner is to be told; `None`: it was not let in.
    pub attempt: Option<u64>,
    /// Not the primary master: ask another.
    #[serde(default)]
    pub elsewhere: bool,
    /// Why not, in a sentence.
    pub message: String,
}

/// What an operator may ask beside a switchover.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verb {
    /// Replace an owner without evidence against it.
    Failover { shard: u16, to: Option<String> },
    /// Make a coreapp ineligible and move its shard off; `on = false` undoes it.
    Drain { node: String, on: bool },
    /// Replace no owner on evidence for a while, of one shard or of all; without a time: do so again.
    Pause {
        shard: Option<u16>,
        for_ms: Option<u64>,
    },
    /// Take a node that is gone for good out of the tables.
    Forget { node: String },
    /// Forget the anti-flap block of a shard.
    Ack { shard: u16 },
    /// Nobody acts by what the former database server granted (rule 5.9).
    AckServer,
    /// Go on with a database that was restored from an older state.
    Adopt,
    /// Let the owners read the event of this key once more, or all that nobody could read.
    RetryEvents { key: Option<String> },
    /// End the tokens of a user of the API: all, or the one with this fingerprint.
    RevokeTokens { user: String, token: Option<String> },
}

/// One verb, with what goes to the record.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorRequest {
    pub verb: Verb,
    #[serde(default)]
    pub dry_run: bool,
    #[serde(default)]
    pub reason: Option<String>,
    /// Who typed it where, for the record.
    #[serde(default)]
    pub by: Option<String>,
}

/// What came of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct OperatorAnswer {
    /// It was done (or, in a dry run, would be).
    pub accepted: bool,
    /// Not the primary master: ask another.
    pub elsewhere: bool,
    /// What happens next, or why not, in a sentence.
    pub message: String,
}

/// A pause as the settings row `pauses` holds it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredPause {
    /// `None`: every shard.
    pub shard: Option<u16>,
    /// Milliseconds since 1970 by the database's clock.
    pub until_ms: u64,
    /// For how long it was asked for; 0 in rows of releases that did not say so.
    #[serde(default)]
    pub for_ms: u64,
}

impl StoredPause {
    /// More than was asked for can be left by so much: two clocks that run apart.
    const SLACK_MS: u64 = 10_000;
    /// The longest that can be asked for.
    pub const LONGEST_MS: u64 = 24 * 3600 * 1000;

    /// What is left of it in milliseconds; `None`: it is over. It is over as well when more is left than was asked for: the
    /// database's clock was set back, and how long it lasted cannot be told.
    pub fn left_ms(&self, now_ms: u64) -> Option<u64> {
        let longest = match self.for_ms {
            0 => Self::LONGEST_MS,
            asked => asked,
        };
        let left = self.until_ms.checked_sub(now_ms)?;
        (left > 0 && left <= longest.saturating_add(Self::SLACK_MS)).then_some(left)
    }
}

/// Where a rotation of the cluster key stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum KeysPhase {
    /// Everybody takes both keys, and signs with the old one.
    Accept,
    /// Everybody takes both, and signs with the new one.
    Send,
    /// Everybody takes the new one only.
    Drop,
}

impl KeysPhase {
    /// 1 to 3.
    pub fn number(self) -> u8 {
        match self {
            Self::Accept => 1,
            Self::Send => 2,
            Self::Drop => 3,
        }
    }

    /// The one after it; `None`: the rotation is over.
    pub fn next(self) -> Option<Self> {
        match self {
            Self::Accept => Some(Self::Send),
            Self::Send => Some(Self::Drop),
            Self::Drop => None,
        }
    }

    /// What every node does at its end.
    pub fn sentence(self) -> &'static str {
        match self {
            Self::Accept => "every node accepts both keys",
            Self::Send => "every node signs with the new key",
            Self::Drop => "no node accepts the old key",
        }
    }

    /// Its word in the history.
    pub fn word(self) -> &'static str {
        match self {
            Self::Accept => "keys-accept",
            Self::Send => "keys-send",
            Self::Drop => "keys-drop",
        }
    }
}

/// A rotation under way, by the ids of the keys: two hexadecimal digits that say nothing about them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rotation {
    pub from: String,
    pub to: String,
    pub phase: KeysPhase,
}

/// What one node says of its keys.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct NodeKeys {
    pub node: String,
    pub role: String,
    /// It beats: it is waited for.
    pub live: bool,
    pub sends: Option<String>,
    pub accepts: Vec<String>,
}

/// All of that.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysStatus {
    pub rotation: Option<Rotation>,
    pub nodes: Vec<NodeKeys>,
    /// Live nodes that have not reported the phase yet.
    pub waiting: Vec<String>,
}

/// Ask for the next phase; without one: for the end.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysStep {
    pub from: String,
    pub to: String,
    pub phase: Option<KeysPhase>,
    pub reason: Option<String>,
    pub by: Option<String>,
    #[serde(default)]
    pub dry_run: bool,
}

/// What came of it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct KeysAnswer {
    pub accepted: bool,
    /// Not the primary master: ask another.
    pub elsewhere: bool,
    pub message: String,
    pub status: KeysStatus,
}

/// What is kept with a decision in the history.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct StoredEvidence {
    /// The rule in a sentence, or what an operator was told.
    pub sentence: String,
    /// An operator's own words, whole.
    pub reason: Option<String>,
    /// Who typed it where.
    pub by: Option<String>,
    pub term: u64,
    /// What was known at that moment, one fact a line.
    pub evidence: Vec<String>,
    pub obstacles: Vec<String>,
    pub successor: Option<String>,
    pub worst_cases: Vec<WorstCaseMs>,
}

/// Why a shard is where it is, and what would happen next.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    pub shard: u16,
    pub phase: String,
    pub owner: Option<String>,
    pub epoch: u64,
    /// The rule that applies now, by name, and in a sentence.
    pub rule: String,
    pub outcome: String,
    /// What is known of the owner, one fact a line.
    pub evidence: Vec<String>,
    /// What keeps masters from acting, if anything.
    pub obstacles: Vec<String>,
    /// Who would take over now.
    pub successor: Option<String>,
    /// By class of failure: detection and takeover at worst, in milliseconds, with and without a host agent.
    pub worst_cases: Vec<WorstCaseMs>,
}

/// One class of failure.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorstCaseMs {
    pub class: String,
    pub host_agent: bool,
    pub detection_ms: u64,
    pub takeover_ms: u64,
}

/// Every refusal of a control call.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ControlError {
    /// The `/v1` error code that fits: 1017 when not the primary master.
    pub code: u16,
    pub message: String,
    /// The primary master's control address where known.
    pub primary: Option<String>,
    /// The call was begun, and perhaps done; else nothing was done.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub unknown: bool,
}
