//! `wa-agent debug`: one compressed file with everything that somebody who helps from afar asks for, and no secret.
//! Changes nothing; a part that cannot be had is noted in the file and stops nothing.

use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use clap::Args;
use flate2::Compression;
use flate2::write::GzEncoder;
use futures_util::future::join_all;
use secrecy::ExposeSecret as _;
use serde_json::{Value, json};
use tokio::io::{AsyncBufReadExt as _, BufReader};

use super::{doctor, masked, reach, setup};
use crate::api::control::{ClusterStatus, path};
use crate::config::{self, Settings};
use crate::db::Db;
use crate::exit::Exit;
use crate::member::masters::ASKED_MAX;
use crate::sys::clock;

/// How long one part may take.
const PART_WITHIN: Duration = Duration::from_secs(60);
/// Most bytes of one part: a journal may be endless.
const PART_MAX: usize = 256 << 20;
/// Decisions in the file.
const DECISIONS_MAX: u32 = 1000;
/// Shorter words are no secrets, and would star out half of the file.
const SECRET_LEN_MIN: usize = 6;

/// Exit code 0 also when parts are missing: `missing.txt` in the file says which, and why.
#[derive(Debug, Clone, Args)]
pub struct DebugArgs {
    /// How far back the journal goes, in words of journalctl: "2 hours ago", "2026-01-31 12:00".
    #[arg(long, value_name = "WHEN", default_value = "1 day ago")]
    pub since: String,
    /// File to write; by default wa-agent-debug-HOST-TIME.tar.gz in this folder.
    #[arg(long, value_name = "FILE")]
    pub output: Option<PathBuf>,
    /// Configuration file instead of the installed ones.
    #[arg(long, value_name = "FILE", env = "WA_CONFIG")]
    pub config: Option<PathBuf>,
}

/// Collects and writes.
///
/// # Errors
/// When the file cannot be written.
pub fn run(args: &DebugArgs) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()?;
    runtime.block_on(collect(args))
}

/// The file as it grows.
struct Archive {
    tar: tar::Builder<GzEncoder<std::fs::File>>,
    folder: String,
    mask: Mask,
    parts: usize,
    missing: Vec<String>,
}

impl Archive {
    fn create(output: &Path, folder: String, mask: Mask) -> anyhow::Result<Self> {
        use std::os::unix::fs::OpenOptionsExt as _;
        let mut options = std::fs::OpenOptions::new();
        let file = options
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(output);
        let file = file.with_context(|| {
            format!(
                "cannot write {}; name another with --output FILE",
                output.display()
            )
        })?;
        Ok(Self {
            tar: tar::Builder::new(GzEncoder::new(file, Compression::default())),
            folder,
            mask,
            parts: 0,
            missing: Vec::new(),
        })
    }

    /// One part, masked. An error of the part is noted; only an error of the file is an error.
    fn add(&mut self, name: &str, part: anyhow::Result<String>) -> anyhow::Result<()> {
        let text = match part {
            Ok(text) => self.mask.apply(&text),
            Err(error) => {
                let why = self.mask.apply(&format!("{name}: {error:#}"));
                eprintln!("  {name}: cannot be had: {error:#}");
                self.missing.push(why);
                return Ok(());
            }
        };
        eprintln!("  {name}: {} KiB", text.len().div_ceil(1024));
        self.parts += 1;
        self.append(name, &text)
    }

    fn append(&mut self, name: &str, text: &str) -> anyhow::Result<()> {
        let mut header = tar::Header::new_gnu();
        header.set_size(text.len() as u64);
        header.set_mode(0o600);
        header.set_mtime(clock::wall_ms() / 1000);
        header.set_cksum();
        let path = format!("{}/{name}", self.folder);
        self.tar
            .append_data(&mut header, path, text.as_bytes())
            .context("the file cannot be written any further")
    }

    fn finish(mut self) -> anyhow::Result<(usize, usize)> {
        let missing = self.missing.join("\n") + "\n";
        self.append("missing.txt", &missing)?;
        let file = self.tar.into_inner()?.finish()?;
        file.sync_all()?;
        Ok((self.parts, self.missing.len()))
    }
}

/// Every secret that this machine knows, and how it may be written.
#[derive(Default)]
struct Mask(Vec<String>);

