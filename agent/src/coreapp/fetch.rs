//! Files of inbound messages: fetched from the upstream into the shared directory before the business hears of the message.
//! Holds up nothing but that message: statuses and texts pass, and a file that cannot be had is said to be undownloaded.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http_body_util::BodyExt as _;
use serde::Deserialize;
use serde_json::Value;

use super::node::Node;
use super::work::Work;
use crate::api::cloud::{Content, Event};
use crate::api::v1::media::{Kind, LEN_MAX};
use crate::api::v1::setting::ApplicationSettings;
use crate::db::media::Medium;
use crate::sys::clock;

/// Files at once; messages beyond that wait.
const FETCHES_MAX: usize = 8;
/// For one file, all tries together.
const FILE_WITHIN: Duration = Duration::from_secs(60);
/// Without a byte for this long, the try is over.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// Where the file of one message stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fetched {
    Running,
    /// Our id of it.
    There(String),
    Failed,
}

/// The files of one tenure's inbound messages, by event key, until their events are processed.
#[derive(Default)]
pub struct Fetches(Mutex<HashMap<String, Fetched>>);

/// What an inbound message says of its file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Wanted {
    /// `image`, `voice`, ...
    pub kind: &'static str,
    cloud_id: String,
}

/// Metadata of a file upstream.
#[derive(Deserialize)]
struct About {
    url: String,
    #[serde(default)]
    mime_type: String,
}

/// The file of an inbound message, if it has one.
pub fn file_of(event: &Event) -> Option<Wanted> {
    let Content::Message { message, .. } = &event.content else {
        return None;
    };
    let kind = Kind::parse(message.get("type")?.as_str()?)?;
    let object = message.get(kind.as_str())?;
    let voice = kind == Kind::Audio && object.get("voice") == Some(&Value::Bool(true));
    Some(Wanted {
        kind: if voice { "voice" } else { kind.as_str() },
        cloud_id: object.get("id")?.as_str()?.to_owned(),
    })
}

/// The business wants files of this kind, and there is a place for them.
pub fn automatic(node: &Node, settings: &ApplicationSettings, wanted: &Wanted) -> bool {
    node.media.wanted()
        && settings
            .media
            .auto_download
            .iter()
            .any(|kind| kind == wanted.kind)
}

/// Puts our id into the callback, or says that there is no file.
pub fn put(callback: &mut Value, wanted: &Wanted, fetched: &Fetched) {
    let object = callback.pointer_mut(&format!("/messages/0/{}", wanted.kind));
    let Some(object) = object.and_then(Value::as_object_mut) else {
        return;
    };
    // The upstream's address of it needs the upstream's token.
    object.remove("url");
    if let Fetched::There(id) = fetched {
        object.insert("id".into(), id.as_str().into());
    } else {
        object.remove("id");
        object.insert("status".into(), "undownloaded".into());
    }
}

impl Fetches {
    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<String, Fetched>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Where a file stands; begins to fetch it when nobody has, and there is room.
    pub fn ask(node: &Arc<Node>, work: &Arc<Work>, key: &str, wanted: &Wanted) -> Fetched {
        let mut files = work.fetches.lock();
        if let Some(found) = files.get(key) {
            return found.clone();
        }
        let running = files.values().filter(|f| **f == Fetched::Running).count();
        if running >= FETCHES_MAX {
            return Fetched::Running;
        }
        files.insert(key.to_owned(), Fetched::Running);
        let (node, of, key, wanted) = (
            Arc::clone(node),
            Arc::clone(work),
            key.to_owned(),
            wanted.clone(),
        );
        work.spawn(async move {
            let fetched = match tokio::time::timeout(FILE_WITHIN, tries(&node, &of, &wanted)).await {
                Ok(Some(id)) => Fetched::There(id),
                Ok(None) | Err(_) => {
                    tracing::warn!(key, "the file of an inbound message cannot be fetched; telling the business without it");
                    Fetched::Failed
                }
            };
            of.fetches.lock().insert(key, fetched);
            of.inbox_wanted.notify_one();
        });
        Fetched::Running
    }

