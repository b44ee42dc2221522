//! `wa-agent keys rotate`: a new cluster key, phase after phase, each begun when every live node has reported the one
//! before. Keys stay in files: what goes over the network are ids.

use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;

use super::reach::Cluster;
use crate::api::control::{KeysAnswer, KeysPhase, KeysStatus, KeysStep, path};
use crate::cli::RotateArgs;
use crate::exit::Exit;
use crate::member::masters;
use crate::net::keys;
use crate::sys::clock;
use crate::sys::state::random_u64;

/// How often the nodes' reports are looked at.
const LOOK_EVERY: Duration = Duration::from_millis(300);

/// How long a primary master is looked for: longer than masters take to change places.
const PRIMARY_WITHIN: Duration = Duration::from_secs(15);

/// The key file of this machine, and the webapps' part beside it where there is one.
struct KeyFile {
    path: PathBuf,
    webapp: PathBuf,
}

impl KeyFile {
    fn lines(&self) -> anyhow::Result<Vec<String>> {
        let text = std::fs::read_to_string(&self.path)
            .with_context(|| format!("cannot read the cluster key {}", self.path.display()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty());
        Ok(lines.map(ToOwned::to_owned).collect())
    }

    fn line_of(&self, id: &str) -> anyhow::Result<String> {
        let lines = self.lines()?.into_iter();
        let mut named = lines.filter(|line| keys::id_of(line.as_bytes()) == id);
        named.next().with_context(|| {
            format!(
                "{} does not hold the key {id}: go on where the rotation began, or copy its file here first",
                self.path.display()
            )
        })
    }

    /// Puts these lines in place of the old ones, and the webapps' part of them where such a file is.
    fn write(&self, lines: &[String]) -> anyhow::Result<()> {
        let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
        replace(&self.path, &text)?;
        if self.webapp.exists() {
            replace(&self.webapp, &keys::for_webapps(text.as_bytes()))?;
        }
        Ok(())
    }

    fn names(&self) -> String {
        let webapp = if self.webapp.exists() {
            format!(
                " (and {} to those that run webapps only)",
                self.webapp.display()
            )
        } else {
            String::new()
        };
        format!("{}{webapp}", self.path.display())
    }
}

/// Temporary name, owner and mode of the old file, synced, renamed: a reader finds the old text or the new one.
pub(super) fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let failed = || format!("cannot write {}", path.display());
    let old = std::fs::metadata(path).with_context(failed)?;
    let temporary = path.with_extension("next");
    let _ = std::fs::remove_file(&temporary);
    let mut file = std::fs::OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(old.mode() & 0o777)
        .open(&temporary)
        .with_context(failed)?;
    std::os::unix::fs::fchown(&file, Some(old.uid()), Some(old.gid())).with_context(failed)?;
    std::io::Write::write_all(&mut file, text.as_bytes()).with_context(failed)?;
    file.sync_all().with_context(failed)?;
    std::fs::rename(&temporary, path).with_context(failed)
}

/// Rotates, or shows where a rotation stands. Stopped at any moment, the same command goes on.
///
/// # Errors
/// When there is no usable configuration, a file cannot be written, or `--distribute` fails.
pub fn run(args: &RotateArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        let cluster = Cluster::find(args.wish.reach.config.as_deref()).await?;
        let Some(status) = ask(&cluster).await else {
            eprintln!("wa-agent: {}", cluster.nobody());
            return Ok(Exit::Unavailable);
        };
        if args.status {
            show(&status, args.wish.reach.json)?;
            return Ok(Exit::Ok);
        }
        cluster.may_change()?;
        let path = args.key_file.clone().or(cluster.key_file.clone());
        let path =
            path.context("the cluster key comes from no file here; name it with --key-file")?;
        let webapp = path.with_file_name("webapp-key");
        let file = KeyFile { path, webapp };
        rotate(args, &file, status).await
    })
}

/// Where it stands, by the first master that answers: each reads it in the database.
async fn ask(cluster: &Cluster) -> Option<KeysStatus> {
    let call = |master: String| async move { cluster.get(&master, path::KEYS).await.ok() };
    let said = masters::ask(&cluster.masters, call, |_| true).await;
    said.map(|(_, status)| status)
}

