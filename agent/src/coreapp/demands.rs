//! Which files clients of one tenure wait for: each is fetched once, however many ask, and so many at a time.
//! Fetches nothing: `on_demand.rs` does.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::{Semaphore, SemaphorePermit, watch};

use crate::api::owner::OwnerAnswer;

/// Files at once. Those of new messages are counted for themselves: `fetches.rs`.
const RUNNING_MAX: usize = 4;
/// Files that are asked for and not here yet.
const ASKED_MAX: usize = 64;

/// What is told of a file; `None`: it is on its way.
pub type Told = watch::Receiver<Option<OwnerAnswer>>;
/// Who tells it.
pub type Tell = watch::Sender<Option<OwnerAnswer>>;

/// The files, by our ids.
pub struct Demands {
    files: Mutex<HashMap<String, Told>>,
    places: Semaphore,
}

impl Default for Demands {
    fn default() -> Self {
        Self {
            files: Mutex::default(),
            places: Semaphore::new(RUNNING_MAX),
        }
    }
}

/// What becomes of a question for a file.
pub enum Asked {
    /// Whoever asks shall fetch it.
    Yours(Tell, Told),
    Running(Told),
    Full,
}

impl Demands {
    fn lock(&self) -> MutexGuard<'_, HashMap<String, Told>> {
        self.files.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Somebody asks for a file.
    pub fn ask(&self, id: &str) -> Asked {
        let mut files = self.lock();
        if let Some(told) = files.get(id) {
            return Asked::Running(told.clone());
        }
        if files.len() >= ASKED_MAX {
            return Asked::Full;
        }
        let (tell, told) = watch::channel(None);
        files.insert(id.to_owned(), told.clone());
        Asked::Yours(tell, told)
    }

    /// A file is not on its way any more.
    pub fn forget(&self, id: &str) {
        self.lock().remove(id);
    }

    /// A place among those that run; `None` does not come: nobody closes them.
    pub async fn place(&self) -> Option<SemaphorePermit<'_>> {
        self.places.acquire().await.ok()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::owner::Settled;

    /// Goal: a file is fetched once, and files that are asked for have a bound. Method: questions without answers, and one that is
    /// over.
    #[test]
    fn a_file_is_fetched_once_and_all_are_bounded() {
        let files = Demands::default();
        let Asked::Yours(tell, mut first) = files.ask("a") else {
            panic!("nobody fetches it");
        };
        let Asked::Running(mut second) = files.ask("a") else {
            panic!("it is on its way");
        };
        tell.send_replace(Some(OwnerAnswer::Settled(Settled::Done)));
        for told in [&mut first, &mut second] {
            let done = Some(OwnerAnswer::Settled(Settled::Done));
            assert_eq!(*told.borrow_and_update(), done);
        }
        for n in 1..ASKED_MAX {
            assert!(matches!(files.ask(&n.to_string()), Asked::Yours(..)));
        }
        assert!(matches!(files.ask("b"), Asked::Full));
        assert!(matches!(files.ask("a"), Asked::Running(_)));
        files.forget("a");
        assert!(matches!(files.ask("b"), Asked::Yours(..)));
    }
}
