//! The page of the settings: application settings, users and tokens, certificates, a test message. Users look, and change what is
//! their own; the administrator changes the rest.
//! Changes nothing itself: each form goes to the handler of the API that does the same.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;
use serde_json::Value;

use super::act::May;
use super::application::{self, Preview};
use super::certificates::{self, Proofs};
use super::deed::{self, Sent, administrator};
use super::frame::{Page, Panel, page, panel};
use super::guard::Visitor;
use super::mistake::Mistake;
use super::people::{self, People, Wish};
use super::trial;
use super::words::Word;
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::api::v1::setting::ApplicationSettings;
use crate::db::DbError;
use crate::webapp::answer::{Body, database};
use crate::webapp::state::Webapp;
use crate::webapp::v1::setting;

/// For what is read of the database.
const WITHIN: Duration = Duration::from_secs(10);
const CALL: &str = "PATCH /v1/settings/application";

/// What was done a moment ago, as the address says it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct After {
    done: String,
    sent: String,
}

impl After {
    /// Anybody can write an address: it says nothing but sentences of ours.
    fn said(&self) -> Option<Markup> {
        let good = |text: &str| html! { p.good role="status" lang="en" dir="auto" { (text) } };
        match self.done.as_str() {
            "settings" => Some(good(
                "The settings were saved. Every node goes by them within seconds.",
            )),
            "password" => Some(good(people::said(Wish::Password))),
            "user" => Some(good(people::said(Wish::Create))),
            "tokens" => Some(good(people::said(Wish::EndTokens))),
            _ => trial::said(&self.sent),
        }
    }
}

/// The page.
///
/// # Errors
/// When the database does not answer.
pub async fn show(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    Query(after): Query<After>,
) -> Result<Response, Mistake> {
    let above = after.said().unwrap_or_default();
    draw(&webapp, &visitor, &above, None).await
}

/// What a form of the application settings came to.
struct Draft {
    sent: Sent,
    /// What it would lead to; `None`: it was refused.
    preview: Option<Preview>,
}

async fn draw(
    webapp: &Webapp,
    visitor: &Visitor,
    above: &Markup,
    draft: Option<&Draft>,
) -> Result<Response, Mistake> {
    let panels = panels(webapp, visitor, draft).await;
    let panels = panels.map_err(|error| Mistake::of(visitor, Page::Settings, &error))?;
    Ok(page(visitor, Page::Settings, above, &panels))
}

async fn panels(
    webapp: &Webapp,
    visitor: &Visitor,
    draft: Option<&Draft>,
) -> Result<Vec<Panel>, ApiError> {
    let db = webapp.db()?;
    let read = async {
        Ok::<_, DbError>((
            People::read(&db, visitor).await?,
            Proofs::read(webapp, &db).await?,
        ))
    };
    let (people, proofs) = match tokio::time::timeout(WITHIN, read).await {
        Ok(read) => read.map_err(|error| database(&error))?,
        Err(_) => {
            let why = "The database did not answer in time; try again";
            return Err(ApiError::with(Code::Database, why).status(503));
        }
    };
    let stored = setting::stored(webapp).await;
    let mut panels = application_panels(webapp, visitor, (stored, draft));
    if visitor.caller.admin {
        panels.push(trial::form(visitor));
    }
    panels.push(people::users(&people, visitor));
    let may = May::of(webapp, visitor);
    panels.push(people::tokens(&people, visitor, may));
    panels.push(certificates::draw(&proofs, visitor.tongue));
    Ok(panels)
}

fn application_panels(
    webapp: &Webapp,
    visitor: &Visitor,
    (stored, draft): (Result<ApplicationSettings, ApiError>, Option<&Draft>),
) -> Vec<Panel> {
    let (tongue, timers) = (visitor.tongue, &webapp.settings.timers);
    let mut panels = Vec::new();
    let preview = draft.and_then(|draft| draft.preview.as_ref());
    if let Some(preview) = preview {
        let body = application::preview(preview, timers, tongue);
        panels.push(panel("preview", &tongue.say(Word::WouldChange), &body));
    }
    let title = tongue.say(Word::ApplicationSettings);
    match stored {
        Ok(settings) => {
            let body = application::timers(&settings, timers, tongue);
            panels.push(panel("timers", &tongue.say(Word::TimersAndTakeover), &body));
            let body = match visitor.caller.admin {
                true => {
                    let sent = draft.map(|draft| &draft.sent);
                    application::form(&settings, visitor, sent, preview)
                }
                false => application::list(&settings, tongue),
            };
            panels.push(panel("application", &title, &body));
        }
        Err(error) => {
            let body = html! {
                p.bad role="alert" lang="en" dir="auto" {
                    "The stored settings cannot be shown (" (error) "). If this stays, restore the defaults: DELETE /v1/settings/application"
                }
            };
            panels.push(panel("application", &title, &body));
        }
    }
    panels
}

