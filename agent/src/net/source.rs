//! Where a request really comes from: its peer, or, where that is a listed proxy, the client that the proxy names.
//! Believes nobody else: a header of a stranger is the stranger's own word.

use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::http::HeaderMap;
use ipnet::IpNet;

use super::proxy::listed;

const FORWARDED_FOR: &str = "x-forwarded-for";

/// An entry of the header: an address, in some proxies with its port, an IPv6 one perhaps in brackets.
fn entry(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']');
    let address = bare.parse::<IpAddr>().ok();
    let address = address.or_else(|| text.parse::<SocketAddr>().ok().map(|at| at.ip()));
    address.map(|address| address.to_canonical())
}

/// The client's address. Each proxy writes behind what it was sent, so the list is read from its end, and only for as long as
/// listed proxies have written it: the last foreign address is the client. What cannot be read ends it, too.
pub fn of(headers: &HeaderMap, peer: IpAddr, proxies: &[IpNet]) -> IpAddr {
    let mut source = peer.to_canonical();
    let lines = headers.get_all(FORWARDED_FOR).iter();
    // A line that is no text stands for an entry that cannot be read: skipped, it would let through what stands left of it.
    let lines: Vec<&str> = lines
        .map(|line| line.to_str().unwrap_or_default())
        .collect();
    let mut written = lines.iter().rev().flat_map(|line| line.rsplit(','));
    while listed(source, proxies) {
        match written.next().and_then(entry) {
            Some(before) => source = before,
            None => break,
        }
    }
    source
}

/// Whose address this is, for counting: an IPv6 customer has a network of 2^64 addresses, and is one source all the same.
pub fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(six) => Ipv6Addr::from_bits(six.to_bits() & !u128::from(u64::MAX)).into(),
        four @ IpAddr::V4(_) => four,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn read(peer: &str, lines: &[&str]) -> String {
        let mut headers = HeaderMap::new();
        for line in lines {
            let line = HeaderValue::from_bytes(line.as_bytes()).expect("no line end");
            headers.append(FORWARDED_FOR, line);
        }
        let proxies = ["10.0.0.0/8", "2001:db8::/32"].map(|n| n.parse().expect("a network"));
        of(&headers, peer.parse().expect("an address"), &proxies).to_string()
    }

    /// Goal: the addresses of one IPv6 network are one source, those of IPv4 are one each. Method: a table.
    #[test]
    fn an_ipv6_network_is_one_source() {
        for (address, of) in [
            ("2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            ("2001:db8:1:2::", "2001:db8:1:2::"),
            ("2001:db8:1:3::1", "2001:db8:1:3::"),
            ("192.0.2.7", "192.0.2.7"),
            ("::ffff:192.0.2.7", "192.0.2.7"),
        ] {
            let address: IpAddr = address.parse().expect("an address");
            assert_eq!(network(address).to_string(), of);
        }
    }

    /// Goal: the last foreign address is the client, and no client chooses its own. Method: a table.
    #[test]
    fn the_last_foreign_address_is_the_client() {
        for (peer, lines, source) in [
            // A stranger's own word.
            ("192.0.2.9", &["203.0.113.1"][..], "192.0.2.9"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["203.0.113.1"], "203.0.113.1"),
            // What the client sent along stands in front.
            ("10.0.0.1", &["6.6.6.6, 203.0.113.1"], "203.0.113.1"),
            (
                "10.0.0.1",
                &["6.6.6.6", "203.0.113.1, 10.0.0.7"],
                "203.0.113.1",
            ),
            ("::ffff:10.0.0.1", &["203.0.113.1:4711"], "203.0.113.1"),
            ("2001:db8::1", &["[2a00::1]:4711"], "2a00::1"),
            ("2001:db8::1", &["[2a00::1]"], "2a00::1"),
            // What nobody can read is no address: whoever wrote it is the source.
            ("10.0.0.1", &["203.0.113.1, unknown"], "10.0.0.1"),
            ("10.0.0.1", &["unknown, 10.0.0.7"], "10.0.0.7"),
            ("10.0.0.1", &["6.6.6.6", "\u{fc}nknown"], "10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6", ""], "10.0.0.1"),
            ("10.0.0.1", &["6.6.6.6", "\u{fc}", "10.0.0.7"], "10.0.0.7"),
            ("10.0.0.1", &["10.0.0.8, 10.0.0.7"], "10.0.0.8"),
        ] {
            assert_eq!(read(peer, lines), source, "{peer} {lines:?}");
        }
    }

    /// The same lines, read from the front by the rule in words: the client is the last entry that is no listed proxy, and
    /// everything between it and the end can be read.
    fn by_the_rule(peer: IpAddr, lines: &[&[u8]], proxies: &[IpNet]) -> IpAddr {
        let mut client = peer.to_canonical();
        let mut entries: Vec<Option<IpAddr>> = Vec::new();
        for line in lines {
            let visible = |b: &u8| (0x20..0x7f).contains(b) || *b == b'\t';
            let text = line.iter().all(visible).then(|| std::str::from_utf8(line));
            match text.and_then(Result::ok) {
                Some(text) => entries.extend(text.split(',').map(entry)),
                None => entries.push(None),
            }
        }
        while listed(client, proxies) {
            match entries.pop() {
                Some(Some(before)) => client = before,
                Some(None) | None => break,
            }
        }
        client
    }

    /// With what stands between them, as it should be and otherwise.
    const ENTRIES: &[&str] = &[
        "10.0.2.7, ",
        "10.255.0.1:4711,",
        ",192.0.2.200",
        "203.0.113.1",
        "[2001:db8::1],",
        "[2001:db8::2]:443,",
        "2001:db8::3,\t",
        "2a00::1, ",
        "::ffff:10.0.0.1,",
        "::ffff:a00:2, ",
        "unknown,",
        "10.0.0.256,",
        "[,",
        "]]",
        ", ,",
    ];

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 100_000, failure_persistence: None, ..Default::default() })]

        /// Goal: no lines panic the reader, a stranger names nobody, and a client names itself only where every proxy behind it
        /// is listed. Method: noise, and lists of addresses, ports, brackets and words; beside a reader by the rule.
        #[test]
        fn any_lines_name_whom_listed_proxies_name(
            noise in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..12),
            lists in proptest::collection::vec(proptest::collection::vec(proptest::sample::select(ENTRIES), 0..4), 0..3),
            first: bool,
            peer in 0usize..4,
        ) {
            let proxies = ["10.0.0.0/8", "2001:db8::/32"].map(|n| n.parse().expect("a network"));
            let peer = ["10.0.0.1", "::ffff:10.0.0.9", "192.0.2.1", "2001:db8::1"][peer].parse().expect("an address");
            let lists: Vec<String> = lists.iter().map(|list| list.concat()).collect();
            let mut lines: Vec<&[u8]> = lists.iter().map(|list| list.as_bytes()).collect();
            lines.insert(if first { 0 } else { lines.len() }, &noise);
            let mut headers = HeaderMap::new();
            let mut sent = Vec::new();
            for line in lines {
                if let Ok(value) = HeaderValue::from_bytes(line) {
                    headers.append(FORWARDED_FOR, value);
                    sent.push(line);
                }
            }
            let client = of(&headers, peer, &proxies);
            proptest::prop_assert_eq!(client, by_the_rule(peer, &sent, &proxies));
            let stranger = IpAddr::from([192, 0, 2, 1]);
            proptest::prop_assert_eq!(of(&headers, stranger, &proxies), stranger);
        }
    }
}
