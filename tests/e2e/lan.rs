//! A network of its own for booted machines and single programs: a bridge in a namespace, a cable to each, and faults
//! that are set at the bridge, so that no end point notices who did it.
//! Boots nothing.

use std::net::Ipv4Addr;
use std::process::{Command, Stdio};

use crate::machine::quiet;

/// A bridge; gone with every cable when it is dropped.
pub struct Lan {
    name: String,
    places: std::cell::RefCell<Vec<String>>,
}

impl Lan {
    /// An empty network 10.77.0.0/24.
    pub fn new() -> Result<Self, String> {
        let lan = Self {
            name: format!("wa-e2e-lan-{}", std::process::id()),
            places: std::cell::RefCell::default(),
        };
        ip(&["netns", "add", &lan.name])?;
        ip(&["-n", &lan.name, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &lan.name, "link", "set", "br0", "up"])?;
        Ok(lan)
    }

    /// The address with this last number.
    pub fn address(last: u8) -> Ipv4Addr {
        Ipv4Addr::new(10, 77, 0, last)
    }

    /// Makes the namespace `name` and a cable from it, called `cable` at the bridge.
    pub fn connect(&self, name: &str, cable: &str, last: u8) -> Result<(), String> {
        ip(&["netns", "add", name])?;
        ip(&["-n", name, "link", "set", "lo", "up"])?;
        ip(&[
            "-n", &self.name, "link", "add", cable, "type", "veth", "peer", "name", "host0",
            "netns", name,
        ])?;
        ip(&[
            "-n", &self.name, "link", "set", cable, "master", "br0", "up",
        ])?;
        let address = format!("{}/24", Self::address(last));
        ip(&["-n", name, "addr", "add", &address, "dev", "host0"])?;
        ip(&["-n", name, "link", "set", "host0", "up"])
    }

    /// A place for a single program: a namespace without a booted system. Says its name.
    pub fn place(&self, cable: &str, last: u8) -> Result<String, String> {
        let name = format!("wa-e2e-{cable}-{}", std::process::id());
        self.connect(&name, cable, last)?;
        self.places.borrow_mut().push(name.clone());
        Ok(name)
    }

    /// A command that will run in a namespace.
    pub fn within(namespace: &str, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--net=/run/netns/{namespace}"))
            .arg(program)
            .stdin(Stdio::null());
        command
    }

    /// Pulls a cable out, or puts it back.
    pub fn cable(&self, cable: &str, plugged: bool) {
        let to = if plugged { "up" } else { "down" };
        ip(&["-n", &self.name, "link", "set", cable, to]).expect("the cable exists");
    }

    /// What the kernel of a machine without power had queued is gone: its sockets' data, and what waits for a neighbour's
    /// address. The namespace outlives such a machine, and would send it once the cable is back.
    pub fn forget(&self, namespace: &str) {
        quiet(Self::within(namespace, "ss").args(["--kill", "--all", "--tcp"]))
            .expect("sockets end");
        for to in ["down", "up"] {
            ip(&["-n", namespace, "link", "set", "host0", to]).expect("it has a network");
        }
    }

    /// Nothing gets from `from` to `to` any more; the other way stays open. `mend` ends it.
    pub fn cut(&self, from: &str, to: &str) {
        let rules = format!(
            "add table bridge cut; add chain bridge cut f {{ type filter hook forward priority 0; }}; \
             add rule bridge cut f iifname \"{from}\" oifname \"{to}\" drop"
        );
        quiet(Self::within(&self.name, "nft").arg(rules)).expect("nft takes the rules");
    }

    /// Ends every cut.
    pub fn mend(&self) {
        quiet(Self::within(&self.name, "nft").args(["delete", "table", "bridge", "cut"]))
            .expect("something was cut");
    }
}

impl Drop for Lan {
    fn drop(&mut self) {
        for place in self.places.borrow().iter() {
            let _ = ip(&["netns", "del", place]);
        }
        let _ = ip(&["netns", "del", &self.name]);
    }
}

fn ip(words: &[&str]) -> Result<(), String> {
    quiet(Command::new("ip").args(words)).map_err(|why| format!("ip {}: {why}", words.join(" ")))
}
