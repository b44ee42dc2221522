//! `GET /`: whether this webapp is up, for whoever has no login. `HEAD` is answered by the same row.
//! Asks nobody else: the cluster is told by `/v1/health`.

use std::sync::Arc;

use axum::extract::State;
use axum::http::{HeaderMap, header};
use axum::response::{Html, IntoResponse as _, Response};
use maud::{DOCTYPE, html};

use crate::api::v1::MetaOnly;
use crate::webapp::answer::ok;
use crate::webapp::state::Webapp;

/// This webapp is up.
///
/// Browsers are shown the way to the console.
#[utoipa::path(get, path = "/", tag = "monitoring", responses((status = 200, body = MetaOnly)))]
pub async fn root(State(webapp): State<Arc<Webapp>>, headers: HeaderMap) -> Response {
    answer(webapp.settings.console.serve, &headers)
}

/// `console`: this webapp serves one.
fn answer(console: bool, headers: &HeaderMap) -> Response {
    let wanted = headers.get(header::ACCEPT);
    let browser = wanted.is_some_and(|kinds| {
        let kinds = kinds.to_str().unwrap_or("");
        kinds.contains("text/html")
    });
    if !browser {
        return ok(&MetaOnly::default());
    }
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                title { "wa-agent" }
            }
            body {
                main {
                    h1 { "wa-agent" }
                    p { "This webapp is up." }
                    @if console { p { a href="/console" { "Open the console" } } }
                }
            }
        }
    };
    let policy = [(
        header::CONTENT_SECURITY_POLICY,
        "default-src 'none'; frame-ancestors 'none'",
    )];
    (policy, Html(page.into_string())).into_response()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: load balancers and integrations get JSON, browsers a page that leads to the console, where there is one. Method: what each of them accepts.
    #[tokio::test]
    async fn only_browsers_get_a_page() {
        for (accepts, page) in [
            (None, false),
            (Some("*/*"), false),
            (Some("application/json"), false),
            (Some("text/html,application/xhtml+xml,*/*;q=0.8"), true),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accepts) = accepts {
                headers.insert(header::ACCEPT, accepts.parse().expect("plain"));
            }
            for console in [true, false] {
                let answer = answer(console, &headers);
                let body = axum::body::to_bytes(answer.into_body(), 1 << 16).await;
                let text = String::from_utf8(body.expect("whole").to_vec()).expect("text");
                let leads = text.contains("href=\"/console\"");
                assert_eq!(leads, page && console, "{text}");
                assert_eq!(text.starts_with("{\"meta\""), !page, "{text}");
            }
        }
    }
}
