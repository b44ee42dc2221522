//! How verbs look: with the cluster key through masters and database, without it through the host agent of this machine.
//! Changes nothing.

use std::collections::BTreeSet;
use std::path::Path;
use std::time::Duration;

use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use wa_core::id::Role;
use wa_core::judgement::Grade;

use super::reach::{Cluster, config_file, typed, user_name};
use crate::api::control::{ClusterStatus, Explanation};
use crate::api::judged::Judged;
use crate::api::look::Look;
use crate::api::parked::List;
use crate::api::v1::setting::ApplicationSettings;
use crate::api::v1::user::ADMIN;
use crate::config;
use crate::db::audit::Line;
use crate::db::event::{Kept, KeptCounts};
use crate::db::history::Decision;
use crate::db::mount::Mount;
use crate::db::token::Shown;
use crate::db::{Db, DbError};
use crate::exit::Exit;
use crate::media::watch::REPORT_AGE_MAX_MS;
use crate::member::settings;
use crate::sys::look_socket;
use crate::webapp::plain;

/// How long the database may take.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
/// The host agent asks masters and database itself.
const HOST_WITHIN: Duration = Duration::from_secs(12);

/// By which way one looks.
pub enum View {
    Cluster(Box<Cluster>),
    /// Who runs this can read no key.
    Member,
}

/// A user of the API, without the hash of the password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listed {
    pub username: String,
    pub admin: bool,
    /// The password is the one that the product came with.
    pub first_password: bool,
    /// Tokens that are good.
    pub tokens: u64,
}

/// Why nothing can be shown, and the exit code for it.
#[derive(Debug)]
pub struct Nothing {
    exit: Exit,
    says: String,
}

impl Nothing {
    /// Says it, for a verb that ends with it.
    pub fn told(self) -> Exit {
        eprintln!("wa-agent: {}", self.says);
        self.exit
    }

    /// The sentence, for a page that goes on.
    #[cfg(feature = "watch")]
    pub fn says(self) -> (String, Exit) {
        (self.says, self.exit)
    }
}

/// 3 when something is wrong; remarks on the layout, and what operators switched off, are not.
pub fn exit_of(status: &ClusterStatus) -> Exit {
    match status.wrong() {
        true => Exit::Refuted,
        false => Exit::Ok,
    }
}

/// Adds to a master's answer what was found besides.
pub fn add(status: &mut ClusterStatus, judged: Judged) {
    status.problems.push(judged.line());
    status.judged.push(judged);
}

/// What a member of the group that may look is not shown.
fn only_root(what: &str) -> Nothing {
    Nothing {
        exit: Exit::Failure,
        says: format!(
            "{} may not look at {what}: type sudo {}",
            user_name(),
            typed()
        ),
    }
}

fn away(says: String) -> Nothing {
    Nothing {
        exit: Exit::Unavailable,
        says,
    }
}

impl View {
    /// Reads the configuration, as far as this user may.
    ///
    /// # Errors
    /// When there is no usable configuration.
    pub async fn find(named: Option<&Path>) -> anyhow::Result<Self> {
        if config_file(named).is_some_and(|file| config::secrets_hidden(&file)) {
            return Ok(Self::Member);
        }
        Ok(Self::Cluster(Box::new(Cluster::find(named).await?)))
    }

    /// The primary's view, else that of any master that answers.
    ///
    /// # Errors
    /// When none does, or this user may not look.
    pub async fn status(&self) -> Result<ClusterStatus, Nothing> {
        match self {
            Self::Cluster(cluster) => {
                let status = cluster.status().await;
                status.ok_or_else(|| away(cluster.nobody()))
            }
            Self::Member => through_host(Look::Status).await,
        }
    }

    /// What this machine's configuration and the users say of the public API: worth a remark in `status`. Nothing where the
    /// database does not answer, which `status` says itself.
    async fn public_remarks(&self) -> Vec<Judged> {
        let Self::Cluster(cluster) = self else {
            return Vec::new();
        };
        let remark = |kind: &str, says: String, remedy: &str| Judged {
            kind: kind.into(),
            grade: Grade::Remark.as_str().into(),
            about: String::new(),
            says,
            remedy: remedy.into(),
        };
        let mut remarks = Vec::new();
        if plain::is_open(&cluster.settings) {
            let says = format!(
                "the public API speaks without TLS on {} as this machine is configured",
                cluster.settings.bind
            );
            remarks.push(remark("api_without_tls", says, plain::ADVICE));
        }
        let admin = in_time(async { connect(cluster).await?.user(ADMIN).await }).await;
        if let Ok(Some(admin)) = admin
            && admin.must_change != 0
        {
            let says = format!("{ADMIN} has still the first password");
            remarks.push(remark(
                "first_password",
                says,
                "wa-agent doctor says how to change it",
            ));
        }
        remarks
    }

