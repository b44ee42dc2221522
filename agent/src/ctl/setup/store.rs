//! The database part of `setup`: which one, whose it is already, and making one.
//! Changes nothing before `make`.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use toml::Value;
use url::Url;

use super::answers::Answers;
use super::{CREDENTIALS, SetupArgs};
use crate::config::{DatabaseSettings, Replication, without_password};
use crate::ctl::draft::Draft;
use crate::db::Db;
use crate::db::identity::Identity;
use crate::db::server::{Admin, Made, Wanted};
use crate::net::keys;
use crate::sys::state::random_u64;

/// Where Debian's and the distributions' servers listen.
const SOCKETS: [&str; 2] = ["/run/mysqld/mysqld.sock", "/var/lib/mysql/mysql.sock"];
const ANSWER_WITHIN: Duration = Duration::from_secs(10);

/// What the database knows of the cluster.
#[derive(Debug, Default)]
pub struct Known {
    pub identity: Option<Identity>,
    /// A machine that has the key.
    machine: String,
}

impl Known {
    /// How a secret of this cluster gets here.
    pub fn bring(&self, names: &str) -> String {
        let (open, close) = if names.contains(',') {
            ("{", "}")
        } else {
            ("", "")
        };
        let from = if self.machine.is_empty() {
            "FIRST-MACHINE"
        } else {
            &self.machine
        };
        format!(
            "{names} of this cluster is not here: bring it from a machine of the cluster, then type the same again:\n  \
             scp 'root@{from}:{CREDENTIALS}/{open}{names}{close}' {CREDENTIALS}/"
        )
    }

    /// A key of another cluster would be heard by nobody.
    pub fn same_key(&self, key: &str, file: &Path, needed: &str) -> anyhow::Result<()> {
        let wanted = self
            .identity
            .as_ref()
            .map_or("", |identity| &identity.key_print);
        let good = wanted.is_empty()
            || keys::prints(key.as_bytes())
                .iter()
                .any(|print| print == wanted);
        anyhow::ensure!(
            good,
            "{} is not the key of cluster {:?}. {}",
            file.display(),
            self.identity.as_ref().map_or("", |identity| &identity.name),
            self.bring(needed)
        );
        Ok(())
    }
}

/// Decides which database it is, asks it whose it is, and notes its URL. Makes nothing.
pub async fn settle(
    args: &SetupArgs,
    answers: &mut Answers,
    draft: &mut Draft,
) -> anyhow::Result<Known> {
    let written = answers.database_shown();
    let known = if let Some(url) = &args.join {
        join(args, answers, draft, url).await?
    } else if let Some(url) = &args.database {
        given(args, answers, draft, url).await?
    } else if args.database_admin.is_some()
        || args.database_socket.is_some()
        || args.sqlite
        || written.is_empty()
    {
        Known::default()
    } else {
        // A second run without a word about the database: the one that is configured.
        let password =
            std::fs::read_to_string(draft.below(&Path::new(CREDENTIALS).join("database-password")));
        let mut url = server_url(&written)?;
        if let Ok(password) = password {
            let _ = url.set_password(Some(password.trim()));
            draft.secret(
                Path::new(CREDENTIALS).join("database-password"),
                password.trim(),
            );
        }
        ask(args, &url).await?
    };
    if let Some(stored) = &known.identity {
        let text = |text: &str| (!text.is_empty()).then(|| Value::from(text));
        let own = Identity {
            name: answers.get("cluster", "name"),
            phone_number_id: answers.get("upstream", "phone_number_id"),
            ..Identity::default()
        };
        if let Some(why) = own.contradicts(stored) {
            anyhow::bail!("{why}");
        }
        answers.put("cluster", "name", text(&stored.name));
        answers.put("upstream", "phone_number_id", text(&stored.phone_number_id));
        answers.put("upstream", "phone_number", text(&stored.phone_number));
    }
    Ok(known)
}

