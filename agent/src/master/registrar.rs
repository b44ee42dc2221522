//! Keeps the own row in the node table, and the directory, as fresh as the database is.
//! Judges nobody.

use std::sync::{Arc, Mutex};
use std::time::Duration;

use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use wa_core::id::Incarnation;
use wa_core::master::Event;
use wa_core::roll::Roll;
use wa_core::time::Instant;

use super::directory::{Directory, READ_EVERY};
use super::news::{DECISIONS_LEN, News};
use super::rewinds::Rewinds;
use crate::config::Settings;
use crate::db::identity::Identity;
use crate::db::{Db, DbError};
use crate::media::watch::REPORT_AGE_MAX_MS;
use crate::member::claim::cluster_of;
use crate::member::register::{OwnRow, row};
use crate::metrics::MasterMetrics;
use crate::net::udp::Heartbeats;
use crate::sys::clock;
use crate::sys::trouble::Trouble;

/// The own row is not waited for any longer: a lock on all writes would hold up what is read besides.
const BEAT_WITHIN: Duration = Duration::from_secs(3);

/// How often it is looked what the upstream told.
const NEWS_EVERY: Duration = Duration::from_secs(5);

/// What the task needs.
pub struct Registrar {
    pub db: Db,
    pub settings: Arc<Settings>,
    pub incarnation: Incarnation,
    pub metrics: Arc<MasterMetrics>,
    pub heartbeats: Arc<Heartbeats>,
    pub directory: Arc<Directory>,
    /// What is remembered of the node table.
    pub roll: Arc<Mutex<Roll>>,
    /// Whether the database takes writes.
    pub writes: Arc<Trouble>,
    pub rewinds: Arc<Rewinds>,
    pub events: mpsc::Sender<Event>,
}

impl Registrar {
    /// Runs until the stop; ends this master where the database turns out to be another cluster's.
    pub async fn run(self, shutdown: CancellationToken) {
        let (db, s) = (&self.db, &self.settings);
        let cluster = Identity::of(s);
        let mut own = OwnRow::new(
            row(s, self.incarnation),
            &s.cluster_key,
            s.timers.db_beat_interval,
        )
        .within(BEAT_WITHIN)
        .telling(Arc::clone(&self.writes));
        let (mut known, mut news_at) = (0, None);
        while !shutdown.is_cancelled() {
            if own.beat_due()
                && let Err(error @ DbError::OtherCluster(_)) = db.same_cluster(&cluster).await
            {
                // Another cluster was quicker on an empty database.
                tracing::error!(error = %error.brief(), "ending");
                shutdown.cancel();
                return;
            }
            let written = own.keep(db).await.unwrap_or(false);
            // The row says by which key the database's cluster is known.
            if written && s.cluster_key.replaced() > 0 && self.metrics.primary.get() == 1 {
                let _ = db.claim_for(&cluster_of(s)).await;
            }
            self.read(&mut known).await;
            self.read_news(&mut news_at).await;
            tokio::select! {
                () = clock::sleep(READ_EVERY.min(s.timers.lease_ttl / 4)) => {}
                () = self.directory.asked() => {}
            }
        }
    }

    /// Events that are kept, and news of the account.
    async fn read_news(&self, next: &mut Option<Instant>) {
        let now = clock::now();
        if next.is_some_and(|next| now < next) {
            return;
        }
        *next = Some(now + NEWS_EVERY);
        let Ok(unread) = self.db.unread_events().await else {
            return;
        };
        let Ok(decisions) = self.db.decisions(DECISIONS_LEN).await else {
            return;
        };
        if let Ok(now_ms) = self.db.now_ms().await {
            let news = News::of(unread, &decisions, now_ms);
            self.directory.store_news(news);
        }
    }

    /// The node table, and what nodes say of themselves. `known` is how many nodes there were.
    async fn read(&self, known: &mut usize) {
        let (db, s, directory) = (&self.db, &self.settings, &self.directory);
        directory.begins();
        let nodes = db.members(&self.roll).await;
        let read = nodes.is_ok();
        if let Ok(nodes) = nodes {
            self.rewinds.saw(&nodes, db, &s.node, &self.metrics).await;
            let count = nodes.len();
            let t = &s.timers;
            directory.store(nodes, t.db_beat_interval + t.db_unhealthy_interval);
            let targets = directory.table().targets(&s.node, clock::now());
            self.heartbeats.set_targets(targets);
            if count != *known {
                *known = count;
                let _ = self.events.send(Event::Nudged).await;
            }
        }
        directory.ends(read);
        if let Ok(mounts) = db.mounts(REPORT_AGE_MAX_MS).await {
            directory.store_mounts(mounts);
        }
        if let Ok(fences) = db.fences(REPORT_AGE_MAX_MS).await {
            directory.store_fences(fences);
        }
    }
}
