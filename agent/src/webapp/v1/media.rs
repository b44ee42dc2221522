//! `/v1/media`: files in and out, streamed between the client and the shared media directory.
//! Needs no coreapp, but for a file that only the upstream has: every webapp shares the directory, so that a move of a shard is no
//! concern of an upload.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::body::Body;
use axum::extract::{Path, Request, State};
use axum::http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::StreamExt as _;
use http_range_header::{RangeUnsatisfiableError, parse_range_header};

use crate::api::error::{ApiError, ErrorBody};
use crate::api::owner::OwnerCall;
use crate::api::provider;
use crate::api::v1::code::Code;
use crate::api::v1::media::{LEN_MAX, MediaId, UploadAnswer, content_type};
use crate::api::v1::message::Content;
use crate::api::v1::message::media::{MediaKind, Source};
use crate::api::v1::{Meta, MetaOnly};
use crate::db::media::Medium;
use crate::db::setting::MEDIA_PROVIDERS;
use crate::log::seldom;
use crate::media::file::FileError;
use crate::media::{Media, ogg};
use crate::sys::mount::Trouble;
use crate::webapp::answer::{Answer, created, database, ok};
use crate::webapp::state::Webapp;
use crate::webapp::tokens::Caller;
use crate::webapp::uploads::UPLOADS_MAX;

/// A client that sends nothing for this long is not waited for.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
/// The longest that one transfer may take.
pub const TRANSFER_WITHIN: Duration = Duration::from_secs(900);
/// Seconds after which a client may try again.
const RETRY_AFTER_S: u32 = 5;

/// Whether media can be handled now. 1005 is the documented word for a directory that cannot be written.
pub fn usable(media: &Media) -> Result<(), ApiError> {
    if !media.wanted() {
        return Err(ApiError::with(
            Code::NotReady,
            "This installation has no media directory ([media] require = \"none\")",
        ));
    }
    let state = media.state();
    let Some(trouble) = &state.trouble else {
        return Ok(());
    };
    let code = match trouble {
        Trouble::ReadOnly | Trouble::Denied(_) => Code::AccessDenied,
        Trouble::Missing
        | Trouble::NotMounted
        | Trouble::WrongType(_)
        | Trouble::Full(_)
        | Trouble::InodesShort(_)
        | Trouble::Stale
        | Trouble::Hanging(_)
        | Trouble::OtherExport(..)
        | Trouble::Failed(..) => Code::NotReady,
    };
    let details = format!(
        "The media directory cannot be used now ({}); try again",
        trouble.word()
    );
    Err(ApiError::with(code, details)
        .status(503)
        .retry_after(RETRY_AFTER_S))
}

/// What a client is told of a failure of the directory; the cause goes to the log.
fn failed(error: &FileError) -> ApiError {
    let word = match error {
        FileError::TooLong(_) => return too_long(),
        FileError::Hangs => "hanging",
        FileError::Io(error) if error.kind() == std::io::ErrorKind::StorageFull => "full",
        FileError::Io(_) => "failed",
    };
    tracing::warn!(%error, "the media directory failed under a request; answered 1011");
    ApiError::with(
        Code::NotReady,
        format!("The media directory cannot be used now ({word}); try again"),
    )
    .retry_after(RETRY_AFTER_S)
}

fn too_long() -> ApiError {
    ApiError::with(
        Code::InvalidRequest,
        format!("A file may have {LEN_MAX} bytes at most"),
    )
    .status(413)
}

fn unknown() -> ApiError {
    ApiError::with(Code::NotFound, "There is no media with this id")
}

/// Upload a file: the body is the file, `Content-Type` its type. 201 once file and id are stored durably.
#[utoipa::path(post, path = "/v1/media", tag = "media",
    responses((status = 201, body = UploadAnswer), (status = 400, body = ErrorBody), (status = 413, body = ErrorBody),
              (status = 503, body = ErrorBody)))]
pub async fn upload(
    State(webapp): State<Arc<Webapp>>,
    Extension(caller): Extension<Caller>,
    request: Request,
) -> Answer {
    usable(&webapp.media)?;
    let headers = request.headers();
    let mime = content_type(headers.get(header::CONTENT_TYPE).map(HeaderValue::as_bytes))?;
    let announced = headers
        .get(header::CONTENT_LENGTH)
        .and_then(|value| value.to_str().ok()?.parse::<u64>().ok());
    if announced.is_some_and(|length| length > LEN_MAX) {
        return Err(too_long());
    }
    let Some(_place) = webapp.uploads.enter(&caller.username) else {
        return Err(too_many(&webapp, &caller));
    };
    let db = webapp.db()?;
    let id = uuid::Uuid::new_v4().hyphenated().to_string();
    let (bytes, sha256) = receive(&webapp, &id, request.into_body()).await?;
    let medium = Medium {
        id: id.clone(),
        mime: mime.as_str().to_owned(),
        bytes,
        sha256,
    };
    if let Err(error) = db.add_medium(&medium).await {
        // Nobody knows its id: the file is of no use to anyone.
        let _ = webapp.files.delete(&id).await;
        return Err(database(&error));
    }
    webapp.metrics.media_uploads.inc();
    Ok(created(&UploadAnswer {
        media: vec![MediaId { id }],
        meta: Meta::default(),
    }))
}

