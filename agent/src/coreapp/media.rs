//! Files of outgoing messages: each is given to the upstream before the message that names it, whether it lies in the shared
//! directory or behind a link. Sends no message: `sender.rs` does, with the ids that come out of here.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use futures_util::{StreamExt as _, stream};

use super::link::{self, Trouble, Wanted};
use super::node::Node;
use super::shelf::{Asked, Giving, Key, Outcome, Told};
use super::unsent::Unsent;
use super::upload::{About, upload};
use super::upstream::UpstreamError;
use super::work::Work;
use crate::api::cloud::request::Files;
use crate::api::cloud::{ErrorAnswer, code};
use crate::api::error::ErrorObject;
use crate::api::provider::{Providers, may_go};
use crate::api::v1::code::Code;
use crate::api::v1::media_type::MediaType;
use crate::api::v1::message::media::{MediaKind, Source};
use crate::api::v1::message::{Content, Message, stored};
use crate::config::{ClientSettings, Links};
use crate::db::setting::MEDIA_PROVIDERS;
use crate::log::seldom;
use crate::media::ogg;
use crate::member::provider;
use crate::sys::{clock, state};

/// The upstream keeps an upload for 30 days (API reference); used for a little less.
const KEEP: Duration = Duration::from_secs(29 * 24 * 3600);
const KEEP_MS: u64 = KEEP.as_millis() as u64;
/// A message that is worked on waits so long for a file; then it goes back to the store, and others go on.
const WAIT: Duration = Duration::from_secs(3);
/// For one file, from its place to the upstream.
const FILE_WITHIN: Duration = Duration::from_secs(420);
/// So often the server of a link may hold up a message.
const LINK_TRIES_MAX: u32 = 8;

/// The files of a message as the upstream knows them.
#[derive(Default)]
pub struct Given {
    pub files: Files,
    /// Those that it was given for other messages, some time ago, and its ids of them.
    pub kept: Vec<(Source, String)>,
}

/// Whether the upstream has to be given this, rather than its link.
fn ours(settings: &ClientSettings, source: &Source) -> bool {
    match source {
        Source::Id(_) | Source::Provided { .. } => true,
        Source::Link(link) => match settings.links {
            Links::Fetch => true,
            Links::Upstream => settings.fetches(link),
        },
    }
}

/// Gives the upstream the files that a message names, and says its ids of them.
///
/// # Errors
/// [`Unsent`]; no message was sent.
pub async fn resolve(
    node: &Arc<Node>,
    work: &Arc<Work>,
    id: &str,
    message: &Message,
) -> Result<Given, Unsent> {
    let wanted = message.content.sources().into_iter();
    let wanted = wanted.filter(|(_, source)| ours(&node.settings.client, source));
    let mut keys: Vec<Key> = wanted
        .map(|(kind, source)| (kind, source.clone()))
        .collect();
    keys.sort();
    keys.dedup();
    if keys.is_empty() {
        return Ok(Given::default());
    }
    let mut hold = work.hold_changes();
    let held = async {
        while !*hold.borrow_and_update() {
            if hold.changed().await.is_err() {
                std::future::pending::<()>().await;
            }
        }
    };
    let given = tokio::select! {
        found = all(node, work, id, &keys, name_of(&message.content)) => found,
        () = held => return Err(Unsent::Held),
    };
    match given {
        Err(Unsent::Waiting) => Err(Unsent::Waiting),
        Err(Unsent::Link(why)) if work.shelf.tried(id) < LINK_TRIES_MAX => Err(Unsent::Later(why)),
        Err(Unsent::Link(why)) => {
            work.shelf.settled(id);
            Err(Unsent::Never(refusal(why)))
        }
        done => {
            work.shelf.settled(id);
            done
        }
    }
}

/// The upstream says the same of a link that it cannot use (131053).
fn refusal(why: String) -> ErrorObject {
    ErrorObject::new(code::of(code::FILE_REFUSED), Some(why))
}

