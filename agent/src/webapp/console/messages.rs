//! The page of the messages: how many come and go, what waits, what was put aside, and one message's life.
//! Shows no text of a message, and reads none.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Extension, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;
use wa_core::message::MessageState;

use super::act::{Act, May};
use super::curve::draw;
use super::frame::{Page, Panel, moment, page, panel, table};
use super::guard::Visitor;
use super::mistake::Mistake;
use super::sampler::LOOK_WITHIN;
use super::words::{Tongue, Word};
use crate::api::error::ApiError;
use crate::api::parked::Parked;
use crate::api::picture::curve::{Counted, Measure};
use crate::api::v1::code::Code;
use crate::db::DbError;
use crate::db::find::{LOOKED_THROUGH, Life};
use crate::webapp::answer::database;
use crate::webapp::state::Webapp;

/// Put-aside callbacks that are shown.
const PARKED_SHOWN: u32 = 50;
/// For a search in the database.
const WITHIN: Duration = Duration::from_secs(10);

/// What is looked for: an id of ours or of the upstream, or a customer.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub struct Wanted {
    find: String,
}

/// The page.
///
/// # Errors
/// When the database does not answer.
pub async fn show(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    Query(wanted): Query<Wanted>,
) -> Result<Response, Mistake> {
    let wrong = |error| Mistake::of(&visitor, Page::Messages, &error);
    webapp.console.fresh(LOOK_WITHIN).await;
    let tongue = visitor.tongue;
    let find = wanted.find.trim();
    let found = match find.is_empty() {
        true => None,
        false => Some(search(&webapp, find).await.map_err(wrong)?),
    };
    let before = html! {
        form.filter method="get" action="/console/messages" role="search" {
            label { (tongue.say(Word::FindMessage)) " " input name="find" value=(find) maxlength="190" size="40"; }
            button type="submit" { (tongue.say(Word::Find)) }
        }
        @if let Some(found) = &found { (lives(found, tongue).body) }
    };
    let panels = panels(&webapp, &visitor).await.map_err(wrong)?;
    Ok(page(&visitor, Page::Messages, &before, &panels))
}

/// The parts that change by themselves.
///
/// # Errors
/// When the database does not answer.
pub async fn panels(webapp: &Webapp, visitor: &Visitor) -> Result<Vec<Panel>, ApiError> {
    let tongue = visitor.tongue;
    let read = async {
        let db = webapp.db()?;
        let both = async {
            let list = db.parked_webhooks(PARKED_SHOWN).await?;
            Ok::<_, DbError>((list, db.parked_count(None).await?))
        };
        in_time(both).await
    };
    let read = webapp.console.parked.get(read).await?;
    Ok(vec![
        traffic(webapp, tongue),
        parked(&read.0, read.1, May::of(webapp, visitor)),
    ])
}

async fn in_time<T>(read: impl Future<Output = Result<T, DbError>>) -> Result<T, ApiError> {
    match tokio::time::timeout(WITHIN, read).await {
        Ok(read) => read.map_err(|error| database(&error)),
        Err(_) => Err(ApiError::with(
            Code::Database,
            "The database did not answer in time; try again",
        )),
    }
}

async fn search(webapp: &Webapp, find: &str) -> Result<Vec<Life>, ApiError> {
    let db = webapp.db()?;
    if let Some(life) = in_time(db.find_message(find)).await? {
        return Ok(vec![life]);
    }
    // As people write numbers: with a plus, blanks and dashes.
    let plain = |c: &char| !matches!(c, '+' | ' ' | '-' | '(' | ')');
    let number: String = find.chars().filter(plain).collect();
    in_time(db.find_recipient(&number)).await
}

/// A sum over all coreapps, and how fast it grows.
fn traffic(webapp: &Webapp, tongue: Tongue) -> Panel {
    let seen = webapp.console.seen();
    let counted: &BTreeMap<Counted, u64> = &seen.counted;
    let fact = |of: Counted| {
        let points = webapp.console.points(Measure::Rate(of), "");
        let now = points.last().copied().flatten();
        html! {
            div {
                dt { (tongue.say(word(of))) }
                dd {
                    bdi dir="ltr" {
                        @match counted.get(&of) { Some(count) => { (count) } None => { "-" } }
                        @if of.is_counter() {
                            " (" @match now { Some(rate) => { (rate / 1000) "." (rate % 1000 / 100) } None => { "-" } } "/s)"
                        }
                    }
                    @if of.is_counter() {
                        (draw(&points, None, &format!("{} (1/1000 s), {}", tongue.say(word(of)), tongue.say(Word::LastMinutes))))
                    }
                }
            }
        }
    };
    let body = html! { dl.facts { @for of in Counted::ALL { (fact(of)) } } };
    panel("traffic", &tongue.say(Word::Traffic), &body)
}

