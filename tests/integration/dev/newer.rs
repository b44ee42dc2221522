//! Goal: a coreapp that cannot read what is in the store gets no shard, and everybody says why. Method: real processes; a
//! message in a form of a later release is put into the store by hand, and rewritten into one that is read.

use super::{Dev, owner, status_until, verb};
use crate::drill::{TURN, port};

fn in_the_store(dev: &Dev, sql: &'static str) {
    let text = std::fs::read_to_string(dev.directory().join("wa-agent.toml")).expect("read");
    let url = text.split('"').find(|part| part.starts_with("sqlite://"));
    let file = url
        .expect("the embedded store")
        .trim_start_matches("sqlite://")
        .to_owned();
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .expect("a runtime");
    runtime.block_on(async {
        use sqlx::{ConnectOptions as _, Connection as _};
        let options = sqlx::sqlite::SqliteConnectOptions::new().filename(file);
        let mut connection = options.connect().await.expect("the store opens");
        let done = sqlx::query(sql).execute(&mut connection).await;
        assert_eq!(done.expect("written").rows_affected(), 1);
        connection.close().await.expect("closed");
    });
}

/// It looks when it starts, and then once a minute.
fn restart_the_standby(dev: &Dev, owner: &str) {
    use nix::sys::signal::{Signal, kill};
    let standby = |pid: &i32| {
        let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let number = owner.rsplit('-').next().expect("a number");
        !line.contains(&format!("--instance\0{number}\0"))
    };
    let pids = dev.processes_of("coreapp");
    let pids: Vec<i32> = pids.into_iter().filter(standby).collect();
    assert_eq!(pids.len(), 1);
    kill(nix::unistd::Pid::from_raw(pids[0]), Signal::SIGKILL).expect("it runs");
}

#[test]
fn a_store_that_is_newer_than_a_standby_is_said() {
    let _turn = TURN
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let mut dev = Dev::start(port());
    dev.until("ready: primary");
    let before = status_until(&dev, "healthy", |s| s["problems"] == serde_json::json!([]));
    in_the_store(
        &dev,
        "INSERT INTO message (id, body_hash, recipient, recipient_hash, payload, form, state, next_ms, accepted_ms) VALUES \
         ('later', 1, '447700900123', 7, '{\"to\":{\"phone\":\"447700900123\"},\"content\":{\"text\":{\"body\":\"hi\"}}}', 99, 0, \
          CAST(unixepoch('subsec') * 1000 AS INTEGER), CAST(unixepoch('subsec') * 1000 AS INTEGER))",
    );
    restart_the_standby(&dev, &owner(&before).expect("an owner"));
    let newer = |s: &serde_json::Value| s["problems"].to_string().contains("StoreNewer");
    let without = status_until(&dev, "without a standby", newer);
    // Its owner sends everything else, and puts off what it cannot read.
    assert_eq!(owner(&without), owner(&before), "{without}");
    let (code, said) = verb(&dev, &["status"]);
    assert_eq!(code, 3, "{said}");
    in_the_store(
        &dev,
        "UPDATE message SET form=1, next_ms=0 WHERE id='later'",
    );
    status_until(&dev, "healthy again", |s| {
        s["problems"] == serde_json::json!([])
    });
}
