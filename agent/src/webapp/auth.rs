//! Who may call, and who is calling: bearer tokens, the API key, a login's name and password, the upstream's signature.
//! A token that is known is asked again within a second.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::ConnectInfo;
use axum::http::{Extensions, HeaderMap, header};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use secrecy::ExposeSecret as _;
use subtle::ConstantTimeEq as _;

use super::answer::database;
use super::state::Webapp;
use super::tokens::{Caller, Known, Token, token_hash};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::config::Settings;
use crate::db::DbError;
use crate::db::token::Holder;
use crate::log::seldom;
use crate::net::client_certificate::ClientNames;
use crate::net::source;
use crate::sys::clock;

/// The database has this long to know a token.
const ASK_TIMEOUT: Duration = Duration::from_secs(2);
/// That a token is used is written down once in this time.
const USED_EVERY_MS: u64 = 60_000;

/// Who a token stands for: asked again within a second; while the database is away, as it was known, for a while.
///
/// # Errors
/// 1005 with 401 for a token that is not good, or not any more; what the database failed with.
pub async fn caller(webapp: &Webapp, token: &str) -> Result<Caller, ApiError> {
    let hash: Arc<str> = token_hash(token).into();
    let seen = webapp.tokens.known(&hash);
    let now = clock::now();
    if let Some(known) = seen.as_ref().filter(|known| known.fresh(now)) {
        return Ok(known.caller.clone());
    }
    let asked = ask(webapp, &hash).await;
    match (asked, seen) {
        (Ok(Some(holder)), _) => {
            let caller = Caller {
                username: holder.username.into(),
                admin: holder.admin,
                token_hash: Arc::clone(&hash),
            };
            let left = Duration::from_millis(holder.left_ms);
            let known = Known::of(caller.clone(), now, left);
            if holder.unused_ms >= USED_EVERY_MS {
                write_down_use(webapp, &hash);
            }
            webapp.tokens.keep(hash, known);
            Ok(caller)
        }
        (Ok(None), _) => {
            webapp.tokens.forget(&hash);
            Err(ApiError::unauthorized(
                "The token is not valid or has expired",
            ))
        }
        (Err(error), seen) => {
            let known = seen.and_then(|known| known.unanswered(clock::now()));
            let known = known.ok_or(error)?;
            webapp.tokens.keep(hash, known.clone());
            Ok(known.caller)
        }
    }
}

/// Writes down that a token is used, behind the request: nobody waits for it, and a failure is made up for by the next use.
fn write_down_use(webapp: &Webapp, hash: &Arc<str>) {
    let Ok(db) = webapp.db() else { return };
    let hash = Arc::clone(hash);
    tokio::spawn(async move {
        let written = tokio::time::timeout(ASK_TIMEOUT, db.token_used(&hash)).await;
        if !matches!(written, Ok(Ok(()))) {
            tracing::debug!("the use of a token was not written down");
        }
    });
}

/// The token's user as the database knows it. A database that hangs counts as one that is away.
async fn ask(webapp: &Webapp, hash: &str) -> Result<Option<Holder>, ApiError> {
    let db = webapp.db()?;
    match tokio::time::timeout(ASK_TIMEOUT, db.token_user(hash)).await {
        Ok(found) => found.map_err(|error| database(&error)),
        Err(_) => Err(database(&DbError::Deadline(ASK_TIMEOUT))),
    }
}

/// The words after a scheme in `Authorization`.
pub(super) fn credentials<'a>(headers: &'a HeaderMap, scheme: &str) -> Option<&'a str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (found, rest) = value.split_once(' ')?;
    found.eq_ignore_ascii_case(scheme).then_some(rest.trim())
}

/// Who may make a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Access {
    /// Everybody.
    Open,
    /// Whoever shows a name and a password, which the handler checks.
    Basic,
    /// Any user who is logged in.
    User,
    /// The administrator.
    Admin,
    /// Any user who is logged in, and the holder of the API key.
    Monitor,
    /// The upstream: the handler checks its signature against the body.
    Signed,
}

impl Access {
    /// Its name, for people.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Basic => "basic",
            Self::User => "user",
            Self::Admin => "admin",
            Self::Monitor => "monitor",
            Self::Signed => "signed",
        }
    }
}

/// Lets a request in, before one byte of its body is read, and leaves with it who is calling: [`Caller`] (with [`Token`], of an administrator), [`Basic`] or
/// [`Signature`].
///
/// # Errors
/// 1005 with 401 without credentials that are good, with 403 for who may not do this; what the database failed with.
pub async fn admit(
    webapp: &Webapp,
    access: Access,
    headers: &HeaderMap,
    extensions: &mut Extensions,
) -> Result<(), ApiError> {
    match access {
        Access::Open => {}
        Access::Basic => {
            let shown = shown_basic(&webapp.settings, headers, extensions)?;
            extensions.insert(shown);
        }
        Access::User => {
            let caller = bearer(webapp, headers).await?;
            extensions.insert(caller);
        }
        Access::Admin => {
            let caller = bearer(webapp, headers).await?;
            let admin = caller.admin;
            // Also of a refusal the audit says whose it is.
            extensions.insert(caller);
            if !admin {
                return Err(ApiError::with(
                    Code::AccessDenied,
                    "Only the administrator may do this",
                ));
            }
            let token = credentials(headers, "Bearer").unwrap_or_default();
            extensions.insert(Token(Arc::new(token.to_owned().into())));
        }
        Access::Monitor => match credentials(headers, "Apikey") {
            Some(given) => api_key(webapp, given)?,
            None => drop(bearer(webapp, headers).await?),
        },
        Access::Signed => {
            upstream_certificate(&webapp.settings, extensions)?;
            let signature = signature(headers).ok_or_else(wrong_signature)?;
            extensions.insert(signature);
        }
    }
    Ok(())
}

