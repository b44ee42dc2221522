//! The owner of the only shard of a store, and what an owner asks of it: the calls that the coreapp makes, in its sizes.
//! Counts no rows itself.

use std::time::Duration;

use anyhow::Context as _;
use wa_core::delivery::Results;
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Ownership, ShardId, Term};
use wa_core::master::{Handover, Outcome};
use wa_core::message::MessageState;
use wa_core::shard_map::recipient_hash;

use crate::api::v1::message::stored::Form;
use crate::api::v1::message::{RANDOM_LEN, new_id};
use crate::config::DatabaseSettings;
use crate::db::Db;
use crate::db::body::Bodies;
use crate::db::inbox::{NewEvent, Processed};
use crate::db::lease::LeaseConnection;
use crate::db::message::{Finish, Finished, NewMessage};
use crate::sys::clock;

/// What is timed in a round.
pub const PHASES: [&str; 4] = ["intake", "claim", "outcome", "status"];
/// Messages of one round.
const ROUND_LEN: usize = 8192;
/// Messages of one commit of the intake, as some load makes them; what a claim or an outcome has at most.
const ACCEPT_LEN: usize = 64;
const CLAIM_LEN: usize = 256;
/// Events in one call of the upstream's, and in one commit of the owner's.
const EVENTS_LEN: usize = 16;
const PROCESS_LEN: u32 = 256;
/// What an owner that dies leaves in hand.
const IN_HAND_LEN: usize = 200;
const WINDOW: Duration = Duration::from_secs(30);
const DAY_MS: u64 = 24 * 3600 * 1000;
const TERM: (Term, Grant) = (Term(1), Grant(11));
const TTL: Duration = Duration::from_secs(3);

/// What a tenure asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Tenure {
    HalfSent,
    InHand,
    Fresh,
    NewestIds,
    Newer,
    Overdue,
    Unknown,
    Receipts,
    Depth,
    Waiting,
    Pending,
    Unplaced,
    Kept,
    Bodies,
    EventBodies,
    Events,
    Ids,
    Oldest,
    Counted,
}

impl Tenure {
    /// In the order in which they are measured.
    pub const ALL: [Self; 19] = [
        Self::HalfSent,
        Self::InHand,
        Self::Fresh,
        Self::NewestIds,
        Self::Newer,
        Self::Overdue,
        Self::Unknown,
        Self::Receipts,
        Self::Depth,
        Self::Waiting,
        Self::Pending,
        Self::Unplaced,
        Self::Kept,
        Self::Bodies,
        Self::EventBodies,
        Self::Events,
        Self::Ids,
        Self::Oldest,
        Self::Counted,
    ];

    /// For the table.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::HalfSent => "takeover: half-sent messages",
            Self::InHand => "takeover: claimed by this owner",
            Self::Fresh => "takeover: due although the clock went back",
            Self::NewestIds => "takeover: newest ids into the map",
            Self::Newer => "beat: a newer form among the unfinished",
            Self::Overdue => "unknown outcome: windows that are over",
            Self::Unknown => "unknown outcome: how many",
            Self::Receipts => "unknown outcome: receipts around one",
            Self::Depth => "metrics: unfinished messages",
            Self::Waiting => "metrics: what waits in the slice",
            Self::Pending => "inbox: pending events",
            Self::Unplaced => "inbox: statuses without a place",
            Self::Kept => "inbox: kept for people",
            Self::Bodies => "sweep: message bodies",
            Self::EventBodies => "sweep: event bodies",
            Self::Events => "sweep: events",
            Self::Ids => "sweep: message ids",
            Self::Oldest => "collection: one step",
            Self::Counted => "/v1/stats/db",
        }
    }
}

/// A store and the only owner that it has.
pub struct Owner {
    pub db: Db,
    master: LeaseConnection,
    own: Ownership,
    /// Messages so far: no id comes twice.
    count: u64,
}

fn ownership(epoch: u64) -> Ownership {
    Ownership {
        shard: ShardId(0),
        epoch: Epoch(epoch),
        grant: Grant(epoch + 1000),
        owner: NodeId::new("core1.example:coreapp-1"),
        incarnation: Incarnation {
            counter: 1,
            random: epoch,
        },
    }
}

impl Owner {
    /// Makes our schema in an empty store, and an owner.
    pub async fn begin(settings: DatabaseSettings) -> anyhow::Result<Self> {
        let db = Db::connect(&settings, 4).await?;
        db.ensure_lease_table().await?;
        db.migrate().await?;
        let incarnation = Incarnation {
            counter: 1,
            random: 7,
        };
        let node = NodeId::new("core1.example:master-1");
        let mut master = LeaseConnection::new(settings, TTL, node, incarnation);
        let new = (TERM.0, TERM.1, Nonce(1));
        let took = master.take_master((Term(0), Grant(0), Nonce(0)), new, TTL);
        held(took.await, "the master lease")?;
        held(master.insert_shards(TERM.0, TERM.1, 1).await, "a shard")?;
        let mut owner = Self {
            db,
            master,
            // The past was begun by the first one.
            own: ownership(1),
            count: 0,
        };
        owner.next().await?;
        Ok(owner)
    }

