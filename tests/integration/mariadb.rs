//! A private MariaDB server: own data directory, own port, unprivileged user, gone when the test process is.
//! Knows nothing of the schema.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

/// A running server. Killed on drop, and by the kernel when the test process dies.
pub struct Server {
    directory: tempfile::TempDir,
    pub port: u16,
    child: Option<Child>,
    more: Vec<String>,
}

fn find(name: &str) -> Option<PathBuf> {
    ["/usr/sbin", "/usr/bin", "/usr/local/bin", "/usr/libexec"]
        .iter()
        .map(|directory| Path::new(directory).join(name))
        .find(|path| path.exists())
}

/// Why no server can be started here, if that is so.
pub fn missing() -> Option<String> {
    for name in ["mariadbd", "mariadb-install-db", "setpriv"] {
        if find(name).is_none() {
            return Some(format!(
                "{name} is not installed (apt install mariadb-server util-linux)"
            ));
        }
    }
    None
}

/// A command that runs as an ordinary user and dies with the thread that starts it.
pub fn unprivileged(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    command.args(["--pdeathsig", "KILL"]);
    if nix::unistd::geteuid().is_root() {
        command.args(["--reuid", "nobody", "--regid", "nogroup", "--clear-groups"]);
    }
    command.arg("--").arg(program);
    command
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null());
    command
}

pub fn run(command: &mut Command) -> Result<(), String> {
    let status = command.status().map_err(|e| format!("{command:?}: {e}"))?;
    if status.success() {
        Ok(())
    } else {
        Err(format!("{command:?}: {status}"))
    }
}

/// Child processes die with the thread that started them: this one never ends.
pub fn spawn_for_ever(mut command: Command) -> Result<Child, String> {
    let (answer, child) = std::sync::mpsc::sync_channel(1);
    std::thread::spawn(move || {
        let _ = answer.send(command.spawn().map_err(|e| e.to_string()));
        loop {
            std::thread::park();
        }
    });
    child.recv().map_err(|e| e.to_string())?
}

/// A data directory made once and copied for each server: making one takes seconds.
fn template() -> Result<PathBuf, String> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let cached = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mariadb-template");
    if cached.join("mysql").exists() {
        return Ok(cached);
    }
    let work = directory()?;
    let data = work.path().join("data");
    run(
        unprivileged(&find("mariadb-install-db").ok_or("no mariadb-install-db")?)
            .args([
                "--no-defaults",
                "--auth-root-authentication-method=normal",
                "--skip-test-db",
            ])
            .arg(format!("--datadir={}", data.display())),
    )?;
    let partial = cached.with_extension(format!("{}", std::process::id()));
    run(Command::new("cp").arg("-a").arg(&data).arg(&partial))?;
    // Another test process may have been quicker: then its copy serves.
    if std::fs::rename(&partial, &cached).is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    Ok(cached)
}

const PREFIX: &str = "wa-test-server-";

/// Servers that tests share live until their process ends, and nobody is left to clear up: the next one does.
fn sweep() {
    let Ok(entries) = std::fs::read_dir(std::env::temp_dir()) else {
        return;
    };
    for entry in entries.flatten() {
        let name = entry.file_name();
        let owner = name.to_str().and_then(|name| {
            name.strip_prefix(PREFIX)?
                .split('-')
                .next()?
                .parse::<u32>()
                .ok()
        });
        if owner.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            let _ = std::fs::remove_dir_all(entry.path());
        }
    }
}

