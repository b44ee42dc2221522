//! The own row in the node table: made from the settings, written with every beat, and at once when the key was replaced.
//! Waits for nothing: who keeps the row says what else is to be done around it.

use std::sync::Arc;
use std::time::Duration;

use wa_core::id::{Incarnation, Role};
use wa_core::master::Home;
use wa_core::time::Instant;

use crate::config::{ClusterKey, Settings};
use crate::db::node::{Registered, Registration};
use crate::db::{Db, DbError};
use crate::net::keys::Keys;
use crate::sys::clock;
use crate::sys::machine::Machine;
use crate::sys::trouble::Trouble;

/// The row of a node with this configuration. A host agent has no port but that of its heartbeats, and weighs nothing.
pub fn row(s: &Settings, incarnation: Incarnation) -> Registration {
    let serves = s.role != Role::Host;
    let port = |port: u16| if serves { port } else { 0 };
    Registration {
        node: s.node.clone(),
        role: s.role,
        incarnation,
        machine: s.machine.clone(),
        zone: s.zone.clone(),
        address: s.advertise.to_string(),
        port_heartbeat: s.ports.heartbeat,
        port_control: port(s.ports.control),
        port_api: port(s.ports.api),
        version: env!("CARGO_PKG_VERSION").into(),
        weight: if serves { s.weight } else { 0 },
        keys: Keys::of(&s.cluster_key).ids(),
    }
}

/// When the row is written next.
#[derive(Debug)]
struct Beat {
    every: Duration,
    at: Instant,
    /// How often the key had been replaced when the row was written last.
    told_keys: Option<u64>,
}

impl Beat {
    /// Due at once.
    fn new(every: Duration) -> Self {
        Self {
            every,
            at: Instant::ZERO,
            told_keys: None,
        }
    }

    fn due(&self, now: Instant, replaced: u64) -> bool {
        now >= self.at || self.told_keys != Some(replaced)
    }

    fn written(&mut self, now: Instant, replaced: u64) {
        (self.at, self.told_keys) = (now + self.every, Some(replaced));
    }
}

/// The own row, and when it is written next.
pub struct OwnRow {
    row: Registration,
    key: ClusterKey,
    beat: Beat,
    within: Option<Duration>,
    writes: Option<Arc<Trouble>>,
    /// Where this process runs; `None` where the machine has no id.
    home: Option<Home>,
    /// The same, until it is said.
    untold: Option<Home>,
}

impl OwnRow {
    /// Due at once, then after each such interval.
    pub fn new(row: Registration, key: &ClusterKey, every: Duration) -> Self {
        let home = Machine::read().ok().map(|machine| Home {
            machine: machine.id,
            boot: machine.boot,
        });
        Self {
            row,
            key: key.clone(),
            beat: Beat::new(every),
            within: None,
            writes: None,
            home,
            untold: home,
        }
    }

    /// Waits no longer for one writing.
    pub fn within(mut self, within: Duration) -> Self {
        self.within = Some(within);
        self
    }

    /// Whether a writing worked is evidence on the database.
    pub fn telling(mut self, writes: Arc<Trouble>) -> Self {
        self.writes = Some(writes);
        self
    }

    /// Time for a beat, or the key was replaced since the last one.
    pub fn due(&self) -> bool {
        self.beat.due(clock::now(), self.key.replaced())
    }

    /// Time for a beat. The first time before the first one.
    pub fn beat_due(&self) -> bool {
        clock::now() >= self.beat.at
    }

    /// Due at once: another database answers, or the row is gone.
    pub fn again(&mut self) {
        self.beat.at = Instant::ZERO;
        self.untold = self.home;
    }

    /// The table was read. A node that is missing from it (restored from a backup) registers again.
    pub fn seen(&mut self, nodes: &[Registered]) {
        let own = |n: &Registered| n.registration.node == self.row.node;
        if !nodes.iter().any(own) {
            self.again();
        }
    }

