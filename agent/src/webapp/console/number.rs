//! The page of the number: how it stands at WhatsApp, what ends when, its templates, and what was heard of the account.
//! Asks nobody itself: `account.rs` does, once for all who look. No secret and no body of a template is known here.

use std::borrow::Cow;
use std::sync::Arc;

use axum::extract::{Extension, State};
use axum::response::Response;
use jiff::Timestamp;
use maud::{Markup, html};
use wa_core::alarm::Alarm;

use super::account::standing;
use super::frame::{Page, Panel, moment, page, panel, table};
use super::guard::Visitor;
use super::mistake::Mistake;
use super::standing::{Asked, ShardWord, Standing};
use super::words::{Tongue, Word};
use crate::api::cloud::checkup::Number;
use crate::api::error::ApiError;
use crate::api::internal::{
    AccountWord, STATUS_UNREGISTERED, SubscriptionWord, TokenWord, UNREGISTERED,
};
use crate::api::picture::span;
use crate::db::history::Decision;
use crate::db::template::Listed;
use crate::sys::clock;
use crate::webapp::state::Webapp;

const DAY_S: i64 = 24 * 3600;

/// The page.
///
/// # Errors
/// When the database does not answer.
pub async fn show(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
) -> Result<Response, Mistake> {
    let panels = panels(&webapp, &visitor).await;
    let panels = panels.map_err(|error| Mistake::of(&visitor, Page::Number, &error))?;
    Ok(page(&visitor, Page::Number, &html! {}, &panels))
}

/// The parts, all of which change by themselves.
///
/// # Errors
/// When the database does not answer.
pub async fn panels(webapp: &Webapp, visitor: &Visitor) -> Result<Vec<Panel>, ApiError> {
    let standing = standing(webapp).await?;
    let now_s = i64::try_from(clock::wall_ms() / 1000).unwrap_or(i64::MAX);
    Ok(draw(&standing, now_s, visitor.tongue))
}

fn draw(standing: &Standing, now_s: i64, tongue: Tongue) -> Vec<Panel> {
    let mut panels = Vec::new();
    match &standing.account {
        Asked::Heard { node, word } => {
            panels.push(number(word, node, tongue));
            panels.push(account(word, now_s, tongue));
        }
        Asked::Older(node) => {
            let why = "is of an older release, which cannot be asked how the number stands. Upgrade the coreapps. Until then type on its \
                       machine: wa-agent doctor";
            panels.push(unasked(node, why, tongue));
        }
        Asked::Silent(node) => {
            let why = "did not say in time how the number stands. It is asked again in a moment. If this stays, type on its machine: \
                       wa-agent doctor";
            panels.push(unasked(node, why, tongue));
        }
        Asked::NoOwner => {
            let why = "No coreapp owns a shard, and only an owner may ask WhatsApp how the number stands. Type: wa-agent status";
            panels.push(unasked("", why, tongue));
        }
    }
    panels.push(shards(&standing.shards, tongue));
    panels.push(templates(standing, tongue));
    panels.push(news(&standing.news, tongue));
    panels
}

fn unasked(node: &str, why: &str, tongue: Tongue) -> Panel {
    let body = html! {
        p.warn role="status" lang="en" dir="auto" {
            @if !node.is_empty() { bdi { (node) } " " }
            (why)
        }
    };
    panel("number", &tongue.say(Word::Number), &body)
}

fn fact(tongue: Tongue, word: Word, value: &Markup) -> Markup {
    html! { div { dt { (tongue.say(word)) } dd { (value) } } }
}

fn badge(class: &str, word: &str) -> Markup {
    html! { span class=(format!("badge {class}")) { bdi { (word) } } }
}

/// A reason for what is not known.
fn unknown(why: &str, tongue: Tongue) -> Markup {
    html! { (badge("warn", &tongue.say(Word::NotKnown))) " " span lang="en" dir="auto" { (why) } }
}

/// What a word of the upstream on the number means for people: a colour, and what to do.
fn judged(status: &str) -> (&'static str, &'static str) {
    match status {
        "CONNECTED" => ("good", ""),
        "FLAGGED" | "RESTRICTED" => ("warn", "See WhatsApp Manager for the reason."),
        "BANNED" => (
            "bad",
            "See WhatsApp Manager for the reason, and appeal there.",
        ),
        _ => (
            "warn",
            "Register it: POST /v1/account (README, Register the number).",
        ),
    }
}

fn quality(rating: &str) -> &'static str {
    match rating {
        "GREEN" => "good",
        "YELLOW" => "warn",
        "RED" => "bad",
        _ => "quiet",
    }
}

