//! The file with one line for every send: what a person reads when the number was banned.
//! Written by a thread of its own; a slow disk delays no answer.

use std::io::Write as _;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{SyncSender, sync_channel};

use axum::http::StatusCode;
use serde_json::json;

use crate::sys::clock;

/// Lines that wait for the disk; beyond that they are left out, and a line says how many.
const QUEUE_LEN: usize = 50_000;

/// The open record.
pub struct Record {
    lines: SyncSender<String>,
    left_out: Arc<AtomicU64>,
}

impl Record {
    /// Appends to `path`; a file that cannot be opened is told once, and nothing is recorded.
    pub fn start(path: &Path) -> Self {
        let (lines, waiting) = sync_channel::<String>(QUEUE_LEN);
        let (path, left_out) = (path.to_owned(), Arc::<AtomicU64>::default());
        let missing = Arc::clone(&left_out);
        std::thread::spawn(move || {
            let file = std::fs::OpenOptions::new()
                .create(true)
                .append(true)
                .open(&path);
            let mut file = match file {
                Ok(file) => file,
                Err(error) => {
                    tracing::error!(path = %path.display(), %error, "requests are not recorded");
                    return;
                }
            };
            while let Ok(mut line) = waiting.recv() {
                let left_out = missing.swap(0, Ordering::Relaxed);
                if left_out > 0 {
                    line.push_str(&format!("\n{}", json!({"left_out": left_out})));
                }
                if let Err(error) = writeln!(file, "{line}") {
                    tracing::error!(path = %path.display(), %error, "requests are not recorded any more");
                    return;
                }
            }
        });
        Self { lines, left_out }
    }

    /// Records one send.
    pub fn line(
        &self,
        claim: Option<(u64, u64)>,
        peer: Option<SocketAddr>,
        id: &str,
        status: StatusCode,
    ) {
        let line = json!({
            "at_ms": clock::wall_ms(), "shard": claim.map(|c| c.0), "epoch": claim.map(|c| c.1),
            "peer": peer.map(|p| p.to_string()), "id": id, "status": status.as_u16(),
        });
        // A full queue means a stuck disk: the simulator goes on.
        if self.lines.try_send(line.to_string()).is_err() {
            self.left_out.fetch_add(1, Ordering::Relaxed);
        }
    }
}
