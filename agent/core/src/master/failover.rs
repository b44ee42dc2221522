//! Moving shards: the verdict on each owner, the choice of a successor, and the steps of a promotion.
//! Holds no lease: `primary.rs` makes sure that a live one stands behind every step here.

use super::candidate::Wish;
use super::verdict::{Verdict, healthier_than};
use super::{Action, Attempt, Handover, Master, Moving, Outcome, Regroup, Work};
use crate::guard::{self, Guard};
use crate::id::{Epoch, Grant, NodeId, Nonce, Ownership, ShardId};
use crate::plausible;
use crate::reason::Reason;
use crate::shard_map::{Phase, Previous, ShardRow};
use crate::time::{Duration, Instant};
use crate::wire::{Health, Nudge};

/// How long a node that never took over stays excluded once its database bit is good again.
pub(super) const EXCLUDED_FOR: Duration = Duration::from_secs(30);
/// Longest anti-flap block (design 6).
const BLOCK_MAX: Duration = Duration::from_secs(600);
/// Fence requests for one handover are repeated this often at most.
pub(super) const FENCE_EVERY: Duration = Duration::from_millis(50);
/// How long a former owner that answers gets to end by itself before a fence is asked for.
pub(super) const END_GRACE: Duration = Duration::from_millis(150);

impl Master {
    pub(super) fn quiesced(&mut self, from: &NodeId, shard: ShardId, epoch: Epoch) {
        let owner = self
            .row(shard)
            .is_some_and(|row| row.owner.as_ref() == Some(from) && row.epoch == epoch);
        if let Some(moving) = self
            .work
            .get_mut(&shard)
            .and_then(|work| work.moving.as_mut())
            && owner
            && moving.epoch == epoch
        {
            moving.quiesced = true;
        }
    }

    fn row(&self, shard: ShardId) -> Option<&ShardRow> {
        self.map
            .as_ref()?
            .shards
            .iter()
            .find(|row| row.shard == shard)
    }

    /// Plans a move of an active shard. False when there is none to move.
    pub(super) fn plan_move(
        &mut self,
        now: Instant,
        shard: ShardId,
        asked_by: Option<(&NodeId, Epoch)>,
        to: Option<NodeId>,
        reason: Reason,
    ) -> bool {
        let Some(row) = self.row(shard) else {
            return false;
        };
        let by_owner = asked_by
            .is_none_or(|(node, epoch)| row.owner.as_ref() == Some(node) && row.epoch == epoch);
        if row.phase != Phase::Active || !by_owner {
            return false;
        }
        let epoch = row.epoch;
        let work = self.work.entry(shard).or_default();
        if work
            .moving
            .as_ref()
            .is_none_or(|moving| moving.epoch != epoch)
        {
            work.moving = Some(Moving {
                to,
                reason,
                epoch,
                since: now,
                asked_at: None,
                quiesced: false,
            });
        }
        true
    }

    /// Everything that is due on every shard. The lease is live and the map is fresh.
    pub(super) fn fail_over(&mut self, now: Instant, actions: &mut Vec<Action>) {
        let Some((term, term_grant)) = self.primary(now) else {
            return;
        };
        let held = self.held_by_server(now, (term, term_grant), actions);
        if self.adopting {
            self.adopt(now, (term, term_grant), actions);
        }
        let Some(map) = &self.map else { return };
        if map.shards.is_empty() {
            if self.inserting.is_none() && held.is_none() {
                let attempt = self.next_attempt();
                self.inserting = Some(attempt);
                actions.push(Action::InsertShards {
                    attempt,
                    term,
                    term_grant,
                    count: self.config.shard_count,
                });
            }
            return;
        }
        if held.is_none() {
            self.change_shard_count(actions, (term, term_grant));
        }
        let rows = self
            .map
            .as_ref()
            .map(|map| map.shards.clone())
            .unwrap_or_default();
        let count = self.map.as_ref().map_or(0, |map| map.master.shard_count);
        let safe = self.safe_left(now).is_some();
        let during = |guard| (safe && guard::on(guard)).then_some(Reason::Safe).or(held);
        let (hold_2, hold_4) = (during(Guard::SafeHoldsStep2), during(Guard::SafeHoldsStep4));
        // Rows are never deleted: those beyond the count stay free for ever.
        for row in rows.iter().filter(|row| row.shard.0 < count) {
            if self
                .work
                .get(&row.shard)
                .is_some_and(|work| work.attempt.is_some())
            {
                continue;
            }
            match row.phase {
                Phase::Handover if !self.owner_failed(row) => {
                    self.settle_and_activate(now, row, hold_4, actions)
                }
                Phase::Handover => self.replace(
                    now,
                    row,
                    (Reason::DeadCoreapp, false, true),
                    hold_2,
                    actions,
                ),
                Phase::Free => {
                    self.replace(now, row, (free_reason(row), false, true), hold_2, actions)
                }
                Phase::Active => self.judge(now, row, hold_2, actions),
            }
        }
    }

