//! Deeds: calls that change something at a control port. No secret and no word of them can be read on the way, none can be repeated,
//! and no answer can be forged. This is the side of the node; the caller's is `doer.rs`. Carries nothing out, and knows no verb.
//!
//! Intuition: a row of the node table says where a master is, and whoever can write to the database can plant one. So what is sent to
//! such an address must be worth nothing to who hears it, also when he hands it on to the real master and back.
//! Model: the caller asks for a nonce first, with a challenge. The answer proves that the node knows the cluster key; without that
//! proof nothing more is sent. Then comes the call: its body is sealed, and its head shows a MAC over nonce, method, path, hash of the
//! sealed body and the node's name and start. The answer is sealed, bound to all of that and to its status. One that does not open
//! counts as none.
//! An operator's keys follow from what only machines with the cluster key have. What an administrator asks of a webapp carries the
//! administrator's own token, sealed with the body: the master looks it up itself, so a webapp's key alone does nothing.
//! Only the node reads a clock, its own boot clock.
//! For one nonce there is one sealed answer, ever: whoever is refused before the nonce is used up gets a plain one, which proves
//! nothing. So nobody can be shown a refusal that is proved and have the call done all the same.
//! Rejected: a time stamp in place of the nonce. It needs clocks that agree, and a call could be repeated while it is fresh.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use secrecy::SecretString;
use sha2::{Digest as _, Sha256};
use wa_core::id::{Incarnation, NodeId};
use wa_core::time::Instant;

use super::door;
use super::envelope::{Envelopes, Way};
use super::keys::{Caller, Keys};
use super::nonces::{Nonces, Spent};
use crate::api::control::{ControlError, NonceAnswer, path};
use crate::api::v1::code::Code;
use crate::sys::clock;

/// How the headers of deeds begin whose bodies were not sealed: a release before sent them.
const FORMER: [&str; 2] = ["wa-deed", "wa-asked"];
/// Longest body of a deed, in bytes, with its seal.
const BODY_LEN_MAX: usize = 2 << 20;
/// Longest answer to one, in bytes.
const ANSWER_LEN_MAX: usize = 8 << 20;
/// How long the body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// Longest challenge that is answered, in bytes.
pub const CHALLENGE_LEN_MAX: usize = 64;

/// Why a deed is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "this call came from an older release of wa-agent, whose calls others can read or repeat. They are not taken any more. Nothing \
         was done. Upgrade wa-agent on the machine where it was typed, then type it again"
    )]
    Older,
    #[error("a webapp's key may not do this; use a machine with the cluster key")]
    WebappKey,
    #[error("the cluster key differs")]
    Stranger,
    #[error(
        "the call was made for another start of this node, or took too long. Nothing was done; try again"
    )]
    Stale,
    #[error("this very call came before: it is not done twice")]
    Repeated,
    #[error("too many calls came within 10 s. Nothing was done; try again")]
    Full,
    #[error(
        "the body is not the one that the caller signed. Nothing was done. Something between the two machines changes what is sent"
    )]
    Changed,
    #[error("the body is too long, or did not arrive in time. Nothing was done")]
    Body,
}

impl From<Spent> for Refused {
    fn from(spent: Spent) -> Self {
        match spent {
            Spent::Stale => Self::Stale,
            Spent::Used => Self::Repeated,
            Spent::Full => Self::Full,
        }
    }
}

/// Texts one behind the other, each with its length: no two lists look alike.
fn joined(parts: &[&str]) -> Vec<u8> {
    let mut out = Vec::new();
    for part in parts {
        out.extend_from_slice(&(part.len() as u64).to_le_bytes());
        out.extend_from_slice(part.as_bytes());
    }
    out
}

/// What a node proves itself with.
pub(super) fn vouching(challenge: &str, given: &NonceAnswer) -> Vec<u8> {
    let NonceAnswer {
        node, start, nonce, ..
    } = given;
    joined(&["wa-agent/nonce/2", challenge, node, start, nonce])
}

