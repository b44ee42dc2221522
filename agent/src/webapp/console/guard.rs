//! Who looks at the console: a cookie that holds a token of the API, and forms that only our own pages can send.
//! Makes no token: `login.rs` does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Response};
use cookie::{Cookie, SameSite};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use super::words::Tongue;
use crate::api::error::ApiError;
use crate::config::PublicTls;
use crate::net::proxy::listed;
use crate::webapp::auth;
use crate::webapp::state::Webapp;
use crate::webapp::tokens::{Caller, Token};

/// The cookie with the token, and the one with the language.
const SESSION: &str = "wa-console";
const LANGUAGE: &str = "wa-language";
/// Where browsers send them.
const PATH: &str = "/console";
/// No page takes longer: the slowest one asks a master and the database.
const WITHIN: Duration = Duration::from_secs(20);
/// Nothing is loaded from anywhere else, nothing runs that is not a file of ours, and nobody shows us in a frame.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; connect-src 'self'; img-src 'self'; \
    form-action 'self'; frame-ancestors 'none'; base-uri 'none'";

/// Who looks, and what the pages for him need.
#[derive(Clone)]
pub struct Visitor {
    pub caller: Caller,
    pub token: Token,
    /// What forms must carry: made of the token, which only our own pages know.
    pub form: Arc<str>,
    pub tongue: Tongue,
}

/// Marks every answer of the console, and ends those that take too long.
pub async fn every(request: Request, next: Next) -> Response {
    let answered = tokio::time::timeout(WITHIN, next.run(request)).await;
    let mut response = answered.unwrap_or_else(|_| {
        let why = "This took too long. Reload the page in a moment.";
        (StatusCode::SERVICE_UNAVAILABLE, why).into_response()
    });
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "same-origin"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Who the cookie stands for; `None`: nobody, or nobody any more.
///
/// # Errors
/// When nobody can say so, because the database does not answer.
pub async fn visitor(webapp: &Webapp, headers: &HeaderMap) -> Result<Option<Visitor>, ApiError> {
    let Some(token) = cookie(headers, SESSION) else {
        return Ok(None);
    };
    let caller = match auth::caller(webapp, &token).await {
        Ok(caller) => caller,
        Err(error) if is_over(&error) => return Ok(None),
        Err(error) => return Err(error),
    };
    let form = form_token(&token).into();
    Ok(Some(Visitor {
        caller,
        token: Token(Arc::new(SecretString::from(token))),
        form,
        tongue: tongue(headers),
    }))
}

/// The session is over, and not only out of sight.
pub fn is_over(error: &ApiError) -> bool {
    error.http_status() == 401
}

/// The language that was chosen, else the one that the browser likes best of ours.
pub fn tongue(headers: &HeaderMap) -> Tongue {
    if let Some(chosen) = cookie(headers, LANGUAGE) {
        return Tongue::of(&chosen);
    }
    let liked = headers.get(header::ACCEPT_LANGUAGE);
    let liked = liked.and_then(|value| value.to_str().ok()).unwrap_or("");
    let first = liked.split([',', ';', '-']).next().unwrap_or("");
    Tongue::of(first.trim())
}

fn cookie(headers: &HeaderMap, name: &str) -> Option<String> {
    let all = headers.get_all(header::COOKIE).iter();
    let mut all = all
        .filter_map(|value| value.to_str().ok())
        .flat_map(Cookie::split_parse)
        .flatten();
    let found = all.find(|cookie| cookie.name() == name)?;
    Some(found.value().to_owned())
}

fn mac(token: &str) -> Hmac<Sha256> {
    let mac = Hmac::<Sha256>::new_from_slice(token.as_bytes());
    let mut mac = mac.expect("a key of any length");
    mac.update(b"wa-agent/console/form/1");
    mac
}

/// What forms of this session must carry.
fn form_token(token: &str) -> String {
    hex::encode(mac(token).finalize().into_bytes())
}

impl Visitor {
    /// A form came from one of our own pages of this session.
    pub fn sent(&self, form: &str) -> bool {
        let given = hex::decode(form).unwrap_or_default();
        mac(self.token.0.expose_secret())
            .verify_slice(&given)
            .is_ok()
    }
}

/// A browser says that a page of somebody else sent this. Over plain HTTP it names only the page's origin.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    if let Some(site) = headers.get("sec-fetch-site") {
        return site != "same-origin" && site != "none";
    }
    let Some(origin) = headers.get(header::ORIGIN) else {
        return false;
    };
    let origin = origin.to_str().unwrap_or("");
    let origin = origin.split_once("://").map_or("", |(_, at)| at);
    let host = headers.get(header::HOST);
    host.is_none_or(|host| *host != *origin)
}

