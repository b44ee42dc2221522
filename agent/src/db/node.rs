//! The node table: who runs where, and the database beat.
//! Tells nothing about health beyond the age of the beat by the database's own clock.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use wa_core::id::{Incarnation, NodeId, Role};
use wa_core::master::{Home, NodeRow};
use wa_core::roll::{self, Roll};

use super::{Db, DbError, is_missing_table, node_home, number, on_pool, text, unsigned};
use crate::sys::clock;

/// A node as it registers itself.
#[derive(Debug, Clone)]
pub struct Registration {
    pub node: NodeId,
    pub role: Role,
    pub incarnation: Incarnation,
    pub machine: String,
    pub zone: String,
    /// IP address that other nodes use.
    pub address: String,
    pub port_heartbeat: u16,
    pub port_control: u16,
    pub port_api: u16,
    pub version: String,
    pub weight: i32,
    /// Id of the key that it signs with, and ids of those that it takes (`node_key`). Empty where they were not asked for.
    pub keys: (String, String),
}

impl Registration {
    /// Where its heartbeats go, if it has any.
    pub fn heartbeat(&self) -> Option<SocketAddr> {
        let address = self.address.parse().ok()?;
        (self.port_heartbeat != 0).then(|| SocketAddr::new(address, self.port_heartbeat))
    }

    /// Where its control calls go.
    pub fn control_url(&self) -> String {
        self.url(self.port_control)
    }

    /// Where calls of its API port go.
    pub fn api_url(&self) -> String {
        self.url(self.port_api)
    }

    fn url(&self, port: u16) -> String {
        let address = match self.address.contains(':') {
            true => format!("[{}]", self.address),
            false => self.address.clone(),
        };
        format!("http://{address}:{port}")
    }
}

/// A registered node with the age of its beat.
#[derive(Debug, Clone)]
pub struct Registered {
    pub registration: Registration,
    /// Stamp of its last beat, by the database's clock.
    pub beat_ms: u64,
    /// The database's clock at the time of the read; the same in every row of it.
    pub clock_ms: u64,
    pub beat_age_ms: u64,
    pub draining: bool,
}

#[derive(sqlx::FromRow)]
pub(super) struct Row {
    node: String,
    role: i64,
    inc_counter: i64,
    inc_random: i64,
    machine: String,
    zone: String,
    address: String,
    port_heartbeat: i64,
    port_control: i64,
    port_api: i64,
    version: String,
    weight: i64,
    draining: i64,
    beat_ms: i64,
    clock_ms: i64,
    beat_age: i64,
}

const COLUMNS: &str = "node, CAST(role AS SIGNED) AS role, inc_counter, inc_random, machine, zone, address, \
     CAST(port_heartbeat AS SIGNED) AS port_heartbeat, CAST(port_control AS SIGNED) AS port_control, \
     CAST(port_api AS SIGNED) AS port_api, version, CAST(weight AS SIGNED) AS weight, CAST(draining AS SIGNED) AS draining, beat_ms";

impl Row {
    fn incarnation(&self) -> Incarnation {
        Incarnation {
            counter: unsigned(self.inc_counter),
            random: unsigned(self.inc_random),
        }
    }

    fn role(&self) -> Role {
        u8::try_from(self.role)
            .ok()
            .and_then(Role::from_u8)
            .unwrap_or(Role::Webapp)
    }
}

impl From<Row> for Registered {
    fn from(row: Row) -> Self {
        let port = |n: i64| u16::try_from(n).unwrap_or(0);
        Self {
            beat_ms: unsigned(row.beat_ms),
            clock_ms: unsigned(row.clock_ms),
            beat_age_ms: unsigned(row.beat_age),
            draining: row.draining != 0,
            registration: Registration {
                role: row.role(),
                incarnation: row.incarnation(),
                node: NodeId::new(&row.node),
                machine: row.machine,
                zone: row.zone,
                address: row.address,
                port_heartbeat: port(row.port_heartbeat),
                port_control: port(row.port_control),
                port_api: port(row.port_api),
                version: row.version,
                weight: i32::try_from(row.weight).unwrap_or(0),
                keys: Default::default(),
            },
        }
    }
}

/// The same with where the start runs.
#[derive(sqlx::FromRow)]
pub(super) struct CoreRow {
    #[sqlx(flatten)]
    row: Row,
    home_machine: Option<String>,
    home_boot: Option<String>,
}

impl CoreRow {
    fn home(&self) -> Option<Home> {
        node_home::home(self.home_machine.as_deref(), self.home_boot.as_deref())
    }
}

fn select(mysql: bool) -> String {
    select_with(mysql, "", "")
}

fn select_with(mysql: bool, more: &str, joined: &str) -> String {
    let now = if mysql {
        "CAST(UNIX_TIMESTAMP(NOW(3)) * 1000 AS SIGNED)"
    } else {
        "CAST(unixepoch('subsec') * 1000 AS INTEGER)"
    };
    let columns = if mysql {
        COLUMNS.to_owned()
    } else {
        COLUMNS.replace("AS SIGNED", "AS INTEGER")
    };
    format!(
        "SELECT {columns}{more}, {now} - beat_ms AS beat_age, {now} AS clock_ms FROM node {joined} ORDER BY node"
    )
}