/// The same, where deeds are not sealed yet.
pub(super) fn vouching_before(challenge: &str, given: &NonceAnswer) -> Vec<u8> {
    let NonceAnswer {
        node, start, nonce, ..
    } = given;
    joined(&["wa-agent/nonce/1", challenge, node, start, nonce])
}

/// How a header begins: `SCHEME NONCE DIGEST MAC`.
pub(super) fn scheme(of: Caller) -> &'static str {
    match of {
        Caller::Operator => "wa-sealed-deed",
        Caller::Administrator => "wa-sealed-asked",
    }
}

/// What a call is bound to.
pub(super) struct Bound<'a> {
    pub of: Caller,
    /// The node's name and start.
    pub target: (&'a str, &'a str),
    pub nonce: &'a str,
    pub method: &'a Method,
    /// With its query.
    pub path: &'a str,
}

impl Bound<'_> {
    fn bytes(&self, more: &str) -> Vec<u8> {
        joined(&[
            "wa-agent/deed/2",
            scheme(self.of),
            self.target.0,
            self.target.1,
            self.nonce,
            self.method.as_str(),
            self.path,
            more,
        ])
    }

    /// What the MAC of the head is over; `digest`: of the sealed body, in hexadecimal.
    pub fn head(&self, digest: &str) -> Vec<u8> {
        self.bytes(&format!("head {digest}"))
    }

    /// What the body is sealed for.
    pub fn asked(&self) -> Vec<u8> {
        self.bytes("asked")
    }

    /// What the answer with this status is sealed for.
    pub fn answered(&self, digest: &str, status: StatusCode) -> Vec<u8> {
        self.bytes(&format!("answered {} {digest}", status.as_u16()))
    }
}

pub(super) fn digest_of(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
}

/// A token and a body in one text.
pub(super) fn with_token(token: &str, body: &[u8]) -> Vec<u8> {
    let len = u32::try_from(token.len()).unwrap_or(u32::MAX);
    [&len.to_le_bytes()[..], token.as_bytes(), body].concat()
}

fn token_of(text: &[u8]) -> Option<(SecretString, Bytes)> {
    let (len, rest) = text.split_first_chunk::<4>()?;
    let len = usize::try_from(u32::from_le_bytes(*len)).ok()?;
    let (token, body) = rest.split_at_checked(len)?;
    let token = std::str::from_utf8(token).ok()?;
    Some((token.to_owned().into(), Bytes::copy_from_slice(body)))
}

/// Seals the one answer to a deed.
pub struct Answering {
    envelopes: Envelopes,
    of: Caller,
    target: (String, String),
    nonce: String,
    method: Method,
    path: String,
    digest: String,
}

impl Answering {
    fn bound(&self) -> Bound<'_> {
        Bound {
            of: self.of,
            target: (&self.target.0, &self.target.1),
            nonce: &self.nonce,
            method: &self.method,
            path: &self.path,
        }
    }

    /// Nobody between can read or change what it becomes.
    pub async fn seal(self, response: Response) -> Response {
        let (mut parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, ANSWER_LEN_MAX).await;
        let bound = self.bound().answered(&self.digest, parts.status);
        let sealed = body.ok().and_then(|body| {
            let sealed = self.envelopes.seal(Way::Answered, &bound, &body);
            sealed.map(Bytes::from)
        });
        let Some(sealed) = sealed else {
            // The caller takes it for no answer: it was done, or it was not.
            return StatusCode::INTERNAL_SERVER_ERROR.into_response();
        };
        parts.headers.remove(header::CONTENT_LENGTH);
        let kind = HeaderValue::from_static("application/octet-stream");
        parts.headers.insert(header::CONTENT_TYPE, kind);
        Response::from_parts(parts, sealed.into())
    }
}

/// A deed that is not done, and the way to say so with a proof, if its nonce is used up.
pub struct Denied {
    pub why: Refused,
    pub answering: Option<Answering>,
}

