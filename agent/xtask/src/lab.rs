//! Network namespaces for measurements: one with a bridge, and one for each node, with a cable into it. Needs root and `ip`.
//! Measures nothing.

use std::process::{Command, Stdio};

/// Namespaces that go when this does.
pub struct Lab {
    prefix: String,
    names: Vec<String>,
}

impl Lab {
    /// One namespace with nothing but loopback.
    pub fn alone() -> Result<Self, String> {
        let mut lab = Self {
            prefix: format!("wa{}", std::process::id()),
            names: Vec::new(),
        };
        lab.namespace("lan")?;
        Ok(lab)
    }

    /// A bridge at 10.77.0.254, and a namespace for each name at its address, joined by a cable `v-NAME`.
    pub fn new(nodes: &[(&str, &str)]) -> Result<Self, String> {
        let mut lab = Self::alone()?;
        let lan = lab.full("lan");
        ip(&["-n", &lan, "link", "add", "br0", "type", "bridge"])?;
        ip(&["-n", &lan, "addr", "add", "10.77.0.254/24", "dev", "br0"])?;
        ip(&["-n", &lan, "link", "set", "br0", "up"])?;
        for (name, address) in nodes {
            lab.namespace(name)?;
            let (node, cable) = (lab.full(name), format!("v-{name}"));
            let peer = ["peer", "name", "eth0", "netns", &node];
            ip(&[
                &["link", "add", &cable, "netns", &lan, "type", "veth"][..],
                &peer[..],
            ]
            .concat())?;
            ip(&["-n", &lan, "link", "set", &cable, "master", "br0"])?;
            ip(&["-n", &lan, "link", "set", &cable, "up"])?;
            let address = format!("{address}/24");
            ip(&["-n", &node, "addr", "add", &address, "dev", "eth0"])?;
            ip(&["-n", &node, "link", "set", "eth0", "up"])?;
        }
        Ok(lab)
    }

    fn namespace(&mut self, name: &str) -> Result<(), String> {
        let full = self.full(name);
        ip(&["netns", "add", &full])?;
        self.names.push(full.clone());
        ip(&["-n", &full, "link", "set", "lo", "up"])
    }

    fn full(&self, name: &str) -> String {
        format!("{}-{name}", self.prefix)
    }

    /// How the namespaces are called before the dash.
    pub fn prefix(&self) -> &str {
        &self.prefix
    }

    /// A program in the namespace with the bridge.
    pub fn command(&self, program: &str) -> Command {
        inside(&self.prefix, "lan", program)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        for name in &self.names {
            let _ = ip(&["netns", "del", name]);
        }
    }
}

/// A program in one namespace of a lab.
pub fn inside(prefix: &str, name: &str, program: &str) -> Command {
    let mut command = Command::new("nsenter");
    command
        .arg(format!("--net=/run/netns/{prefix}-{name}"))
        .arg(program);
    command
}

fn ip(words: &[&str]) -> Result<(), String> {
    let output = Command::new("ip").args(words).stdin(Stdio::null()).output();
    let output = output.map_err(|e| format!("ip does not start: {e}"))?;
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr);
    Err(format!("ip {}: {}", words.join(" "), said.trim()))
}
