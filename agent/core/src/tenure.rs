//! A coreapp's side of a tenure: obeys a grant, renews it, acts while it lives, ends it once and for all.
//! No IO: the driver in `coreapp/driver.rs` carries out the actions and feeds the outcomes back as events.
//!
//! ```text
//!   Standby ──row names me──▶ Obeying ──stored──▶ Renewing ──held──▶ Live ──replaced/lapsed/lost/stop──▶ Closing ──▶ Standby
//! ```
//! A tenure that has lapsed, been released or been replaced never lives again: its epoch is at or below `sealed`.

mod ending;
mod memory;
mod rows;

use crate::disk::Disk;
use crate::guard::{self, Guard};
use crate::id::{Epoch, Incarnation, NodeId, Nonce, Ownership};
use crate::reason::Reason;
use crate::shard_map::ShardRow;
use crate::time::{Drift, Duration, Instant};

/// What a tenure needs to know beforehand.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Config {
    pub node: NodeId,
    pub incarnation: Incarnation,
    /// Length of the lease; renewed each third of it.
    pub ttl: Duration,
    pub drift: Drift,
    /// Device queues and timer granularity.
    pub margin: Duration,
    /// A quiesced intake goes on by itself after this long.
    pub quiesce_max: Duration,
    /// After SIGTERM, how long to wait for a successor before the shard is released.
    pub stop_max: Duration,
    /// Seed for nonces; fresh at each start.
    pub seed: u64,
}

/// What happened.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Event {
    /// The deadline was reached, or simply time passed.
    Tick,
    /// A read of the whole shard map, and when it was begun: what it says is not older than that.
    Rows { begun: Instant, rows: Vec<ShardRow> },
    /// The server is another one, or the lease connection is new: comes before the first answer from there (rule 5.5).
    ServerChanged,
    /// The read failed, or its answer did not come in time.
    ReadFailed,
    /// Somebody says that the shard map changed.
    Nudged,
    /// The high-water file was written and synced (or not).
    HighWater { epoch: Epoch, stored: bool },
    /// What came of [`Action::TryDisk`].
    DiskTried { stored: bool },
    /// What came of the renewal with this nonce.
    Renewed { nonce: Nonce, outcome: Renewal },
    /// The primary master asks to hold the intake (or to go on).
    Quiesce { epoch: Epoch, on: bool },
    /// Work under this epoch has stopped: senders joined, sockets aborted.
    WorkStopped { epoch: Epoch },
    /// SIGTERM.
    Stop,
    /// The release was carried out or gave up.
    ReleaseDone,
    /// The gate's seal stands at this epoch. A database that lost commits may give out a sealed epoch once more: its
    /// owner would renew for ever behind a shut gate.
    Sealed { epoch: Epoch },
    /// The epoch file was read again, because what it said cannot be true.
    Remembered { epoch: Epoch },
    /// A master named the highest epoch that it knows of.
    Told { epoch: Epoch },
}

/// Outcome of a conditional write of the lease row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Renewal {
    Held,
    /// The row is somebody else's.
    Lost,
    /// Counts as not held, yet maybe granted.
    Unknown,
}

/// What to do.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub enum Action {
    /// Read the shard map.
    Read,
    /// Write the highest epoch obeyed to disk, synced, off the heartbeat thread.
    StoreHighWater(Epoch),
    /// Write the same file anew, never with less than it holds: can it still be written?
    TryDisk(Epoch),
    Renew {
        ownership: Ownership,
        nonce: Nonce,
        ttl: Duration,
    },
    /// Open the gate until the deadline, then start to work.
    Open {
        ownership: Ownership,
        deadline: Instant,
    },
    /// Move the gate's deadline.
    Extend { epoch: Epoch, deadline: Instant },
    /// Shut the gate for this epoch for ever, abort the upstream's sockets, join the senders, say `WorkStopped`.
    Close {
        ownership: Ownership,
        reason: Reason,
    },
    /// Hold the intake and start nothing new, or go on.
    Hold { epoch: Epoch, on: bool },
    /// Tell every master that this ownership has ended.
    SayEnded(Ownership),
    /// Ask every master for a handover.
    Ask(Ownership),
    /// Give the row back: it is shut already.
    Release(Ownership),
    /// Nothing is held any more: the process may exit.
    Exit,
}

#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum State {
    Standby,
    Obeying {
        own: Ownership,
        since: Option<Instant>,
    },
    Renewing {
        own: Ownership,
        /// The grant is not older than this: the rows that were asked for then did not have it. `None`: nobody knows.
        since: Option<Instant>,
        first: Option<First>,
    },
    Live {
        own: Ownership,
        deadline: Instant,
    },
    Closing {
        own: Ownership,
        reason: Reason,
    },
    Releasing {
        own: Ownership,
    },
}