/// The limit as a number of customers; what this release does not know is shown as it came.
fn customers(tier: &str) -> Cow<'_, str> {
    match tier {
        "TIER_50" => "50".into(),
        "TIER_250" => "250".into(),
        "TIER_1K" => "1,000".into(),
        "TIER_2K" => "2,000".into(),
        "TIER_10K" => "10,000".into(),
        "TIER_100K" => "100,000".into(),
        other => other.into(),
    }
}

fn number(word: &AccountWord, node: &str, tongue: Tongue) -> Panel {
    let asked = i64::try_from(word.asked_ms).unwrap_or(i64::MAX);
    let limit = match &word.limit {
        Ok(tier) if tier == "TIER_UNLIMITED" => html! { (tongue.say(Word::NoLimit)) },
        Ok(tier) => html! { bdi { (customers(tier)) } },
        Err(why) => unknown(why, tongue),
    };
    let body = html! {
        @match &word.number {
            Ok(number) => (standing_of(number, &limit, tongue)),
            Err(why) => {
                p { (unknown(why, tongue)) }
                dl.facts { (fact(tongue, Word::Limit, &limit)) }
            }
        }
        p.quiet { (tongue.say(Word::AskedAt)) " " time { (moment(asked)) } ", " bdi { (node) } }
    };
    panel("number", &tongue.say(Word::Number), &body)
}

fn standing_of(number: &Number, limit: &Markup, tongue: Tongue) -> Markup {
    let (class, todo) = judged(&number.status);
    let text = |text: &str| html! { @if text.is_empty() { "-" } @else { bdi { (text) } } };
    let rating = match number.quality_rating.as_str() {
        "" => html! { "-" },
        rating => badge(quality(rating), rating),
    };
    html! {
        dl.facts {
            (fact(tongue, Word::PhoneNumber, &text(&number.display_phone_number)))
            (fact(tongue, Word::State, &badge(class, &number.status)))
            (fact(tongue, Word::Quality, &rating))
            (fact(tongue, Word::Limit, limit))
            (fact(tongue, Word::DisplayName, &text(&number.verified_name)))
            (fact(tongue, Word::NameState, &text(&number.name_status)))
        }
        @if !todo.is_empty() { p class=(class) lang="en" dir="auto" { (todo) } }
    }
}

fn day(at_s: i64) -> String {
    let at = Timestamp::from_second(at_s).unwrap_or(Timestamp::MAX);
    at.strftime("%Y-%m-%d").to_string()
}

/// When something ends, with a colour by its alarm.
fn end(end_s: i64, now_s: i64, alarm: Alarm, tongue: Tongue) -> Markup {
    let left = (end_s - now_s).div_euclid(DAY_S);
    let class = match left {
        ..0 => "bad",
        left if left < alarm.row().limit => "warn",
        _ => "good",
    };
    html! {
        (tongue.say(Word::Ends)) " " span class=(format!("badge {class}")) { time { (day(end_s)) } }
        @if class != "good" { p class=(class) lang="en" dir="auto" { (alarm.remedy()) } }
    }
}

fn account(word: &AccountWord, now_s: i64, tongue: Tongue) -> Panel {
    let token = match &word.token {
        Ok(token) => token_of(token, now_s, tongue),
        Err(why) => unknown(why, tongue),
    };
    let version = html! {
        bdi { (word.version) } ", "
        @if word.version_end_s == 0 { (tongue.say(Word::NoEndKnown)) }
        @else { (end(word.version_end_s, now_s, Alarm::VersionEnds, tongue)) }
    };
    let subscription = match &word.subscription {
        Ok(subscription) => subscription_of(subscription, tongue),
        Err(why) => unknown(why, tongue),
    };
    let body = html! {
        dl.facts.wide {
            (fact(tongue, Word::AccessToken, &token))
            (fact(tongue, Word::ApiVersion, &version))
            (fact(tongue, Word::Subscription, &subscription))
        }
    };
    panel("account", &tongue.say(Word::Account), &body)
}

fn token_of(token: &TokenWord, now_s: i64, tongue: Tongue) -> Markup {
    const NEW: &str = "Write a good one into the file of [upstream] token_file, and type on each machine with coreapps: systemctl reload \
                       'wa-coreapp@*'";
    html! {
        @if !token.is_valid {
            (badge("bad", &tongue.say(Word::NotGood))) p.bad lang="en" dir="auto" { (NEW) }
        } @else if !token.missing.is_empty() {
            (badge("bad", &tongue.say(Word::NotGood)))
            p.bad lang="en" dir="auto" { "It lacks the permission " (token.missing.join(" and ")) ". Give it to the system user, and make a new token. " (NEW) }
        } @else if token.expires_s == 0 {
            (badge("good", &tongue.say(Word::NoEnd)))
        } @else { (end(token.expires_s, now_s, Alarm::TokenEnds, tongue)) }
    }
}

