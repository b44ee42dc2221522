//! Deeds: calls that change something at a control port. No secret travels with them, and none can be repeated.
//! Carries nothing out, and knows no verb.
//!
//! Intuition: a row of the node table says where a master is, and whoever can write to the database can plant one. So what is sent to
//! such an address must be worth nothing to who hears it.
//! Model: the caller asks for a nonce first, with a challenge. The answer proves that the node knows the cluster key; without that
//! proof nothing more is sent. Then comes the call, with a MAC over nonce, method, path, hash of the body and the node's name and start.
//! An operator's MAC is under a key that only machines with the cluster key have. What an administrator asks of a webapp carries the
//! administrator's own token, sealed for this very call: the master looks it up itself, so a webapp's key alone does nothing.
//! Only the node reads a clock, its own boot clock.
//! Rejected: a time stamp in place of the nonce. It needs clocks that agree, and a call could be repeated while it is fresh.

use std::time::Duration;

use axum::Json;
use axum::extract::{Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use http::request::Parts;
use http::{HeaderMap, Method, StatusCode, header};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::{Digest as _, Sha256};
use wa_core::id::{Incarnation, NodeId};
use wa_core::time::Instant;

use super::client::{CallError, InternalClient};
use super::door;
use super::keys::Keys;
use super::nonces::{Nonces, Spent};
use super::seal::{Place, Seal, SealError};
use crate::api::control::{ControlError, NonceAnswer, path};
use crate::api::v1::code::Code;
use crate::sys::clock;
use crate::sys::state::random_u64;

/// How a header with an operator's MAC begins: `wa-deed NONCE DIGEST MAC`.
const OPERATOR: &str = "wa-deed";
/// How a header with an administrator's token begins: `wa-asked NONCE DIGEST SEALED`.
const ADMINISTRATOR: &str = "wa-asked";
/// Longest body of a deed, in bytes.
const BODY_LEN_MAX: usize = 2 << 20;
/// How long the body may take to arrive.
const BODY_WITHIN: Duration = Duration::from_secs(5);
/// How long a node may take to give a nonce.
const NONCE_WITHIN: Duration = Duration::from_secs(2);
/// Longest challenge that is answered, in bytes.
pub const CHALLENGE_LEN_MAX: usize = 64;

/// Why a deed is not done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refused {
    #[error(
        "this call came from an older release of wa-agent, which shows a secret that is not taken any more. Nothing was done. Upgrade \
         wa-agent on the machine where it was typed, then type it again"
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
fn vouching(challenge: &str, node: &str, start: &str, nonce: &str) -> Vec<u8> {
    joined(&["wa-agent/nonce/1", challenge, node, start, nonce])
}

/// What a call is bound to.
struct Bound<'a> {
    /// The node's name and start.
    target: (&'a str, &'a str),
    nonce: &'a str,
    method: &'a Method,
    /// With its query.
    path: &'a str,
    /// Of the body, in hexadecimal.
    digest: &'a str,
}

impl Bound<'_> {
    fn bytes(&self) -> Vec<u8> {
        joined(&[
            "wa-agent/deed/1",
            self.target.0,
            self.target.1,
            self.nonce,
            self.method.as_str(),
            self.path,
            self.digest,
        ])
    }

    /// The same, as the place that an administrator's token is sealed for.
    fn row(&self) -> String {
        hex::encode(Sha256::digest(self.bytes()))
    }
}

fn place(row: &str) -> Place<'_> {
    Place {
        table: "deed",
        row,
        field: "token",
    }
}

