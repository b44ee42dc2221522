//! `wa-agent reset`: removes what roles keep on this machine or in the database, after the cluster's name was typed.
//! Refuses while anything of the cluster is at work. Leaves configuration and credentials to the package manager.

use std::io::{BufRead as _, IsTerminal as _, Write as _};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use wa_core::id::Role;

use super::doctor::store_file;
use crate::config::{self, Settings};
use crate::db::Db;
use crate::exit::Exit;
use crate::sys::dial;
use crate::sys::mount::{Demand, IDENTITY_FILE};
use crate::sys::probe::Prober;
use crate::sys::process;

const ROLES: [&str; 4] = ["master", "coreapp", "webapp", "host"];
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
const CONNECT_WITHIN: Duration = Duration::from_secs(1);

/// Exit codes: 0 done, 1 refused or something could not be removed.
#[derive(Debug, Clone, Args)]
pub struct ResetArgs {
    /// State of the instances on this machine: the highest epoch obeyed, certificates.
    #[arg(long, required_unless_present_any = ["database", "media"])]
    pub state: bool,
    /// All tables in the database: messages, users, settings, the shard map. For the whole cluster.
    #[arg(long)]
    pub database: bool,
    /// Everything in the media directory. For the whole cluster.
    #[arg(long)]
    pub media: bool,
    /// The cluster's name, instead of typing it.
    #[arg(long, value_name = "CLUSTER")]
    pub yes_i_mean: Option<String>,
    /// Configuration file instead of the installed ones.
    #[arg(long, value_name = "FILE", env = "WA_CONFIG")]
    pub config: Option<PathBuf>,
}

impl ResetArgs {
    /// The verb for the audit.
    pub fn words(&self) -> String {
        let parts = [
            (self.state, " --state"),
            (self.database, " --database"),
            (self.media, " --media"),
        ];
        let chosen = parts.iter().filter(|(chosen, _)| *chosen);
        let chosen: String = chosen.map(|(_, flag)| *flag).collect();
        format!("reset{chosen}")
    }
}

/// Looks, asks, removes.
///
/// # Errors
/// When something is at work, the name is not typed, or something cannot be removed.
pub fn run(args: &ResetArgs) -> anyhow::Result<Exit> {
    let file = args.config.as_deref();
    let loaded = config::load(Role::Master, 1, file)
        .or_else(|error| config::load(Role::Webapp, 1, file).map_err(|_| error));
    let settings = loaded?.settings;
    refuse_running(file)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    if args.database || args.media {
        runtime.block_on(refuse_elsewhere(&settings))?;
    }
    let media = match args.media {
        true => Some(runtime.block_on(media_directory(&settings))?),
        false => None,
    };
    let plan = plan(args, &settings, media.as_deref())?;
    println!("This removes, for good:");
    for line in &plan.lines {
        println!("  {line}");
    }
    confirm(args, &settings.cluster_name)?;
    if args.database {
        runtime.block_on(database(&settings))?;
    }
    for path in &plan.paths {
        remove(path)?;
    }
    println!("done; configuration and credentials are where they were");
    Ok(Exit::Ok)
}

/// What goes, and how it is said.
struct Plan {
    paths: Vec<PathBuf>,
    lines: Vec<String>,
}

fn plan(args: &ResetArgs, settings: &Settings, media: Option<&Path>) -> anyhow::Result<Plan> {
    let (mut paths, mut lines) = (Vec::new(), Vec::new());
    if args.state {
        paths.extend(state_folders(&settings.state_directory));
    }
    if args.database {
        match store_file(settings) {
            // Its journal and index lie beside it.
            Some(file) => paths.extend(
                ["", "-wal", "-shm"]
                    .map(|ending| PathBuf::from(format!("{}{ending}", file.display()))),
            ),
            None => {
                let urls: Vec<String> = settings
                    .database
                    .urls
                    .iter()
                    .map(|url| config::without_password(url))
                    .collect();
                lines.push(format!("every table of wa-agent in {}", urls.join(" ")));
            }
        }
    }
    if let Some(directory) = media {
        let entries = std::fs::read_dir(directory)
            .with_context(|| format!("cannot read {}", directory.display()))?;
        // The directory itself stays: it may be a mount, and its mode is the administrator's. So does the mark of the export.
        let kept = |entry: &std::fs::DirEntry| entry.file_name() == IDENTITY_FILE;
        paths.extend(
            entries
                .flatten()
                .filter(|entry| !kept(entry))
                .map(|entry| entry.path()),
        );
    }
    paths.retain(|path| path.symlink_metadata().is_ok());
    lines.extend(paths.iter().map(|path| path.display().to_string()));
    anyhow::ensure!(!lines.is_empty(), "there is nothing to remove");
    Ok(Plan { paths, lines })
}

/// The directory that is configured, as far as it is the one that is meant: a mount point without its mount is not.
async fn media_directory(settings: &Settings) -> anyhow::Result<PathBuf> {
    let media = &settings.media;
    anyhow::ensure!(
        media.require != config::Require::None,
        "there is no [media] directory in the configuration: nothing to remove"
    );
    let demand = Demand {
        directory: media.directory.clone(),
        require: media.require,
        free_min_bytes: 0,
        inodes_min: 0,
        node: None,
    };
    let mut prober = Prober::of(std::env::current_exe()?, demand, media.probe_timeout);
    if let Some(trouble) = prober.look(None).await.trouble {
        anyhow::bail!("{}; nothing was removed", trouble.sentence(prober.demand()));
    }
    Ok(media.directory.clone())
}

