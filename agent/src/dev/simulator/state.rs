//! What the simulator remembers, and the questions that every call asks: who may call, is a request under way, what time is it.
//! Answers no call.

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use axum::extract::ConnectInfo;
use axum::http::{HeaderMap, request};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc::{Receiver, Sender, channel};

use super::args::SimulatorArgs;
use super::ban::{Ban, RequestNumber};
use super::business::kept::Business;
use super::event::Outgoing;
use super::identity::Identities;
use super::knobs::Knobs;
use super::lag::{Lags, Spread};
use super::ledger::Ledger;
use super::record::Record;
use super::refusal::Refusal;
use super::registration::Registration;
use super::shelf::Shelf;
use super::template::catalog::Catalog;
use super::throttle::Throttle;
use super::{ids, record};
use crate::sys::clock;

/// Events that were made and not sorted by when they are due.
const QUEUE_LEN_MAX: usize = 50_000;
/// Messages that were refused once and wait to be sent again.
const ONCE_MAX: usize = 100_000;

/// What the simulator has seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Sends that were accepted.
    pub accepted: u64,
    /// Different messages of ours among them.
    pub unique: u64,
    /// Messages of ours that were accepted more than once.
    pub sent_twice: u64,
    /// Times that two primaries spoke for one shard.
    pub double_primary: u64,
    pub banned: bool,
    /// What the ban was for, one line each.
    pub offences: Vec<String>,
    /// Callbacks that the business end point took.
    pub callbacks: u64,
    /// Webhooks that were dropped because too many waited.
    pub webhooks_dropped: u64,
    /// Webhook events that a knob lost.
    #[serde(default)]
    pub webhooks_lost: u64,
    /// Accepted sends to something that is no number: nobody gets them.
    #[serde(default)]
    pub never_delivered: u64,
    /// Sends that were refused, by code.
    #[serde(default)]
    pub refused: BTreeMap<u32, u64>,
    /// From a send until a webapp had stored its receipt, ms.
    pub receipt_lag: Spread,
}

/// What was seen since the last reset.
#[derive(Default)]
pub struct Seen {
    /// Our message id → how often accepted.
    pub ids: BTreeMap<String, u32>,
    pub accepted: u64,
    pub never_delivered: u64,
    pub refused: BTreeMap<u32, u64>,
    pub ban: Ban,
    pub throttle: Throttle,
    /// Messages that were refused and will be accepted the next time.
    once: BTreeSet<String>,
}

impl Seen {
    /// This message comes for the first time.
    pub fn first(&mut self, id: &str) -> bool {
        if self.once.len() >= ONCE_MAX {
            self.once.pop_first();
        }
        self.once.insert(id.to_owned())
    }

    /// Forgets all sends and the ban.
    pub fn reset(&mut self) {
        *self = Self {
            throttle: std::mem::take(&mut self.throttle),
            ..Self::default()
        };
    }
}

/// The simulated Cloud API.
pub struct Simulator {
    pub args: SimulatorArgs,
    pub knobs: Mutex<Knobs>,
    pub seen: Mutex<Seen>,
    pub callbacks: AtomicU64,
    pub media: Mutex<Shelf>,
    pub templates: Mutex<Catalog>,
    pub identities: Mutex<Identities>,
    pub registration: Mutex<Registration>,
    pub business: Mutex<Business>,
    /// The last callback that carried an inbound message.
    pub last_inbound: Mutex<Value>,
    /// Our message ids of which the business was told a status.
    pub told: Mutex<BTreeSet<String>>,
    /// Of the first of them: the words, in order.
    pub statuses: Mutex<BTreeMap<String, Vec<String>>>,
    pub webhooks_dropped: AtomicU64,
    pub webhooks_lost: AtomicU64,
    pub lags: Mutex<Lags>,
    pub ledger: Ledger,
    pub record: Option<Record>,
    numbers: AtomicU64,
    pub outgoing: Sender<Outgoing>,
}

