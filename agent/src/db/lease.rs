//! The lease rows: the master's and one per shard. Every write is one statement, or one transaction in one process (SQLite).
//! Holds no opinion about who should own what: `wa_core::master` does.

use std::sync::Arc;
use std::time::Duration;

use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Ownership, ShardId, Term};
use wa_core::master::{Handover, Outcome, Regroup, Snapshot};
use wa_core::plausible::LEAP_MAX;
use wa_core::roll::Roll;
use wa_core::shard_map::{MasterRow, ShardRow};

use super::connection::{self, Connection, Holder, Opened, Opener, Opening, on_connection};
use super::deciding_read::{self, server_sql};
use super::domain::Domain;
use super::known_server::{self, KnownServer};
use super::lease_row::{COLUMNS, LeaseRow, previous_text, rows_to_map};
use super::lease_rows::{insert_shard, master_touch, shard_name};
use super::write::{Write, count_rows, run_mysql, run_mysql_packet, run_sqlite};
use super::{Db, DbError, on_pool};
use crate::config::DatabaseSettings;
use crate::sys::clock;
use crate::sys::trouble::Trouble;

/// So many in a row of a cluster's node, and another node is asked: about as long as a lease lives, by renewals.
const BUSY_MAX: u32 = 3;

const KNOWN_SERVER: &str = "SELECT value FROM setting WHERE name='database_server'";

impl Db {
    /// Makes the frozen tables and the master's row, if they are not there. Any node may call it, all at once.
    ///
    /// # Errors
    /// When the database does not answer or refuses.
    pub async fn ensure_lease_table(&self) -> Result<(), DbError> {
        for sql in super::migrate::lease_tables(self) {
            self.run_ddl(&sql).await?;
        }
        let sql = super::text(
            self,
            "INSERT {ignore} INTO lease (name, shard, owner, inc_counter, inc_random, token, grant_id, nonce, ttl_ms, \
             phase, generation, epoch_high, shard_count, touch, previous) \
             VALUES ('master', -1, '', 0, 0, 0, 0, 0, 0, 'free', 0, 0, 0, 0, '[]')",
        );
        on_pool!(self, pool => sqlx::query(sql).execute(pool).await.map(|_| ())?);
        Ok(())
    }

    /// The shard map, for those who only look: webapps and `status`.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn shard_map(&self) -> Result<(MasterRow, Vec<ShardRow>), DbError> {
        let sql = sqlx::AssertSqlSafe(format!("SELECT {COLUMNS} FROM lease"));
        let rows =
            on_pool!(self, pool => sqlx::query_as::<_, LeaseRow>(sql).fetch_all(pool).await?);
        rows_to_map(rows)
    }
}

/// A connection of its own for lease work. A statement that exceeds the deadline drops it: its outcome is `Unknown`.
pub struct LeaseConnection {
    settings: DatabaseSettings,
    deadline: Duration,
    connection: Option<Connection>,
    /// The next connection, opened in advance: a frozen server path costs one deadline, not a connect as well.
    opening: Opening<Opened>,
    opener: Opener,
    /// Grows with every new connection: part of the identity (rule 5.5).
    opened: u64,
    /// Of the connection's server.
    domain: Domain,
    /// Statements in a row that came to nothing because something was in their way.
    busy_in_a_row: u32,
    /// What the last deciding read said: see [`Domain::lineage`].
    lineage: String,
    /// The connection and the server that the last deciding read came from.
    read_on: Option<(u64, String)>,
    own: Holder,
    /// The holder of the master lease, as the last read showed it.
    master_seen: Option<Holder>,
    /// Whom the last step replaces: what they have locked may be in its way.
    rivals: Vec<Holder>,
    /// Whether the database takes writes, for whoever judges.
    writes: Arc<Trouble>,
    /// Who is still a member.
    roll: Roll,
}

impl LeaseConnection {
    /// Connects at the first use. `deadline` bounds every statement: ttl/4 (rule 5.8).
    pub fn new(
        settings: DatabaseSettings,
        deadline: Duration,
        node: NodeId,
        incarnation: Incarnation,
    ) -> Self {
        let own = Holder { node, incarnation };
        Self {
            opener: Opener::new(&settings, deadline, own.clone()),
            settings,
            deadline,
            connection: None,
            opening: Opening::new(),
            opened: 0,
            domain: Domain::Alone,
            busy_in_a_row: 0,
            lineage: String::new(),
            read_on: None,
            own,
            master_seen: None,
            rivals: Vec::new(),
            writes: Arc::default(),
            roll: Roll::default(),
        }
    }