/// Leaves out who has not beaten for a day: history, not members. A leap of the database's clock drives nobody out.
fn members(roll: &mut Roll, rows: Vec<Row>) -> Vec<Row> {
    let names: Vec<NodeId> = rows.iter().map(|row| NodeId::new(&row.node)).collect();
    let each = names.iter().zip(&rows).map(|(node, row)| roll::Row {
        node,
        beat: unsigned(row.beat_ms),
        age: Duration::from_millis(unsigned(row.beat_age)),
    });
    let now = clock::now();
    let stays = roll.call(now, &each.collect::<Vec<_>>());
    let mut kept = Vec::with_capacity(rows.len());
    for ((mut row, node), _) in rows
        .into_iter()
        .zip(&names)
        .zip(stays)
        .filter(|(_, stays)| *stays)
    {
        // The database's clock may have leapt since; the own one has not.
        let age = roll.age(now, node).map(|age| age.as_millis());
        row.beat_age = age.map_or(row.beat_age, |ms| i64::try_from(ms).unwrap_or(i64::MAX));
        kept.push(row);
    }
    kept
}

/// Which dialect a connection speaks.
pub(super) trait Dialect {
    const MYSQL: bool;
}
impl Dialect for sqlx::MySqlConnection {
    const MYSQL: bool = true;
}
impl Dialect for sqlx::SqliteConnection {
    const MYSQL: bool = false;
}

/// The node rows as the core wants them, on the connection of the deciding read.
pub(super) async fn core_rows<C, D>(
    connection: &mut C,
    roll: &mut Roll,
) -> Result<Vec<NodeRow>, sqlx::Error>
where
    C: Dialect,
    D: sqlx::Database,
    for<'e> &'e mut C: sqlx::Executor<'e, Database = D>,
    Row: for<'r> sqlx::FromRow<'r, D::Row> + Send + Unpin,
    CoreRow: for<'r> sqlx::FromRow<'r, D::Row> + Send + Unpin,
    for<'q> D::Arguments: sqlx::IntoArguments<D>,
{
    let more = format!(", {}", node_home::COLUMNS);
    let sql = sqlx::AssertSqlSafe(select_with(C::MYSQL, &more, node_home::JOINED));
    let found = sqlx::query_as::<D, CoreRow>(sql).fetch_all(&mut *connection);
    let (rows, homes) = match found.await {
        Ok(found) => {
            let said = |found: &CoreRow| Some((NodeId::new(&found.row.node), found.home()?));
            let homes: BTreeMap<NodeId, Home> = found.iter().filter_map(said).collect();
            (found.into_iter().map(|found| found.row).collect(), homes)
        }
        // The primary master of the release before has not made that table.
        Err(error) if is_missing_table(&error) => {
            let sql = sqlx::AssertSqlSafe(select(C::MYSQL));
            let rows = sqlx::query_as::<D, Row>(sql).fetch_all(&mut *connection);
            (rows.await?, BTreeMap::new())
        }
        Err(error) => return Err(error),
    };
    Ok(members(roll, rows)
        .into_iter()
        .map(|row| NodeRow {
            role: row.role(),
            incarnation: row.incarnation(),
            home: homes.get(row.node.as_str()).copied(),
            node: NodeId::new(&row.node),
            machine: row.machine,
            zone: row.zone,
            beat_age: Some(Duration::from_millis(unsigned(row.beat_age))),
            draining: row.draining != 0,
            weight: i32::try_from(row.weight).unwrap_or(0),
        })
        .collect())
}