impl Mask {
    fn learn(&mut self, text: &str) {
        // A key file holds a word or several on each line.
        let words = text.split_whitespace().chain(text.lines().map(str::trim));
        for word in words.filter(|word| word.len() >= SECRET_LEN_MIN && *word != "webapp-key") {
            self.0.push(word.to_owned());
            let encoded =
                percent_encoding::utf8_percent_encode(word, percent_encoding::NON_ALPHANUMERIC)
                    .to_string();
            self.0.push(encoded);
            // As JSON writes it.
            if let Ok(quoted) = serde_json::to_string(word) {
                self.0.push(quoted.trim_matches('"').to_owned());
            }
        }
    }

    fn of(settings: Option<&Settings>) -> Self {
        let mut mask = Self::default();
        let entries = std::fs::read_dir(setup::CREDENTIALS)
            .into_iter()
            .flatten()
            .flatten();
        for entry in entries {
            if let Ok(text) = std::fs::read_to_string(entry.path()) {
                mask.learn(&text);
            }
        }
        if let Some(settings) = settings {
            let key = settings.cluster_key.current();
            mask.learn(&String::from_utf8_lossy(key.expose_secret()));
            let upstream = &settings.upstream;
            for secret in [
                &upstream.token,
                &upstream.app_secret,
                &upstream.verify_token,
                &settings.api_key,
                &settings.webhooks.secret,
            ] {
                mask.learn(secret.now().expose_secret());
            }
            let urls = settings
                .database
                .urls
                .iter()
                .filter_map(|url| url::Url::parse(url).ok());
            for password in urls.filter_map(|url| url.password().map(str::to_owned)) {
                mask.learn(&password);
                mask.learn(&percent_encoding::percent_decode_str(&password).decode_utf8_lossy());
            }
        }
        for name in ["WA_DB_PASSWORD", "WA_API_KEY"] {
            if let Ok(value) = std::env::var(name) {
                mask.learn(&value);
            }
        }
        // The longest first: one secret may begin like another.
        mask.0.sort_by_key(|word| std::cmp::Reverse(word.len()));
        mask.0.dedup();
        mask
    }

    fn apply(&self, text: &str) -> String {
        let mut text = text.to_owned();
        for word in &self.0 {
            if text.contains(word.as_str()) {
                text = text.replace(word.as_str(), "***");
            }
        }
        text
    }
}

async fn collect(args: &DebugArgs) -> anyhow::Result<Exit> {
    let cluster = reach::Cluster::find(args.config.as_deref()).await;
    let settings = cluster.as_ref().ok().map(|cluster| &cluster.settings);
    let host = nix::unistd::gethostname()
        .ok()
        .and_then(|name| name.into_string().ok());
    let at = humantime::format_rfc3339_seconds(
        std::time::UNIX_EPOCH + Duration::from_millis(clock::wall_ms()),
    );
    let folder = format!(
        "wa-agent-debug-{}-{}",
        host.unwrap_or_default(),
        at.to_string().replace([':', '-'], "")
    );
    let output = args
        .output
        .clone()
        .unwrap_or_else(|| PathBuf::from(format!("{folder}.tar.gz")));
    let mut archive = Archive::create(&output, folder, Mask::of(settings))?;
    eprintln!("writing {}", output.display());

    archive.add("about.json", about())?;
    archive.add("doctor.txt", examined(args).await)?;
    archive.add("configuration.json", configuration(args))?;
    match &cluster {
        Ok(cluster) => {
            archive.add("status.json", status(cluster).await)?;
            archive.add("explain.json", explained(cluster).await)?;
            archive.add("database.json", in_time(database(&cluster.settings)).await)?;
            archive.add("history.jsonl", in_time(history(&cluster.settings)).await)?;
        }
        Err(error) => archive.add("status.json", Err(anyhow::anyhow!("{error:#}")))?,
    }
    for (name, command) in commands(&args.since) {
        let printed = output_of(&command).await;
        let printed = printed.map(|text| match name.starts_with("units") {
            true => masked::unit_lines(&text),
            false => text,
        });
        archive.add(name, printed)?;
    }
    archive.add(
        "mounts.txt",
        std::fs::read_to_string("/proc/self/mountinfo").context("/proc/self/mountinfo"),
    )?;
    let (parts, missing) = archive.finish()?;
    println!(
        "wrote {} with {parts} parts; {missing} could not be had (missing.txt says why)",
        output.display()
    );
    Ok(Exit::Ok)
}