/// What a lock guards, whoever panicked while holding it.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Simulator {
    /// The simulator, and the webhooks that it makes.
    pub fn new(args: SimulatorArgs) -> (Arc<Self>, Receiver<Outgoing>) {
        let (outgoing, queue) = channel(QUEUE_LEN_MAX);
        let simulator = Arc::new(Self {
            knobs: Mutex::new(Knobs::from(&args.knobs)),
            seen: Mutex::default(),
            callbacks: AtomicU64::new(0),
            media: Mutex::default(),
            templates: Mutex::new(Catalog::builtin()),
            identities: Mutex::default(),
            registration: Mutex::default(),
            business: Mutex::default(),
            last_inbound: Mutex::default(),
            told: Mutex::default(),
            statuses: Mutex::default(),
            webhooks_dropped: AtomicU64::new(0),
            webhooks_lost: AtomicU64::new(0),
            lags: Mutex::default(),
            ledger: Ledger::default(),
            record: args.request_log.as_deref().map(record::Record::start),
            numbers: AtomicU64::new(crate::sys::state::random_u64() >> 16),
            outgoing,
            args,
        });
        (simulator, queue)
    }

    /// A number that was not given before.
    pub fn number(&self) -> u64 {
        self.numbers.fetch_add(1, Ordering::Relaxed)
    }

    /// An id for a message.
    pub fn message_id(&self) -> String {
        ids::make(self.now_s(), self.number())
    }

    /// Seconds since 1970, as the simulator's clock says.
    pub fn now_s(&self) -> u64 {
        clock::wall_ms() / 1000 + lock(&self.knobs).clock_ahead_s
    }

    /// Whoever calls shows the token.
    ///
    /// # Errors
    /// 190.
    pub fn authorize(&self, headers: &HeaderMap) -> Result<(), Refusal> {
        let shown = headers.get("authorization");
        let shown = shown.and_then(|value| value.to_str().ok()?.strip_prefix("Bearer "));
        self.authorize_token(shown.unwrap_or_default())
    }

    /// The token itself.
    ///
    /// # Errors
    /// 190.
    pub fn authorize_token(&self, shown: &str) -> Result<(), Refusal> {
        let knobs = lock(&self.knobs);
        let token = [&knobs.token, &self.args.token][usize::from(knobs.token.is_empty())];
        match !shown.is_empty() && shown == token {
            true => Ok(()),
            false => Err(Refusal::token()),
        }
    }

    /// The call is for the business's number.
    ///
    /// # Errors
    /// 190, or 100 for another number.
    pub fn own_number(&self, headers: &HeaderMap, phone: &str) -> Result<(), Refusal> {
        self.authorize(headers)?;
        match phone == self.args.phone_number_id {
            true => Ok(()),
            false => Err(Refusal::nothing(phone)),
        }
    }

    /// How webhooks call the number.
    pub fn metadata(&self) -> Value {
        json!({"display_phone_number": self.args.display_phone_number, "phone_number_id": self.args.phone_number_id})
    }

    /// What was seen.
    pub fn report(&self) -> Report {
        let seen = lock(&self.seen);
        Report {
            accepted: seen.accepted,
            unique: seen.ids.len() as u64,
            sent_twice: seen.ids.values().filter(|n| **n > 1).count() as u64,
            double_primary: seen.ban.offences().len() as u64,
            banned: seen.ban.banned(),
            offences: seen.ban.offences().to_vec(),
            callbacks: self.callbacks.load(Ordering::Relaxed),
            webhooks_dropped: self.webhooks_dropped.load(Ordering::Relaxed),
            webhooks_lost: self.webhooks_lost.load(Ordering::Relaxed),
            never_delivered: seen.never_delivered,
            refused: seen.refused.clone(),
            receipt_lag: lock(&self.lags).spread(),
        }
    }
}

/// For which shard, under which epoch, and from where a request comes.
#[derive(Debug, Clone, Copy)]
pub struct Claim {
    pub shard_epoch: Option<(u64, u64)>,
    pub peer: Option<SocketAddr>,
}

impl Claim {
    pub fn of(parts: &request::Parts) -> Self {
        let number = |name: &str| {
            let value = parts.headers.get(name)?.to_str().ok()?;
            value.parse::<u64>().ok()
        };
        Self {
            shard_epoch: number("x-wa-shard").zip(number("x-wa-epoch")),
            peer: parts
                .extensions
                .get::<ConnectInfo<SocketAddr>>()
                .map(|peer| peer.0),
        }
    }
}

/// A request that is judged, until it is answered or whoever asked is gone.
pub struct Judged<'a> {
    simulator: &'a Simulator,
    number: RequestNumber,
}

impl<'a> Judged<'a> {
    /// `None`: it claims to speak for no shard.
    pub fn begin(simulator: &'a Simulator, claim: Claim) -> Option<Self> {
        let (shard, epoch) = claim.shard_epoch?;
        let number = lock(&simulator.seen).ban.begin(shard, epoch, claim.peer);
        Some(Self { simulator, number })
    }

    pub fn received(&self) {
        lock(&self.simulator.seen).ban.received(self.number);
    }
}

impl Drop for Judged<'_> {
    fn drop(&mut self) {
        lock(&self.simulator.seen).ban.end(self.number);
    }
}
