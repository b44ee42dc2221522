//! Addresses that configuration leads to: of names, of hosts in URLs, and our own on the way to a peer.
//! Chooses none: `assemble.rs` does.

use std::net::{IpAddr, UdpSocket};
use std::time::Duration;

use crate::sys::dial;

/// The host of a database's URL; `None`: it has none.
pub(super) fn host_of(url: &str) -> Option<String> {
    let url = url::Url::parse(url)
        .ok()
        .filter(|url| url.scheme() != "sqlite")?;
    url.host_str()
        .map(|host| host.trim_matches(['[', ']']).to_owned())
}

/// For one name; a name server that is away must not keep a start for longer.
const LOOKUP_WITHIN: Duration = Duration::from_secs(3);

/// All addresses of a name: the first one need not be one that leads anywhere.
pub(super) fn resolve(host: &str) -> Vec<IpAddr> {
    dial::lookup_blocking(host, LOOKUP_WITHIN)
}

/// Our address on the way to `peer`: connecting a UDP socket asks the routing table and sends nothing.
pub(super) fn source_towards(peer: IpAddr) -> Option<IpAddr> {
    let any = if peer.is_ipv4() {
        "0.0.0.0:0"
    } else {
        "[::]:0"
    };
    let socket = UdpSocket::bind(any).ok()?;
    socket.connect((peer, 9)).ok()?;
    Some(socket.local_addr().ok()?.ip())
}