fn word(of: Counted) -> Word {
    match of {
        Counted::Accepted => Word::Accepted,
        Counted::Sent => Word::Sent,
        Counted::Failed => Word::Failed,
        Counted::Ambiguous => Word::Ambiguous,
        Counted::Outbox => Word::Outbox,
        Counted::Callbacks => Word::Callbacks,
        Counted::Parked => Word::Parked,
    }
}

fn parked(list: &[Parked], count: u64, may: May) -> Panel {
    let tongue = may.tongue;
    let mut heads = vec![
        Word::Event,
        Word::What,
        Word::Attempts,
        Word::When,
        Word::WhyRefused,
    ];
    let acts = may.act(Act::RetryCallbacks);
    if acts {
        heads.push(Word::Acts);
    }
    let row = |one: &Parked| {
        let at = i64::try_from(one.parked_ms).unwrap_or(i64::MAX);
        let mut row = vec![
            html! { bdi { (one.event) } },
            html! { (one.tells) },
            html! { (one.attempts) },
            html! { time { (moment(at)) } },
            html! { span dir="auto" { (one.why) } },
        ];
        if acts {
            let id = [("id", &*one.id.to_string())];
            row.push(html! {
                span.acts { (may.link(Act::RetryCallbacks, &id)) (may.link(Act::PurgeCallbacks, &id)) }
            });
        }
        row
    };
    let rows: Vec<Vec<Markup>> = list.iter().map(row).collect();
    let title = format!("{} ({count})", tongue.say(Word::Parked));
    let body = html! {
        @if rows.is_empty() { p.good { (tongue.say(Word::None)) } }
        @else {
            (table(&title, &heads.iter().map(|word| tongue.say(*word)).collect::<Vec<_>>(), &rows))
            p.acts { (may.link(Act::RetryCallbacks, &[])) (may.link(Act::PurgeCallbacks, &[])) }
        }
        p.acts { (may.link(Act::RetryEvents, &[])) }
    };
    panel("parked", &title, &body)
}

/// A state, for people.
fn state(life: &Life, tongue: Tongue) -> (std::borrow::Cow<'static, str>, &'static str) {
    let Some(state) = life.state else {
        return ("?".into(), "warn");
    };
    let (word, class) = match state {
        MessageState::Queued => (Word::Queued, "quiet"),
        MessageState::Sending => (Word::Sending, "quiet"),
        MessageState::Ambiguous => (Word::Ambiguous, "warn"),
        MessageState::Sent => (Word::Sent, "good"),
        MessageState::Delivered => (Word::Delivered, "good"),
        MessageState::Read => (Word::Read, "good"),
        MessageState::Failed => (Word::Failed, "bad"),
    };
    (tongue.say(word), class)
}

fn lives(found: &[Life], tongue: Tongue) -> Panel {
    let heads = [
        Word::Message,
        Word::Recipient,
        Word::State,
        Word::When,
        Word::Sent,
        Word::Attempts,
        Word::Callbacks,
    ];
    let at = |ms: u64| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        html! { @if ms == 0 { "-" } @else { time { (moment(ms)) } } }
    };
    let row = |life: &Life| {
        let (word, class) = state(life, tongue);
        vec![
            html! {
                bdi { (life.id) } " " (life.kind)
                @if let Some(id) = &life.upstream_id { br; small.quiet { bdi { (id) } } }
            },
            html! { bdi { (life.recipient) } },
            html! { span class=(format!("badge {class}")) { (word) } @if life.error_code != 0 { " " (life.error_code) } },
            at(life.accepted_ms),
            at(life.finished_ms),
            html! { (life.attempts) " (" (tongue.say(Word::Epoch)) " " (life.epoch) ")" },
            html! { (life.waiting) @if life.parked > 0 { ", " (tongue.say(Word::Parked)) ": " (life.parked) } },
        ]
    };
    let rows: Vec<Vec<Markup>> = found.iter().map(row).collect();
    let title = tongue.say(Word::Found);
    let body = html! {
        @if rows.is_empty() {
            p role="status" lang="en" dir="auto" {
                "There is no message with this id, and none to this customer among the last " (LOOKED_THROUGH) " messages."
            }
        } @else { (table(&title, &heads.map(|word| tongue.say(word)), &rows)) }
    };
    panel("found", &title, &body)
}
