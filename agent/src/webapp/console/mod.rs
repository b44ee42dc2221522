//! The console: what people see at `/console`. Each page is whole without a script; the script only keeps it fresh.
//! Decides nothing and has no right of its own: who looks, and who acts, is the user who logged in.

mod account;
mod act;
mod acting;
mod application;
mod certificates;
mod cluster;
mod curve;
mod deed;
mod frame;
mod guard;
mod inside;
mod live;
mod login;
mod look;
mod messages;
mod mistake;
mod number;
mod people;
pub mod sampler;
mod settings;
pub mod standing;
mod timeline;
mod trial;
mod words;

pub use guard::{is_foreign, tongue};
pub use login::Given;

use std::sync::Arc;

use axum::Router;
use axum::extract::{DefaultBodyLimit, Extension, State};
use axum::http::header;
use axum::middleware::{from_fn, from_fn_with_state};
use axum::response::{IntoResponse as _, Redirect, Response};
use axum::routing::{get, post};
use maud::html;
use tokio_util::sync::CancellationToken;

use self::frame::Page;
use self::guard::Visitor;
use self::sampler::LOOK_WITHIN;
use super::state::Webapp;

/// Longest form, in bytes.
const FORM_LEN_MAX: usize = 16 << 10;
const STYLE: &str = include_str!("console.css");
const SCRIPT: &str = include_str!("console.js");
const ICON: &str = include_str!("icon.svg");

/// Begins to look at the cluster, for the curves.
pub fn start(webapp: &Arc<Webapp>, stop: &CancellationToken) {
    if !webapp.settings.console.serve {
        return;
    }
    let sampler = Arc::clone(&webapp.console);
    let of = Arc::downgrade(webapp);
    tokio::spawn(look::run(sampler, of, stop.clone()));
}

/// Everything below `/console`; nothing where this webapp serves none.
pub fn router(webapp: &Arc<Webapp>) -> Router<Arc<Webapp>> {
    if !webapp.settings.console.serve {
        return Router::new();
    }
    let inside = Router::new()
        .route("/console", get(cluster_page))
        .route("/console/messages", get(messages::show))
        .route("/console/timeline", get(timeline::show))
        .route("/console/timeline/{id}", get(timeline::one))
        .route("/console/number", get(number::show))
        .route("/console/settings", get(settings::show))
        .route(
            "/console/settings/application",
            get(settings::back).post(settings::application),
        )
        .route(
            "/console/settings/password",
            get(settings::back).post(settings::password),
        )
        .route(
            "/console/settings/users",
            get(settings::back).post(settings::create),
        )
        .route(
            "/console/settings/tokens",
            get(settings::back).post(settings::end_tokens),
        )
        .route(
            "/console/settings/send",
            get(settings::back).post(settings::send),
        )
        .route("/console/act", get(acting::show).post(acting::carry_out))
        .route("/console/live", get(live::stream))
        .route("/console/logout", post(login::log_out))
        .route_layer(from_fn_with_state(Arc::clone(webapp), inside::users));
    let open = Router::new()
        .route("/console/", get(async || Redirect::permanent("/console")))
        .route("/console/login", get(login::form).post(login::log_in))
        .route("/console/language/{tag}", get(login::language))
        .route("/console/console.css", get(|| file("text/css", STYLE)))
        .route(
            "/console/console.js",
            get(|| file("text/javascript", SCRIPT)),
        )
        .route("/console/icon.svg", get(|| file("image/svg+xml", ICON)));
    inside
        .merge(open)
        .layer(DefaultBodyLimit::max(FORM_LEN_MAX))
        .layer(from_fn(guard::every))
}

async fn cluster_page(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
) -> Response {
    webapp.console.fresh(LOOK_WITHIN).await;
    let panels = cluster::panels(&webapp, &visitor);
    frame::page(&visitor, Page::Cluster, &html! {}, &panels)
}

/// A file of ours: part of the binary, so that a new release has new ones.
async fn file(kind: &'static str, text: &'static str) -> Response {
    let headers = [
        (header::CONTENT_TYPE, format!("{kind}; charset=utf-8")),
        (header::CACHE_CONTROL, "no-cache".to_owned()),
    ];
    (headers, text).into_response()
}

#[cfg(test)]
mod tests;