fn subscription_of(subscription: &SubscriptionWord, tongue: Tongue) -> Markup {
    let subscribe = "Subscribe the app to the account in its dashboard (WhatsApp, Configuration).";
    html! {
        @if subscription.apps.is_empty() {
            (badge("bad", &tongue.say(Word::None)))
            p.bad lang="en" dir="auto" { "No app gets the events of the account: no message of a customer arrives. " (subscribe) }
        } @else {
            bdi { (subscription.apps.join(", ")) }
            @if subscription.ours == Some(false) {
                p.warn lang="en" dir="auto" { "The app of [upstream] app_id is not among them. " (subscribe) }
            }
        }
    }
}

fn shards(shards: &[ShardWord], tongue: Tongue) -> Panel {
    let heads = [Word::Shard, Word::Owner, Word::Registration].map(|word| tongue.say(word));
    let row = |shard: &ShardWord| {
        let (class, word) = match shard.word.as_str() {
            "connected" => ("good", tongue.say(Word::Connected)),
            "connecting" => ("warn", tongue.say(Word::Connecting)),
            STATUS_UNREGISTERED => ("bad", tongue.say(Word::Unregistered)),
            "" | "disconnected" => ("bad", tongue.say(Word::NoOwner)),
            other => ("warn", other.to_owned().into()),
        };
        let unregistered = shard.word == STATUS_UNREGISTERED;
        vec![
            html! { (shard.shard) },
            html! { bdi { (shard.owner.as_deref().unwrap_or("-")) } },
            html! {
                (badge(class, &word))
                @if unregistered { " " span lang="en" dir="auto" { (UNREGISTERED) } }
            },
        ]
    };
    let rows: Vec<Vec<Markup>> = shards.iter().map(row).collect();
    let title = tongue.say(Word::Registration);
    let body = html! {
        @if rows.is_empty() { p.quiet { (tongue.say(Word::None)) } }
        @else { (table(&title, &heads, &rows)) }
    };
    panel("registration", &title, &body)
}

fn template_class(status: &str) -> &'static str {
    match status {
        "APPROVED" => "good",
        "REJECTED" | "DISABLED" | "PAUSED" | "DELETED" | "LIMIT_EXCEEDED" => "bad",
        _ => "warn",
    }
}

fn templates(standing: &Standing, tongue: Tongue) -> Panel {
    let heads = [
        Word::Template,
        Word::Language,
        Word::State,
        Word::ReadBefore,
    ]
    .map(|word| tongue.say(word));
    let row = |one: &Listed| {
        vec![
            html! { bdi { (one.name) } },
            html! { bdi { (one.language) } },
            badge(template_class(&one.status), &one.status),
            html! {
                @match one.age_ms {
                    // Minutes: a page that is open learns no news each second.
                    Some(ms) => { (span(ms.max(120_000))) }
                    None => { span.warn { (tongue.say(Word::ChangedSince)) } }
                }
            },
        ]
    };
    let rows: Vec<Vec<Markup>> = standing.templates.iter().map(row).collect();
    let count: u64 = standing.states.iter().map(|(_, count)| count).sum();
    let title = format!("{} ({count})", tongue.say(Word::Templates));
    let body = html! {
        @if rows.is_empty() {
            p.quiet lang="en" dir="auto" {
                "No template is known. The owner of shard 0 reads them each hour, where [upstream] waba_id is set and [client] check_templates is on."
            }
        } @else {
            p {
                @for (status, count) in &standing.states { (badge(template_class(status), status)) " " (count) " " }
            }
            (table(&title, &heads, &rows))
        }
    };
    panel("templates", &title, &body)
}

fn news(news: &[Decision], tongue: Tongue) -> Panel {
    let heads = [Word::When, Word::What, Word::Event].map(|word| tongue.say(word));
    let row = |one: &Decision| {
        vec![
            html! { a href=(format!("/console/timeline/{}", one.id)) { time { (moment(one.at_ms)) } } },
            html! { bdi { (one.subject) } },
            html! { bdi { (one.reason) } },
        ]
    };
    let rows: Vec<Vec<Markup>> = news.iter().map(row).collect();
    let title = tongue.say(Word::AccountNews);
    let body = html! {
        @if rows.is_empty() { p.quiet { (tongue.say(Word::None)) } }
        @else { (table(&title, &heads, &rows)) }
    };
    panel("news", &title, &body)
}

#[cfg(test)]
#[path = "number_tests.rs"]
mod tests;
