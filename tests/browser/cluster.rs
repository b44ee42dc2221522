//! The cluster that all stories share, and the chromedriver: started once, and ended by the kernel with this process.
//! Tells no story itself.

use std::io::{BufRead as _, BufReader};
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc::{Receiver, sync_channel};
use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError, RwLock};
use std::time::Duration;

use serde_json::{Value, json};

/// The longest that any line of a process is waited for.
const PATIENCE: Duration = Duration::from_secs(60);
/// Before the first login, and after it.
pub const FIRST: &str = "secret";
pub const PASSWORD: &str = "Try-it-0ut!";
/// The customer of the messages that are there.
pub const CUSTOMER: &str = "447700900456";

/// What all stories share.
pub struct World {
    pub dev: Dev,
    /// Where chromedriver listens.
    pub driver: String,
    /// Held by all who only look, or by one who breaks something.
    pub peace: RwLock<()>,
}

/// The program under test: this build, or for measurements by hand the one that `WA_AGENT_BINARY` names.
fn program() -> PathBuf {
    let named = std::env::var_os("WA_AGENT_BINARY");
    named.map_or_else(|| env!("CARGO_BIN_EXE_wa-agent").into(), Into::into)
}

fn have(name: &str) -> bool {
    let version = Command::new(name).arg("--version").output();
    version.is_ok_and(|output| output.status.success())
}

/// The world; it is made for whoever comes first. Nothing, and said so, where there is no browser.
pub fn world(what: &str) -> Option<&'static World> {
    static WORLD: OnceLock<World> = OnceLock::new();
    static TURN: Mutex<()> = Mutex::new(());
    for (name, package) in [
        ("chromium", "chromium"),
        ("chromedriver", "chromium-driver"),
    ] {
        if !have(name) {
            crate::skipped(what, &format!("{package} is not installed"));
            return None;
        }
    }
    let _turn = locked(&TURN);
    if WORLD.get().is_none() {
        let driver = driver();
        let dev = Dev::start("console", &["--profile", "standard"]);
        dev.until("ready: primary");
        let made = World {
            dev,
            driver,
            peace: RwLock::default(),
        };
        crate::stories::first_login(&made);
        made.dev.some_messages();
        assert!(WORLD.set(made).is_ok(), "one at a time");
    }
    WORLD.get()
}

pub fn locked<T>(of: &Mutex<T>) -> MutexGuard<'_, T> {
    of.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Starts a program that ends with this process, however this process ends. The kernel watches the thread that started it: one
/// that waits for ever.
fn start(signal: &str, program: &Path, words: &[&str], folder: &Path) -> (Child, Receiver<String>) {
    let mut command = Command::new("setpriv");
    command
        .args(["--pdeathsig", signal, "--"])
        .arg(program)
        .args(words)
        .current_dir(folder)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null());
    let (to, child) = sync_channel(1);
    std::thread::spawn(move || {
        let _ = to.send(command.spawn());
        loop {
            std::thread::park();
        }
    });
    let child = child.recv_timeout(PATIENCE).expect("a thread");
    let mut child = child.expect("the program starts");
    let out = BufReader::new(child.stdout.take().expect("piped"));
    let (to, lines) = sync_channel(64);
    std::thread::spawn(move || {
        // Reads on when nobody listens any more: a pipe that is full would hold the program up.
        for line in out.lines().map_while(Result::ok) {
            let _ = to.try_send(line);
        }
    });
    (child, lines)
}

/// Below the build directory, where it does not go to memory.
pub fn target(name: &str) -> PathBuf {
    let folder = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).expect("a directory");
    folder
}

/// A chromedriver on a port of its own.
fn driver() -> String {
    let (_, lines) = start(
        "TERM",
        Path::new("chromedriver"),
        &["--port=0"],
        &target("browser"),
    );
    loop {
        let line = lines
            .recv_timeout(PATIENCE)
            .expect("chromedriver says its port");
        if let Some((_, port)) = line.split_once("successfully on port ") {
            return format!("http://127.0.0.1:{}", port.trim_end_matches('.'));
        }
    }
}

/// A first port for which the rule of `wa-agent dev` yields free ports only.
fn port() -> u16 {
    let free = |port: u16| TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok();
    let start = std::process::id() % 40;
    (0..40)
        .map(|n| u16::try_from(11_250 + (start + n) % 40 * 500).expect("below 32,768"))
        .find(|port| {
            let ours = [
                9090, 9091, 9190, 9191, 6200, 6201, 6210, 6211, 6212, 6249, 6250, 6253, 6254, 6255,
                6257, 6263, 6264, 6267, 6270, 6280, 6290, 6450,
            ];
            ours.iter().all(|of| free(of + (port - 9090)))
        })
        .expect("one of forty blocks is free")
}

