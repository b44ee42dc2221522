//! `wa-agent setup`: from an installed package to the one `systemctl` line, on the first machine and on each further one.
//! Starts nothing, and replaces nothing that it was not told to replace.

mod answers;
mod profile;
mod public;
mod store;

use std::path::{Path, PathBuf};

use anyhow::Context as _;
use clap::Args;

use super::doctor;
use super::draft::Draft;
use super::monitoring::targets;
use crate::exit::Exit;
use crate::net::keys;
use crate::sys::old_client;
use crate::sys::state::random_u64;
use answers::Answers;

/// Where the packages keep secrets.
pub const CREDENTIALS: &str = "/etc/wa-agent/credentials";
/// What this verb writes; the packages' own file stays as it is.
pub const FRAGMENT: &str = "/etc/wa-agent/conf.d/10-setup.toml";

/// Without a mode, one machine is set up. Exit codes: 0 done, 1 refused or something is missing, 3 done, but `doctor`
/// found something bad on this machine.
#[derive(Debug, Clone, Default, Args)]
pub struct SetupArgs {
    /// The first machine of a cluster, or the only one.
    #[arg(long, conflicts_with = "join")]
    pub single: bool,
    /// A further machine: the database URL of the cluster, mysql://user:password@host:3306/wa.
    #[arg(long, value_name = "URL")]
    pub join: Option<String>,
    /// A trial without a number: messages go to the simulated upstream of this package (wa-simulator), which delivers nothing.
    #[arg(long, conflicts_with_all = ["join", "phone_number_id", "token_file", "app_secret_file", "verify_token_file"])]
    pub simulator: bool,
    /// Name of the cluster.
    #[arg(long, value_name = "NAME")]
    pub cluster: Option<String>,
    /// The number to send from, as the app dashboard shows it.
    #[arg(long, value_name = "ID")]
    pub phone_number_id: Option<String>,
    /// The number itself with its country code.
    #[arg(long, value_name = "DIGITS")]
    pub phone_number: Option<String>,
    /// The WhatsApp Business Account that the number belongs to. Without it templates are neither listed nor checked, and
    /// doctor does not see whether events come here.
    #[arg(long, value_name = "ID")]
    pub waba_id: Option<String>,
    /// The app that the access token belongs to. Without it the photo of the profile cannot be changed.
    #[arg(long, value_name = "ID")]
    pub app_id: Option<String>,
    /// The business portfolio of the account. Without it news of other accounts are told as if they were this one's.
    #[arg(long, value_name = "ID")]
    pub portfolio_id: Option<String>,
    /// A database and a user that are there: mysql://user:password@host:3306/wa.
    #[arg(long, value_name = "URL", group = "store")]
    pub database: Option<String>,
    /// An administrator's URL (mysql://root:password@host:3306): makes database and user.
    #[arg(long, value_name = "URL", group = "store")]
    pub database_admin: Option<String>,
    /// The socket of a server on this machine, as root: makes database and user.
    #[arg(long, value_name = "SOCKET", group = "store", num_args = 0..=1,
          default_missing_value = "/run/mysqld/mysqld.sock")]
    pub database_socket: Option<PathBuf>,
    /// The embedded database: for one machine. Taken by itself where no server listens on its usual socket.
    #[arg(long, group = "store")]
    pub sqlite: bool,
    /// Name of the database that is made.
    #[arg(long, value_name = "NAME", default_value = "wa")]
    pub database_name: String,
    /// Name of the user that is made.
    #[arg(long, value_name = "NAME", default_value = "wa")]
    pub database_user: String,
    /// From where that user may connect, besides this machine: an address, or % for everywhere.
    #[arg(long, value_name = "HOST")]
    pub database_user_host: Vec<String>,
    /// The user exists and nobody knows its password: give it a new one.
    #[arg(long)]
    pub reset_database_password: bool,
    /// CA that signed the database server's certificate.
    #[arg(long, value_name = "FILE")]
    pub ssl_ca: Option<PathBuf>,
    /// Address that the other machines send to; by default the one towards the database.
    #[arg(long, value_name = "ADDRESS")]
    pub advertise: Option<std::net::IpAddr>,
    /// Timers: compat, standard or fast. Without it the machine is measured and one proposed; a further machine takes the
    /// cluster's.
    #[arg(long, value_parser = ["compat", "standard", "fast"])]
    pub profile: Option<String>,
    /// What runs on this machine.
    #[arg(long, value_name = "ROLES", value_delimiter = ',', default_value = "master,coreapp,webapp",
          value_parser = ["master", "coreapp", "webapp"])]
    pub roles: Vec<String>,
    /// The cluster key, brought from another machine.
    #[arg(long, value_name = "FILE")]
    pub key_file: Option<PathBuf>,
    /// Access token of the system user.
    #[arg(long, value_name = "FILE")]
    pub token_file: Option<PathBuf>,
    /// The app's secret, which verifies events.
    #[arg(long, value_name = "FILE")]
    pub app_secret_file: Option<PathBuf>,
    /// The word that the app dashboard asks for next to the webhook URL; made where there is none.
    #[arg(long, value_name = "FILE")]
    pub verify_token_file: Option<PathBuf>,
    /// The number's pin of six digits. Without it the pin comes with the call that registers the number.
    #[arg(long, value_name = "FILE")]
    pub pin_file: Option<PathBuf>,
    /// Key for health, metrics and stats.
    #[arg(long, value_name = "FILE")]
    pub api_key_file: Option<PathBuf>,
    #[command(flatten)]
    pub public: public::PublicArgs,
    /// Another upstream, for tests.
    #[arg(long, value_name = "URL", hide = true)]
    pub base_url: Option<String>,
    /// Set nothing up: write the cluster's targets and a configuration for Prometheus into this folder.
    #[arg(long, value_name = "DIRECTORY", num_args = 0..=1, default_missing_value = targets::FOLDER,
          conflicts_with_all = ["single", "join", "simulator"])]
    pub monitoring: Option<PathBuf>,
    /// With --monitoring: configuration file instead of the installed ones.
    #[arg(long, value_name = "FILE", requires = "monitoring")]
    pub config: Option<PathBuf>,
    /// Folder to use instead of /.
    #[arg(long, value_name = "DIRECTORY", default_value = "/")]
    pub root: PathBuf,
    /// Show the files, change nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Replace files that are there and differ, without asking.
    #[arg(long)]
    pub replace: bool,
    /// Go on although the old client seems to run on this machine.
    #[arg(long)]
    pub force: bool,
    /// Ask nothing: what is missing is an error.
    #[arg(long)]
    pub no_input: bool,
}

