//! Verified upstream events: stored once by whichever webapp got them, worked off by the shard's owner.
//! Interprets nothing: payloads are the JSON that `api/cloud` made of them.

use wa_core::id::Ownership;
use wa_core::message::MessageState;

use super::event::State;
use super::message::{OwnWebhook, PAYLOAD_LEN_MAX};
use super::remote::Remote;
use super::together::{Together, stored_key};
use super::{Db, DbError, check_length, on_pool, text};

/// Payload bytes in one statement: well below what a database takes as one packet, twice as long in hexadecimal.
const STATEMENT_LEN_MAX: usize = 2 << 20;

/// The key of the webhook that says that a message of ours failed.
pub fn failure_key(our_id: &str) -> String {
    format!("{our_id}:failed")
}

/// An event to store.
#[derive(Debug, Clone)]
pub struct NewEvent {
    /// Unique for the event: the upstream's id and, for a status, its word.
    pub key: String,
    pub recipient_hash: u32,
    pub payload: String,
    /// Pending, or what else it waits for.
    pub state: State,
}

/// A stored event.
#[derive(Debug, Clone, sqlx::FromRow)]
pub struct Stored {
    pub event_key: String,
    pub recipient_hash: i64,
    pub payload: String,
    /// When a webapp stored it, by the database's clock.
    pub received_ms: i64,
}

/// What the owner made of one event.
#[derive(Debug, Clone, Default)]
pub struct Processed {
    pub key: String,
    pub recipient_hash: u32,
    /// Our message id and its state after the event, for a status.
    pub status: Option<(String, MessageState, Option<String>)>,
    /// What the row of our message says of what was told from now on; `None`: what it says.
    pub told: Option<String>,
    /// What the business shall be told, if anything.
    pub webhook: Option<String>,
    /// And what it shall be told before that.
    pub before: Option<String>,
    /// It is not done with, but kept for people.
    pub kept: Option<State>,
    /// The key by which it is told once for all: of a status that the row of its message does not judge.
    pub once: Option<String>,
    /// Its file, which only the upstream has.
    pub remote: Option<Remote>,
}

/// Cuts a list so that no part has more than [`STATEMENT_LEN_MAX`] bytes of payload, if it has more than one event.
pub fn parts(mut events: &[NewEvent]) -> Vec<&[NewEvent]> {
    let mut parts = Vec::new();
    while !events.is_empty() {
        let mut bytes = 0;
        let fits = events.iter().take_while(|event| {
            bytes += event.payload.len();
            bytes <= STATEMENT_LEN_MAX
        });
        let (part, rest) = events.split_at(fits.count().max(1));
        parts.push(part);
        events = rest;
    }
    parts
}

impl Db {
    /// Stores events that are not there yet. Returns how many were new.
    ///
    /// # Errors
    /// When the database does not answer: the caller must not tell the upstream 200 then.
    pub async fn store_events(&self, events: &[NewEvent]) -> Result<u64, DbError> {
        if events.is_empty() {
            return Ok(0);
        }
        let now = self.now_sql();
        let mut rows = Vec::with_capacity(events.len());
        for event in events {
            check_length("an event", &event.payload, PAYLOAD_LEN_MAX)?;
            let (key, payload) = (
                self.quote(&stored_key(&event.key)),
                self.quote(&event.payload),
            );
            let (hash, state) = (event.recipient_hash, event.state as u8);
            rows.push(format!("({key},{hash},{payload},{now},{state})"));
        }
        // One statement: no lock is held while a client waits.
        let sql = text(
            self,
            &format!(
                "INSERT {{ignore}} INTO inbox (event_key, recipient_hash, payload, received_ms, processed) VALUES {}",
                rows.join(",")
            ),
        );
        Ok(on_pool!(self, pool => sqlx::raw_sql(sql).execute(pool).await?.rows_affected()))
    }

