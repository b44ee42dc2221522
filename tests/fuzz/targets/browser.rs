//! What browsers and scrapers send before a login: cookies, the language, the page that a form came from, the fields of the login, the
//! accepted formats. No bytes panic their readers, and nobody is taken for one of our own pages who does not say so.
#![no_main]

use axum::Form;
use axum::body::Body;
use axum::extract::FromRequest as _;
use futures_util::FutureExt as _;
use http::{HeaderMap, HeaderValue, Request, header};
use libfuzzer_sys::fuzz_target;
use wa_agent::net::health::wants_openmetrics;
use wa_agent::webapp::console::{Given, is_foreign, tongue};

const HOST: &str = "wa.example:9090";

fn with(name: header::HeaderName, value: &HeaderValue) -> HeaderMap {
    HeaderMap::from_iter([
        (name, value.clone()),
        (header::HOST, HeaderValue::from_static(HOST)),
    ])
}

fuzz_target!(|bytes: &[u8]| {
    let form = Request::post("/console/login")
        .header(header::CONTENT_TYPE, "application/x-www-form-urlencoded")
        .body(Body::from(bytes.to_vec()));
    let read = Form::<Given>::from_request(form.expect("a request"), &()).now_or_never();
    assert!(read.is_some(), "what is there is read at once");
    let Ok(value) = HeaderValue::from_bytes(bytes) else {
        return;
    };
    for name in [header::COOKIE, header::ACCEPT_LANGUAGE] {
        let tag = tongue(&with(name, &value)).tag();
        assert!(tag == "en" || bytes.windows(tag.len()).any(|w| w == tag.as_bytes()));
    }
    if !is_foreign(&with(header::ORIGIN, &value)) {
        assert!(bytes.ends_with(format!("://{HOST}").as_bytes()));
    }
    if wants_openmetrics(&with(header::ACCEPT, &value)) {
        let text = bytes.to_ascii_lowercase();
        let name = b"application/openmetrics-text";
        assert!(text.windows(name.len()).any(|w| w == name));
    }
});