    /// Files with secrets that others of this machine can read, and that its instances go on with: worth a remark in `status`.
    fn file_remarks(&self, named: Option<&Path>) -> Vec<Judged> {
        let Self::Cluster(_) = self else {
            return Vec::new();
        };
        let file = config_file(named);
        let roles = [Role::Master, Role::Coreapp, Role::Webapp].into_iter();
        let found = roles.flat_map(|role| config::open_files(role, 1, file.as_deref()));
        let found: BTreeSet<config::Open> = found.flatten().collect();
        found
            .into_iter()
            .map(|open| Judged {
                kind: "open_secret".into(),
                grade: Grade::Remark.as_str().into(),
                about: String::new(),
                says: open.says,
                remedy: open.advice,
            })
            .collect()
    }

    /// All that this machine adds to what a master says.
    pub async fn remarks(&self, named: Option<&Path>) -> Vec<Judged> {
        let mut remarks = self.public_remarks().await;
        remarks.extend(self.file_remarks(named));
        remarks
    }

    /// What each node says of its media directory.
    ///
    /// # Errors
    /// See [`Self::decisions`].
    pub async fn mounts(&self) -> Result<Vec<Mount>, Nothing> {
        match self {
            Self::Cluster(cluster) => {
                in_time(async { connect(cluster).await?.mounts(REPORT_AGE_MAX_MS).await }).await
            }
            Self::Member => through_host(Look::Mounts).await,
        }
    }

    /// Why each shard is where it is.
    ///
    /// # Errors
    /// See [`Self::status`].
    pub async fn explain(&self) -> Result<Vec<Explanation>, Nothing> {
        match self {
            Self::Cluster(cluster) => {
                let all = cluster.explain().await;
                all.ok_or_else(|| away(cluster.nobody()))
            }
            Self::Member => through_host(Look::Explain).await,
        }
    }

    /// The newest decisions, oldest first.
    ///
    /// # Errors
    /// When the database does not answer, or this user may not look.
    pub async fn decisions(&self, limit: u32) -> Result<Vec<Decision>, Nothing> {
        match self {
            Self::Cluster(cluster) => {
                in_time(async { connect(cluster).await?.decisions(limit).await }).await
            }
            Self::Member => through_host(Look::History { limit }).await,
        }
    }

    /// One decision, its evidence, and what followed.
    ///
    /// # Errors
    /// See [`Self::decisions`].
    pub async fn decision(
        &self,
        id: i64,
    ) -> Result<Option<(Decision, String, Vec<Decision>)>, Nothing> {
        match self {
            Self::Cluster(cluster) => {
                in_time(async { connect(cluster).await?.decision(id).await }).await
            }
            Self::Member => through_host(Look::Decision { id }).await,
        }
    }

    /// Events of the upstream that are kept for people, the newest first, and how many there are.
    ///
    /// # Errors
    /// See [`Self::decisions`].
    pub async fn events(&self, limit: u32) -> Result<(Vec<Kept>, KeptCounts), Nothing> {
        match self {
            Self::Cluster(cluster) => {
                let read = async {
                    let db = connect(cluster).await?;
                    Ok((db.kept_events(limit).await?, db.kept_counts().await?))
                };
                in_time(read).await
            }
            Self::Member => Err(only_root("events, which name customers")),
        }
    }

    /// Every user of the API, by name.
    ///
    /// # Errors
    /// See [`Self::decisions`].
    pub async fn users(&self) -> Result<Vec<Listed>, Nothing> {
        let Self::Cluster(cluster) = self else {
            return Err(only_root("users"));
        };
        in_time(async {
            let db = connect(cluster).await?;
            let tokens = db.token_counts().await?;
            let count = |name: &str| {
                tokens
                    .iter()
                    .find(|(user, _)| user == name)
                    .map_or(0, |t| t.1)
            };
            let users = db.users().await?.into_iter().map(|user| Listed {
                tokens: count(&user.username),
                admin: user.admin != 0,
                first_password: user.must_change != 0,
                username: user.username,
            });
            Ok(users.collect())
        })
        .await
    }

    /// Tokens that are good, of one user or of all.
    ///
    /// # Errors
    /// See [`Self::decisions`].
    pub async fn tokens(&self, user: Option<&str>, limit: u32) -> Result<Vec<Shown>, Nothing> {
        match self {
            Self::Cluster(cluster) => {
                in_time(async { connect(cluster).await?.tokens(user, limit).await }).await
            }
            Self::Member => Err(only_root("tokens")),
        }
    }

    /// The newest lines of the audit, oldest first; of one user or operator where one is named.
    ///
    /// # Errors
    /// See [`Self::decisions`].
    pub async fn audit(&self, who: Option<&str>, limit: u32) -> Result<Vec<Line>, Nothing> {
        match self {
            Self::Cluster(cluster) => {
                in_time(async { connect(cluster).await?.audit(who, limit).await }).await
            }
            Self::Member => Err(only_root("the audit")),
        }
    }

    /// The oldest parked webhooks.
    ///
    /// # Errors
    /// See [`Self::decisions`].
    pub async fn parked(&self, limit: u32) -> Result<List, Nothing> {
        match self {
            Self::Cluster(cluster) => {
                in_time(async {
                    let db = connect(cluster).await?;
                    Ok(List {
                        parked: db.parked_webhooks(limit).await?,
                        count: db.parked_count(None).await?,
                    })
                })
                .await
            }
            Self::Member => through_host(Look::Webhooks { limit }).await,
        }
    }

