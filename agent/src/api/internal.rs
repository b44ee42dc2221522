//! What nodes tell each other over HTTP, whoever owns a shard: types only. Calls to an owner: `owner.rs`.
//! Nothing here is public; the credential is derived from the cluster key.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use wa_core::alarm::{Alarm, Figures};
use wa_core::hold::Why;
use wa_core::judgement::{Callbacks, Failing, Word};

use super::cloud::checkup::Number;

/// Paths of the calls on a coreapp's API port.
pub mod path {
    /// POST, no body: new events wait in the inbox.
    pub const EVENTS: &str = "/internal/events";
    /// GET → [`super::HealthAnswer`].
    pub const HEALTH: &str = "/internal/health";
    /// GET: what the node measures, under documented names and our own (`metrics::figure::Page`).
    pub const FIGURES: &str = "/internal/figures";
    /// GET → [`super::AccountAnswer`]: what the upstream says of the number and the account.
    pub const ACCOUNT: &str = "/internal/account";
}

/// What is said where an owner's number is not registered.
pub const UNREGISTERED: &str = "the number is not registered at WhatsApp, and nothing can be sent: type POST /v1/account, then POST \
     /v1/account/verify with the code (README, Register the number)";
/// The word of an owner's `gateway_status` for that.
pub const STATUS_UNREGISTERED: &str = "unregistered";

/// A coreapp's word on itself. It counts only for the name and the start that it carries: whoever was asked may have left,
/// and another node may have its address.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HealthAnswer {
    #[serde(default)]
    pub node: String,
    /// Its incarnation, as it is printed.
    #[serde(default)]
    pub start: String,
    /// `connected`, `connecting`, `unregistered` or `disconnected`.
    pub gateway_status: String,
    pub shard: Option<u16>,
    pub epoch: u64,
    /// How its work goes, while it owns a shard.
    #[serde(default)]
    pub work: Option<WorkWord>,
}

impl HealthAnswer {
    /// It is the word of this node, and of this start of it.
    pub fn of(&self, node: &str, start: &str) -> bool {
        self.node == node && self.start == start
    }
}

/// What an owner heard of the upstream about the number and the account. It counts as [`HealthAnswer`] does.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct AccountAnswer {
    pub node: String,
    pub start: String,
    /// `None`: the node owns no shard, or the upstream has not answered yet.
    pub heard: Option<AccountWord>,
}

/// What the upstream said; `Err`: why it is not known, in a sentence for people. No secret is in it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct AccountWord {
    /// When it was asked, in milliseconds since 1970 by the clock of the node.
    pub asked_ms: u64,
    /// The version of the Cloud API, and when it ends, in seconds since 1970; 0: no end is known.
    pub version: String,
    pub version_end_s: i64,
    pub number: Result<Number, String>,
    /// In the upstream's word, such as `TIER_2K`.
    pub limit: Result<String, String>,
    pub token: Result<TokenWord, String>,
    pub subscription: Result<SubscriptionWord, String>,
}

/// How the access token stands.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct TokenWord {
    pub is_valid: bool,
    /// Permissions that it lacks.
    pub missing: Vec<String>,
    /// In seconds since 1970; 0: it does not end.
    pub expires_s: i64,
}

/// Which apps get the account's events.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct SubscriptionWord {
    pub apps: Vec<String>,
    /// Ours is among them; `None`: [upstream] app_id is not set.
    pub ours: Option<bool>,
}

/// Something that fails: for how long, and in whose words.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct FailingMs {
    pub since_ms: u64,
    pub error: String,
}

impl From<Failing> for FailingMs {
    fn from(failing: Failing) -> Self {
        Self {
            since_ms: u64::try_from(failing.since.as_millis()).unwrap_or(u64::MAX),
            error: failing.error,
        }
    }
}

impl From<FailingMs> for Failing {
    fn from(failing: FailingMs) -> Self {
        Self {
            since: Duration::from_millis(failing.since_ms),
            error: failing.error,
        }
    }
}

/// How the work of an owner goes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WorkWord {
    /// Messages are not taken.
    pub intake: Option<FailingMs>,
    /// The upstream refuses, or does not answer.
    pub upstream: Option<FailingMs>,
    /// Callbacks that the business has not taken, how long the oldest has waited under this owner, and what came of the last.
    pub callbacks: u64,
    /// Callbacks that were refused for too long, and are not tried any more.
    #[serde(default)]
    pub callbacks_parked: u64,
    pub oldest_callback_ms: u64,
    pub callback_error: Option<String>,
    /// Messages are held: the word for why, and for how long.
    #[serde(default)]
    pub held: Option<HeldMs>,
    /// Messages of unknown fate that wait for a person.
    #[serde(default)]
    pub for_person: u64,
    /// Figures that alarm, by the name of the alarm.
    #[serde(default)]
    pub figures: BTreeMap<String, i64>,
}

/// Messages that are held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HeldMs {
    pub why: String,
    pub since_ms: u64,
}

impl WorkWord {
    /// The figures of alarms that this release knows.
    pub fn figures(&self) -> Figures {
        let mut figures = Figures::default();
        for (name, value) in &self.figures {
            if let Some(alarm) = Alarm::named(name) {
                figures.put(alarm, *value);
            }
        }
        figures
    }

    /// As evidence that is so old.
    pub fn evidence(self, node: &str, shard: u16, age: Duration) -> Word {
        Word {
            node: node.into(),
            shard,
            age,
            intake: self.intake.map(Into::into),
            upstream: self.upstream.map(Into::into),
            held: self.held.and_then(|held| {
                let since = Duration::from_millis(held.since_ms);
                Some((Why::of(&held.why)?, since))
            }),
            for_person: self.for_person,
            callbacks: Callbacks {
                count: self.callbacks,
                parked: self.callbacks_parked,
                oldest: Duration::from_millis(self.oldest_callback_ms),
                error: self.callback_error,
            },
        }
    }
}
