//! Files of customers, fetched from the upstream into the shared directory: those that the business wants at once before it hears
//! of the message. Holds up nothing but that message and its customer's later ones (`behind.rs`): statuses and all others pass, and
//! a file that cannot be had is said to be undownloaded. Files that somebody asks for later: `on_demand.rs`.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::BodyExt as _;

use super::fetches::Fetched;
use super::node::Node;
use super::work::Work;
use crate::api::cloud::call::Call;
use crate::api::cloud::event::Wanted;
use crate::api::cloud::file::{About, is_gone};
use crate::api::v1::media::LEN_MAX;
use crate::api::v1::setting::ApplicationSettings;
use crate::db::inbox::Stored;
use crate::db::media::Medium;
use crate::db::remote::{CLOUD_ID_LEN_MAX, Remote};
use crate::sys::clock;

/// For one file, all tries together.
pub const FILE_WITHIN: Duration = Duration::from_secs(60);
/// Without a byte for this long, the try is over.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
const TRIES: u32 = 3;

/// Why a file is not here.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Missed {
    /// The upstream does not have it, or not any more.
    Gone,
    /// It may come another time.
    Later(String),
}

/// The business wants files of this kind, and there is a place for them.
pub fn automatic(node: &Node, settings: &ApplicationSettings, wanted: &Wanted) -> bool {
    node.media.wanted()
        && !wanted.on_demand
        && settings
            .media
            .auto_download
            .iter()
            .any(|kind| kind == wanted.kind.as_str())
}

/// What is remembered of a file that was not fetched, under an id of ours; `None`: there is no place for it.
pub fn remote(node: &Node, wanted: Wanted) -> Option<Remote> {
    let named = !wanted.cloud_id.is_empty() && wanted.cloud_id.len() <= CLOUD_ID_LEN_MAX;
    (named && node.media.wanted()).then(|| Remote {
        id: new_id(),
        cloud_id: wanted.cloud_id,
        mime: wanted.mime,
        sha256: wanted.sha256.unwrap_or_default(),
    })
}

fn new_id() -> String {
    uuid::Uuid::new_v4().hyphenated().to_string()
}

/// Where a file stands; begins to fetch it when nobody has, and there is room.
pub fn ask(node: &Arc<Node>, work: &Arc<Work>, stored: &Stored, wanted: &Wanted) -> Fetched {
    if let Some(stands) = work
        .fetches
        .ask(&stored.event_key, stored.recipient_hash, clock::now())
    {
        return stands;
    }
    let (node, of, key, wanted) = (
        Arc::clone(node),
        Arc::clone(work),
        stored.event_key.clone(),
        wanted.clone(),
    );
    let customer = stored.recipient_hash;
    work.spawn(async move {
        let fetching = at_once(&node, &of, wanted, customer);
        let fetched = match tokio::time::timeout(FILE_WITHIN, fetching).await {
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

/// Our id of a file that is here now.
async fn at_once(node: &Node, work: &Work, wanted: Wanted, customer: i64) -> Option<String> {
    let file = remote(node, wanted)?;
    let medium = bring(node, work, &file).await.ok()?;
    work.fetches.came(customer, medium.bytes, clock::now());
    for _ in 0..TRIES {
        let db = node.db()?;
        match node.in_turn(db.add_medium(&medium)).await {
            Ok(()) => return Some(medium.id),
            Err(error) => {
                tracing::info!(error = %error.brief(), "a file is here, and not known yet; trying again");
            }
        }
        clock::sleep(Duration::from_secs(1)).await;
    }
    None
}

/// Brings a file here: it lies in the directory then, and nobody knows of it. Each try asks for its address anew, which is good
/// for minutes only.
///
/// # Errors
/// [`Missed`].
pub async fn bring(node: &Node, work: &Work, file: &Remote) -> Result<Medium, Missed> {
    let mut round = 1;
    loop {
        match fetch(node, work, file).await {
            Err(Missed::Later(why)) if round < TRIES => {
                tracing::info!(why, round, "fetching an inbound file failed; trying again");
            }
            over => return over,
        }
        clock::sleep(Duration::from_secs(1) * round).await;
        round += 1;
    }
}

fn later(what: &dyn std::fmt::Display) -> Missed {
    Missed::Later(what.to_string())
}

/// Where the bytes are now.
async fn about(work: &Work, cloud_id: &str) -> Result<About, Missed> {
    let id = cloud_id.to_owned();
    let answer = work.upstream.call(&Call::Medium { id }).await;
    let (status, body) = answer.map_err(|error| later(&error))?;
    if is_gone(status.as_u16(), &body) {
        return Err(Missed::Gone);
    }
    if !status.is_success() {
        let why = format!("the upstream answered {status} to the question for it");
        return Err(Missed::Later(why));
    }
    About::read(&body).map_err(|error| later(&error))
}

async fn fetch(node: &Node, work: &Work, wanted: &Remote) -> Result<Medium, Missed> {
    if let Some(remark) = node.media.remark() {
        return Err(Missed::Later(remark));
    }
    let about = about(work, &wanted.cloud_id).await?;
    let answer = work.upstream.fetch_media(&about.url).await;
    let answer = answer.map_err(|error| later(&error))?;
    if !answer.status().is_success() {
        let why = format!("its address answered {}", answer.status());
        return Err(Missed::Later(why));
    }
    let created = node.files.create_anew(&wanted.id, LEN_MAX).await;
    let mut file = created.map_err(|error| later(&error))?;
    let mut body = answer.into_body();
    while let Some(frame) = tokio::time::timeout(CHUNK_WITHIN, body.frame())
        .await
        .map_err(|_| later(&"it stopped coming"))?
    {
        let frame = frame.map_err(|error| later(&error))?;
        // The directory may fill up, or go, while the file comes.
        if let Some(remark) = node.media.remark() {
            return Err(Missed::Later(remark));
        }
        if let Ok(chunk) = frame.into_data() {
            file.write(chunk).await.map_err(|error| later(&error))?;
        }
    }
    // Either the message's or that of now: the upstream may have packed the file anew.
    let now = about.sha256.as_deref().unwrap_or_default();
    let (then, came) = (wanted.sha256.as_str(), file.sha256());
    if (then, now) != ("", "") && came != *then && came != *now {
        return Err(later(&"its digest is none that the upstream says"));
    }
    let (bytes, sha256) = file.finish().await.map_err(|error| later(&error))?;
    node.metrics.media_fetched.inc();
    Ok(Medium {
        id: wanted.id.clone(),
        mime: mime(&about.mime, &wanted.mime),
        bytes,
        sha256,
    })
}

/// The first type that is said.
fn mime(now: &str, then: &str) -> String {
    let said = [now, then].into_iter().find(|mime| !mime.is_empty());
    let said = said.unwrap_or("application/octet-stream");
    said.chars().take(128).collect()
}