    fn judge(
        &mut self,
        now: Instant,
        row: &ShardRow,
        hold: Option<Reason>,
        actions: &mut Vec<Action>,
    ) {
        if self.forced(now, row, hold, actions) {
            return;
        }
        let paused = self.paused_until(now, row.shard).is_some();
        match self.verdict(now, row) {
            Verdict::Healthy => {
                let drained = self
                    .map
                    .iter()
                    .flat_map(|m| &m.nodes)
                    .any(|n| n.draining && Some(&n.node) == row.owner.as_ref());
                let says_so = row.owner.as_ref().is_some_and(|owner| {
                    let peer = self.detector.peers.get(owner);
                    peer.is_some_and(|peer| peer.has(Health::DRAINING))
                });
                if drained || says_so {
                    self.plan_move(now, row.shard, None, None, Reason::Draining);
                }
                if !drained && !says_so {
                    self.drain_undone(row.shard);
                }
                let work = self.work.entry(row.shard).or_default();
                if work.moving.is_none() {
                    work.last_verdict = None;
                }
                self.go_on_moving(now, row, hold, actions);
            }
            Verdict::Watch(reason) => self.note(row, "watch", reason, actions),
            Verdict::Replace { .. } if paused => {
                self.note(row, "blocked", Reason::Paused, actions);
            }
            Verdict::Replace {
                reason,
                limited,
                same_node,
            } => {
                let work = self.work.entry(row.shard).or_default();
                if reason == Reason::NeverTookOver
                    && work.excluded_for != Some(row.epoch)
                    && let Some(owner) = &row.owner
                {
                    work.excluded_for = Some(row.epoch);
                    if guard::on(Guard::ExcludedForAWhile) {
                        let until = now + EXCLUDED_FOR;
                        self.excluded
                            .insert(owner.clone(), (row.incarnation, until));
                    }
                }
                self.replace(now, row, (reason, limited, same_node), hold, actions);
            }
        }
    }

    /// Says a reason once, when it changes.
    pub(super) fn note(
        &mut self,
        row: &ShardRow,
        what: &'static str,
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        let work = self.work.entry(row.shard).or_default();
        if work.last_verdict != Some(reason) {
            work.last_verdict = Some(reason);
            actions.push(Action::Decide {
                shard: Some(row.shard),
                what,
                node: row.owner.clone(),
                reason,
            });
        }
    }

    /// A planned move: quiesce the owner, bounded, then hand over.
    fn go_on_moving(
        &mut self,
        now: Instant,
        row: &ShardRow,
        hold: Option<Reason>,
        actions: &mut Vec<Action>,
    ) {
        let Some(moving) = self
            .work
            .get(&row.shard)
            .and_then(|work| work.moving.clone())
        else {
            return;
        };
        if moving.epoch != row.epoch {
            self.work.entry(row.shard).or_default().moving = None;
            return;
        }
        let wish = Wish {
            node: moving.to.as_ref(),
            ..Wish::default()
        };
        if self.choose(now, row, &wish).is_none() {
            let reason = if moving.to.is_some() {
                Reason::RefusedNotEligible
            } else {
                self.nobody(now, row, &wish)
            };
            self.note(row, "blocked", reason, actions);
            if moving.reason == Reason::OperatorAsked {
                self.work.entry(row.shard).or_default().moving = None;
            }
            return;
        }
        if let Some(reason) = hold {
            self.note(row, "blocked", reason, actions);
            return;
        }
        let timed_out =
            now.since(moving.since) >= self.config.quiesce_max && moving.asked_at.is_some();
        if moving.quiesced || timed_out {
            if timed_out && !moving.quiesced {
                self.note(row, "handover", Reason::QuiesceTimedOut, actions);
            }
            self.hand_over(now, row, moving.reason, &wish, actions);
            return;
        }
        if moving
            .asked_at
            .is_none_or(|asked| now >= asked + FENCE_EVERY)
            && let Some(ownership) = ownership_of(row)
        {
            if let Some(moving) = self.work.entry(row.shard).or_default().moving.as_mut() {
                if moving.asked_at.is_none() {
                    moving.since = now;
                }
                moving.asked_at = Some(now);
            }
            actions.push(Action::Quiesce {
                ownership,
                on: true,
            });
        }
    }

