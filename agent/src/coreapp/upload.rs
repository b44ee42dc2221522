//! One file as the upstream wants it: a form of three fields, streamed.
//! Reads no file and keeps no id: `media.rs` does.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;
use wa_core::outcome::Outcome;

use super::unsent::Unsent;
use super::upstream::{Streamed, TOKEN_REFUSED};
use super::work::Work;
use crate::api::cloud::call::token_refused;
use crate::api::cloud::{ErrorAnswer, callback, code};
use crate::api::v1::media_type::MediaType;
use crate::sys::state;

/// For one upload.
const UPLOAD_WITHIN: Duration = Duration::from_secs(300);

/// The answer to an upload.
#[derive(Deserialize)]
struct Uploaded {
    id: String,
}

/// What is said of a file beside its bytes.
pub struct About<'a> {
    pub media_type: &'a MediaType,
    /// See [`MediaType::file_name`].
    pub file_name: String,
    /// In bytes.
    pub length: u64,
}

/// What stands before the bytes. Nothing in it can end a header: types are cleaned, and names have letters and digits only.
fn head(boundary: &str, about: &About<'_>) -> String {
    let (mime, name) = (about.media_type, &about.file_name);
    format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"messaging_product\"\r\n\r\nwhatsapp\r\n\
         --{boundary}\r\ncontent-disposition: form-data; name=\"type\"\r\n\r\n{mime}\r\n\
         --{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{name}\"\r\ncontent-type: {mime}\r\n\r\n",
    )
}

/// Gives the upstream a file and says its id of it.
///
/// # Errors
/// [`Unsent`]; an upload that nobody knows of harms nobody.
pub async fn upload(
    work: &Work,
    about: &About<'_>,
    bytes: impl Stream<Item = io::Result<Bytes>> + Send + 'static,
) -> Result<String, Unsent> {
    let (one, two) = (state::random_u64(), state::random_u64());
    let boundary = format!("wa-{one:016x}{two:016x}");
    let head = Bytes::from(head(&boundary, about));
    let tail = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let length = (head.len() + tail.len()) as u64 + about.length;
    let parts = stream::iter([Ok(head)])
        .chain(bytes)
        .chain(stream::iter([Ok(tail)]));
    let body = StreamBody::new(parts.map(|part| part.map(Frame::data))).boxed_unsync();
    let form = Streamed {
        content_type: format!("multipart/form-data; boundary={boundary}"),
        length,
        body,
    };
    let answer = work.upstream.post_media(form, UPLOAD_WITHIN).await;
    let (status, answer) = answer.map_err(|error| match error.unreached() {
        true => Unsent::Unreached(error.to_string()),
        false => Unsent::Later(error.to_string()),
    })?;
    if status.is_success() {
        let uploaded = serde_json::from_slice::<Uploaded>(&answer);
        let nameless = |_| Unsent::Later("the upstream's answer to an upload names no id".into());
        return Ok(uploaded.map_err(nameless)?.id);
    }
    if token_refused(status.as_u16(), &answer) {
        return Err(Unsent::Unreached(TOKEN_REFUSED.into()));
    }
    let refused = serde_json::from_slice::<ErrorAnswer>(&answer).map(|answer| answer.error);
    match refused {
        Ok(error) if code::meaning(&error, status.as_u16()).0 == Outcome::Failed => {
            Err(Unsent::Never(callback::refusal(&error)))
        }
        Ok(_) | Err(_) => Err(Unsent::Later(format!(
            "the upstream answered an upload {status}"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal (F15): whatever a file is called, the form has three fields and no header of others. Method: a stored type and a
    /// name that try to end a header.
    #[test]
    fn f15_nothing_gets_into_the_headers_of_a_form() {
        let media_type = MediaType::of_stored("image/jpeg; x=\"\r\nevil: 1\"");
        let about = About {
            file_name: media_type.file_name("f0\"\r\nevil: 1", Some("a.\"\r\nevil: 1")),
            media_type: &media_type,
            length: 1,
        };
        let head = head("b", &about);
        assert!(
            head.ends_with("filename=\"f0evil1.jpg\"\r\ncontent-type: image/jpeg\r\n\r\n"),
            "{head}"
        );
        assert_eq!(head.matches("\r\n\r\n").count(), 3);
        assert!(!head.contains("evil:"));
    }

    proptest::proptest! {
        #![proptest_config(proptest::prelude::ProptestConfig { cases: 20_000, failure_persistence: None, ..Default::default() })]

        /// Goal: whatever bytes others choose for types and names, a form has the lines and quotes of its own, and no more. Method: any text,
        /// and text made of what ends lines, quotes and headers.
        #[test]
        fn no_bytes_of_others_end_a_header(
            any in ".{0,40}",
            bad in "[\"\\\\\r\n;:=%\u{0}\u{7f}\u{85}\u{2028}a-c./ -]{0,40}",
            name in proptest::option::of("[\"\\\\\r\n;:=%\u{0}a-c./ -]{0,40}"),
        ) {
            for text in [&any, &bad] {
                let media_type = MediaType::of_stored(text);
                let about = About {
                    file_name: media_type.file_name(text, name.as_deref()),
                    media_type: &media_type,
                    length: 1,
                };
                let head = head("b", &about);
                proptest::prop_assert_eq!(head.matches('\n').count(), 12, "{}", head);
                proptest::prop_assert_eq!(head.matches("\r\n").count(), 12, "{}", head);
                proptest::prop_assert_eq!(head.matches('\r').count(), 12, "{}", head);
                let last = head.lines().find(|line| line.contains("name=\"file\"")).expect("the file");
                proptest::prop_assert_eq!(last.matches('"').count(), 4, "{}", last);
                proptest::prop_assert!(head.bytes().all(|b| matches!(b, b'\r' | b'\n' | 0x20..0x7f)), "{}", head);
            }
        }
    }
}
