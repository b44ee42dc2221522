//! Who listens on which port of this machine, as the kernel lists it.
//! Opens no socket.

use std::collections::BTreeMap;
use std::path::Path;

/// A listening TCP socket or a bound UDP socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Listener {
    pub udp: bool,
    pub port: u16,
    /// Of the process that made it; 65534 where a user namespace hides it.
    pub uid: u32,
    inode: u64,
    /// Where this process may look: whose it is.
    pub holder: Option<Holder>,
}

/// A process that holds a socket.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Holder {
    pub pid: u32,
    /// The command's short name.
    pub name: String,
    /// Its control group: names the unit or the container.
    pub cgroup: String,
}

#[cfg(test)]
impl Listener {
    /// A listening TCP socket.
    pub fn of_tests(port: u16, uid: u32) -> Self {
        Self {
            udp: false,
            port,
            uid,
            inode: 0,
            holder: None,
        }
    }
}

impl Holder {
    /// A role of ours.
    pub fn ours(&self) -> bool {
        self.name == "wa-agent"
    }

    /// For people: the unit where there is one.
    pub fn shown(&self) -> String {
        let unit = self
            .cgroup
            .rsplit('/')
            .find(|part| part.ends_with(".service"));
        match unit {
            Some(unit) => format!("{} (pid {}, {unit})", self.name, self.pid),
            None => format!("{} (pid {})", self.name, self.pid),
        }
    }
}

/// All of them, by IPv4 and IPv6. Holders are known to root only.
pub fn listeners() -> Vec<Listener> {
    let mut all = Vec::new();
    for (file, udp) in [
        ("tcp", false),
        ("tcp6", false),
        ("udp", true),
        ("udp6", true),
    ] {
        let text = std::fs::read_to_string(format!("/proc/net/{file}")).unwrap_or_default();
        all.extend(text.lines().skip(1).filter_map(|line| parse(line, udp)));
    }
    let holders = holders();
    for listener in &mut all {
        listener.holder = holders.get(&listener.inode).cloned();
    }
    all
}

/// A line of proc_net(5): listening TCP sockets have state 0A, UDP sockets that are not connected 07.
fn parse(line: &str, udp: bool) -> Option<Listener> {
    let words: Vec<&str> = line.split_whitespace().collect();
    let (local, state) = (words.get(1)?, words.get(3)?);
    if *state != if udp { "07" } else { "0A" } {
        return None;
    }
    Some(Listener {
        udp,
        port: u16::from_str_radix(local.rsplit(':').next()?, 16).ok()?,
        uid: words.get(7)?.parse().ok()?,
        inode: words.get(9)?.parse().ok()?,
        holder: None,
    })
}

/// Socket inode to process, of every process whose descriptors this one may list.
fn holders() -> BTreeMap<u64, Holder> {
    let mut holders = BTreeMap::new();
    for (pid, folder) in super::process::all() {
        let Ok(descriptors) = std::fs::read_dir(folder.join("fd")) else {
            continue;
        };
        for descriptor in descriptors.flatten() {
            let target = std::fs::read_link(descriptor.path()).unwrap_or_default();
            let inode = target
                .to_str()
                .and_then(|text| text.strip_prefix("socket:["));
            if let Some(inode) = inode.and_then(|text| text.strip_suffix(']')?.parse().ok()) {
                holders.entry(inode).or_insert_with(|| holder(pid, &folder));
            }
        }
    }
    holders
}

fn holder(pid: u32, folder: &Path) -> Holder {
    let read = |name: &str| std::fs::read_to_string(folder.join(name)).unwrap_or_default();
    let cgroup = read("cgroup");
    Holder {
        pid,
        name: read("comm").trim().to_owned(),
        cgroup: cgroup.lines().next_back().unwrap_or_default().to_owned(),
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use super::*;

    /// Goal: a port that this process holds is found, with this process as its holder.
    #[test]
    fn own_sockets_are_found() {
        let tcp = std::net::TcpListener::bind("127.0.0.1:0").expect("bound");
        let udp = std::net::UdpSocket::bind("127.0.0.1:0").expect("bound");
        let all = listeners();
        for (port, is_udp) in [
            (tcp.local_addr().expect("bound").port(), false),
            (udp.local_addr().expect("bound").port(), true),
        ] {
            let found = all
                .iter()
                .find(|l| l.port == port && l.udp == is_udp)
                .expect("listed");
            assert_eq!(
                found.holder.as_ref().map(|h| h.pid),
                Some(std::process::id())
            );
        }
    }

    #[test]
    fn lines_of_the_kernel_are_read() {
        let line = "   1: 0100007F:186A 00000000:0000 0A 00000000:00000000 00:00000000 00000000   997        0 4711 1 0 100";
        let found = parse(line, false).expect("read");
        assert_eq!((found.port, found.uid, found.inode), (6250, 997, 4711));
        assert!(parse(&line.replace(" 0A ", " 01 "), false).is_none());
        assert!(parse("rubbish", false).is_none());
    }
}