/// The name under which a message sends its file.
fn name_of(content: &Content) -> Option<&str> {
    match content {
        Content::Media(attachment) => attachment.filename.as_deref(),
        Content::Text(_)
        | Content::Location(_)
        | Content::Contacts(_)
        | Content::Template(_)
        | Content::Hsm(_)
        | Content::Interactive(_)
        | Content::Reaction(_) => None,
    }
}

/// All of them: begun together, as soon as there is room, then waited for one after the other.
async fn all(
    node: &Arc<Node>,
    work: &Arc<Work>,
    id: &str,
    keys: &[Key],
    name: Option<&str>,
) -> Result<Given, Unsent> {
    let mut place = None;
    let until = clock::now() + WAIT;
    let left = || until.since(clock::now());
    loop {
        let mut freed = work.shelf.freed();
        let (mut given, running, full) = ask(node, work, id, keys, name).await?;
        if running.is_empty() && !full {
            return Ok(given);
        }
        place = place.or_else(|| work.shelf.place());
        if place.is_none() {
            return Err(Unsent::Waiting);
        }
        if full {
            let room = tokio::time::timeout(left(), freed.changed()).await;
            room.map_err(|_| Unsent::Waiting)?
                .map_err(|_| Unsent::Waiting)?;
            continue;
        }
        for (key, mut told) in running {
            let outcome = match tokio::time::timeout(left(), told.wait_for(Option::is_some)).await {
                Err(_) => return Err(Unsent::Waiting),
                Ok(Err(_)) => return Err(Unsent::Later("giving the file broke off".into())),
                Ok(Ok(outcome)) => outcome.clone(),
            };
            let outcome = outcome.unwrap_or(Err(Unsent::Waiting));
            given.files.insert(key.1.clone(), outcome?.0);
        }
        return Ok(given);
    }
}

