//! Clients towards names with dead addresses.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use axum::Router;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use super::*;
use crate::sys::dial::of_tests::{dead, names};

const ONE: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 1));
const TWO: IpAddr = IpAddr::V4(Ipv4Addr::new(127, 0, 0, 2));
const SIX: IpAddr = IpAddr::V6(Ipv6Addr::LOCALHOST);
const WITHIN: Duration = Duration::from_secs(10);

/// Goal (F02): one dead address of a name, the AAAA or the first A, ends no call: neither one between nodes, nor one to the
/// outside. Method: a server at one address, a full backlog at the other, names from a table.
#[tokio::test]
async fn f02_calls_survive_a_dead_address() {
    let listener = TcpListener::bind((ONE, 0)).await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    let stop = CancellationToken::new();
    let router = Router::new().route("/", axum::routing::get(|| async { "here" }));
    tokio::spawn(super::super::server::serve(listener, router, stop.clone()));
    let url = format!("http://name.test:{port}/");
    for dead_one in [SIX, TWO] {
        let _dead = dead(dead_one, port);
        let dialer = || Dialer::with(names(&[dead_one, ONE]));
        let inside = InternalClient::with(dialer(), Arc::new(String::new));
        let answer = inside.call(http::Method::GET, &url, Vec::new(), WITHIN);
        assert_eq!(&answer.await.expect("answered").1[..], b"here");
        let outside = OutsideClient::dialing(dialer(), WITHIN, 1, Arc::new(|| true));
        let request = Request::get(&url).body(Full::default()).expect("a request");
        let answer = outside.call(request, WITHIN).await.expect("answered");
        assert_eq!(&answer.body()[..], b"here");
        let open = outside.open_sockets();
        assert_eq!(open.load(Ordering::Acquire), 1, "losers are closed");
    }
    stop.cancel();
}

/// Goal: what is refused names the addresses, and is known not to have left.
#[tokio::test]
async fn the_error_of_a_call_names_the_addresses() {
    let listener = TcpListener::bind((ONE, 0)).await.expect("bound");
    let port = listener.local_addr().expect("bound").port();
    drop(listener);
    let dialer = Dialer::with(names(&[SIX, ONE]));
    let outside = OutsideClient::dialing(dialer, WITHIN, 1, Arc::new(|| true));
    let url = format!("http://name.test:{port}/");
    let request = Request::get(&url).body(Full::default()).expect("a request");
    let error = outside.call(request, WITHIN).await.expect_err("refused");
    let CallError::Connect(text) = error else {
        panic!("nothing left: {error}");
    };
    for address in [format!("127.0.0.1:{port}"), format!("[::1]:{port}")] {
        assert!(text.contains(&address), "{text}");
    }
}