/// Refuses an upload for which its user has no place.
fn too_many(webapp: &Webapp, caller: &Caller) -> ApiError {
    webapp.metrics.uploads_refused.inc();
    let user = &caller.username;
    seldom!(tracing::warn!(
        %user,
        all = UPLOADS_MAX,
        "a user has as many uploads at once as are free; one more was answered 503. Let its client send fewer files at once, or send \
         some through another webapp"
    ));
    ApiError::with(Code::Overloaded, "Too many uploads at once; try again")
}

async fn receive(webapp: &Webapp, id: &str, body: Body) -> Result<(u64, String), ApiError> {
    let created = webapp.files.create(id, LEN_MAX).await;
    let mut upload = created.map_err(|error| failed(&error))?;
    let mut chunks = body.into_data_stream();
    let mut empty = true;
    loop {
        match tokio::time::timeout(CHUNK_WITHIN, chunks.next()).await {
            Ok(Some(Ok(chunk))) => {
                empty &= chunk.is_empty();
                let written = upload.write(chunk).await;
                written.map_err(|error| failed(&error))?;
            }
            Ok(Some(Err(_))) => {
                return Err(ApiError::with(Code::InvalidRequest, "The body broke off"));
            }
            Ok(None) => break,
            Err(_) => {
                return Err(
                    ApiError::with(Code::InvalidRequest, "The body took too long").status(408),
                );
            }
        }
    }
    if empty {
        return Err(ApiError::with(
            Code::ParameterMissing,
            "The body, which must be the file",
        ));
    }
    upload.finish().await.map_err(|error| failed(&error))
}

/// The part of a file that is asked for.
enum Part {
    Whole,
    /// From byte to byte, both of them included.
    Of(u64, u64),
    /// Behind its end.
    Nothing,
}

impl Part {
    /// What `Range` asks for. A header that cannot be read, and several parts at once, are answered with the whole file, as
    /// RFC 9110 allows; so is `If-Range`, since files have no tags here.
    fn of(headers: &HeaderMap, length: u64) -> Self {
        let asked = headers.get(header::RANGE).and_then(|v| v.to_str().ok());
        let Some(asked) = asked.filter(|_| !headers.contains_key(header::IF_RANGE)) else {
            return Self::Whole;
        };
        let Ok(ranges) = parse_range_header(asked) else {
            return Self::Whole;
        };
        match ranges.validate(length).as_deref() {
            Ok([part]) => Self::Of(*part.start(), *part.end()),
            Ok(_) => Self::Whole,
            Err(RangeUnsatisfiableError::Unsatisfiable) => Self::Nothing,
            Err(_) => Self::Whole,
        }
    }
}

