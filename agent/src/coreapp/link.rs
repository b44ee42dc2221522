//! Files behind links: asked for as a browser would, over redirects, never inside this network unless an operator said so.
//! Sends and uploads nothing: `media.rs` does, with what comes out of here.

use std::fmt;
use std::io;
use std::net::IpAddr;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::{Stream, stream};
use headers::authorization::Credentials as _;
use headers::{Authorization, CacheControl, HeaderMapExt as _};
use http::{HeaderMap, HeaderValue, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Body as _, Incoming};
use url::Url;
use wa_core::time::Instant;

use super::upstream::{Upstream, UpstreamError};
use crate::api::v1::media_type::MediaType;
use crate::api::v1::message::media::MediaKind;
use crate::media::ogg;
use crate::net::client::CallError;
use crate::net::public;
use crate::sys::clock;
use crate::sys::dial::Permit;

const REDIRECTS_MAX: usize = 5;
/// For connection and head of one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(10);
/// Without a byte for this long, the file is given up.
const CHUNK_WITHIN: Duration = Duration::from_secs(10);
/// For a whole file, less than for its upload: who is slow is known.
const BODY_WITHIN: Duration = Duration::from_secs(240);
/// A file whose server does not say how long it is, is read into memory: so much of it, in bytes.
const UNMEASURED_MAX: u64 = 16_000_000;
/// How long a file counts as the same where its server does not say.
const KEEP: Duration = Duration::from_secs(600);

/// Which addresses may be called: public ones; for these hosts others, too.
pub fn permit(hosts: Vec<String>) -> Permit {
    Arc::new(move |host: &str, address: IpAddr| {
        let listed = hosts
            .iter()
            .any(|one| one.trim_matches(['[', ']']).eq_ignore_ascii_case(host));
        let what = match listed {
            true => public::never(address),
            false => public::not_public(address),
        };
        what.map_or(Ok(()), |what| Err(what.to_owned()))
    })
}

/// Why a link gives no file.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Trouble {
    /// It will not give one.
    Never(String),
    /// Its server is away, or busy.
    Again(String),
    /// The tenure is over.
    Shut,
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Never(why) | Self::Again(why) => f.write_str(why),
            Self::Shut => f.write_str("the tenure is over"),
        }
    }
}

/// What is asked for.
pub struct Wanted<'a> {
    pub kind: MediaKind,
    pub link: &'a str,
    /// For the link's own origin, and no other.
    pub authorization: Option<HeaderValue>,
    /// The name under which the message sends it.
    pub name: Option<&'a str>,
}

/// A file that has begun to come.
pub struct Found {
    pub media_type: MediaType,
    /// In bytes.
    pub length: u64,
    /// How long the link will stand for this file.
    pub keep: Duration,
    head: Bytes,
    rest: Option<Incoming>,
    /// Without a byte for so long, it is given up.
    patience: Duration,
    /// The rest must have come by then.
    until: Instant,
    /// Why it broke off.
    broke: Arc<OnceLock<Trouble>>,
}

impl Found {
    /// What will be known of why the body broke off, if it does.
    pub fn broke(&self) -> Arc<OnceLock<Trouble>> {
        Arc::clone(&self.broke)
    }

    /// The whole file, of [`Self::length`] bytes.
    pub fn into_body(self) -> impl Stream<Item = io::Result<Bytes>> + Send {
        let (patience, until, broke) = (self.patience, self.until, self.broke);
        let state = (Some(self.head), self.rest, broke);
        stream::unfold(state, move |(head, rest, broke)| async move {
            if let Some(head) = head.filter(|head| !head.is_empty()) {
                return Some((Ok(head), (None, rest, broke)));
            }
            let mut body = rest?;
            let left = until.since(clock::now());
            match next(&mut body, patience.min(left)).await {
                Ok(chunk) => Some((Ok(chunk?), (None, Some(body), broke))),
                Err(trouble) => {
                    let error = io::Error::other(trouble.to_string());
                    let _ = broke.set(trouble);
                    Some((Err(error), (None, None, broke)))
                }
            }
        })
    }
}

/// The next bytes; `None` at the end.
async fn next(body: &mut Incoming, within: Duration) -> Result<Option<Bytes>, Trouble> {
    loop {
        let frame = tokio::time::timeout(within, body.frame()).await;
        let frame = frame.map_err(|_| Trouble::Again("it stopped coming".into()))?;
        match frame {
            None => return Ok(None),
            Some(Err(_)) => return Err(Trouble::Again("it broke off".into())),
            Some(Ok(frame)) => {
                if let Ok(chunk) = frame.into_data() {
                    return Ok(Some(chunk));
                }
            }
        }
    }
}