async fn bearer(webapp: &Webapp, headers: &HeaderMap) -> Result<Caller, ApiError> {
    let token = credentials(headers, "Bearer")
        .ok_or_else(|| ApiError::unauthorized("Authorization: Bearer <token> is needed"))?;
    caller(webapp, token).await
}

fn api_key(webapp: &Webapp, given: &str) -> Result<(), ApiError> {
    let key = webapp.settings.api_key.now();
    let key = key.expose_secret().as_bytes();
    if !key.is_empty() && bool::from(key.ct_eq(given.as_bytes())) {
        Ok(())
    } else {
        Err(ApiError::unauthorized("The API key is not valid"))
    }
}

/// How the upstream's certificate is called (API facts, webhook transport).
pub const UPSTREAM_NAME: &str = "client.webhooks.fbclientcerts.com";

/// Where the upstream's authority is known, events come over connections that show its certificate, and over no others.
fn upstream_certificate(settings: &Settings, extensions: &Extensions) -> Result<(), ApiError> {
    let shown = extensions.get::<ClientNames>();
    if settings.upstream.mtls_authorities.is_empty()
        || shown.is_some_and(|names| names.has(UPSTREAM_NAME))
    {
        return Ok(());
    }
    seldom!(tracing::warn!(
        "an upstream event came without the upstream's certificate and was refused; if all are, see whether mTLS is switched on for \
         the app, and whether the file of [upstream] mtls_ca holds its authority"
    ));
    Err(ApiError::with(
        Code::AccessDenied,
        "Events are taken with the client certificate of the upstream only",
    ))
}

/// Bytes of a digest of SHA-256.
const DIGEST_LEN: usize = 32;

/// What `X-Hub-Signature-256` says: the digest that the body must have.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Signature(pub Vec<u8>);

/// What an upstream event shows; `None`: no digest.
pub fn signature(headers: &HeaderMap) -> Option<Signature> {
    let value = headers.get("x-hub-signature-256")?.to_str().ok()?;
    let digest = hex::decode(value.strip_prefix("sha256=")?).ok()?;
    (digest.len() == DIGEST_LEN).then_some(Signature(digest))
}

/// An upstream event whose signature is missing or does not fit.
pub fn wrong_signature() -> ApiError {
    // Anybody can send these: one line now and then says it.
    seldom!(tracing::warn!(
        "an upstream event with a wrong signature was refused; check [upstream] app_secret, and type after a new one: systemctl \
         reload 'wa-webapp@*'"
    ));
    ApiError::with(Code::AccessDenied, "The signature does not fit")
}

/// Name and password of a login.
#[derive(Clone)]
pub struct Basic {
    pub username: String,
    pub password: String,
    /// The client itself, also behind a proxy that is trusted.
    pub source: IpAddr,
}

/// Where a request comes from: the client itself, also behind a proxy that is trusted.
pub fn source_of(settings: &Settings, headers: &HeaderMap, extensions: &Extensions) -> IpAddr {
    source::of(headers, peer_of(extensions), &settings.trusted_proxies)
}

/// Whose connection a request came by.
pub fn peer_of(extensions: &Extensions) -> IpAddr {
    let info = extensions.get::<ConnectInfo<std::net::SocketAddr>>();
    info.map_or(IpAddr::from([0, 0, 0, 0]), |info| info.0.ip())
}

fn shown_basic(
    settings: &Settings,
    headers: &HeaderMap,
    extensions: &Extensions,
) -> Result<Basic, ApiError> {
    let source = source_of(settings, headers, extensions);
    let (username, password) = credentials(headers, "Basic")
        .and_then(basic)
        .ok_or_else(|| ApiError::unauthorized("Authorization: Basic is needed to log in"))?;
    Ok(Basic {
        username,
        password,
        source,
    })
}

/// Name and password behind `Basic`; `None`: it is none.
pub fn basic(encoded: &str) -> Option<(String, String)> {
    let decoded = String::from_utf8(BASE64_STANDARD.decode(encoded).ok()?).ok()?;
    let (username, password) = decoded.split_once(':')?;
    Some((username.to_owned(), password.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn basic_credentials_are_read() {
        let encode = |text: &str| BASE64_STANDARD.encode(text);
        assert_eq!(
            basic(&encode("admin:se:cret")),
            Some(("admin".into(), "se:cret".into()))
        );
        assert_eq!(basic(&encode("admin")), None);
        assert_eq!(basic("%%%"), None);
    }

    #[test]
    fn schemes_are_case_insensitive_and_not_mixed_up() {
        let mut headers = HeaderMap::new();
        headers.insert("authorization", "bearer  abc".parse().expect("plain"));
        assert_eq!(credentials(&headers, "Bearer"), Some("abc"));
        assert_eq!(credentials(&headers, "Basic"), None);
    }

    #[test]
    fn only_hexadecimal_sha_256_is_a_signature() {
        let of = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert("x-hub-signature-256", value.parse().expect("plain"));
            signature(&headers)
        };
        let digest = "00ff".repeat(16);
        let good = Some(Signature([0, 255].repeat(16)));
        assert_eq!(of(&format!("sha256={digest}")), good);
        for bad in [
            String::new(),
            "sha256".into(),
            "sha256=00ff".into(),
            format!("sha256={digest}00"),
            format!("sha256={}", "zz".repeat(32)),
            format!("sha1={digest}"),
        ] {
            assert_eq!(of(&bad), None, "{bad}");
        }
        assert_eq!(signature(&HeaderMap::new()), None);
    }
}