/// A URL of a database server, or why it is none.
fn server_url(text: &str) -> anyhow::Result<Url> {
    if text.starts_with("sqlite:") {
        anyhow::bail!(
            "{text} is an embedded database: a file on one machine, which a second machine cannot use. On the first machine \
             install MariaDB or MySQL and type: wa-agent setup --single --database-socket --replace \
             --database-user-host % ; then join here with --join mysql://wa:PASSWORD@FIRST-MACHINE:3306/wa"
        );
    }
    let shown = without_password(text);
    let url = Url::parse(text).with_context(|| {
        format!("{shown} is no database URL: mysql://user:password@host:3306/wa")
    })?;
    let server = matches!(url.scheme(), "mysql" | "mariadb")
        && url.host_str().is_some_and(|host| !host.is_empty());
    anyhow::ensure!(
        server,
        "{shown} is no database URL: write mysql://user:password@host:3306/wa, as [database] urls on the first machine says"
    );
    Ok(url)
}

async fn join(
    args: &SetupArgs,
    answers: &mut Answers,
    draft: &mut Draft,
    url: &str,
) -> anyhow::Result<Known> {
    let known = given(args, answers, draft, url).await?;
    let Some(identity) = &known.identity else {
        anyhow::bail!(
            "{} holds no cluster yet: set up the first machine with wa-agent setup --single --database URL, and start its master once",
            without_password(url)
        );
    };
    println!(
        "joining cluster {:?}, number {}",
        identity.name, identity.phone_number_id
    );
    Ok(known)
}

async fn given(
    args: &SetupArgs,
    answers: &mut Answers,
    draft: &mut Draft,
    url: &str,
) -> anyhow::Result<Known> {
    let mut url = server_url(url)?;
    if url.path().len() < 2 {
        url.set_path(&format!("/{}", args.database_name));
    }
    let path = Path::new(CREDENTIALS).join("database-password");
    match url.password().map(str::to_owned) {
        Some(password) => {
            let password = percent_encoding::percent_decode_str(&password)
                .decode_utf8_lossy()
                .into_owned();
            draft.secret(path, password);
        }
        None => {
            if let Ok(password) = std::fs::read_to_string(draft.below(&path)) {
                let _ = url.set_password(Some(password.trim()));
                draft.secret(path, password.trim());
            }
        }
    }
    let known = ask(args, &url).await?;
    note(answers, url);
    Ok(known)
}

fn note(answers: &mut Answers, mut url: Url) {
    let _ = url.set_password(None);
    let urls = Value::Array(vec![url.to_string().into()]);
    answers.put("database", "urls", Some(urls));
}

fn settings(args: &SetupArgs, url: &Url) -> DatabaseSettings {
    DatabaseSettings {
        urls: vec![url.to_string()],
        logins: Default::default(),
        replication: Replication::Auto,
        ssl_ca: args.ssl_ca.clone(),
        ssl_cert: None,
        ssl_key: None,
        connect_timeout: Duration::from_secs(5),
        busy_timeout: Duration::from_secs(2),
    }
}

/// Connects as the roles will, and reads whose database it is.
async fn ask(args: &SetupArgs, url: &Url) -> anyhow::Result<Known> {
    let settings = settings(args, url);
    let asking = async {
        let db = Db::connect(&settings, 1).await?;
        let identity = db.identity().await?;
        let machine = match &identity {
            Some(_) => machine(&db).await,
            None => String::new(),
        };
        db.close().await;
        Ok::<_, crate::db::DbError>(Known { identity, machine })
    };
    match tokio::time::timeout(ANSWER_WITHIN, asking).await {
        Ok(Ok(known)) => Ok(known),
        Ok(Err(error)) => Err(anyhow::anyhow!(
            "{}: {}",
            without_password(url.as_str()),
            error.brief()
        )),
        Err(_) => anyhow::bail!(
            "{} did not answer within {ANSWER_WITHIN:?}",
            without_password(url.as_str())
        ),
    }
}

/// The address of a machine with a master, the freshest first: it has the key.
async fn machine(db: &Db) -> String {
    let mut nodes = db.nodes().await.unwrap_or_default();
    nodes.retain(|node| node.registration.role == wa_core::id::Role::Master);
    nodes.sort_by_key(|node| node.beat_age_ms);
    let first = nodes.into_iter().next();
    first
        .map(|node| node.registration.address)
        .unwrap_or_default()
}

