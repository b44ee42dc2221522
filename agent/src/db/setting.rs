//! Named settings as JSON documents with versions.
//! Knows nothing of their fields: `api/v1` does.

use wa_core::id::Ownership;

use super::history::Record;
use super::{Db, DbError, number, on_pool, text, unsigned};

/// The row of the application settings.
pub const APPLICATION: &str = "application";

/// The row with the server on which the rows are known to be complete (rule 5.9).
pub const DATABASE_SERVER: &str = "database_server";

/// The row of the rotation of keys that is under way.
pub const KEYS: &str = "keys";

/// The row of the switchovers that are to happen at a time.
pub const PLANNED: &str = "planned";

/// The row of the pauses that operators asked for.
pub const PAUSES: &str = "pauses";

/// The row of the registration of the number.
pub const REGISTRATION: &str = "registration";

/// The row of the media providers.
pub const MEDIA_PROVIDERS: &str = "media-providers";

/// The row of the upstream's switch for identity keys, as it was set last.
pub const IDENTITY_SWITCH: &str = "identity-switch";

/// The row of the certificate that was sent for the public port.
pub const CERTIFICATE_EXTERNAL: &str = "certificate-external";

/// The row of the cluster's own certificate for the public port.
pub const CERTIFICATE_OWN: &str = "certificate-own";

/// The row of the authorities that webhook servers are checked with.
pub const WEBHOOK_CA: &str = "webhooks-ca";

/// Writers that come between reading and writing are rare: more than this is a fault.
const WRITE_ATTEMPTS: u32 = 8;

/// A row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SettingRow {
    pub name: String,
    pub version: u64,
    pub value: String,
}

/// What becomes of a row that was read, and what whoever changes it is told.
#[derive(Debug)]
pub enum Change<V, T> {
    /// It stays as it is.
    Keep(T),
    /// It gets this value, if nobody was quicker.
    Write(V, T),
}

/// A row that nobody reads: whoever examines the database counts it up, to see that it takes writes.
const TRIAL: &str = "trial";

impl Db {
    /// Writes a row that nobody reads, durably, as everything else is written.
    ///
    /// # Errors
    /// When the database takes no writes, or the schema is not there yet.
    pub async fn try_write(&self) -> Result<(), DbError> {
        let (version, _) = self.setting(TRIAL).await?;
        // Somebody else's trial in between is a write as well.
        self.store_setting(TRIAL, version, "{}").await.map(|_| ())
    }