/// Asks for a file, and reads so much of it that type, length and kind can be judged.
///
/// # Errors
/// [`Trouble`].
pub async fn open(upstream: &Upstream, wanted: &Wanted<'_>) -> Result<Found, Trouble> {
    let (url, answer) = follow(upstream, wanted).await?;
    let (parts, mut body) = answer.into_parts();
    if let Some(encoding) = parts.headers.get(header::CONTENT_ENCODING)
        && encoding != "identity"
    {
        return Err(Trouble::Never(
            "its server sends it compressed, which was not asked for".into(),
        ));
    }
    let mut media_type = type_of(&parts.headers, wanted, &url);
    let announced = body.size_hint().exact();
    judged(wanted.kind, &media_type, announced.unwrap_or(0))?;
    let limit = match announced {
        Some(_) => ogg::HEAD_LEN as u64,
        None => UNMEASURED_MAX.min(wanted.kind.limit()),
    };
    let mut head = BytesMut::new();
    let mut whole = false;
    while !whole && (head.len() as u64) < limit.saturating_add(u64::from(announced.is_none())) {
        match next(&mut body, CHUNK_WITHIN).await? {
            Some(chunk) => head.extend_from_slice(&chunk),
            None => whole = true,
        }
    }
    let length = match announced {
        Some(length) => length,
        None if whole => head.len() as u64,
        None => {
            return Err(Trouble::Never(format!(
                "its server does not say how long it is, and it has more than {limit} bytes"
            )));
        }
    };
    if length == 0 {
        return Err(Trouble::Never("it is empty".into()));
    }
    media_type = refined(wanted.kind, media_type, &head)?;
    judged(wanted.kind, &media_type, length)?;
    Ok(Found {
        media_type,
        length,
        keep: keep(&parts.headers),
        head: head.freeze(),
        rest: (!whole).then_some(body),
        patience: CHUNK_WITHIN,
        until: clock::now() + BODY_WITHIN,
        broke: Arc::default(),
    })
}

fn judged(kind: MediaKind, media_type: &MediaType, bytes: u64) -> Result<(), Trouble> {
    match kind.refusal(media_type.as_str(), bytes) {
        None => Ok(()),
        Some(why) => Err(Trouble::Never(format!("it {why}"))),
    }
}

/// What the beginning of a file adds to its type; a voice message must be one.
fn refined(kind: MediaKind, media_type: MediaType, head: &[u8]) -> Result<MediaType, Trouble> {
    if kind == MediaKind::Voice
        && let Some(why) = ogg::not_voice(head)
    {
        return Err(Trouble::Never(format!("it {why}")));
    }
    match media_type.as_str() == "audio/ogg" && ogg::opus_channels(head).is_some() {
        true => Ok(MediaType::ogg_opus()),
        false => Ok(media_type),
    }
}

/// Asks, and follows redirects; the answer is 200.
async fn follow(
    upstream: &Upstream,
    wanted: &Wanted<'_>,
) -> Result<(Url, http::Response<Incoming>), Trouble> {
    let no_url = || Trouble::Never("it is no URL".into());
    let mut url = Url::parse(wanted.link).map_err(|_| no_url())?;
    let origin = url.origin();
    let mut authorization = wanted.authorization.clone().or_else(|| user_of(&url));
    for _ in 0..=REDIRECTS_MAX {
        let answer = ask(upstream, &mut url, authorization.as_ref()).await?;
        let status = answer.status();
        match status.as_u16() {
            200 => return Ok((url, answer)),
            301 | 302 | 303 | 307 | 308 => {
                let to = redirected(&url, answer.headers())?;
                if to.origin() != origin {
                    // For good: what another server says must not bring them back to where it wants them.
                    authorization = None;
                }
                url = to;
            }
            408 | 425 | 429 | 500.. => return Err(Trouble::Again(answered(status))),
            _ => return Err(Trouble::Never(answered(status))),
        }
    }
    Err(Trouble::Never(format!(
        "it leads over more than {REDIRECTS_MAX} redirects"
    )))
}

fn answered(status: StatusCode) -> String {
    format!("its server answered {}", status.as_u16())
}

