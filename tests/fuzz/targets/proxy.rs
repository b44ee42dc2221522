//! What a load balancer writes in front of a connection (PROXY protocol, version 2), and into `X-Forwarded-For`: no bytes panic the
//! readers, and whoever is named stands in them.
#![no_main]

use std::net::{IpAddr, SocketAddr};

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use wa_agent::net::proxy::told;
use wa_agent::net::source;

/// An address as proxies write one: bare, in brackets, or with a port.
fn address(entry: &[u8]) -> Option<IpAddr> {
    let text = std::str::from_utf8(entry).ok()?.trim();
    let bare = text.trim_start_matches('[').trim_end_matches(']').parse().ok();
    let found = bare.or_else(|| Some(text.parse::<SocketAddr>().ok()?.ip()));
    found.map(|found: IpAddr| found.to_canonical())
}

fuzz_target!(|bytes: &[u8]| {
    let peer = SocketAddr::from(([10, 0, 0, 1], 443));
    if let Some(client) = told(bytes, peer) {
        let written = match client.ip() {
            IpAddr::V4(four) => four.octets().to_vec(),
            IpAddr::V6(six) => six.octets().to_vec(),
        };
        let stands = bytes[16..].windows(written.len()).any(|w| w == written);
        assert!(client == peer || stands);
    }
    let proxies = ["10.0.0.0/8".parse().expect("a network")];
    let mut headers = HeaderMap::new();
    for line in bytes.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            headers.append("x-forwarded-for", value);
        }
    }
    // A stranger's own word counts for nothing; behind a proxy an entry of the list is meant, or the proxy itself.
    let stranger = IpAddr::from([192, 0, 2, 1]);
    assert_eq!(source::of(&headers, stranger, &proxies), stranger);
    let client = source::of(&headers, peer.ip(), &proxies);
    let mut entries = bytes.split(|byte| b",\n".contains(byte));
    assert!(client == peer.ip() || entries.any(|entry| address(entry) == Some(client)));
});
