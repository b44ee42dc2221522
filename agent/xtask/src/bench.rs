//! `cargo xtask bench intake`: builds the release binary and lets it measure itself against a private MariaDB.

#![allow(clippy::disallowed_methods)] // times a disk and waits for a server: no protocol time here

use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// A private server, killed when dropped.
struct MariaDb {
    child: Child,
    directory: std::path::PathBuf,
}

impl Drop for MariaDb {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = std::fs::remove_dir_all(&self.directory);
    }
}

/// Runs one measurement; what follows its name is handed on.
///
/// # Errors
/// When the name is unknown, or something that the measurement needs cannot be had.
pub fn run(words: &[&str]) -> Result<bool, String> {
    let Some((&"intake", options)) = words.split_first() else {
        return Err("cargo xtask bench: there is: intake".into());
    };
    crate::install::needed()?;
    std::env::set_current_dir(crate::root()).map_err(|e| e.to_string())?;
    let failed = |what: &str, why: std::io::Error| format!("{what} does not start: {why}");
    let built = crate::cargo()
        .args(["build", "--release", "--locked"])
        .status();
    if !built.map_err(|e| failed("cargo", e))?.success() {
        return Ok(false);
    }
    let port = 33_071;
    let server =
        start(port).ok_or("no MariaDB could be started; type: apt-get install mariadb-server")?;
    println!(
        "fdatasync of 4 KiB on this disk: {} us (median of 200)",
        fsync_us(&server.directory)
    );
    let url = format!("mysql://wa@127.0.0.1:{port}/wa");
    let done = Command::new("target/release/wa-agent")
        .args(["dev", "--port", "19090", "--seconds", "60", "--state"])
        .arg(server.directory.join("state"))
        .args(["--database", &url, "--bench-intake"])
        .args(options)
        .status();
    Ok(done.map_err(|e| failed("wa-agent", e))?.success())
}

fn start(port: u16) -> Option<MariaDb> {
    let directory = std::env::temp_dir().join(format!("wa-bench-{}", std::process::id()));
    std::fs::create_dir_all(&directory).ok()?;
    let data = directory.join("data");
    let init = directory.join("init.sql");
    let sql = "CREATE DATABASE IF NOT EXISTS wa;\nCREATE USER IF NOT EXISTS wa@'127.0.0.1';\nGRANT ALL ON *.* TO wa@'127.0.0.1';\n";
    std::fs::write(&init, sql).ok()?;
    let installed = Command::new("mariadb-install-db")
        .args([
            "--no-defaults",
            "--user=root",
            "--auth-root-authentication-method=normal",
            "--skip-test-db",
        ])
        .arg(format!("--datadir={}", data.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status();
    if !installed.is_ok_and(|s| s.success()) {
        return None;
    }
    let program = if Path::new("/usr/sbin/mariadbd").exists() {
        "/usr/sbin/mariadbd"
    } else {
        "mariadbd"
    };
    let child = Command::new(program)
        .args([
            "--no-defaults",
            "--user=root",
            "--bind-address=127.0.0.1",
            "--skip-name-resolve",
        ])
        .args([
            "--innodb-flush-log-at-trx-commit=1",
            "--innodb-buffer-pool-size=256M",
            "--innodb-log-file-size=128M",
        ])
        .arg(format!("--datadir={}", data.display()))
        .arg(format!("--socket={}/s", directory.display()))
        .arg(format!("--port={port}"))
        .arg(format!("--init-file={}", init.display()))
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .ok()?;
    let server = MariaDb { child, directory };
    let until = Instant::now() + Duration::from_secs(30);
    while Instant::now() < until {
        if std::net::TcpStream::connect(("127.0.0.1", port)).is_ok() {
            return Some(server);
        }
        std::thread::sleep(Duration::from_millis(100));
    }
    None
}

/// Median time of a 4 KiB write with fdatasync, in microseconds: what one commit at least costs.
fn fsync_us(directory: &Path) -> u128 {
    use std::io::Write as _;
    let Ok(mut file) = std::fs::File::create(directory.join("probe")) else {
        return 0;
    };
    let mut times: Vec<u128> = (0..200)
        .filter_map(|_| {
            let started = Instant::now();
            file.write_all(&[7; 4096]).ok()?;
            file.sync_data().ok()?;
            Some(started.elapsed().as_micros())
        })
        .collect();
    times.sort_unstable();
    times.get(times.len() / 2).copied().unwrap_or(0)
}
