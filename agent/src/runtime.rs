//! The tokio runtime of a role: signals, stop, and the last deadline.
//! Runs whatever future it is handed.

use std::future::Future;
use std::time::Duration;

use std::collections::BTreeMap;
use std::path::PathBuf;

use tokio::signal::unix::{SignalKind, signal};
use tokio_util::sync::CancellationToken;
use wa_core::id::Role;

use secrecy::ExposeSecret as _;

use crate::config::{self, ClusterKey};
use crate::net::keys::Keys;
use crate::sys::{debug, notify, sched};

/// After the stop signal, a role may take this long; then the process ends all the same.
const STOP_MAX: Duration = Duration::from_secs(30);

/// The configuration in force, to be compared with what is written now (`systemctl reload`, SIGHUP).
pub struct Reload {
    /// The one value that is put into force at once.
    pub key: ClusterKey,
    pub role: Role,
    pub instance: u16,
    pub file: Option<PathBuf>,
    /// Of the values in force.
    pub origins: BTreeMap<&'static str, (String, String)>,
}

impl Reload {
    /// Reads the files again, puts the cluster key into force, and says what a restart would change of the rest. What else
    /// may change under way lives in the database, and certificates are read again by themselves.
    fn run(&self) {
        notify::reloading();
        match config::load(self.role, self.instance, self.file.as_deref()) {
            Ok(loaded) => {
                if self
                    .key
                    .replace(loaded.settings.cluster_key.current().expose_secret())
                {
                    let (sends, accepts) = Keys::of(&self.key).ids();
                    tracing::info!(
                        sends,
                        accepts,
                        "the cluster key was read again and is in force"
                    );
                }
                match self.changed(&loaded.origins) {
                    keys if keys.is_empty() => {
                        tracing::info!("configuration read again: unchanged");
                    }
                    keys => tracing::warn!(
                        "configuration read again; restart this instance to use the new {}",
                        keys.join(", ")
                    ),
                }
            }
            Err(error) => tracing::warn!(
                error = error.in_one_line(),
                "configuration read again: it cannot be used, a restart would fail; going on with the old one"
            ),
        }
        notify::reloaded();
    }

    /// Keys with another value, or without one.
    fn changed(&self, now: &BTreeMap<&'static str, (String, String)>) -> Vec<&'static str> {
        let value = |of: &BTreeMap<&str, (String, String)>, key: &str| {
            of.get(key).map(|(value, _)| value.clone())
        };
        let mut keys: Vec<_> = self.origins.keys().chain(now.keys()).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        keys.retain(|key| value(&self.origins, key) != value(now, key));
        keys
    }
}

/// Runs a role until it ends by itself or is told to stop.
///
/// # Errors
/// What the role returns; an error of the runtime itself.
pub fn run<F, Fut, E>(reload: Option<&Reload>, role: F) -> anyhow::Result<()>
where
    F: FnOnce(CancellationToken) -> Fut,
    Fut: Future<Output = Result<(), E>>,
    E: std::error::Error + Send + Sync + 'static,
{
    let urgent = reload.is_some_and(|r| matches!(r.role, Role::Master | Role::Host));
    // Masters and host agents do nothing but decide and fence: other work on the machine must not make a lease late or a
    // death old news. Where this is not allowed the heartbeat thread says so.
    let raise = move || {
        if urgent {
            let _ = sched::raise_this_thread(sched::Urgency::Deciding);
        }
    };
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .on_thread_start(raise)
        .enable_all()
        .build()?;
    raise();
    let result = runtime.block_on(async {
        let stop = CancellationToken::new();
        let mut term = signal(SignalKind::terminate())?;
        let mut int = signal(SignalKind::interrupt())?;
        let mut hup = signal(SignalKind::hangup())?;
        if debug::signals_wanted() {
            tokio::spawn(hang_on(signal(SignalKind::user_defined2())?));
        }
        let role = role(stop.clone());
        tokio::pin!(role);
        loop {
            tokio::select! {
                result = &mut role => return result.map_err(anyhow::Error::from),
                _ = term.recv() => break,
                _ = int.recv() => break,
                _ = hup.recv() => {
                    if let Some(reload) = reload {
                        reload.run();
                    }
                }
            }
        }
        tracing::info!(
            MESSAGE_ID = crate::log::message_id::ROLE_STOPPING,
            "told to stop; giving back what is held"
        );
        notify::stopping(STOP_MAX);
        stop.cancel();
        // Whoever types Ctrl-C again does not want to wait for the drain.
        tokio::select! {
            result = role => result.map_err(anyhow::Error::from),
            _ = int.recv() => Err(anyhow::anyhow!("told to stop a second time; ended by force")),
            () = crate::sys::clock::sleep(STOP_MAX) => Err(anyhow::anyhow!(
                "stopping took longer than {STOP_MAX:?}; ended by force"
            )),
        }
    });
    runtime.shutdown_timeout(Duration::from_millis(200));
    result
}

/// See [`debug`].
async fn hang_on(mut told: tokio::signal::unix::Signal) {
    if told.recv().await.is_some() {
        tracing::warn!("SIGUSR2: the decision loop stands still from now on");
        debug::hang();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: a reload names what a restart would change, values that came and values that went included.
    #[test]
    fn a_reload_names_what_changed() {
        let map = |pairs: &[(&'static str, &str)]| {
            let entry = |(key, value): &(&'static str, &str)| {
                (*key, ((*value).to_owned(), "a file".to_owned()))
            };
            pairs.iter().map(entry).collect::<BTreeMap<_, _>>()
        };
        let reload = Reload {
            key: ClusterKey::new(Vec::new()),
            role: Role::Master,
            instance: 1,
            file: None,
            origins: map(&[("a.kept", "1"), ("a.other", "1"), ("a.gone", "1")]),
        };
        let now = map(&[("a.kept", "1"), ("a.other", "2"), ("a.new", "1")]);
        assert_eq!(reload.changed(&now), ["a.gone", "a.new", "a.other"]);
        assert!(reload.changed(&reload.origins).is_empty());
    }
}
