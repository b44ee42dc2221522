//! Where the machines of the cluster are, by the table of nodes: the public port keeps places for them, and the documented first password
//! counts there. Believes the table for no more than that.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::watcher::Watched;
use crate::config::Settings;
use crate::db::{Db, DbError};
use crate::net::door::Door;
use crate::sys::clock;

/// Between two looks at the table; and until there is a database.
const AGAIN_AFTER: Duration = Duration::from_secs(60);
const SOON: Duration = Duration::from_secs(2);

/// The addresses of all nodes, and the own one.
///
/// # Errors
/// When the database does not answer.
pub async fn of(db: &Db, settings: &Settings) -> Result<Vec<IpAddr>, DbError> {
    let nodes = db.nodes().await?;
    let address = |node: &crate::db::node::Registered| node.registration.address.parse().ok();
    let mut all: Vec<IpAddr> = nodes.iter().filter_map(address).collect();
    all.push(settings.advertise);
    Ok(all)
}

/// Tells the door where they are, until the stop. While the database is away, what was read last counts.
pub async fn watch(
    settings: Arc<Settings>,
    map: Arc<Watched>,
    door: Arc<Door>,
    stop: CancellationToken,
) {
    let db = map.shared_db();
    while !stop.is_cancelled() {
        let read = match db.load_full() {
            Some(db) => of(&db, &settings).await.ok(),
            None => None,
        };
        let pause = if read.is_some() { AGAIN_AFTER } else { SOON };
        if let Some(addresses) = read {
            door.at_home(addresses);
        }
        stop.run_until_cancelled(clock::sleep(pause)).await;
    }
}

#[cfg(test)]
mod tests {
    use std::net::IpAddr;

    use super::*;
    use crate::metrics::door::DoorCounts;
    use crate::net::places::Who;
    use crate::webapp::tests::bench;

    /// Goal: the public port knows the cluster's machines by the table, and nobody else. Method: the task with a database; an address that
    /// stands there and one that does not.
    #[tokio::test]
    async fn machines_of_the_cluster_are_no_strangers() {
        let bench = bench().await;
        let settings = Arc::clone(&bench.webapp.settings);
        let own = settings.advertise;
        let door = Door::new(&DoorCounts::default());
        assert_eq!(door.who(own), Who::Stranger);
        let stop = CancellationToken::new();
        let _ends = stop.clone().drop_guard();
        tokio::spawn(watch(
            settings,
            Arc::clone(&bench.webapp.map),
            Arc::clone(&door),
            stop,
        ));
        let until = clock::now() + Duration::from_secs(10);
        while door.who(own) == Who::Stranger {
            assert!(clock::now() < until, "nobody told the door");
            clock::sleep(Duration::from_millis(5)).await;
        }
        let other = IpAddr::from([192, 0, 2, 77]);
        assert_eq!(door.who(other), Who::Stranger);
    }
}