/// Credentials that stand in the link itself.
fn user_of(url: &Url) -> Option<HeaderValue> {
    let plain = |part: &str| {
        percent_encoding::percent_decode_str(part)
            .decode_utf8_lossy()
            .into_owned()
    };
    if url.username().is_empty() {
        return None;
    }
    let password = plain(url.password().unwrap_or_default());
    let mut value = Authorization::basic(&plain(url.username()), &password)
        .0
        .encode();
    value.set_sensitive(true);
    Some(value)
}

/// Where a redirect leads.
fn redirected(from: &Url, headers: &HeaderMap) -> Result<Url, Trouble> {
    let location = headers.get(header::LOCATION);
    let location = location.and_then(|value| std::str::from_utf8(value.as_bytes()).ok());
    let to = location.and_then(|location| from.join(location).ok());
    match to {
        Some(to) if !matches!(to.scheme(), "http" | "https") => Err(Trouble::Never(
            "it leads to an address that is not on the web".into(),
        )),
        Some(to) if from.scheme() == "https" && to.scheme() == "http" => Err(Trouble::Never(
            "it leads from https to http, which is not followed".into(),
        )),
        Some(to) => Ok(to),
        None => Err(Trouble::Never("it leads nowhere".into())),
    }
}

/// One request. What no server may see of the URL is taken out of it.
async fn ask(
    upstream: &Upstream,
    url: &mut Url,
    authorization: Option<&HeaderValue>,
) -> Result<http::Response<Incoming>, Trouble> {
    let _ = url.set_username("");
    let _ = url.set_password(None);
    url.set_fragment(None);
    let mut request = Request::get(url.as_str())
        .header(header::ACCEPT, "*/*")
        .header(header::ACCEPT_ENCODING, "identity")
        .header(
            header::USER_AGENT,
            concat!("wa-agent/", env!("CARGO_PKG_VERSION")),
        );
    if let Some(authorization) = authorization {
        request = request.header(header::AUTHORIZATION, authorization);
    }
    let request = request.body(Full::new(Bytes::new()));
    let request = request.map_err(|_| Trouble::Never("it cannot be asked for".into()))?;
    let host = url.host_str().unwrap_or_default();
    let answer = upstream.fetch_link(request, ANSWER_WITHIN).await;
    answer.map_err(|error| match error {
        UpstreamError::Shut => Trouble::Shut,
        UpstreamError::Plain
        | UpstreamError::NoAddress
        | UpstreamError::Elsewhere(_)
        | UpstreamError::Request(_) => {
            Trouble::Never("it cannot be asked for".into())
        }
        // Which address it is, only the log is told: a stranger's link must not map this network.
        UpstreamError::Call(CallError::Forbidden(why)) => {
            tracing::info!(why, "a link leads to an address that is not public; if it is meant to, write its host into [client] link_hosts");
            Trouble::Never(format!("{host} has no address that is public"))
        }
        UpstreamError::Call(CallError::Connect(_)) => {
            Trouble::Again(format!("{host} cannot be reached"))
        }
        UpstreamError::Call(CallError::Broken(_)) => {
            Trouble::Again(format!("the connection to {host} broke off"))
        }
        UpstreamError::Call(CallError::Deadline(_)) => {
            Trouble::Again(format!("{host} did not answer in time"))
        }
    })
}

/// The type that the server says; where it says nothing, that of the ending.
fn type_of(headers: &HeaderMap, wanted: &Wanted<'_>, url: &Url) -> MediaType {
    let said = headers.get(header::CONTENT_TYPE);
    let said = said.and_then(|value| MediaType::parse(value.to_str().ok()?));
    if let Some(said) = said.filter(|said| !said.says_nothing()) {
        return said;
    }
    let first = Url::parse(wanted.link).ok();
    let paths = [first.as_ref(), Some(url)].into_iter().flatten();
    let names = paths.map(Url::path);
    let mut known = wanted
        .name
        .into_iter()
        .chain(names)
        .filter_map(MediaType::of_name);
    known.next().unwrap_or_else(MediaType::unknown)
}

/// How long an answer may be used again (RFC 9111, 4.2).
fn keep(headers: &HeaderMap) -> Duration {
    let Some(control) = headers.typed_get::<CacheControl>() else {
        return KEEP;
    };
    if control.no_store() || control.no_cache() {
        return Duration::ZERO;
    }
    let age = headers.get(header::AGE);
    let age = age.and_then(|value| value.to_str().ok()?.trim().parse().ok());
    let age = Duration::from_secs(age.unwrap_or(0));
    let max = control.max_age();
    max.map_or(KEEP, |max| max.saturating_sub(age))
}

#[cfg(test)]
#[path = "link_tests.rs"]
mod tests;