    /// Says there whether its writes work.
    #[must_use]
    pub fn telling(mut self, writes: Arc<Trouble>) -> Self {
        self.writes = writes;
        self
    }

    /// Grows when the connection is new, which may mean another server (rule 5.5). One file is one server: always 0.
    pub fn opened(&self) -> u64 {
        if self.embedded() { 0 } else { self.opened }
    }

    /// Names the history of commits that the last deciding read showed: another one may lack some of them.
    pub fn lineage(&self) -> &str {
        &self.lineage
    }

    fn embedded(&self) -> bool {
        let mut urls = self.settings.urls.iter();
        urls.all(|url| url.starts_with("sqlite:"))
    }

    /// Opens it again if it was dropped; after a failure it ends only after a while. Can be cut short at any time.
    pub async fn reopen(&mut self) {
        if self.open().await.is_err() {
            clock::sleep(self.deadline).await;
        }
    }

    /// There is a connection, as far as anybody knows.
    pub fn is_open(&self) -> bool {
        self.connection.is_some()
    }

    /// A deadline ends the waiting, not the opening.
    async fn open(&mut self) -> Result<&mut Connection, DbError> {
        if self.connection.is_none() {
            let opener = &self.opener;
            let (connection, domain) = self.opening.ready(|| opener.open()).await?;
            self.opened += 1;
            if matches!(connection, Connection::MySql(_)) {
                self.opening.in_advance(opener.open());
            }
            self.connection = Some(connection);
            self.domain = domain;
        }
        Ok(self.connection.as_mut().expect("opened above"))
    }

    /// One deciding read: identity and rows in one round trip, then the nodes on the same connection.
    ///
    /// # Errors
    /// When no server answers in time, or it is read-only. The connection is dropped then.
    pub async fn snapshot(&mut self) -> Result<Snapshot, DbError> {
        let deadline = self.deadline * 4;
        let read = tokio::time::timeout(deadline, self.snapshot_inner()).await;
        match read {
            Ok(Ok(snapshot)) => Ok(snapshot),
            Ok(Err(error)) => {
                self.failed(&error);
                Err(error)
            }
            Err(_) => {
                self.connection = None;
                Err(DbError::Deadline(deadline))
            }
        }
    }

    /// Drops the connection unless the server has said that it merely was busy.
    fn failed(&mut self, error: &DbError) {
        let merely_busy = matches!(error, DbError::Conflict)
            || matches!(error, DbError::Sqlx(error) if super::is_busy(error));
        // A Galera node that has lost its cluster says of a statement that waits for the others what a locked row says.
        self.busy_in_a_row = if merely_busy {
            self.busy_in_a_row.saturating_add(1)
        } else {
            0
        };
        let perhaps_alone = self.domain != Domain::Alone && self.busy_in_a_row >= BUSY_MAX;
        if !merely_busy || perhaps_alone {
            self.connection = None;
            self.busy_in_a_row = 0;
        }
    }

    async fn snapshot_inner(&mut self) -> Result<Snapshot, DbError> {
        self.open().await?;
        let opened = self.opened;
        let connection = self.connection.as_mut().expect("opened above");
        let said = deciding_read::ask(connection, &self.domain, &self.settings.urls).await?;
        self.lineage = said.lineage;
        self.read_on = Some((opened, said.server.clone()));
        let (master, shards) = rows_to_map(said.rows)?;
        self.master_seen = master.holder.clone().map(|node| Holder {
            node,
            incarnation: master.incarnation,
        });
        // The node table comes with the migrations: before them there is nobody to promote.
        let roll = &mut self.roll;
        let nodes = match on_connection!(connection, c => super::node::core_rows(c, roll).await) {
            Ok(nodes) => nodes,
            Err(error) if super::is_missing_table(&error) => Vec::new(),
            Err(error) => return Err(error.into()),
        };
        let known = known_on(connection).await?;
        // A file has nobody who could take over from it.
        let grouped = self.domain != Domain::Alone || matches!(connection, Connection::Sqlite(_));
        let name = format!("{}/{}", self.lineage, said.schema);
        // One file is one server, however often it is opened.
        let opened = match connection {
            Connection::MySql(_) => opened,
            Connection::Sqlite(_) => 0,
        };
        Ok(Snapshot {
            identity: known_server::identity(&said.server, opened),
            made: said.made,
            server: known_server::of(self.settings.replication, &name, grouped, known),
            master,
            shards,
            nodes,
        })
    }