/// A directory that the server's user owns.
pub fn directory() -> Result<tempfile::TempDir, String> {
    sweep();
    let directory = tempfile::Builder::new()
        .prefix(&format!("{PREFIX}{}-", std::process::id()))
        .tempdir()
        .map_err(|e| e.to_string())?;
    if nix::unistd::geteuid().is_root() {
        run(Command::new("chown")
            .arg("nobody:nogroup")
            .arg(directory.path()))?;
    }
    Ok(directory)
}

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Result<Self, String> {
        Self::start_in(directory()?, Vec::new())
    }

    /// Starts one whose defaults change the meaning of whatever does not set its own.
    pub fn hostile() -> Result<Self, String> {
        let directory = directory()?;
        let file = directory.path().join("hostile.sql");
        wa_agent::dev::hostile::write(&file, false).map_err(|e| e.to_string())?;
        Self::start_in(directory, wa_agent::dev::hostile::arguments(&file, false))
    }

    /// Starts a server whose files lie in the directory, with further arguments.
    pub fn start_in(directory: tempfile::TempDir, more: Vec<String>) -> Result<Self, String> {
        if let Some(why) = missing() {
            return Err(why);
        }
        let template = template()?;
        run(Command::new("cp")
            .arg("-a")
            .arg(&template)
            .arg(directory.path().join("data")))?;
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|e| e.to_string())?
            .port();
        let mut server = Self {
            directory,
            port,
            child: None,
            more,
        };
        server.run()?;
        Ok(server)
    }

    /// Starts the process again on the same data and port.
    pub fn run(&mut self) -> Result<(), String> {
        let path = self.directory.path();
        let mut command = unprivileged(&find("mariadbd").ok_or("no mariadbd")?);
        command
            .arg("--no-defaults")
            .arg(format!("--datadir={}", path.join("data").display()))
            .arg(format!("--socket={}", path.join("s").display()))
            .arg(format!("--pid-file={}", path.join("pid").display()))
            .arg(format!("--log-error={}", path.join("log").display()))
            .arg(format!("--port={}", self.port))
            .args([
                "--bind-address=127.0.0.1",
                "--skip-name-resolve",
                "--max-connections=300",
            ])
            .args([
                "--innodb-buffer-pool-size=64M",
                "--innodb-log-file-size=48M",
            ])
            .args(&self.more);
        self.child = Some(spawn_for_ever(command)?);
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", self.port)).is_ok() {
                return Ok(());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!(
            "mariadbd does not answer:\n{}",
            std::fs::read_to_string(path.join("log")).unwrap_or_default()
        ))
    }

    /// Further arguments of the next start.
    pub fn more(&mut self, more: Vec<String>) {
        self.more.extend(more);
    }

    /// A file beside the server's own.
    pub fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// The URL of one database of the server.
    pub fn url(&self, database: &str) -> String {
        format!("mysql://root@127.0.0.1:{}/{database}", self.port)
    }

    /// Sends a signal to the server process. After SIGSTOP it returns when the last thread stands still: the kernel stops
    /// them one by one, and one of them may answer a query meanwhile.
    pub fn signal(&self, signal: nix::sys::signal::Signal) {
        let Some(child) = &self.child else { return };
        let pid = i32::try_from(child.id()).expect("process ids fit");
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), signal);
        if signal == nix::sys::signal::Signal::SIGSTOP {
            let stands = || threads_stand_still(pid);
            let still = (0..2000).any(|_| {
                std::thread::sleep(Duration::from_millis(1));
                stands()
            });
            assert!(still, "the server did not stop within two seconds");
        }
    }

    /// Starts it again if it ended by itself, as its supervisor would. True when it had.
    pub fn revive(&mut self) -> Result<bool, String> {
        let ended = self.child.as_mut().map(Child::try_wait);
        match ended {
            Some(Ok(None)) => Ok(false),
            _ => self.run().map(|()| true),
        }
    }

    /// As a power cut does it.
    pub fn kill(&mut self) {
        if let Some(mut child) = self.child.take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Whether the kernel has stopped every thread of a process.
fn threads_stand_still(pid: i32) -> bool {
    let Ok(threads) = std::fs::read_dir(format!("/proc/{pid}/task")) else {
        return false;
    };
    threads.flatten().all(|thread| {
        let stat = std::fs::read_to_string(thread.path().join("stat")).unwrap_or_default();
        // The state is the first word after the name, which ends with the last parenthesis.
        stat.rsplit_once(") ")
            .is_none_or(|(_, rest)| rest.starts_with('T'))
    })
}
