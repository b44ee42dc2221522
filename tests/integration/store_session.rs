//! F01. Goal: what is answered is stored, whatever the defaults of the server are. Method: each variable that changes what
//! statements mean alone, by SET GLOBAL and by init_connect, and all of them by a restart under open pools; a connection
//! from before reads what is there. The store suite itself runs on servers that are hostile in everything.

use std::time::Duration;

use wa_agent::config::DatabaseSettings;
use wa_agent::db::inbox::NewEvent;
use wa_agent::db::lease::LeaseConnection;
use wa_agent::db::media::Medium;
use wa_agent::db::user::User;
use wa_agent::db::{Db, DbError};
use wa_core::id::{NodeId, Nonce, Ownership};
use wa_core::master::Outcome;

use crate::mariadb::Server;
use crate::mysql as a_mysql;
use crate::store::{Store, by_hand, create_database, eventually, message, on_servers, settings};
use wa_agent::dev::hostile;

const TTL: Duration = Duration::from_secs(30);
const LEASE_WITHIN: Duration = Duration::from_secs(5);

/// Counts rows as a client with a session of its own sees them.
struct Witness(sqlx::MySqlConnection);

impl Witness {
    async fn new(url: &str) -> Self {
        Self(by_hand(url).await)
    }

    async fn say(&mut self, sql: &str) {
        let done = sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
            .execute(&mut self.0)
            .await;
        done.unwrap_or_else(|error| panic!("{sql}: {error}"));
    }

    async fn count(&mut self, table: &str, column: &str, value: &str) -> i64 {
        let sql = format!("SELECT COUNT(*) FROM {table} WHERE {column}='{value}'");
        let row: (i64,) = sqlx::query_as(sqlx::AssertSqlSafe(sql))
            .fetch_one(&mut self.0)
            .await
            .expect("counted");
        row.0
    }

    /// What [`write`] wrote under this name and is not there.
    async fn missing(&mut self, name: &str) -> Vec<&'static str> {
        let mut missing = Vec::new();
        for (table, column) in [
            ("message", "id"),
            ("inbox", "event_key"),
            ("user_account", "username"),
            ("token", "token_hash"),
            ("setting", "name"),
            ("media", "id"),
        ] {
            if self.count(table, column, name).await != 1 {
                missing.push(table);
            }
        }
        missing
    }
}

/// One write of each kind that is answered 2xx; every answer must be good.
async fn write(db: &Db, own: &Ownership, name: &str) -> Result<(), DbError> {
    let accepted = db
        .accept(own, &[message(name, "it's \\ \"quoted\"")], true)
        .await;
    accepted.map_err(|error| DbError::Value(format!("{error:?}")))?;
    let event = NewEvent {
        key: name.into(),
        recipient_hash: 2,
        payload: "{}".into(),
        state: Default::default(),
    };
    db.store_events(&[event]).await?;
    let user = User {
        username: name.into(),
        password_hash: "x".into(),
        admin: 0,
        must_change: 0,
    };
    db.create_user(&user).await?;
    db.store_token(name, &user, 60_000).await?;
    db.store_setting(name, 0, "{}").await?;
    db.add_medium(&Medium {
        id: name.into(),
        mime: String::new(),
        bytes: 1,
        sha256: "x".into(),
    })
    .await
}

/// The private server of one family, and a schema on it made while it was friendly.
struct Scene {
    store: Store,
    own: Ownership,
    witness: Witness,
}

impl Scene {
    async fn new(url: String) -> Self {
        let witness = Witness::new(&url).await;
        let store = Store::open(settings(vec![url])).await;
        let own = store.cluster(1).await.promote(0, "c1:coreapp-1", 1).await;
        Self {
            store,
            own,
            witness,
        }
    }

    /// What goes wrong with connections that are opened now.
    async fn faults(&mut self, settings: &DatabaseSettings, name: &str, nonce: u64) -> Vec<String> {
        let mut faults = Vec::new();
        let node = (NodeId::new("c1:coreapp-1"), self.own.incarnation);
        let mut lease = LeaseConnection::new(settings.clone(), LEASE_WITHIN, node.0, node.1);
        if lease.renew_shard(&self.own, Nonce(nonce), TTL).await != Outcome::Held {
            faults.push("the lease is not renewed".to_owned());
        }
        match Db::connect(settings, 2).await {
            Err(error) => faults.push(error.brief()),
            Ok(db) => {
                if let Err(error) = write(&db, &self.own, name).await {
                    faults.push(error.brief());
                }
                let at = db.shard_map().await.map(|(_, shards)| shards.len());
                if !matches!(at, Ok(1)) {
                    faults.push(format!("the shard map: {at:?}"));
                }
                let now = db.now_ms().await;
                if !matches!(now, Ok(now) if now > 1_700_000_000_000) {
                    faults.push(format!("the clock: {now:?}"));
                }
            }
        }
        let missing = self.witness.missing(name).await;
        faults.extend(missing.iter().map(|table| format!("{table} is not stored")));
        let nonce_there = self
            .witness
            .count("lease", "nonce", &nonce.to_string())
            .await;
        if nonce_there != 1 {
            faults.push("the renewal is not stored".into());
        }
        faults
    }
}