/// `coreapp-1` and the like; the embedded database in `store` is not state.
fn state_folders(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let of_role = |name: &str| {
        let parts = name.split_once('-');
        parts.is_some_and(|(role, number)| ROLES.contains(&role) && number.parse::<u16>().is_ok())
    };
    let named = entries.filter(|entry| entry.file_name().to_str().is_some_and(of_role));
    let mut folders: Vec<PathBuf> = named.map(|entry| entry.path()).collect();
    folders.sort();
    folders
}

/// Roles of this machine that use the same installation: by the command line of their processes.
fn refuse_running(config: Option<&Path>) -> anyhow::Result<()> {
    let mut running: Vec<String> = process::all()
        .into_iter()
        .filter_map(|(_, folder)| role_of(&folder, config))
        .collect();
    running.sort();
    running.dedup();
    anyhow::ensure!(
        running.is_empty(),
        "{} still run here: type first: systemctl stop 'wa-*'",
        running.join(", ")
    );
    Ok(())
}

/// `coreapp-2` for a process that is a role of the installation in question.
fn role_of(folder: &Path, config: Option<&Path>) -> Option<String> {
    let command = std::fs::read(folder.join("cmdline")).ok()?;
    let words: Vec<String> = command
        .split(|byte| *byte == 0)
        .map(|word| String::from_utf8_lossy(word).into_owned())
        .collect();
    let (program, role) = (words.first()?, words.get(1)?);
    if !program.ends_with("wa-agent") || !ROLES.contains(&role.as_str()) {
        return None;
    }
    let after = |flag: &str| {
        words
            .iter()
            .position(|word| word == flag)
            .and_then(|at| words.get(at + 1))
    };
    // A role with a file of its own belongs to another installation, unless the same file is named here.
    let same = match (after("--config"), config) {
        (Some(theirs), Some(ours)) => Path::new(theirs) == ours,
        (None, None) => true,
        _ => false,
    };
    same.then(|| format!("{role}-{}", after("--instance").map_or("1", String::as_str)))
}

/// Nodes of other machines that answer: by their registered TCP ports.
async fn refuse_elsewhere(settings: &Settings) -> anyhow::Result<()> {
    if store_file(settings).is_some() {
        return Ok(());
    }
    let asking = async {
        let db = Db::connect(&settings.database, 1).await?;
        Ok::<_, crate::db::DbError>(db.nodes().await.unwrap_or_default())
    };
    let nodes = match tokio::time::timeout(ANSWER_WITHIN, asking).await {
        Ok(Ok(nodes)) => nodes,
        Ok(Err(error)) => anyhow::bail!("{}", error.brief()),
        Err(_) => anyhow::bail!("the database did not answer within {ANSWER_WITHIN:?}"),
    };
    let mut alive = Vec::new();
    for node in nodes.iter().map(|node| &node.registration) {
        let port = if node.role == Role::Coreapp {
            node.port_api
        } else {
            node.port_control
        };
        let Some(address) = node.address.parse().ok().filter(|_| port != 0) else {
            continue;
        };
        let connect = dial::connect_to(SocketAddr::new(address, port), CONNECT_WITHIN);
        if connect.await.is_ok() {
            alive.push(node.node.as_str().to_owned());
        }
    }
    anyhow::ensure!(
        alive.is_empty(),
        "{} still answer: type first on their machines: systemctl stop 'wa-*'",
        alive.join(", ")
    );
    Ok(())
}

fn confirm(args: &ResetArgs, name: &str) -> anyhow::Result<()> {
    let typed = match &args.yes_i_mean {
        Some(typed) => typed.clone(),
        None if std::io::stdin().is_terminal() => {
            print!("Type the cluster's name to go on: ");
            std::io::stdout().flush()?;
            let mut said = String::new();
            std::io::stdin().lock().read_line(&mut said)?;
            said.trim().to_owned()
        }
        None => {
            anyhow::bail!("nobody can be asked here: add --yes-i-mean CLUSTER; nothing was removed")
        }
    };
    anyhow::ensure!(
        typed == name,
        "this cluster is called {name:?}, not {typed:?}; nothing was removed"
    );
    Ok(())
}

async fn database(settings: &Settings) -> anyhow::Result<()> {
    if store_file(settings).is_some() {
        return Ok(());
    }
    let said = |error: crate::db::DbError| anyhow::anyhow!("{}", error.brief());
    let db = Db::connect(&settings.database, 1).await.map_err(said)?;
    db.drop_tables().await.map_err(said)?;
    db.close().await;
    Ok(())
}

fn remove(path: &Path) -> anyhow::Result<()> {
    let data = path
        .symlink_metadata()
        .with_context(|| format!("cannot look at {}", path.display()))?;
    let removed = if data.is_dir() {
        std::fs::remove_dir_all(path)
    } else {
        std::fs::remove_file(path)
    };
    removed.with_context(|| format!("cannot remove {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: only state of instances is state. Method: a directory with other things in it.
    #[test]
    fn only_state_of_instances_goes() {
        let directory = tempfile::tempdir().expect("a directory");
        for name in ["coreapp-1", "host-1", "store", "coreapp-x", "backup-1"] {
            std::fs::create_dir(directory.path().join(name)).expect("made");
        }
        let found = state_folders(directory.path());
        let names: Vec<_> = found
            .iter()
            .filter_map(|path| path.file_name()?.to_str())
            .collect();
        assert_eq!(names, ["coreapp-1", "host-1"]);
    }
}
