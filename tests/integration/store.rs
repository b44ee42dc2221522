//! What the store suite stands on: one empty database for each test, on every kind of server that is to be had.
//! Tests nothing itself.

use std::str::FromStr as _;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use sqlx::Connection as _;
use wa_agent::config::DatabaseSettings;
use wa_agent::db::Db;
use wa_agent::db::lease::LeaseConnection;
use wa_agent::db::message::NewMessage;
use wa_core::delivery::{Results, Row};
use wa_core::id::{Epoch, Grant, Incarnation, NodeId, Nonce, Ownership, ShardId, Term};
use wa_core::master::{Handover, Outcome, Regroup};
use wa_core::shard_map::{Phase, Previous};

use crate::mariadb::Server;
use crate::{galera, mysql};

/// Runs each of the named functions on SQLite, on MariaDB, on MySQL and on a Galera cluster.
macro_rules! on_every_store {
    ($($name:ident),* $(,)?) => {
        /// The same tests as plain functions, on the embedded store.
        #[cfg(feature = "mutants")]
        #[allow(dead_code)] // Only some of the suites are run against mutants.
        pub fn on_sqlite() -> Vec<(&'static str, fn())> {
            vec![$((stringify!($name), || {
                let runtime = tokio::runtime::Runtime::new().expect("a runtime");
                runtime.block_on(async { $name(&$crate::store::Store::sqlite().await).await });
            })),*]
        }

        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                super::$name(&$crate::store::Store::sqlite().await).await;
            })*
        }
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(store) = $crate::store::Store::mariadb(stringify!($name)).await {
                    super::$name(&store).await;
                }
            })*
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(store) = $crate::store::Store::mysql(stringify!($name)).await {
                    super::$name(&store).await;
                }
            })*
        }
        mod galera {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(store) = $crate::store::Store::galera(stringify!($name)).await {
                    super::$name(&store).await;
                }
            })*
        }
    };
}
pub(crate) use on_every_store;

/// Runs each of the named functions on MariaDB and on MySQL.
macro_rules! on_servers {
    ($($name:ident),*) => {
        mod mariadb {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(store) = crate::store::Store::mariadb(stringify!($name)).await {
                    super::$name(&store).await;
                }
            })*
        }
        mod mysql {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                if let Some(store) = crate::store::Store::mysql(stringify!($name)).await {
                    super::$name(&store).await;
                }
            })*
        }
    };
}
pub(crate) use on_servers;

/// One empty database.
pub struct Store {
    pub db: Db,
    pub settings: DatabaseSettings,
    _directory: Option<tempfile::TempDir>,
    /// Nobody breaks the shared servers meanwhile.
    _turn: Option<tokio::sync::RwLockReadGuard<'static, ()>>,
}

pub fn settings(urls: Vec<String>) -> DatabaseSettings {
    DatabaseSettings {
        urls,
        logins: Default::default(),
        replication: wa_agent::config::Replication::Auto,
        ssl_ca: None,
        ssl_cert: None,
        ssl_key: None,
        connect_timeout: Duration::from_secs(10),
        busy_timeout: Duration::from_secs(10),
    }
}

/// The server that all tests of this process share, or why there is none. Its defaults are as far from ours as they can be
/// (F01): every statement of ours runs in spite of them.
fn shared() -> &'static Result<Server, String> {
    static SERVER: OnceLock<Result<Server, String>> = OnceLock::new();
    SERVER.get_or_init(Server::hostile)
}

fn shared_mysql() -> &'static Result<mysql::Server, String> {
    static SERVER: OnceLock<Result<mysql::Server, String>> = OnceLock::new();
    SERVER.get_or_init(mysql::Server::hostile)
}

/// A connection that stands for a person with a client: the driver's own settings fail on a server that is hostile enough. Without its
/// checks such a server answers a long insert into an empty table with success, and keeps none of its rows (see `db/session.rs`).
pub async fn by_hand(url: &str) -> sqlx::MySqlConnection {
    let options = sqlx::mysql::MySqlConnectOptions::from_str(url).expect("a URL");
    let options = options
        .set_names(false)
        .timezone(None)
        .pipes_as_concat(false)
        .no_engine_substitution(false);
    let mut connection = sqlx::MySqlConnection::connect_with(&options)
        .await
        .expect("the server answers");
    let calm = "SET SESSION completion_type=0, SESSION autocommit=1, SESSION sql_mode='', \
                SESSION sql_select_limit=18446744073709551615, SESSION max_join_size=18446744073709551615, \
                SESSION sql_big_selects=1, SESSION unique_checks=1, SESSION foreign_key_checks=1 \
                /*M!, SESSION max_statement_time=0 */, SESSION character_set_client='utf8mb4', SESSION character_set_connection='utf8mb4', \
                SESSION character_set_results='utf8mb4'; SET SESSION TRANSACTION READ WRITE";
    sqlx::raw_sql(calm)
        .execute(&mut connection)
        .await
        .expect("settings of a session");
    connection
}