/// Asks, makes, writes, checks, and prints the next line to type.
///
/// # Errors
/// What is missing or in the way, and what to type.
pub fn run(args: &SetupArgs) -> anyhow::Result<Exit> {
    if args.monitoring.is_none() {
        refuse_old_client(args.force)?;
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    match &args.monitoring {
        Some(folder) => runtime.block_on(targets::run(&targets::Wanted {
            folder,
            config: args.config.as_deref(),
            root: &args.root,
            dry_run: args.dry_run,
            replace: args.replace,
        })),
        None => runtime.block_on(set_up(args)),
    }
}

/// The old client and this one must never be connected at once.
pub fn refuse_old_client(force: bool) -> anyhow::Result<()> {
    let traces = old_client::look();
    if traces.is_empty() {
        return Ok(());
    }
    let sentences: Vec<String> = traces.iter().map(old_client::Trace::sentence).collect();
    if force {
        anstream::eprintln!("wa-agent: going on by --force: {}", sentences.join("; "));
        return Ok(());
    }
    anyhow::bail!(
        "{}. Two connected clients get a number banned; --force goes on all the same",
        sentences.join("; ")
    )
}

async fn set_up(args: &SetupArgs) -> anyhow::Result<Exit> {
    let mut answers = Answers::gather(args)?;
    let mut draft = Draft::new(&args.root);
    let known = store::settle(args, &mut answers, &mut draft).await?;
    answers.number(args)?;
    answers.account(args)?;
    profile::settle(args, &mut answers, &known).await?;
    key(args, &known, &mut draft)?;
    answers.secrets(args, &known, &mut draft)?;
    public_api(args, &known, &mut answers, &mut draft)?;
    draft.text(FRAGMENT, answers.fragment()?);
    if args.dry_run {
        print!("{}", draft.show()?);
        println!("nothing was changed");
        return Ok(Exit::Ok);
    }
    let differing = draft.differing()?;
    if !differing.is_empty() && !args.replace && !answers::agree(args, &differing)? {
        let list: Vec<String> = differing
            .iter()
            .map(|path| path.display().to_string())
            .collect();
        anyhow::bail!(
            "{} is there and differs: add --replace to replace it; nothing was written",
            list.join(", ")
        );
    }
    store::make(args, &mut answers, &mut draft).await?;
    let written = draft.write()?;
    for path in &written {
        println!("wrote {}", path.display());
    }
    if written.is_empty() {
        println!("everything is there already");
    }
    let asked = doctor::Asked {
        root: args.root.clone(),
        config: None,
        roles: args.roles.clone(),
        quick: true,
    };
    let checks = doctor::examine(&asked).await;
    styled!("\n{}", doctor::render(&checks));
    let good = doctor::may_start(&checks);
    if good && doctor::exit(&checks) != Exit::Ok {
        println!(
            "\nWhat is bad above is bad elsewhere in the cluster, and keeps nothing here from starting."
        );
    }
    println!("\n{}", next(args, &answers, &draft, good));
    Ok(if good { Exit::Ok } else { Exit::Refuted })
}

/// The cluster key: the one that is there, the one that was brought, or for a first machine a new one. A machine with
/// webapps only gets their part of it, and needs no more.
fn key(args: &SetupArgs, known: &store::Known, draft: &mut Draft) -> anyhow::Result<()> {
    let whole = Path::new(CREDENTIALS).join("cluster-key");
    let part = Path::new(CREDENTIALS).join("webapp-key");
    let read = |path: &Path| {
        std::fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))
    };
    let webapp_only = only_webapps(&args.roles);
    let needed = if webapp_only {
        "webapp-key"
    } else {
        "cluster-key"
    };
    let candidates = [
        args.key_file.clone(),
        Some(draft.below(&whole)).filter(|path| path.exists()),
        Some(draft.below(&part)).filter(|path| webapp_only && path.exists()),
    ];
    let found = candidates.into_iter().flatten().next();
    let (key, name) = match found {
        Some(path) => (read(&path)?, path),
        None if known.identity.is_some() => anyhow::bail!("{}", known.bring(needed)),
        None => {
            let new = (0..4).map(|_| format!("{:016x}", random_u64())).collect();
            (new, draft.below(&whole))
        }
    };
    let is_part = keys::is_for_webapps(key.as_bytes());
    anyhow::ensure!(
        webapp_only || !is_part,
        "{} is the webapps' part of a cluster key, and {} on this machine needs the whole. {}",
        name.display(),
        args.roles
            .iter()
            .find(|role| *role != "webapp")
            .map_or("a role", |role| role),
        known.bring(needed)
    );
    known.same_key(&key, &name, needed)?;
    if !webapp_only {
        draft.secret(&whole, key.trim_end());
    }
    let webapps = match is_part {
        true => key,
        false => keys::for_webapps(key.as_bytes()),
    };
    draft.secret(&part, webapps.trim_end());
    Ok(())
}

