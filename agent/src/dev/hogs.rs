//! Processes that do nothing but compute: they take processor time from everybody else, as a busy neighbour does.

use std::process::Stdio;

use tokio::process::{Child, Command};

use crate::sys::child;

/// They end when this is dropped, or with this process.
pub struct Hogs(Vec<Child>);

impl Hogs {
    /// Starts so many, each at normal priority.
    ///
    /// # Errors
    /// When no shell can be started.
    pub fn start(count: u16) -> std::io::Result<Self> {
        let hog = |_| {
            let mut command = Command::new("sh");
            command
                .args(["-c", "while :; do :; done"])
                .stdin(Stdio::null())
                .stdout(Stdio::null())
                .kill_on_drop(true)
                .process_group(0);
            child::die_with_parent(&mut command);
            command.spawn()
        };
        (0..count)
            .map(hog)
            .collect::<std::io::Result<_>>()
            .map(Self)
    }

    /// How many there are.
    pub fn count(&self) -> usize {
        self.0.len()
    }
}
