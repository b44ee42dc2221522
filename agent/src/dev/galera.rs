//! A private Galera cluster for `--database galera`: three MariaDB servers on loopback, broken one by one by the drills.
//! Knows nothing of the schema. Needs the provider (Debian's package galera-4) and rsync.

use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::Connection as _;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::mariadb::{self, READY_WITHIN};
use crate::sys::{child, clock};

/// What `--database` says to ask for it.
pub const WORD: &str = "galera";
/// How many servers there are.
pub const NODES: usize = 3;
/// Where distributions put the provider.
const PROVIDERS: [&str; 3] = [
    "/usr/lib/galera/libgalera_smm.so",
    "/usr/lib64/galera-4/libgalera_smm.so",
    "/usr/lib64/galera/libgalera_smm.so",
];
/// The history that all three begin with.
const HISTORY: &str = "6f4a5c0e-9d1b-11ee-8000-57410a6e7401";
/// The state transfer refuses to work as root.
const USER: &str = "nobody";
/// Failure detection of the group: a dead node is left out after some two seconds.
const TIMERS: &str = "evs.keepalive_period=PT0.3S;evs.inactive_check_period=PT0.3S;evs.suspect_timeout=PT1.5S;\
     evs.inactive_timeout=PT4S;evs.install_timeout=PT3S";

/// Three servers that live as long as this does.
pub struct Galera {
    directory: PathBuf,
    /// SQL at `port + n`; the group, transfers and copies at 3, 6 and 9 above it.
    port: u16,
    nodes: [Mutex<Option<Child>>; NODES],
}

/// Why no cluster can be started here, if that is so.
pub fn missing() -> Option<String> {
    if provider().is_none() {
        return Some("the Galera provider is not installed (apt-get install galera-4)".into());
    }
    ["mariadbd", "mariadb-install-db", "rsync"]
        .into_iter()
        .find(|name| mariadb::find(name).is_none())
        .map(|name| format!("{name} is not installed (apt-get install mariadb-server rsync)"))
}

fn provider() -> Option<&'static str> {
    PROVIDERS.into_iter().find(|path| Path::new(path).exists())
}

impl Galera {
    /// Starts three servers and waits until all are in step.
    ///
    /// # Errors
    /// When something is not installed, or a server does not come up: the error quotes its log.
    pub async fn start(directory: &Path, port: u16) -> anyhow::Result<Self> {
        if let Some(why) = missing() {
            anyhow::bail!("{why}");
        }
        let root = nix::unistd::geteuid().is_root();
        // The servers' user cannot look into root's directories.
        let directory = if root {
            std::env::temp_dir().join(format!("wa-agent-galera-{port}"))
        } else {
            directory.join(WORD)
        };
        let _ = std::fs::remove_dir_all(&directory);
        let cluster = Self {
            directory,
            port,
            nodes: Default::default(),
        };
        cluster.install(root).await?;
        let first = "--wsrep-new-cluster".to_owned();
        let position = format!("--wsrep-start-position={HISTORY}:0");
        cluster.run(0, &[first.clone(), position]).await?;
        cluster.in_step(0, 1).await?;
        let accounts = "CREATE DATABASE IF NOT EXISTS wa; CREATE USER IF NOT EXISTS wa@'127.0.0.1'; \
                        GRANT ALL ON wa.* TO wa@'127.0.0.1'";
        cluster.say(0, accounts).await?;
        cluster.copy_first(root).await?;
        cluster.run(0, &[first]).await?;
        cluster.in_step(0, 1).await?;
        tokio::try_join!(cluster.run(1, &[]), cluster.run(2, &[]))?;
        for node in 0..NODES {
            cluster.in_step(node, NODES).await?;
        }
        Ok(cluster)
    }

    /// Where clients find the three, in order.
    pub fn urls(port: u16) -> String {
        let urls =
            (0..NODES).map(|n| mariadb::Server::url(port + n as u16, Ipv4Addr::LOCALHOST.into()));
        urls.collect::<Vec<_>>().join(",")
    }

    /// The URL of one database on one node, for an account that may do everything.
    pub fn url(&self, node: usize, database: &str) -> String {
        format!(
            "mysql://root@127.0.0.1:{}/{database}",
            self.port + node as u16
        )
    }

    /// The node that most of the product's connections are on: the one worth breaking.
    pub async fn busiest(&self) -> usize {
        self.busiest_for("wa").await
    }

    /// The node that most of an account's connections are on.
    pub async fn busiest_for(&self, account: &str) -> usize {
        let mut most = (0, 0);
        for node in 0..NODES {
            let count = self.clients(node, account).await.unwrap_or(0);
            if count > most.1 {
                most = (node, count);
            }
        }
        most.0
    }

    async fn clients(&self, node: usize, account: &str) -> anyhow::Result<i64> {
        let url = self.url(node, "");
        let asked = async {
            let mut c = sqlx::MySqlConnection::connect(&url).await?;
            let sql = "SELECT COUNT(*) FROM information_schema.PROCESSLIST WHERE USER=?";
            let asked = sqlx::query_as(sql).bind(account);
            let (count,): (i64,) = asked.fetch_one(&mut c).await?;
            c.close().await?;
            Ok::<_, sqlx::Error>(count)
        };
        Ok(tokio::time::timeout(Duration::from_secs(2), asked).await??)
    }

