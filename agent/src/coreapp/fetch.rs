//! Files of inbound messages: fetched from the upstream into the shared directory before the business hears of the message.
//! Holds up nothing but that message: statuses and texts pass, and a file that cannot be had is said to be undownloaded.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;
use serde::Deserialize;

use super::fetches::Fetched;
use super::node::Node;
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::event::Wanted;
use crate::api::v1::media::LEN_MAX;
use crate::api::v1::setting::ApplicationSettings;
use crate::db::inbox::Stored;
use crate::db::media::Medium;
use crate::sys::clock;

/// For one file, all tries together.
const FILE_WITHIN: Duration = Duration::from_secs(60);
/// Without a byte for this long, the try is over.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// Metadata of a file upstream.
#[derive(Deserialize)]
struct About {
    url: String,
    #[serde(default)]
    mime_type: String,
}

/// The business wants files of this kind, and there is a place for them.
pub fn automatic(node: &Node, settings: &ApplicationSettings, wanted: &Wanted) -> bool {
    node.media.wanted()
        && settings
            .media
            .auto_download
            .iter()
            .any(|kind| kind == wanted.kind.as_str())
}

/// Where a file stands; begins to fetch it when nobody has, and there is room.
pub fn ask(node: &Arc<Node>, work: &Arc<Work>, stored: &Stored, wanted: &Wanted) -> Fetched {
    if let Some(stands) = work.fetches.ask(&stored.event_key, stored.recipient_hash) {
        return stands;
    }
    let (node, of, key, wanted) = (
        Arc::clone(node),
        Arc::clone(work),
        stored.event_key.clone(),
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
        of.fetches.over(&key, fetched);
        of.inbox_wanted.notify_one();
    });
    Fetched::Running
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
    let id = wanted.cloud_id.clone();
    let about = work.upstream.call(&Call::Medium { id }).await;
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
        // The directory may fill up, or go, while the file comes.
        if let Some(remark) = node.media.remark() {
            return Err(remark);
        }
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
