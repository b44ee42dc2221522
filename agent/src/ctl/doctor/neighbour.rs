//! How long a packet may wait for the address of its neighbour (ARP, neighbour discovery), where no kernel gate judges at the
//! device: what nftables has let pass, and then waits there while a cable is pulled, leaves when the cable is back.

use std::path::Path;
use std::time::Duration;

use super::Check;

const AREA: &str = "fence";
/// Kernels as they come: three solicitations, a second apart (`ip-sysctl`, neigh/*/mcast_solicit and retrans_time_ms).
const SOLICITED: [&str; 2] = ["mcast_solicit", "app_solicit"];

/// One line for all interfaces; none where the kernel shows no such settings. `margin`: what a lease leaves between two owners.
pub fn examine(sys_net: &Path, margin: Duration) -> Option<Check> {
    let mut found = false;
    let mut long = Vec::new();
    for family in ["ipv4", "ipv6"] {
        for (interface, held) in interfaces(&sys_net.join(family).join("neigh")) {
            found = true;
            if held > margin {
                long.push((family, interface, held));
            }
        }
    }
    let Some(longest) = long.iter().map(|(.., held)| *held).max() else {
        return found.then(|| {
            Check::ok(
                AREA,
                "no packet waits for a neighbour's address for longer than the margin of a lease",
            )
        });
    };
    let mut names: Vec<&str> = long.iter().map(|(_, name, _)| name.as_str()).collect();
    names.sort_unstable();
    names.dedup();
    let settings: Vec<String> = long
        .iter()
        .flat_map(|(family, name, _)| {
            let of = format!("net.{family}.neigh.{}", name.replace('.', "/"));
            [
                format!("{of}.mcast_solicit=1"),
                format!("{of}.retrans_time_ms={}", margin.as_millis().max(1)),
            ]
        })
        .collect();
    Some(Check::warn(
        AREA,
        format!(
            "on {} a packet may wait {} ms for a neighbour's address, behind whatever stands instead of the gate: when a cable is pulled and comes back \
             within that time, it may leave beside a successor's",
            names.join(", "),
            longest.as_millis()
        ),
        format!(
            "where coreapps run, type as root: sysctl -w {}; and write the same into /etc/sysctl.d/60-wa-agent.conf",
            settings.join(" ")
        ),
    ))
}

/// Interfaces but the loopback one, and how long a packet waits at most.
fn interfaces(neigh: &Path) -> Vec<(String, Duration)> {
    let entries = std::fs::read_dir(neigh).into_iter().flatten().flatten();
    let names = entries.filter_map(|entry| entry.file_name().into_string().ok());
    names
        .filter(|name| name != "default" && name != "lo")
        .filter_map(|name| {
            let number = |what: &str| -> Option<u32> {
                let text = std::fs::read_to_string(neigh.join(&name).join(what)).ok()?;
                text.trim().parse().ok()
            };
            let times: u32 = SOLICITED.iter().filter_map(|what| number(what)).sum();
            let each = Duration::from_millis(u64::from(number("retrans_time_ms")?));
            Some((name, each * times))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    /// Goal: an interface that holds packets for long is named with the settings that end it, and no other. Method: a folder
    /// laid out as the kernel's.
    #[test]
    fn interfaces_that_hold_packets_are_named() {
        let folder = tempfile::tempdir().expect("a directory");
        let margin = Duration::from_millis(20);
        assert_eq!(examine(folder.path(), margin), None);
        for (interface, solicit, retrans) in [
            ("default", "3", "1000"),
            ("lo", "3", "1000"),
            ("eth0", "3", "1000"),
            ("eth1.7", "1", "20"),
        ] {
            let of = folder.path().join("ipv4/neigh").join(interface);
            std::fs::create_dir_all(&of).expect("a folder");
            for (what, value) in [
                ("mcast_solicit", solicit),
                ("app_solicit", "0"),
                ("retrans_time_ms", retrans),
            ] {
                std::fs::write(of.join(what), format!("{value}\n")).expect("written");
            }
        }
        let check = examine(folder.path(), margin).expect("a line");
        assert_eq!(check.verdict, Verdict::Warn);
        assert!(
            check.text.contains("on eth0 a packet may wait 3000 ms"),
            "{check:?}"
        );
        let advice = check.advice.expect("what to type");
        for words in [
            "net.ipv4.neigh.eth0.mcast_solicit=1",
            "net.ipv4.neigh.eth0.retrans_time_ms=20",
        ] {
            assert!(advice.contains(words), "{advice}");
        }
        assert!(!advice.contains("eth1"), "{advice}");
        let eth0 = folder.path().join("ipv4/neigh/eth0");
        std::fs::write(eth0.join("mcast_solicit"), "1").expect("written");
        std::fs::write(eth0.join("retrans_time_ms"), "20").expect("written");
        let check = examine(folder.path(), margin).expect("a line");
        assert_eq!(check.verdict, Verdict::Ok);
    }
}