    /// The application settings, without what may be a secret.
    ///
    /// # Errors
    /// See [`Self::decisions`].
    pub async fn settings(&self) -> Result<Value, Nothing> {
        let cluster = match self {
            Self::Cluster(cluster) => cluster,
            Self::Member => return through_host(Look::Settings).await,
        };
        let read = async { settings::read::<ApplicationSettings>(&connect(cluster).await?).await };
        let stored = in_time(read).await?;
        let settings = stored.value.map_err(|error| Nothing {
            exit: Exit::Failure,
            says: format!("the stored settings cannot be read ({error}); DELETE /v1/settings/application restores the defaults"),
        })?;
        Ok(json!({ "version": stored.version, "application": settings.without_secrets() }))
    }
}

async fn connect(cluster: &Cluster) -> Result<Db, DbError> {
    Db::connect(&cluster.settings.database, 1).await
}

async fn in_time<T>(read: impl Future<Output = Result<T, DbError>>) -> Result<T, Nothing> {
    match tokio::time::timeout(ANSWER_WITHIN, read).await {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(error)) if error.is_older_schema() => Err(away(older_schema())),
        Ok(Err(error)) => Err(away(error.brief())),
        Err(_) => Err(away(format!(
            "the database did not answer within {ANSWER_WITHIN:?}"
        ))),
    }
}

/// What to type where this release looks for what an older one has not made.
fn older_schema() -> String {
    "the tables in the database are of an older release, and do not hold this yet. The first master of this release that becomes \
     primary brings them up to date: upgrade the machines with masters. To have one of them begin at once, type there: systemctl \
     restart 'wa-master@*'. Then type this again"
        .to_owned()
}

/// Asks the host agent of this machine.
async fn through_host<T: DeserializeOwned>(look: Look) -> Result<T, Nothing> {
    let question = serde_json::to_string(&look).map_err(|error| away(error.to_string()))?;
    let path = Path::new(look_socket::PATH);
    let answer = look_socket::ask(path, &question, HOST_WITHIN)
        .await
        .map_err(|error| unheard(&error, &user_name(), &typed()))?;
    let said = serde_json::from_slice::<Result<T, String>>(&answer);
    let broken = |_| {
        away("the host agent of this machine broke off, or is of another version: systemctl status wa-host says more".into())
    };
    said.map_err(broken)?.map_err(away)
}

/// Why the host agent was not heard, and what to type.
fn unheard(error: &std::io::Error, user: &str, typed: &str) -> Nothing {
    use std::io::ErrorKind;
    match error.kind() {
        ErrorKind::PermissionDenied => Nothing {
            exit: Exit::Failure,
            says: format!(
                "{user} may not look: type sudo {typed}, or once, as root, usermod -aG wa {user}; it counts from the next login on"
            ),
        },
        ErrorKind::NotFound | ErrorKind::ConnectionRefused => away(format!(
            "{user} cannot read the cluster key, and no host agent runs here that could be asked instead: an administrator \
             types systemctl start wa-host, or sudo {typed}"
        )),
        _ => away(format!(
            "the host agent of this machine does not answer ({error}): systemctl status wa-host says more"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whoever asks for what an older release has not made yet learns what to upgrade, in place of the words of SQL. Method: the audit
    /// and the tokens of a database without their tables.
    #[tokio::test]
    async fn an_older_schema_says_what_to_upgrade() {
        let directory = tempfile::tempdir().expect("a directory");
        let settings = config::DatabaseSettings {
            urls: vec![format!("sqlite://{}/wa.db", directory.path().display())],
            logins: Default::default(),
            replication: config::Replication::Auto,
            ssl_ca: None,
            ssl_cert: None,
            ssl_key: None,
            connect_timeout: ANSWER_WITHIN,
            busy_timeout: ANSWER_WITHIN,
        };
        let db = Db::connect(&settings, 1).await.expect("opened");
        db.ensure_lease_table().await.expect("made");
        let audit = in_time(db.audit(None, 1)).await.expect_err("no table");
        let tokens = in_time(db.token_counts()).await.expect_err("no table");
        for nothing in [audit, tokens] {
            let says = nothing.says;
            assert!(says.contains("upgrade the machines with masters"), "{says}");
            assert!(!says.contains("no such table"), "{says}");
        }
    }

    /// Goal: whoever may not look learns what to type, in either case.
    #[test]
    fn who_may_not_look_learns_what_to_type() {
        let denied = std::io::ErrorKind::PermissionDenied.into();
        let nothing = unheard(&denied, "ann", "wa-agent status");
        assert!(nothing.says.contains("usermod -aG wa ann"), "{nothing:?}");
        assert!(nothing.says.contains("sudo wa-agent status"), "{nothing:?}");
        let missing = std::io::ErrorKind::NotFound.into();
        let nothing = unheard(&missing, "ann", "wa-agent status");
        assert!(
            nothing.says.contains("systemctl start wa-host"),
            "{nothing:?}"
        );
    }
}