fn digest_of(body: &[u8]) -> String {
    hex::encode(Sha256::digest(body))
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
        let nonce = self.nonces.fresh(now);
        let words = vouching(challenge, &self.node, &self.start, &nonce);
        NonceAnswer {
            node: self.node.clone(),
            start: self.start.clone(),
            proof: hex::encode(self.keys.vouch(&words)),
            nonce,
        }
    }

    /// The body of a call that an operator made, with the cluster key.
    ///
    /// # Errors
    /// [`Refused`]; then nothing is to be done.
    pub async fn operator(&self, request: Request) -> Result<Bytes, Refused> {
        self.operator_at(clock::now(), request).await
    }

    async fn operator_at(&self, now: Instant, request: Request) -> Result<Bytes, Refused> {
        let (parts, body) = request.into_parts();
        let Some([nonce, digest, mac]) = shown(&parts.headers, OPERATOR) else {
            return Err(self.without(&parts.headers, Refused::WebappKey));
        };
        self.nonces.known(now, nonce)?;
        let bound = self.bound(&parts, nonce, digest);
        let mac = hex::decode(mac).unwrap_or_default();
        if !self.keys.deed_ok(&bound.bytes(), &mac) {
            return Err(Refused::Stranger);
        }
        door::known_node(&parts.extensions);
        self.nonces.spend(now, nonce)?;
        read(digest, body).await
    }

    /// The token of the administrator who asked a webapp, and the body of its call. Whether the token is good is not known here.
    ///
    /// # Errors
    /// [`Refused`]; then nothing is to be done.
    pub async fn administrator(&self, request: Request) -> Result<(SecretString, Bytes), Refused> {
        let (parts, body) = request.into_parts();
        let Some([nonce, digest, sealed]) = shown(&parts.headers, ADMINISTRATOR) else {
            return Err(self.without(&parts.headers, Refused::Older));
        };
        let now = clock::now();
        self.nonces.known(now, nonce)?;
        let row = self.bound(&parts, nonce, digest).row();
        let token = self.keys.open(Seal::Webapp, &place(&row), sealed);
        let token = token.map_err(|_| Refused::Stranger)?;
        let token = String::from_utf8(token.expose_secret().clone());
        let token = token.map_err(|_| Refused::Stranger)?;
        door::known_node(&parts.extensions);
        self.asked.spend(now, nonce)?;
        let body = read(digest, body).await?;
        Ok((token.into(), body))
    }

    fn bound<'a>(&'a self, parts: &'a Parts, nonce: &'a str, digest: &'a str) -> Bound<'a> {
        let path = parts.uri.path_and_query();
        Bound {
            target: (&self.node, &self.start),
            nonce,
            method: &parts.method,
            path: path.map_or("", |path| path.as_str()),
            digest,
        }
    }

    /// Why a call that shows nothing of this sort is refused; `webapp`: one with the credential of calls between nodes.
    fn without(&self, headers: &HeaderMap, webapp: Refused) -> Refused {
        let header = headers.get(header::AUTHORIZATION);
        let header = header.map_or(&b""[..], |value| value.as_bytes());
        if self.keys.operator_ok(header) {
            Refused::Older
        } else if self.keys.internal_ok(header) {
            webapp
        } else {
            Refused::Stranger
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
    let mut schemes = [OPERATOR, ADMINISTRATOR].into_iter();
    schemes.any(|scheme| shown(headers, scheme).is_some())
}

/// Lets only nodes of this cluster and its operators in, before one byte of a body is read.
pub async fn nodes_only(State(keys): State<Keys>, request: Request, next: Next) -> Response {
    let header = request.headers().get("authorization");
    let header = header.map_or(&b""[..], |value| value.as_bytes());
    if keys.internal_ok(header) || keys.operator_ok(header) {
        door::known_node(request.extensions());
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

/// Why a deed came to nothing before it was answered.
#[derive(Debug, thiserror::Error)]
pub enum DeedError {
    #[error(transparent)]
    Call(#[from] CallError),
    #[error(
        "the master at {0} is of an older release, which asks for a secret that this release does not send. Nothing was done. Upgrade \
         that machine first, then type this again"
    )]
    Older(String),
    #[error(
        "what answers at {0} does not know the cluster key: it is no master of this cluster, or has another key. It was told nothing. \
         If its row in the node table is wrong, type: wa-agent forget NODE"
    )]
    Stranger(String),
    #[error("{at} is {says}, and {wanted} was meant; nothing was done")]
    Other {
        at: String,
        wanted: String,
        says: String,
    },
    #[error(
        "a webapp's part of the cluster key may not do this; use a machine with the cluster key"
    )]
    WebappKey,
    #[error(transparent)]
    Seal(#[from] SealError),
}

