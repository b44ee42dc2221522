//! The Cloud API client of one tenure: every request names shard and epoch, every write asks the gate.
//! Retries nothing and decides nothing: `sender.rs` does.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use bytes::Bytes;
use http::{HeaderValue, Method, Request, StatusCode};
use http_body_util::Full;
use secrecy::ExposeSecret as _;
use url::Url;
use wa_core::id::Ownership;

use super::gate::Gate;
use crate::api::cloud::call::{self, Call, token_refused};
use crate::config::{MediaHosts, Secret, Text, Turn, UpstreamSettings};
use crate::log::seldom;
use crate::net::client::{Body, CallError, Guard, OutsideClient};
use crate::net::roots::Roots;
use crate::sys::clock;
use crate::sys::dial::Dialer;

/// Idle connections to one host of links.
const LINK_IDLE_MAX: usize = 4;

/// What is said of messages meanwhile.
pub const TOKEN_REFUSED: &str = "it refuses our token; write the right one into the file of [upstream] token_file, and type: \
                                 systemctl reload 'wa-coreapp@*'";

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("the tenure is over")]
    Shut,
    #[error("the upstream names an address without TLS")]
    Plain,
    #[error("the upstream names no address")]
    NoAddress,
    /// The token goes nowhere else.
    #[error(
        "WhatsApp names the host {0} for a file; if it is WhatsApp's, write it into [upstream] media_hosts and restart the coreapps"
    )]
    Elsewhere(String),
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl UpstreamError {
    /// There was no way to the upstream, for any request: no name, no route, no connection, or no tenure.
    pub fn unreached(&self) -> bool {
        match self {
            Self::Shut | Self::Call(CallError::Connect(_)) => true,
            Self::Plain
            | Self::NoAddress
            | Self::Elsewhere(_)
            | Self::Request(_)
            | Self::Call(CallError::Forbidden(_) | CallError::Broken(_) | CallError::Deadline(_)) => {
                false
            }
        }
    }

    /// Surely not one byte of the request reached the upstream.
    pub fn nothing_sent(&self) -> bool {
        matches!(
            self,
            Self::Shut
                | Self::Plain
                | Self::NoAddress
                | Self::Elsewhere(_)
                | Self::Request(_)
                | Self::Call(CallError::Connect(_) | CallError::Forbidden(_))
        )
    }
}

/// A body that is not in memory.
pub struct Streamed {
    pub content_type: String,
    /// In bytes.
    pub length: u64,
    pub body: Body,
}

/// One tenure's way to the upstream, and to what its messages name.
pub struct Upstream {
    client: ArcSwapOption<OutsideClient>,
    /// For links, which lead to anybody: it has no token, and calls only who may be called.
    links: ArcSwapOption<OutsideClient>,
    sockets: [Arc<AtomicUsize>; 2],
    gate: Arc<Gate>,
    own: Ownership,
    version_url: String,
    media_hosts: MediaHosts,
    phone_number_id: String,
    token: Secret,
    request_timeout: Duration,
}

/// An answer, and the pause that it asks for.
#[derive(Debug)]
pub struct Answered {
    pub status: StatusCode,
    pub body: Bytes,
    pub retry_after: Option<Duration>,
}

/// The longest pause that an answer may ask for.
const RETRY_AFTER_MAX_S: u64 = 300;

/// The pause that an answer asks for: in seconds, as limits do.
fn retry_after(headers: &http::HeaderMap) -> Option<Duration> {
    let value = headers.get(http::header::RETRY_AFTER);
    let seconds = value.and_then(|value| value.to_str().ok()?.trim().parse::<u64>().ok());
    let seconds = seconds.filter(|seconds| *seconds > 0)?;
    Some(Duration::from_secs(seconds.min(RETRY_AFTER_MAX_S)))
}

/// Whether the token may go to the address of a file.
fn may_have_token(own: &str, listed: &MediaHosts, url: &Url) -> Result<(), UpstreamError> {
    let own = Url::parse(own).ok();
    if own.as_ref().is_some_and(|own| own.origin() == url.origin()) {
        return Ok(());
    }
    if url.scheme() != "https" {
        return Err(UpstreamError::Plain);
    }
    let host = url.host_str().unwrap_or_default();
    let same = own.as_ref().is_some_and(|own| own.host_str() == Some(host));
    match same || listed.has(host) {
        true => Ok(()),
        false => Err(UpstreamError::Elsewhere(host.to_owned())),
    }
}

