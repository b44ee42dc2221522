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
use wa_core::id::Ownership;

use super::gate::Gate;
use crate::config::UpstreamSettings;
use crate::net::client::{Body, CallError, OutsideClient};
use crate::sys::clock;

/// Longest answer kept for a log line, in bytes; answers carry no message bodies.
const TEXT_LEN_MAX: usize = 200;

/// Why a call came to nothing.
#[derive(Debug, thiserror::Error)]
pub enum UpstreamError {
    #[error("the tenure is over")]
    Shut,
    #[error("the upstream names an address without TLS")]
    Plain,
    #[error("the request cannot be made: {0}")]
    Request(#[from] http::Error),
    #[error(transparent)]
    Call(#[from] CallError),
}

impl UpstreamError {
    /// Surely not one byte of the request reached the upstream.
    pub fn nothing_sent(&self) -> bool {
        matches!(
            self,
            Self::Shut | Self::Plain | Self::Request(_) | Self::Call(CallError::Connect(_))
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

/// One tenure's way to the upstream.
pub struct Upstream {
    client: ArcSwapOption<OutsideClient>,
    sockets: Arc<AtomicUsize>,
    gate: Arc<Gate>,
    own: Ownership,
    number_url: String,
    version_url: String,
    authorization: Option<HeaderValue>,
    request_timeout: Duration,
}

impl Upstream {
    /// With no connection yet.
    pub fn new(settings: &UpstreamSettings, gate: Arc<Gate>, own: Ownership) -> Self {
        let (asked, epoch) = (Arc::clone(&gate), own.epoch);
        let guard = Arc::new(move || asked.passes(epoch, clock::now()));
        let client = OutsideClient::guarded(settings.connect_timeout, settings.concurrency, guard);
        let base_url = settings.base_url.trim_end_matches('/');
        let version_url = format!("{base_url}/{}", settings.version);
        let bearer = format!("Bearer {}", settings.token.expose_secret());
        let authorization = HeaderValue::from_str(&bearer).ok().map(|mut value| {
            value.set_sensitive(true);
            value
        });
        Self {
            sockets: client.open_sockets(),
            client: ArcSwapOption::from_pointee(client),
            gate,
            own,
            number_url: format!("{version_url}/{}", settings.phone_number_id),
            version_url,
            authorization,
            request_timeout: settings.request_timeout,
        }
    }

    /// POST to the number's messages.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn post_message(&self, body: String) -> Result<(StatusCode, Bytes), UpstreamError> {
        let url = format!("{}/messages", self.number_url);
        self.call(Method::POST, &url, body).await
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
        let url = format!("{}/media", self.number_url);
        let request = self
            .request(Method::POST, &url, &form.content_type)
            .header("content-length", form.length)
            .body(form.body)?;
        let answer = self.open()?.call_streamed(request, within).await?;
        Ok((answer.status(), answer.into_body()))
    }

    /// GET of what is known of a file.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn about_media(&self, id: &str) -> Result<(StatusCode, Bytes), UpstreamError> {
        let id = percent_encoding::utf8_percent_encode(id, percent_encoding::NON_ALPHANUMERIC);
        let url = format!("{}/{id}", self.version_url);
        self.call(Method::GET, &url, String::new()).await
    }

    /// GET of a file's bytes; its address is elsewhere and needs the token all the same. The token travels over TLS, or to
    /// where all calls go without.
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn fetch_media(
        &self,
        url: &str,
    ) -> Result<http::Response<hyper::body::Incoming>, UpstreamError> {
        let own = self.version_url.strip_prefix("http://");
        let own = own.and_then(|rest| rest.split('/').next());
        let plain = url
            .strip_prefix("http://")
            .and_then(|rest| rest.split('/').next());
        if !url.starts_with("https://") && (plain.is_none() || plain != own) {
            return Err(UpstreamError::Plain);
        }
        let request = self.request(Method::GET, url, "application/json");
        let request = request.body(Full::new(Bytes::new()))?;
        Ok(self.open()?.fetch(request, self.request_timeout).await?)
    }

    /// GET of the number itself: does the upstream answer?
    ///
    /// # Errors
    /// [`UpstreamError`]; an error status is an answer.
    pub async fn probe(&self) -> Result<StatusCode, UpstreamError> {
        let answer = self.call(Method::GET, &self.number_url, String::new());
        Ok(answer.await?.0)
    }

    async fn call(
        &self,
        method: Method,
        url: &str,
        body: String,
    ) -> Result<(StatusCode, Bytes), UpstreamError> {
        let request = self.request(method, url, "application/json");
        let request = request.body(Full::new(Bytes::from(body)))?;
        let answer = self.open()?.call(request, self.request_timeout).await?;
        Ok((answer.status(), answer.into_body()))
    }

    /// What every request says.
    fn request(&self, method: Method, url: &str, content_type: &str) -> http::request::Builder {
        let mut request = Request::builder()
            .method(method)
            .uri(url)
            .header("content-type", content_type)
            .header("x-wa-shard", self.own.shard.0)
            .header("x-wa-epoch", self.own.epoch.0);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        request
    }

    /// The client, while the tenure lives.
    fn open(&self) -> Result<Arc<OutsideClient>, UpstreamError> {
        let client = self.client.load_full().ok_or(UpstreamError::Shut)?;
        if self.gate.passes(self.own.epoch, clock::now()) {
            Ok(client)
        } else {
            Err(UpstreamError::Shut)
        }
    }

    /// Drops the client: idle sockets abort at once, those in use as soon as their calls are dropped.
    pub fn abort(&self) {
        self.client.store(None);
    }

    /// No socket of this tenure exists any more.
    pub fn closed(&self) -> bool {
        self.sockets.load(Ordering::Acquire) == 0
    }
}

/// The beginning of an answer, for a log line.
pub fn shown(answer: &[u8]) -> String {
    String::from_utf8_lossy(&answer[..answer.len().min(TEXT_LEN_MAX)]).replace(['\n', '\r'], " ")
}