    /// The oldest events of the shard's slice that are not processed.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn pending_events(
        &self,
        own: &Ownership,
        shard_count: u16,
        limit: u32,
    ) -> Result<Vec<Stored>, DbError> {
        let int = if self.embedded() { "INTEGER" } else { "SIGNED" };
        let sql = sqlx::AssertSqlSafe(format!(
            "SELECT event_key, CAST(recipient_hash AS {int}) AS recipient_hash, payload, received_ms FROM inbox \
             WHERE processed=0 AND recipient_hash % ? = ? ORDER BY received_ms LIMIT ?"
        ));
        Ok(on_pool!(self, pool => {
            sqlx::query_as(sql)
                .bind(i64::from(shard_count.max(1)))
                .bind(i64::from(own.shard.0))
                .bind(i64::from(limit))
                .fetch_all(pool)
                .await?
        }))
    }

    /// Message states, webhooks, files to remember and processed marks in one commit; with `blank` the content of the events goes as well. False:
    /// stale, nothing was done.
    ///
    /// # Errors
    /// When the database does not answer; the events stay pending.
    pub async fn process_events(
        &self,
        own: &Ownership,
        processed: &[Processed],
        blank: bool,
    ) -> Result<bool, DbError> {
        let mut together = Together::new(self);
        for event in processed {
            let mut told = true;
            if let Some((once, payload)) = event.once.as_ref().zip(event.webhook.as_ref()) {
                for statement in self.tell_once(once, event, payload) {
                    together.statement(statement);
                }
            } else if let Some(failure) = self.told_of_failure(event) {
                // It looks at the state that a later statement changes.
                together.statement(failure);
            } else {
                told = false;
            }
            if let Some((id, state, wamid)) = &event.status {
                together.heard(id, *state, wamid.as_deref(), event.told.as_deref());
            }
            if let Some(payload) = &event.before {
                let key = format!("{}:before", event.key);
                together.webhook(&key, event.recipient_hash, payload);
            }
            if let Some(payload) = &event.webhook
                && !told
            {
                together.webhook(&event.key, event.recipient_hash, payload);
            }
            let state = event.kept.unwrap_or(match blank {
                true => State::Blank,
                false => State::Done,
            });
            let content = match state {
                State::Blank => ", payload=''",
                State::Done | State::Pending | State::Unread | State::Unplaced | State::Foreign => {
                    ""
                }
            };
            let what = format!("processed={}{content}", state as u8);
            together.event(&event.key, &what);
        }
        let files: Vec<&Remote> = processed.iter().filter_map(|e| e.remote.as_ref()).collect();
        let mut statements = self.remote_statements(&files);
        statements.extend(together.finish());
        Ok(self.guarded(own, &statements).await?.is_some())
    }

    /// A webhook that is told unless one under this key was, and the mark that it was: a row of the inbox that is done with, and goes
    /// with the others.
    fn tell_once(&self, once: &str, event: &Processed, payload: &str) -> [String; 2] {
        let mark = self.quote(&stored_key(&format!("told:{once}")));
        let (key, payload) = (self.quote(&stored_key(&event.key)), self.quote(payload));
        let (hash, now) = (event.recipient_hash, self.now_sql());
        let (ignore, from, alive, only) = match self.embedded() {
            true => ("OR IGNORE", "", "", ""),
            false => (
                "IGNORE",
                " FROM DUAL",
                " AND {alive}",
                " FROM DUAL WHERE {alive}",
            ),
        };
        [
            format!(
                "INSERT {ignore} INTO webhook (event_key, recipient_hash, payload, next_ms) SELECT {key}, {hash}, {payload}, {now}{from} \
                 WHERE NOT EXISTS (SELECT 1 FROM inbox WHERE event_key={mark}){alive}"
            ),
            format!(
                "INSERT {ignore} INTO inbox (event_key, recipient_hash, payload, received_ms, processed) \
                 SELECT {mark}, {hash}, '', {now}, {done}{only}",
                done = State::Done as u8
            ),
        ]
    }

    /// A failure of our message is told once, whether it came in the answer to the send, by webhook, or both.
    fn told_of_failure(&self, event: &Processed) -> Option<String> {
        match &event.status {
            Some((id, MessageState::Failed, _)) => {
                let webhook = OwnWebhook {
                    message_id: id.clone(),
                    key: failure_key(id),
                    recipient_hash: event.recipient_hash,
                    payload: event.webhook.clone()?,
                };
                Some(self.webhook_insert_unless_failed(&webhook))
            }
            Some((_, _, _)) | None => None,
        }
    }

    /// An INSERT of a webhook that takes effect only where its message has not failed or arrived yet: it stands before the
    /// statement that makes it so.
    pub(super) fn webhook_insert_unless_failed(&self, webhook: &OwnWebhook) -> String {
        let (key, payload, now) = (
            self.quote(&stored_key(&webhook.key)),
            self.quote(&webhook.payload),
            self.now_sql(),
        );
        let (ignore, from, alive) = if self.embedded() {
            ("OR IGNORE", "", "")
        } else {
            ("IGNORE", " FROM DUAL", " AND {alive}")
        };
        format!(
            "INSERT {ignore} INTO webhook (event_key, recipient_hash, payload, next_ms) \
             SELECT {key}, {}, {payload}, {now}{from} \
             WHERE NOT EXISTS (SELECT 1 FROM message WHERE id={} AND state>3){alive}",
            webhook.recipient_hash,
            self.quote(&webhook.message_id)
        )
    }

    /// An INSERT of a webhook, under the guard's condition.
    pub(super) fn webhook_insert(&self, key: &str, recipient_hash: u32, payload: &str) -> String {
        let (key, payload, now) = (
            self.quote(&stored_key(key)),
            self.quote(payload),
            self.now_sql(),
        );
        if self.embedded() {
            format!(
                "INSERT OR IGNORE INTO webhook (event_key, recipient_hash, payload, next_ms) \
                 VALUES ({key}, {recipient_hash}, {payload}, {now})"
            )
        } else {
            format!(
                "INSERT IGNORE INTO webhook (event_key, recipient_hash, payload, next_ms) \
                 SELECT {key}, {recipient_hash}, {payload}, {now} FROM DUAL WHERE {{alive}}"
            )
        }
    }

    /// An INSERT of a webhook that takes effect only if the message (a quoted id) was reported failed.
    pub(super) fn webhook_insert_if_failed(&self, id: &str, webhook: &OwnWebhook) -> String {
        let (key, payload, now) = (
            self.quote(&stored_key(&webhook.key)),
            self.quote(&webhook.payload),
            self.now_sql(),
        );
        let (ignore, alive) = if self.embedded() {
            ("OR IGNORE", "")
        } else {
            ("IGNORE", " AND {alive}")
        };
        format!(
            "INSERT {ignore} INTO webhook (event_key, recipient_hash, payload, next_ms) \
             SELECT {key}, {}, {payload}, {now} FROM message WHERE id={id} AND state=6{alive}",
            webhook.recipient_hash
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lists_are_cut_and_long_events_go_alone() {
        let event = |bytes| NewEvent {
            key: "k".into(),
            recipient_hash: 1,
            payload: "x".repeat(bytes),
            state: Default::default(),
        };
        let lengths = |sizes: &[usize]| {
            let events: Vec<_> = sizes.iter().copied().map(event).collect();
            parts(&events)
                .iter()
                .map(|part| part.len())
                .collect::<Vec<_>>()
        };
        assert_eq!(lengths(&[1, 1, 1]), [3]);
        assert_eq!(lengths(&[1 << 20, 1 << 20, 1, 3 << 20, 1]), [2, 1, 1, 1]);
        assert!(lengths(&[]).is_empty());
    }
}
