//! Every path of the public API, and its description.
//! Trailing slashes are accepted everywhere, as published examples use them.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{DefaultBodyLimit, Request, State};
use axum::http::header;
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{MethodRouter, get, post, put};
use axum::{Json, Router};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::{Modify, OpenApi};

use super::answer::{unknown_path, wrong_method};
use super::state::Webapp;
use super::{cluster, events, media, messages, settings, users};
use crate::api::error::ApiError;

/// A text of 4,096 characters fits many times over.
const BODY_LEN_MAX: usize = 256 << 10;
/// The upstream's calls carry many events.
const EVENTS_LEN_MAX: usize = 4 << 20;

/// The description of the API.
#[derive(OpenApi)]
#[openapi(
    info(title = "wa-agent", description = "WhatsApp messaging from a business's own machines"),
    paths(
        users::login, users::logout, users::create, users::read, users::change, users::delete,
        messages::send, messages::mark_read, messages::contacts,
        media::upload, media::download, media::delete,
        settings::read, settings::change, settings::restore,
        cluster::health, cluster::stats_db, cluster::shards, cluster::change_shards,
        events::verify, events::receive
    ),
    modifiers(&Schemes)
)]
pub struct Description;

struct Schemes;

impl Modify for Schemes {
    fn modify(&self, api: &mut utoipa::openapi::OpenApi) {
        let components = api.components.get_or_insert_with(Default::default);
        components.add_security_scheme(
            "bearer",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer)),
        );
        components.add_security_scheme(
            "basic",
            SecurityScheme::Http(Http::new(HttpAuthScheme::Basic)),
        );
        let apikey = ApiKeyValue::with_description("authorization", "Apikey <key>");
        components.add_security_scheme("apikey", SecurityScheme::ApiKey(ApiKey::Header(apikey)));
    }
}

/// What reading a body, a login or a slow database may take beside the wait for an owner.
const BEYOND_HOLD: Duration = Duration::from_secs(20);

type Routes = Router<Arc<Webapp>>;

/// The path with and without a slash at its end.
fn both(router: Routes, path: &str, methods: MethodRouter<Arc<Webapp>>) -> Routes {
    router
        .route(path, methods.clone())
        .route(&format!("{path}/"), methods)
}

/// The router of the public port.
pub fn router(webapp: Arc<Webapp>) -> Router {
    let mut api = Router::new();
    for (path, methods) in [
        ("/v1/users/login", post(users::login)),
        ("/v1/users/logout", post(users::logout)),
        ("/v1/users", post(users::create)),
        (
            "/v1/users/{username}",
            get(users::read).put(users::change).delete(users::delete),
        ),
        ("/v1/messages", post(messages::send)),
        ("/v1/messages/{id}", put(messages::mark_read)),
        ("/v1/contacts", post(messages::contacts)),
        ("/v1/media", post(media::upload)),
        ("/v1/media/{id}", get(media::download).delete(media::delete)),
        ("/v1/health", get(cluster::health)),
        (
            "/v1/settings/application",
            get(settings::read)
                .patch(settings::change)
                .delete(settings::restore),
        ),
        (
            "/v1/account/shards",
            get(cluster::shards).post(cluster::change_shards),
        ),
        ("/v1/stats/db", get(cluster::stats_db)),
        ("/v1/metrics", get(cluster::metrics)),
        ("/metrics", get(cluster::metrics)),
        (
            "/v1/openapi.json",
            get(async || Json(Description::openapi())),
        ),
    ] {
        api = both(api, path, methods);
    }
    let events = post(events::receive)
        .layer(DefaultBodyLimit::max(EVENTS_LEN_MAX))
        .get(events::verify);
    both(api, "/cloud/webhook", events)
        .method_not_allowed_fallback(wrong_method)
        .fallback(unknown_path)
        .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
        .layer(middleware::from_fn_with_state(Arc::clone(&webapp), count))
        .with_state(webapp)
}

/// Counts, and lets no refusal out that is not an error object: the framework's own are plain text.
async fn count(State(webapp): State<Arc<Webapp>>, request: Request, next: Next) -> Response {
    webapp.metrics.requests.inc();
    // Files are long; each of their chunks has a deadline of its own.
    let deadline = if request.uri().path().starts_with("/v1/media") {
        media::TRANSFER_WITHIN
    } else {
        webapp.map.hold_timeout() + BEYOND_HOLD
    };
    let Ok(mut response) = tokio::time::timeout(deadline, next.run(request)).await else {
        return ApiError::with(1016, "The request took too long").into_response();
    };
    if webapp.stopping.is_cancelled() {
        // The client learns it with an answer, instead of by a connection that closes under its next request.
        let close = header::HeaderValue::from_static("close");
        response.headers_mut().insert(header::CONNECTION, close);
    }
    let status = response.status();
    let refused = status.is_client_error() || status.is_server_error();
    let json = response
        .headers()
        .get(header::CONTENT_TYPE)
        .is_some_and(|kind| kind.as_bytes().starts_with(b"application/json"));
    if !refused || json {
        return response;
    }
    let code = if status.is_server_error() { 1014 } else { 1025 };
    ApiError::new(code).status(status.as_u16()).into_response()
}