/// Makes database and user where that was asked for, or where a server on this machine lets root in.
pub async fn make(
    args: &SetupArgs,
    answers: &mut Answers,
    draft: &mut Draft,
) -> anyhow::Result<()> {
    if args.join.is_some() || args.database.is_some() || args.sqlite {
        return Ok(());
    }
    let Some((mut admin, mut url, local)) = administrator(args, answers).await? else {
        return Ok(());
    };
    let secret = Path::new(CREDENTIALS).join("database-password");
    let there = std::fs::read_to_string(draft.below(&secret)).ok();
    let password = match &there {
        Some(password) => password.trim().to_owned(),
        None => format!("{:016x}{:016x}", random_u64(), random_u64()),
    };
    let wanted = Wanted {
        database: args.database_name.clone(),
        user: args.database_user.clone(),
        hosts: hosts(args, local),
        password: password.clone(),
        replace_password: args.reset_database_password,
    };
    let _ = url.set_username(&wanted.user);
    let _ = url.set_password(Some(&password));
    url.set_path(&format!("/{}", wanted.database));
    url.set_query(None);
    if there.is_some() && ask(args, &url).await.is_ok() {
        println!(
            "database {} and user {} are there already",
            wanted.database, wanted.user
        );
        return take(args, answers, draft, url).await;
    }
    let made = admin
        .provision(&wanted)
        .await
        .map_err(|error| anyhow::anyhow!("{}", error.brief()))?;
    anyhow::ensure!(
        made == Made::Done,
        "the server has a user {:?} already, and its password is not in {CREDENTIALS}/database-password: give it with --database \
         mysql://{}:PASSWORD@..., or add --reset-database-password (other machines then need the new one)",
        wanted.user,
        wanted.user
    );
    println!(
        "made database {} and user {} on {}",
        wanted.database, wanted.user, admin.version
    );
    draft.secret(secret, password);
    take(args, answers, draft, url).await
}

/// The roles come by TCP: whether they get in, and whose database it is, is known before anything is written.
async fn take(
    args: &SetupArgs,
    answers: &mut Answers,
    draft: &mut Draft,
    url: Url,
) -> anyhow::Result<()> {
    let known = ask(args, &url).await?;
    for name in ["cluster-key", "webapp-key"] {
        let key = Path::new(CREDENTIALS).join(name);
        if let Some(text) = draft.contents(&key) {
            known.same_key(text, &draft.below(&key), name)?;
        }
    }
    if let Some(password) = url.password() {
        draft.secret(Path::new(CREDENTIALS).join("database-password"), password);
    }
    note(answers, url);
    draft.text(super::FRAGMENT, answers.fragment()?);
    Ok(())
}

/// A connection that may make databases, the server's URL for the roles, and whether it is on this machine.
async fn administrator(
    args: &SetupArgs,
    answers: &Answers,
) -> anyhow::Result<Option<(Admin, Url, bool)>> {
    let found = match (&args.database_admin, &args.database_socket) {
        (Some(text), _) => {
            let url = server_url(text)?;
            let admin = Admin::by_url(text)
                .await
                .map_err(|error| anyhow::anyhow!("{}", error.brief()))?;
            let local = matches!(url.host_str(), Some("localhost" | "127.0.0.1" | "[::1]"));
            (admin, url, local)
        }
        (None, Some(socket)) => {
            let admin = Admin::by_socket(socket, "root")
                .await
                .map_err(|error| anyhow::anyhow!("{}", error.brief()))?;
            let url = format!("mysql://127.0.0.1:{}", admin.port);
            (admin, Url::parse(&url)?, true)
        }
        (None, None) if answers.database_shown().is_empty() => match usual_server().await {
            Some(admin) => {
                let url = format!("mysql://127.0.0.1:{}", admin.port);
                (admin, Url::parse(&url)?, true)
            }
            None => return Ok(None),
        },
        (None, None) => return Ok(None),
    };
    Ok(Some(found))
}

fn hosts(args: &SetupArgs, local: bool) -> Vec<String> {
    let mut hosts: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(String::from).to_vec();
    if !local && args.database_user_host.is_empty() {
        hosts.push("%".into());
    }
    hosts.extend(args.database_user_host.iter().cloned());
    hosts
}

/// A server of this machine that lets this user in without a password.
async fn usual_server() -> Option<Admin> {
    for socket in SOCKETS
        .map(PathBuf::from)
        .iter()
        .filter(|socket| socket.exists())
    {
        match Admin::by_socket(socket, "root").await {
            Ok(admin) => return Some(admin),
            Err(error) => println!(
                "{} answers, but does not let root in ({}): using the embedded database; --database-admin names an administrator",
                socket.display(),
                error.brief()
            ),
        }
    }
    None
}
