//! Addresses that anybody on the internet may name: whoever sends us a link must not reach the inside of this network by it.
//! Connects to nothing: `sys/dial.rs` asks for each address that it is about to connect to.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::sync::LazyLock;

use wa_bpf::Network;

/// Not for everybody (IANA's registries of special-purpose addresses), each with what is said of it.
const SPECIAL: &[(&str, &str)] = &[
    ("0.0.0.0/8", "unspecified"),
    ("10.0.0.0/8", "private"),
    ("100.64.0.0/10", "shared by the customers of a provider"),
    ("127.0.0.0/8", "of this machine"),
    ("169.254.0.0/16", "link-local"),
    ("172.16.0.0/12", "private"),
    ("192.0.0.0/24", "reserved"),
    ("192.0.2.0/24", "for documentation"),
    ("192.31.196.0/24", "reserved"),
    ("192.52.193.0/24", "reserved"),
    ("192.88.99.0/24", "reserved"),
    ("192.168.0.0/16", "private"),
    ("192.175.48.0/24", "reserved"),
    ("198.18.0.0/15", "for benchmarks"),
    ("198.51.100.0/24", "for documentation"),
    ("203.0.113.0/24", "for documentation"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    // What clouds tell a machine about itself stands at addresses of their own, too.
    ("168.63.129.16/32", "of the cloud's inside"),
    ("100.100.100.200/32", "of the cloud's inside"),
    ("2001::/23", "reserved"),
    ("2001:db8::/32", "for documentation"),
    ("2002::/16", "a tunnel"),
    ("2620:4f:8000::/48", "reserved"),
    ("3fff::/20", "for documentation"),
];

/// The only part of IPv6 that is given out to the public.
const GLOBAL_SIX: &str = "2000::/3";
/// A translator's: an IPv4 address stands at the end.
const TRANSLATED: &str = "64:ff9b::/96";

/// Never called, whoever names them: what cloud machines are told about themselves, and no single machine at all.
const NEVER: &[(&str, &str)] = &[
    ("0.0.0.0/8", "unspecified"),
    ("169.254.0.0/16", "link-local"),
    ("168.63.129.16/32", "of the cloud's inside"),
    ("100.100.100.200/32", "of the cloud's inside"),
    ("224.0.0.0/4", "multicast"),
    ("240.0.0.0/4", "reserved"),
    ("::/128", "unspecified"),
    ("fe80::/10", "link-local"),
    ("fd00:ec2::/32", "of the cloud's inside"),
    ("fd20:ce::254/128", "of the cloud's inside"),
    ("ff00::/8", "multicast"),
];

type Table = Vec<(Network, &'static str)>;

fn table(rows: &'static [(&'static str, &'static str)]) -> Table {
    let read = |(text, what): &(&str, &'static str)| Some((text.parse().ok()?, *what));
    rows.iter().filter_map(read).collect()
}

static SPECIAL_TABLE: LazyLock<Table> = LazyLock::new(|| table(SPECIAL));
static NEVER_TABLE: LazyLock<Table> = LazyLock::new(|| table(NEVER));

fn found(table: &Table, address: IpAddr) -> Option<&'static str> {
    let row = table.iter().find(|(network, _)| network.contains(address));
    row.map(|(_, what)| *what)
}

fn within(network: &str, address: Ipv6Addr) -> bool {
    let network = network.parse::<Network>();
    network.is_ok_and(|network| network.contains(address.into()))
}

/// What an address is instead of public; `None`: it is public.
pub fn not_public(address: IpAddr) -> Option<&'static str> {
    let address = plain(address);
    if let IpAddr::V6(six) = address
        && !within(GLOBAL_SIX, six)
    {
        return Some("not public");
    }
    found(&SPECIAL_TABLE, address)
}

/// What an address is that is not even called for a host whose addresses may be private.
pub fn never(address: IpAddr) -> Option<&'static str> {
    found(&NEVER_TABLE, plain(address))
}

/// An IPv4 address in the clothes of IPv6 is judged as what it leads to.
fn plain(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) if within(TRANSLATED, six) => {
            let [.., a, b, c, d] = six.octets();
            Ipv4Addr::new(a, b, c, d).into()
        }
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn address(text: &str) -> IpAddr {
        text.parse().expect(text)
    }

    /// Goal: nothing of the inside counts as public, in no spelling. Method: addresses of each sort by hand.
    #[test]
    fn the_inside_is_not_public() {
        for inside in [
            "0.0.0.0",
            "0.1.2.3",
            "10.0.0.1",
            "100.64.0.1",
            "100.127.255.255",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.192",
            "192.168.1.1",
            "198.18.0.1",
            "198.19.255.255",
            "203.0.113.7",
            "224.0.0.1",
            "239.255.255.250",
            "240.0.0.1",
            "255.255.255.255",
            "168.63.129.16",
            "::",
            "::1",
            "::127.0.0.1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::ffff:169.254.169.254",
            "64:ff9b::10.0.0.1",
            "64:ff9b::7f00:1",
            "64:ff9b:1::1",
            "100::1",
            "2001::1",
            "2001:db8::1",
            "2002:7f00:1::1",
            "2002:a00:1::",
            "3fff::1",
            "fc00::1",
            "fd00::1",
            "fd00:ec2::254",
            "fe80::1",
            "febf::1",
            "fec0::1",
            "ff02::1",
            "4000::1",
        ] {
            assert!(not_public(address(inside)).is_some(), "{inside}");
        }
        for outside in [
            "1.1.1.1",
            "8.8.8.8",
            "100.63.255.255",
            "100.128.0.1",
            "172.15.255.255",
            "172.32.0.1",
            "192.167.1.1",
            "198.17.0.1",
            "223.255.255.255",
            "::ffff:8.8.8.8",
            "64:ff9b::8.8.8.8",
            "2001:4860:4860::8888",
            "2606:4700:4700::1111",
            "2a00:1450::1",
        ] {
            assert_eq!(not_public(address(outside)), None, "{outside}");
        }
    }

    /// Goal: hosts that an operator lists may be private, and still lead to no secrets of the cloud. Method: some of each.
    #[test]
    fn some_addresses_are_never_called() {
        for bad in [
            "169.254.169.254",
            "::ffff:169.254.169.254",
            "fd00:ec2::254",
            "fe80::1",
            "0.0.0.0",
            "::",
            "ff02::1",
            "255.255.255.255",
        ] {
            assert!(never(address(bad)).is_some(), "{bad}");
        }
        for good in [
            "10.0.0.1",
            "127.0.0.1",
            "192.168.0.1",
            "fd12::1",
            "::1",
            "8.8.8.8",
        ] {
            assert_eq!(never(address(good)), None, "{good}");
        }
    }

    #[test]
    fn every_row_is_read() {
        assert_eq!(SPECIAL_TABLE.len(), SPECIAL.len());
        assert_eq!(NEVER_TABLE.len(), NEVER.len());
        for network in [GLOBAL_SIX, TRANSLATED] {
            assert!(network.parse::<Network>().is_ok(), "{network}");
        }
    }
}
