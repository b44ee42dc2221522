//! The master lease: taking it, renewing it, giving it back; and what an operator or the clock makes due.
//! Judges no owner: `failover.rs` does.

use super::{Action, Holding, Master, Outcome};
use crate::guard::{self, Guard};
use crate::id::{Grant, Nonce};
use crate::plausible;
use crate::reason::Reason;
use crate::time::Instant;

impl Master {
    /// Ends a lease that has run out. Runs before anything else: nothing is decided under a dead lease.
    pub(super) fn expire(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if let Holding::Primary { deadline, .. } = self.holding
            && now >= deadline
            && guard::on(Guard::MasterLeaseEnds)
        {
            self.step_down(now, Reason::LeaseExpired, actions);
        }
        self.expire_kept(now, actions);
    }

    pub(super) fn step_down(&mut self, now: Instant, reason: Reason, actions: &mut Vec<Action>) {
        self.holding = Holding::Watching;
        self.stale_since = Some(now);
        for work in self.work.values_mut() {
            work.attempt = None;
            work.moving = None;
        }
        self.inserting = None;
        actions.push(Action::Decide {
            shard: None,
            what: "secondary",
            node: Some(self.config.node.clone()),
            reason,
        });
    }

    /// Gives the lease back so that another master can take it at once.
    fn give_back(&mut self, now: Instant, reason: Reason, actions: &mut Vec<Action>) {
        if let Holding::Primary { term, grant, .. } = self.holding {
            actions.push(Action::GiveBack { term, grant });
            self.step_down(now, reason, actions);
        }
    }

    pub(super) fn lease_done(
        &mut self,
        now: Instant,
        nonce: Nonce,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) {
        match &mut self.holding {
            Holding::Taking {
                term,
                grant,
                nonce: sent_nonce,
                sent,
                reason,
            } if *sent_nonce == nonce => {
                let (term, grant, sent, reason) = (*term, *grant, counted(*sent, now), *reason);
                let deadline = sent + self.config.tolerance.hold(self.config.ttl);
                self.read_soon(now);
                // Unknown may have been granted: the read that follows shows it, and it lapses by itself.
                self.holding = Holding::Watching;
                let held = outcome == Outcome::Held
                    || outcome == Outcome::Unknown && !guard::on(Guard::TakeHeldOnly);
                if held && now < deadline {
                    let renew_at = sent + self.config.ttl / 3;
                    self.holding = Holding::Primary {
                        term,
                        grant,
                        deadline,
                        renew_at,
                        in_flight: None,
                    };
                    self.stale_since = Some(now);
                    self.blind_since = None;
                    let node = Some(self.config.node.clone());
                    actions.push(Action::Decide {
                        shard: None,
                        what: "primary",
                        node,
                        reason,
                    });
                }
            }
            Holding::Primary {
                deadline,
                renew_at,
                in_flight,
                ..
            } if in_flight.is_some_and(|(n, _)| n == nonce) => {
                let sent = in_flight.take().map_or(now, |(_, sent)| counted(sent, now));
                match outcome {
                    Outcome::Held => {
                        *deadline =
                            (sent + self.config.tolerance.hold(self.config.ttl)).max(*deadline);
                        *renew_at = sent + self.config.ttl / 3;
                    }
                    Outcome::Unknown => *renew_at = now + self.config.ttl / 16,
                    Outcome::Lost => {
                        self.read_soon(now);
                        self.step_down(now, Reason::LeaseLost, actions);
                    }
                }
            }
            Holding::Watching | Holding::Taking { .. } | Holding::Primary { .. } => {}
        }
    }