impl Db {
    /// Makes a node ineligible, or eligible again. False: no such node.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn set_draining(&self, node: &str, on: bool) -> Result<bool, DbError> {
        let (update, found) = (
            "UPDATE node SET draining=? WHERE node=?",
            "SELECT COUNT(*) FROM node WHERE node=?",
        );
        // A row that says so already is not changed, and is found all the same.
        let row: (i64,) = on_pool!(self, pool => {
            sqlx::query(update).bind(i64::from(on)).bind(node).execute(&mut *pool).await?;
            sqlx::query_as(found).bind(node).fetch_one(pool).await?
        });
        Ok(row.0 > 0)
    }

    /// Registers a node, or takes its row over for a new incarnation, and beats.
    ///
    /// # Errors
    /// When the database does not answer, or the schema is not there yet.
    pub async fn register(&self, r: &Registration) -> Result<(), DbError> {
        let upsert = if self.embedded() {
            "ON CONFLICT(node) DO UPDATE SET role=excluded.role, inc_counter=excluded.inc_counter, \
             inc_random=excluded.inc_random, machine=excluded.machine, zone=excluded.zone, address=excluded.address, \
             port_heartbeat=excluded.port_heartbeat, port_control=excluded.port_control, port_api=excluded.port_api, \
             version=excluded.version, weight=excluded.weight, beat_ms=excluded.beat_ms"
        } else {
            "ON DUPLICATE KEY UPDATE role=VALUES(role), inc_counter=VALUES(inc_counter), inc_random=VALUES(inc_random), \
             machine=VALUES(machine), zone=VALUES(zone), address=VALUES(address), port_heartbeat=VALUES(port_heartbeat), \
             port_control=VALUES(port_control), port_api=VALUES(port_api), version=VALUES(version), weight=VALUES(weight), \
             beat_ms=VALUES(beat_ms)"
        };
        let keys = if self.embedded() {
            "INSERT OR REPLACE INTO node_key (node, inc_counter, inc_random, sends, accepts) VALUES (?,?,?,?,?)"
        } else {
            "REPLACE INTO node_key (node, inc_counter, inc_random, sends, accepts) VALUES (?,?,?,?,?)"
        };
        let sql = text(
            self,
            &format!(
                "INSERT INTO node (node, role, inc_counter, inc_random, machine, zone, address, port_heartbeat, port_control, \
                 port_api, version, weight, beat_ms) VALUES (?,?,?,?,?,?,?,?,?,?,?,?,{{now}}) {upsert}"
            ),
        );
        on_pool!(self, pool => {
            sqlx::query(sql)
                .bind(r.node.as_str())
                .bind(i64::from(r.role as u8))
                .bind(number(r.incarnation.counter))
                .bind(number(r.incarnation.random))
                .bind(r.machine.as_str())
                .bind(r.zone.as_str())
                .bind(r.address.as_str())
                .bind(i64::from(r.port_heartbeat))
                .bind(i64::from(r.port_control))
                .bind(i64::from(r.port_api))
                .bind(r.version.as_str())
                .bind(i64::from(r.weight))
                .execute(&mut *pool)
                .await?;
            sqlx::query(keys)
                .bind(r.node.as_str())
                .bind(number(r.incarnation.counter))
                .bind(number(r.incarnation.random))
                .bind(r.keys.0.as_str())
                .bind(r.keys.1.as_str())
                .execute(pool)
                .await
                .map(|_| ())?
        });
        Ok(())
    }

    /// All nodes but those whose last beat is a day older than the newest of all. For who reads once: just after a leap of the
    /// database's clock some are missing until they beat. Who reads again and again asks for [`Self::members`].
    ///
    /// # Errors
    /// When the database does not answer, or the schema is not there yet.
    pub async fn nodes(&self) -> Result<Vec<Registered>, DbError> {
        let rows = self.node_rows().await?;
        let newest = rows.iter().map(|row| unsigned(row.beat_ms)).max();
        let day = u64::try_from(roll::GONE_AFTER.as_millis()).unwrap_or(u64::MAX);
        let behind = |row: &Row| newest.unwrap_or(0) - unsigned(row.beat_ms);
        let kept = rows.into_iter().filter(|row| behind(row) < day);
        Ok(kept.map(Registered::from).collect())
    }

    /// All nodes but those that have not beaten for a day, as the reader's own roll knows them.
    ///
    /// # Errors
    /// When the database does not answer, or the schema is not there yet.
    pub async fn members(&self, roll: &Mutex<Roll>) -> Result<Vec<Registered>, DbError> {
        let rows = self.node_rows().await?;
        let mut roll = roll.lock().unwrap_or_else(PoisonError::into_inner);
        let rows = members(&mut roll, rows);
        Ok(rows.into_iter().map(Registered::from).collect())
    }

    async fn node_rows(&self) -> Result<Vec<Row>, DbError> {
        let sql = sqlx::AssertSqlSafe(select(!self.embedded()));
        Ok(on_pool!(self, pool => sqlx::query_as::<_, Row>(sql).fetch_all(pool).await?))
    }

    /// Takes a node out of every table that speaks of nodes, unless it has beaten since `beat_ms` was read of it. False: it has,
    /// or there is no such node. It registers again with its next beat, should it live.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn forget_node(&self, node: &str, beat_ms: u64) -> Result<bool, DbError> {
        let gone = "DELETE FROM node WHERE node=? AND beat_ms=?";
        let rest = [
            "DELETE FROM node_key WHERE node=?",
            "DELETE FROM node_form WHERE node=?",
            "DELETE FROM node_home WHERE home_of=?",
            "DELETE FROM node_connection WHERE node=?",
            "DELETE FROM mount WHERE node=?",
            "DELETE FROM fence WHERE node=?",
        ];
        Ok(on_pool!(self, pool => {
            let done = sqlx::query(gone).bind(node).bind(number(beat_ms)).execute(&mut *pool).await?;
            let forgotten = done.rows_affected() > 0;
            if forgotten {
                for statement in rest {
                    sqlx::query(statement).bind(node).execute(&mut *pool).await?;
                }
            }
            forgotten
        }))
    }
}
