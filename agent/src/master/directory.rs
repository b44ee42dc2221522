//! Who is where: keeps the newest [`Table`] for all tasks of a master, and knows who waits for the next reading of it.
//! Judges nobody.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use arc_swap::ArcSwap;
use tokio::sync::{Notify, oneshot};

use super::fresh::ReadWaiters;
use super::news::News;
use super::table::{Table, Words};
use crate::db::fence::FenceWord;
use crate::db::mount::Mount;
use crate::db::node::Registered;
use crate::sys::clock;

/// How often the table is read: often enough that a newcomer is pinged soon.
pub const READ_EVERY: Duration = Duration::from_millis(500);

/// The newest table.
#[derive(Default)]
pub struct Directory {
    table: ArcSwap<Table>,
    waiters: Mutex<ReadWaiters>,
    asked: Notify,
}

impl Directory {
    /// What is known now.
    pub fn table(&self) -> Arc<Table> {
        self.table.load_full()
    }

    /// Replaces the rows. Where a node was before it is asked for `keep` longer.
    pub fn store(&self, nodes: Vec<Registered>, keep: Duration) {
        let (nodes, until) = (Arc::new(nodes), clock::now() + keep);
        self.change(|table| table.take_nodes(Arc::clone(&nodes), until));
    }

    /// Replaces what nodes say of their media directories.
    pub fn store_mounts(&self, mounts: Vec<Mount>) {
        let mounts = Arc::new(mounts);
        self.change(|table| table.mounts = Arc::clone(&mounts));
    }

    /// Replaces what host agents say of their machines' fences.
    pub fn store_fences(&self, fences: Vec<FenceWord>) {
        let fences = Arc::new(fences);
        self.change(|table| table.fences = Arc::clone(&fences));
    }

    /// Replaces what the upstream told.
    pub fn store_news(&self, news: News) {
        let news = Arc::new(news);
        self.change(|table| table.news = Arc::clone(&news));
    }

    /// Replaces what coreapps say of their work.
    pub fn store_words(&self, words: Words) {
        let words = Arc::new(words);
        self.change(|table| table.words = Arc::clone(&words));
    }

    /// Done again if another task changes another part meanwhile.
    fn change(&self, part: impl Fn(&mut Table)) {
        self.table.rcu(|table| {
            let mut table = Table::clone(table);
            part(&mut table);
            table
        });
    }

    /// Waits until the table was read again by a reading that begins after this call. False: the database did not answer it.
    /// Without a reader it waits for ever.
    pub async fn fresh(&self) -> bool {
        let (told, read) = oneshot::channel();
        self.waiters().wait(told);
        self.asked.notify_one();
        read.await.unwrap_or(false)
    }

    /// Somebody waits for a reading.
    pub async fn asked(&self) {
        self.asked.notified().await;
    }

    /// The table is being read.
    pub fn begins(&self) {
        self.waiters().begins();
    }

    /// The reading ended, and was stored if it brought a table.
    pub fn ends(&self, read: bool) {
        self.waiters().ends(read);
    }

    fn waiters(&self) -> MutexGuard<'_, ReadWaiters> {
        self.waiters.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