/// Name in the file, and what is run for it.
fn commands(since: &str) -> Vec<(&'static str, Vec<String>)> {
    let line = |text: &str| text.split(' ').map(str::to_owned).collect::<Vec<_>>();
    let mut journal = line("journalctl --no-pager -q -o json -u wa-* --since");
    journal.push(since.to_owned());
    vec![
        ("journal.jsonl", journal),
        (
            "units.txt",
            line("systemctl status --no-pager --full --lines=0 --all wa-* wa.target wa.slice"),
        ),
        (
            "units-properties.txt",
            line("systemctl show --no-pager --all wa-*"),
        ),
        (
            "units-files.txt",
            line(
                "systemctl cat --no-pager wa-host.service wa-master@.service wa-coreapp@.service wa-webapp@.service",
            ),
        ),
        ("systemd.txt", line("systemctl --version")),
        ("package.txt", package()),
        ("addresses.json", line("ip -json address")),
        ("sockets.txt", line("ss -lntup")),
        ("gate.txt", gate_status()),
    ]
}

/// Who installed it here.
fn package() -> Vec<String> {
    let words: &[&str] = if Path::new("/usr/bin/dpkg-query").exists() {
        &["dpkg-query", "-W", "wa-agent"]
    } else {
        &["rpm", "-q", "wa-agent"]
    };
    words.iter().map(ToString::to_string).collect()
}

/// What a program prints, within its time and up to the limit.
async fn output_of(command: &[String]) -> anyhow::Result<String> {
    let (program, words) = command.split_first().context("an empty command")?;
    let mut child = tokio::process::Command::new(program)
        .args(words)
        .env("LC_ALL", "C.UTF-8")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .with_context(|| format!("{program} cannot be run"))?;
    let mut lines = BufReader::new(child.stdout.take().context("a pipe")?).lines();
    let reading = async {
        let mut text = String::new();
        while let Some(line) = lines.next_line().await? {
            if text.len() + line.len() > PART_MAX {
                text.push_str("(the rest was left out)\n");
                break;
            }
            text.push_str(&line);
            text.push('\n');
        }
        Ok::<_, std::io::Error>(text)
    };
    let text = match tokio::time::timeout(PART_WITHIN, reading).await {
        Ok(read) => read?,
        Err(_) => anyhow::bail!("{program} took longer than {PART_WITHIN:?}"),
    };
    if !text.is_empty() {
        return Ok(text);
    }
    // systemctl and dpkg-query say by their exit code also what is only news.
    let ended = tokio::time::timeout(PART_WITHIN, child.wait_with_output()).await??;
    let said = String::from_utf8_lossy(&ended.stderr).trim().to_owned();
    anyhow::ensure!(
        ended.status.success(),
        "{program}: {}: {said}",
        ended.status
    );
    Ok(text)
}

async fn in_time(part: impl Future<Output = anyhow::Result<String>>) -> anyhow::Result<String> {
    match tokio::time::timeout(PART_WITHIN, part).await {
        Ok(done) => done,
        Err(_) => anyhow::bail!("no answer within {PART_WITHIN:?}"),
    }
}

fn about() -> anyhow::Result<String> {
    let read = |path: &str| {
        std::fs::read_to_string(path)
            .unwrap_or_default()
            .trim()
            .to_owned()
    };
    let kernel =
        nix::sys::utsname::uname().map(|name| name.release().to_string_lossy().into_owned());
    pretty(&json!({
        "wa_agent": env!("CARGO_PKG_VERSION"),
        "schema": crate::db::migrate::SCHEMA_VERSION,
        "kernel": kernel.unwrap_or_default(),
        "os": read("/etc/os-release"),
        "uptime": read("/proc/uptime"),
        "load": read("/proc/loadavg"),
        "memory": read("/proc/meminfo"),
        "boot": read("/proc/sys/kernel/random/boot_id"),
    }))
}

fn pretty(value: &Value) -> anyhow::Result<String> {
    Ok(serde_json::to_string_pretty(value)? + "\n")
}

async fn examined(args: &DebugArgs) -> anyhow::Result<String> {
    let asked = doctor::Asked {
        root: PathBuf::from("/"),
        config: args.config.clone(),
        roles: Vec::new(),
        quick: true,
    };
    let text = doctor::render(&doctor::examine(&asked).await);
    Ok(anstream::adapter::strip_str(&text).to_string())
}

