//! The caller's side of deeds (`deed.rs`): asks for a nonce, seals what is asked, and takes no answer that does not open.
//! Knows no verb, and tries nothing twice.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use secrecy::{ExposeSecret as _, SecretString};
use zeroize::Zeroizing;

use super::client::{CallError, InternalClient};
use super::deed::{Bound, digest_of, scheme, vouching, vouching_before, with_token};
use super::envelope::Way;
use super::keys::{Caller, Keys};
use super::seal::SealError;
use crate::api::control::{ControlError, NonceAnswer, path};
use crate::sys::state::random_u64;

/// How long a node may take to give a nonce.
pub const NONCE_WITHIN: Duration = Duration::from_secs(2);
/// Longest words of an answer without a proof that are shown, in characters.
const SAID_LEN_MAX: usize = 300;

/// Why a deed came to nothing, or nobody knows what came of it.
#[derive(Debug, thiserror::Error)]
pub enum DeedError {
    /// No nonce came: nothing was sent.
    #[error("nothing answers at {at} ({why}). Nothing was done")]
    Silent { at: String, why: CallError },
    /// The call was sent, and no answer came.
    #[error(
        "the call was sent to {at}, and no answer came ({why}). Whether it was done is not known. See wa-agent status, wa-agent audit, \
         and the journal of that master; then type it again if it is missing"
    )]
    Call { at: String, why: CallError },
    #[error(
        "the master at {0} is of an older release, which cannot read what this release sends. Nothing was done. Upgrade that machine \
         first, then type this again"
    )]
    Older(String),
    /// A web server, or a master of a release before there were deeds.
    #[error(
        "what answers at {at} gives no nonce (HTTP {status}): it is a master of an older release, or no master. Nothing was done. \
         Upgrade that machine first; if its row in the node table is wrong, type: wa-agent forget NODE"
    )]
    NoNonce { at: String, status: StatusCode },
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
    /// Who refuses a call before its nonce is used up proves nothing by that. So does whoever stands between: he can have let the call
    /// through all the same. And a node that cannot seal what it has to say of a call that it did.
    #[error(
        "{at} answered {status} without a proof that a master of this cluster said so{said}. Whether the call was done is not known. \
         See wa-agent status, wa-agent audit, and the journal of that master; then type it again if it is missing"
    )]
    Unproved {
        at: String,
        status: StatusCode,
        said: String,
    },
    #[error(
        "the answer of {0} was changed on the way, or is not the master's: it does not open. Whether the call was done is not known. \
         See wa-agent status and wa-agent audit, then who stands between this machine and that address"
    )]
    Changed(String),
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

/// A nonce, and where it is good.
pub struct Given {
    base: String,
    answer: NonceAnswer,
}

impl Given {
    /// The base URL of who gave it.
    pub fn base(&self) -> &str {
        &self.base
    }
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
            client: InternalClient::of_looks(keys),
            keys: keys.clone(),
        }
    }

    /// An operator's POST.
    ///
    /// # Errors
    /// [`DeedError`]; an HTTP error status that is proved is an answer.
    pub async fn operator(
        &self,
        at: At<'_>,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), DeedError> {
        let given = self.ask(at, within.min(NONCE_WITHIN)).await?;
        self.with(&given, path, body, within).await
    }

    /// The same with a nonce that is there already.
    ///
    /// # Errors
    /// As [`Self::operator`].
    pub async fn with(
        &self,
        given: &Given,
        path: &str,
        body: Vec<u8>,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), DeedError> {
        self.go(given, (Caller::Operator, path), &body, within)
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
        let given = self.ask(at, within.min(NONCE_WITHIN)).await?;
        let text = Zeroizing::new(with_token(token.expose_secret(), &body));
        self.go(&given, (Caller::Administrator, path), &text, within)
            .await
    }

    async fn go(
        &self,
        given: &Given,
        (of, path): (Caller, &str),
        text: &[u8],
        within: Duration,
    ) -> Result<(StatusCode, Bytes), DeedError> {
        let Given { base, answer } = given;
        let key = self.keys.deed_key(of).ok_or(match of {
            Caller::Operator => DeedError::WebappKey,
            Caller::Administrator => DeedError::Seal(SealError::OlderPart),
        })?;
        let bound = Bound {
            of,
            target: (&answer.node, &answer.start),
            nonce: &answer.nonce,
            method: &Method::POST,
            path,
        };
        let envelopes = key.envelopes(&answer.nonce);
        let sealed = envelopes.seal(Way::Asked, &bound.asked(), text);
        let sealed = sealed.ok_or(SealError::NoRandom)?;
        let digest = digest_of(&sealed);
        let mac = hex::encode(key.mac(&bound.head(&digest)));
        let header = format!("{} {} {digest} {mac}", scheme(of), answer.nonce);
        let url = format!("{base}{path}");
        let call = self
            .client
            .show(Method::POST, &url, Some(&header), sealed, within);
        let (status, body) = call.await.map_err(|why| DeedError::Call {
            at: base.clone(),
            why,
        })?;
        let bound = bound.answered(&digest, status);
        match envelopes.open(Way::Answered, &bound, &body) {
            Some(answer) => Ok((status, answer.into())),
            None => Err(unproved(base, status, &body)),
        }
    }

    /// A nonce of the node that is meant.
    ///
    /// # Errors
    /// [`DeedError`]; nothing was said.
    pub async fn ask(&self, at: At<'_>, within: Duration) -> Result<Given, DeedError> {
        let challenge = format!("{:016x}{:016x}", random_u64(), random_u64());
        let url = format!("{}{}?challenge={challenge}", at.base, path::NONCE);
        let call = self
            .client
            .show(Method::GET, &url, None, Vec::new(), within);
        let base = at.base.to_owned();
        let (status, body) = call.await.map_err(|why| DeedError::Silent {
            at: base.clone(),
            why,
        })?;
        if !status.is_success() {
            return Err(DeedError::NoNonce { at: base, status });
        }
        let Ok(answer) = serde_json::from_slice::<NonceAnswer>(&body) else {
            return Err(DeedError::Stranger(base));
        };
        let shows = |proof: &str, words: Vec<u8>| {
            let proof = hex::decode(proof).unwrap_or_default();
            self.keys.vouched(&words, &proof)
        };
        let sealed = answer.sealed.as_deref().unwrap_or_default();
        if !shows(sealed, vouching(&challenge, &answer)) {
            // Whoever stands between can make it look older, and learns nothing by that.
            return Err(
                match shows(&answer.proof, vouching_before(&challenge, &answer)) {
                    true => DeedError::Older(base),
                    false => DeedError::Stranger(base),
                },
            );
        }
        match at.node {
            Some(wanted) if wanted != answer.node => Err(DeedError::Other {
                at: base,
                wanted: wanted.to_owned(),
                says: answer.node,
            }),
            Some(_) | None => Ok(Given { base, answer }),
        }
    }
}

/// What an answer is that does not open: a refusal in words, which anybody can write, or rubbish.
fn unproved(base: &str, status: StatusCode, body: &[u8]) -> DeedError {
    let at = base.to_owned();
    let said: Option<ControlError> = serde_json::from_slice(body).ok();
    if said.is_none() && status.is_success() {
        return DeedError::Changed(at);
    }
    let plain = |c: char| if c.is_control() { '?' } else { c };
    let said = said.map_or_else(String::new, |said| {
        let words: String = said.message.chars().take(SAID_LEN_MAX).map(plain).collect();
        format!(" ({words})")
    });
    DeedError::Unproved { at, status, said }
}