    /// Runs one conditional write: rows changed = `Held`, none = `Lost`, no answer in time = `Unknown`.
    async fn write(&mut self, sqlite: &[Write], mysql: Write) -> Outcome {
        let done = tokio::time::timeout(self.deadline, async {
            match self.open().await? {
                Connection::MySql(c) => run_mysql(c, &mysql).await,
                Connection::Sqlite(c) => run_sqlite(c, sqlite).await,
            }
        })
        .await;
        self.outcome(done)
    }

    /// As `write`, for a step that was decided on what was read: only on the connection, and (behind a proxy that hides a
    /// failover) only on the server, from which it was read. Elsewhere rows may be older: `Lost` makes the core read
    /// again, see another identity, and wait (rule 5.5).
    async fn write_where_read(
        &mut self,
        sqlite: &[Write],
        mysql: Write,
        written: Write,
    ) -> Outcome {
        let Some(server) = self.server_read() else {
            return Outcome::Lost;
        };
        self.write_or_adopt(sqlite, mysql.text(&server), written)
            .await
    }

    /// The server of the last deciding read, if the connection is still the same one.
    fn server_read(&self) -> Option<String> {
        let (opened, server) = self.read_on.as_ref()?;
        let same = match &self.connection {
            Some(Connection::MySql(_)) => *opened == self.opened,
            Some(Connection::Sqlite(_)) => true,
            None => self.embedded(),
        };
        same.then(|| server.clone())
    }

    fn outcome(
        &mut self,
        done: Result<Result<bool, DbError>, tokio::time::error::Elapsed>,
    ) -> Outcome {
        match done {
            Ok(Ok(changed)) => {
                self.busy_in_a_row = 0;
                if changed {
                    self.writes.over();
                    Outcome::Held
                } else {
                    Outcome::Lost
                }
            }
            Ok(Err(error)) => {
                tracing::debug!(error = %error.brief(), "lease statement failed; outcome unknown");
                self.writes.failed(&error.brief());
                self.failed(&error);
                self.end_rivals();
                Outcome::Unknown
            }
            Err(_) => {
                let within = self.deadline;
                self.writes.failed(&format!("no answer within {within:?}"));
                self.connection = None;
                self.end_rivals();
                Outcome::Unknown
            }
        }
    }

    /// A step that got no answer may have waited for a lock of somebody who stands still: of those whom it replaces.
    fn end_rivals(&self) {
        if self.rivals.is_empty() || self.embedded() {
            return;
        }
        let (settings, rivals) = (self.settings.clone(), self.rivals.clone());
        let within = self.deadline;
        tokio::spawn(async move {
            if let Err(error) = connection::end_idle(&settings, within, &rivals).await {
                tracing::debug!(error = %error.brief(), "a predecessor's connections cannot be ended");
            }
        });
    }

    /// As `write`; zero rows are read again: a grant that only this call can have written means that an earlier try of it
    /// was carried out (rule 5.4).
    async fn write_or_adopt(&mut self, sqlite: &[Write], mysql: Write, written: Write) -> Outcome {
        let outcome = self.write(sqlite, mysql).await;
        if outcome != Outcome::Lost {
            return outcome;
        }
        let done = tokio::time::timeout(self.deadline, async {
            match self.open().await? {
                Connection::MySql(c) => count_rows(c, &written).await,
                Connection::Sqlite(c) => count_rows(c, &written).await,
            }
        })
        .await;
        self.outcome(done)
    }