/// A first renewal that was held, of a grant so old that it may have been replaced meanwhile, and its replacement lost: the
/// gate stays shut until rows that were asked for after it name the grant as well.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct First {
    /// When it was known to be held.
    at: Instant,
    sent: Instant,
    deadline: Instant,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
struct InFlight {
    nonce: Nonce,
    sent: Instant,
}

/// One coreapp's tenure.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Tenure {
    config: Config,
    state: State,
    /// Highest epoch ever obeyed, as on disk; what the rows showed at the start counts as if it had been.
    obeyed: Epoch,
    /// The highest epoch that masters named in their pings.
    told: Epoch,
    /// Every epoch up to this one is over here for good.
    sealed: Epoch,
    /// The highest seal that the gate spoke of.
    gate_seal: Epoch,
    in_flight: Option<InFlight>,
    renew_at: Instant,
    read_at: Instant,
    reading: bool,
    quiesced_until: Option<Instant>,
    stop_by: Option<Instant>,
    asked_at: Option<Instant>,
    /// No tenure begins before this (rule 5.5): another server may not know of a grant that still lives.
    safe_until: Option<Instant>,
    /// Highest epoch ever read in a row.
    epoch_read: Epoch,
    /// When the rows were asked for that came last.
    rows_asked: Option<Instant>,
    disk: Disk,
    nonce_state: u64,
    /// The epoch that was given back last, and when it may be given back again: a row that cannot be written names it for
    /// as long.
    released: Option<(Epoch, Instant)>,
}

impl Tenure {
    /// A standby. `obeyed` is what the disk says; every epoch up to it is over.
    pub fn new(now: Instant, config: Config, obeyed: Epoch) -> Self {
        let nonce_state = config.seed;
        Self {
            config,
            state: State::Standby,
            obeyed,
            told: Epoch(0),
            sealed: obeyed,
            gate_seal: Epoch(0),
            in_flight: None,
            renew_at: now,
            read_at: now,
            reading: false,
            quiesced_until: None,
            stop_by: None,
            asked_at: None,
            safe_until: None,
            epoch_read: Epoch(0),
            rows_asked: None,
            disk: Disk::new(now),
            nonce_state,
            released: None,
        }
    }

    /// The ownership that may act at `now`, if any.
    pub fn live(&self, now: Instant) -> Option<&Ownership> {
        match &self.state {
            State::Live { own, deadline } => (now < *deadline).then_some(own),
            State::Standby
            | State::Obeying { .. }
            | State::Renewing { .. }
            | State::Closing { .. }
            | State::Releasing { .. } => None,
        }
    }

    /// Time left at `now`, if it is live.
    pub fn margin(&self, now: Instant) -> Option<Duration> {
        match &self.state {
            State::Live { deadline, .. } => (now < *deadline).then(|| deadline.since(now)),
            State::Standby
            | State::Obeying { .. }
            | State::Renewing { .. }
            | State::Closing { .. }
            | State::Releasing { .. } => None,
        }
    }

    /// Highest epoch ever obeyed.
    pub fn obeyed(&self) -> Epoch {
        self.obeyed
    }

    /// The highest epoch that this node knows of: obeyed, or named by a master. It tells every master, so that none of them
    /// gives out a number again that another has given out.
    pub fn known(&self) -> Epoch {
        self.obeyed.max(self.told)
    }

    /// The disk takes the highest epoch obeyed.
    pub fn disk_takes(&self, now: Instant) -> bool {
        self.disk.takes(now)
    }

    /// The intake is held for a handover.
    pub fn quiesced(&self) -> bool {
        self.quiesced_until.is_some()
    }

    /// SIGTERM came.
    pub fn stopping(&self) -> bool {
        self.stop_by.is_some()
    }

    /// When to call `step` with [`Event::Tick`] at the latest.
    pub fn deadline(&self) -> Instant {
        let mut at = if self.reading {
            self.read_at + self.config.ttl
        } else {
            self.read_at
        };
        match &self.state {
            State::Live { deadline, .. } => {
                at = at.min(*deadline);
                if self.in_flight.is_none() {
                    at = at.min(self.renew_at);
                }
            }
            State::Renewing { .. } => {
                if self.in_flight.is_none() {
                    at = at.min(self.renew_at);
                }
            }
            State::Standby
            | State::Obeying { .. }
            | State::Closing { .. }
            | State::Releasing { .. } => {}
        }
        if !self.implausible() {
            at = self.disk.deadline().into_iter().fold(at, Instant::min);
        }
        if let Some(until) = self.quiesced_until {
            at = at.min(until);
        }
        if let (Some(by), State::Live { .. } | State::Renewing { .. }) = (self.stop_by, &self.state)
        {
            at = at
                .min(by)
                .min(self.asked_at.map_or(by, |asked| asked + self.ask_every()));
        }
        at
    }

