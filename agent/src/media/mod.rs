//! The shared media directory as the roles use it: whether it works, why not, and the files in it.
//! Belongs to no role; a role starts [`watch::run`] and asks [`Media`], which only reads what the last probe found.

pub mod file;
pub mod ogg;
pub mod watch;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use arc_swap::ArcSwap;
use prometheus_client::metrics::gauge::Gauge;

use crate::config::{MediaSettings, Require, Settings};
use crate::sys::mount::{Demand, Trouble};

/// What the last probe found.
#[derive(Debug, Clone, Default)]
pub struct State {
    pub trouble: Option<Trouble>,
    /// What is wrong and what to type; empty when nothing is.
    pub sentence: String,
    pub fs_type: String,
    pub free_bytes: u64,
    /// A probe has ended.
    pub looked: bool,
}

/// One process's view of the media directory.
pub struct Media {
    pub settings: MediaSettings,
    program: PathBuf,
    node: String,
    cluster_id: u64,
    demand: Demand,
    ok: AtomicBool,
    state: ArcSwap<State>,
}

impl Media {
    /// Nothing found yet, which speaks against nobody. `writes`: this process's user handles media, so that the probe
    /// tries what it will do; the host agent only looks.
    pub fn new(settings: &Settings, writes: bool) -> Arc<Self> {
        // This very program, whatever has been installed over it since.
        Self::of("/proc/self/exe".into(), settings, writes)
    }

    /// The same with the path of the program whose verb probes, for tests.
    pub fn of(program: PathBuf, settings: &Settings, writes: bool) -> Arc<Self> {
        let (media, node) = (&settings.media, settings.node.as_str().to_owned());
        Arc::new(Self {
            program,
            demand: Demand {
                directory: media.directory.clone(),
                require: media.require,
                free_min_bytes: media.free_min_bytes,
                inodes_min: media.inodes_min,
                node: writes.then(|| node.clone()),
            },
            node,
            cluster_id: settings.cluster_id,
            settings: media.clone(),
            ok: AtomicBool::new(true),
            state: ArcSwap::default(),
        })
    }

    /// The configuration wants media at all.
    pub fn wanted(&self) -> bool {
        self.settings.require != Require::None
    }

    /// Nothing is known to be wrong. Cheap: for loops that decide.
    pub fn ok(&self) -> bool {
        self.ok.load(Ordering::Acquire)
    }

    /// What the last probe found.
    pub fn state(&self) -> Arc<State> {
        self.state.load_full()
    }

    /// For a status line: what is wrong with the directory, and what to type.
    pub fn remark(&self) -> Option<String> {
        let state = self.state.load();
        state.trouble.as_ref()?;
        Some(format!("media: {}", state.sentence))
    }

    /// Shows the last probe in the metrics.
    pub fn measure(&self, ok: &Gauge, free_bytes: &Gauge) {
        ok.set(i64::from(self.ok()));
        free_bytes.set(i64::try_from(self.state.load().free_bytes).unwrap_or(i64::MAX));
    }

    /// What a probe would have found.
    #[cfg(test)]
    pub fn found(&self, trouble: Trouble, sentence: &str) {
        self.store(State {
            trouble: Some(trouble),
            sentence: sentence.to_owned(),
            ..State::default()
        });
    }

    fn store(&self, state: State) {
        self.ok.store(state.trouble.is_none(), Ordering::Release);
        self.state.store(Arc::new(state));
    }
}