    /// Another owner takes the shard over.
    pub async fn next(&mut self) -> anyhow::Result<()> {
        let snapshot = self.master.snapshot().await?;
        let row = snapshot.shards.first().context("one shard")?;
        let own = ownership(self.own.epoch.0 + 1);
        let handover = Handover {
            shard: own.shard,
            expect: (row.epoch, row.grant, row.nonce, row.phase),
            to: own.owner.clone(),
            to_incarnation: own.incarnation,
            epoch: own.epoch,
            grant: own.grant,
            ttl: TTL,
            nonce: Nonce(own.epoch.0 + 500),
            previous: Vec::new(),
            generation: row.generation,
        };
        let done = self.master.handover(TERM.0, TERM.1, &handover).await;
        held(done, "a handover")?;
        let (shard, epoch, grant) = (own.shard, own.epoch, own.grant);
        let active = self.master.activate(TERM.0, TERM.1, shard, epoch, grant);
        held(active.await, "a tenure")?;
        self.own = own;
        Ok(())
    }

    /// One round of messages from intake to the last status: messages, or statuses, a second of each phase.
    pub async fn round(&mut self) -> anyhow::Result<[f64; 4]> {
        let messages = self.new_messages(ROUND_LEN);
        let began = clock::now();
        for some in messages.chunks(ACCEPT_LEN) {
            self.db.accept(&self.own, some, false).await?;
        }
        let accepted = clock::now();
        let mut claimed = Vec::with_capacity(messages.len());
        while claimed.len() < messages.len() {
            let some = self.db.claim(&self.own, 1, CLAIM_LEN as u32).await?;
            anyhow::ensure!(!some.is_empty(), "{} were claimed", claimed.len());
            claimed.extend(some);
        }
        let all_claimed = clock::now();
        let sent: Vec<(String, String, u32)> = (claimed.iter())
            .map(|one| (one.id.clone(), wamid_of(&one.id), one.route()))
            .collect();
        for some in sent.chunks(CLAIM_LEN) {
            self.record(some).await?;
        }
        let recorded = clock::now();
        self.statuses(&sent).await?;
        let told = clock::now();
        let rate = |count: usize, took: Duration| count as f64 / took.as_secs_f64().max(1e-6);
        Ok([
            rate(messages.len(), accepted.since(began)),
            rate(claimed.len(), all_claimed.since(accepted)),
            rate(sent.len(), recorded.since(all_claimed)),
            rate(sent.len() * 3, told.since(recorded)),
        ])
    }

    /// The upstream took them: outcomes, and their ids into the map.
    async fn record(&self, sent: &[(String, String, u32)]) -> anyhow::Result<()> {
        let finishes: Vec<Finish> = sent
            .iter()
            .map(|(id, wamid, _)| Finish {
                id: id.clone(),
                to: Finished::Sent {
                    wamid: wamid.clone(),
                },
                claims: 1,
            })
            .collect();
        let gone = Bodies::Gone {
            left: Default::default(),
        };
        let done = self
            .db
            .finish_and_tell(&self.own, &finishes, (&[], &[]), &gone)
            .await?;
        anyhow::ensure!(done, "stale");
        let pairs: Vec<(&str, &str)> = sent
            .iter()
            .map(|(id, wamid, _)| (id.as_str(), wamid.as_str()))
            .collect();
        self.db.remember_ids(&pairs).await?;
        Ok(())
    }

    /// Three statuses of each: stored as webapps do, worked off as the owner does, and taken by the business.
    async fn statuses(&self, sent: &[(String, String, u32)]) -> anyhow::Result<()> {
        for (word, state) in [
            ("sent", MessageState::Sent),
            ("delivered", MessageState::Delivered),
            ("read", MessageState::Read),
        ] {
            let events: Vec<NewEvent> = sent
                .iter()
                .map(|(_, wamid, hash)| NewEvent {
                    key: format!("{wamid}:{word}"),
                    recipient_hash: *hash,
                    payload: "{\"event\":{\"status\":\"as long as the parts of a status are\"}}"
                        .repeat(4),
                    state: Default::default(),
                })
                .collect();
            for some in events.chunks(EVENTS_LEN) {
                self.db.store_events(some).await?;
            }
            self.work_off(state).await?;
        }
        Ok(())
    }

