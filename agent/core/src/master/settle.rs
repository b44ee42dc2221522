//! Steps 3 and 4 of a promotion: wait until every earlier owner is over, then let the new one act.
//! Names nobody: `failover.rs` does. What counts as over by evidence: `evidence.rs`.

use super::failover::{END_GRACE, FENCE_EVERY};
use super::{Action, Master};
use crate::guard::{self, Guard};
use crate::id::{Grant, Nonce, Ownership, Term, splitmix};
use crate::plausible;
use crate::reason::Reason;
use crate::shard_map::{Previous, ShardRow};
use crate::time::Instant;

impl Master {
    /// Steps 3 and 4: wait for every earlier owner, then activate.
    pub(super) fn settle_and_activate(
        &mut self,
        now: Instant,
        row: &ShardRow,
        hold: Option<Reason>,
        actions: &mut Vec<Action>,
    ) {
        let Some((term, term_grant)) = self.primary(now) else {
            return;
        };
        let open: Vec<Previous> = row
            .previous
            .iter()
            .filter(|p| self.over_at(p).is_none_or(|at| now < at))
            .cloned()
            .collect();
        let some = !guard::on(Guard::PreviousAllSettled) && open.len() < row.previous.len();
        if open.is_empty() || some {
            if hold.is_none() {
                self.activate(row, (term, term_grant), actions);
            }
            return;
        }
        let work = self.work.entry(row.shard).or_default();
        if work.fenced_at.is_some_and(|at| now < at + FENCE_EVERY) {
            return;
        }
        let seen = work.handover_seen.filter(|(epoch, _)| *epoch == row.epoch);
        let since = seen.map_or(now, |(_, since)| since);
        work.handover_seen = Some((row.epoch, since));
        work.fenced_at = Some(now);
        let highest = self.epoch_high().0;
        let unsettled = open
            .iter()
            .filter(|p| !self.settled.contains_key(&(p.epoch, p.grant)))
            .filter(|p| plausible::heard(highest, p.epoch.0));
        for previous in unsettled {
            let may_still_end = self.may_still_end(previous) && guard::on(Guard::TimeToEnd);
            if now < since + END_GRACE && may_still_end {
                continue;
            }
            let nonce = Nonce(splitmix(&mut self.random));
            let ownership = Ownership {
                shard: previous.shard,
                epoch: previous.epoch,
                grant: previous.grant,
                owner: previous.owner.clone(),
                incarnation: previous.incarnation,
            };
            actions.push(Action::Fence {
                term,
                ownership,
                nonce,
            });
        }
    }

    fn activate(
        &mut self,
        row: &ShardRow,
        (term, term_grant): (Term, Grant),
        actions: &mut Vec<Action>,
    ) {
        let attempt = self.next_attempt();
        self.work.entry(row.shard).or_default().attempt = Some(attempt);
        let (shard, node) = (Some(row.shard), row.owner.clone());
        actions.push(Action::Decide {
            shard,
            what: "activate",
            node,
            reason: Reason::AllSettled,
        });
        let (shard, epoch, grant) = (row.shard, row.epoch, row.grant);
        actions.push(Action::Activate {
            attempt,
            term,
            term_grant,
            shard,
            epoch,
            grant,
        });
    }

    /// It answers and makes progress: it can read its replacement and end by itself. A fence would kill it.
    fn may_still_end(&self, previous: &Previous) -> bool {
        let name = (previous.owner.clone(), previous.incarnation);
        let dead = self.obituaries.contains_key(&name);
        let peer = self.detector.peers.get(&previous.owner);
        let peer = peer.filter(|peer| !peer.replaced(previous.incarnation));
        let start = peer.and_then(|peer| peer.start(previous.incarnation));
        !dead && start.is_some_and(|start| start.fresh(&self.detector.intervals).is_some())
    }

    /// When an entry of `previous` is over: by a settlement, or by rule 5.3.
    pub(super) fn over_at(&self, previous: &Previous) -> Option<Instant> {
        let settled = self
            .settled
            .get(&(previous.epoch, previous.grant))
            .map(|settled| settled.from);
        let mark = (previous.epoch.0, previous.grant, previous.nonce);
        let lapse = self.watch.lapses_at(&mark, &self.config.tolerance);
        let ashes = self
            .ashes
            .get(&(previous.owner.clone(), previous.incarnation))
            .copied();
        [settled, ashes, lapse].into_iter().flatten().min()
    }
}
