//! The tokio runtime of a role: signals, stop, and the last deadline.
//! Runs whatever future it is handed.

use std::future::Future;
use std::time::Duration;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::signal::unix::{SignalKind, signal};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use wa_core::id::Role;

use secrecy::ExposeSecret as _;

use crate::config::{self, Settings};
use crate::db::renew;
use crate::net::keys::Keys;
use crate::sys::{debug, notify, sched};

/// After the stop signal, a role may take this long; then the process ends all the same.
const STOP_MAX: Duration = Duration::from_secs(30);

/// A role that is not ready by then is started all the same, and waits on: the machine's own start does not wait for it.
const STARTED_WITHIN: Duration = Duration::from_secs(15);

/// The configuration in force, to be compared with what is written now (`systemctl reload`, SIGHUP).
pub struct Reload {
    /// Its secrets are put into force at once.
    pub settings: Arc<Settings>,
    pub role: Role,
    pub instance: u16,
    pub file: Option<PathBuf>,
    /// Of the values in force.
    pub origins: BTreeMap<&'static str, (String, String)>,
    /// New passwords that the database is asked about.
    pub tries: Mutex<JoinSet<()>>,
}

/// Put into force at once: no restart is needed for them.
const SECRETS: [&str; 8] = [
    "cluster.key_file",
    "database.password_file",
    "upstream.app_secret_file",
    "upstream.pin_file",
    "upstream.token_file",
    "upstream.verify_token_file",
    "webapp.api_key_file",
    "webhooks.secret_file",
];

