//! The live page of `wa-agent status --watch` on a real terminal. Goal: it shows how the cluster stands, follows it, and gives the terminal
//! back as it was, however it ends. Method: the real binary on a pseudo-terminal; what it writes is read as a terminal reads it.

// A test waits for a process by the clock of its own; nothing decides by it.
#![allow(clippy::disallowed_methods)]

use std::io::{Read as _, Write as _};
use std::num::NonZero;
use std::os::fd::{AsFd as _, OwnedFd};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::pty::{Winsize, openpty};
use nix::sys::signal::{Signal, kill};
use nix::sys::termios::{Termios, tcgetattr};
use nix::unistd::Pid;

/// The longest that anything is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
const ROWS: u16 = 30;
const COLUMNS: u16 = 100;
/// What a terminal is told when the page takes it, and gives it back.
const TAKEN: &str = "\x1b[?1049h";
const LEFT: &str = "\x1b[?1049l";

fn some(size: u16) -> NonZero<u16> {
    NonZero::new(size).expect("no terminal is that small")
}

/// A program on a terminal of its own.
pub struct Live {
    child: Child,
    /// Our end, and the end of the program.
    ours: std::fs::File,
    theirs: OwnedFd,
    before: Termios,
    seen: vt100::Parser,
    written: Vec<u8>,
}

impl Live {
    pub fn start(configuration: &Path, words: &[&str]) -> Self {
        let size = Winsize {
            ws_row: ROWS,
            ws_col: COLUMNS,
            ws_xpixel: 0,
            ws_ypixel: 0,
        };
        let pty = openpty(Some(&size), None).expect("a pseudo-terminal");
        let end = || Stdio::from(pty.slave.try_clone().expect("one more"));
        let child = Command::new("setsid")
            .args(["--ctty", env!("CARGO_BIN_EXE_wa-agent")])
            .args(["status", "--watch"])
            .args(words)
            .arg("--config")
            .arg(configuration)
            .env("TERM", "xterm-256color")
            .env("LC_ALL", "C.UTF-8")
            .stdin(end())
            .stdout(end())
            .stderr(end())
            .spawn()
            .expect("it starts");
        Self {
            child,
            before: tcgetattr(&pty.slave).expect("a terminal"),
            ours: pty.master.into(),
            theirs: pty.slave,
            seen: vt100::Parser::new(some(ROWS), some(COLUMNS), 0),
            written: Vec::new(),
        }
    }

    /// Reads what has been written, and waits a moment for the first of it.
    fn read(&mut self) {
        let mut ours = [PollFd::new(self.ours.as_fd(), PollFlags::POLLIN)];
        let ready = poll(&mut ours, PollTimeout::from(100u8)).expect("it can be waited for");
        if ready > 0 {
            let mut part = [0; 16 * 1024];
            let read = self.ours.read(&mut part).expect("a terminal");
            self.seen.process(&part[..read]);
            self.written.extend_from_slice(&part[..read]);
        }
    }

    /// What stands on the terminal, once it has all of this.
    pub fn until(&mut self, words: &[&str]) -> String {
        let until = Instant::now() + PATIENCE;
        loop {
            let shown = self.seen.screen().contents();
            if words.iter().all(|word| shown.contains(word)) {
                return shown;
            }
            assert!(Instant::now() < until, "no {words:?} in\n{shown}");
            self.read();
        }
    }

    pub fn press(&mut self, keys: &str) {
        self.ours.write_all(keys.as_bytes()).expect("a terminal");
    }

    fn signal(&self, signal: Signal) {
        let pid = i32::try_from(self.child.id()).expect("a pid");
        kill(Pid::from_raw(pid), signal).expect("a signal");
    }

    fn written(&self) -> String {
        String::from_utf8_lossy(&self.written).into_owned()
    }

    /// Waits for the end.
    fn ended(&mut self) -> ExitStatus {
        let until = Instant::now() + PATIENCE;
        loop {
            self.read();
            if let Some(status) = self.child.try_wait().expect("a child") {
                // What it wrote last.
                self.read();
                return status;
            }
            assert!(Instant::now() < until, "it does not end");
        }
    }

    /// The terminal is as it was before; the exit code.
    pub fn gave_back(&mut self) -> Option<i32> {
        let status = self.ended();
        let written = self.written();
        assert!(!self.seen.screen().alternate_screen(), "{written:?}");
        assert!(!self.seen.screen().hide_cursor(), "{written:?}");
        assert_eq!(
            written.matches(TAKEN).count(),
            written.matches(LEFT).count()
        );
        let now = tcgetattr(&self.theirs).expect("a terminal");
        assert!(now == self.before, "{now:?} and not {:?}", self.before);
        status.code()
    }
}