    /// Takes the master lease if the row still shows `expect`.
    pub async fn take_master(
        &mut self,
        expect: (Term, Grant, Nonce),
        new: (Term, Grant, Nonce),
        ttl: Duration,
    ) -> Outcome {
        self.rivals = self.master_seen.iter().cloned().collect();
        self.rivals.retain(|rival| *rival != self.own);
        let set = Write::new(
            "UPDATE lease SET owner=?, inc_counter=?, inc_random=?, token=?, grant_id=?, nonce=?, ttl_ms=?, phase='active' \
             WHERE name='master' AND token=? AND grant_id=? AND nonce=?",
        )
        .text(self.own.node.as_str())
        .incarnation(self.own.incarnation)
        .numbers(&[new.0.0, new.1.0, new.2.0, millis(ttl), expect.0.0, expect.1.0, expect.2.0]);
        let written = Write::new(
            "SELECT COUNT(*) FROM lease WHERE name='master' AND token=? AND grant_id=? AND nonce=? AND owner=?",
        )
        .numbers(&[new.0.0, new.1.0, new.2.0])
        .text(self.own.node.as_str());
        self.write_or_adopt(std::slice::from_ref(&set), set.clone(), written)
            .await
    }

    /// Renews the master lease. The condition names the grant and not the former nonce: a try may be repeated.
    pub async fn renew_master(
        &mut self,
        term: Term,
        grant: Grant,
        nonce: Nonce,
        ttl: Duration,
    ) -> Outcome {
        let set = Write::new("UPDATE lease SET nonce=?, ttl_ms=? WHERE name='master' AND token=? AND grant_id=? AND owner<>''")
            .numbers(&[nonce.0, millis(ttl), term.0, grant.0]);
        self.write(std::slice::from_ref(&set), set.clone()).await
    }

    /// Gives the master lease back.
    pub async fn give_back_master(&mut self, term: Term, grant: Grant) -> Outcome {
        let set = Write::new("UPDATE lease SET owner='', phase='free' WHERE name='master' AND token=? AND grant_id=?")
            .numbers(&[term.0, grant.0]);
        self.write(std::slice::from_ref(&set), set.clone()).await
    }

    /// Inserts the rows of a new cluster, under the term.
    pub async fn insert_shards(&mut self, term: Term, term_grant: Grant, count: u16) -> Outcome {
        let t = (term, term_grant);
        let mut writes = vec![
            master_touch(term, term_grant),
            Write::new("UPDATE lease SET shard_count=?, generation=1 WHERE name='master' AND token=? AND grant_id=?")
                .numbers(&[u64::from(count), term.0, term_grant.0]),
        ];
        for shard in 0..count {
            writes.extend(insert_shard(shard, "[]", t));
        }
        self.transaction(writes).await
    }

    /// Step 2 of a promotion: successor named, owner appended to `previous`, epoch counter and guard moved along.
    pub async fn handover(&mut self, term: Term, term_grant: Grant, h: &Handover) -> Outcome {
        let (epoch, grant, nonce, phase) = (h.expect.0, h.expect.1, h.expect.2, h.expect.3);
        let replaced = h.previous.iter().map(|p| Holder {
            node: p.owner.clone(),
            incarnation: p.incarnation,
        });
        self.rivals = replaced.collect();
        let previous = previous_text(&h.previous);
        let name = shard_name(h.shard);
        let sqlite = [
            Write::new("UPDATE lease SET touch=touch+1, epoch_high=CASE WHEN epoch_high BETWEEN ? AND ? THEN epoch_high ELSE ? END \
                 WHERE name='master' AND token=? AND grant_id=?")
                .numbers(&[h.epoch.0, counter_max(h.epoch), h.epoch.0, term.0, term_grant.0]),
            Write::new(
                "UPDATE lease SET owner=?, inc_counter=?, inc_random=?, token=?, grant_id=?, nonce=?, ttl_ms=?, \
                 phase='handover', previous=? WHERE name=? AND token=? AND grant_id=? AND nonce=? AND phase=? \
                 AND generation=?",
            )
            .text(h.to.as_str())
            .incarnation(h.to_incarnation)
            .numbers(&[h.epoch.0, h.grant.0, h.nonce.0, millis(h.ttl)])
            .text(&previous)
            .text(&name)
            .numbers(&[epoch.0, grant.0, nonce.0])
            .text(phase.as_str())
            .numbers(&[u64::from(h.generation.0)]),
            Write::new("UPDATE shard_guard SET epoch=?, grant_id=? WHERE shard=?")
                .numbers(&[h.epoch.0, h.grant.0, u64::from(h.shard.0)]),
        ];
        let mysql = Write::new(concat!(
            "UPDATE lease s JOIN lease m ON m.name='master' JOIN shard_guard g ON g.shard=s.shard \
             SET s.owner=?, s.inc_counter=?, s.inc_random=?, s.token=?, s.grant_id=?, s.nonce=?, s.ttl_ms=?, \
             s.phase='handover', s.previous=?, m.touch=m.touch+1, \
             m.epoch_high=CASE WHEN m.epoch_high BETWEEN ? AND ? THEN m.epoch_high ELSE ? END, g.epoch=?, g.grant_id=? \
             WHERE s.name=? AND s.token=? AND s.grant_id=? AND s.nonce=? AND s.phase=? AND s.generation=? \
             AND m.token=? AND m.grant_id=? AND ",
            server_sql!(),
            "=?"
        ))
        .text(h.to.as_str())
        .incarnation(h.to_incarnation)
        .numbers(&[h.epoch.0, h.grant.0, h.nonce.0, millis(h.ttl)])
        .text(&previous)
        .numbers(&[h.epoch.0, counter_max(h.epoch), h.epoch.0, h.epoch.0, h.grant.0])
        .text(&name)
        .numbers(&[epoch.0, grant.0, nonce.0])
        .text(phase.as_str())
        .numbers(&[u64::from(h.generation.0), term.0, term_grant.0]);
        let written =
            Write::new("SELECT COUNT(*) FROM lease WHERE name=? AND token=? AND grant_id=?")
                .text(&name)
                .numbers(&[h.epoch.0, h.grant.0]);
        self.write_where_read(&sqlite, mysql, written).await
    }