    /// Events that are processed need not be remembered.
    pub fn forget<'a>(&self, keys: impl Iterator<Item = &'a str>) {
        let mut files = self.lock();
        for key in keys {
            files.remove(key);
        }
    }
}

async fn tries(node: &Node, work: &Work, wanted: &Wanted) -> Option<String> {
    for round in 1..=TRIES {
        match fetch(node, work, wanted).await {
            Ok(id) => return Some(id),
            Err(why) => tracing::info!(why, round, "fetching an inbound file failed; trying again"),
        }
        clock::sleep(Duration::from_secs(1) * round).await;
    }
    None
}

async fn fetch(node: &Node, work: &Work, wanted: &Wanted) -> Result<String, String> {
    if let Some(remark) = node.media.remark() {
        return Err(remark);
    }
    let about = work.upstream.about_media(&wanted.cloud_id).await;
    let (status, about) = about.map_err(|error| error.to_string())?;
    if !status.is_success() {
        return Err(format!(
            "the upstream answered {status} to the question for it"
        ));
    }
    let about: About = serde_json::from_slice(&about).map_err(|error| error.to_string())?;
    let answer = work.upstream.fetch_media(&about.url).await;
    let answer = answer.map_err(|error| error.to_string())?;
    if !answer.status().is_success() {
        return Err(format!("its address answered {}", answer.status()));
    }
    let id = uuid::Uuid::new_v4().hyphenated().to_string();
    let created = node.files.create(&id, LEN_MAX).await;
    let mut file = created.map_err(|error| error.to_string())?;
    let mut body = answer.into_body();
    while let Some(frame) = tokio::time::timeout(CHUNK_WITHIN, body.frame())
        .await
        .map_err(|_| "it stopped coming".to_owned())?
    {
        let frame = frame.map_err(|error| error.to_string())?;
        if let Ok(chunk) = frame.into_data() {
            let written = file.write(chunk).await;
            written.map_err(|error| error.to_string())?;
        }
    }
    let (bytes, sha256) = file.finish().await.map_err(|error| error.to_string())?;
    let mime = if about.mime_type.is_empty() {
        "application/octet-stream".into()
    } else {
        about.mime_type.chars().take(128).collect()
    };
    let medium = Medium {
        id: id.clone(),
        mime,
        bytes,
        sha256,
    };
    let db = node.db().ok_or("no database")?;
    let added = node.in_turn(db.add_medium(&medium)).await;
    added.map_err(|error| error.brief())?;
    node.metrics.media_fetched.inc();
    Ok(id)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn event(message: Value) -> Event {
        Event {
            key: "k".into(),
            customer: "447700900456".into(),
            content: Content::Message {
                message,
                contact: None,
            },
        }
    }

    /// Goal: files are found by kind, voice notes under their own name; the callback names our id or none.
    #[test]
    fn files_are_found_and_named() {
        let voice = event(json!({"type": "audio", "audio": {"id": "7", "voice": true}}));
        let wanted = file_of(&voice).expect("a file");
        assert_eq!((wanted.kind, wanted.cloud_id.as_str()), ("voice", "7"));
        assert_eq!(
            file_of(&event(json!({"type": "text", "text": {"body": "x"}}))),
            None
        );
        assert_eq!(file_of(&event(json!({"type": "image", "image": {}}))), None);
        let mut callback = crate::api::cloud::to_callback(&voice);
        put(&mut callback, &wanted, &Fetched::There("ours".into()));
        assert_eq!(callback["messages"][0]["voice"]["id"], "ours");
        put(&mut callback, &wanted, &Fetched::Failed);
        assert_eq!(callback["messages"][0]["voice"]["status"], "undownloaded");
        assert!(callback["messages"][0]["voice"].get("id").is_none());
    }
}
