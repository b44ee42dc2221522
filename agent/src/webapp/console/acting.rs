//! The pages of acts: what one would come to, by a dry run of the primary master; then that it is done, and what came of it.
//! Decides nothing: the master looks the administrator's token up, and judges by its own setting.

use std::sync::Arc;
use std::time::Duration;

use axum::Form;
use axum::extract::rejection::QueryRejection;
use axum::extract::{Extension, FromRequest as _, Query, Request, State};
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse as _, Response};
use maud::{Markup, html};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::act::{Act, Call, Given, May, PATH};
use super::frame::{form_token, page, panel};
use super::guard::{self, Visitor};
use super::mistake::Mistake;
use super::words::Word;
use crate::api::act::{self as table, Acts};
use crate::api::control::{
    ControlError, OperatorAnswer, OperatorRequest, SwitchoverAnswer, SwitchoverRequest,
};
use crate::api::parked::{self, Wish};
use crate::net::doer::{At, DeedError};
use crate::webapp::audited::Open;
use crate::webapp::auth::source_of;
use crate::webapp::state::Webapp;
use crate::webapp::v1::setting::primary_master;

/// One call: longer than the master waits for its database.
const WITHIN: Duration = Duration::from_secs(8);
/// Calls for one act on parked callbacks: each goes on for one and a half seconds.
const CALLS_MAX: u32 = 6;
/// Longest reason, in characters.
const REASON_LEN_MAX: usize = 200;
/// Of a pause, where nothing is chosen.
const MINUTES: &str = "30";

/// What the primary master says.
struct Said {
    accepted: bool,
    message: String,
    /// Whom a switchover would move to.
    to: Option<String>,
    /// The last parked callback that is meant.
    upto: Option<i64>,
}

/// Why there is no such word.
enum Failure {
    /// Nothing was done.
    Refused(String),
    /// Nobody knows whether it was done.
    Unknown(String),
}

/// Whether it is to be done, and why.
#[derive(Clone, Copy)]
enum How<'a> {
    Dry,
    Done { reason: &'a str },
}

/// The page in front of an act.
///
/// # Errors
/// When he may not, or the address is wrong.
pub async fn show(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    given: Result<Query<Given>, QueryRejection>,
) -> Result<Response, Mistake> {
    let mut given = given.map(|Query(given)| given).unwrap_or_default();
    if given.act == Act::Pause.name() && given.minutes.is_empty() {
        MINUTES.clone_into(&mut given.minutes);
    }
    let (act, call) = admitted(&webapp, &visitor, &given)?;
    let said = match ask(&webapp, &visitor, &call, How::Dry).await {
        Ok(said) => said,
        Err(Failure::Refused(why) | Failure::Unknown(why)) => {
            let status = StatusCode::SERVICE_UNAVAILABLE;
            return Err(Mistake::saying(&visitor, act.page(), (status, &why)));
        }
    };
    let choice = choice(&webapp, &visitor, act, &given);
    if let (Act::Switchover, "", Some(to)) = (act, given.minutes.trim(), &said.to) {
        // Whoever sends the form twice moves the shard once.
        to.clone_into(&mut given.node);
    }
    if let Some(upto) = said.upto {
        given.upto = upto.to_string();
    }
    let before = html! { p lang="en" dir="auto" { (act.consequence()) } (choice) };
    let would = would(&visitor, act, &given, &said);
    Ok(page(&visitor, act.page(), &before, &[would]))
}