/// A `wa-agent dev` of our own.
pub struct Dev {
    child: Child,
    lines: Mutex<Receiver<String>>,
    folder: PathBuf,
    /// Of the first webapp.
    pub url: String,
}

impl Dev {
    /// A new one, without what an earlier run left.
    pub fn start(name: &str, more: &[&str]) -> Self {
        let folder = target(name);
        let port = port().to_string();
        let mut words = vec!["dev", "--port", &port, "--state", "dev", "--reset"];
        words.extend(more);
        let (child, lines) = start("INT", &program(), &words, &folder);
        Self {
            child,
            lines: Mutex::new(lines),
            folder,
            url: format!("http://127.0.0.1:{port}"),
        }
    }

    /// Reads until a line that contains the words.
    pub fn until(&self, words: &str) {
        let lines = locked(&self.lines);
        loop {
            let line = lines.recv_timeout(PATIENCE);
            let line = line.unwrap_or_else(|error| panic!("{error} while waiting for {words:?}"));
            if line.contains(words) {
                return;
            }
        }
    }

    fn run(&self, words: &[&str]) -> Output {
        let mut command = Command::new(program());
        command
            .args(words)
            .arg("--config")
            .arg(self.folder.join("dev/wa-agent.toml"))
            .stdin(Stdio::null());
        command.output().expect("it runs")
    }

    /// Runs an operator's verb against the cluster; what it said.
    pub fn verb(&self, words: &[&str]) -> String {
        let output = self.run(words);
        let said = [output.stdout, output.stderr].concat();
        let said = String::from_utf8_lossy(&said).into_owned();
        assert!(output.status.success(), "{words:?}: {said}");
        said
    }

    /// What `wa-agent status` knows, be it well or not.
    pub fn status(&self) -> Value {
        let output = self.run(&["status", "--json"]);
        let said = String::from_utf8_lossy(&output.stderr);
        serde_json::from_slice(&output.stdout).unwrap_or_else(|error| panic!("{error}: {said}"))
    }

    /// The process of a node, by its role and instance, as `coreapp-1` names them.
    pub fn process(&self, node: &str) -> Option<i32> {
        let (role, instance) = node.rsplit(':').next()?.split_once('-')?;
        let wanted = [role, "--instance", instance].map(str::as_bytes);
        let tasks = std::fs::read_dir(format!("/proc/{}/task", self.child.id())).ok()?;
        let children = tasks
            .flatten()
            .filter_map(|task| std::fs::read_to_string(task.path().join("children")).ok());
        let children: Vec<String> = children.collect();
        let mut pids = children.iter().flat_map(|list| list.split_whitespace());
        let found = pids.find(|pid| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split(|b| *b == 0).skip(1).take(3).eq(wanted)
        });
        found?.parse().ok()
    }

    /// Calls the API by curl; the answer.
    fn call(&self, path: &str, words: &[&str], body: &Value) -> Value {
        let output = Command::new("curl")
            .args([
                "-s",
                "--max-time",
                "20",
                "-H",
                "content-type: application/json",
            ])
            .args(words)
            .args(["-d", &body.to_string()])
            .arg(format!("{}{path}", self.url))
            .output()
            .expect("curl runs");
        serde_json::from_slice(&output.stdout).unwrap_or_default()
    }

    /// A token of the administrator; `more` goes with the login.
    pub fn token(&self, (password, more): (&str, &Value)) -> String {
        let who = format!("admin:{password}");
        let answer = self.call("/v1/users/login", &["-u", &who], more);
        let token = answer["users"][0]["token"].as_str();
        token.expect("a token").to_owned()
    }

    /// Makes a user who may only look, with the administrator's token.
    pub fn user(&self, token: &str, name: &str, password: &str) {
        let bearer = format!("authorization: Bearer {token}");
        let body = json!({"username": name, "password": password});
        let answer = self.call("/v1/users", &["-H", &bearer], &body);
        assert_eq!(answer["users"][0]["username"], name, "{answer}");
    }

    /// Messages to one customer, for the pages to show.
    pub fn some_messages(&self) {
        let token = self.token((PASSWORD, &json!({})));
        let bearer = format!("authorization: Bearer {token}");
        for n in 0..3 {
            let body =
                json!({"to": CUSTOMER, "type": "text", "text": {"body": format!("hello {n}")}});
            let answer = self.call("/v1/messages", &["-H", &bearer], &body);
            assert!(answer["messages"][0]["id"].is_string(), "{answer}");
        }
    }
}

impl Drop for Dev {
    fn drop(&mut self) {
        let _ = Command::new("kill")
            .args(["-INT", &self.child.id().to_string()])
            .status();
        let _ = self.child.wait();
    }
}
