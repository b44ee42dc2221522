//! A private MariaDB for `--database mariadb`: own data directory, own port, ended with the cluster.
//! Durable like a production server; knows nothing of the schema.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::time::Duration;

use anyhow::Context as _;
use sqlx::mysql::MySqlConnectOptions;
use tokio::process::{Child, Command};
use tokio::sync::Mutex;

use super::hostile;
use crate::sys::{child, clock};

/// What `--database` says to ask for it.
pub const WORD: &str = "mariadb";
/// How long a start may take; recovery after a kill included.
pub(super) const READY_WITHIN: Duration = Duration::from_secs(60);
/// Where distributions put servers, beside the directories of PATH.
const PLACES: [&str; 4] = ["/usr/sbin", "/usr/bin", "/usr/libexec", "/usr/local/bin"];

/// A server that lives as long as this does.
pub struct Server {
    directory: PathBuf,
    port: u16,
    address: IpAddr,
    /// On a machine of its own, as far as the processors are concerned.
    apart: bool,
    child: Mutex<Option<Child>>,
    /// More words on its command line.
    more: Mutex<Vec<String>>,
}

impl Server {
    /// Starts a server whose data lies below `directory`; makes the data at the first start.
    ///
    /// # Errors
    /// When MariaDB is not installed, or does not come up: the error quotes its log.
    pub async fn start(
        directory: &Path,
        port: u16,
        address: IpAddr,
        apart: bool,
    ) -> anyhow::Result<Self> {
        Self::start_with(directory, (port, address), apart, Vec::new()).await
    }

