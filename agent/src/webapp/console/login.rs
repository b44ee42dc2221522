//! Logging in and out of the console, and choosing its language.
//! Checks no password: `v1/user.rs` does, as for the API.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Form;
use axum::extract::{Extension, FromRequest as _, Path, Request, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Redirect, Response};
use maud::{Markup, html};
use serde::Deserialize;

use super::frame::alone;
use super::guard::{self, Visitor};
use super::words::{Tongue, Word};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::webapp::answer::database;
use crate::webapp::audited::{Open, Trace};
use crate::webapp::auth::{Basic, peer_of, source_of};
use crate::webapp::state::Webapp;
use crate::webapp::v1::user;

/// For one login; less than a page may take.
const LOGIN_WITHIN: Duration = Duration::from_secs(15);

/// What the form sends.
#[derive(Deserialize)]
pub struct Given {
    username: String,
    password: String,
    #[serde(default)]
    new_password: String,
}

/// What a form without fields sends.
#[derive(Deserialize)]
struct Sent {
    #[serde(default)]
    form: String,
}

/// The form; who is logged in goes on to the pages.
pub async fn form(State(webapp): State<Arc<Webapp>>, headers: HeaderMap) -> Response {
    match guard::visitor(&webapp, &headers).await {
        Ok(Some(_)) => Redirect::to("/console").into_response(),
        Ok(None) | Err(_) => alone(
            guard::tongue(&headers),
            Word::LogIn,
            &fields("", None, guard::tongue(&headers)),
        ),
    }
}

/// `wrong`: why the last try was refused.
fn fields(username: &str, wrong: Option<&ApiError>, tongue: Tongue) -> Markup {
    let change = wrong.is_some_and(|error| error.code == Code::PasswordChangeRequired);
    html! {
        @if let Some(wrong) = wrong {
            p.bad role="alert" lang="en" dir="auto" { (in_words(wrong)) }
        }
        form.login method="post" action="/console/login" {
            label { (tongue.say(Word::UserName)) input name="username" autocomplete="username" required value=(username) maxlength="64"; }
            label {
                (tongue.say(Word::Password))
                input name="password" type="password" autocomplete="current-password" required maxlength="256";
            }
            @if change {
                label {
                    (tongue.say(Word::NewPassword))
                    input name="new_password" type="password" autocomplete="new-password" required maxlength="256";
                }
            }
            button type="submit" { (tongue.say(Word::LogIn)) }
        }
    }
}

/// Why a login is refused, and what to do.
fn in_words(error: &ApiError) -> String {
    let details = error.details.as_deref().unwrap_or(error.code.title());
    if error.code == Code::PasswordChangeRequired {
        return "This is the first password. Type it again, and beside it the password that you want from now on.".into();
    }
    match error.http_status() {
        401 => "This name and this password do not belong together. Nobody was logged in.".into(),
        429 => "Too many logins failed. Wait a minute, then try again.".into(),
        _ => format!("Nobody was logged in. {details}."),
    }
}

/// Logs in.
pub async fn log_in(State(webapp): State<Arc<Webapp>>, request: Request) -> Response {
    let (headers, extensions) = (request.headers().clone(), request.extensions().clone());
    let source = source_of(&webapp.settings, &headers, &extensions);
    let peer = peer_of(&extensions);
    let tongue = guard::tongue(&headers);
    let asked = ("POST /console/login", &Method::POST, "/console/login");
    let line = Open::begin(&webapp, asked, source);
    let (username, made) = if guard::is_foreign(&headers) {
        let why =
            "The form was sent by a page of somebody else. Open /console/login and log in there";
        (String::new(), Err(ApiError::with(Code::AccessDenied, why)))
    } else {
        match Form::<Given>::from_request(request, &webapp).await {
            Ok(Form(given)) => {
                let made = enter(&webapp, &given, (source, peer), (&headers, &line.trace())).await;
                (given.username, made)
            }
            Err(_) => {
                let why = "The form was not whole; reload the page and try again";
                (
                    String::new(),
                    Err(ApiError::with(Code::InvalidRequest, why)),
                )
            }
        }
    };
    let response = match made {
        Ok(token) => {
            let cookie = guard::session(&webapp, (&headers, peer), token);
            ([(header::SET_COOKIE, cookie)], Redirect::to("/console")).into_response()
        }
        Err(error) => {
            let page = alone(
                tongue,
                Word::LogIn,
                &fields(&username, Some(&error), tongue),
            );
            let status = StatusCode::from_u16(error.http_status());
            let mut response = (status.unwrap_or(StatusCode::BAD_REQUEST), page).into_response();
            response.extensions_mut().insert(error.code);
            response
        }
    };
    // A login that leads on is one that was done.
    let told = match response.status() {
        StatusCode::SEE_OTHER => StatusCode::OK.into_response(),
        _ => {
            let mut told = response.status().into_response();
            if let Some(code) = response.extensions().get::<Code>() {
                told.extensions_mut().insert(*code);
            }
            told
        }
    };
    line.answered(&told);
    response
}

/// Within [`LOGIN_WITHIN`], so that the line of a slow login says what came of it.
async fn enter(
    webapp: &Arc<Webapp>,
    given: &Given,
    from: (IpAddr, IpAddr),
    said: (&HeaderMap, &Trace),
) -> Result<String, ApiError> {
    let entered = tokio::time::timeout(LOGIN_WITHIN, check(webapp, given, from, said)).await;
    let late = "The login took too long; try again";
    entered.unwrap_or_else(|_| Err(ApiError::with(Code::Overloaded, late)))
}

async fn check(
    webapp: &Arc<Webapp>,
    given: &Given,
    (source, peer): (IpAddr, IpAddr),
    (headers, trace): (&HeaderMap, &Trace),
) -> Result<String, ApiError> {
    let db = webapp.db()?;
    let basic = Basic {
        username: given.username.clone(),
        password: given.password.clone(),
        source,
    };
    let user = user::authenticate(webapp, &db, (&basic, trace), (peer, headers));
    let mut user = user.await?;
    let new = Some(given.new_password.as_str()).filter(|new| !new.is_empty());
    let new = new.map(|new| (new, false));
    let (token, _) = user::let_in(webapp, &db, (&mut user, new), trace).await?;
    Ok(token)
}

/// Logs out: the session's token ends on every webapp within a second.
pub async fn log_out(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let source = source_of(&webapp.settings, request.headers(), request.extensions());
    let sent = Form::<Sent>::from_request(request, &webapp).await;
    if !sent.is_ok_and(|Form(sent)| visitor.sent(&sent.form)) {
        return Redirect::to("/console").into_response();
    }
    let asked = ("POST /console/logout", &Method::POST, "/console/logout");
    let line = Open::begin(&webapp, asked, source);
    line.trace().shown(&visitor.caller.username);
    let ended = async {
        let ended = webapp.db()?.revoke_token(&visitor.caller.token_hash).await;
        ended.map_err(|error| database(&error))
    };
    match ended.await {
        Ok(()) => {
            webapp.tokens.forget(&visitor.caller.token_hash);
            line.answered(&StatusCode::OK.into_response());
            let cookie = guard::ended();
            let to = Redirect::to("/console/login");
            ([(header::SET_COOKIE, cookie)], to).into_response()
        }
        Err(error) => {
            let response = error.into_response();
            line.answered(&response);
            response
        }
    }
}

/// Chooses a language, and goes back to the console.
pub async fn language(Path(tag): Path<String>) -> Response {
    let cookie = guard::speaks(Tongue::of(&tag));
    ([(header::SET_COOKIE, cookie)], Redirect::to("/console")).into_response()
}
