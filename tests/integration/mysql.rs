//! A private MySQL server, where a real one is to be had: `WA_TEST_MYSQL_URL` names a running one, else the folder of
//! `mysql_root.rs` has one, which is started with the loader and the libraries found there.

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::Duration;

use crate::mariadb::{directory, run, spawn_for_ever, unprivileged};
use crate::mysql_root::{self, LOADER};
use wa_agent::dev::hostile;

/// A running server. Killed on drop, and by the kernel when the test process dies.
pub struct Server {
    _directory: tempfile::TempDir,
    port: u16,
    child: Child,
}

fn mysqld(root: &Path) -> Command {
    let mut command = unprivileged(&root.join(LOADER));
    let libraries = format!(
        "{0}/usr/lib/x86_64-linux-gnu:{0}/usr/lib/mysql/private",
        root.display()
    );
    command
        .args(["--library-path", &libraries])
        .arg(root.join("usr/sbin/mysqld"))
        .args(["--no-defaults", "--secure-file-priv=NULL", "--mysqlx=OFF"])
        .arg(format!(
            "--lc-messages-dir={}",
            root.join("usr/share/mysql").display()
        ));
    command
}

fn copy(root: &Path, into: &Path) -> Result<PathBuf, String> {
    let copied = into.join("root");
    run(Command::new("cp").arg("-a").arg(root).arg(&copied))?;
    Ok(copied)
}

/// A data directory made once and copied for each server: making one takes many seconds.
fn template(root: &Path) -> Result<PathBuf, String> {
    static MAKING: Mutex<()> = Mutex::new(());
    let _making = MAKING
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let cached = Path::new(env!("CARGO_TARGET_TMPDIR")).join("mysql-template");
    if cached.join("mysql.ibd").exists() {
        return Ok(cached);
    }
    let work = directory()?;
    let data = work.path().join("data");
    run(mysqld(root)
        .arg("--initialize-insecure")
        .arg(REDO)
        .arg(format!("--datadir={}", data.display())))?;
    // Each copy is a server of its own.
    let _ = std::fs::remove_file(data.join("auto.cnf"));
    let partial = cached.with_extension(format!("{}", std::process::id()));
    run(Command::new("cp").arg("-a").arg(&data).arg(&partial))?;
    // Another test process may have been quicker: then its copy serves.
    if std::fs::rename(&partial, &cached).is_err() {
        let _ = std::fs::remove_dir_all(&partial);
    }
    Ok(cached)
}

/// Little to copy.
const REDO: &str = "--innodb-redo-log-capacity=16M";

impl Server {
    /// Starts a server and waits until it accepts connections.
    pub fn start() -> Result<Self, String> {
        Self::start_with(false)
    }

    /// Starts one whose defaults change the meaning of whatever does not set its own.
    pub fn hostile() -> Result<Self, String> {
        Self::start_with(true)
    }

    fn start_with(hostile: bool) -> Result<Self, String> {
        let mut root = mysql_root::root()?;
        let directory = directory()?;
        // A folder below somebody's home is closed to the server's user: then a copy serves.
        if run(mysqld(&root).arg("--version")).is_err() {
            root = copy(&root, directory.path())?;
            run(mysqld(&root).arg("--version"))?;
        }
        let template = template(&root)?;
        let data = directory.path().join("data");
        run(Command::new("cp").arg("-a").arg(&template).arg(&data))?;
        let data = format!("--datadir={}", data.display());
        let port = TcpListener::bind("127.0.0.1:0")
            .and_then(|listener| listener.local_addr())
            .map_err(|e| e.to_string())?
            .port();
        let log = directory.path().join("log");
        let mut command = mysqld(&root);
        command
            .arg(&data)
            .arg(format!("--socket={}", directory.path().join("s").display()))
            .arg(format!(
                "--pid-file={}",
                directory.path().join("pid").display()
            ))
            .arg(format!("--log-error={}", log.display()))
            .arg(format!("--port={port}"))
            .args([
                "--bind-address=127.0.0.1",
                "--max-connections=300",
                "--skip-log-bin",
                REDO,
            ]);
        if hostile {
            let file = directory.path().join("hostile.sql");
            hostile::write(&file, true).map_err(|e| e.to_string())?;
            command.args(hostile::arguments(&file, true));
        }
        let child = spawn_for_ever(command)?;
        let server = Self {
            _directory: directory,
            port,
            child,
        };
        for _ in 0..600 {
            if TcpStream::connect(("127.0.0.1", port)).is_ok() {
                return Ok(server);
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        Err(format!(
            "mysqld does not answer:\n{}",
            std::fs::read_to_string(log).unwrap_or_default()
        ))
    }

    /// The URL of the server, up to the slash before a database's name.
    pub fn base(&self) -> String {
        format!("mysql://root@127.0.0.1:{}/", self.port)
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