fn show(status: &KeysStatus, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string(status)?);
        return Ok(());
    }
    match &status.rotation {
        None => println!("no rotation is under way"),
        Some(r) => println!(
            "from key {} to {}: phase {} of 3, {}",
            r.from,
            r.to,
            r.phase.number(),
            r.phase.sentence()
        ),
    }
    let width = status.nodes.iter().map(|n| n.node.len()).max().unwrap_or(0);
    for n in &status.nodes {
        let sends = n.sends.as_deref().unwrap_or("-");
        let accepts = n.accepts.join(" ");
        let state = match (n.live, status.waiting.contains(&n.node)) {
            (false, _) => "  silent: not waited for",
            (true, true) => "  waited for",
            (true, false) => "",
        };
        println!(
            "  {:<width$}  sends {sends}  accepts {accepts}{state}",
            n.node
        );
    }
    Ok(())
}

/// A key whose id is another one, in hexadecimal.
fn fresh(other: &str) -> String {
    loop {
        let key: String = (0..4).map(|_| format!("{:016x}", random_u64())).collect();
        if keys::id_of(key.as_bytes()) != other {
            return key;
        }
    }
}

async fn rotate(args: &RotateArgs, file: &KeyFile, status: KeysStatus) -> anyhow::Result<Exit> {
    let (from, to, mut phase) = match &status.rotation {
        Some(r) => (r.from.clone(), r.to.clone(), r.phase),
        None => {
            let lines = file.lines()?;
            let old = lines.first().context("the key file is empty")?;
            let from = keys::id_of(old.as_bytes());
            let new = lines.get(1).cloned().unwrap_or_else(|| fresh(&from));
            let to = keys::id_of(new.as_bytes());
            if args.wish.dry_run {
                return dry_run(args, file, (from, to)).await;
            }
            // On disk first: a rotation whose new key nobody has could not go on.
            file.write(&[old.clone(), new])?;
            (from, to, KeysPhase::Accept)
        }
    };
    if args.wish.dry_run {
        show(&status, args.wish.reach.json)?;
        return Ok(Exit::Ok);
    }
    let step = |phase| KeysStep {
        from: from.clone(),
        to: to.clone(),
        phase,
        reason: args.wish.reason.clone(),
        by: Some(super::reach::who()),
        dry_run: false,
    };
    if let Some(exit) = go(args, &step(Some(phase))).await? {
        return Ok(exit);
    }
    loop {
        let new = file.line_of(&to)?;
        let lines = match phase {
            KeysPhase::Accept => vec![file.line_of(&from)?, new],
            KeysPhase::Send => vec![new, file.line_of(&from)?],
            KeysPhase::Drop => vec![new],
        };
        if file.lines()? != lines {
            file.write(&lines)?;
        }
        distribute(args, file).await?;
        if !all_report(args, phase).await? {
            return Ok(Exit::Unfinished);
        }
        let next = phase.next();
        if let Some(exit) = go(args, &step(next)).await? {
            return Ok(exit);
        }
        match next {
            Some(next) => phase = next,
            None => return Ok(Exit::Ok),
        }
    }
}

/// What would happen, and whether the master would take it.
async fn dry_run(
    args: &RotateArgs,
    file: &KeyFile,
    (from, to): (String, String),
) -> anyhow::Result<Exit> {
    let step = KeysStep {
        from,
        to,
        phase: Some(KeysPhase::Accept),
        reason: args.wish.reason.clone(),
        by: None,
        dry_run: true,
    };
    if let Some(exit) = go(args, &step).await? {
        return Ok(exit);
    }
    if !args.wish.reach.json {
        println!(
            "(dry run) three times {} is written here; copy it each time to every machine, and type there: systemctl reload 'wa-*@*' 'wa-host*'",
            file.names()
        );
    }
    Ok(Exit::Ok)
}

/// What the primary master answers.
async fn of_primary(cluster: &Cluster, step: &KeysStep) -> Option<KeysAnswer> {
    let elsewhere = |answer: &KeysAnswer| answer.elsewhere;
    let said = cluster.ask(path::KEYS, step, elsewhere).await;
    said.map(|(_, answer)| answer)
        .filter(|answer| !answer.elsewhere)
}