impl<T: Into<Refused>> From<T> for Denied {
    fn from(why: T) -> Self {
        Self {
            why: why.into(),
            answering: None,
        }
    }
}

/// A control port's side.
pub struct Taker {
    keys: Keys,
    node: String,
    start: String,
    nonces: Nonces,
    /// Those that administrators' calls used: whoever has a webapp's key cannot use up the room of operators.
    asked: Nonces,
}

impl Taker {
    /// Of one start of one node.
    pub fn new(keys: &Keys, node: &NodeId, start: Incarnation) -> Self {
        let nonces = Nonces::default();
        Self {
            keys: keys.clone(),
            node: node.as_str().to_owned(),
            start: start.to_string(),
            asked: nonces.beside(),
            nonces,
        }
    }

    /// Answers whoever asks for a nonce.
    pub fn nonce(&self, challenge: &str) -> NonceAnswer {
        self.nonce_at(clock::now(), challenge)
    }

    fn nonce_at(&self, now: Instant, challenge: &str) -> NonceAnswer {
        let mut given = NonceAnswer {
            node: self.node.clone(),
            start: self.start.clone(),
            nonce: self.nonces.fresh(now),
            proof: String::new(),
            sealed: None,
        };
        let proof = |words: &[u8]| hex::encode(self.keys.vouch(words));
        // A caller of the release before goes on by it, and is told what to upgrade.
        given.proof = proof(&vouching_before(challenge, &given));
        given.sealed = Some(proof(&vouching(challenge, &given)));
        given
    }

    /// The body of a call that an operator made, with the cluster key, and who seals the answer.
    ///
    /// # Errors
    /// [`Denied`]; then nothing is to be done.
    pub async fn operator(&self, request: Request) -> Result<(Bytes, Answering), Denied> {
        self.operator_at(clock::now(), request).await
    }

    async fn operator_at(
        &self,
        now: Instant,
        request: Request,
    ) -> Result<(Bytes, Answering), Denied> {
        let (text, answering) = self.take((now, Caller::Operator), request).await?;
        Ok((text.into(), answering))
    }

    /// The token of the administrator who asked a webapp, the body of its call, and who seals the answer. Whether the token is good is
    /// not known here.
    ///
    /// # Errors
    /// [`Denied`]; then nothing is to be done.
    pub async fn administrator(
        &self,
        request: Request,
    ) -> Result<((SecretString, Bytes), Answering), Denied> {
        let when = (clock::now(), Caller::Administrator);
        let (text, answering) = self.take(when, request).await?;
        match token_of(&text) {
            Some(asked) => Ok((asked, answering)),
            None => Err(Denied {
                why: Refused::Changed,
                answering: Some(answering),
            }),
        }
    }

    async fn take(
        &self,
        (now, of): (Instant, Caller),
        request: Request,
    ) -> Result<(Vec<u8>, Answering), Denied> {
        let (parts, body) = request.into_parts();
        let Some([nonce, digest, mac]) = shown(&parts.headers, scheme(of)) else {
            return Err(self.without(of, &parts.headers).into());
        };
        self.nonces.known(now, nonce)?;
        let path = parts.uri.path_and_query();
        let bound = Bound {
            of,
            target: (&self.node, &self.start),
            nonce,
            method: &parts.method,
            path: path.map_or("", |path| path.as_str()),
        };
        let mac = hex::decode(mac).unwrap_or_default();
        let key = self.keys.deed_key_of(of, &bound.head(digest), &mac);
        let key = key.ok_or(Refused::Stranger)?;
        match of {
            Caller::Operator => self.nonces.spend(now, nonce)?,
            Caller::Administrator => self.asked.spend(now, nonce)?,
        }
        door::known_node(&parts.extensions);
        let answering = Answering {
            envelopes: key.envelopes(nonce),
            of,
            target: (self.node.clone(), self.start.clone()),
            nonce: nonce.to_owned(),
            method: parts.method.clone(),
            path: bound.path.to_owned(),
            digest: digest.to_owned(),
        };
        let read = read(digest, body).await.and_then(|sealed| {
            let opened = answering
                .envelopes
                .open(Way::Asked, &bound.asked(), &sealed);
            opened.ok_or(Refused::Changed)
        });
        match read {
            Ok(text) => Ok((text, answering)),
            Err(why) => Err(Denied {
                why,
                answering: Some(answering),
            }),
        }
    }

