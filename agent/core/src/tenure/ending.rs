//! How a tenure holds its intake and how it ends: what is said, and when the row is given back.
//! Decides no end: the rows, the clock and the gate do (`tenure.rs`).

use super::{Action, State, Tenure};
use crate::id::{Epoch, Ownership};
use crate::plausible;
use crate::reason::Reason;
use crate::shard_map::ShardRow;
use crate::time::Instant;

impl Tenure {
    pub(super) fn unhold(&mut self, actions: &mut Vec<Action>) {
        self.quiesced_until = None;
        if let State::Live { own, .. } = &self.state {
            actions.push(Action::Hold {
                epoch: own.epoch,
                on: false,
            });
        }
    }

    pub(super) fn quiesce(
        &mut self,
        now: Instant,
        epoch: Epoch,
        on: bool,
        actions: &mut Vec<Action>,
    ) {
        if !matches!(&self.state, State::Live { own, .. } if own.epoch == epoch) {
            return;
        }
        if on && self.quiesced_until.is_none() {
            self.quiesced_until = Some(now + self.config.quiesce_max);
            actions.push(Action::Hold { epoch, on: true });
        } else if !on && self.quiesced_until.is_some() {
            self.unhold(actions);
        }
    }

    /// Masters wait for every entry of `previous`: say again what is over here, as long as a row lists it.
    pub(super) fn say_ended(&mut self, rows: &[ShardRow], actions: &mut Vec<Action>) {
        for previous in rows.iter().flat_map(|row| &row.previous) {
            // An epoch that cannot be true would end every one that comes.
            let plausible = plausible::heard(self.epoch_read.0, previous.epoch.0);
            if previous.owner == self.config.node
                && previous.incarnation == self.config.incarnation
                && plausible
            {
                self.sealed = self.sealed.max(previous.epoch);
                actions.push(Action::SayEnded(Ownership {
                    shard: previous.shard,
                    epoch: previous.epoch,
                    grant: previous.grant,
                    owner: previous.owner.clone(),
                    incarnation: previous.incarnation,
                }));
            }
        }
    }

    pub(super) fn work_stopped(&mut self, now: Instant, epoch: Epoch, actions: &mut Vec<Action>) {
        let State::Closing { own, reason } = &self.state else {
            return;
        };
        if own.epoch != epoch {
            return;
        }
        let (own, reason) = (own.clone(), *reason);
        actions.push(Action::SayEnded(own.clone()));
        self.read_at = now;
        if matches!(
            reason,
            Reason::LeaseExpired | Reason::Stopping | Reason::SealedByGate
        ) {
            // The row still names this grant: shut already, so it can be given back.
            self.release(now, own, actions);
        } else {
            self.state = State::Standby;
        }
    }
}