    /// Writes the row, and beats with it. Not written, it is due still.
    ///
    /// # Errors
    /// When the database does not answer, or the schema is not there yet.
    pub async fn write(&mut self, db: &Db) -> Result<(), DbError> {
        // First: a key that is replaced meanwhile is told with the next writing.
        let (now, replaced) = (clock::now(), self.key.replaced());
        self.row.keys = Keys::of(&self.key).ids();
        let (row, untold) = (&self.row, &mut self.untold);
        let writing = async {
            // Before the row, once: whoever reads that knows this of the start. A beat does not fail for it.
            if let Some(home) = *untold
                && let Ok(true) = db.tell_home(&row.node, row.incarnation, home).await
            {
                *untold = None;
            }
            db.register(row).await
        };
        let written = match self.within {
            None => writing.await,
            Some(within) => match tokio::time::timeout(within, writing).await {
                Ok(written) => written,
                Err(_) => Err(DbError::Deadline(within)),
            },
        };
        match (&written, &self.writes) {
            (Ok(()), Some(writes)) => writes.over(),
            (Err(error), Some(writes)) => writes.failed(&error.brief()),
            (_, None) => {}
        }
        if written.is_ok() {
            self.beat.written(now, replaced);
        }
        written
    }

    /// Writes the row if it is due. True: it was.
    ///
    /// # Errors
    /// See [`Self::write`].
    pub async fn keep(&mut self, db: &Db) -> Result<bool, DbError> {
        if !self.due() {
            return Ok(false);
        }
        self.write(db).await.map(|()| true)
    }
}

#[cfg(test)]
mod tests {
    use wa_core::id::NodeId;

    use super::*;
    use crate::config::{DatabaseSettings, Replication};

    const EVERY: Duration = Duration::from_secs(3600);

    fn registration() -> Registration {
        Registration {
            node: NodeId::new("a:webapp-1"),
            role: Role::Webapp,
            incarnation: Incarnation {
                counter: 1,
                random: 7,
            },
            machine: "a".into(),
            zone: "a".into(),
            address: "192.0.2.1".into(),
            port_heartbeat: 1,
            port_control: 2,
            port_api: 3,
            version: "0".into(),
            weight: 0,
            keys: Default::default(),
        }
    }

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
        Db::connect(&settings, 1).await.expect("connected")
    }

    /// Goal: the row is due at once, with each beat, and when the key was replaced; a replaced key does not move the beats of
    /// who looks at the time alone. Method: moments and counts, one by one.
    #[test]
    fn a_beat_is_due_by_time_and_by_key() {
        let at = Instant::from_millis;
        let mut beat = Beat::new(Duration::from_millis(100));
        assert!(beat.due(at(0), 0), "nothing was written yet");
        beat.written(at(10), 0);
        assert!(!beat.due(at(109), 0) && beat.due(at(110), 0));
        assert!(beat.due(at(11), 1), "the key was replaced");
        beat.written(at(11), 1);
        assert!(!beat.due(at(12), 1));
    }

    /// Goal: a row that could not be written stays due and is told as a failure; one that is gone from the table is written
    /// again; a new key is in the row at once. Method: a database without its schema, then with it.
    #[tokio::test]
    async fn a_row_is_due_until_it_stands() {
        let place = tempfile::tempdir().expect("a directory");
        let db = store(place.path()).await;
        let (key, writes) = (ClusterKey::new(b"one".to_vec()), Arc::<Trouble>::default());
        let mut own = OwnRow::new(registration(), &key, EVERY).telling(Arc::clone(&writes));
        assert!(own.keep(&db).await.is_err(), "there is no table");
        assert!(own.due() && writes.standing(EVERY).is_some());
        db.ensure_lease_table().await.expect("made");
        db.migrate().await.expect("made");
        assert!(own.keep(&db).await.expect("written"));
        assert!(!own.due() && writes.standing(EVERY).is_none());
        assert!(!own.keep(&db).await.expect("nothing to do"));
        let nodes = db.nodes().await.expect("read");
        own.seen(&nodes);
        assert!(!own.due(), "it is there");
        own.seen(&[]);
        assert!(own.beat_due(), "it is gone");
        assert!(own.keep(&db).await.expect("written"));
        key.replace(b"two");
        assert!(own.due() && !own.beat_due());
        assert!(own.keep(&db).await.expect("written"));
        let roll = std::sync::Mutex::default();
        let told = db.node_keys(&roll, EVERY).await.expect("read");
        assert_eq!(told[0].sends, Some(Keys::of(&key).ids().0));
    }
}
