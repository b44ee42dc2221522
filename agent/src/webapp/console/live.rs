//! News of a page while somebody looks at it: server-sent events, each one a panel that changed.
//! Draws nothing itself; ends with the session, with the webapp, or when nobody reads.

use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Query, State};
use axum::http::StatusCode;
use axum::response::sse::{Event, KeepAlive, Sse};
use axum::response::{IntoResponse as _, Response};
use futures_util::stream;
use secrecy::ExposeSecret as _;
use serde::Deserialize;
use tokio::sync::watch;

use super::frame::{Page, Panel};
use super::guard::{self, Visitor};
use super::sampler::Watches;
use super::{cluster, messages, number, timeline};
use crate::api::error::ApiError;
use crate::sys::clock;
use crate::webapp::auth;
use crate::webapp::state::Webapp;

/// A sign of life to browsers and to proxies in between.
const ALIVE_EVERY: Duration = Duration::from_secs(10);
/// A stream ends after this, and the browser comes again: nobody looks for ever by accident.
const STREAM_FOR: Duration = Duration::from_secs(3600);

/// Which page is looked at, and what the timeline is filtered by.
#[derive(Deserialize)]
pub struct Asked {
    page: String,
    #[serde(flatten)]
    filter: timeline::Filter,
}

/// Everything of one stream.
struct Stream {
    webapp: Arc<Webapp>,
    visitor: Visitor,
    page: Page,
    filter: timeline::Filter,
    looks: watch::Receiver<u64>,
    _watches: Watches,
    /// Panels as they were sent last, by id.
    sent: BTreeMap<&'static str, String>,
    ready: std::collections::VecDeque<(&'static str, String)>,
}

/// The stream of one page.
pub async fn stream(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    Query(asked): Query<Asked>,
) -> Response {
    let Some(page) = Page::of(&asked.page) else {
        return StatusCode::NOT_FOUND.into_response();
    };
    let Some(watches) = webapp.console.watch(&visitor.caller.username) else {
        let why = "Too many consoles are open at this webapp.";
        return (StatusCode::SERVICE_UNAVAILABLE, why).into_response();
    };
    let stopping = webapp.stopping.clone();
    let state = Stream {
        looks: webapp.console.looks(),
        webapp,
        visitor,
        page,
        filter: asked.filter,
        _watches: watches,
        sent: BTreeMap::new(),
        ready: std::collections::VecDeque::new(),
    };
    let news = stream::unfold(state, |mut state| async move {
        let event = state.next().await?;
        Some((Ok::<Event, Infallible>(event), state))
    });
    let until = async move {
        let over = clock::sleep(STREAM_FOR);
        tokio::select! { () = stopping.cancelled() => {} () = over => {} }
    };
    let news = futures_util::StreamExt::take_until(news, Box::pin(until));
    let news = Sse::new(Box::pin(news));
    news.keep_alive(KeepAlive::new().interval(ALIVE_EVERY))
        .into_response()
}

impl Stream {
    /// The next panel that changed; `None`: the session is over.
    async fn next(&mut self) -> Option<Event> {
        loop {
            if let Some((id, html)) = self.ready.pop_front() {
                let data = serde_json::json!({ "id": id, "html": html });
                return Some(Event::default().event("panel").data(data.to_string()));
            }
            self.looks.changed().await.ok()?;
            match self.changed().await {
                Ok(panels) => self.ready.extend(panels),
                // Whoever was logged out, or is a user no more, sees no more.
                Err(error) if guard::is_over(&error) => return None,
                Err(error) => {
                    let data = error.to_string();
                    return Some(Event::default().event("lost").data(data));
                }
            }
            if self.ready.is_empty() {
                // Says that what is shown is still so. Browsers drop events without data.
                return Some(Event::default().event("same").data("1"));
            }
        }
    }

    /// Panels that differ from what was sent.
    async fn changed(&mut self) -> Result<Vec<(&'static str, String)>, ApiError> {
        let token = self.visitor.token.0.expose_secret();
        auth::caller(&self.webapp, token).await?;
        let mut changed = Vec::new();
        for panel in self.panels().await? {
            let html = panel.body.into_string();
            if self.sent.get(panel.id) != Some(&html) {
                self.sent.insert(panel.id, html.clone());
                changed.push((panel.id, html));
            }
        }
        Ok(changed)
    }

    async fn panels(&self) -> Result<Vec<Panel>, ApiError> {
        let (webapp, visitor) = (&self.webapp, &self.visitor);
        match self.page {
            Page::Cluster => Ok(cluster::panels(webapp, visitor)),
            Page::Timeline => timeline::panels(webapp, visitor, &self.filter).await,
            Page::Messages => messages::panels(webapp, visitor).await,
            Page::Number => number::panels(webapp, visitor).await,
            // Forms stay as they are while somebody writes in them.
            Page::Settings => Ok(Vec::new()),
        }
    }
}