/// Effective values with their origins, as `check-config` shows them: secrets are stars.
fn configuration(args: &DebugArgs) -> anyhow::Result<String> {
    use wa_core::id::Role;
    let mut all = serde_json::Map::new();
    for role in [Role::Master, Role::Coreapp, Role::Webapp, Role::Host] {
        let value = match config::load(role, 1, args.config.as_deref()) {
            Ok(loaded) => json!(loaded.origins),
            Err(error) => json!(error.in_one_line()),
        };
        all.insert(role.as_str().into(), value);
    }
    pretty(&Value::Object(all))
}

/// What every master says.
async fn status(cluster: &reach::Cluster) -> anyhow::Result<String> {
    let asked = cluster
        .masters
        .iter()
        .take(ASKED_MAX)
        .map(|master| async move {
            match cluster.get::<ClusterStatus>(master, path::STATUS).await {
                Ok(status) => serde_json::to_value(status),
                Err(error) => Ok(json!({"master": master, "error": format!("{error:#}")})),
            }
        });
    let all: Vec<Value> = join_all(asked)
        .await
        .into_iter()
        .collect::<Result<_, _>>()?;
    anyhow::ensure!(!all.is_empty(), "{}", cluster.nobody());
    pretty(&Value::Array(all))
}

async fn explained(cluster: &reach::Cluster) -> anyhow::Result<String> {
    let all = cluster.explain().await.context("no master answers")?;
    pretty(&serde_json::to_value(all)?)
}

async fn database(settings: &Settings) -> anyhow::Result<String> {
    let said = |error: crate::db::DbError| anyhow::anyhow!("{}", error.brief());
    let db = Db::connect(&settings.database, 1).await.map_err(said)?;
    let facts = db.facts().await.map_err(said)?;
    let mut rows = serde_json::Map::new();
    for (table, count) in db.row_counts().await.map_err(said)? {
        rows.insert(table, json!(count));
    }
    let nodes = db.nodes().await.map_err(said)?;
    let nodes: Vec<String> = nodes.iter().map(|node| format!("{node:?}")).collect();
    let identity = db.identity().await.map_err(said)?;
    pretty(&json!({
        "version": facts.version, "voids": facts.voids, "lacking": facts.lacking, "connections": facts.connections,
        "connections_max": facts.connections_max, "schema": db.schema_version().await.map_err(said)?,
        "rows": rows, "nodes": nodes, "cluster": identity,
    }))
}

async fn history(settings: &Settings) -> anyhow::Result<String> {
    let said = |error: crate::db::DbError| anyhow::anyhow!("{}", error.brief());
    let db = Db::connect(&settings.database, 1).await.map_err(said)?;
    let decisions = db.decisions(DECISIONS_MAX).await.map_err(said)?;
    Ok(decisions
        .iter()
        .map(|decision| super::history::value(decision).to_string() + "\n")
        .collect())
}

/// What the kernel says of its gate, by this very program; the copy of a replaced one is still there to be run.
fn gate_status() -> Vec<String> {
    ["/proc/self/exe", "gate", "status"]
        .map(str::to_owned)
        .to_vec()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the gate is described as `gate status` does, with its verdict, and not by a path. Method: what is run for it.
    #[test]
    fn the_gate_is_described_by_its_own_verb() {
        let all = commands("1h");
        let gate = all.iter().find(|(name, _)| *name == "gate.txt");
        let (_, command) = gate.expect("a part of its own");
        assert_eq!(command[1..], ["gate", "status"]);
    }

    /// Goal: a secret is masked however it is written: alone, in a URL, in JSON; short words and labels are not.
    #[test]
    fn secrets_are_masked_however_they_are_written() {
        let mut mask = Mask::default();
        mask.learn("pa\"ss&word");
        mask.learn("webapp-key 01 aabbccdd eeff0011\n");
        mask.0.sort_by_key(|word| std::cmp::Reverse(word.len()));
        let text = "mysql://wa:pa%22ss%26word@h {\"p\":\"pa\\\"ss&word\"} pa\"ss&word aabbccdd 01 webapp-key";
        assert_eq!(
            mask.apply(text),
            "mysql://wa:***@h {\"p\":\"***\"} *** *** 01 webapp-key"
        );
    }
}