    /// As a power cut does it.
    pub async fn kill(&self, node: usize) {
        if let Some(mut child) = self.nodes[node].lock().await.take() {
            let _ = child.start_kill();
            let _ = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
        }
    }

    /// It was started and not killed since.
    pub async fn runs(&self, node: usize) -> bool {
        self.nodes[node].lock().await.is_some()
    }

    /// Starts a node that was killed, from the position that its own files have.
    ///
    /// # Errors
    /// When it does not come up.
    pub async fn rejoin(&self, node: usize) -> anyhow::Result<()> {
        let position = self.recovered(node).await?;
        self.run(node, &[format!("--wsrep-start-position={position}")])
            .await
    }

    /// The network between a node and the others is cut, or whole again. Its clients still reach it.
    ///
    /// # Errors
    /// When the node does not take the setting.
    pub async fn isolate(&self, node: usize, cut: bool) -> anyhow::Result<()> {
        let value = u8::from(cut);
        let sql = format!("SET GLOBAL wsrep_provider_options='gmcast.isolate={value}'");
        self.say(node, &sql).await
    }

    /// Declares a node that is alone to be the cluster: an administrator's decision.
    ///
    /// # Errors
    /// When the node does not take the setting.
    pub async fn bootstrap(&self, node: usize) -> anyhow::Result<()> {
        let sql = "SET GLOBAL wsrep_provider_options='pc.bootstrap=YES'";
        self.say(node, sql).await
    }

