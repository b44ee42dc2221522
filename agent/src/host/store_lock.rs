//! The embedded database has one write lock: a process that is frozen while it holds it keeps everybody from writing, the
//! masters from their lease included, so that nobody is left to order a fence. This machine's host agent ends it.
//!
//! Kills nobody outside the units of wa-agent, and nobody who was only stopped for a moment: two looks have to agree.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::units::control_group;
use crate::config::Settings;
use crate::db;
use crate::log::message_id;
use crate::sys::cgroup::{self, Cgroup};
use crate::sys::clock;
use crate::sys::lock_holder::{self, Frozen};
use crate::sys::systemd::instance_of;

/// Between two looks. Two of them and a failover have to fit into what a primary master may go without writing.
const LOOK_EVERY: Duration = Duration::from_millis(200);
/// A look may take one part in so many of the time, where there are many locks on the machine.
const SHARE: u32 = 20;
/// But whatever one took, because this machine was held up, the next comes after so long.
const LOOK_EVERY_MAX: Duration = Duration::from_secs(1);
/// Looks that must agree.
const LOOKS: u32 = 2;

/// Looks until `stop`, where the database is embedded.
pub fn start(settings: &Arc<Settings>, stop: CancellationToken) {
    if let Some(database) = db::file(&settings.database) {
        tokio::spawn(stop.run_until_cancelled_owned(watch(database)));
    }
}

async fn watch(database: PathBuf) {
    let mut suspects = Suspects::default();
    let mut told = false;
    loop {
        let from = clock::now();
        match look(&database).await {
            Ok(found) => {
                told = false;
                for holder in suspects.agree(&found) {
                    end(holder, &database);
                }
            }
            Err(why) if !told => {
                told = true;
                tracing::warn!(
                    why,
                    "who locks the embedded database cannot be seen; trying again"
                );
            }
            Err(_) => {}
        }
        let took = clock::now().since(from);
        let rest = took.saturating_mul(SHARE);
        clock::sleep(rest.clamp(LOOK_EVERY, LOOK_EVERY_MAX)).await;
    }
}

/// Not on the loop's thread: a disk that hangs would hold it up.
async fn look(database: &Path) -> Result<BTreeSet<Frozen>, String> {
    let database = database.to_owned();
    let looked =
        tokio::task::spawn_blocking(move || lock_holder::frozen(&locked_files(&database))).await;
    match looked {
        Ok(found) => found.map_err(|error| error.to_string()),
        Err(error) => Err(error.to_string()),
    }
}

/// The files whose write locks keep others from writing: the index of the write-ahead log, and the database itself.
/// SQLite names the index after the file that a link points to.
fn locked_files(database: &Path) -> [PathBuf; 2] {
    let database = database
        .canonicalize()
        .unwrap_or_else(|_| database.to_owned());
    let mut index = database.clone().into_os_string();
    index.push("-shm");
    [database, index.into()]
}

/// Who was found frozen at the last look, and at how many in a row.
#[derive(Debug, Default, PartialEq, Eq)]
struct Suspects(BTreeMap<Frozen, u32>);

impl Suspects {
    /// Takes in a look; says, once, who was found at enough looks in a row.
    fn agree(&mut self, found: &BTreeSet<Frozen>) -> Vec<Frozen> {
        let before = std::mem::take(&mut self.0);
        let times = |holder| {
            before
                .get(holder)
                .map_or(1, |times| times.saturating_add(1))
        };
        self.0 = found.iter().map(|one| (*one, times(one))).collect();
        let agreed = self.0.iter().filter(|(_, times)| **times == LOOKS);
        agreed.map(|(holder, _)| *holder).collect()
    }
}

/// Ends the unit that a holder belongs to.
fn end(holder: Frozen, database: &Path) {
    let (pid, database) = (holder.pid, database.display());
    match kill(holder) {
        Ok(Ended::Unit(unit)) => tracing::warn!(
            MESSAGE_ID = message_id::LOCK_HOLDER_KILLED,
            pid,
            "killed {unit}: it was frozen while it held the write lock of the embedded database {database}, so nobody else could write"
        ),
        Ok(Ended::Stranger(group)) => tracing::warn!(
            pid,
            "nobody can write to the embedded database {database}: process {pid} in {group} is stopped while it holds the write lock, and is no unit of wa-agent; type `kill -CONT {pid}`, or end it"
        ),
        Ok(Ended::Gone) => {}
        Err(error) => tracing::error!(pid, %error,
            "a frozen process that holds the write lock of the embedded database {database} cannot be killed; its watchdog has to end it"),
    }
}