/// Each variable alone, by SET GLOBAL: it holds for new connections.
async fn each_alone(scene: &mut Scene, is_mysql: bool) {
    let settings = scene.store.settings.clone();
    let mut faults = Vec::new();
    for (at, (name, value)) in hostile::variables(is_mysql).enumerate() {
        let keep = format!("SET @kept=@@global.{name}");
        scene.witness.say(&keep).await;
        scene
            .witness
            .say(&format!("SET GLOBAL {name}={value}"))
            .await;
        let found = scene
            .faults(&settings, &format!("n{at}"), 100 + at as u64)
            .await;
        faults.extend(found.iter().map(|fault| format!("{name}={value}: {fault}")));
        scene.witness.say(&format!("SET GLOBAL {name}=@kept")).await;
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
}

/// Settings of an ordinary user, for whom the server runs init_connect.
async fn plain(scene: &mut Scene) -> DatabaseSettings {
    let root = scene.store.settings.clone();
    let (base, name) = root.urls[0].rsplit_once('/').expect("a database");
    let rights = "SELECT, INSERT, UPDATE, DELETE, CREATE, ALTER, INDEX, DROP";
    for sql in [
        "CREATE DATABASE elsewhere".to_owned(),
        "CREATE USER plain@'%' IDENTIFIED BY 'secret'".to_owned(),
        format!("GRANT {rights} ON {name}.* TO plain@'%'"),
        "GRANT SELECT ON elsewhere.* TO plain@'%'".to_owned(),
    ] {
        scene.witness.say(&sql).await;
    }
    let base = base.replace("root@", "plain:secret@");
    DatabaseSettings {
        connect_timeout: Duration::from_secs(2),
        ..settings(vec![format!("{base}/{name}")])
    }
}

/// What init_connect begins, changes or hides is undone; what cannot be is refused by name.
async fn each_init_connect(scene: &mut Scene, plain: &DatabaseSettings) {
    let mut faults = Vec::new();
    for (at, what) in [
        "SET autocommit=0",
        "START TRANSACTION READ ONLY",
        "SET SESSION TRANSACTION READ ONLY",
        "SET autocommit=0, completion_type=2; START TRANSACTION",
        "SET timestamp=1",
        "SET sql_select_limit=0, sql_mode='ANSI,NO_BACKSLASH_ESCAPES', sql_safe_updates=1",
        "SET NAMES latin1",
    ]
    .iter()
    .enumerate()
    {
        scene
            .witness
            .say(&format!("SET GLOBAL init_connect=\"{what}\""))
            .await;
        let found = scene
            .faults(plain, &format!("i{at}"), 300 + at as u64)
            .await;
        faults.extend(found.iter().map(|fault| format!("{what}: {fault}")));
    }
    assert!(faults.is_empty(), "{}", faults.join("\n"));
    for (what, named) in [
        ("USE elsewhere", "elsewhere"),
        ("SELECT * FROM no.table", "init_connect"),
    ] {
        scene
            .witness
            .say(&format!("SET GLOBAL init_connect='{what}'"))
            .await;
        let refused = Db::connect(plain, 1).await.err().map(|error| error.brief());
        assert!(
            refused.as_ref().is_some_and(|r| r.contains(named)),
            "{what}: {refused:?}"
        );
    }
    scene.witness.say("SET GLOBAL init_connect=''").await;
}

/// What an ordinary user may not change is refused by its name, by new pools and by those that are open.
async fn refused_by_name(scene: &mut Scene, plain: &DatabaseSettings) {
    scene.witness.say("SET GLOBAL binlog_format='ROW'").await;
    let open = Db::connect(plain, 1).await.expect("nothing is wrong");
    assert!(open.shard_map().await.is_ok());
    scene
        .witness
        .say("SET GLOBAL binlog_format='STATEMENT'")
        .await;
    let says = |error: Option<DbError>| error.map(|e| e.brief()).unwrap_or_default();
    let refused = says(Db::connect(plain, 1).await.err());
    assert!(refused.contains("binlog_format='ROW'"), "{refused}");
    let Db::MySql(hosts) = &open else {
        unreachable!("a server")
    };
    drop(hosts.pool().acquire().await.expect("one").detach());
    let refused = says(open.shard_map().await.err());
    assert!(refused.contains("binlog_format='ROW'"), "{refused}");
    scene.witness.say("SET GLOBAL binlog_format='ROW'").await;
    assert!(open.shard_map().await.is_ok(), "as soon as it is corrected");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_each_default_alone_on_mariadb() {
    let more = [
        "--log-bin",
        "--binlog-format=STATEMENT",
        "--query-cache-size=1M",
        "--query-cache-type=1",
    ];
    let more = more.map(String::from).to_vec();
    let server = tokio::task::block_in_place(|| {
        crate::mariadb::directory().and_then(|at| Server::start_in(at, more))
    });
    match server {
        Ok(server) => {
            let mut scene = Scene::new(create_database(&server.url("")).await).await;
            each_alone(&mut scene, false).await;
            let plain = plain(&mut scene).await;
            refused_by_name(&mut scene, &plain).await;
            each_init_connect(&mut scene, &plain).await;
        }
        Err(why) => crate::skipped("hostile defaults on MariaDB", &why),
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_each_default_alone_on_mysql() {
    match tokio::task::block_in_place(a_mysql::Server::start) {
        Ok(server) => {
            let mut scene = Scene::new(create_database(&server.base()).await).await;
            each_alone(&mut scene, true).await;
            let plain = plain(&mut scene).await;
            each_init_connect(&mut scene, &plain).await;
        }
        Err(why) => crate::skipped("hostile defaults on MySQL", &why),
    }
}

/// Goal: a connection that somebody gave back in the middle of a transaction keeps nobody's writes. Method: a pool of one.
async fn f01_what_is_left_open_is_undone(store: &Store) {
    store.cluster(1).await;
    let db = Db::connect(&store.settings, 1).await.expect("connected");
    let Db::MySql(hosts) = &db else {
        unreachable!("a server")
    };
    let mut lent = hosts.pool().acquire().await.expect("a connection");
    let left =
        "START TRANSACTION; INSERT INTO setting (name, version, value) VALUES ('left', 1, '{}')";
    sqlx::raw_sql(left)
        .execute(&mut *lent)
        .await
        .expect("begun");
    drop(lent);
    assert!(db.store_setting("next", 0, "{}").await.expect("stored"));
    assert_eq!(store.db.setting("next").await.expect("read").0, 1);
    assert_eq!(store.db.setting("left").await.expect("read").0, 0);
}

on_servers![f01_what_is_left_open_is_undone];

/// Goal: a server that comes back with other defaults, under pools and lease connections that were open, keeps what it takes.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn f01_a_restart_changes_every_default() {
    let mut server = match tokio::task::block_in_place(Server::start) {
        Ok(server) => server,
        Err(why) => return crate::skipped("a restart with hostile defaults", &why),
    };
    let url = create_database(&server.url("")).await;
    let mut scene = Scene::new(url.clone()).await;
    write(&scene.store.db, &scene.own, "before")
        .await
        .expect("stored");
    let mut lease = scene.store.lease("c1:coreapp-1");
    assert_eq!(
        lease.renew_shard(&scene.own, Nonce(70), TTL).await,
        Outcome::Held
    );
    server.kill();
    let file = server.path("hostile.sql");
    hostile::write(&file, false).expect("written");
    server.more(hostile::arguments(&file, false));
    tokio::task::block_in_place(|| server.run()).expect("it starts again");
    let (db, own) = (&scene.store.db, &scene.own);
    assert!(eventually(|| async { write(db, own, "after").await.is_ok() }).await);
    let mut renewed = Outcome::Unknown;
    for nonce in 71..90 {
        if renewed != Outcome::Held {
            renewed = lease.renew_shard(&scene.own, Nonce(nonce), TTL).await;
        }
    }
    assert_eq!(renewed, Outcome::Held);
    scene.witness = Witness::new(&url).await;
    assert_eq!(scene.witness.missing("before").await, [""; 0]);
    assert_eq!(scene.witness.missing("after").await, [""; 0]);
    let settings = scene.store.settings.clone();
    assert_eq!(scene.faults(&settings, "new", 95).await, [""; 0]);
}
