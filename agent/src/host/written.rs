//! What the instances of this machine have written of themselves, read for the host agent: which start they are, and the
//! highest epoch that they obeyed. Their users own those files, so they are read away from the loop, and nobody waits long.

use std::collections::BTreeMap;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::Semaphore;

use super::units::Instance;
use crate::sys::state::{self, Run};

/// A disk that takes longer is taken for one that does not answer.
const READ_WITHIN: Duration = Duration::from_millis(300);
/// Instances that are remembered; there are fewer on any machine.
const INSTANCES_MAX: usize = 512;

/// What one instance has written.
#[derive(Debug)]
pub struct Said {
    /// Its last start; `None`: it never ran here.
    pub run: io::Result<Option<Run>>,
    /// The highest epoch obeyed; 0: none.
    pub obeyed: io::Result<u64>,
}

impl Said {
    /// Reads it now. May take as long as the disk does.
    pub fn read(state: &Path, (role, number): &Instance) -> Self {
        let name = format!("{role}-{number}");
        Self {
            run: state::last_run(state, &name),
            obeyed: state::obeyed(state, &name),
        }
    }

    fn late() -> Self {
        let late = || io::Error::from(io::ErrorKind::TimedOut);
        Self {
            run: Err(late()),
            obeyed: Err(late()),
        }
    }
}

/// The state directory of the roles.
pub struct Written {
    state: PathBuf,
    /// One reading at a time for each instance: a disk that hangs takes no more than one thread for each.
    places: Mutex<BTreeMap<Instance, Arc<Semaphore>>>,
}

impl Written {
    /// Reads nothing yet.
    pub fn new(state: PathBuf) -> Self {
        Self {
            state,
            places: Mutex::default(),
        }
    }

    /// What an instance has written; errors after [`READ_WITHIN`].
    pub async fn of(&self, instance: &Instance) -> Said {
        let Some(place) = self.place(instance) else {
            return Said::late();
        };
        let (state, instance) = (self.state.clone(), instance.clone());
        let reading = async move {
            let place = place.acquire_owned().await;
            let read = tokio::task::spawn_blocking(move || {
                let said = Said::read(&state, &instance);
                drop(place);
                said
            });
            read.await
        };
        match tokio::time::timeout(READ_WITHIN, reading).await {
            Ok(Ok(said)) => said,
            Ok(Err(_)) | Err(_) => Said::late(),
        }
    }

    fn place(&self, instance: &Instance) -> Option<Arc<Semaphore>> {
        let mut places = self
            .places
            .lock()
            .unwrap_or_else(std::sync::PoisonError::into_inner);
        if places.len() >= INSTANCES_MAX {
            // Those that nobody reads have nothing to keep apart.
            places.retain(|_, place| Arc::strong_count(place) > 1);
        }
        if places.len() >= INSTANCES_MAX {
            return None;
        }
        let place = places
            .entry(instance.clone())
            .or_insert_with(|| Arc::new(Semaphore::new(1)));
        Some(Arc::clone(place))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whatever a role's user plants in its directory, whoever asks has an answer at once, and the next who asks too.
    /// Method: a FIFO that nobody writes to in the place of each file, asked many times at once; then a file.
    #[tokio::test]
    async fn a_planted_fifo_holds_nobody_up() {
        let state = tempfile::tempdir().expect("a directory");
        let own = state.path().join("coreapp-1");
        std::fs::create_dir(&own).expect("made");
        for name in ["running", "epoch"] {
            nix::unistd::mkfifo(&own.join(name), nix::sys::stat::Mode::S_IRWXU).expect("made");
        }
        let written = Written::new(state.path().to_owned());
        let instance = ("coreapp".to_owned(), 1);
        for _ in 0..20 {
            let said = written.of(&instance).await;
            let why = said.run.expect_err("a FIFO");
            assert_eq!(why.kind(), io::ErrorKind::InvalidData, "{why}");
            assert!(said.obeyed.is_err());
        }
        std::fs::remove_file(own.join("epoch")).expect("removed");
        std::fs::write(own.join("epoch"), "7").expect("written");
        assert_eq!(written.of(&instance).await.obeyed.expect("read"), 7);
    }
}