/// What became of a holder.
enum Ended {
    Unit(String),
    /// It belongs to nobody here.
    Stranger(String),
    /// It went on, or was gone, by itself.
    Gone,
}

fn kill(holder: Frozen) -> io::Result<Ended> {
    let group = match cgroup::of_process(holder.pid) {
        Ok(group) => group,
        Err(_) if Frozen::of(holder.pid) != Some(holder) => return Ok(Ended::Gone),
        Err(error) => return Err(error),
    };
    let Some(unit) = unit_of(&group) else {
        return Ok(Ended::Stranger(group));
    };
    let opened = Cgroup::open(&cgroup::root()?, &group)?;
    // Once more, now that the group cannot be another one of the same name.
    if !opened.pids()?.contains(&holder.pid) || Frozen::of(holder.pid) != Some(holder) {
        return Ok(Ended::Gone);
    }
    opened.kill()?;
    Ok(Ended::Unit(unit.to_owned()))
}

/// The unit of wa-agent whose control group this is, if it is one's.
fn unit_of(group: &str) -> Option<&str> {
    let unit = group.rsplit('/').next()?;
    let (role, number) = instance_of(unit)?;
    (group.trim_start_matches('/') == control_group(role, number)).then_some(unit)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_units_of_wa_agent_are_ended() {
        for (group, unit) in [
            (
                "/wa.slice/wa-coreapp.slice/wa-coreapp@2.service",
                Some("wa-coreapp@2.service"),
            ),
            ("/wa.slice/wa-master@1.service", Some("wa-master@1.service")),
            ("/wa.slice/wa-webapp@1.service", Some("wa-webapp@1.service")),
            ("/wa.slice/wa-host.service", None),
            ("/wa.slice/wa-coreapp@2.service", None),
            ("/user.slice/wa.slice/wa-master@1.service", None),
            (
                "/wa.slice/wa-coreapp.slice/wa-coreapp@2.service/below",
                None,
            ),
            ("/system.slice/cron.service", None),
            ("/", None),
        ] {
            assert_eq!(unit_of(group), unit, "{group}");
        }
    }

    /// Goal: who is stopped for a moment is left alone, and who stays so is named once. Method: looks in a row.
    #[test]
    fn two_looks_in_a_row_must_agree() {
        // Any process will do, as long as its numbers stay.
        let (one, other) = (Frozen::example(7, 1), Frozen::example(8, 1));
        let again = Frozen::example(7, 2);
        let mut suspects = Suspects::default();
        let mut look = |found: &[Frozen]| suspects.agree(&found.iter().copied().collect());
        assert_eq!(look(&[one]), []);
        assert_eq!(look(&[]), [], "it went on");
        assert_eq!(look(&[one]), []);
        assert_eq!(look(&[again]), [], "it ran in between");
        assert_eq!(look(&[again, other]), [again]);
        assert_eq!(look(&[again, other]), [other], "each of them once");
        assert_eq!(look(&[again, other]), []);
    }

    /// Goal: where SQLite keeps its write lock is where is looked for it. Method: a real transaction, begun and ended,
    /// through a link; this process is the holder, and runs.
    #[tokio::test]
    async fn the_write_lock_is_where_it_is_looked_for() {
        let directory = tempfile::tempdir().expect("a directory");
        let link = directory.path().join("link.db");
        std::os::unix::fs::symlink(directory.path().join("wa.db"), &link).expect("linked");
        let made = db::lock_for_writing(&link).await;
        made.rollback().await.expect("ended");
        let own = i32::try_from(std::process::id()).expect("a number");
        let holds = || {
            let writers = lock_holder::writers(&locked_files(&link));
            writers.expect("read").contains(&own)
        };
        assert!(!holds());
        let transaction = db::lock_for_writing(&link).await;
        assert!(holds());
        transaction.rollback().await.expect("ended");
        assert!(!holds());
        assert_eq!(look(&link).await, Ok(BTreeSet::new()), "it runs");
    }
}
