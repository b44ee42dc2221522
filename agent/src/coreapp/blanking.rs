//! Whether the content of finished messages may go: only while every coreapp that may own a shard knows such rows. One of a release
//! before that takes over would read an empty row, and its callbacks would repeat nothing of what the client gave the message.
//! Takes nothing away: `record.rs` and `sweep.rs` do.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};

use wa_core::id::{Incarnation, NodeId, Role};

use crate::api::v1::message::stored::BLANKED;
use crate::db::node::Registered;
use crate::db::node_form::read_by_all;
use crate::db::{Db, DbError};

type Starts = Vec<(NodeId, Incarnation)>;

/// What one node knows of it.
#[derive(Debug, Default)]
pub struct Blanking {
    may: AtomicBool,
    /// The coreapps that were asked about last.
    of: Mutex<Option<Starts>>,
}

impl Blanking {
    /// Content may go. Until the coreapps are known, none does.
    pub fn may(&self) -> bool {
        self.may.load(Ordering::Acquire)
    }

    /// Looks anew where another coreapp is there, or one started again: what a start says, it says before it is there.
    ///
    /// # Errors
    /// When the database does not answer: what was known counts on, and the next look asks again.
    pub async fn look(&self, db: &Db, members: &[Registered]) -> Result<(), DbError> {
        let all = members.iter().map(|member| &member.registration);
        let coreapps = all.clone().filter(|member| member.role == Role::Coreapp);
        let starts: Starts = coreapps.map(|m| (m.node.clone(), m.incarnation)).collect();
        let same = |of: &Option<Starts>| of.as_ref() == Some(&starts);
        if same(&self.of.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(());
        }
        let may = read_by_all(all, &db.forms().await?) >= BLANKED;
        if self.may.swap(may, Ordering::AcqRel) && !may {
            tracing::info!(
                "a coreapp of a release that does not know it is here: the content of finished messages stays until it is gone"
            );
        }
        *self.of.lock().unwrap_or_else(PoisonError::into_inner) = Some(starts);
        Ok(())
    }
}
