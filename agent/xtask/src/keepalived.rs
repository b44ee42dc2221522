//! keepalived on the namespaces of a lab: who answers at its address, and how long after a fault it is the other one.
//! Judges by the answering node, not by reachability: after SIGKILL the dead node keeps the address.

use std::fs;
use std::net::UdpSocket;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use crate::bench::now;
use crate::lab::inside;

const ADDRESS: &str = "10.77.0.100";
const PORT: u16 = 7000;
const NODES: [&str; 2] = ["coreapp-1", "coreapp-2"];
/// A takeover that takes longer is none.
const WITHIN: Duration = Duration::from_secs(20);
/// Between two questions.
const ASK_EVERY: Duration = Duration::from_millis(2);

/// Answers every datagram with the own name, until its parent ends it.
pub fn answer(words: &[&str]) -> Result<bool, String> {
    let name = words.first().ok_or("a name")?;
    let socket = UdpSocket::bind(("0.0.0.0", PORT)).map_err(|e| e.to_string())?;
    let mut question = [0u8; 16];
    loop {
        if let Ok((len, from)) = socket.recv_from(&mut question) {
            // The question comes back, so that an answer to an old one is known.
            let said = [&question[..len], name.as_bytes()].concat();
            let _ = socket.send_to(&said, from);
        }
    }
}

struct Node {
    prefix: String,
    name: &'static str,
    conf: PathBuf,
    keepalived: Option<Child>,
    answers: Child,
}

impl Node {
    fn start(prefix: &str, name: &'static str, advert: &str) -> Result<Self, String> {
        let folder = crate::root().join("target/bench/keepalived");
        fs::create_dir_all(&folder).map_err(|e| e.to_string())?;
        let conf = folder.join(format!("{name}.conf"));
        // Version 3, or a tenth of a second is rounded to one. Neither takes over from a living one.
        let text = format!(
            "global_defs {{\n vrrp_version 3\n router_id {name}\n}}\nvrrp_instance wa {{\n state BACKUP\n interface eth0\n \
             virtual_router_id 51\n priority 150\n nopreempt\n advert_int {advert}\n virtual_ipaddress {{\n  {ADDRESS}/24\n }}\n}}\n"
        );
        fs::write(&conf, text).map_err(|e| e.to_string())?;
        let own = std::env::current_exe().map_err(|e| e.to_string())?;
        let answers = inside(prefix, name, &own.display().to_string())
            .args(["answer", name])
            .spawn()
            .map_err(|e| e.to_string())?;
        let mut node = Self {
            prefix: prefix.into(),
            name,
            conf,
            keepalived: None,
            answers,
        };
        node.run()?;
        Ok(node)
    }

    fn run(&mut self) -> Result<(), String> {
        let of = |what: &str| self.conf.with_extension(what).display().to_string();
        let log = fs::File::create(of("log")).map_err(|e| e.to_string())?;
        let child = inside(&self.prefix, self.name, "keepalived")
            .args(["--dont-fork", "--vrrp", "--log-console", "--use-file"])
            .arg(&self.conf)
            .args(["--pid", &of("pid"), "--vrrp_pid", &of("vrrp-pid")])
            .stdin(Stdio::null())
            .stdout(log.try_clone().map_err(|e| e.to_string())?)
            .stderr(log)
            .spawn();
        self.keepalived = Some(child.map_err(|e| format!("keepalived does not start: {e}"))?);
        Ok(())
    }

    /// To the parent and to the process that speaks VRRP.
    fn signal(&self, signal: &str) {
        let Some(child) = &self.keepalived else {
            return;
        };
        let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id()))
            .unwrap_or_default();
        let mut command = Command::new("kill");
        command
            .arg(signal)
            .arg(child.id().to_string())
            .args(children.split_whitespace());
        let _ = command.stderr(Stdio::null()).status();
    }

    fn end(&mut self) {
        self.signal("-KILL");
        if let Some(mut child) = self.keepalived.take() {
            let _ = child.wait();
        }
        // A killed one leaves them, and the next would take a process that nobody has waited for yet for its own.
        for what in ["pid", "vrrp-pid"] {
            let _ = fs::remove_file(self.conf.with_extension(what));
        }
        let mut del = inside(&self.prefix, self.name, "ip");
        let _ = del
            .args(["addr", "del", &format!("{ADDRESS}/24"), "dev", "eth0"])
            .stderr(Stdio::null())
            .status();
    }

    fn cable(&self, plugged: bool) {
        let state = if plugged { "up" } else { "down" };
        let _ = Command::new("ip")
            .args(["link", "set", &format!("v-{}", self.name), state])
            .status();
    }

    fn strike(&self, kind: &str) {
        match kind {
            "kill" => self.signal("-KILL"),
            "freeze" => self.signal("-STOP"),
            _ => self.cable(false),
        }
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.end();
        let _ = self.answers.kill();
        let _ = self.answers.wait();
    }
}

struct Asker {
    socket: UdpSocket,
    number: u64,
}

impl Asker {
    fn new() -> Result<Self, String> {
        let socket = UdpSocket::bind(("10.77.0.254", 0)).map_err(|e| e.to_string())?;
        socket
            .set_read_timeout(Some(ASK_EVERY))
            .map_err(|e| e.to_string())?;
        Ok(Self { socket, number: 0 })
    }

    /// Who answers a question that is asked now, if anybody does within two milliseconds.
    fn ask(&mut self) -> Option<&'static str> {
        self.number += 1;
        let question = self.number.to_le_bytes();
        let asked = now();
        let _ = self.socket.send_to(&question, (ADDRESS, PORT));
        let mut answer = [0u8; 64];
        while now() - asked < ASK_EVERY {
            let Ok(len) = self.socket.recv(&mut answer) else {
                continue;
            };
            if let Some(name) = answer[..len].strip_prefix(&question) {
                return NODES.into_iter().find(|n| n.as_bytes() == name);
            }
        }
        None
    }

    fn until(&mut self, wanted: impl Fn(&str) -> bool) -> Result<(&'static str, Duration), String> {
        let began = now();
        while now() - began < WITHIN {
            if let Some(who) = self.ask().filter(|who| wanted(who)) {
                return Ok((who, now() - began));
            }
        }
        Err(format!(
            "keepalived: nobody answered as awaited within {WITHIN:?}"
        ))
    }
}

/// Milliseconds of so many takeovers for each kind of fault. Runs in the namespace with the bridge.
pub fn takeovers(
    prefix: &str,
    advert: &str,
    times: usize,
) -> Result<Vec<(&'static str, u64)>, String> {
    let mut nodes = [
        Node::start(prefix, NODES[0], advert)?,
        Node::start(prefix, NODES[1], advert)?,
    ];
    let mut asker = Asker::new()?;
    let advert_for = Duration::from_secs_f64(advert.parse().map_err(|_| "an interval")?);
    let settle = advert_for * 2 + Duration::from_millis(300);
    asker.until(|_| true)?;
    let mut found = Vec::new();
    for kind in ["kill", "freeze", "cable"] {
        for _ in 0..times {
            // The other one has to know who is master before it can miss it.
            std::thread::sleep(settle);
            let (owner, _) = asker.until(|_| true)?;
            let victim = usize::from(owner == NODES[1]);
            nodes[victim].strike(kind);
            let (_, took) = asker.until(|who| who != owner)?;
            found.push((kind, u64::try_from(took.as_millis()).unwrap_or(u64::MAX)));
            nodes[victim].end();
            nodes[victim].cable(true);
            nodes[victim].run()?;
        }
    }
    Ok(found)
}
