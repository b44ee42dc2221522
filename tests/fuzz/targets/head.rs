//! What stands in the head of a request before anybody is known: the proof of a deed, and where a body ends. No bytes panic the readers,
//! no deed is taken without the key, and a head is called plain only if it says itself where its body ends, once.
#![no_main]

use std::sync::LazyLock;

use axum::body::Body;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, header};
use libfuzzer_sys::fuzz_target;
use wa_agent::net::deed::Taker;
use wa_agent::net::framing::{self, Framing};
use wa_agent::net::keys::Keys;
use wa_core::id::{Incarnation, NodeId};

static TAKER: LazyLock<Taker> = LazyLock::new(|| {
    let start = Incarnation {
        counter: 1,
        random: 2,
    };
    let keys = Keys::new(b"the key of this cluster, which is long");
    Taker::new(&keys, &NodeId::new("core1.example:master-1"), start)
});

fn deed(proof: &HeaderValue) -> Request<Body> {
    let request = Request::post("/control/operate").header(header::AUTHORIZATION, proof);
    request.body(Body::from("{}")).expect("a request")
}

fuzz_target!(|bytes: &[u8]| {
    if let Ok(proof) = HeaderValue::from_bytes(bytes) {
        // Refused at once: no body is waited for.
        let operator = TAKER.operator(deed(&proof)).now_or_never();
        assert!(operator.is_some_and(|taken| taken.is_err()));
        let administrator = TAKER.administrator(deed(&proof)).now_or_never();
        assert!(administrator.is_some_and(|taken| taken.is_err()));
    }
    let mut headers = HeaderMap::new();
    headers.insert(header::TRANSFER_ENCODING, HeaderValue::from_static("chunked"));
    if framing::of(&headers, bytes) == Framing::Plain {
        let text = bytes.to_ascii_lowercase();
        let has = |name: &[u8]| text.windows(name.len()).any(|w| w == name);
        assert!(has(b"transfer-encoding:"));
    }
});
