//! What is read before anybody is logged in: credentials, signatures, and names in paths. No bytes panic their readers, and what
//! is understood is what was written.
#![no_main]

use http::{HeaderMap, HeaderValue};
use libfuzzer_sys::fuzz_target;
use wa_agent::api::v1::block::customer;
use wa_agent::webapp::auth::{basic, signature};

fuzz_target!(|bytes: &[u8]| {
    if let Ok(value) = HeaderValue::from_bytes(bytes) {
        let mut headers = HeaderMap::new();
        headers.insert("x-hub-signature-256", value);
        if let Some(found) = signature(&headers) {
            assert!(bytes.starts_with(b"sha256=") && found.0.len() * 2 + 7 == bytes.len());
        }
    }
    let Ok(text) = std::str::from_utf8(bytes) else {
        return;
    };
    if let Some((name, _)) = basic(text) {
        assert!(!name.contains(':'));
    }
    // As the router decodes a part of a path.
    let decoded = percent_encoding::percent_decode_str(text).decode_utf8();
    if let Ok(who) = decoded.map_or_else(|_| customer("", None), |name| customer(&name, None)) {
        assert!(who.as_str().len() <= 200);
    }
});