/// Makes an empty database on a server and returns its URL. `base` ends with the slash before the database's name.
pub async fn create_database(base: &str) -> String {
    static COUNT: AtomicU32 = AtomicU32::new(0);
    let name = format!(
        "wa_{}_{}",
        std::process::id(),
        COUNT.fetch_add(1, Ordering::Relaxed)
    );
    let mut connection = by_hand(&format!("{base}mysql")).await;
    sqlx::raw_sql(sqlx::AssertSqlSafe(format!("CREATE DATABASE {name}")))
        .execute(&mut connection)
        .await
        .expect("a database can be made");
    format!("{base}{name}")
}

impl Store {
    pub async fn open(settings: DatabaseSettings) -> Self {
        let db = Db::connect(&settings, 8).await.expect("the store opens");
        Self {
            db,
            settings,
            _directory: None,
            _turn: None,
        }
    }

    pub async fn sqlite() -> Self {
        let directory = tempfile::tempdir().expect("a directory");
        let url = format!("sqlite://{}/wa.db", directory.path().display());
        let mut store = Self::open(settings(vec![url])).await;
        store._directory = Some(directory);
        store
    }

    pub async fn mariadb(test: &str) -> Option<Self> {
        match tokio::task::spawn_blocking(shared).await.expect("no panic") {
            Ok(server) => {
                let url = create_database(&server.url("")).await;
                Some(Self::open(settings(vec![url])).await)
            }
            Err(why) => {
                crate::skipped(&format!("{test} on MariaDB"), why);
                None
            }
        }
    }

    /// A real MySQL is used where the environment names one.
    pub async fn mysql(test: &str) -> Option<Self> {
        let base = match std::env::var("WA_TEST_MYSQL_URL") {
            Ok(base) => Ok(base),
            Err(_) => tokio::task::spawn_blocking(shared_mysql)
                .await
                .expect("no panic")
                .as_ref()
                .map(mysql::Server::base),
        };
        match base {
            Ok(base) => {
                let url = create_database(&base).await;
                Some(Self::open(settings(vec![url])).await)
            }
            Err(why) => {
                crate::skipped(&format!("{test} on MySQL"), why);
                None
            }
        }
    }

    /// On three nodes, the second of them first: the others must follow it.
    pub async fn galera(test: &str) -> Option<Self> {
        let turn = galera::TURN.read().await;
        match tokio::task::spawn_blocking(galera::shared)
            .await
            .expect("no panic")
        {
            Ok(galera) => {
                let url = create_database(&galera.url(1, "")).await;
                let name = url.rsplit_once('/').expect("a database").1;
                let urls = [1, 0, 2].map(|node| galera.url(node, name));
                let mut store = Self::open(settings(urls.to_vec())).await;
                store._turn = Some(turn);
                Some(store)
            }
            Err(why) => {
                crate::skipped(&format!("{test} on Galera"), why);
                None
            }
        }
    }

    /// A statement that somebody types by hand.
    pub async fn run(&self, sql: &str) {
        use sqlx::Connection as _;
        let sql = sqlx::AssertSqlSafe(sql.to_owned());
        let url = &self.settings.urls[0];
        if url.starts_with("sqlite:") {
            let mut c = sqlx::SqliteConnection::connect(url).await.expect("open");
            sqlx::raw_sql(sql).execute(&mut c).await.expect("done");
        } else {
            let mut c = by_hand(url).await;
            let free = sqlx::raw_sql("SET SESSION sql_safe_updates=0");
            free.execute(&mut c)
                .await
                .expect("every row may be changed");
            sqlx::raw_sql(sql).execute(&mut c).await.expect("done");
        }
    }

    /// A lease connection of one node with a deadline that no healthy server misses.
    pub fn lease(&self, node: &str) -> LeaseConnection {
        self.lease_within(node, Duration::from_secs(5))
    }

    pub fn lease_within(&self, node: &str, deadline: Duration) -> LeaseConnection {
        let incarnation = Incarnation {
            counter: 1,
            random: 7,
        };
        LeaseConnection::new(
            self.settings.clone(),
            deadline,
            NodeId::new(node),
            incarnation,
        )
    }

