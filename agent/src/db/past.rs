//! A store with a past, for measurements and tests: many messages, most of them finished, with the map of their ids and their
//! events, as our own commits leave them. On MariaDB and SQLite. No role writes any of it.
//!
//! Every row differs from the others. Keys are spread over the whole of their space, as random ones are, and ascend in two
//! passes: so it is quick, and pages are about as full as random keys leave them.

use wa_core::message::MessageState;
use wa_core::told::Told;

use super::{Db, DbError, text};
use crate::api::cloud::told;

/// Of so many messages one is not finished.
pub const UNFINISHED_EVERY: u64 = 100;
/// Messages for each customer.
const OF_CUSTOMER: u64 = 20;
/// Of so many customers one was written to in another spelling than the upstream's.
const SPELT_EVERY: u64 = 50;
/// Statuses of each finished message.
const STATUSES: u64 = 3;
/// Rows in one statement.
const STATEMENT_LEN: u64 = 48_000;
/// The past begins a week ago: nothing of it is old enough to be collected.
const WEEK_MS: u64 = 7 * 24 * 3600 * 1000;
/// What is queued again waits for so long, and is put off again when it waits for less than half of it.
const PUT_OFF_MS: u64 = 840_000;

/// What is filled in: one table, or rows of one kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// Finished messages, their content gone.
    Finished,
    /// The others: queued for later, in an owner's hands, of unknown fate.
    Unfinished,
    /// The map of ids.
    Ids,
    /// Three statuses of each finished message, worked off.
    Events,
    Customers,
    Routes,
}

impl Part {
    /// How many rows it has, in a store of so many messages.
    pub fn len(self, messages: u64) -> u64 {
        let finished = messages - messages / UNFINISHED_EVERY;
        match self {
            Self::Finished | Self::Ids => finished,
            Self::Unfinished => messages / UNFINISHED_EVERY,
            Self::Events => finished * STATUSES,
            Self::Customers => messages / OF_CUSTOMER,
            Self::Routes => messages / OF_CUSTOMER / SPELT_EVERY,
        }
    }

    /// The table, and what of it is written, from the columns `n` (the message), `o` (its place in time) and `w` (its status).
    fn insert(self, words: &Words) -> (&'static str, String) {
        match self {
            Self::Finished => (
                "message (id, body_hash, recipient, recipient_hash, payload, kind, form, state, attempts, claim_epoch, claim_grant, \
                 claim_batch, claim_order, receipt, receipt_lag_ms, next_ms, wamid, error_code, accepted_ms, finished_ms, told)",
                words.finished(),
            ),
            Self::Unfinished => (
                "message (id, body_hash, recipient, recipient_hash, payload, kind, form, state, attempts, claim_epoch, claim_grant, \
                 claim_batch, claim_order, next_ms, accepted_ms)",
                words.unfinished(),
            ),
            Self::Ids => (
                "message_id (upstream_id, our_id, recipient_hash, at_ms)",
                format!(
                    "{}, {}, {}, {}+900",
                    words.wamid(),
                    words.id(),
                    words.customer_hash(),
                    words.at()
                ),
            ),
            Self::Events => (
                "inbox (event_key, recipient_hash, payload, received_ms, processed)",
                format!(
                    "{}, {}, '', {}+1000*w, 5",
                    words.joined(&[
                        &words.wamid(),
                        "CASE w WHEN 0 THEN ':delivered' WHEN 1 THEN ':read' ELSE ':sent' END",
                    ]),
                    words.customer_hash(),
                    words.at()
                ),
            ),
            Self::Customers => (
                "customer (user_id, wa_id, username, profile_name, recipient_hash, both_ms, seen_ms)",
                format!(
                    "{}, {}, '', {}, {}, {at}, {at}",
                    words.joined(&["'GB.'", &words.digits("n", 14)]),
                    words.joined(&["'4477'", &words.digits("n", 8)]),
                    words.joined(&["'Customer '", &words.digits("n", 8)]),
                    words.hash("n"),
                    at = words.at()
                ),
            ),
            Self::Routes => (
                "route (address, recipient_hash, spelling, at_ms)",
                format!(
                    "{}, {}, {}, {}",
                    words.joined(&["'077'", &words.digits("n", 8)]),
                    words.hash("n"),
                    words.joined(&["'4477'", &words.digits("n", 8)]),
                    words.at()
                ),
            ),
        }
    }

