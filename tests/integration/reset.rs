//! Goal: what is removed is what was named, after the cluster's name was typed, and never while the cluster works. Method:
//! the real binary on an embedded database and on a private MariaDB with a stranger's table in it.

#![allow(clippy::disallowed_methods)]

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crate::mariadb::{self, Server};

fn write(folder: &Path, url: &str) -> PathBuf {
    // Secrets lie in it.
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(folder, closed).expect("closed");
    let key = folder.join("key");
    std::fs::write(&key, "5a".repeat(32)).expect("written");
    let text = format!(
        "[cluster]\nname = \"shop\"\nkey_file = {key:?}\n[node]\nhostname = \"test\"\nadvertise = \"127.0.0.1\"\nstate_directory = {folder:?}\n\
         [database]\nurls = [{url:?}]\n[ports]\noffset = {}\n[upstream]\nphone_number_id = \"1\"\n",
        30_000 + std::process::id() % 200 * 20
    );
    let file = folder.join("wa-agent.toml");
    std::fs::write(&file, text).expect("written");
    file
}

fn reset(file: &Path, words: &[&str]) -> (i32, String) {
    let output = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .arg("reset")
        .args(words)
        .arg("--config")
        .arg(file)
        .env_clear()
        .stdin(Stdio::null())
        .output()
        .expect("it runs");
    let said = [output.stdout, output.stderr].concat();
    (
        output.status.code().unwrap_or(-1),
        String::from_utf8_lossy(&said).into_owned(),
    )
}

#[test]
fn state_and_an_embedded_database() {
    let folder = tempfile::tempdir().expect("a directory");
    let database = folder.path().join("wa.db");
    let file = write(folder.path(), &format!("sqlite://{}", database.display()));
    let log = std::fs::File::create(folder.path().join("log")).expect("a file");
    let mut master = Command::new(env!("CARGO_BIN_EXE_wa-agent"))
        .args(["master", "--config"])
        .arg(&file)
        .env_clear()
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(log)
        .spawn()
        .expect("it starts");
    let end = Instant::now() + Duration::from_secs(30);
    while !database.exists() && Instant::now() < end {
        std::thread::sleep(Duration::from_millis(20));
    }
    let (code, said) = reset(&file, &["--state", "--yes-i-mean", "shop"]);
    let _ = master.kill();
    let _ = master.wait();
    assert!(
        database.exists(),
        "{}",
        std::fs::read_to_string(folder.path().join("log")).unwrap_or_default()
    );
    assert!(
        code == 1 && said.contains("master-1 still run here: type first: systemctl stop"),
        "{said}"
    );

    let state = folder.path().join("master-1");
    for (words, why) in [
        (vec!["--state"], "--yes-i-mean"),
        (
            vec!["--state", "--yes-i-mean", "kiosk"],
            "is called \"shop\"",
        ),
    ] {
        let (code, said) = reset(&file, &words);
        assert!(code == 1 && said.contains(why), "{said}");
        assert!(state.exists());
    }
    let (code, said) = reset(&file, &["--state", "--yes-i-mean", "shop"]);
    assert_eq!(code, 0, "{said}");
    assert!(!state.exists() && database.exists() && file.exists());
    let (code, said) = reset(&file, &["--database", "--yes-i-mean", "shop"]);
    assert_eq!(code, 0, "{said}");
    assert!(!database.exists() && file.exists());
    let (code, said) = reset(&file, &["--state", "--database", "--yes-i-mean", "shop"]);
    assert!(code == 1 && said.contains("nothing to remove"), "{said}");
}

#[test]
fn a_database_of_a_server() {
    if let Some(why) = mariadb::missing() {
        return crate::skipped("reset on MariaDB", &why);
    }
    let server = Server::start().expect("a server");
    let runtime = tokio::runtime::Runtime::new().expect("a runtime");
    let count = || {
        runtime.block_on(async {
            use sqlx::Connection as _;
            let mut connection = sqlx::MySqlConnection::connect(&server.url("mysql"))
                .await
                .expect("connected");
            sqlx::raw_sql(
                "CREATE DATABASE IF NOT EXISTS wa; CREATE TABLE IF NOT EXISTS wa.stranger (a INT)",
            )
            .execute(&mut connection)
            .await
            .expect("made");
            let sql = "SELECT COUNT(*) FROM information_schema.tables WHERE table_schema = 'wa'";
            let (count,): (i64,) = sqlx::query_as(sql)
                .fetch_one(&mut connection)
                .await
                .expect("counted");
            count
        })
    };
    assert_eq!(count(), 1);
    let folder = tempfile::tempdir().expect("a directory");
    let file = write(folder.path(), &server.url("wa"));
    let settings = wa_agent::config::load(wa_core::id::Role::Master, 1, Some(&file))
        .expect("a configuration")
        .settings;
    runtime.block_on(async {
        let db = wa_agent::db::Db::connect(&settings.database, 1)
            .await
            .expect("connected");
        db.ensure_lease_table().await.expect("made");
        db.migrate().await.expect("migrated");
    });
    assert!(count() > 8);
    let (code, said) = reset(&file, &["--database", "--yes-i-mean", "shop"]);
    assert_eq!(code, 0, "{said}");
    assert_eq!(count(), 1, "the stranger's table stays");
}