    /// A current schema, a primary master of term 1, and `count` free shards.
    pub async fn cluster(&self, count: u16) -> Primary {
        self.db.ensure_lease_table().await.expect("lease tables");
        let mut c = self.lease("m1:master-1");
        let took = c
            .take_master(
                (Term(0), Grant(0), Nonce(0)),
                (Term(1), Grant(11), Nonce(1)),
                Duration::from_secs(3),
            )
            .await;
        assert_eq!(took, Outcome::Held);
        self.db.migrate().await.expect("migrations");
        assert_eq!(
            c.insert_shards(Term(1), Grant(11), count).await,
            Outcome::Held
        );
        Primary {
            c,
            term: Term(1),
            grant: Grant(11),
        }
    }
}

/// A primary master's hand on the store.
pub struct Primary {
    pub c: LeaseConnection,
    pub term: Term,
    pub grant: Grant,
}

impl Primary {
    /// A change to `count` shards, as it is decided on the rows as they are now.
    pub async fn regroup(&mut self, count: u16, previous: &[Previous]) -> Regroup {
        let master = self.c.snapshot().await.expect("a snapshot").master;
        Regroup {
            count,
            seen: (master.generation, master.epoch_high),
            previous: previous.to_vec(),
            epoch_high: Epoch(0),
        }
    }

    /// Names `to` the shard's owner, whatever the row shows now, without activating it.
    pub async fn hand_over(&mut self, shard: u16, to: &str, epoch: u64) -> Ownership {
        let snapshot = self.c.snapshot().await.expect("a snapshot");
        let row = &snapshot.shards[usize::from(shard)];
        let own = ownership(shard, to, epoch);
        let handover = Handover {
            shard: ShardId(shard),
            expect: (row.epoch, row.grant, row.nonce, row.phase),
            to: own.owner.clone(),
            to_incarnation: own.incarnation,
            epoch: own.epoch,
            grant: own.grant,
            ttl: Duration::from_secs(3),
            nonce: Nonce(epoch + 500),
            previous: Vec::new(),
            generation: row.generation,
        };
        assert_eq!(
            self.c.handover(self.term, self.grant, &handover).await,
            Outcome::Held
        );
        own
    }

    /// The same, and the owner may act.
    pub async fn promote(&mut self, shard: u16, to: &str, epoch: u64) -> Ownership {
        let own = self.hand_over(shard, to, epoch).await;
        let active = self
            .c
            .activate(self.term, self.grant, own.shard, own.epoch, own.grant)
            .await;
        assert_eq!(active, Outcome::Held);
        own
    }

    pub async fn phase(&mut self, shard: u16) -> Phase {
        self.c.snapshot().await.expect("a snapshot").shards[usize::from(shard)].phase
    }
}

pub fn ownership(shard: u16, owner: &str, epoch: u64) -> Ownership {
    Ownership {
        shard: ShardId(shard),
        epoch: Epoch(epoch),
        grant: Grant(epoch + 1000),
        owner: NodeId::new(owner),
        incarnation: Incarnation {
            counter: 3,
            random: epoch,
        },
    }
}

pub fn message(id: &str, body: &str) -> NewMessage {
    let hash = body.bytes().fold(u64::MAX, |hash, byte| {
        hash.wrapping_mul(31) ^ u64::from(byte)
    });
    NewMessage {
        id: id.into(),
        recipient: "447700900123".into(),
        recipient_hash: 2,
        kind: "text",
        form: 1,
        payload: body.into(),
        hashes: vec![(1, hash)],
    }
}

/// Waits until `done` answers true; false when it never does within ten seconds.
pub async fn eventually<F: Future<Output = bool>>(mut done: impl FnMut() -> F) -> bool {
    for _ in 0..200 {
        if done().await {
            return true;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    false
}

/// Webhooks of an only shard that no pause holds back, in the order of their ids.
pub async fn due_webhooks(db: &Db, own: &Ownership) -> Vec<Row<String>> {
    let page = db.webhooks_behind(own, 1, 0, (100, 900_000)).await;
    let rows = page.expect("read").rows.into_iter();
    rows.filter(|row| row.wait.is_zero()).collect()
}

/// Results of deliveries: taken, and put off for so many milliseconds.
pub fn results(delivered: &[i64], put_off: &[(i64, u64)]) -> Results {
    Results {
        delivered: delivered.to_vec(),
        put_off: put_off.to_vec(),
        ..Results::default()
    }
}