    /// Component, state and size of the cluster as a node sees them, such as `Primary 4 3`. It answers outside the primary
    /// component as well.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn state(&self, node: usize) -> anyhow::Result<String> {
        use sqlx::Row as _;
        let url = self.url(node, "");
        let asked = async {
            let mut c = sqlx::MySqlConnection::connect(&url).await?;
            let sql = "SHOW STATUS WHERE Variable_name IN ('wsrep_cluster_status', 'wsrep_local_state', 'wsrep_cluster_size')";
            let mut found = [String::new(), String::new(), String::new()];
            for row in sqlx::raw_sql(sql).fetch_all(&mut c).await? {
                let (name, value): (String, String) = (row.try_get(0)?, row.try_get(1)?);
                match name.as_str() {
                    "wsrep_cluster_status" => found[0] = value,
                    "wsrep_local_state" => found[1] = value,
                    _ => found[2] = value,
                }
            }
            c.close().await?;
            Ok::<_, sqlx::Error>(found.join(" "))
        };
        Ok(tokio::time::timeout(Duration::from_secs(2), asked).await??)
    }

    /// Waits until a node is in step within a primary component of so many.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn in_step(&self, node: usize, of: usize) -> anyhow::Result<()> {
        self.until(node, &format!("Primary 4 {of}")).await
    }

    /// Waits for a state as [`Self::state`] words it.
    ///
    /// # Errors
    /// When that takes too long.
    pub async fn until(&self, node: usize, wanted: &str) -> anyhow::Result<()> {
        let until = clock::now() + READY_WITHIN;
        loop {
            let state = self.state(node).await.unwrap_or_else(|e| e.to_string());
            if state.starts_with(wanted) {
                return Ok(());
            }
            anyhow::ensure!(
                clock::now() < until,
                "node {node} of the private Galera is {state:?}, not {wanted:?}; its log ends with:\n{}",
                self.last_lines(node)
            );
            clock::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Ends all; nothing of it is kept.
    pub async fn end(&self) {
        for node in 0..NODES {
            self.kill(node).await;
        }
        let _ = std::fs::remove_dir_all(&self.directory);
    }

    async fn say(&self, node: usize, sql: &str) -> anyhow::Result<()> {
        let url = self.url(node, "");
        let asked = async {
            let mut c = sqlx::MySqlConnection::connect(&url).await?;
            sqlx::raw_sql(sqlx::AssertSqlSafe(sql.to_owned()))
                .execute(&mut c)
                .await?;
            Ok::<_, sqlx::Error>(())
        };
        tokio::time::timeout(READY_WITHIN, asked)
            .await
            .with_context(|| format!("node {node} does not answer"))??;
        Ok(())
    }

    fn at(&self, node: usize, name: &str) -> PathBuf {
        self.directory.join(format!("node-{node}")).join(name)
    }

    /// A new data directory for the first node, at the beginning of a history.
    async fn install(&self, root: bool) -> anyhow::Result<()> {
        std::fs::create_dir_all(&self.directory)
            .with_context(|| format!("cannot make {}", self.directory.display()))?;
        mariadb::install(&self.directory).await?;
        for node in 0..NODES {
            std::fs::create_dir_all(self.at(node, ""))?;
        }
        let data = self.at(0, "data");
        std::fs::rename(self.directory.join("data"), &data)?;
        std::fs::write(
            data.join("grastate.dat"),
            format!(
                "# GALERA saved state\nversion: 2.1\nuuid:    {HISTORY}\nseqno:   0\nsafe_to_bootstrap: 1\n"
            ),
        )?;
        self.give_away(root).await
    }

    /// Ends the first node in order and gives its data to the others: all stand at one position of one history, and none
    /// needs a state transfer.
    async fn copy_first(&self, root: bool) -> anyhow::Result<()> {
        let ended = self.nodes[0].lock().await.take();
        let mut child = ended.context("the first node runs")?;
        let pid = child.id().and_then(|id| i32::try_from(id).ok());
        let pid = nix::unistd::Pid::from_raw(pid.context("it has a process id")?);
        nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM)?;
        tokio::time::timeout(READY_WITHIN, child.wait())
            .await
            .context("the first node does not end")??;
        for node in 1..NODES {
            let data = self.at(node, "data");
            run(Command::new("cp")
                .arg("-a")
                .arg(self.at(0, "data"))
                .arg(&data))
            .await?;
            let _ = std::fs::remove_file(data.join("galera.cache"));
        }
        self.give_away(root).await
    }

    async fn give_away(&self, root: bool) -> anyhow::Result<()> {
        if root {
            run(Command::new("chown")
                .args(["-R", USER])
                .arg(&self.directory))
            .await?;
        }
        Ok(())
    }

    fn command(&self, node: usize) -> anyhow::Result<Command> {
        let mut command = mariadb::program("mariadbd")?;
        let own = self.port + node as u16;
        let members = (0..NODES)
            .map(|n| format!("127.0.0.1:{}", self.port + 3 + n as u16))
            .collect::<Vec<_>>()
            .join(",");
        let path = |name: &str| self.at(node, name).display().to_string();
        command
            .args([
                "--no-defaults",
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--max-connections=300",
                "--innodb-flush-log-at-trx-commit=1",
                "--innodb-buffer-pool-size=64M",
                "--innodb-log-file-size=48M",
                "--binlog-format=ROW",
                "--innodb-autoinc-lock-mode=2",
                "--wsrep-on=ON",
                "--wsrep-cluster-name=wa",
                "--wsrep-sst-method=rsync",
            ])
            .arg(format!("--wsrep-provider={}", provider().unwrap_or_default()))
            .arg(format!("--wsrep-cluster-address=gcomm://{members}"))
            .arg(format!("--wsrep-node-address=127.0.0.1:{}", own + 3))
            .arg(format!("--wsrep-node-name=node-{node}"))
            .arg(format!("--wsrep-sst-receive-address=127.0.0.1:{}", own + 9))
            .arg(format!(
                "--wsrep-provider-options=base_host=127.0.0.1;base_port={group};gmcast.listen_addr=tcp://127.0.0.1:{group};\
                 ist.recv_addr=127.0.0.1:{};gcache.size=64M;pc.recovery=no;{TIMERS}",
                own + 6,
                group = own + 3
            ))
            .arg(format!("--port={own}"))
            .arg(format!("--datadir={}", path("data")))
            .arg(format!("--socket={}", path("socket")))
            .arg(format!("--pid-file={}", path("pid")))
            .arg(format!("--log-error={}", path("log.err")))
            .kill_on_drop(true)
            .process_group(0);
        if nix::unistd::geteuid().is_root() {
            command.arg(format!("--user={USER}"));
        }
        child::die_with_parent(&mut command);
        Ok(command)
    }

    async fn run(&self, node: usize, more: &[String]) -> anyhow::Result<()> {
        let mut started = self
            .command(node)?
            .args(more)
            .spawn()
            .context("mariadbd does not start")?;
        let until = clock::now() + READY_WITHIN;
        while self.state(node).await.is_err() {
            anyhow::ensure!(
                started.try_wait()?.is_none() && clock::now() < until,
                "node {node} of the private Galera did not come up on port {}; its log ends with:\n{}",
                self.port + node as u16,
                self.last_lines(node)
            );
            clock::sleep(Duration::from_millis(50)).await;
        }
        *self.nodes[node].lock().await = Some(started);
        Ok(())
    }

    /// The position that the server finds in its own files: `history:number`.
    async fn recovered(&self, node: usize) -> anyhow::Result<String> {
        let log = self.at(node, "recover.err");
        let mut command = self.command(node)?;
        let done = command
            .arg("--wsrep-recover")
            .arg(format!("--log-error={}", log.display()))
            .status();
        tokio::time::timeout(READY_WITHIN, done)
            .await
            .context("the recovery takes too long")??;
        let said = std::fs::read_to_string(&log)?;
        said.lines()
            .rev()
            .find_map(|line| line.split_once("Recovered position: "))
            .map(|(_, position)| position.split(',').next().unwrap_or_default().to_owned())
            .context("the recovery names no position")
    }

    fn last_lines(&self, node: usize) -> String {
        mariadb::last_lines(&self.at(node, "log.err"))
    }
}

async fn run(command: &mut Command) -> anyhow::Result<()> {
    let done = command.stdin(Stdio::null()).status().await?;
    anyhow::ensure!(done.success(), "{command:?}: {done}");
    Ok(())
}