    /// The same with more words on its command line.
    ///
    /// # Errors
    /// As [`Self::start`].
    pub async fn start_with(
        directory: &Path,
        (port, address): (u16, IpAddr),
        apart: bool,
        more: Vec<String>,
    ) -> anyhow::Result<Self> {
        let directory = directory.join("mariadb");
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("cannot make {}", directory.display()))?;
        let directory = directory.canonicalize()?;
        if !directory.join("data/mysql").exists() {
            install(&directory).await?;
        }
        // One statement a line: that is how the server reads the file.
        let accounts = format!(
            "CREATE DATABASE IF NOT EXISTS wa;\n\
                        CREATE USER IF NOT EXISTS wa@'{from}';\n\
                        GRANT ALL ON wa.* TO wa@'{from}';\n\
                        GRANT ALL ON `wa\\_%`.* TO wa@'{from}';\n\
                        CREATE USER IF NOT EXISTS breaker@'{from}';\n\
                        GRANT ALL ON *.* TO breaker@'{from}';\n",
            // Nobody else reaches the address.
            from = if address.is_loopback() {
                "127.0.0.1"
            } else {
                "%"
            }
        );
        std::fs::write(directory.join("init.sql"), accounts)?;
        let server = Self {
            directory,
            port,
            address,
            apart,
            child: Mutex::new(None),
            more: Mutex::new(more),
        };
        server.run().await?;
        Ok(server)
    }

    /// Where a client finds it.
    pub fn url(port: u16, address: IpAddr) -> String {
        format!("mysql://wa@{address}:{port}/wa")
    }

    /// As a power cut does it, and the start after it.
    ///
    /// # Errors
    /// When the server does not come up again.
    pub async fn crash_and_restart(&self) -> anyhow::Result<()> {
        self.kill().await;
        self.run().await
    }

    /// The same, with defaults for everybody's sessions that are as far from ours as they can be (F01).
    ///
    /// # Errors
    /// As [`Self::crash_and_restart`].
    pub async fn restart_hostile(&self) -> anyhow::Result<()> {
        let file = self.directory.join("init.sql");
        let accounts = std::fs::read_to_string(&file)?;
        let hostile_lines = hostile::statements(false);
        // Whoever may not set it for himself is refused by its name: another story.
        let settable = |line: &&str| !line.contains("enforce_storage_engine");
        let settable: Vec<&str> = hostile_lines.lines().filter(settable).collect();
        std::fs::write(&file, format!("{accounts}{}\n", settable.join("\n")))?;
        let mut more: Vec<String> = hostile::MORE.map(String::from).to_vec();
        more.push(format!("--init-connect={}", hostile::INIT_CONNECT));
        *self.more.lock().await = more;
        self.crash_and_restart().await
    }

    /// What an administrator types.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn say(&self, sql: &'static str) -> anyhow::Result<()> {
        use sqlx::ConnectOptions as _;
        let mut connection = self.breaker()?.connect().await?;
        sqlx::raw_sql(sql).execute(&mut connection).await?;
        Ok(())
    }

    /// One more empty database, for the same account: its name begins with `wa_`.
    ///
    /// # Errors
    /// When the server does not do it.
    pub async fn make_database(&self, name: &str) -> anyhow::Result<()> {
        use sqlx::ConnectOptions as _;
        let mut connection = self.breaker()?.connect().await?;
        let sql = format!("CREATE DATABASE {name}");
        sqlx::raw_sql(sqlx::AssertSqlSafe(sql))
            .execute(&mut connection)
            .await?;
        Ok(())
    }

    /// Rows that it has read for anybody in the tables of a database; it must have been started with `userstat`.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn rows_read(&self, database: &str) -> anyhow::Result<u64> {
        use sqlx::ConnectOptions as _;
        let mut connection = self.breaker()?.connect().await?;
        let sql = "SELECT CAST(COALESCE(SUM(ROWS_READ), 0) AS SIGNED) FROM information_schema.TABLE_STATISTICS WHERE TABLE_SCHEMA=?";
        let row: (i64,) = sqlx::query_as(sql)
            .bind(database)
            .fetch_one(&mut connection)
            .await?;
        Ok(u64::try_from(row.0).unwrap_or(0))
    }

    /// Empties the log of slow statements, which it writes below its data.
    pub fn forget_slow_log(&self) {
        // It is written at its end: emptied, it goes on from there.
        let _ = std::fs::File::create(self.slow_log());
    }

    /// Copies that log.
    ///
    /// # Errors
    /// When it cannot be read, or the other one not be written.
    pub fn keep_slow_log(&self, to: &Path) -> anyhow::Result<()> {
        if let Some(folder) = to.parent() {
            std::fs::create_dir_all(folder)?;
        }
        std::fs::copy(self.slow_log(), to).context("the log of slow statements")?;
        Ok(())
    }

    fn slow_log(&self) -> PathBuf {
        self.directory.join("data/slow")
    }

    /// What the server has counted since its start, by its own names.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn counters(&self) -> anyhow::Result<BTreeMap<String, u64>> {
        use sqlx::{ConnectOptions as _, Connection as _, Row as _};
        let mut connection = self.breaker()?.connect().await?;
        let mut counters = BTreeMap::new();
        let rows = sqlx::raw_sql("SHOW GLOBAL STATUS").fetch_all(&mut connection);
        for row in rows.await? {
            // By their bytes: those that are no numbers are left out.
            let (name, value): (String, String) =
                (row.try_get_unchecked(0)?, row.try_get_unchecked(1)?);
            if let Ok(value) = value.parse() {
                counters.insert(name, value);
            }
        }
        connection.close().await?;
        Ok(counters)
    }

    /// The product's own account may do little and may get a password; this one may do everything.
    fn breaker(&self) -> anyhow::Result<MySqlConnectOptions> {
        let url = Self::url(self.port, self.address).replace("wa@", "breaker@");
        // What the driver sets by itself, a hostile server may refuse.
        Ok(url
            .parse::<MySqlConnectOptions>()?
            .set_names(false)
            .timezone(None)
            .pipes_as_concat(false)
            .no_engine_substitution(false))
    }

    /// Stops the process for a while; clients see a server that does not answer.
    pub async fn stall(&self, span: Duration) {
        let signal = |pid: u32, signal| {
            let pid = nix::unistd::Pid::from_raw(i32::try_from(pid).unwrap_or(0));
            let _ = nix::sys::signal::kill(pid, signal);
        };
        if let Some(pid) = self.pid().await {
            signal(pid, nix::sys::signal::Signal::SIGSTOP);
            clock::sleep(span).await;
            signal(pid, nix::sys::signal::Signal::SIGCONT);
        }
    }

    /// Refuses writes for a while, as a server that became a replica.
    ///
    /// # Errors
    /// When the server does not take the setting.
    pub async fn refuse_writes(&self, span: Duration) -> anyhow::Result<()> {
        self.say("SET GLOBAL read_only=1").await?;
        clock::sleep(span).await;
        self.say("SET GLOBAL read_only=0").await
    }

    /// The process id, while it runs.
    pub async fn pid(&self) -> Option<u32> {
        self.child.lock().await.as_ref().and_then(Child::id)
    }

    /// Ends it; what was committed is on the disk.
    pub async fn kill(&self) {
        if let Some(mut child) = self.child.lock().await.take() {
            let _ = child.start_kill();
            let _ = tokio::time::timeout(Duration::from_secs(10), child.wait()).await;
        }
    }

    async fn run(&self) -> anyhow::Result<()> {
        let at = |name: &str| self.directory.join(name).display().to_string();
        let mut command = program("mariadbd")?;
        command
            .args([
                "--no-defaults",
                "--skip-name-resolve",
                "--max-connections=300",
                "--innodb-flush-log-at-trx-commit=1",
                "--innodb-buffer-pool-size=256M",
                "--innodb-log-file-size=128M",
            ])
            .args(as_root())
            .arg(format!("--datadir={}", at("data")))
            .arg(format!("--socket={}", at("socket")))
            .arg(format!("--pid-file={}", at("pid")))
            .arg(format!("--log-error={}", at("log")))
            .arg(format!("--init-file={}", at("init.sql")))
            .arg(format!("--port={}", self.port))
            .arg(format!("--bind-address={}", self.address))
            .args(self.more.lock().await.iter())
            .kill_on_drop(true)
            .process_group(0);
        if self.apart {
            child::before_others(&mut command);
        }
        child::die_with_parent(&mut command);
        let mut started = command.spawn().context("mariadbd does not start")?;
        let until = clock::now() + READY_WITHIN;
        loop {
            let ended = started.try_wait()?;
            if ended.is_some() || clock::now() >= until {
                anyhow::bail!(
                    "the private MariaDB did not come up on port {}; its log ends with:\n{}",
                    self.port,
                    self.last_lines()
                );
            }
            if self.answers().await {
                break;
            }
            clock::sleep(Duration::from_millis(50)).await;
        }
        *self.child.lock().await = Some(started);
        Ok(())
    }

    /// The port is open before the accounts are made: only a login shows that it is ready.
    async fn answers(&self) -> bool {
        use sqlx::{ConnectOptions as _, Connection as _};
        let Ok(breaker) = self.breaker() else {
            return false;
        };
        let login = breaker.connect();
        match tokio::time::timeout(Duration::from_secs(2), login).await {
            Ok(Ok(connection)) => {
                let _ = connection.close().await;
                true
            }
            _ => false,
        }
    }

    fn last_lines(&self) -> String {
        last_lines(&self.directory.join("log"))
    }
}