/// The bytes of a file, or of the part that the header `Range` names. A customer's file that was told as `undownloaded` is fetched from
/// WhatsApp first, which has it for seven days. 503: it is still on its way, or nobody can fetch it now.
///
/// Differs from the reference: `undownloaded` files have an id and can be asked for, because WhatsApp still has them.
#[utoipa::path(get, path = "/v1/media/{id}", tag = "media", params(("id" = String, Path), ("range" = Option<String>, Header)),
    responses((status = 200, content_type = "application/octet-stream"), (status = 206, content_type = "application/octet-stream"),
              (status = 404, body = ErrorBody), (status = 416, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn download(
    State(webapp): State<Arc<Webapp>>,
    Path(id): Path<String>,
    asked: HeaderMap,
) -> Answer {
    let medium = fetched(&webapp, &id).await?;
    let opened = webapp.files.open(&medium.id).await;
    let mut reader = opened
        .map_err(|error| failed(&error))?
        .ok_or_else(unknown)?;
    let whole = reader.length();
    let (mut length, mut part) = (whole, None);
    match Part::of(&asked, whole) {
        Part::Whole => {}
        Part::Of(first, last) => {
            length = last - first + 1;
            let gone = reader.part(first, length).await;
            gone.map_err(|error| failed(&error))?;
            part = Some(format!("bytes {first}-{last}/{whole}"));
        }
        Part::Nothing => return Ok(behind_the_end(whole)),
    }
    let mut response = Response::new(Body::from_stream(reader.into_stream()));
    if let Some(part) = part {
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
        let value = HeaderValue::try_from(part).expect("digits and signs");
        response.headers_mut().insert(header::CONTENT_RANGE, value);
    }
    let headers = response.headers_mut();
    let mime = HeaderValue::from_str(&medium.mime)
        .unwrap_or(HeaderValue::from_static("application/octet-stream"));
    headers.insert(header::CONTENT_TYPE, mime);
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(length));
    // A customer's file is not a page of this server.
    for (name, value) in [
        ("accept-ranges", "bytes"),
        ("x-content-type-options", "nosniff"),
        ("content-disposition", "attachment"),
    ] {
        headers.insert(
            HeaderName::from_static(name),
            HeaderValue::from_static(value),
        );
    }
    Ok(response)
}

/// 416: the part that was asked for begins behind the end.
fn behind_the_end(length: u64) -> Response {
    let details = format!("Range begins behind the end: the file has {length} bytes");
    let mut response = ApiError::invalid(details).status(416).into_response();
    let value = HeaderValue::try_from(format!("bytes */{length}")).expect("digits and signs");
    response.headers_mut().insert(header::CONTENT_RANGE, value);
    response
}

/// Delete a file. One that only WhatsApp has is forgotten.
#[utoipa::path(delete, path = "/v1/media/{id}", tag = "media", params(("id" = String, Path)),
    responses((status = 200, body = MetaOnly), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn delete(State(webapp): State<Arc<Webapp>>, Path(id): Path<String>) -> Answer {
    let id = match find(&webapp, &id).await? {
        Place::Here(medium) => medium.id,
        Place::Upstream(id) => id,
    };
    // The file first: a row without a file is answered 404, a file without a row would stay for ever.
    let deleted = webapp.files.delete(&id).await;
    deleted.map_err(|error| failed(&error))?;
    let removed = webapp.db()?.remove_medium(&id).await;
    removed.map_err(|error| database(&error))?;
    Ok(ok(&MetaOnly::default()))
}

/// Where a file is.
enum Place {
    Here(Medium),
    /// A customer's, which was not fetched: our id of it.
    Upstream(String),
}

/// A file, wherever it is. Where it is here, nothing more is asked for.
async fn find(webapp: &Webapp, id: &str) -> Result<Place, ApiError> {
    usable(&webapp.media)?;
    let id = uuid::Uuid::try_parse(id).map_err(|_| unknown())?;
    let (id, db) = (id.hyphenated().to_string(), webapp.db()?);
    let found = db.use_medium(&id).await;
    if let Some(medium) = found.map_err(|error| database(&error))? {
        return Ok(Place::Here(medium));
    }
    let remote = db.remote_medium(&id).await;
    match remote.map_err(|error| database(&error))? {
        Some(_) => Ok(Place::Upstream(id)),
        None => Err(unknown()),
    }
}

/// A file that is here, or is here now.
async fn fetched(webapp: &Webapp, id: &str) -> Result<Medium, ApiError> {
    let id = match find(webapp, id).await? {
        Place::Here(medium) => return Ok(medium),
        Place::Upstream(id) => id,
    };
    let call = OwnerCall::FetchMedium { id: id.clone() };
    webapp.owners.ask(call).await?;
    let found = webapp.db()?.use_medium(&id).await;
    found.map_err(|error| database(&error))?.ok_or_else(unknown)
}

/// A file that a message names.
async fn named(webapp: &Webapp, id: &str) -> Result<Medium, ApiError> {
    match find(webapp, id).await? {
        Place::Here(medium) => Ok(medium),
        Place::Upstream(id) => Err(ApiError::with(
            Code::NotFound,
            format!("WhatsApp still has this file: GET /v1/media/{id} fetches it, then send it"),
        )),
    }
}

/// Whether a message's attachment can be sent: known here, of a type and length that its kind may have.
pub async fn check(webapp: &Webapp, content: &Content) -> Result<(), ApiError> {
    for (kind, source) in content.sources() {
        match source {
            Source::Id(file) => {
                let medium = named(webapp, &file.0).await?;
                kind.check(&medium.mime, medium.bytes)?;
                if kind == MediaKind::Voice {
                    voice(webapp, &medium).await?;
                }
            }
            Source::Link(_) => {}
            Source::Provided { link, provider } => {
                known_provider(webapp, kind, (provider, link)).await?;
            }
        }
    }
    Ok(())
}

/// A voice message is Opus of one channel in Ogg, whatever its type says.
async fn voice(webapp: &Webapp, medium: &Medium) -> Result<(), ApiError> {
    let opened = webapp.files.open(&medium.id).await;
    let mut reader = opened
        .map_err(|error| failed(&error))?
        .ok_or_else(unknown)?;
    let head = reader.next().await.map_err(|error| failed(&error))?;
    match ogg::not_voice(&head.unwrap_or_default()) {
        None => Ok(()),
        Some(why) => Err(ApiError::invalid(format!("voice.id {why}"))),
    }
}

/// A message names a provider that is there, and a link that gets its credentials. A row or a provider that cannot be read
/// here says nothing: the owner decides.
async fn known_provider(
    webapp: &Webapp,
    kind: MediaKind,
    (name, link): (&str, &str),
) -> Result<(), ApiError> {
    let row = webapp.db()?.setting(MEDIA_PROVIDERS).await;
    let (_, row) = row.map_err(|error| database(&error))?;
    let Some(known) = provider::shown(&row) else {
        return Ok(());
    };
    let kind = kind.as_str();
    match known.get(name) {
        None => Err(ApiError::invalid(format!(
            "{kind}.provider.name is not the name of a media provider"
        ))),
        Some(Some(shown)) if !provider::may_go(&shown.hosts, link) => Err(ApiError::invalid(
            format!("{kind}.link leads to none of the hosts of its provider"),
        )),
        Some(_) => Ok(()),
    }
}

#[cfg(test)]
#[path = "media_range_tests.rs"]
mod range_tests;