    /// Where the numbers come from: `i` from 1 on, in two passes.
    fn numbers(self, pass: u64, all: u64) -> Numbers {
        let (half, rest) = (all / 2, format!("n%{UNFINISHED_EVERY}<>0"));
        match self {
            Self::Finished | Self::Ids => Numbers {
                count: half,
                columns: format!("2*i-1+{pass} AS n, i+{} AS o, 0 AS w", pass * half),
                which: rest,
            },
            Self::Events => Numbers {
                count: half * STATUSES,
                columns: format!(
                    "2*{{third}}+1+{pass} AS n, {{third}}+{} AS o, (i-1)%3 AS w",
                    pass * half
                ),
                which: rest,
            },
            Self::Unfinished | Self::Customers | Self::Routes => Numbers {
                count: if pass == 0 { self.len(all) } else { 0 },
                columns: match self {
                    Self::Unfinished => format!("{UNFINISHED_EVERY}*i AS n, i AS o, i AS w"),
                    Self::Finished | Self::Ids | Self::Events | Self::Customers | Self::Routes => {
                        "i AS n, i AS o, 0 AS w".into()
                    }
                },
                which: "1=1".into(),
            },
        }
    }
}

struct Numbers {
    count: u64,
    columns: String,
    which: String,
}

/// Expressions in a dialect.
struct Words {
    embedded: bool,
    /// Messages of the store.
    all: u64,
}

impl Words {
    fn joined(&self, parts: &[&str]) -> String {
        match self.embedded {
            true => format!("({})", parts.join(" || ")),
            false => format!("CONCAT({})", parts.join(", ")),
        }
    }

    fn hexadecimal(&self, number: &str, len: u8) -> String {
        match self.embedded {
            true => format!("printf('%0{len}x', {number})"),
            false => format!("LOWER(LPAD(HEX({number}), {len}, '0'))"),
        }
    }

    fn digits(&self, number: &str, len: u8) -> String {
        match self.embedded {
            true => format!("printf('%0{len}d', {number})"),
            false => format!("LPAD({number}, {len}, '0')"),
        }
    }

    fn quotient(&self, number: &str, by: u64) -> String {
        match self.embedded {
            true => format!("(({number})/{by})"),
            false => format!("(({number}) DIV {by})"),
        }
    }

    /// Its place among all keys: 32 bits that ascend with `n`.
    fn place(&self) -> String {
        let step = (u64::from(u32::MAX) / (self.all + 1)).max(1);
        self.hexadecimal(&format!("n*{step}"), 8)
    }

    /// As long as those that webapps mint.
    fn id(&self) -> String {
        let tail = self.hexadecimal("n*2654435761%72057594037927936", 14);
        self.joined(&["'gBEG'", &self.place(), &tail])
    }

    /// As long as those of the upstream.
    fn wamid(&self) -> String {
        let tail = self.digits("n*2654435761", 18);
        self.joined(&[
            "'wamid.HBgMNDQ3'",
            &self.place(),
            "'FQIAERgSQkY5'",
            &tail,
            "'AA=='",
        ])
    }

    fn customer(&self) -> String {
        let customers = (self.all / OF_CUSTOMER).max(1);
        format!("(n*7919%{customers}+1)")
    }

    fn recipient(&self) -> String {
        self.joined(&["'4477'", &self.digits(&self.customer(), 8)])
    }

    fn hash(&self, customer: &str) -> String {
        format!("{customer}*2654435761%2147483647")
    }

    fn customer_hash(&self) -> String {
        self.hash(&self.customer())
    }

    /// When it was accepted.
    fn at(&self) -> String {
        let each = WEEK_MS / 2 / self.all.max(1);
        format!("{{now}}-{WEEK_MS}+o*{each}")
    }

