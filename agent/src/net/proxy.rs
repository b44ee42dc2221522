//! The PROXY protocol, version 2, as load balancers write it in front of a connection: who the client behind them is.
//! Read from listed proxies only, and never from anybody else. Reads nothing of what follows.

use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use ipnet::IpNet;
use ppp::v2::{Addresses, Command, Header};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

/// The first byte of the header: neither a request nor a TLS handshake begins with it.
const FIRST: u8 = b'\r';
/// Signature, version, family and length.
const HEAD_LEN: usize = 16;
/// From its first byte on it comes within this time.
const WITHIN: Duration = Duration::from_secs(10);
/// Addresses, and what some proxies add to them.
const REST_LEN_MAX: usize = 2048;

/// Whether what this peer says of its clients is believed.
pub fn listed(peer: IpAddr, proxies: &[IpNet]) -> bool {
    let address = peer.to_canonical();
    proxies.iter().any(|network| network.contains(&address))
}

/// Who is behind a listed proxy: as its header says, or the proxy itself where it writes none. `silence` is how long the first
/// byte may take. `None`: the connection is of no use.
pub async fn client(
    stream: &mut TcpStream,
    peer: SocketAddr,
    silence: Duration,
) -> Option<SocketAddr> {
    let mut first = [0];
    let peeked = tokio::time::timeout(silence, stream.peek(&mut first)).await;
    match peeked {
        Ok(Ok(1..)) if first[0] == FIRST => {}
        Ok(Ok(1..)) => return Some(peer),
        Ok(Ok(0) | Err(_)) | Err(_) => return None,
    }
    let header = async {
        let mut bytes = vec![0; HEAD_LEN];
        stream.read_exact(&mut bytes).await.ok()?;
        let length = usize::from(u16::from_be_bytes([bytes[14], bytes[15]]));
        if length > REST_LEN_MAX {
            return None;
        }
        bytes.resize(HEAD_LEN + length, 0);
        stream.read_exact(&mut bytes[HEAD_LEN..]).await.ok()?;
        told(&bytes, peer)
    };
    tokio::time::timeout(WITHIN, header).await.ok()?
}

/// What a whole header says. A proxy that asks for itself (`LOCAL`, as its health checks do), or knows no address, is the client.
pub fn told(bytes: &[u8], peer: SocketAddr) -> Option<SocketAddr> {
    let header = Header::try_from(bytes).ok()?;
    if header.command == Command::Local {
        return Some(peer);
    }
    Some(match header.addresses {
        Addresses::IPv4(told) => SocketAddr::from((told.source_address, told.source_port)),
        Addresses::IPv6(told) => SocketAddr::from((told.source_address, told.source_port)),
        Addresses::Unspecified | Addresses::Unix(_) => peer,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn peer() -> SocketAddr {
        SocketAddr::from(([10, 0, 0, 1], 443))
    }

    /// A header with this command and family, and these bytes behind.
    fn header(command: u8, family: u8, rest: &[u8]) -> Vec<u8> {
        let mut bytes = b"\r\n\r\n\0\r\nQUIT\n".to_vec();
        bytes.extend([0x20 | command, family]);
        bytes.extend(u16::try_from(rest.len()).expect("short").to_be_bytes());
        bytes.extend(rest);
        bytes
    }

    /// Goal: the client is who the header names, in both families; what names none leaves the proxy; rubbish is no client.
    /// Method: headers byte by byte as the specification has them.
    #[test]
    fn the_header_names_the_client() {
        let four = [203, 0, 113, 1, 10, 0, 0, 9, 0x12, 0x67, 0x01, 0xbb];
        let client = SocketAddr::from(([203, 0, 113, 1], 0x1267));
        assert_eq!(told(&header(1, 0x11, &four), peer()), Some(client));
        // Something more behind the addresses.
        let more = [&four[..], &[0x03, 0, 4, 1, 2, 3, 4]].concat();
        assert_eq!(told(&header(1, 0x11, &more), peer()), Some(client));
        let mut six = [0; 36];
        (six[0], six[1], six[15]) = (0x2a, 0x00, 1);
        let client = "[2a00::1]:0".parse().expect("an address");
        assert_eq!(told(&header(1, 0x21, &six), peer()), Some(client));
        assert_eq!(told(&header(0, 0x00, &[]), peer()), Some(peer()));
        assert_eq!(told(&header(0, 0x11, &four), peer()), Some(peer()));
        assert_eq!(told(&header(1, 0x00, &[]), peer()), Some(peer()));
        assert_eq!(told(&header(1, 0x11, &four[..8]), peer()), None);
        assert_eq!(told(b"\r\n\r\nGET / HTTP/1.1\r\n", peer()), None);
    }

    #[test]
    fn only_listed_proxies_are_asked() {
        let proxies = ["10.0.0.0/8".parse().expect("a network")];
        assert!(listed(peer().ip(), &proxies));
        assert!(listed(
            "::ffff:10.0.0.1".parse().expect("an address"),
            &proxies
        ));
        assert!(!listed(IpAddr::from([192, 0, 2, 1]), &proxies));
        assert!(!listed(peer().ip(), &[]));
    }

    /// What a header may say: an address that stands in it, the proxy itself, or nothing.
    fn said(bytes: &[u8]) {
        let Some(client) = told(bytes, peer()) else {
            return;
        };
        assert!(bytes.starts_with(b"\r\n\r\n\0\r\nQUIT\n"), "{bytes:02x?}");
        let written = match client.ip() {
            IpAddr::V4(four) => four.octets().to_vec(),
            IpAddr::V6(six) => six.octets().to_vec(),
        };
        let stands = bytes[HEAD_LEN..]
            .windows(written.len())
            .any(|w| w == written);
        assert!(client == peer() || stands, "{client} of {bytes:02x?}");
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 100_000, failure_persistence: None, ..Default::default() })]

        /// Goal: no bytes in front of a connection panic the reader, or name a client that does not stand in them. Method: noise,
        /// headers of every command, version and family with noise behind, and cut ones.
        #[test]
        fn any_bytes_are_a_client_or_none(first: u8, family: u8, rest in proptest::collection::vec(proptest::prelude::any::<u8>(), 0..80),
                                          length: u16, cut: proptest::sample::Index) {
            said(&rest);
            let mut bytes = header(first & 0x0f, family, &rest);
            said(&bytes);
            said(&bytes[..cut.index(bytes.len())]);
            bytes[12] = first;
            said(&bytes);
            [bytes[14], bytes[15]] = length.to_be_bytes();
            said(&bytes);
        }
    }

    /// Goal: what a fuzzing run found stays fixed.
    #[test]
    fn seeds_of_the_fuzzer_are_a_client_or_none() {
        let folder =
            std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fuzz/corpus/proxy");
        let mut count = 0;
        for entry in std::fs::read_dir(folder).expect("seeds").flatten() {
            said(&std::fs::read(entry.path()).expect("a seed"));
            count += 1;
        }
        assert!(count > 3, "{count} seeds");
    }
}
