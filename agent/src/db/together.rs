//! What a batch of events does to rows, put into few statements: each one of a packet costs the server, and whoever reads its
//! answer, as much again. Knows no guard: `guard.rs` adds it.

use std::collections::{BTreeMap, HashMap};

use wa_core::message::MessageState;

use super::Db;

/// Rows in one statement.
const ROWS_MAX: usize = 64;

/// Longest key of an event that is stored as it is.
const KEY_LEN_MAX: usize = 190;

/// The key as the rows hold it: a longer one is stored as its hash, so that two of them never merge.
pub(super) fn stored_key(key: &str) -> String {
    use sha2::Digest as _;
    if key.len() <= KEY_LEN_MAX {
        key.to_owned()
    } else {
        format!("sha256:{}", hex::encode(sha2::Sha256::digest(key)))
    }
}

/// What a status does to the row of its message.
struct Move {
    id: String,
    state: MessageState,
    wamid: Option<String>,
    told: Option<String>,
}

/// Statements that are made, and what is gathered for the next ones. The values of both are quoted.
pub(super) struct Together<'a> {
    db: &'a Db,
    statements: Vec<String>,
    /// Key, hash of the recipient, payload.
    webhooks: Vec<(String, u32, String)>,
    moves: Vec<Move>,
    /// Keys of events by what is written into their rows.
    events: BTreeMap<String, Vec<String>>,
}

/// The condition under which a message's row moves to this state ([`MessageState::after`]): what arrived is no failure.
fn moves_to(state: MessageState) -> String {
    match state {
        MessageState::Failed => "state<4".to_owned(),
        MessageState::Delivered | MessageState::Read => {
            format!("(state<{} OR state=6)", state as u8)
        }
        MessageState::Queued
        | MessageState::Sending
        | MessageState::Ambiguous
        | MessageState::Sent => format!("state<{}", state as u8),
    }
}

impl<'a> Together<'a> {
    pub(super) fn new(db: &'a Db) -> Self {
        Self {
            db,
            statements: Vec::new(),
            webhooks: Vec::new(),
            moves: Vec::new(),
            events: BTreeMap::new(),
        }
    }

    /// A statement that looks at what those before it did, and that those after it build upon.
    pub(super) fn statement(&mut self, statement: String) {
        self.write();
        self.statements.push(statement);
    }

    /// A webhook, behind those that were added before.
    pub(super) fn webhook(&mut self, key: &str, recipient_hash: u32, payload: &str) {
        let key = self.db.quote(&stored_key(key));
        let payload = self.db.quote(payload);
        self.webhooks.push((key, recipient_hash, payload));
    }

    /// A message of ours was heard of, after what was heard of it before.
    pub(super) fn heard(
        &mut self,
        id: &str,
        state: MessageState,
        wamid: Option<&str>,
        told: Option<&str>,
    ) {
        self.moves.push(Move {
            id: self.db.quote(id),
            state,
            wamid: wamid.map(|wamid| self.db.quote(wamid)),
            told: told.map(|told| self.db.quote(told)),
        });
    }

    /// An event is done with: `what` goes into its row.
    pub(super) fn event(&mut self, key: &str, what: &str) {
        let key = self.db.quote(&stored_key(key));
        self.events.entry(what.to_owned()).or_default().push(key);
    }

    /// All statements, in order.
    pub(super) fn finish(mut self) -> Vec<String> {
        self.write();
        for (what, keys) in &self.events {
            for some in keys.chunks(ROWS_MAX) {
                let keys = some.join(",");
                self.statements.push(format!(
                    "UPDATE inbox SET {what} WHERE event_key IN ({keys})"
                ));
            }
        }
        self.statements
    }

    fn write(&mut self) {
        let webhooks = std::mem::take(&mut self.webhooks);
        for some in webhooks.chunks(ROWS_MAX) {
            self.statements.push(self.webhooks_statement(some));
        }
        for round in rounds(std::mem::take(&mut self.moves)) {
            for some in round.chunks(ROWS_MAX) {
                self.statements.push(self.moves_statement(some));
            }
        }
    }