/// Those that are there, those that are being given, which begins here, and whether there is no room for others.
async fn ask<'k>(
    node: &Arc<Node>,
    work: &Arc<Work>,
    id: &str,
    keys: &'k [Key],
    name: Option<&str>,
) -> Result<(Given, Vec<(&'k Key, Told)>, bool), Unsent> {
    let mut given = Given::default();
    let mut running = Vec::new();
    let mut full = false;
    for key in keys {
        if let Some(cloud_id) = stored_id(node, &key.1).await? {
            given.kept.push((key.1.clone(), cloud_id.clone()));
            given.files.insert(key.1.clone(), cloud_id);
            continue;
        }
        match work.shelf.ask(key, id, clock::now()) {
            Asked::Kept(cloud_id) => {
                given.kept.push((key.1.clone(), cloud_id.clone()));
                given.files.insert(key.1.clone(), cloud_id);
            }
            Asked::Ended(outcome) => drop(given.files.insert(key.1.clone(), outcome?.0)),
            Asked::Running(told) => running.push((key, told)),
            Asked::Yours(giving, told) => {
                begin(node, work, name.map(str::to_owned), giving);
                running.push((key, told));
            }
            Asked::Full => full = true,
        }
    }
    Ok((given, running, full))
}

/// The upstream's id of a file of ours, while it can be expected to know it.
async fn stored_id(node: &Node, source: &Source) -> Result<Option<String>, Unsent> {
    let Source::Id(file) = source else {
        return Ok(None);
    };
    let db = node.db().ok_or_else(|| later(&"no database"))?;
    let known = db.cloud_medium(&file.0, KEEP_MS).await;
    known.map_err(|error| later(&error.brief()))
}

fn later(what: &dyn std::fmt::Display) -> Unsent {
    Unsent::Later(what.to_string())
}

/// Gives a file in the background: whoever waits for it may go.
fn begin(node: &Arc<Node>, work: &Arc<Work>, name: Option<String>, giving: Giving) {
    let (node, of) = (Arc::clone(node), Arc::clone(work));
    work.spawn(async move {
        let key = giving.key();
        let given = give(&node, &of, key, name.as_deref());
        let given = tokio::time::timeout(FILE_WITHIN, given).await;
        let late = || match key.1 {
            Source::Id(_) => later(&"giving the file took too long"),
            Source::Link(_) | Source::Provided { .. } => Unsent::Link("it took too long".into()),
        };
        let outcome = given.unwrap_or_else(|_| Err(late()));
        if outcome.is_ok() {
            node.metrics.media_sent.inc();
        }
        giving.end(outcome, clock::now());
    });
}

async fn give(node: &Node, work: &Work, key: &Key, name: Option<&str>) -> Outcome {
    let (kind, source) = key;
    match source {
        Source::Id(file) => {
            let cloud_id = own(node, work, &file.0, name).await?;
            // The row keeps it, for all owners.
            Ok((cloud_id, Duration::ZERO))
        }
        Source::Link(link) => linked(node, work, *kind, (link, None), name).await,
        Source::Provided { link, provider } => {
            linked(node, work, *kind, (link, Some(provider)), name).await
        }
    }
}

/// A file of the shared directory.
async fn own(node: &Node, work: &Work, id: &str, name: Option<&str>) -> Result<String, Unsent> {
    let db = node.db().ok_or_else(|| later(&"no database"))?;
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
    let mut reader = opened.map_err(|error| later(&error))?.ok_or_else(gone)?;
    let length = reader.length();
    let first = reader.next().await.map_err(|error| later(&error))?;
    let first = first.unwrap_or_else(Bytes::new);
    let mut media_type = MediaType::of_stored(&medium.mime);
    if media_type.as_str() == "audio/ogg" && ogg::opus_channels(&first).is_some() {
        media_type = MediaType::ogg_opus();
    }
    let about = About {
        file_name: media_type.file_name(id, name),
        media_type: &media_type,
        length,
    };
    let bytes = stream::iter([Ok(first)]).chain(reader.into_stream());
    let cloud_id = upload(work, &about, bytes).await?;
    if let Err(error) = db.set_cloud_medium(id, &cloud_id).await {
        tracing::debug!(error = %error.brief(), "the upstream's id of a file was not kept; it is uploaded again next time");
    }
    Ok(cloud_id)
}

/// A file behind a link. What is logged of the link is its host: the rest may be a secret.
async fn linked(
    node: &Node,
    work: &Work,
    kind: MediaKind,
    (link, provider): (&str, Option<&String>),
    name: Option<&str>,
) -> Outcome {
    let field = format!("{}.link", kind.as_str());
    let authorization = match provider {
        None => None,
        Some(provider) => Some(credentials(node, kind, (provider, link)).await?),
    };
    let url = url::Url::parse(link).ok();
    let host = url.as_ref().and_then(url::Url::host_str).unwrap_or("");
    let told = |trouble: &Trouble| {
        tracing::info!(host, why = %trouble, "the file behind a link cannot be fetched");
        let why = format!("Downloading {field} failed: {trouble}");
        match trouble {
            Trouble::Never(_) => {
                node.metrics.links_refused.inc();
                Unsent::Never(refusal(why))
            }
            Trouble::Again(_) => {
                node.metrics.links_failed.inc();
                Unsent::Link(why)
            }
            Trouble::Shut => Unsent::Unreached(UpstreamError::Shut.to_string()),
        }
    };
    let wanted = Wanted {
        kind,
        link,
        authorization,
        name,
    };
    let found = link::open(&work.upstream, &wanted).await;
    let found = found.map_err(|trouble| told(&trouble))?;
    let (media_type, keep, broke) = (found.media_type.clone(), found.keep, found.broke());
    let stem = format!("{:016x}", state::random_u64());
    let about = About {
        file_name: media_type.file_name(&stem, name.or(url.as_ref().map(url::Url::path))),
        media_type: &media_type,
        length: found.length,
    };
    let cloud_id = upload(work, &about, found.into_body()).await;
    // An upload that failed because nothing more came is the link's fault.
    if let Some(trouble) = broke.get() {
        return Err(told(trouble));
    }
    let cloud_id = cloud_id?;
    node.metrics.links_fetched.inc();
    Ok((cloud_id, keep.min(KEEP)))
}

/// What a provider wants to see where this link leads.
async fn credentials(
    node: &Node,
    kind: MediaKind,
    (name, link): (&str, &str),
) -> Result<http::HeaderValue, Unsent> {
    let db = node.db().ok_or_else(|| later(&"no database"))?;
    let row = db.setting(MEDIA_PROVIDERS).await;
    let (_, row) = row.map_err(|error| later(&error.brief()))?;
    let providers: Providers = serde_json::from_str(&row)
        .map_err(|_| later(&"the row of the media providers cannot be read by this release"))?;
    let refused = |why: &str| {
        let why = format!("{}.{why}", kind.as_str());
        Unsent::Never(ErrorObject::new(Code::ParameterNotValid, Some(why)))
    };
    let stored = providers.providers.get(name);
    let stored =
        stored.ok_or_else(|| refused("provider.name is not the name of a media provider"))?;
    let opened = provider::open(&node.keys, name, stored).map_err(|error| {
        seldom!(tracing::error!(%error, name, "the secret of a media provider cannot be opened; messages with it wait until it is sent again"));
        later(&error)
    })?;
    // What counts is what was sealed: whoever can write to the database cannot add a host.
    if !may_go(&opened.hosts, link) {
        return Err(refused("link leads to none of the hosts of its provider"));
    }
    let header = opened.credentials.header();
    header.ok_or_else(|| {
        refused("provider.name names a provider whose credentials no request can carry")
    })
}

/// The upstream refused a message because of a file that it was given before (F14).
pub fn forgotten(given: &Given, status: http::StatusCode, body: &[u8]) -> bool {
    let refused = || serde_json::from_slice::<ErrorAnswer>(body).map(|answer| answer.error);
    !given.kept.is_empty()
        && !status.is_success()
        && refused().is_ok_and(|error| code::names_a_file(&error))
}

/// Drops the upstream's ids of files that it does not know any more: each is given anew when it is needed.
pub async fn forget(node: &Node, work: &Work, kept: &[(Source, String)]) -> Result<(), Unsent> {
    for (source, cloud_id) in kept {
        let dropped = drop_id(node, work, source, Some(cloud_id)).await;
        dropped.map_err(Unsent::Later)?;
    }
    Ok(())
}

/// Drops the upstream's id of a file: this one, or whichever is kept.
async fn drop_id(
    node: &Node,
    work: &Work,
    source: &Source,
    cloud_id: Option<&str>,
) -> Result<(), String> {
    let mut dropped = work.shelf.forget(source);
    if let Source::Id(file) = source {
        let db = node.db().ok_or("no database")?;
        let dropping = db.forget_cloud_medium(&file.0, cloud_id);
        dropped |= node
            .in_turn(dropping)
            .await
            .map_err(|error| error.brief())?;
    }
    if dropped {
        node.metrics.media_forgotten.inc();
    }
    Ok(())
}

/// The upstream said later that it could not use the files of these messages: later ones upload them again. The messages
/// themselves are final.
pub async fn forget_of(node: &Node, work: &Work, messages: &[&str]) -> Result<(), String> {
    if messages.is_empty() {
        return Ok(());
    }
    let db = node.db().ok_or("no database")?;
    let rows = db.rows_of(messages).await;
    for row in rows.map_err(|error| error.brief())?.into_values() {
        // A row that this release cannot read names nothing that could be dropped.
        for source in stored::sources(row.form, &row.payload) {
            drop_id(node, work, &source, None).await?;
        }
    }
    Ok(())
}