    /// Replaces the owner, if SAFE, anti-flap and the standbys allow it.
    fn replace(
        &mut self,
        now: Instant,
        row: &ShardRow,
        (reason, limited, same_node): (Reason, bool, bool),
        hold: Option<Reason>,
        actions: &mut Vec<Action>,
    ) {
        let wish = Wish {
            node: None,
            same_node,
            healthier: healthier_than(reason),
        };
        if let Some(held) = hold {
            self.note(row, "blocked", held, actions);
            if held == Reason::ServerChanged {
                self.fence_held(now, row, reason, actions);
            }
        } else if self.choose(now, row, &wish).is_none() {
            let reason = self.nobody(now, row, &wish);
            self.note(row, "blocked", reason, actions);
        } else if (limited || !guard::on(Guard::DeathIsNotLimited))
            && guard::on(Guard::AntiFlap)
            && self.flap_blocked(now, row.shard)
        {
            self.note(row, "blocked", Reason::AntiFlap, actions);
        } else {
            self.hand_over(now, row, reason, &wish, actions);
        }
    }

    /// Counts one limited failover; true when there were too many (the block grows, and ends by itself).
    fn flap_blocked(&mut self, now: Instant, shard: ShardId) -> bool {
        let (max, window) = (self.config.flap_max, self.config.flap_window);
        let work = self.work.entry(shard).or_default();
        if let Some(until) = work.blocked_until {
            if now < until {
                return true;
            }
            work.blocked_until = None;
        }
        work.flaps.retain(|at| now.since(*at) < window);
        if work.flaps.len() >= max as usize {
            let block = Duration::from_secs(60)
                .saturating_mul(1 << work.blocks.min(4))
                .min(BLOCK_MAX);
            work.blocks += 1;
            work.flaps.clear();
            work.blocked_until = Some(now + block);
            return true;
        }
        // Counted when the transaction comes back: one that lost its race moved nothing.
        work.flapping = true;
        false
    }

    /// Step 2: name the successor, append the owner to `previous`.
    pub(super) fn hand_over(
        &mut self,
        now: Instant,
        row: &ShardRow,
        reason: Reason,
        wish: &Wish<'_>,
        actions: &mut Vec<Action>,
    ) {
        let Some((term, term_grant)) = self.primary(now) else {
            return;
        };
        let Some((to, to_incarnation)) = self.choose(now, row, wish) else {
            return;
        };
        let next = self.epoch_high().next();
        let Some(epoch) = next.filter(|next| plausible::heard(next.0, next.0)) else {
            return self.note(row, "blocked", Reason::RowImplausible, actions);
        };
        if row.phase == Phase::Active && fence_first(reason) {
            self.fence_owner(term, row, actions);
        }
        let mut previous = row.previous.clone();
        if !guard::on(Guard::PreviousIsAppended) {
            previous.clear();
        }
        previous.extend(previous_of(row));
        for entry in &mut previous {
            if !guard::on(Guard::PreviousKeepsTtl) {
                entry.ttl = self.config.ttl;
            }
        }
        let handover = Handover {
            shard: row.shard,
            expect: (row.epoch, row.grant, row.nonce, row.phase),
            to: to.clone(),
            to_incarnation,
            epoch,
            grant: self.fresh_grant(),
            ttl: self.config.ttl,
            nonce: Nonce(self.random()),
            previous,
            generation: row.generation,
        };
        self.epoch_heard = self.epoch_heard.max(handover.epoch);
        let attempt = self.next_attempt();
        let work = self.work.entry(row.shard).or_default();
        work.attempt = Some(attempt);
        // One coreapp holds one shard: it is taken as soon as it is named. A planned move stays planned until the row
        // shows another epoch: the owner's own renewal may win the race for the row.
        work.naming = Some(to.clone());
        work.given = Some((to.clone(), handover.epoch, handover.nonce));
        work.fenced_at = None;
        work.activated_at = None;
        work.last_verdict = Some(reason);
        actions.push(Action::Decide {
            shard: Some(row.shard),
            what: "handover",
            node: Some(to),
            reason,
        });
        actions.push(Action::Handover {
            attempt,
            term,
            term_grant,
            handover: Box::new(handover),
        });
    }