    fn webhooks_statement(&self, some: &[(String, u32, String)]) -> String {
        let now = self.db.now_sql();
        if self.db.embedded() {
            let row = |(key, hash, payload): &(String, u32, String)| {
                format!("({key}, {hash}, {payload}, {now})")
            };
            let rows: Vec<String> = some.iter().map(row).collect();
            return format!(
                "INSERT OR IGNORE INTO webhook (event_key, recipient_hash, payload, next_ms) VALUES {}",
                rows.join(",")
            );
        }
        // Their ids have the order of the list: of equals the lower id is delivered first.
        let row = |(n, (key, hash, payload)): (usize, &(String, u32, String))| {
            format!("SELECT {n} AS n, {key} AS a, {hash} AS b, {payload} AS c")
        };
        let rows: Vec<String> = some.iter().enumerate().map(row).collect();
        format!(
            "INSERT IGNORE INTO webhook (event_key, recipient_hash, payload, next_ms) \
             SELECT v.a, v.b, v.c, {now} FROM ({}) v WHERE {{alive}} ORDER BY v.n",
            rows.join(" UNION ALL ")
        )
    }

    /// All of one state, with the same columns, and no two of one message.
    fn moves_statement(&self, some: &[Move]) -> String {
        let (now, state) = (self.db.now_sql(), some[0].state);
        let (mut wamids, mut tolds, mut ids) = (String::new(), String::new(), Vec::new());
        for Move {
            id, wamid, told, ..
        } in some
        {
            let case =
                |value: &Option<String>| value.as_ref().map(|v| format!(" WHEN {id} THEN {v}"));
            wamids.extend(case(wamid));
            tolds.extend(case(told));
            ids.push(id.as_str());
        }
        let set = |name: &str, cases: &str| match cases.is_empty() {
            true => String::new(),
            false => format!(", {name}=CASE id{cases} ELSE {name} END"),
        };
        let changes = match tolds.is_empty() {
            true => String::new(),
            false => format!(" OR told<>CASE id{tolds} ELSE told END"),
        };
        // MySQL assigns one after the other: what a CASE looks at is assigned after it.
        format!(
            "UPDATE message SET receipt_lag_ms=CASE WHEN receipt=1 THEN {now}-finished_ms ELSE receipt_lag_ms END, \
             finished_ms=CASE WHEN {moves} THEN {now} ELSE finished_ms END{wamid}{told}, receipt=2, \
             state=CASE WHEN {moves} THEN {n} ELSE state END WHERE id IN ({ids}) AND ({moves} OR receipt<2{changes})",
            n = state as u8,
            moves = moves_to(state),
            wamid = set("wamid", &wamids),
            told = set("told", &tolds),
            ids = ids.join(","),
        )
    }
}

/// What may go into one statement: the first moves of all messages, then the second ones, each by state.
fn rounds(moves: Vec<Move>) -> Vec<Vec<Move>> {
    let mut seen: HashMap<String, usize> = HashMap::new();
    let mut rounds: BTreeMap<(usize, u8), Vec<Move>> = BTreeMap::new();
    for one in moves {
        let nth = seen.entry(one.id.clone()).or_default();
        let round = (*nth, one.state as u8);
        *nth += 1;
        rounds.entry(round).or_default().push(one);
    }
    rounds.into_values().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(id: &str, state: MessageState) -> Move {
        Move {
            id: id.into(),
            state,
            wamid: None,
            told: None,
        }
    }

    /// Goal: what is heard of one message is written in the order in which it was heard, whatever is heard of others. Method:
    /// three messages, one that fails and arrives after all.
    #[test]
    fn moves_of_one_message_keep_their_order() {
        use MessageState::{Delivered, Failed, Read, Sent};
        let heard = [
            ("a", Sent),
            ("b", Failed),
            ("a", Delivered),
            ("c", Sent),
            ("b", Read),
            ("a", Read),
        ];
        let moves = heard.map(|(id, state)| one(id, state));
        let found: Vec<Vec<(String, u8)>> = rounds(moves.into())
            .into_iter()
            .map(|round| {
                let all = round.into_iter();
                all.map(|one| (one.id, one.state as u8)).collect()
            })
            .collect();
        let states = |state: MessageState, ids: &[&str]| -> Vec<(String, u8)> {
            let all = ids.iter();
            all.map(|id| ((*id).to_owned(), state as u8)).collect()
        };
        let wanted = [
            states(Sent, &["a", "c"]),
            states(Failed, &["b"]),
            states(Delivered, &["a"]),
            states(Read, &["b"]),
            states(Read, &["a"]),
        ];
        assert_eq!(found, wanted);
    }
}
