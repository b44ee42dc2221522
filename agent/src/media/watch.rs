//! Has the media directory looked at again and again, compares its export with the cluster's, tells journal and database.
//! Decides nothing and touches the directory never itself: `sys/probe.rs` does, in a child.

use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use super::{Media, State};
use crate::db::mount::Mount;
use crate::db::{Db, DbError};
use crate::log::message_id;
use crate::sys::mount::{Findings, Trouble};
use crate::sys::probe::Prober;
use crate::sys::{clock, state};

/// The database is told at least this often, and at once when something changed.
const REPORT_EVERY: Duration = Duration::from_secs(30);
/// Words older than this are of nodes that are gone.
pub const REPORT_AGE_MAX_MS: u64 = 120_000;
/// For the statements of one round.
const DATABASE_WITHIN: Duration = Duration::from_secs(3);

/// Watches until `stop`. `db`: the database, while it is there; without it the export is compared with what was known.
pub async fn run<D>(media: Arc<Media>, db: D, stop: CancellationToken)
where
    D: Fn() -> Option<Arc<Db>> + Send + Sync + 'static,
{
    if !media.wanted() {
        return;
    }
    let mut watch = Watch {
        prober: Prober::of(
            media.program.clone(),
            media.demand.clone(),
            media.settings.probe_timeout,
        ),
        export: None,
        offered: format!(
            "{:016x} {:016x}{:016x}",
            media.cluster_id,
            state::random_u64(),
            state::random_u64()
        ),
        reported: None,
        media,
    };
    while !stop.is_cancelled() {
        watch.round(db()).await;
        let pause = watch.media.settings.probe_interval;
        tokio::select! {
            () = stop.cancelled() => {}
            () = clock::sleep(pause) => {}
        }
    }
}

struct Watch {
    media: Arc<Media>,
    prober: Prober,
    /// The cluster's export as the database last said; `None`: it has none, or has not been asked.
    export: Option<String>,
    /// What this process writes into an export that has no identity, where the cluster has none either.
    offered: String,
    reported: Option<(Mount, wa_core::time::Instant)>,
}

impl Watch {
    async fn round(&mut self, db: Option<Arc<Db>>) {
        let mut found = self.prober.look(None).await;
        if let Some(db) = db.as_deref().filter(|_| found.trouble.is_none()) {
            let compared = self.compare(db, &mut found);
            match tokio::time::timeout(DATABASE_WITHIN, compared).await {
                Ok(Ok(())) => {}
                Ok(Err(error)) => {
                    tracing::debug!(error = %error.brief(), "the media export cannot be compared now");
                    self.judge(&mut found);
                }
                Err(_) => self.judge(&mut found),
            }
        } else {
            self.judge(&mut found);
        }
        self.note(found);
        if let Some(db) = db {
            self.report(&db).await;
        }
    }

    /// Learns the cluster's export, or makes the one at hand the cluster's; then judges.
    async fn compare(&mut self, db: &Db, found: &mut Findings) -> Result<(), DbError> {
        self.export = db.media_export().await?;
        if self.export.is_none() && self.media.demand.node.is_some() {
            if found.identity.is_none() {
                *found = self.prober.look(Some(&self.offered)).await;
            }
            let own = format!("{:016x} ", self.media.cluster_id);
            match &found.identity {
                Some(identity) if identity.starts_with(&own) => {
                    self.export = db.claim_media_export(identity).await?;
                }
                // Of another cluster: it stays that one's until somebody says otherwise.
                Some(identity) => {
                    found.trouble =
                        Some(Trouble::OtherExport(identity.clone(), self.offered.clone()));
                }
                None => {}
            }
        }
        self.judge(found);
        Ok(())
    }

    /// Another export than the cluster's? Who cannot read the identity (the host agent, on NFS) does not say.
    fn judge(&self, found: &mut Findings) {
        let (None, Some(wanted)) = (&found.trouble, &self.export) else {
            return;
        };
        let found_words = match &found.identity {
            Some(identity) if identity == wanted => return,
            None if self.media.demand.node.is_none() => return,
            Some(identity) => identity.clone(),
            None => "nothing".into(),
        };
        found.trouble = Some(Trouble::OtherExport(found_words, wanted.clone()));
    }

    /// Keeps what was found, and says in the journal what changed.
    fn note(&self, found: Findings) {
        let directory = self.media.settings.directory.display();
        let before = self.media.state();
        let sentence = found
            .trouble
            .as_ref()
            .map(|trouble| trouble.sentence(&self.media.demand))
            .unwrap_or_default();
        let word = |trouble: &Option<Trouble>| trouble.as_ref().map(Trouble::word);
        match &found.trouble {
            Some(trouble) if word(&before.trouble) != Some(trouble.word()) => {
                tracing::error!(
                    MESSAGE_ID = message_id::MOUNT_BROKEN,
                    REASON = trouble.word(),
                    "media: {sentence}"
                );
            }
            None if before.trouble.is_some() => tracing::info!(
                MESSAGE_ID = message_id::MOUNT_HEALED,
                "media: {directory} works again ({}, {} free)",
                found.fs_type,
                bytesize::ByteSize(found.free_bytes)
            ),
            None if !before.looked => tracing::info!(
                "media: {directory} works ({}, {} free)",
                found.fs_type,
                bytesize::ByteSize(found.free_bytes)
            ),
            _ => {}
        }
        self.media.store(State {
            trouble: found.trouble,
            sentence,
            fs_type: found.fs_type,
            free_bytes: found.free_bytes,
            looked: true,
        });
    }

    async fn report(&mut self, db: &Db) {
        let (state, now) = (self.media.state(), clock::now());
        let mount = Mount {
            node: self.media.node.clone(),
            word: state
                .trouble
                .as_ref()
                .map_or("ok", Trouble::word)
                .to_owned(),
            sentence: state.sentence.clone(),
            fs_type: state.fs_type.clone(),
            free_bytes: state.free_bytes,
        };
        let told = self
            .reported
            .as_ref()
            .is_some_and(|(before, at)| before.word == mount.word && now.since(*at) < REPORT_EVERY);
        if told {
            return;
        }
        let report = tokio::time::timeout(DATABASE_WITHIN, db.report_mount(&mount));
        if matches!(report.await, Ok(Ok(()))) {
            self.reported = Some((mount, now));
        }
    }
}