    /// Step 4: the successor may act; nobody before it is left.
    pub async fn activate(
        &mut self,
        term: Term,
        term_grant: Grant,
        shard: ShardId,
        epoch: Epoch,
        grant: Grant,
    ) -> Outcome {
        let name = shard_name(shard);
        let sqlite = [
            master_touch(term, term_grant),
            Write::new(
                "UPDATE lease SET phase='active', previous='[]' WHERE name=? AND token=? AND grant_id=? AND phase='handover'",
            )
            .text(&name)
            .numbers(&[epoch.0, grant.0]),
        ];
        let mysql = Write::new(concat!(
            "UPDATE lease s JOIN lease m ON m.name='master' SET s.phase='active', s.previous='[]', m.touch=m.touch+1 \
             WHERE s.name=? AND s.token=? AND s.grant_id=? AND s.phase='handover' AND m.token=? AND m.grant_id=? AND ",
            server_sql!(),
            "=?"
        ))
        .text(&name)
        .numbers(&[epoch.0, grant.0, term.0, term_grant.0]);
        let written = Write::new(
            "SELECT COUNT(*) FROM lease WHERE name=? AND token=? AND grant_id=? AND phase='active'",
        )
        .text(&name)
        .numbers(&[epoch.0, grant.0]);
        self.write_where_read(&sqlite, mysql, written).await
    }

    /// A new number of shards: every row free under the next generation, every old grant in every row's `previous`.
    pub async fn change_shard_count(
        &mut self,
        term: Term,
        term_grant: Grant,
        new: &Regroup,
    ) -> Outcome {
        if self.server_read().is_none() {
            return Outcome::Lost;
        }
        let list = previous_text(&new.previous);
        let (count, high) = (new.count, new.epoch_high.0);
        // On MySQL every statement runs, whatever the first one found: by its mark those that free rows know that it did.
        // (A row more, free and beyond the count, does no harm.) A signed column, and others count it up.
        let mark = crate::sys::state::random_u64() >> 2;
        let next = u64::from(new.seen.0.0) + 1;
        let mut writes = vec![
            Write::new(
                "UPDATE lease SET shard_count=?, generation=generation+1, touch=?, \
                 epoch_high=CASE WHEN epoch_high BETWEEN ? AND ? THEN epoch_high ELSE ? END WHERE name='master' AND token=? AND grant_id=? \
                 AND generation=? AND epoch_high=?",
            )
            .numbers(&[u64::from(count), mark, high, counter_max(new.epoch_high), high, term.0, term_grant.0, next - 1, new.seen.1.0]),
        ];
        for shard in 0..count {
            writes.extend(insert_shard(shard, "[]", (term, term_grant)));
        }
        // Rows are never deleted: one beyond the count is free from now on, and its epochs stay known. Every row gets the
        // list: nobody acts again before all of it is settled, however the count goes on changing.
        writes.push(
            Write::new(concat!(
                "UPDATE lease SET owner='', phase='free', generation=?, previous=? WHERE name<>'master' AND ",
                under_mark!()
            ))
            .numbers(&[next])
            .text(&list)
            .numbers(&[term.0, term_grant.0, mark])
            .optional(),
        );
        writes.push(
            Write::new(concat!(
                "UPDATE shard_guard SET grant_id=0, touch=touch+1 WHERE ",
                under_mark!()
            ))
            .numbers(&[term.0, term_grant.0, mark])
            .optional(),
        );
        self.transaction(writes).await
    }