/// What may be chosen beside what the button said.
fn choice(webapp: &Webapp, visitor: &Visitor, act: Act, given: &Given) -> Markup {
    let tongue = visitor.tongue;
    let (shard, node, minutes) = match act {
        Act::Pause => (true, false, Some(Word::Minutes)),
        Act::Resume => (true, false, None),
        Act::Switchover => (false, true, Some(Word::InMinutes)),
        Act::Failover => (false, true, None),
        Act::CancelSwitchover
        | Act::Drain
        | Act::Undrain
        | Act::RetryCallbacks
        | Act::RetryEvents
        | Act::Forget
        | Act::Ack
        | Act::AckServer
        | Act::Adopt
        | Act::RevokeTokens
        | Act::PurgeCallbacks => return html! {},
    };
    let seen = webapp.console.seen();
    let nodes = seen.status.iter().flat_map(|status| &status.nodes);
    let coreapps: Vec<&str> = nodes
        .filter(|node| node.role == "coreapp")
        .map(|node| node.node.as_str())
        .collect();
    let chosen = given.node.trim();
    html! {
        form.act method="get" action=(PATH) {
            input type="hidden" name="act" value=(act.name());
            @if shard {
                label {
                    (tongue.say(Word::ShardOrAll))
                    input name="shard" type="number" min="0" max="31" value=(given.shard.trim());
                }
            } @else { input type="hidden" name="shard" value=(given.shard.trim()); }
            @if node {
                label {
                    (tongue.say(Word::ToNode))
                    select name="node" {
                        option value="" selected[chosen.is_empty()] { (tongue.say(Word::WhoeverIsBest)) }
                        @for one in coreapps { option value=(one) selected[one == chosen] { (one) } }
                    }
                }
            }
            @if let Some(label) = minutes {
                label {
                    (tongue.say(label))
                    input name="minutes" type="number" min="1" max="1440" value=(given.minutes.trim());
                }
            }
            button type="submit" { (tongue.say(Word::ShowAgain)) }
        }
    }
}

/// What the act would come to, and the form that does it.
fn would(visitor: &Visitor, act: Act, given: &Given, said: &Said) -> super::frame::Panel {
    let tongue = visitor.tongue;
    let body = html! {
        h3 { (tongue.say(Word::WouldHappen)) }
        p class=(if said.accepted { "verdict" } else { "warn verdict" }) role="status" lang="en" dir="auto" { (said.message) }
        @if said.accepted {
            form.act method="post" action=(PATH) {
                @for (name, value) in given.fields() { input type="hidden" name=(name) value=(value); }
                (form_token(visitor))
                label { (tongue.say(Word::Reason)) input name="reason" maxlength=(REASON_LEN_MAX) size="40"; }
                button type="submit" { (tongue.say(act.label())) }
            }
        }
        p { a href=(act.page().path()) { (tongue.say(Word::BackWithoutChange)) } }
    };
    panel("act", &heading(visitor, act, given), &body)
}

fn heading(visitor: &Visitor, act: Act, given: &Given) -> String {
    let label = visitor.tongue.say(act.label());
    let about: Vec<&str> = [
        &given.shard,
        &given.node,
        &given.event,
        &given.user,
        &given.id,
    ]
    .into_iter()
    .map(|value| value.trim())
    .filter(|value| !value.is_empty())
    .collect();
    match about.is_empty() {
        true => label.into_owned(),
        false => format!("{label}: {}", about.join(", ")),
    }
}

/// Does an act, and shows what came of it.
pub async fn carry_out(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    request: Request,
) -> Response {
    let source = source_of(&webapp.settings, request.headers(), request.extensions());
    let foreign = guard::is_foreign(request.headers());
    let line = Open::begin(&webapp, ("POST /console/act", &Method::POST, PATH), source);
    line.trace().shown(&visitor.caller.username);
    let given = Form::<Given>::from_request(request, &webapp).await;
    let given = given.map(|Form(given)| given).unwrap_or_default();
    line.trace()
        .add(&format!("{} {}", given.act, given.about()));
    let done = done(&webapp, &visitor, &given, foreign).await;
    let response = done.unwrap_or_else(Mistake::into_response);
    line.answered(&response);
    response
}