/// Asks the primary master for a step; `Some`: it was not taken, and this is how the command ends.
async fn go(args: &RotateArgs, step: &KeysStep) -> anyhow::Result<Option<Exit>> {
    let until = clock::now() + args.wait.min(PRIMARY_WITHIN);
    let answer = loop {
        // Found anew each time: the credential changes on the way.
        let cluster = Cluster::find(args.wish.reach.config.as_deref()).await?;
        if let Some(answer) = of_primary(&cluster, step).await {
            break answer;
        }
        // Masters may be changing places.
        if clock::now() >= until {
            eprintln!("wa-agent: {}", cluster.nobody());
            return Ok(Some(Exit::Unavailable));
        }
        clock::sleep(LOOK_EVERY).await;
    };
    if args.wish.reach.json {
        println!("{}", serde_json::to_string(&answer)?);
    } else if answer.accepted {
        println!("{}", answer.message);
    }
    if !answer.accepted {
        eprintln!("wa-agent: {}", answer.message);
        return Ok(Some(Exit::Failure));
    }
    Ok(None)
}

async fn distribute(args: &RotateArgs, file: &KeyFile) -> anyhow::Result<()> {
    let Some(command) = &args.distribute else {
        eprintln!(
            "copy {} to every machine of the cluster, then type there: systemctl reload 'wa-*@*' 'wa-host*'",
            file.names()
        );
        return Ok(());
    };
    let status = tokio::process::Command::new("sh")
        .args(["-c", command])
        .env("WA_KEY_FILE", &file.path)
        .status()
        .await
        .context("sh does not start")?;
    anyhow::ensure!(
        status.success(),
        "--distribute ended with {status}; mend it and type the same again"
    );
    Ok(())
}

/// Waits until every live node has reported the phase; says who is missing whenever that changes.
async fn all_report(args: &RotateArgs, phase: KeysPhase) -> anyhow::Result<bool> {
    let until = clock::now() + args.wait;
    let mut said = String::new();
    loop {
        let cluster = Cluster::find(args.wish.reach.config.as_deref()).await?;
        let status = ask(&cluster).await;
        let missing = match &status {
            None => cluster.nobody(),
            Some(status) if status.rotation.as_ref().is_none_or(|r| r.phase != phase) => {
                "the master's reading".into()
            }
            Some(status) if status.waiting.is_empty() => return Ok(true),
            Some(status) => status.waiting.join(", "),
        };
        if missing != said {
            eprintln!("phase {} of 3: waiting for {missing}", phase.number());
            said = missing;
        }
        if clock::now() >= until {
            eprintln!(
                "wa-agent: phase {} is not over; everybody understands everybody meanwhile. Type the same again to go on",
                phase.number()
            );
            return Ok(false);
        }
        clock::sleep(LOOK_EVERY).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each phase's file is whole, keeps mode and owner, and the webapps' part follows it.
    #[test]
    fn files_are_replaced_whole() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = tempfile::tempdir().expect("a directory");
        let file = KeyFile {
            path: dir.path().join("cluster-key"),
            webapp: dir.path().join("webapp-key"),
        };
        let (old, new) = (fresh(""), fresh(""));
        std::fs::write(&file.path, &old).expect("written");
        std::fs::set_permissions(&file.path, std::fs::Permissions::from_mode(0o640)).expect("set");
        std::fs::write(&file.webapp, keys::for_webapps(old.as_bytes())).expect("written");
        file.write(&[new.clone(), old.clone()]).expect("written");
        assert_eq!(file.lines().expect("read"), [new.clone(), old.clone()]);
        let mode = std::fs::metadata(&file.path)
            .expect("there")
            .permissions()
            .mode();
        assert_eq!(mode & 0o777, 0o640);
        let webapp = std::fs::read_to_string(&file.webapp).expect("read");
        assert_eq!(
            webapp,
            keys::for_webapps(format!("{new}\n{old}").as_bytes())
        );
        assert_eq!(
            file.line_of(&keys::id_of(old.as_bytes())).expect("there"),
            old
        );
        assert!(file.line_of("no").is_err());
    }
}
