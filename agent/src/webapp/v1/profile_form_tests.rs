//! Goal: no form in which a photo comes panics its reader or waits for ever, and what is taken out of one stood in it. Method: a
//! hundred thousand bodies: noise, nearly right forms, and right ones with any bytes.

use std::sync::LazyLock;

use axum::body::Body;
use axum::http::{Request, header};
use bytes::Bytes;
use proptest::prelude::*;
use tokio::runtime::Runtime;

use super::receive;
use crate::api::error::ApiError;

static RUNTIME: LazyLock<Runtime> = LazyLock::new(|| {
    let made = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build();
    made.expect("a runtime")
});

fn received(kind: &str, body: Vec<u8>) -> Option<Result<Bytes, ApiError>> {
    let request = Request::post("/").header(header::CONTENT_TYPE, kind);
    let request = request.body(Body::from(body)).ok()?;
    Some(RUNTIME.block_on(receive(request)))
}

fn whole_or_refused(kind: &str, body: &[u8]) {
    match received(kind, body.to_vec()) {
        Some(Ok(taken)) => {
            let stands = taken.is_empty() || body.windows(taken.len()).any(|w| w == &taken[..]);
            assert!(stands, "{taken:?} of {body:?}");
        }
        Some(Err(error)) => {
            let status = error.code.http_status();
            assert!((400..500).contains(&status), "{error:?}");
        }
        None => {}
    }
}

const KINDS: &[&str] = &[
    "multipart/form-data; boundary=x",
    "multipart/form-data; boundary=\"x\"",
    "multipart/form-data; boundary=-",
    "multipart/form-data; boundary=",
    "multipart/form-data",
    "multipart/form-data; boundary=x; boundary=y",
    "multipart/mixed; boundary=x",
    "image/png",
    "text/plain",
    ";",
];
const HEADS: &[&str] = &[
    "content-disposition: form-data; name=\"f\"",
    "content-disposition: form-data; name=f; filename=\"a\"",
    "content-disposition: form-data; filename=\"",
    "content-disposition: form-data",
    "content-type: image/png",
    "content-type: /",
    "no header",
    ":",
    "",
];

fn bytes() -> impl Strategy<Value = Vec<u8>> {
    proptest::collection::vec(any::<u8>(), 0..24)
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 100_000, failure_persistence: None, ..Default::default() })]

    #[test]
    fn forms_are_whole_or_refused(kind in proptest::sample::select(KINDS), heads in proptest::collection::vec(proptest::sample::select(HEADS), 1..3),
                                  bytes in bytes(), cut: Option<proptest::sample::Index>, noise in 0u8..8) {
        let mut form = [b"--x\r\n", heads.join("\r\n").as_bytes(), b"\r\n\r\n", &bytes, b"\r\n--x--\r\n"].concat();
        if let Some(cut) = cut {
            form.truncate(cut.index(form.len()));
        }
        whole_or_refused(kind, if noise == 0 { &bytes } else { &form });
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 10_000, failure_persistence: None, ..Default::default() })]

    /// In a boundary that no bytes of it hold.
    #[test]
    fn what_a_form_holds_comes_out_of_it(bytes in bytes()) {
        let boundary = "photo-photo-photo-photo-photo-photo-photo-41";
        let head = "\r\ncontent-disposition: form-data; name=\"file\"; filename=\"a\"\r\n\r\n";
        let good = [b"--", boundary.as_bytes(), head.as_bytes(), &bytes, b"\r\n--", boundary.as_bytes(), b"--\r\n"].concat();
        let taken = received(&format!("multipart/form-data; boundary={boundary}"), good);
        prop_assert_eq!(taken.expect("a request").ok(), Some(Bytes::from(bytes)));
    }
}