    fn fresh_grant(&mut self) -> Grant {
        let random = self.random();
        Grant(if guard::on(Guard::GrantIsRandom) {
            random
        } else {
            1
        })
    }

    /// Asks for the fence before step 2: a frozen owner may hold the very lock that step 2 needs (attack 15). Its receipt is
    /// kept until the row lists the grant.
    fn fence_owner(&mut self, term: crate::id::Term, row: &ShardRow, actions: &mut Vec<Action>) {
        let nonce = Nonce(self.random());
        // An epoch that nobody can have would shut the gate for all that come.
        let plausible = |own: &Ownership| plausible::heard(self.epoch_high().0, own.epoch.0);
        if let Some(ownership) = ownership_of(row).filter(plausible) {
            actions.push(Action::Fence {
                term,
                ownership,
                nonce,
            });
        }
    }

    /// Only a receipt ends the waiting for a silent owner: ask for it, as often as for one in `previous`.
    fn fence_held(
        &mut self,
        now: Instant,
        row: &ShardRow,
        reason: Reason,
        actions: &mut Vec<Action>,
    ) {
        let work = self.work.entry(row.shard).or_default();
        let lately = work.fenced_at.is_some_and(|at| now < at + FENCE_EVERY);
        if row.phase != Phase::Active || !fence_first(reason) || lately {
            return;
        }
        work.fenced_at = Some(now);
        if let Some((term, _)) = self.primary(now) {
            self.fence_owner(term, row, actions);
        }
    }

    fn change_shard_count(
        &mut self,
        actions: &mut Vec<Action>,
        (term, term_grant): (crate::id::Term, Grant),
    ) {
        let Some(map) = &self.map else { return };
        let Some(count) = self.wanted_count else {
            return;
        };
        if count == map.master.shard_count {
            self.wanted_count = None;
            return;
        }
        self.regroup(
            actions,
            (term, term_grant),
            count,
            Reason::ShardCountChanged,
        );
    }

    /// An operator adopts a restored database: as a change of the shard count to the same number, so every grant that its
    /// rows show is settled before anybody acts; those that they do not show are over since SAFE.
    fn adopt(&mut self, now: Instant, term: (crate::id::Term, Grant), actions: &mut Vec<Action>) {
        if !self.restored() {
            self.adopting = false;
        } else if self.safe_left(now).is_none() {
            let count = self.map.as_ref().map_or(0, |map| map.master.shard_count);
            let count = if count == 0 {
                self.config.shard_count
            } else {
                count
            };
            self.regroup(actions, term, count, Reason::OperatorAdopted);
        }
    }

    /// Every row free, every old grant in every row's `previous`, the counter above every epoch heard of.
    fn regroup(
        &mut self,
        actions: &mut Vec<Action>,
        (term, term_grant): (crate::id::Term, Grant),
        count: u16,
        reason: Reason,
    ) {
        let Some(map) = &self.map else { return };
        if self.work.values().any(|work| work.attempt.is_some()) {
            return;
        }
        let seen = (map.master.generation, map.master.epoch_high);
        let mut previous: Vec<Previous> = Vec::new();
        for entry in map
            .shards
            .iter()
            .flat_map(|row| row.previous.iter().cloned().chain(previous_of(row)))
        {
            if !previous.contains(&entry) && guard::on(Guard::ReshardListsAll) {
                previous.push(entry);
            }
        }
        let mut shards: Vec<ShardId> = map.shards.iter().map(|row| row.shard).collect();
        if shards.is_empty() {
            shards = (0..count).map(ShardId).collect();
        }
        for entry in &mut previous {
            // This transaction does not check the owners' nonces, so what was seen before it proves nothing: a name that
            // nobody has seen makes every clock of rule 5.3 start at the first read after the commit.
            if guard::on(Guard::ReshardFreshNonce) {
                entry.nonce = Nonce(self.random());
            }
            entry.ttl = entry.ttl.max(self.config.ttl);
        }
        let attempt = self.next_attempt();
        for shard in shards {
            self.work.entry(shard).or_default().attempt = Some(attempt);
        }
        actions.push(Action::Decide {
            shard: None,
            what: "reshard",
            node: None,
            reason,
        });
        actions.push(Action::ChangeShardCount {
            attempt,
            term,
            term_grant,
            regroup: Regroup {
                count,
                seen,
                previous,
                epoch_high: self.epoch_high(),
            },
        });
    }