    fn kind(&self) -> &'static str {
        "CASE n*31%10 WHEN 0 THEN 'image' WHEN 1 THEN 'document' WHEN 2 THEN 'template' WHEN 3 THEN 'template' ELSE 'text' END"
    }

    fn finished(&self) -> String {
        let told = |told| told::Row::of(told).text();
        let by_state = |read: &str, delivered: &str, sent: &str, failed: &str| {
            format!(
                "CASE WHEN n*7919%100<58 THEN {read} WHEN n*7919%100<90 THEN {delivered} WHEN n*7919%100<96 THEN {sent} \
                 ELSE {failed} END"
            )
        };
        let state = |state: MessageState| (state as u8).to_string();
        let quoted = |text: String| format!("'{text}'");
        format!(
            "{id}, n*2654435761, {to}, {hash}, '', {kind}, 3, {state}, 1, 1, 77, o, ({at})*1000, 2, 900+n%300, 0, {wamid}, {error}, \
             {at}, {at}+2000, {told}",
            id = self.id(),
            to = self.recipient(),
            hash = self.customer_hash(),
            kind = self.kind(),
            at = self.at(),
            wamid = self.wamid(),
            error = by_state("0", "0", "0", "1013"),
            state = by_state(
                &state(MessageState::Read),
                &state(MessageState::Delivered),
                &state(MessageState::Sent),
                &state(MessageState::Failed)
            ),
            told = by_state(
                &quoted(told(Told::Read)),
                &quoted(told(Told::Delivered)),
                &quoted(told(Told::Sent)),
                &quoted(told(Told::Failed))
            ),
        )
    }

    /// A two-hundredth is in an owner's hands, a twentieth of unknown fate; the others wait to be tried again.
    fn unfinished(&self) -> String {
        let by_state = |sending: &str, ambiguous: &str, queued: &str| {
            format!(
                "CASE WHEN w%200=1 THEN {sending} WHEN w%20=2 THEN {ambiguous} ELSE {queued} END"
            )
        };
        let to = self.recipient();
        let payload = self.joined(&[
            "'{\"to\":{\"phone\":\"'",
            &to,
            "'\"},\"content\":{\"text\":{\"body\":\"Parcel '",
            &self.digits("n", 12),
            &format!("'{}\"}}}}}}'", " is on its way to you".repeat(8)),
        ]);
        format!(
            "{id}, n*2654435761, {to}, {hash}, {payload}, 'text', 1, {state}, 1, {epoch}, {grant}, n, {order}, {next}, {at}",
            id = self.id(),
            hash = self.customer_hash(),
            state = by_state("1", "2", "0"),
            epoch = by_state("1", "1", "0"),
            grant = by_state("77", "77", "0"),
            order = by_state("w", "w", "0"),
            next = by_state(
                "{now}-3600000",
                "{now}-60000",
                &format!("{{now}}+{PUT_OFF_MS}-w%1000")
            ),
            at = "{now}-3600000+o",
        )
    }

    /// The numbers from one to another, as the column `i`.
    fn range(&self, from: u64, to: u64) -> String {
        match self.embedded {
            true => format!(
                "(WITH RECURSIVE r(i) AS (SELECT {from} UNION ALL SELECT i+1 FROM r WHERE i<{to}) SELECT i FROM r)"
            ),
            false => format!("(SELECT CAST(seq AS SIGNED) AS i FROM seq_{from}_to_{to})"),
        }
    }
}

impl Db {
    /// Fills a part of a past of so many messages in; `told` hears how many rows there are after each statement.
    ///
    /// # Errors
    /// When the database does not do it; a part is filled in once.
    pub async fn fill_past(
        &self,
        part: Part,
        messages: u64,
        told: impl Fn(u64),
    ) -> Result<(), DbError> {
        let words = Words {
            embedded: self.embedded(),
            all: messages,
        };
        let (table, columns) = part.insert(&words);
        let mut done = 0;
        for pass in 0..2 {
            let numbers = part.numbers(pass, messages);
            let made = numbers
                .columns
                .replace("{third}", &words.quotient("i-1", STATUSES));
            for from in (1..=numbers.count).step_by(STATEMENT_LEN as usize) {
                let to = numbers.count.min(from + STATEMENT_LEN - 1);
                let (range, which) = (words.range(from, to), &numbers.which);
                let sql = format!(
                    "INSERT INTO {table} SELECT {columns} FROM (SELECT {made} FROM {range} r) s WHERE {which}"
                );
                self.run_ddl(&text(self, &sql).0).await?;
                done += to + 1 - from;
                told(done);
            }
        }
        Ok(())
    }

    /// Makes the planner's figures those of the rows that are there, as a server does by itself in time.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn look_at_past(&self) -> Result<(), DbError> {
        if self.embedded() {
            return Ok(());
        }
        self.run_ddl("ANALYZE TABLE message, message_id, inbox, customer, route")
            .await
    }

    /// What was filled in queued comes due after some minutes: a measurement that takes longer puts it off again.
    ///
    /// # Errors
    /// When the database does not do it.
    pub async fn put_past_off(&self) -> Result<(), DbError> {
        let sql = format!(
            "UPDATE message SET next_ms={{now}}+{PUT_OFF_MS} WHERE state=0 AND next_ms<{{now}}+{}",
            PUT_OFF_MS / 2
        );
        self.run_ddl(&text(self, &sql).0).await
    }
}