/// Such a machine holds no key that decides anything, and no host agent runs there.
fn only_webapps(roles: &[String]) -> bool {
    roles.iter().all(|role| role == "webapp")
}

/// The units of these roles on one machine, as they are enabled.
pub fn units(roles: &[String]) -> String {
    let host = (!only_webapps(roles)).then(|| "wa-host".to_owned());
    let instances = roles.iter().map(|role| format!("wa-{role}@1"));
    host.into_iter()
        .chain(instances)
        .collect::<Vec<_>>()
        .join(" ")
}

/// TLS and the first password of the public API. Nothing changes of what is there, unless a flag says so.
fn public_api(
    args: &SetupArgs,
    known: &store::Known,
    answers: &mut Answers,
    draft: &mut Draft,
) -> anyhow::Result<()> {
    let fresh = answers.is_new() && args.roles.iter().any(|role| role == "webapp");
    let here = public::Here {
        trial: args.simulator,
        trial_over: answers.trial_over(),
        // Users are there already, or come with the first machine.
        new: fresh && args.join.is_none() && known.identity.is_none(),
        interactive: answers.interactive(),
    };
    let path = Path::new(CREDENTIALS).join("first-password");
    public::first_password(&args.public, &here, &path, draft)?;
    let said = ["tls", "tls_cert", "trusted_proxies"];
    let said = said.iter().any(|key| answers.has("webapp", key));
    for (key, value) in public::tls(&args.public, fresh && !said) {
        answers.put("webapp", key, Some(value));
    }
    Ok(())
}