/// The page again, with what is wrong above it.
async fn refused(
    webapp: &Webapp,
    visitor: &Visitor,
    error: &ApiError,
    draft: Option<&Draft>,
) -> Response {
    let details = error.details.as_deref();
    let details = details.map_or(String::new(), |details| format!(": {details}"));
    // A write that the database did not confirm may have happened.
    let happened = match error.http_status() {
        500.. => "This failed. Look below whether something was changed, then try again.",
        _ => "This was refused, and nothing was changed.",
    };
    let above = html! {
        p.bad role="alert" lang="en" dir="auto" { (happened) " " (error.code.title()) (details) "." }
    };
    let status = StatusCode::from_u16(error.http_status());
    let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    match draw(webapp, visitor, &above, draft).await {
        Ok(mut response) => {
            *response.status_mut() = status;
            response
        }
        Err(mistake) => mistake.into_response(),
    }
}

async fn ended(
    webapp: &Webapp,
    visitor: &Visitor,
    (outcome, to): (Result<(), ApiError>, &str),
) -> Response {
    match outcome {
        Ok(()) => Redirect::to(to).into_response(),
        Err(error) => refused(webapp, visitor, &error, None).await,
    }
}

/// Whoever opens the address of a form is led to the page.
pub async fn back() -> Redirect {
    Redirect::to("/console/settings")
}

/// A new password.
pub async fn password(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let outcome = people::act(&webapp, &visitor, (Wish::Password, request)).await;
    let to = "/console/settings?done=password";
    ended(&webapp, &visitor, (outcome, to)).await
}

/// A new user.
pub async fn create(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let outcome = people::act(&webapp, &visitor, (Wish::Create, request)).await;
    ended(&webapp, &visitor, (outcome, "/console/settings?done=user")).await
}

/// The end of tokens: shown first, and done when the form of that page is sent.
pub async fn end_tokens(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let outcome = match people::end(&webapp, &visitor, request).await {
        Ok(Some(ending)) => {
            let shown = people::confirm(&ending, &visitor).body;
            let drawn = draw(&webapp, &visitor, &shown, None).await;
            return drawn.into_response();
        }
        Ok(None) => Ok(()),
        Err(error) => Err(error),
    };
    let to = "/console/settings?done=tokens";
    ended(&webapp, &visitor, (outcome, to)).await
}

/// A test message.
pub async fn send(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let (outcome, to) = match trial::send(&webapp, &visitor, request).await {
        Ok(id) => (Ok(()), format!("/console/settings?sent={id}")),
        Err(error) => (Err(error), String::new()),
    };
    ended(&webapp, &visitor, (outcome, &to)).await
}

/// What a form of the application settings leads to.
// There is one at a time, and nobody keeps it.
#[allow(clippy::large_enum_variant)]
enum Step {
    Saved,
    Nothing,
    Shown(Box<Preview>),
}

/// A change of the application settings: shown first, and saved when what is sent is what was shown.
pub async fn application(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let (source, sent) = deed::sent(&webapp, &visitor, request).await;
    let outcome = match &sent {
        Ok(sent) if sent.get("step") != Some("save") && visitor.caller.admin => {
            look(&webapp, sent).await
        }
        // Whatever else is sent is a try to change something.
        sent => {
            let asked = (CALL, &Method::PATCH, "/v1/settings/application");
            let line = deed::begin(&webapp, &visitor, asked, source);
            let outcome = match sent {
                Ok(sent) => save(&webapp, &visitor, (sent, line.trace())).await,
                Err(error) => Err(error.clone()),
            };
            if matches!(outcome, Ok(Step::Shown(_) | Step::Nothing)) {
                line.trace().add("(shown again, nothing saved)");
            }
            deed::end(line, &outcome);
            outcome
        }
    };
    let sent = sent.unwrap_or_default();
    match outcome {
        Ok(Step::Saved) => Redirect::to("/console/settings?done=settings").into_response(),
        Ok(Step::Nothing) => {
            let above = html! { p.quiet role="status" lang="en" dir="auto" { "This changes nothing: all of it is so already." } };
            draw(&webapp, &visitor, &above, None).await.into_response()
        }
        Ok(Step::Shown(preview)) => {
            let preview = Some(*preview);
            let above = html! { p.warn role="status" lang="en" dir="auto" { "Nothing is saved yet. Look at what it would change; then save it below." } };
            let draft = Draft { sent, preview };
            let drawn = draw(&webapp, &visitor, &above, Some(&draft)).await;
            drawn.into_response()
        }
        Err(error) => {
            let preview = None;
            let draft = Draft { sent, preview };
            refused(&webapp, &visitor, &error, Some(&draft)).await
        }
    }
}

async fn look(webapp: &Webapp, sent: &Sent) -> Result<Step, ApiError> {
    let patch = application::patch(&setting::stored(webapp).await?, sent)?;
    if patch.is_empty() {
        return Ok(Step::Nothing);
    }
    let foreseen = setting::foresee(webapp, &Fields::of(patch.clone())).await?;
    Ok(Step::Shown(Box::new(Preview { foreseen, patch })))
}

async fn save(
    webapp: &Arc<Webapp>,
    visitor: &Visitor,
    (sent, trace): (&Sent, crate::webapp::audited::Trace),
) -> Result<Step, ApiError> {
    administrator(visitor)?;
    let before = setting::stored(webapp).await?;
    let patch = application::patch(&before, sent)?;
    // Somebody changed the fields, or the settings, since they were shown.
    if sent.text("shown") != application::seal(&before, &patch) {
        return look(webapp, sent).await;
    }
    let body = Body(Value::Object(patch).to_string().into());
    let state = State(Arc::clone(webapp));
    setting::change(state, Extension(trace), body).await?;
    Ok(Step::Saved)
}