    /// Takes in one event and appends what is to be done.
    pub fn step(&mut self, now: Instant, event: Event, actions: &mut Vec<Action>) {
        self.expire(now, actions);
        match event {
            Event::Tick => {}
            Event::Rows { begun, rows } => self.rows(now, begun, &rows, actions),
            Event::ServerChanged if !guard::on(Guard::TenureSafeOnNewServer) => {}
            Event::ServerChanged => self.begin_safe(now),
            Event::ReadFailed => {
                self.reading = false;
                self.read_at = now + self.config.ttl / 8;
            }
            Event::Nudged => {
                self.read_at = now;
                self.reading = false;
            }
            Event::HighWater { epoch, stored } => self.high_water(now, epoch, stored),
            Event::DiskTried { stored } => self.disk.tried(now, stored),
            Event::Renewed { nonce, outcome } => self.renewed(now, nonce, outcome, actions),
            Event::Quiesce { epoch, on } => self.quiesce(now, epoch, on, actions),
            Event::WorkStopped { epoch } => self.work_stopped(now, epoch, actions),
            Event::Stop => {
                self.stop_by.get_or_insert(now + self.config.stop_max);
            }
            Event::Sealed { epoch } => self.gate_sealed(epoch, actions),
            Event::Remembered { epoch } => self.remembered(epoch),
            Event::Told { epoch } => self.told(epoch),
            Event::ReleaseDone => {
                if matches!(self.state, State::Releasing { .. }) {
                    self.state = State::Standby;
                    self.read_at = now;
                }
            }
        }
        self.act(now, actions);
    }