/// The browser reaches us over TLS, by its own connection or by that of a proxy that is trusted.
fn is_sealed(webapp: &Webapp, request: (&HeaderMap, std::net::IpAddr)) -> bool {
    let (headers, peer) = request;
    let by_proxy = listed(peer, &webapp.settings.trusted_proxies)
        && headers
            .get("x-forwarded-proto")
            .is_some_and(|proto| proto == "https");
    by_proxy || !matches!(webapp.settings.public_tls, PublicTls::Off)
}

fn set(name: &'static str, value: String) -> cookie::CookieBuilder<'static> {
    Cookie::build((name, value))
        .path(PATH)
        .http_only(true)
        .same_site(SameSite::Strict)
}

fn header_of(cookie: &Cookie<'_>) -> HeaderValue {
    HeaderValue::from_str(&cookie.to_string()).expect("tokens and tags are plain text")
}

/// The cookie of a new session; it ends with the browser, or with the token.
pub fn session(
    webapp: &Webapp,
    request: (&HeaderMap, std::net::IpAddr),
    token: String,
) -> HeaderValue {
    let secure = is_sealed(webapp, request);
    header_of(&set(SESSION, token).secure(secure).build())
}

/// Takes the session's cookie back.
pub fn ended() -> HeaderValue {
    let gone = set(SESSION, String::new()).max_age(cookie::time::Duration::ZERO);
    header_of(&gone.build())
}

/// The cookie of a language, for a year.
pub fn speaks(tongue: Tongue) -> HeaderValue {
    let year = cookie::time::Duration::days(365);
    header_of(&set(LANGUAGE, tongue.tag().to_owned()).max_age(year).build())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(name: &'static str, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().expect("plain"));
        headers
    }

    /// Goal: the language is the chosen one, else the browser's, else English. Method: a table.
    #[test]
    fn languages_are_chosen() {
        for (name, value, tongue) in [
            ("cookie", "a=b; wa-language=ar", Tongue::Arabic),
            ("cookie", "wa-language=xx", Tongue::English),
            ("accept-language", "ar-EG,en;q=0.5", Tongue::Arabic),
            ("accept-language", "de,ar;q=0.5", Tongue::English),
            ("host", "example.com", Tongue::English),
        ] {
            assert_eq!(self::tongue(&headers(name, value)), tongue, "{value}");
        }
    }

    /// Goal: a form of another session, or of none, is refused. Method: two sessions.
    #[test]
    fn forms_belong_to_their_session() {
        let visitor = |token: &str| Visitor {
            caller: Caller {
                username: "admin".into(),
                admin: true,
                token_hash: "hash".into(),
            },
            token: Token(Arc::new(token.to_owned().into())),
            form: form_token(token).into(),
            tongue: Tongue::English,
        };
        let (one, other) = (visitor("one"), visitor("other"));
        assert!(one.sent(&one.form) && other.sent(&other.form));
        for form in [&*other.form, "", "zz", &one.form[2..]] {
            assert!(!one.sent(form), "{form}");
        }
        assert!(
            !one.form.contains("one"),
            "the token itself is in no page of ours"
        );
    }

    /// Goal: pages of others send nothing to us. Method: what browsers say of them.
    #[test]
    fn forms_of_other_sites_are_seen() {
        for (site, foreign) in [
            ("same-origin", false),
            ("none", false),
            ("same-site", true),
            ("cross-site", true),
        ] {
            assert_eq!(is_foreign(&headers("sec-fetch-site", site)), foreign);
        }
        assert!(!is_foreign(&HeaderMap::new()));
        for (origin, foreign) in [
            ("http://wa.example:9090", false),
            ("http://wa.example", true),
            ("http://evil.example", true),
            ("null", true),
        ] {
            let mut headers = headers("origin", origin);
            headers.insert(header::HOST, "wa.example:9090".parse().expect("plain"));
            assert_eq!(is_foreign(&headers), foreign, "{origin}");
        }
    }

    /// Goal: no script reads the session, and no other site sends it. Method: the cookie as it is written.
    #[test]
    fn cookies_are_kept_close() {
        let made = set(SESSION, "token".into()).secure(true).build();
        let made = made.to_string();
        for part in ["HttpOnly", "SameSite=Strict", "Secure", "Path=/console"] {
            assert!(made.contains(part), "{made}");
        }
        let gone = ended();
        assert!(gone.to_str().expect("plain").contains("Max-Age=0"));
    }
}