impl Drop for Live {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A cluster that nobody answers for.
fn nowhere() -> tempfile::TempDir {
    let directory = tempfile::tempdir().expect("a directory");
    let path = directory.path();
    let closed = std::os::unix::fs::PermissionsExt::from_mode(0o700);
    std::fs::set_permissions(path, closed).expect("closed");
    let key = path.join("key");
    std::fs::write(&key, "5a".repeat(32)).expect("written");
    // Bound and not listened at: refused, and nobody else gets it.
    let port = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let closed = port.local_addr().expect("bound").port();
    drop(port);
    let text = format!(
        "[cluster]\nkey_file = {key:?}\n[node]\nhostname = \"test\"\nstate_directory = {path:?}\n[database]\n\
         urls = [\"mysql://wa:x@127.0.0.1:{closed}/wa\"]\n[ports]\noffset = 29000\n[upstream]\nphone_number_id = \"1\"\n"
    );
    std::fs::write(path.join("wa-agent.toml"), text).expect("written");
    directory
}

/// Goal: nobody who answers is no reason to end, and the end leaves the terminal as it was, by a key and by signals. Method: a cluster
/// that nobody answers for; the attributes of the terminal before, meanwhile and afterwards.
#[test]
fn the_terminal_is_given_back() {
    let directory = nowhere();
    let file = directory.path().join("wa-agent.toml");
    type End = fn(&mut Live);
    let ends: [(&str, End); 5] = [
        ("q", |live| live.press("q")),
        ("Ctrl-C", |live| live.press("\x03")),
        ("Esc closes the help, then ends", |live| {
            live.press("?");
            live.until(&["Shift-Tab"]);
            live.press("\x1b");
            live.press("q");
        }),
        ("SIGTERM", |live| live.signal(Signal::SIGTERM)),
        ("SIGHUP", |live| live.signal(Signal::SIGHUP)),
    ];
    for (name, end) in ends {
        let mut live = Live::start(&file, &[]);
        live.until(&["NO ANSWER", "Nobody tells how the cluster stands."]);
        assert!(live.seen.screen().alternate_screen(), "{name}");
        let meanwhile = tcgetattr(&live.theirs).expect("a terminal");
        assert!(meanwhile != live.before, "{name}: keys come one by one");
        end(&mut live);
        assert_eq!(live.gave_back(), Some(69), "{name}");
        let written = live.written();
        let after = written.rsplit(LEFT).next().unwrap_or_default();
        assert!(after.contains("wa-agent: "), "{name} says why: {after:?}");
    }
}

/// Goal: the page fits the terminal while somebody changes its size. Method: too small, and as before.
#[test]
fn the_page_follows_the_size_of_the_terminal() {
    let directory = nowhere();
    let mut live = Live::start(&directory.path().join("wa-agent.toml"), &[]);
    live.until(&["NO ANSWER"]);
    for (columns, rows, words) in [(39, 9, "39 columns and 9"), (100, 30, "NO ANSWER")] {
        let theirs = live.theirs.try_clone().expect("one more");
        let set = Command::new("stty")
            .args(["cols", &columns.to_string(), "rows", &rows.to_string()])
            .stdin(theirs)
            .status();
        assert!(set.expect("stty runs").success());
        live.seen.screen_mut().set_size(some(rows), some(columns));
        let shown = live.until(&words.split(' ').collect::<Vec<_>>());
        assert!(!shown.contains("39 columns") || columns == 39, "{shown}");
    }
    live.press("q");
    assert_eq!(live.gave_back(), Some(69));
}

/// Goal: what is no terminal, or asks for JSON, gets plain lines. Method: both, with a configuration that is no good, and with one that
/// leads nowhere.
#[test]
fn no_page_where_nobody_looks() {
    let directory = nowhere();
    let file = directory.path().join("wa-agent.toml");
    let mut live = Live::start(&file, &["--json"]);
    live.until(&["wa-agent: "]);
    live.signal(Signal::SIGINT);
    live.ended();
    assert!(!live.written().contains('\x1b'), "{:?}", live.written());

    let mut live = Live::start(&directory.path().join("gone.toml"), &[]);
    let code = live.gave_back();
    assert!(matches!(code, Some(1 | 78)), "{code:?}");
    let written = live.written();
    assert!(written.contains("gone.toml"), "{written:?}");
}

/// A page beside a cluster, once it shows who owns shard 0.
pub fn beside(configuration: &Path, owner: &str) -> Live {
    let mut live = Live::start(configuration, &[]);
    let title = format!("if {owner} died now");
    live.until(&["live ", "owner 0", &title, "moves to"]);
    live
}

/// It shows the next owner, as it is now, and ends.
pub fn follows(live: &mut Live, owner: &str) {
    // To the shards, where the owner stands in its row.
    live.press("\t");
    let until = Instant::now() + PATIENCE;
    loop {
        let shown = live.until(&["live "]);
        let row = shown.lines().find(|line| line.contains(" active "));
        if row.is_some_and(|row| row.contains(owner)) {
            break;
        }
        assert!(Instant::now() < until, "{owner} does not own in\n{shown}");
        live.read();
    }
    live.press("q");
    let code = live.gave_back();
    assert!(matches!(code, Some(0 | 3)), "{code:?}");
    let written = live.written();
    let after = written.rsplit(LEFT).next().unwrap_or_default();
    assert!(!after.contains("wa-agent: "), "{after:?}");
}