async fn done(
    webapp: &Webapp,
    visitor: &Visitor,
    given: &Given,
    foreign: bool,
) -> Result<Response, Mistake> {
    let (act, call) = admitted(webapp, visitor, given)?;
    if foreign || !visitor.sent(&given.form) {
        let why = "This form was not sent by a page of this session. Nothing was done. Go back to the console, and do it there.";
        return Err(Mistake::saying(
            visitor,
            act.page(),
            (StatusCode::FORBIDDEN, why),
        ));
    }
    let reason: String = given.reason.trim().chars().take(REASON_LEN_MAX).collect();
    let how = How::Done { reason: &reason };
    let (status, class, message) = match ask(webapp, visitor, &call, how).await {
        Ok(said) if said.accepted => (StatusCode::OK, "good verdict", said.message),
        Ok(Said { message, .. }) | Err(Failure::Refused(message)) => {
            (StatusCode::CONFLICT, "bad verdict", message)
        }
        Err(Failure::Unknown(message)) => {
            (StatusCode::SERVICE_UNAVAILABLE, "warn verdict", message)
        }
    };
    let tongue = visitor.tongue;
    let body = html! {
        h3 { (tongue.say(Word::Outcome)) }
        p class=(class) role="alert" lang="en" dir="auto" { (message) }
        p { a href=(act.page().path()) { (tongue.say(act.page().title())) } }
    };
    let panel = panel("act", &heading(visitor, act, given), &body);
    let mut response = page(visitor, act.page(), &html! {}, &[panel]);
    *response.status_mut() = status;
    Ok(response)
}

/// The act, if it is whole and this webapp offers it to him.
fn admitted(webapp: &Webapp, visitor: &Visitor, given: &Given) -> Result<(Act, Call), Mistake> {
    let wrong =
        |status, why: &str| Mistake::saying(visitor, super::frame::Page::Cluster, (status, why));
    if !visitor.caller.admin {
        let why =
            "Only the administrator may do this. Nothing was done. Log in as the administrator.";
        return Err(wrong(StatusCode::FORBIDDEN, why));
    }
    let (act, call) = given
        .read()
        .map_err(|why| wrong(StatusCode::BAD_REQUEST, &why))?;
    if !May::of(webapp, visitor).act(act) {
        let why = format!(
            "[console] acts is \"{}\" on this webapp, so that the console does not offer {}. Nothing was done. Type the verb on a machine \
             with the cluster key. Or write acts = \"{}\" in [console] on every machine with a master or a webapp, and restart both",
            webapp.settings.console.acts,
            act.name(),
            Acts::least(act.risk())
        );
        return Err(wrong(StatusCode::FORBIDDEN, &why));
    }
    Ok((act, call))
}

/// What the primary master says to it.
async fn ask(
    webapp: &Webapp,
    visitor: &Visitor,
    call: &Call,
    how: How<'_>,
) -> Result<Said, Failure> {
    let (dry_run, reason) = match how {
        How::Dry => (true, None),
        How::Done { reason } => (false, Some(reason.to_owned()).filter(|r| !r.is_empty())),
    };
    // The master writes the administrator's name before it.
    let by = Some(webapp.settings.node.as_str().to_owned());
    match call {
        Call::Verb(verb) => {
            let verb = verb.clone();
            let wish = OperatorRequest {
                verb,
                dry_run,
                reason,
                by,
            };
            let said: OperatorAnswer = send(webapp, visitor, &wish).await?;
            Ok(Said {
                accepted: said.accepted,
                message: said.message,
                to: None,
                upto: None,
            })
        }
        Call::Switchover(wish) => {
            let wish = SwitchoverRequest {
                dry_run,
                reason,
                by,
                ..wish.clone()
            };
            let said: SwitchoverAnswer = send(webapp, visitor, &wish).await?;
            Ok(Said {
                accepted: said.accepted,
                message: said.message,
                to: said.to,
                upto: None,
            })
        }
        Call::Parked(wish) => {
            let wish = Wish {
                dry_run,
                reason,
                by,
                ..wish.clone()
            };
            parked_all(webapp, visitor, wish).await
        }
    }
}