impl Reload {
    /// Reads the files again, puts the secrets into force, and says what a restart would change of the rest. What else may
    /// change under way lives in the database, and certificates are read again by themselves.
    fn run(&self) {
        notify::reloading();
        match config::load(self.role, self.instance, self.file.as_deref()) {
            Ok(loaded) => {
                for open in &loaded.open {
                    tracing::warn!("{open}");
                }
                let renewed = self.renew(&loaded.settings);
                match self.changed(&loaded.origins) {
                    keys if keys.is_empty() && renewed.is_empty() => {
                        tracing::info!("configuration read again: unchanged");
                    }
                    keys if keys.is_empty() => tracing::info!(
                        "configuration read again; without a restart: {}",
                        renewed.join(", ")
                    ),
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

    /// Puts other secrets into force; says which, and how far they are.
    fn renew(&self, new: &Settings) -> Vec<&'static str> {
        let ours = &self.settings;
        let mut renewed = Vec::new();
        if ours
            .cluster_key
            .replace(new.cluster_key.current().expose_secret())
        {
            let (sends, accepts) = Keys::of(&ours.cluster_key).ids();
            tracing::info!(
                sends,
                accepts,
                "the cluster key was read again and is in force"
            );
            renewed.push("the cluster key");
        }
        for (what, of, to) in [
            (
                "the upstream's token (in force; the former is kept until this one was taken)",
                &ours.upstream.token,
                &new.upstream.token,
            ),
            (
                "the app secret (in force; the former is kept until an event fits this one)",
                &ours.upstream.app_secret,
                &new.upstream.app_secret,
            ),
            (
                "the verify token (in force)",
                &ours.upstream.verify_token,
                &new.upstream.verify_token,
            ),
            ("the pin (in force)", &ours.upstream.pin, &new.upstream.pin),
            ("the API key (in force)", &ours.api_key, &new.api_key),
            (
                "the secret that webhooks are signed with (in force)",
                &ours.webhooks.secret,
                &new.webhooks.secret,
            ),
        ] {
            if of.replace(to.now().expose_secret()) {
                renewed.push(what);
            }
        }
        let (old, urls) = (&ours.database.urls, &new.database.urls);
        if renew::only_passwords(old, urls) {
            // Whatever was tried before is out of date.
            let mut tries = self.tries.lock().unwrap_or_else(PoisonError::into_inner);
            *tries = JoinSet::new();
            if renew::begin(&ours.database, urls.clone(), &mut tries) > 0 {
                renewed.push("the database password (its server is asked whether it takes it)");
            }
        }
        renewed
    }

    /// Keys with another value, or without one, that need a restart.
    fn changed(&self, now: &BTreeMap<&'static str, (String, String)>) -> Vec<&'static str> {
        let value = |of: &BTreeMap<&str, (String, String)>, key: &str| {
            of.get(key).map(|(value, _)| value.clone())
        };
        let mut keys: Vec<_> = self.origins.keys().chain(now.keys()).copied().collect();
        keys.sort_unstable();
        keys.dedup();
        // What is shown of a list of servers has no passwords: another one is tried at once.
        keys.retain(|key| !SECRETS.contains(key) && value(&self.origins, key) != value(now, key));
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
    // death old news. Where this is not allowed the heartbeat thread says so; a host agent's unit raises it from outside.
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
        tokio::spawn(async {
            crate::sys::clock::sleep(STARTED_WITHIN).await;
            notify::started_though_not_ready();
        });
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
    use std::path::Path;

    use super::*;

    fn read(file: &Path) -> config::Loaded {
        config::load(Role::Webapp, 1, Some(file)).expect("a configuration")
    }

    fn reload(file: &Path) -> Reload {
        let loaded = read(file);
        Reload {
            settings: Arc::new(loaded.settings),
            role: Role::Webapp,
            instance: 1,
            file: Some(file.to_owned()),
            origins: loaded.origins,
            tries: Mutex::default(),
        }
    }

    /// Goal: a reload names what a restart would change, values that came and values that went included. Method: a file that
    /// is written anew.
    #[test]
    fn a_reload_names_what_changed() {
        let directory = tempfile::tempdir().expect("a directory");
        let (key, file) = (
            directory.path().join("key"),
            directory.path().join("a.toml"),
        );
        std::fs::write(&key, "5a".repeat(32)).expect("written");
        let write = |more: &str| {
            let text =
                format!("[cluster]\nname = \"c\"\nkey_file = {key:?}\ndevelopment = true\n{more}");
            std::fs::write(&file, text).expect("written");
        };
        write("[node]\nweight = 1\n[database]\nssl_ca = \"/a\"\n");
        let reload = reload(&file);
        assert!(reload.changed(&read(&file).origins).is_empty());
        write("[node]\nweight = 2\nzone = \"b\"\n");
        assert_eq!(
            reload.changed(&read(&file).origins),
            ["database.ssl_ca", "node.weight", "node.zone"]
        );
    }

    /// Goal: every secret is taken by a reload, and none asks for a restart, though it is shown masked before and after (F13).
    /// Method: a configuration whose files are rewritten between two readings; the database is asked in vain, so that the old
    /// password stays in force.
    #[tokio::test]
    async fn f13_every_secret_is_taken_without_a_restart() {
        let directory = tempfile::tempdir().expect("a directory");
        let write = |name: &str, text: &str| {
            let path = directory.path().join(name);
            std::fs::write(&path, text).expect("written");
            path
        };
        let names = [
            "token",
            "app_secret",
            "verify_token",
            "password",
            "api_key",
            "webhooks",
        ];
        let mut files = names.map(|name| format!("{:?}", write(name, "first-secret")));
        let key = write("key", &"5a".repeat(32));
        let [token, app, verify, password, api, webhooks] = &mut files;
        let text = format!(
            "[cluster]\nname = \"c\"\nkey_file = {key:?}\ndevelopment = true\n[database]\nurls = [\"mysql://wa@127.0.0.1:1/wa\"]\n\
             password_file = {password}\n[upstream]\ntoken_file = {token}\napp_secret_file = {app}\nverify_token_file = {verify}\n\
             [webapp]\napi_key_file = {api}\n[webhooks]\nsecret_file = {webhooks}\n"
        );
        let file = write("wa-agent.toml", &text);
        let reload = reload(&file);
        assert!(reload.renew(&read(&file).settings).is_empty());
        for name in names {
            write(name, "other-secret");
        }
        write("key", &"6b".repeat(32));
        let after = read(&file);
        assert_eq!(reload.renew(&after.settings).len(), 7);
        assert!(reload.changed(&after.origins).is_empty(), "no restart");
        let ours = &reload.settings;
        let upstream = &ours.upstream;
        for secret in [
            &upstream.token,
            &upstream.app_secret,
            &upstream.verify_token,
            &ours.api_key,
            &ours.webhooks.secret,
        ] {
            assert_eq!(secret.now().expose_secret(), "other-secret");
        }
        assert!(
            ours.database.url(0).contains("first-secret"),
            "nobody took the other"
        );
    }
}
