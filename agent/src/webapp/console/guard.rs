//! Who looks at the console: a cookie that holds a token of the API, and forms that only our own pages can send.
//! Makes no token: `login.rs` does.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse as _, Redirect, Response};
use cookie::{Cookie, SameSite};
use hmac::{Hmac, KeyInit as _, Mac as _};
use secrecy::{ExposeSecret as _, SecretString};
use sha2::Sha256;

use super::words::Tongue;
use crate::config::PublicTls;
use crate::net::door::Entry;
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
        (header::REFERRER_POLICY, "no-referrer"),
        (header::X_FRAME_OPTIONS, "DENY"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    headers
        .entry(header::CACHE_CONTROL)
        .or_insert(HeaderValue::from_static("no-store"));
    response
}

/// Lets users in who are logged in; sends others to the form, or says so where a script asked.
pub async fn users(
    State(webapp): State<Arc<Webapp>>,
    mut request: Request,
    next: Next,
) -> Response {
    let Some(visitor) = visitor(&webapp, request.headers()).await else {
        let script = request.uri().path().ends_with("/live");
        return match script {
            true => StatusCode::UNAUTHORIZED.into_response(),
            false => Redirect::to("/console/login").into_response(),
        };
    };
    if let Some(entry) = request.extensions().get::<Entry>() {
        entry.known();
    }
    request.extensions_mut().insert(visitor);
    next.run(request).await
}

/// Who the cookie stands for.
pub async fn visitor(webapp: &Webapp, headers: &HeaderMap) -> Option<Visitor> {
    let token = cookie(headers, SESSION)?;
    let caller = auth::caller(webapp, &token).await.ok()?;
    let form = form_token(&token).into();
    Some(Visitor {
        caller,
        token: Token(Arc::new(SecretString::from(token))),
        form,
        tongue: tongue(headers),
    })
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

/// A browser says that a page of somebody else sent this.
pub fn is_foreign(headers: &HeaderMap) -> bool {
    let site = headers.get("sec-fetch-site");
    site.is_some_and(|site| site != "same-origin" && site != "none")
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