    /// Ends what time has ended. Runs before anything else: no event can revive a lapsed tenure.
    fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let State::Live { own, deadline } = &self.state
            && now >= *deadline
            && guard::on(Guard::ExpiredNeverLives)
        {
            let own = own.clone();
            self.close(own, Reason::LeaseExpired, actions);
        }
        if let Some(until) = self.quiesced_until
            && now >= until
            && guard::on(Guard::HoldEndsByItself)
        {
            self.unhold(actions);
        }
    }

    fn close(&mut self, own: Ownership, reason: Reason, actions: &mut Vec<Action>) {
        self.sealed = self.sealed.max(own.epoch);
        self.in_flight = None;
        self.quiesced_until = None;
        actions.push(Action::Close {
            ownership: own.clone(),
            reason,
        });
        if !guard::on(Guard::EndedAfterWorkStopped) {
            actions.insert(actions.len() - 1, Action::SayEnded(own.clone()));
        }
        if !guard::on(Guard::ReleasedAfterShut) {
            actions.insert(actions.len() - 1, Action::Release(own.clone()));
        }
        self.state = State::Closing { own, reason };
    }

    fn current(&self) -> Option<&Ownership> {
        match &self.state {
            State::Standby => None,
            State::Obeying { own, .. }
            | State::Renewing { own, .. }
            | State::Live { own, .. }
            | State::Closing { own, .. }
            | State::Releasing { own } => Some(own),
        }
    }

    fn high_water(&mut self, now: Instant, epoch: Epoch, stored: bool) {
        self.disk.wrote(now, stored);
        if let State::Obeying { own, since } = &self.state
            && own.epoch == epoch
        {
            if stored {
                self.obeyed = self.obeyed.max(epoch);
                self.renew_at = now;
                self.state = State::Renewing {
                    own: own.clone(),
                    since: *since,
                    first: None,
                };
            } else {
                // Cannot be obeyed (disk full or read-only); the master sees NeverTookOver.
                self.sealed = self.sealed.max(epoch);
                self.state = State::Standby;
            }
        }
    }

    fn renewed(&mut self, now: Instant, nonce: Nonce, outcome: Renewal, actions: &mut Vec<Action>) {
        let own_answer = |f: &InFlight| f.nonce == nonce || !guard::on(Guard::RenewalNonceMatches);
        let Some(sent) = self.in_flight.filter(own_answer).map(|f| f.sent) else {
            return;
        };
        self.in_flight = None;
        let sent = if guard::on(Guard::TtlFromSend) {
            sent
        } else {
            now
        };
        let outcome = if outcome == Renewal::Unknown && !guard::on(Guard::RenewalHeldOnly) {
            Renewal::Held
        } else {
            outcome
        };
        let known_for = self.config.drift.shorten(self.config.ttl);
        let deadline = sent + known_for.saturating_sub(self.config.margin);
        match (outcome, &mut self.state) {
            (Renewal::Held, State::Renewing { .. })
                if self.safe_until.is_some_and(|at| now < at) =>
            {
                self.renew_at = self.safe_until.unwrap_or(now);
            }
            (Renewal::Held, State::Renewing { own, since, first }) if now < deadline => {
                let own = own.clone();
                self.renew_at = sent + self.config.ttl / 3;
                let young = since.is_some_and(|since| now < since + known_for);
                if young || !guard::on(Guard::OldGrantReadAgain) {
                    return self.begin(own, deadline, actions);
                }
                let at = first.map_or(now, |first| first.at);
                *first = Some(First { at, sent, deadline });
                self.read_at = now;
            }
            (Renewal::Held, State::Live { own, deadline: old }) => {
                self.renew_at = sent + self.config.ttl / 3;
                // Never backwards: answers may arrive in another order than the requests left.
                *old = deadline.max(*old);
                actions.push(Action::Extend {
                    epoch: own.epoch,
                    deadline: *old,
                });
            }
            (Renewal::Held | Renewal::Unknown, State::Renewing { .. } | State::Live { .. }) => {
                self.renew_at = now + self.config.ttl / 16;
            }
            (Renewal::Lost, State::Renewing { own, .. } | State::Live { own, .. }) => {
                let own = own.clone();
                self.close(own, Reason::LeaseLost, actions);
                self.read_at = now;
            }
            // Nothing is renewed any more, or not yet.
            (
                Renewal::Held | Renewal::Lost | Renewal::Unknown,
                State::Standby
                | State::Obeying { .. }
                | State::Closing { .. }
                | State::Releasing { .. },
            ) => {}
        }
    }

    fn begin(&mut self, own: Ownership, deadline: Instant, actions: &mut Vec<Action>) {
        actions.push(Action::Open {
            ownership: own.clone(),
            deadline,
        });
        self.state = State::Live { own, deadline };
    }

    /// Nothing up to this epoch can live here again, so masters hear of it as if it had been obeyed.
    fn gate_sealed(&mut self, epoch: Epoch, actions: &mut Vec<Action>) {
        self.gate_seal = self.gate_seal.max(epoch);
        self.sealed = self.sealed.max(epoch);
        self.obeyed = self.obeyed.max(epoch);
        if let State::Live { own, .. } | State::Renewing { own, .. } | State::Obeying { own, .. } =
            &self.state
            && own.epoch <= epoch
        {
            let own = own.clone();
            self.close(own, Reason::SealedByGate, actions);
        }
    }

    fn ask_every(&self) -> Duration {
        (self.config.ttl / 8).max(Duration::from_millis(25))
    }

    /// What is due at `now` in the state that the event left behind.
    fn act(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Some(by) = self.stop_by {
            match &self.state {
                State::Standby | State::Obeying { .. } => actions.push(Action::Exit),
                State::Live { own, .. } | State::Renewing { own, .. } => {
                    let own = own.clone();
                    if now >= by {
                        self.close(own, Reason::Stopping, actions);
                    } else if self
                        .asked_at
                        .is_none_or(|asked| now >= asked + self.ask_every())
                    {
                        self.asked_at = Some(now);
                        actions.push(Action::Ask(own));
                    }
                }
                State::Closing { .. } | State::Releasing { .. } => {}
            }
        }
        if let (State::Renewing { .. }, Some(until)) = (&self.state, self.safe(now)) {
            self.renew_at = self.renew_at.max(until);
        }
        if let (State::Live { own, .. } | State::Renewing { own, .. }, None) =
            (&self.state, self.in_flight)
            && now >= self.renew_at
        {
            let ownership = own.clone();
            let nonce = self.fresh_nonce();
            self.in_flight = Some(InFlight { nonce, sent: now });
            actions.push(Action::Renew {
                ownership,
                nonce,
                ttl: self.config.ttl,
            });
        }
        // A file that holds what cannot be true waits for a person, who must not be overwritten.
        if !self.implausible() && self.disk.due(now) {
            actions.push(Action::TryDisk(self.obeyed));
        }
        let give_up = self.reading && now >= self.read_at + self.config.ttl;
        if (now >= self.read_at && !self.reading) || give_up {
            self.reading = true;
            self.read_at = now;
            actions.push(Action::Read);
        }
    }

    fn fresh_nonce(&mut self) -> Nonce {
        Nonce(crate::id::splitmix(&mut self.nonce_state))
    }

    /// The ownership that it obeys, renews, holds or is closing, for `status`.
    pub fn ownership(&self) -> Option<&Ownership> {
        self.current()
    }
}