    /// Writes that the rows are complete on the server of the last deciding read, which must still be this one.
    pub async fn know_server(&mut self, term: Term, term_grant: Grant, id: u64) -> Outcome {
        if self.server_read().is_none() {
            return Outcome::Lost;
        }
        // A number alone tells people nothing.
        let name = self.lineage.clone();
        let known = KnownServer { server: id, name };
        let mut writes = vec![master_touch(term, term_grant)];
        writes.extend(known_server::known_writes(&known, term, term_grant));
        self.transaction(writes).await
    }

    /// The owner renews its own tenure: only in phase active, only under its own name.
    pub async fn renew_shard(&mut self, own: &Ownership, nonce: Nonce, ttl: Duration) -> Outcome {
        let set = Write::new(
            "UPDATE lease SET nonce=?, ttl_ms=? WHERE name=? AND token=? AND grant_id=? AND owner=? AND inc_counter=? \
             AND inc_random=? AND phase='active'",
        )
        .numbers(&[nonce.0, millis(ttl)])
        .text(&shard_name(own.shard))
        .numbers(&[own.epoch.0, own.grant.0])
        .text(own.owner.as_str())
        .incarnation(own.incarnation);
        self.write(std::slice::from_ref(&set), set.clone()).await
    }

    /// The owner gives its shard back; its gate is shut already.
    pub async fn release_shard(&mut self, own: &Ownership) -> Outcome {
        let name = shard_name(own.shard);
        let sqlite = [
            Write::new("UPDATE lease SET owner='', phase='free' WHERE name=? AND token=? AND grant_id=? AND phase='active'")
                .text(&name)
                .numbers(&[own.epoch.0, own.grant.0]),
            Write::new("UPDATE shard_guard SET grant_id=0 WHERE shard=? AND epoch=? AND grant_id=?")
                .numbers(&[u64::from(own.shard.0), own.epoch.0, own.grant.0]),
        ];
        let mysql = Write::new(
            "UPDATE lease s JOIN shard_guard g ON g.shard=s.shard SET s.owner='', s.phase='free', g.grant_id=0 \
             WHERE s.name=? AND s.token=? AND s.grant_id=? AND s.phase='active'",
        )
        .text(&name)
        .numbers(&[own.epoch.0, own.grant.0]);
        self.write(&sqlite, mysql).await
    }

    /// Rare changes of several rows: one short transaction whose first write checks the term.
    async fn transaction(&mut self, writes: Vec<Write>) -> Outcome {
        let done = tokio::time::timeout(self.deadline, async {
            match self.open().await? {
                Connection::MySql(c) => run_mysql_packet(c, &writes).await,
                Connection::Sqlite(c) => run_sqlite(c, &writes).await,
            }
        })
        .await;
        self.outcome(done)
    }
}

/// The server on which the rows are known to be complete; 0 while the migrations have not come so far.
async fn known_on(connection: &mut Connection) -> Result<u64, DbError> {
    match on_connection!(connection, c => sqlx::query_as::<_, (String,)>(KNOWN_SERVER).fetch_optional(c).await)
    {
        Ok(row) => Ok(row.map_or(0, |(text,)| KnownServer::parse(&text).server)),
        Err(error) if super::is_missing_table(&error) => Ok(0),
        Err(error) => Err(error.into()),
    }
}

/// A counter beyond this cannot be true beside this epoch: it is not gone on from.
fn counter_max(epoch: Epoch) -> u64 {
    epoch.0.saturating_add(LEAP_MAX)
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// Term and mark of one transaction, in statements that cannot join the row which they would check. The LIMIT makes MySQL read the
/// row into a table of its own, which it demands where the same table is written.
macro_rules! under_mark {
    () => {
        "EXISTS (SELECT 1 FROM (SELECT token, grant_id, touch FROM lease WHERE name='master' LIMIT 1) m \
         WHERE m.token=? AND m.grant_id=? AND m.touch=?)"
    };
}
use under_mark;