    /// Milliseconds since 1970 by the database's clock: the one clock that all masters share for what people ask.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn now_ms(&self) -> Result<u64, DbError> {
        let sql = text(self, "SELECT {now}");
        let row: (i64,) = on_pool!(self, pool => sqlx::query_as(sql).fetch_one(pool).await?);
        Ok(unsigned(row.0))
    }

    /// Version and value; version 0 with an empty object when it was never written.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn setting(&self, name: &str) -> Result<(u64, String), DbError> {
        let sql = "SELECT version, value FROM setting WHERE name=?";
        let row: Option<(i64, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(name).fetch_optional(pool).await?);
        Ok(row.map_or((0, "{}".into()), |(version, value)| {
            (unsigned(version), value)
        }))
    }

    /// Every row whose value holds these words, which are neither `%` nor `_`, by name.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn settings_with(&self, words: &str) -> Result<Vec<SettingRow>, DbError> {
        let sql = "SELECT name, version, value FROM setting WHERE value LIKE ? ORDER BY name";
        let like = format!("%{words}%");
        let rows: Vec<(String, i64, String)> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(like).fetch_all(pool).await?);
        let row = |(name, version, value)| SettingRow {
            name,
            version: unsigned(version),
            value,
        };
        Ok(rows.into_iter().map(row).collect())
    }

    /// The version alone, for whoever asks often and seldom finds a new one; 0 when the row was never written.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn setting_version(&self, name: &str) -> Result<u64, DbError> {
        let sql = "SELECT version FROM setting WHERE name=?";
        let row: Option<(i64,)> =
            on_pool!(self, pool => sqlx::query_as(sql).bind(name).fetch_optional(pool).await?);
        Ok(row.map_or(0, |(version,)| unsigned(version)))
    }

    /// Reads a row, and writes what `change` makes of its version and value; again if somebody else was quicker. The inner
    /// error is a refusal by `change`: nothing was written.
    ///
    /// # Errors
    /// When the database does not answer; [`DbError::Crowded`] when somebody else is quicker every time.
    pub async fn change_setting<T, R>(
        &self,
        name: &str,
        mut change: impl FnMut(u64, &str) -> Result<Change<String, T>, R>,
    ) -> Result<Result<T, R>, DbError> {
        for _ in 0..WRITE_ATTEMPTS {
            let (version, value) = self.setting(name).await?;
            match change(version, &value) {
                Err(refused) => return Ok(Err(refused)),
                Ok(Change::Keep(told)) => return Ok(Ok(told)),
                Ok(Change::Write(value, told)) => {
                    if self.store_setting(name, version, &value).await? {
                        return Ok(Ok(told));
                    }
                }
            }
        }
        Err(DbError::Crowded(name.to_owned()))
    }

    /// Writes a value if the version is still `expect`. False: somebody else was first; read again.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn store_setting(
        &self,
        name: &str,
        expect: u64,
        value: &str,
    ) -> Result<bool, DbError> {
        let insert = text(
            self,
            "INSERT {ignore} INTO setting (name, version, value) VALUES (?, 0, '{}')",
        );
        let update = "UPDATE setting SET value=?, version=version+1 WHERE name=? AND version=?";
        let rows = on_pool!(self, pool => {
            sqlx::query(insert).bind(name).execute(&mut *pool).await?;
            let done = sqlx::query(update).bind(value).bind(name).bind(number(expect)).execute(pool).await?;
            done.rows_affected()
        });
        Ok(rows > 0)
    }

    /// Writes a value as an owner if the version is still `expect`, and records it in the history with the same commit. False:
    /// another version is there, or the tenure is over; nothing was done.
    ///
    /// # Errors
    /// When the database does not answer: whether it was written is unknown then.
    pub async fn store_setting_owned(
        &self,
        own: &Ownership,
        name: &str,
        (expect, value): (u64, &str),
        record: Option<&Record>,
    ) -> Result<bool, DbError> {
        let (name, value) = (self.quote(name), self.quote(value));
        let mut statements = Vec::new();
        if expect == 0 {
            let (ignore, alive) = match self.embedded() {
                true => ("OR IGNORE", ""),
                false => ("IGNORE", " FROM DUAL WHERE {alive}"),
            };
            statements.push(format!(
                "INSERT {ignore} INTO setting (name, version, value) SELECT {name}, 0, '{{}}'{alive}"
            ));
        }
        let expect = number(expect);
        if let Some(r) = record {
            let alive = match self.embedded() {
                true => "",
                false => " AND {alive}",
            };
            let words = [&r.node, &r.what, &r.subject, &r.reason].map(|word| self.quote(word));
            let [node, what, subject, reason] = words;
            // Before the change: a write that is tried again finds another version, and records nothing.
            statements.push(format!(
                "INSERT INTO history (at_ms, node, shard, what, subject, reason) SELECT {},{node},{},{what},{subject},{reason} \
                 FROM setting WHERE name={name} AND version={expect}{alive}",
                self.now_sql(),
                r.shard
            ));
        }
        statements.push(format!(
            "UPDATE setting SET value={value}, version=version+1 WHERE name={name} AND version={expect}"
        ));
        let counts = self.guarded(own, &statements).await?;
        Ok(counts.is_some_and(|counts| counts.last().is_some_and(|rows| *rows > 0)))
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::config::{DatabaseSettings, Replication};

    async fn store(place: &std::path::Path) -> Db {
        let settings = DatabaseSettings {
            urls: vec![format!("sqlite://{}/wa.db", place.display())],
            logins: Default::default(),
            replication: Replication::Auto,
            ssl_ca: None,
            ssl_cert: None,
            ssl_key: None,
            connect_timeout: Duration::from_secs(5),
            busy_timeout: Duration::from_secs(5),
        };
        let db = Db::connect(&settings, 2).await.expect("connected");
        db.ensure_lease_table().await.expect("made");
        db.migrate().await.expect("made");
        db
    }

    /// Adds one to the number in a row; refuses above three.
    fn add(_: u64, value: &str) -> Result<Change<String, u32>, &'static str> {
        let number: u32 = value.parse().unwrap_or(0);
        match number {
            0..3 => Ok(Change::Write((number + 1).to_string(), number + 1)),
            3 => Ok(Change::Keep(3)),
            _ => Err("too many"),
        }
    }

    /// Goal: of two that change a row at once neither loses its change; a refusal, and a row that stays, write nothing.
    /// Method: two that count one row up, then versions before and after.
    #[tokio::test]
    async fn no_change_of_a_row_is_lost() {
        let place = tempfile::tempdir().expect("a directory");
        let db = store(place.path()).await;
        let (one, two) = tokio::join!(db.change_setting("n", add), db.change_setting("n", add));
        let mut both = [one.expect("stored"), two.expect("stored")];
        both.sort();
        assert_eq!(both, [Ok(1), Ok(2)]);
        for _ in 0..3 {
            assert_eq!(db.change_setting("n", add).await.expect("read"), Ok(3));
        }
        assert_eq!(db.setting("n").await.expect("read"), (3, "3".into()));
        assert!(db.store_setting("n", 3, "9").await.expect("stored"));
        let refused = db.change_setting("n", add).await.expect("read");
        assert_eq!(refused, Err("too many"));
        assert_eq!(db.setting("n").await.expect("read").0, 4);
    }

    fn owner(epoch: u64) -> Ownership {
        Ownership {
            shard: wa_core::id::ShardId(0),
            epoch: wa_core::id::Epoch(epoch),
            grant: wa_core::id::Grant(8),
            owner: wa_core::id::NodeId::new("a:coreapp-1"),
            incarnation: wa_core::id::Incarnation::default(),
        }
    }

    /// Goal: an owner that was replaced changes no row, nor does one that knows an old version; what is changed is recorded with
    /// it, and nothing else is. Method: the guard's row of epoch 7, and owners of epochs 6 and 7.
    #[tokio::test]
    async fn an_owner_writes_a_row_under_its_epoch_and_version() {
        let place = tempfile::tempdir().expect("a directory");
        let db = store(place.path()).await;
        let guard = "INSERT OR REPLACE INTO shard_guard (shard, epoch, grant_id, touch) VALUES (0, 7, 8, 1)";
        let written = async {
            on_pool!(&db, pool => sqlx::query(guard).execute(pool).await.map(|_| ())?);
            Ok::<_, DbError>(())
        };
        written.await.expect("written");
        assert!(db.store_setting("r", 0, "a").await.expect("stored"));
        let record = Record {
            node: "a:coreapp-1".into(),
            what: "registration".into(),
            reason: "Claimed".into(),
            ..Record::default()
        };
        for (epoch, version, done) in [(6, 1, false), (7, 0, false), (7, 1, true), (7, 1, false)] {
            let change = (version, "it's 'b'");
            let own = owner(epoch);
            let stored = db.store_setting_owned(&own, "r", change, Some(&record));
            assert_eq!(stored.await.expect("answered"), done, "{epoch} {version}");
        }
        assert_eq!(db.setting("r").await.expect("read"), (2, "it's 'b'".into()));
        let told = db.decisions(10).await.expect("read");
        assert_eq!(told.len(), 1, "{told:?}");
        assert_eq!(told[0].reason, "Claimed");
    }

    /// Goal: an owner may be the first to write a row, and one that was replaced is not. Method: a row that nobody has written, and
    /// owners of epochs 6 and 7.
    #[tokio::test]
    async fn an_owner_may_be_the_first_to_write_a_row() {
        let place = tempfile::tempdir().expect("a directory");
        let db = store(place.path()).await;
        let guard = "INSERT OR REPLACE INTO shard_guard (shard, epoch, grant_id, touch) VALUES (0, 7, 8, 1)";
        let written = async {
            on_pool!(&db, pool => sqlx::query(guard).execute(pool).await.map(|_| ())?);
            Ok::<_, DbError>(())
        };
        written.await.expect("written");
        for (epoch, done) in [(6, false), (7, true), (7, false)] {
            let own = owner(epoch);
            let stored = db.store_setting_owned(&own, "new", (0, "first"), None);
            assert_eq!(stored.await.expect("answered"), done, "{epoch}");
            let version = u64::from(epoch == 7);
            assert_eq!(db.setting("new").await.expect("read").0, version, "{epoch}");
        }
        assert_eq!(db.setting("new").await.expect("read").1, "first");
    }
}
