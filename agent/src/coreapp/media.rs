//! Media of outgoing messages: a file of the shared directory is given to the upstream before the message that names it.
//! Sends no message: `sender.rs` does, with the ids that come out of here.

use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};
use http_body_util::{BodyExt as _, StreamBody};
use hyper::body::Frame;
use serde::Deserialize;
use wa_core::message::Outcome;

use super::node::Node;
use super::upstream::{Streamed, TOKEN_REFUSED};
use super::work::Work;
use crate::api::cloud::call::token_refused;
use crate::api::cloud::request::Files;
use crate::api::cloud::{ErrorAnswer, callback, code};
use crate::api::error::ErrorObject;
use crate::api::v1::code::Code;
use crate::api::v1::message::Message;
use crate::api::v1::message::media::Source;
use crate::sys::state;

/// The upstream keeps an upload for 30 days (API reference); used for a little less.
const KEEP_MS: u64 = 29 * 24 * 3600 * 1000;
/// For one upload.
const UPLOAD_WITHIN: Duration = Duration::from_secs(300);

/// Why a message with a file cannot be sent now, or ever.
#[derive(Debug)]
pub enum Unsent {
    /// The message that it names is not sent yet: it goes first.
    Behind,
    /// The intake is held for a handover: the next owner sends it.
    Held,
    /// Directory, database or upstream: later.
    Later(String),
    /// There is no way to the upstream from here, for any message.
    Unreached(String),
    /// What the business is told.
    Never(ErrorObject),
}

/// The answer to an upload.
#[derive(Deserialize)]
struct Uploaded {
    id: String,
}

/// Gives the upstream the files that a message names, and says its ids of them.
///
/// # Errors
/// [`Unsent`]; no message was sent.
pub async fn resolve(node: &Node, work: &Work, message: &Message) -> Result<Files, Unsent> {
    let mut files = Files::new();
    let wanted = message.content.sources();
    if wanted.is_empty() {
        return Ok(files);
    }
    let mut hold = work.hold_changes();
    let held = async {
        while !*hold.borrow_and_update() {
            if hold.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let given = async {
        for (_, source) in wanted {
            if files.contains_key(source) {
                continue;
            }
            match source {
                Source::Id(file) => {
                    let id = upstream_id(node, work, &file.0).await?;
                    files.insert(source.clone(), id);
                }
                Source::Link(_) | Source::Provided { .. } => {}
            }
        }
        Ok(files)
    };
    tokio::select! {
        found = given => found,
        () = held => Err(Unsent::Held),
    }
}

async fn upstream_id(node: &Node, work: &Work, id: &str) -> Result<String, Unsent> {
    let later = |what: &dyn std::fmt::Display| Unsent::Later(what.to_string());
    let db = node.db().ok_or_else(|| later(&"no database"))?;
    let known = db.cloud_medium(id, KEEP_MS).await;
    if let Some(cloud_id) = known.map_err(|error| later(&error.brief()))? {
        return Ok(cloud_id);
    }
    let medium = db.medium(id).await.map_err(|error| later(&error.brief()))?;
    let gone = || {
        let why = "The media file was deleted before it was sent".to_owned();
        Unsent::Never(ErrorObject::new(Code::Internal, Some(why)))
    };
    let medium = medium.ok_or_else(gone)?;
    if let Some(remark) = node.media.remark() {
        return Err(Unsent::Later(remark));
    }
    let opened = node.files.open(id).await;
    let reader = opened.map_err(|error| later(&error))?.ok_or_else(gone)?;
    let boundary = format!(
        "wa-{:016x}{:016x}",
        state::random_u64(),
        state::random_u64()
    );
    let head = Bytes::from(format!(
        "--{boundary}\r\ncontent-disposition: form-data; name=\"messaging_product\"\r\n\r\nwhatsapp\r\n\
         --{boundary}\r\ncontent-disposition: form-data; name=\"type\"\r\n\r\n{mime}\r\n\
         --{boundary}\r\ncontent-disposition: form-data; name=\"file\"; filename=\"{id}\"\r\ncontent-type: {mime}\r\n\r\n",
        mime = medium.mime,
    ));
    let tail = Bytes::from(format!("\r\n--{boundary}--\r\n"));
    let length = (head.len() + tail.len()) as u64 + reader.length();
    let parts = stream::iter([Ok(head)])
        .chain(reader.into_stream())
        .chain(stream::iter([Ok(tail)]));
    let body = StreamBody::new(parts.map(|part| part.map(Frame::data))).boxed_unsync();
    let upload = Streamed {
        content_type: format!("multipart/form-data; boundary={boundary}"),
        length,
        body,
    };
    let answer = work.upstream.post_media(upload, UPLOAD_WITHIN).await;
    // An upload that nobody knows of harms nobody.
    let (status, answer) = answer.map_err(|error| match error.unreached() {
        true => Unsent::Unreached(error.to_string()),
        false => later(&error),
    })?;
    if status.is_success() {
        let uploaded = serde_json::from_slice::<Uploaded>(&answer);
        let cloud_id = uploaded
            .map_err(|_| later(&"the upstream's answer to an upload names no id"))?
            .id;
        if let Err(error) = db.set_cloud_medium(id, &cloud_id).await {
            tracing::debug!(error = %error.brief(), "the upstream's id of a file was not kept; it is uploaded again next time");
        }
        node.metrics.media_sent.inc();
        return Ok(cloud_id);
    }
    if token_refused(status.as_u16(), &answer) {
        return Err(Unsent::Unreached(TOKEN_REFUSED.into()));
    }
    let refused = serde_json::from_slice::<ErrorAnswer>(&answer).map(|answer| answer.error);
    match refused {
        Ok(error) if code::meaning(error.code).0 == Outcome::Failed => {
            Err(Unsent::Never(callback::refusal(&error)))
        }
        Ok(_) | Err(_) => Err(Unsent::Later(format!(
            "the upstream answered an upload {status}"
        ))),
    }
}