/// What a server said last.
pub(super) fn last_lines(log: &Path) -> String {
    let log = std::fs::read_to_string(log).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(8)..].join("\n")
}

/// The server refuses to run as root unless told so.
fn as_root() -> Option<&'static str> {
    nix::unistd::geteuid().is_root().then_some("--user=root")
}

/// Where a program is, if it is installed.
pub(super) fn find(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    let places = std::env::split_paths(&path).chain(PLACES.iter().map(PathBuf::from));
    places.map(|place| place.join(name)).find(|f| f.exists())
}

pub(super) fn program(name: &str) -> anyhow::Result<Command> {
    let found = find(name).with_context(|| {
        format!("{name} is not installed; type: apt-get install mariadb-server")
    })?;
    let mut command = Command::new(found);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    Ok(command)
}

/// Makes the data directory under another name first: a half made one is never taken for a whole one.
pub(super) async fn install(directory: &Path) -> anyhow::Result<()> {
    let partial = directory.join("data.new");
    let _ = std::fs::remove_dir_all(&partial);
    let _ = std::fs::remove_dir_all(directory.join("data"));
    let done = program("mariadb-install-db")?
        .args([
            "--no-defaults",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ])
        .args(as_root())
        .arg(format!("--datadir={}", partial.display()))
        .status();
    let done = tokio::time::timeout(READY_WITHIN, done)
        .await
        .context("mariadb-install-db takes too long")??;
    anyhow::ensure!(done.success(), "mariadb-install-db failed: {done}");
    std::fs::rename(&partial, directory.join("data"))?;
    Ok(())
}