    /// What is due now, in the state that the event left behind.
    pub(super) fn act(&mut self, now: Instant, actions: &mut Vec<Action>) {
        self.doubt_self(now, actions);
        if self.stopping {
            self.give_back(now, Reason::Stopping, actions);
            if !matches!(self.holding, Holding::Taking { .. }) {
                actions.push(Action::Exit);
            }
            return;
        }
        self.compete(now, actions);
        if self.primary(now).is_some() {
            self.renew(now, actions);
            if self.stale_since.is_none() {
                self.fail_over(now, actions);
            }
        }
        // Also after a read that never came back: a deadline on every wait.
        let lost_read = self
            .reading
            .front()
            .is_some_and(|since| now >= *since + self.config.ttl);
        if lost_read {
            self.reading.pop_front();
        }
        // One read at a time; a second one when something happened that the first one, asked before, may not show.
        let enough = self
            .reading
            .back()
            .is_some_and(|asked| self.must_show().is_none_or(|since| *asked >= since));
        if !enough && now >= self.read_at && self.reading.len() < 2 {
            self.reading.push_back(now);
            self.read_at = now + self.read_every();
            actions.push(Action::Read);
        }
    }

    /// A primary that abstains, or hears fewer nodes than a secondary, gives the lease back and stays out for 2·ttl.
    fn doubt_self(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if self.primary(now).is_none() {
            self.blind_since = None;
            return;
        }
        let unhealthy = self.detector.intervals.unhealthy;
        let Some(most) = self
            .opinions
            .live(now, unhealthy)
            .map(|(_, voice)| voice.heard)
            .max()
        else {
            // Nobody could do better.
            self.blind_since = None;
            return;
        };
        // A node that another master has found a moment earlier is no blindness: only one that is silent here counts.
        let blind = most > self.coreapps_heard()
            && self.some_coreapp_silent()
            && guard::on(Guard::BlindGivesBack);
        if blind {
            self.blind_since.get_or_insert(now);
        } else {
            self.blind_since = None;
        }
        let reason = if self.detector.impaired() && guard::on(Guard::ImpairedGivesBack) {
            Reason::ObserverImpaired
        } else if self
            .blind_since
            .is_some_and(|since| now.since(since) >= unhealthy)
        {
            Reason::ObserverBlind
        } else {
            return;
        };
        if guard::on(Guard::DoubterStaysOut) {
            self.not_before = Some(now + self.config.ttl * 2);
        }
        self.give_back(now, reason, actions);
    }

    fn compete(&mut self, now: Instant, actions: &mut Vec<Action>) {
        if !matches!(self.holding, Holding::Watching)
            || self.stale_since.is_some()
            || self.not_before.is_some_and(|at| now < at)
        {
            return;
        }
        let Some(map) = &self.map else { return };
        let row = map.master.clone();
        let mark = (row.term.0, row.grant, row.nonce);
        let free = row.holder.is_none();
        let reason = if free {
            Reason::LeaseFree
        } else {
            Reason::LeaseLapsed
        };
        if !free
            && (self.safe_left(now).is_some() || !self.watch.lapsed(&mark, &self.config.tolerance))
            && guard::on(Guard::MasterLapseFirst)
        {
            return;
        }
        let heard = if guard::on(Guard::TermAboveAll) {
            self.term_heard
        } else {
            row.term
        };
        let Some(term) = plausible::term_before(heard, row.term).next() else {
            return;
        };
        // A rewound row may name it again: not by this master.
        self.term_heard = term;
        let (grant, nonce) = (Grant(self.random()), Nonce(self.random()));
        self.holding = Holding::Taking {
            term,
            grant,
            nonce,
            sent: now,
            reason,
        };
        let expect = (row.term, row.grant, row.nonce);
        // Until the next read the map shows the old holder: do not try again on it.
        self.stale_since = Some(now);
        actions.push(Action::Take {
            expect,
            term,
            grant,
            nonce,
            ttl: self.config.ttl,
        });
    }

    fn renew(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let nonce = Nonce(self.random());
        if let Holding::Primary {
            term,
            grant,
            renew_at,
            in_flight,
            ..
        } = &mut self.holding
            && in_flight.is_none()
            && now >= *renew_at
        {
            *in_flight = Some((nonce, now));
            actions.push(Action::Renew {
                term: *term,
                grant: *grant,
                nonce,
                ttl: self.config.ttl,
            });
        }
    }
}

/// From when on a lease counts that was asked for at `sent` and answered now (rule 5.2).
fn counted(sent: Instant, now: Instant) -> Instant {
    if guard::on(Guard::MasterTtlFromSend) {
        sent
    } else {
        now
    }
}