/// The scheme in which the API is spoken to.
fn scheme(answers: &Answers) -> &'static str {
    match answers.get("webapp", "tls").as_str() {
        "" if answers.has("webapp", "tls_cert") => "https",
        "" | "off" => "http",
        _ => "https",
    }
}

/// The flags by which another machine stands behind the same proxies.
fn behind(args: &SetupArgs) -> String {
    let proxies = args.public.behind_proxy.iter();
    proxies
        .map(|proxy| format!(" --behind-proxy {proxy}"))
        .collect()
}

/// What to type now, here and on the next machine.
fn next(args: &SetupArgs, answers: &Answers, draft: &Draft, good: bool) -> String {
    let simulator = if args.simulator { "wa-simulator " } else { "" };
    let start = format!("systemctl enable --now {simulator}{}", units(&args.roles));
    if !good {
        return format!(
            "Nothing is to be started yet: mend what is bad above, then look again: wa-agent doctor\nWhen nothing is bad:\n  {start}"
        );
    }
    let mut text = format!("Start it:\n  {start}");
    let shown = answers.database_shown();
    if shown.is_empty() {
        text.push_str(
            "\nThe database is a file on this machine. More machines need a server: install MariaDB or MySQL, then \
             type here: wa-agent setup --single --database-socket --replace",
        );
    } else if args.join.is_none() {
        text.push_str(&format!(
            "\nOn each further machine, after the package and /etc/wa-agent/credentials were copied there:\n  \
             wa-agent setup --join {shown}{}\n\
             One that runs webapps only needs of them webapp-key, database-password, app-secret and verify-token, and: \
             --roles webapp",
            answers.account_flags() + &behind(args)
        ));
    }
    if args.roles.iter().any(|role| role == "webapp") {
        let file = Path::new(CREDENTIALS).join("first-password");
        let chosen = draft
            .contents(&file)
            .is_some_and(|text| text.starts_with('$'));
        let login = match chosen {
            true => doctor::chosen_login(scheme(answers), 9090),
            false => doctor::first_login(scheme(answers), 9090),
        };
        text.push_str(&format!("\nThen, on a new cluster, {login}"));
    }
    if args.simulator {
        text.push_str(&format!(
            "\nNothing reaches anybody: the upstream is simulated ({}/admin/report says what it saw). \
             After the trial:\n  systemctl disable --now wa-simulator; systemctl stop 'wa-*'; wa-agent reset --state --database\n  \
             wa-agent setup --single --replace",
            doctor::SIMULATOR_URL
        ));
    }
    text
}
