//! What the rows say to a coreapp: that it has a grant, that it was replaced, that they may lack something (SAFE).
//! Renews nothing: `tenure.rs` does, once a grant is obeyed.

use super::{Action, State, Tenure};
use crate::guard::{self, Guard};
use crate::id::{Epoch, Ownership};
use crate::reason::Reason;
use crate::shard_map::{Phase, ShardRow};
use crate::time::Instant;

impl Tenure {
    pub(super) fn begin_safe(&mut self, now: Instant) {
        let wait = self.config.drift.lengthen(self.config.ttl) + self.config.margin;
        self.safe_until = Some(now + wait);
        if let State::Renewing { first, .. } = &mut self.state {
            *first = None;
        }
    }

    /// When a tenure may begin: now, or after SAFE.
    pub(super) fn safe(&self, now: Instant) -> Option<Instant> {
        self.safe_until.filter(|until| now < *until)
    }

    pub(super) fn rows(
        &mut self,
        now: Instant,
        begun: Instant,
        rows: &[ShardRow],
        actions: &mut Vec<Action>,
    ) {
        self.reading = false;
        self.read_at = now + self.config.ttl / 3;
        let newest = rows.iter().map(|row| row.epoch).max().unwrap_or_default();
        let mine = rows.iter().find_map(|row| self.grant_in(row));
        let before = self.compare(now, begun, newest, mine.is_some());
        match (&self.state, mine) {
            (
                State::Live { own, .. } | State::Obeying { own, .. } | State::Renewing { own, .. },
                mine,
            ) if mine.as_ref() != Some(own) && guard::on(Guard::ReplacedCloses) => {
                let own = own.clone();
                // A row that has gone back to before this grant is a rewind, not a replacement; both end it here.
                self.close(own, Reason::LeaseLost, actions);
            }
            (State::Standby, Some(own))
                if (own.epoch > self.sealed || !guard::on(Guard::SealedNeverObeyed))
                    && (own.epoch >= self.obeyed || !guard::on(Guard::SealedNeverObeyed))
                    && self.stop_by.is_none() =>
            {
                actions.push(Action::StoreHighWater(own.epoch));
                self.state = if guard::on(Guard::StoredBeforeObeyed) {
                    State::Obeying { own, since: before }
                } else {
                    State::Renewing {
                        own,
                        since: before,
                        first: None,
                    }
                };
            }
            // Named again under an epoch that is over here: only a new grant helps, so give the row back at once. If that
            // was not written the last time, not at the speed of the database.
            (State::Standby, Some(own)) if own.epoch <= self.sealed || self.stop_by.is_some() => {
                self.sealed = self.sealed.max(own.epoch);
                let lately = self.released.filter(|(epoch, _)| *epoch == own.epoch);
                match lately.filter(|(_, again)| now < *again) {
                    Some((_, again)) => self.read_at = self.read_at.min(again),
                    None => self.release(now, own, actions),
                }
            }
            (State::Standby, None) => self.released = None,
            // An epoch below one that was obeyed, which the next grant is above; or the grant that it has.
            (State::Standby, Some(_))
            | (State::Live { .. } | State::Obeying { .. } | State::Renewing { .. }, _)
            | (State::Closing { .. } | State::Releasing { .. }, _) => {}
        }
        self.read_again(now, begun, actions);
        if matches!(self.state, State::Standby) {
            self.say_ended(rows, actions);
        }
    }

    /// What came before these rows says whether they may lack something: then SAFE. Returns when the rows before them were asked
    /// for.
    fn compare(
        &mut self,
        now: Instant,
        begun: Instant,
        newest: Epoch,
        granted: bool,
    ) -> Option<Instant> {
        if newest < self.epoch_read && guard::on(Guard::TenureSafeOnRewind) {
            // The database lost commits: somebody may live by one of them.
            self.begin_safe(now);
        }
        self.epoch_read = newest;
        self.take_memory(newest);
        let before = self.rows_asked.replace(begun);
        let known_for = self.config.drift.shorten(self.config.ttl);
        let gap = before.is_none_or(|asked| now >= asked + known_for);
        if gap && granted && guard::on(Guard::TenureSafeAfterGap) {
            // Nothing was read for as long as it takes to replace a grant: this may be one that was replaced, in rows that
            // have lost the replacement, and there is nothing to compare them with.
            self.begin_safe(now);
        }
        before
    }

    /// The rows still name the grant whose first renewal waits for that. Rows from before it do not count: they are asked for
    /// once more.
    fn read_again(&mut self, now: Instant, begun: Instant, actions: &mut Vec<Action>) {
        let State::Renewing {
            own,
            first: Some(waits),
            ..
        } = &self.state
        else {
            return;
        };
        if begun < waits.at {
            self.read_at = now;
        } else if now < waits.deadline {
            let (own, waits) = (own.clone(), *waits);
            self.renew_at = waits.sent + self.config.ttl / 3;
            self.begin(own, waits.deadline, actions);
        } else {
            self.renew_at = now;
        }
    }

    pub(super) fn release(&mut self, now: Instant, own: Ownership, actions: &mut Vec<Action>) {
        self.released = Some((own.epoch, now + self.config.ttl / 8));
        actions.push(Action::Release(own.clone()));
        self.state = State::Releasing { own };
    }

    /// This node's own active grant in the row.
    fn grant_in(&self, row: &ShardRow) -> Option<Ownership> {
        let owner = row.owner.as_ref()?;
        ((row.phase == Phase::Active || !guard::on(Guard::ActivePhaseOnly))
            && *owner == self.config.node
            && (row.incarnation == self.config.incarnation || !guard::on(Guard::OwnStartOnly)))
        .then(|| Ownership {
            shard: row.shard,
            epoch: row.epoch,
            grant: row.grant,
            owner: owner.clone(),
            incarnation: row.incarnation,
        })
    }
}