    /// Why a call that shows nothing of this sort is refused.
    fn without(&self, of: Caller, headers: &HeaderMap) -> Refused {
        let header = headers.get(header::AUTHORIZATION);
        let header = header.map_or(&b""[..], |value| value.as_bytes());
        let mut former = FORMER.into_iter();
        let former = former.any(|scheme| shown(headers, scheme).is_some());
        match (self.keys.internal_ok(header), of) {
            (true, Caller::Operator) => Refused::WebappKey,
            // Before, that was enough.
            (true, Caller::Administrator) => Refused::Older,
            (false, _) if former || self.keys.operator_ok(header) => Refused::Older,
            (false, _) => Refused::Stranger,
        }
    }
}

/// The body that belongs to a call.
async fn read(digest: &str, body: axum::body::Body) -> Result<Bytes, Refused> {
    let read = tokio::time::timeout(BODY_WITHIN, axum::body::to_bytes(body, BODY_LEN_MAX));
    let Ok(Ok(body)) = read.await else {
        return Err(Refused::Body);
    };
    match digest_of(&body) == digest {
        true => Ok(body),
        false => Err(Refused::Changed),
    }
}

/// A call shows that it is a deed, by whatever right: [`Taker`] looks at it before its body is read.
pub fn carried(headers: &HeaderMap) -> bool {
    let now = [Caller::Operator, Caller::Administrator].map(scheme);
    let mut schemes = now.into_iter().chain(FORMER);
    schemes.any(|scheme| shown(headers, scheme).is_some())
}

/// Whose deed this is, by its head. A call that shows nothing counts as an operator's, and is refused as such.
pub fn caller(headers: &HeaderMap) -> Caller {
    match shown(headers, scheme(Caller::Administrator)) {
        Some(_) => Caller::Administrator,
        None => Caller::Operator,
    }
}

/// Lets only nodes of this cluster and its operators in, before one byte of a body is read; who may look changes nothing.
pub async fn nodes_only(State(keys): State<Keys>, request: Request, next: Next) -> Response {
    let header = request.headers().get("authorization");
    let header = header.map_or(&b""[..], |value| value.as_bytes());
    // Whoever may look may also have the settings read again: nothing changes by it.
    let reads = request.method() == Method::GET || request.uri().path() == path::SETTINGS_CHANGED;
    if keys.internal_ok(header) || keys.operator_ok(header) {
        door::known_node(request.extensions());
        return next.run(request).await;
    }
    // What looks show goes over plain HTTP: who heard it reads, and stays a stranger for the door.
    if reads && keys.look_ok(header) {
        return next.run(request).await;
    }
    // These show what they know before their bodies are read, or have none.
    let nonce = request.method() == Method::GET && request.uri().path() == path::NONCE;
    let deed = request.method() == Method::POST && carried(request.headers());
    if nonce || deed {
        return next.run(request).await;
    }
    let error = ControlError {
        code: Code::AccessDenied.number(),
        message: "the cluster key differs".into(),
        primary: None,
        unknown: false,
    };
    (StatusCode::UNAUTHORIZED, Json(error)).into_response()
}

/// The three words behind a scheme.
fn shown<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<[&'a str; 3]> {
    let text = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let mut words = text.split(' ');
    let (found, nonce, digest, proof) =
        (words.next()?, words.next()?, words.next()?, words.next()?);
    (found == scheme && words.next().is_none()).then_some([nonce, digest, proof])
}

#[cfg(test)]
#[path = "deed_tests.rs"]
mod tests;