    /// A transaction came back. Held changes the own copy of the row at once; anything else is read again first.
    pub(super) fn done(
        &mut self,
        now: Instant,
        attempt: Attempt,
        outcome: Outcome,
        actions: &mut Vec<Action>,
    ) {
        if self.inserting == Some(attempt) {
            self.inserting = None;
            self.stale_since = Some(now);
        }
        let shards: Vec<ShardId> = self
            .work
            .iter()
            .filter(|(_, work)| work.attempt == Some(attempt))
            .map(|(shard, _)| *shard)
            .collect();
        for shard in &shards {
            let work = self.work.entry(*shard).or_default();
            (work.attempt, work.naming) = (None, None);
            if std::mem::take(&mut work.flapping) && outcome != Outcome::Lost {
                work.flaps.push(now);
            }
        }
        if !shards.is_empty() || self.stale_since == Some(now) {
            // Nothing else is decided before the row was read again: what it shows is what was committed.
            self.stale_since = Some(now);
            self.read_soon(now);
        }
        if outcome == Outcome::Held {
            actions.push(Action::Nudge(Nudge::ShardMap));
        } else if let [shard] = shards[..] {
            let reason = Reason::NotConverged;
            actions.push(Action::Decide {
                shard: Some(shard),
                what: "retry",
                node: None,
                reason,
            });
        }
    }

    /// After a read: remember when an activation was first seen without a renewal, and when it was renewed.
    pub(super) fn note_activation(&mut self, now: Instant) {
        let Some(map) = &self.map else { return };
        for row in &map.shards {
            let work: &mut Work = self.work.entry(row.shard).or_default();
            match row.phase {
                Phase::Active if work.last_activated != Some(row.epoch) => {
                    work.last_activated = Some(row.epoch);
                    work.activated_nonce = Some(row.nonce);
                    work.activated_at = Some(now);
                }
                Phase::Active if work.activated_nonce != Some(row.nonce) => {
                    work.activated_at = None
                }
                Phase::Active => {}
                Phase::Free | Phase::Handover => work.activated_at = None,
            }
        }
    }

    /// The next moment at which something here becomes due by time alone.
    pub(super) fn wake_for_failover(&self) -> Option<Instant> {
        if !matches!(self.holding, super::Holding::Primary { .. }) || self.stale_since.is_some() {
            return None;
        }
        let map = self.map.as_ref()?;
        let mut wakes: Vec<Instant> = self.safe_until.into_iter().collect();
        for row in &map.shards {
            let Some(work) = self.work.get(&row.shard) else {
                continue;
            };
            match row.phase {
                Phase::Handover => {
                    wakes.extend(row.previous.iter().filter_map(|p| self.over_at(p)).max());
                    wakes.extend(row.previous.iter().filter_map(|p| self.over_at(p)).min());
                    wakes.extend(work.fenced_at.map(|at| at + FENCE_EVERY));
                }
                Phase::Active => {
                    wakes.extend(
                        work.activated_at
                            .map(|at| at + self.config.tolerance.challenge(self.config.ttl)),
                    );
                    if let Some(moving) = &work.moving {
                        wakes.push(moving.since + self.config.quiesce_max);
                        wakes.extend(moving.asked_at.map(|at| at + FENCE_EVERY));
                    }
                }
                Phase::Free => {}
            }
            wakes.extend(work.blocked_until);
        }
        // What is past was acted on already; only the future wakes.
        wakes
            .into_iter()
            .filter(|at| self.last_step.is_none_or(|last| *at > last))
            .min()
    }
}

/// The owner does not answer or does not move: it cannot end by itself.
fn fence_first(reason: Reason) -> bool {
    matches!(
        reason,
        Reason::UnreachableCoreapp
            | Reason::LapsedAndSilent
            | Reason::DbStale
            | Reason::GrayCoreapp
            | Reason::OperatorForced
    )
}

fn free_reason(row: &ShardRow) -> Reason {
    if row.epoch == Epoch(0) {
        Reason::NoOwnerYet
    } else {
        Reason::Released
    }
}

fn ownership_of(row: &ShardRow) -> Option<Ownership> {
    Some(Ownership {
        shard: row.shard,
        epoch: row.epoch,
        grant: row.grant,
        owner: row.owner.clone()?,
        incarnation: row.incarnation,
    })
}

/// The owner of a row as an entry of `previous`.
fn previous_of(row: &ShardRow) -> Option<Previous> {
    Some(Previous {
        shard: row.shard,
        owner: row.owner.clone()?,
        incarnation: row.incarnation,
        epoch: row.epoch,
        grant: row.grant,
        ttl: row.ttl,
        nonce: row.nonce,
    })
}