/// Asks until all of them are done, or for long enough.
async fn parked_all(webapp: &Webapp, visitor: &Visitor, wish: Wish) -> Result<Said, Failure> {
    let (mut done, mut calls) = (0, 0);
    loop {
        calls += 1;
        let asked = send::<_, parked::Answer>(webapp, visitor, &wish).await;
        let said = match asked {
            Err(Failure::Refused(why) | Failure::Unknown(why)) if done > 0 => {
                let so_far = wish.what.sentence(done);
                let why = format!("{so_far}. Of the rest this is known: {why}");
                return Err(Failure::Unknown(why));
            }
            other => other?,
        };
        done += said.done;
        if said.accepted && said.more && calls < CALLS_MAX {
            continue;
        }
        let (accepted, message) = match (said.accepted, done) {
            (false, _) => (false, said.message),
            (true, 0) => (
                false,
                "no callback is put aside: there is nothing to do".into(),
            ),
            (true, _) if said.more => {
                let so_far = wish.what.sentence(done);
                (true, format!("{so_far}. There are more: do the same again"))
            }
            (true, _) => (true, wish.what.sentence(done)),
        };
        return Ok(Said {
            accepted,
            message,
            to: None,
            upto: said.upto,
        });
    }
}

/// An answer that another master may have to give.
trait Elsewhere {
    fn elsewhere(&self) -> bool;
}

macro_rules! elsewhere {
    ($($answer:ty),*) => {$(
        impl Elsewhere for $answer {
            fn elsewhere(&self) -> bool {
                self.elsewhere
            }
        }
    )*};
}

elsewhere!(OperatorAnswer, SwitchoverAnswer, parked::Answer);

/// One call at the primary master, with the administrator's own token.
async fn send<T, A>(webapp: &Webapp, visitor: &Visitor, wish: &T) -> Result<A, Failure>
where
    T: table::Act + Serialize + Sync,
    A: DeserializeOwned + Elsewhere,
{
    let control = primary_master(webapp).await;
    let control =
        control.map_err(|error| Failure::Refused(format!("{error}. Nothing was done")))?;
    let known = webapp.map.now().master.clone();
    let known = known.filter(|(_, url)| *url == control);
    let at = At {
        base: &control,
        node: known.as_ref().map(|(node, _)| node.as_str()),
    };
    let asked = webapp.do_for(at, T::PATH, (wish, &visitor.token), WITHIN);
    let (status, bytes) = asked.await.map_err(|error| failure(&error))?;
    if status.is_success() {
        let answer: A = serde_json::from_slice(&bytes).map_err(|_| {
            let why = "The primary master answered in words of another release. Whether it was done is not known: look at the timeline";
            Failure::Unknown(why.into())
        })?;
        return match answer.elsewhere() {
            true => Err(Failure::Refused(
                "Another master became primary meanwhile. Nothing was done. Try again".into(),
            )),
            false => Ok(answer),
        };
    }
    let said = serde_json::from_slice::<ControlError>(&bytes);
    let why = said.map_or_else(
        |_| format!("the primary master answered {status}"),
        |said| said.message,
    );
    Err(match status.is_client_error() {
        true => Failure::Refused(why),
        // It says itself whether something was done.
        false => Failure::Unknown(why),
    })
}

/// A call without a proved answer.
fn failure(error: &DeedError) -> Failure {
    let why = error.to_string();
    match error {
        DeedError::Silent { .. }
        | DeedError::Older(_)
        | DeedError::NoNonce { .. }
        | DeedError::Stranger(_)
        | DeedError::Other { .. }
        | DeedError::WebappKey
        | DeedError::Seal(_) => Failure::Refused(why),
        DeedError::Call { .. } | DeedError::Unproved { .. } | DeedError::Changed(_) => {
            Failure::Unknown(why)
        }
    }
}