    async fn work_off(&self, state: MessageState) -> anyhow::Result<()> {
        loop {
            let stored = self.db.pending_events(&self.own, 1, PROCESS_LEN).await?;
            if stored.is_empty() {
                return Ok(());
            }
            let wamids: Vec<&str> = stored
                .iter()
                .filter_map(|event| event.event_key.split(':').next())
                .collect();
            let ours = self.db.ours(&wamids).await?;
            let ids: Vec<&str> = ours.values().map(|ours| ours.id.as_str()).collect();
            self.db.told_of(&ids).await?;
            let processed: Vec<Processed> = stored
                .iter()
                .zip(&wamids)
                .map(|(event, wamid)| Processed {
                    key: event.event_key.clone(),
                    recipient_hash: u32::try_from(event.recipient_hash).unwrap_or(0),
                    status: ours.get(*wamid).map(|ours| {
                        let wamid = Some((*wamid).to_owned());
                        (ours.id.clone(), state, wamid)
                    }),
                    told: Some("r".into()),
                    webhook: Some("{\"statuses\":[]}".repeat(12)),
                    ..Processed::default()
                })
                .collect();
            let done = self.db.process_events(&self.own, &processed, true).await?;
            anyhow::ensure!(done, "stale");
            let (waiting, _, _) = self.db.webhook_ids(&self.own, 1, 0, 1000).await?;
            let results = Results {
                delivered: waiting.iter().map(|(id, _)| *id).collect(),
                ..Results::default()
            };
            self.db.webhooks_done(&self.own, &results).await?;
        }
    }

    /// Accepted and claimed at once, and then its owner dies.
    pub async fn leave_in_hand(&mut self) -> anyhow::Result<()> {
        let messages = self.new_messages(IN_HAND_LEN);
        self.db.accept(&self.own, &messages, true).await?;
        Ok(())
    }

    /// One thing that a tenure asks.
    pub async fn ask(&mut self, what: Tenure) -> anyhow::Result<()> {
        let (db, own) = (&self.db, &self.own);
        match what {
            Tenure::HalfSent => {
                // Together, as the coreapp asks.
                let (marked, _) =
                    tokio::try_join!(db.mark_ambiguous(own, 1), db.left_behind(own, 1, 4096))?;
                anyhow::ensure!(marked >= IN_HAND_LEN as u64, "{marked} were marked");
            }
            Tenure::InHand => drop(db.claimed_by(own, 1024).await?),
            Tenure::Fresh => drop(db.make_fresh_due(own, 1).await?),
            Tenure::NewestIds => drop(db.remember_newest(4096).await?),
            Tenure::Newer => drop(db.newer_form(Form::NEWEST.number()).await?),
            Tenure::Overdue => drop(db.overdue_ambiguous(own, 1, WINDOW, 256).await?),
            Tenure::Unknown => drop(db.unknown_of(own, 1, 3).await?),
            Tenure::Receipts => drop(db.receipts_around(i64::MAX / 2).await?),
            Tenure::Depth => drop(db.outbox_depth().await?),
            // As one of four.
            Tenure::Waiting => drop(db.waiting_of(0, 4).await?),
            Tenure::Pending => drop(db.pending_events(own, 1, PROCESS_LEN).await?),
            Tenure::Unplaced => drop(db.unplaced_events(None, PROCESS_LEN).await?),
            Tenure::Kept => drop((db.kept_events(50).await?, db.kept_counts().await?)),
            Tenure::Bodies => drop(db.bodies_due(0, 50).await?),
            Tenure::EventBodies => drop(db.blank_events(own, 0, 1000).await?),
            Tenure::Events => drop(db.forget_events((8 * DAY_MS, 30 * DAY_MS), 1000).await?),
            Tenure::Ids => drop(db.forget_ids(400 * DAY_MS, 1000).await?),
            Tenure::Oldest => drop(db.oldest_messages(0, 8 * DAY_MS, 250).await?),
            Tenure::Counted => drop(db.documented_counts().await?),
        }
        Ok(())
    }

    fn new_messages(&mut self, len: usize) -> Vec<NewMessage> {
        let from = self.count;
        self.count += len as u64;
        (from..self.count).map(new_message).collect()
    }
}

fn held(outcome: Outcome, what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(outcome == Outcome::Held, "{what}: {outcome:?}");
    Ok(())
}

/// A text of some 200 letters, under an id as webapps mint them.
fn new_message(n: u64) -> NewMessage {
    let recipient = format!("4477{:08}", n.wrapping_mul(7919) % 100_000_000);
    let body = " is on its way to you".repeat(8);
    let random: [u8; RANDOM_LEN] = std::array::from_fn(|at| uuid::Uuid::new_v4().as_bytes()[at]);
    NewMessage {
        id: new_id(clock::wall_ms(), &random),
        recipient_hash: recipient_hash(&recipient),
        kind: "text",
        form: 1,
        payload: format!(
            "{{\"to\":{{\"phone\":\"{recipient}\"}},\"content\":{{\"text\":{{\"body\":\"Parcel {n}{body}\"}}}}}}"
        ),
        hashes: vec![(1, n)],
        recipient,
    }
}

/// As random as the upstream's, and as long; among those of the past.
fn wamid_of(id: &str) -> String {
    let place = &uuid::Uuid::new_v4().simple().to_string()[..8];
    let rest = &id[12..];
    format!("wamid.HBgMNDQ3{place}FQIAERgSQkY5{rest}AAAAAA==")
}
