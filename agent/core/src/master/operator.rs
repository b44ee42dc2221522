//! What an operator may ask of the primary master. Nothing here weakens what keeps two owners apart.
//! Moves nothing itself: `failover.rs` does, in the same steps as always.

use super::candidate::Wish;
use super::{Action, Command, Master, Moving};
use crate::id::{NodeId, ShardId};
use crate::reason::Reason;
use crate::shard_map::{Phase, ShardRow};
use crate::time::Instant;

impl Master {
    /// Carries a command out, or says why not.
    pub(super) fn command(&mut self, now: Instant, command: Command, actions: &mut Vec<Action>) {
        // Pauses are known to every master: the next primary goes on with them.
        if let Command::Pause { shard, until } = command {
            match until {
                Some(until) => self.paused.insert(shard, until),
                None => self.paused.remove(&shard),
            };
            return;
        }
        if self.primary(now).is_none() {
            return refuse(None, Reason::RefusedNotPrimary, actions);
        }
        match command {
            Command::Switchover { shard, to } => {
                if !self.plan_move(now, shard, None, to, Reason::OperatorAsked) {
                    refuse(Some(shard), Reason::RefusedUnknownShard, actions);
                }
            }
            Command::Ack { shard } => {
                if let Some(work) = self.work.get_mut(&shard) {
                    work.blocked_until = None;
                    work.flaps.clear();
                    work.blocks = 0;
                }
            }
            Command::ShardCount(count) => self.wanted_count = Some(count),
            Command::Failover { shard, to } => match self.active_epoch(shard) {
                Some(epoch) => {
                    self.work.entry(shard).or_default().forced = Some((epoch, to));
                }
                None => refuse(Some(shard), Reason::RefusedUnknownShard, actions),
            },
            Command::AckServer if self.server_changed() => {
                if let Some(term) = self.primary(now) {
                    self.knowing_at = None;
                    self.know_server(now, term, actions);
                }
            }
            Command::Adopt if self.restored() => self.adopting = true,
            Command::AckServer | Command::Adopt => {
                refuse(None, Reason::RefusedNothingWrong, actions);
            }
            Command::Pause { .. } => {}
        }
    }

    fn active_epoch(&self, shard: ShardId) -> Option<crate::id::Epoch> {
        let mut rows = self.map.iter().flat_map(|map| &map.shards);
        let row = rows.find(|row| row.shard == shard && row.phase == Phase::Active)?;
        Some(row.epoch)
    }

    /// The drain of the owner is undone before the owner was asked to hold its intake: nothing moves, now or when a standby
    /// comes.
    pub(super) fn drain_undone(&mut self, shard: ShardId) {
        let work = self.work.entry(shard).or_default();
        let unasked =
            |moving: &Moving| moving.reason == Reason::Draining && moving.asked_at.is_none();
        if work.moving.as_ref().is_some_and(unasked) {
            work.moving = None;
        }
    }

    /// Until when an operator wants no owner of this shard replaced on evidence.
    pub fn paused_until(&self, now: Instant, shard: ShardId) -> Option<Instant> {
        let of = |key| self.paused.get(&key).copied().filter(|until| now < *until);
        of(Some(shard)).max(of(None))
    }

    /// Until when anti-flap replaces no owner of this shard.
    pub fn blocked_until(&self, now: Instant, shard: ShardId) -> Option<Instant> {
        let work = self.work.get(&shard)?;
        work.blocked_until.filter(|until| now < *until)
    }

    /// Who would take the shard over if its owner died now, best first choice.
    pub fn successor(&self, now: Instant, row: &ShardRow) -> Option<NodeId> {
        self.taker(now, row, None)
    }

    /// Who takes the shard when it has to move now: `to` if it can and is asked for, else the best. The one rule: what
    /// moves a shard, what an answer promises beforehand and what `plan` and `explain` say all come from here.
    pub fn taker(&self, now: Instant, row: &ShardRow, to: Option<&NodeId>) -> Option<NodeId> {
        let wish = Wish {
            node: to,
            ..Wish::default()
        };
        self.choose(now, row, &wish).map(|(node, _)| node)
    }

    /// The coreapps that can hold a shard now, whether they hold one or not: so many shards there can be.
    pub fn able(&self, now: Instant) -> Vec<NodeId> {
        let rows = self.map.iter().flat_map(|map| &map.shards);
        let Some(row) = rows.min_by_key(|row| row.shard) else {
            return Vec::new();
        };
        let all = self.all_candidates(now, row).into_iter();
        let able = all.filter(|c| c.against.iter().all(|reason| *reason == Reason::NodeBusy));
        able.map(|c| c.node).collect()
    }

    /// An operator asked for the replacement of this very owner: done, or given up with a word. True when there was a wish.
    pub(super) fn forced(
        &mut self,
        now: Instant,
        row: &ShardRow,
        hold: Option<Reason>,
        actions: &mut Vec<Action>,
    ) -> bool {
        let work = self.work.entry(row.shard).or_default();
        let Some((epoch, to)) = work.forced.clone() else {
            return false;
        };
        if epoch != row.epoch {
            work.forced = None;
            return false;
        }
        if let Some(reason) = hold {
            self.note(row, "blocked", reason, actions);
            return true;
        }
        let wish = Wish {
            node: to.as_ref(),
            ..Wish::default()
        };
        if self.choose(now, row, &wish).is_none() {
            self.work.entry(row.shard).or_default().forced = None;
            let reason = match to {
                Some(_) => Reason::RefusedNotEligible,
                None => self.nobody(now, row, &wish),
            };
            refuse(Some(row.shard), reason, actions);
            return true;
        }
        self.hand_over(now, row, Reason::OperatorForced, &wish, actions);
        true
    }
}

fn refuse(shard: Option<ShardId>, reason: Reason, actions: &mut Vec<Action>) {
    actions.push(Action::Decide {
        shard,
        what: "refused",
        node: None,
        reason,
    });
}