impl Upstream {
    /// With no connection yet.
    pub fn new(
        settings: &UpstreamSettings,
        roots: &Roots,
        links: Dialer,
        gate: Arc<Gate>,
        own: Ownership,
    ) -> Self {
        let (asked, epoch) = (Arc::clone(&gate), own.epoch);
        let guard = Arc::new(move || asked.passes(epoch, clock::now()));
        let client = OutsideClient::guarded(
            roots,
            settings.connect_timeout,
            settings.concurrency,
            Arc::clone(&guard) as Guard,
        );
        let links = OutsideClient::anywhere(links, settings.connect_timeout, LINK_IDLE_MAX, guard);
        let base_url = settings.base_url.trim_end_matches('/');
        let version_url = format!("{base_url}/{}", settings.version);
        Self {
            sockets: [client.open_sockets(), links.open_sockets()],
            client: ArcSwapOption::from_pointee(client),
            links: ArcSwapOption::from_pointee(links),
            gate,
            own,
            version_url,
            media_hosts: settings.media_hosts.clone(),
            phone_number_id: settings.phone_number_id.clone(),
            token: settings.token.clone(),
            request_timeout: settings.request_timeout,
        }
    }

    /// POST of a form to the number's media.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn post_media(
        &self,
        form: Streamed,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), UpstreamError> {
        let url = format!("{}/{}/media", self.version_url, self.phone_number_id);
        let token = self.token.now();
        let request = self
            .request(&token, Method::POST, &url, &form.content_type)
            .header("content-length", form.length)
            .body(form.body)?;
        let client = self.open(&self.client).await?;
        let answer = client.call_streamed(request, within).await?;
        // What was streamed cannot be sent again: whoever tries again has the other token.
        self.judged(&token, answer.status(), answer.body());
        Ok((answer.status(), answer.into_body()))
    }

    /// GET of a file's bytes; its address is elsewhere and needs the token all the same. The token goes to where all calls go, and over
    /// TLS to the same host and to those that are listed.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn fetch_media(
        &self,
        url: &str,
    ) -> Result<http::Response<hyper::body::Incoming>, UpstreamError> {
        let url = Url::parse(url).map_err(|_| UpstreamError::NoAddress)?;
        may_have_token(&self.version_url, &self.media_hosts, &url)?;
        let token = self.token.now();
        let request = self.request(&token, Method::GET, url.as_str(), "application/json");
        let request = request.body(Full::new(Bytes::new()))?;
        let client = self.open(&self.client).await?;
        Ok(client.fetch(request, self.request_timeout).await?)
    }

    /// POST of a file's bytes to an upload that was begun, from its beginning. This call alone wants the token under another
    /// name.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn upload(
        &self,
        begun: &str,
        bytes: Bytes,
        within: Duration,
    ) -> Result<(StatusCode, Bytes), UpstreamError> {
        let url = format!("{}/{begun}", self.version_url);
        let token = self.token.now();
        let kind = "application/octet-stream";
        let mut request = self.request(&token, Method::POST, &url, kind);
        let oauth = HeaderValue::from_str(&format!("OAuth {}", token.expose_secret()));
        if let (Some(headers), Ok(mut oauth)) = (request.headers_mut(), oauth) {
            oauth.set_sensitive(true);
            headers.insert("authorization", oauth);
        }
        let request = request.header("file_offset", 0).body(Full::new(bytes))?;
        let client = self.open(&self.client).await?;
        let answer = client.call(request, within).await?;
        self.judged(&token, answer.status(), answer.body());
        Ok((answer.status(), answer.into_body()))
    }

    /// GET of a picture that the upstream shows to everybody: without our token. What is not at the upstream's own address is
    /// a link like any other.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn fetch_picture(
        &self,
        url: &Url,
    ) -> Result<http::Response<hyper::body::Incoming>, UpstreamError> {
        let own = Url::parse(&self.version_url).map(|own| own.origin());
        let own = own.is_ok_and(|own| own == url.origin());
        if !own && url.scheme() != "https" {
            return Err(UpstreamError::Plain);
        }
        let request = Request::get(url.as_str()).body(Full::new(Bytes::new()))?;
        let client = if own { &self.client } else { &self.links };
        let client = self.open(client).await?;
        Ok(client.fetch(request, self.request_timeout).await?)
    }

    /// GET of what a link names, as whoever asks wrote it; redirects are not followed.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn fetch_link(
        &self,
        request: Request<Full<Bytes>>,
        within: Duration,
    ) -> Result<http::Response<hyper::body::Incoming>, UpstreamError> {
        let client = self.open(&self.links).await?;
        Ok(client.fetch(request, within).await?)
    }

    /// A call with its body in memory.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn call(&self, call: &Call) -> Result<(StatusCode, Bytes), UpstreamError> {
        let answered = self.ask(call).await?;
        Ok((answered.status, answered.body))
    }

    /// The same, with the pause that the answer asks for.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn ask(&self, call: &Call) -> Result<Answered, UpstreamError> {
        let url = format!("{}/{}", self.version_url, call.path(&self.phone_number_id));
        let method = match call.method() {
            call::Method::Get => Method::GET,
            call::Method::Post => Method::POST,
            call::Method::Delete => Method::DELETE,
        };
        let body = call
            .body()
            .map_or_else(Bytes::new, |body| body.to_string().into());
        let mut again = true;
        loop {
            let token = self.token.now();
            let request = self.request(&token, method.clone(), &url, "application/json");
            let request = request.body(Full::new(body.clone()))?;
            let client = self.open(&self.client).await?;
            let answer = client.call(request, self.request_timeout).await?;
            // Nothing was done for a token that was refused: the other one may try, once.
            if self.judged(&token, answer.status(), answer.body()) && std::mem::take(&mut again) {
                continue;
            }
            return Ok(Answered {
                status: answer.status(),
                retry_after: retry_after(answer.headers()),
                body: answer.into_body(),
            });
        }
    }

    /// Takes note of what became of a token. True: another one is in force now.
    fn judged(&self, token: &Text, status: StatusCode, body: &[u8]) -> bool {
        if status.is_success() && self.token.fits(token) {
            tracing::info!("the upstream takes the new token");
        }
        if !token_refused(status.as_u16(), body) {
            return false;
        }
        match self.token.refused(token) {
            None => false,
            Some(Turn::Newer) => true,
            Some(Turn::Former) => {
                seldom!(tracing::warn!(
                    %status,
                    "the upstream refuses the new token, and the one before is in force again; if the new one is wrong, write the right \
                     one into the file of [upstream] token_file and type: systemctl reload 'wa-coreapp@*'"
                ));
                true
            }
        }
    }

    /// What every request says.
    fn request(
        &self,
        token: &Text,
        method: Method,
        url: &str,
        content_type: &str,
    ) -> http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", content_type)
            .header("x-wa-shard", self.own.shard.0)
            .header("x-wa-epoch", self.own.epoch.0);
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
        if let Ok(mut bearer) = bearer {
            bearer.set_sensitive(true);
            request = request.header("authorization", bearer);
        }
        request
    }

    /// A client, while the tenure lives, as soon as its packets are let through.
    async fn open(
        &self,
        client: &ArcSwapOption<OutsideClient>,
    ) -> Result<Arc<OutsideClient>, UpstreamError> {
        self.gate.admitted(self.own.epoch).await;
        let client = client.load_full().ok_or(UpstreamError::Shut)?;
        if self.gate.passes(self.own.epoch, clock::now()) {
            Ok(client)
        } else {
            Err(UpstreamError::Shut)
        }
    }

    /// Drops the clients: idle sockets abort at once, those in use as soon as their calls are dropped.
    pub fn abort(&self) {
        self.client.store(None);
        self.links.store(None);
    }

    /// No socket of this tenure exists any more.
    pub fn closed(&self) -> bool {
        let open = |sockets: &Arc<AtomicUsize>| sockets.load(Ordering::Acquire) > 0;
        !self.sockets.iter().any(open)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the token goes to the upstream and to WhatsApp's hosts for files, and nowhere else, whatever an answer names. Method: each
    /// spelling of another place, with the default list and with a written one.
    #[test]
    fn the_token_goes_to_listed_hosts_only() {
        let written = ["Files.Example", ".cdn.example"].map(String::from);
        let written = MediaHosts::parse(&written).expect("hosts");
        let usual = MediaHosts::default();
        let own = "https://graph.facebook.com/v25.0";
        let may = |own: &str, listed: &MediaHosts, url: &str| {
            may_have_token(own, listed, &Url::parse(url).expect(url)).is_ok()
        };
        for (url, by_default, by_hand) in [
            ("https://graph.facebook.com/v25.0/1", true, true),
            ("https://graph.facebook.com:8443/1", true, true),
            ("http://graph.facebook.com/1", false, false),
            (
                "https://lookaside.fbsbx.com/whatsapp_business/1",
                true,
                false,
            ),
            ("http://lookaside.fbsbx.com/1", false, false),
            ("https://fbsbx.com/1", false, false),
            ("https://evilfbsbx.com/1", false, false),
            ("https://fbsbx.com.example/1", false, false),
            ("https://lookaside.fbsbx.com@evil.example/1", false, false),
            ("https://169.254.169.254/latest", false, false),
            ("https://files.example/1", false, true),
            ("https://a.files.example/1", false, false),
            ("https://a.b.cdn.example/1", false, true),
            ("https://cdn.example/1", false, false),
        ] {
            let found = (may(own, &usual, url), may(own, &written, url));
            assert_eq!(found, (by_default, by_hand), "{url}");
        }
        let local = "http://127.0.0.1:9000/v25.0";
        assert!(may(local, &usual, "http://127.0.0.1:9000/file"));
        assert!(!may(local, &usual, "http://127.0.0.1:9001/file"));
    }
}