/// Where a deed goes: the base URL, and who is meant, where that is known.
#[derive(Debug, Clone, Copy)]
pub struct At<'a> {
    pub base: &'a str,
    pub node: Option<&'a str>,
}

/// The caller's side.
#[derive(Clone)]
pub struct Doer {
    client: InternalClient,
    keys: Keys,
}

impl Doer {
    /// With the keys as they are at each call.
    pub fn new(keys: &Keys) -> Self {
        Self {
            client: InternalClient::of_node(keys),
            keys: keys.clone(),
        }
    }

    /// An operator's POST.
    ///
    /// # Errors
    /// [`DeedError`]; an HTTP error status is an answer.
    pub async fn operator(
        &self,
        at: At<'_>,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), DeedError> {
        self.go(at, path, body, within, |bound| {
            let mac = self.keys.deed_mac(&bound.bytes());
            let mac = mac.ok_or(DeedError::WebappKey)?;
            Ok((OPERATOR, hex::encode(mac)))
        })
        .await
    }

    /// A webapp's POST for an administrator with this token.
    ///
    /// # Errors
    /// As [`Self::operator`].
    pub async fn administrator(
        &self,
        at: At<'_>,
        path: &str,
        (body, token): (Vec<u8>, &SecretString),
        within: Duration,
    ) -> Result<(StatusCode, Bytes), DeedError> {
        self.go(at, path, body, within, |bound| {
            let row = bound.row();
            let token = token.expose_secret().as_bytes();
            let sealed = self.keys.seal(Seal::Webapp, &place(&row), token)?;
            Ok((ADMINISTRATOR, sealed))
        })
        .await
    }

    async fn go(
        &self,
        at: At<'_>,
        path: &str,
        body: Vec<u8>,
        within: Duration,
        prove: impl Fn(&Bound<'_>) -> Result<(&'static str, String), DeedError>,
    ) -> Result<(StatusCode, Bytes), DeedError> {
        let given = self.ask(at, within.min(NONCE_WITHIN)).await?;
        let digest = digest_of(&body);
        let bound = Bound {
            target: (&given.node, &given.start),
            nonce: &given.nonce,
            method: &Method::POST,
            path,
            digest: &digest,
        };
        let (scheme, proof) = prove(&bound)?;
        let header = format!("{scheme} {} {digest} {proof}", given.nonce);
        let url = format!("{}{path}", at.base);
        let call = self
            .client
            .show(Method::POST, &url, Some(&header), body, within);
        Ok(call.await?)
    }

    /// A nonce of the node that is meant.
    async fn ask(&self, at: At<'_>, within: Duration) -> Result<NonceAnswer, DeedError> {
        let challenge = format!("{:016x}{:016x}", random_u64(), random_u64());
        let url = format!("{}{}?challenge={challenge}", at.base, path::NONCE);
        let call = self
            .client
            .show(Method::GET, &url, None, Vec::new(), within);
        let (status, body) = call.await?;
        let base = at.base.to_owned();
        if matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED) {
            return Err(DeedError::Older(base));
        }
        let given: Option<NonceAnswer> = serde_json::from_slice(&body).ok();
        let Some(given) = given.filter(|_| status.is_success()) else {
            return Err(DeedError::Stranger(base));
        };
        let words = vouching(&challenge, &given.node, &given.start, &given.nonce);
        let proof = hex::decode(&given.proof).unwrap_or_default();
        if !self.keys.vouched(&words, &proof) {
            return Err(DeedError::Stranger(base));
        }
        match at.node {
            Some(wanted) if wanted != given.node => Err(DeedError::Other {
                at: base,
                wanted: wanted.to_owned(),
                says: given.node,
            }),
            Some(_) | None => Ok(given),
        }
    }
}

#[cfg(test)]
#[path = "deed_tests.rs"]
mod tests;
