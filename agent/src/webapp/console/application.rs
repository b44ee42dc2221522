//! The form of the application settings: what was changed in it, what that would lead to, and the fields themselves.
//! Judges no value: `api/v1/setting.rs` does. Secrets of the webhook's address are shown as `***`.

use std::time::Duration;

use maud::{Markup, html};
use serde_json::{Map, Value};
use sha2::{Digest as _, Sha256};

use super::deed::Sent;
use super::frame::{form_token, measured, table};
use super::guard::Visitor;
use super::words::{Tongue, Word};
use crate::api::error::ApiError;
use crate::api::picture::span;
use crate::api::v1::setting::{ApplicationSettings, CONCURRENT_REQUESTS, MEDIA_KINDS};
use crate::config::{Timers, longest_takeover_with, takeover_with};
use crate::member::settings::intervals;
use crate::webapp::v1::setting::Foreseen;

/// What stands in the place of a secret.
const HIDDEN: &str = "***";
const LOG_LEVELS: [&str; 4] = ["error", "warning", "info", "debug"];

/// What a field holds.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    Flag,
    Whole,
    /// Empty: the configured value.
    Seconds,
    Address,
    AtOnce,
    Level,
    Media,
}

/// Each field by its name in the API.
const FIELDS: [(&str, Kind); 18] = [
    ("heartbeat_interval", Kind::Seconds),
    ("unhealthy_interval", Kind::Seconds),
    ("webhooks.url", Kind::Address),
    ("webhooks.max_concurrent_requests", Kind::AtOnce),
    ("callback_backoff_delay_ms", Kind::Whole),
    ("max_callback_backoff_delay_ms", Kind::Whole),
    ("log_level", Kind::Level),
    ("webhooks.message.sent", Kind::Flag),
    ("webhooks.message.delivered", Kind::Flag),
    ("webhooks.message.read", Kind::Flag),
    ("callback_persist", Kind::Flag),
    ("notify_user_change_number", Kind::Flag),
    ("show_security_notifications", Kind::Flag),
    ("pass_through", Kind::Flag),
    ("garbagecollector_enable.messages", Kind::Flag),
    ("garbagecollector_enable.media", Kind::Flag),
    ("verbose_logging", Kind::Flag),
    ("media.auto_download", Kind::Media),
];

/// The settings as they are shown: without secrets.
fn shown(settings: &ApplicationSettings) -> Value {
    let open = settings.clone().without_secrets();
    serde_json::to_value(open).expect("plain data is JSON")
}

fn said(shown: &Value, name: &str) -> String {
    match shown.pointer(&format!("/{}", name.replace('.', "/"))) {
        None | Some(Value::Null) => String::new(),
        Some(Value::String(text)) => text.clone(),
        Some(Value::Array(kinds)) => {
            let kinds: Vec<&str> = kinds.iter().filter_map(Value::as_str).collect();
            in_order(|kind| kinds.contains(&kind))
        }
        Some(other) => other.to_string(),
    }
}

/// Kinds of media, always in the same order.
fn in_order(has: impl Fn(&str) -> bool) -> String {
    let kinds: Vec<&str> = MEDIA_KINDS.into_iter().filter(|kind| has(kind)).collect();
    kinds.join(", ")
}

fn typed(sent: &Sent, name: &str, kind: Kind) -> Option<String> {
    match kind {
        // What is not ticked is not sent: it says something only in a whole form.
        Kind::Flag => sent
            .get("whole")
            .map(|_| sent.get(name).is_some().to_string()),
        Kind::Media => sent
            .get("whole")
            .map(|_| in_order(|kind| sent.all(name).any(|sent| sent == kind))),
        Kind::Whole | Kind::Seconds | Kind::Address | Kind::AtOnce | Kind::Level => {
            sent.get(name).map(|value| value.trim().to_owned())
        }
    }
}

/// What a form changes, as the API takes it.
///
/// # Errors
/// Where a part of the webhook's address is left that stands for a secret.
pub fn patch(before: &ApplicationSettings, sent: &Sent) -> Result<Map<String, Value>, ApiError> {
    let shown = shown(before);
    let mut patch = Map::new();
    for (name, kind) in FIELDS {
        let Some(typed) = typed(sent, name, kind) else {
            continue;
        };
        if typed == said(&shown, name) {
            continue;
        }
        let value = match kind {
            Kind::Flag => Value::Bool(typed == "true"),
            Kind::Media => typed.split(", ").filter(|kind| !kind.is_empty()).collect(),
            Kind::Seconds if typed.is_empty() => Value::Null,
            Kind::Address if typed.contains(HIDDEN) => {
                return Err(ApiError::invalid(
                    "webhooks.url holds ***, which stands for a secret that is not shown; type the whole address",
                ));
            }
            Kind::Whole | Kind::Seconds | Kind::Address | Kind::AtOnce | Kind::Level => {
                Value::String(typed)
            }
        };
        insert(&mut patch, name, value);
    }
    Ok(patch)
}

fn insert(into: &mut Map<String, Value>, name: &str, value: Value) {
    match name.split_once('.') {
        None => {
            into.insert(name.to_owned(), value);
        }
        Some((first, rest)) => {
            let inner = into
                .entry(first)
                .or_insert_with(|| Value::Object(Map::new()));
            if let Value::Object(inner) = inner {
                insert(inner, rest, value);
            }
        }
    }
}

/// Stands for one change of these settings: what is saved is what was shown.
pub fn seal(before: &ApplicationSettings, patch: &Map<String, Value>) -> String {
    let before = serde_json::to_vec(before).expect("plain data is JSON");
    let patch = serde_json::to_vec(patch).expect("plain data is JSON");
    let digest = Sha256::new().chain_update(before).chain_update(patch);
    hex::encode(digest.finalize())
}

/// A change that is shown, and not made yet.
pub struct Preview {
    pub foreseen: Foreseen,
    pub patch: Map<String, Value>,
}

fn ms(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}

/// In the order of [`TIMER_WORDS`], in milliseconds.
fn takeover(settings: &ApplicationSettings, timers: &Timers) -> [u64; 4] {
    let in_force = intervals(settings, timers);
    [
        ms(in_force.heartbeat),
        ms(in_force.unhealthy),
        ms(takeover_with(timers, in_force)),
        ms(longest_takeover_with(timers, in_force)),
    ]
}

const TIMER_WORDS: [Word; 4] = [
    Word::HeartbeatEvery,
    Word::SilentFor,
    Word::TakeoverAtMost,
    Word::TakeoverLongest,
];

/// The timers in force, and the takeover that they give.
pub fn timers(settings: &ApplicationSettings, timers: &Timers, tongue: Tongue) -> Markup {
    let facts = TIMER_WORDS.into_iter().zip(takeover(settings, timers));
    html! {
        dl.facts {
            @for (word, ms) in facts { div { dt { (tongue.say(word)) } dd { (measured(ms)) } } }
        }
    }
}

/// What a change would lead to: the takeover first, then each setting.
pub fn preview(preview: &Preview, of: &Timers, tongue: Tongue) -> Markup {
    let (before, after) = (&preview.foreseen.before, &preview.foreseen.after);
    let (now, then) = (takeover(before, of), takeover(after, of));
    let heads = [Word::Setting, Word::Now, Word::Then].map(|word| tongue.say(word));
    let timers = TIMER_WORDS.into_iter().zip(now.into_iter().zip(then));
    let timers: Vec<Vec<Markup>> = timers
        .map(|(word, (now, then))| {
            let class = match then.cmp(&now) {
                std::cmp::Ordering::Less => "good",
                std::cmp::Ordering::Equal => "quiet",
                std::cmp::Ordering::Greater => "warn",
            };
            vec![
                html! { (tongue.say(word)) },
                html! { (measured(now)) },
                html! { span class=(format!("badge {class}")) { (measured(then)) } },
            ]
        })
        .collect();
    let (old, new) = (shown(before), shown(after));
    let rows: Vec<Vec<Markup>> = FIELDS
        .into_iter()
        .map(|(name, _)| (name, said(&old, name), said(&new, name)))
        .filter(|(name, old, new)| old != new || touches(&preview.patch, name))
        .map(|(name, old, new)| {
            let value =
                |text: String| html! { @if text.is_empty() { "-" } @else { bdi { (text) } } };
            vec![html! { code { (name) } }, value(old), value(new)]
        })
        .collect();
    let changed = now != then;
    html! {
        @if changed {
            p role="status" lang="en" dir="auto" class=(if then[2] > now[2] { "warn" } else { "good" }) {
                "After the loss of a machine another one takes over within " (span(then[2])) ". Now that is " (span(now[2])) "."
            }
            (table(&tongue.say(Word::TimersAndTakeover), &heads, &timers))
        } @else {
            p role="status" lang="en" dir="auto" { "The takeover stays as it is: at most " (span(now[2])) "." }
        }
        (table(&tongue.say(Word::WouldChange), &heads, &rows))
    }
}

fn touches(patch: &Map<String, Value>, name: &str) -> bool {
    let mut at = patch;
    let mut parts = name.split('.').peekable();
    while let Some(part) = parts.next() {
        match (at.get(part), parts.peek()) {
            (Some(_), None) => return true,
            (Some(Value::Object(inner)), Some(_)) => at = inner,
            (Some(_) | None, _) => return false,
        }
    }
    false
}

/// What a field of the form holds: what was typed, else what is stored.
fn value(settings: &Value, sent: Option<&Sent>, (name, kind): (&str, Kind)) -> String {
    let typed = sent.and_then(|sent| typed(sent, name, kind));
    typed.unwrap_or_else(|| said(settings, name))
}

/// The form. With a preview it can be saved.
pub fn form(
    settings: &ApplicationSettings,
    visitor: &Visitor,
    sent: Option<&Sent>,
    preview: Option<&Preview>,
) -> Markup {
    let (shown, tongue) = (shown(settings), visitor.tongue);
    let hold = |name: &'static str, kind: Kind| value(&shown, sent, (name, kind));
    let plain = FIELDS
        .into_iter()
        .filter(|(_, kind)| !matches!(kind, Kind::Flag | Kind::Media));
    let flags = FIELDS.into_iter().filter(|(_, kind)| *kind == Kind::Flag);
    let media = hold("media.auto_download", Kind::Media);
    html! {
        form.settings method="post" action="/console/settings/application" {
            (form_token(visitor))
            input type="hidden" name="whole" value="1";
            div.fields {
                @for (name, kind) in plain {
                    label { code { (name) } (field(name, kind, &hold(name, kind))) }
                }
            }
            p.quiet lang="en" dir="auto" { "Both intervals are in seconds. Leave them empty for the configured ones." }
            fieldset {
                legend { (tongue.say(Word::Switches)) }
                @for (name, kind) in flags {
                    label.tick { input type="checkbox" name=(name) value="true" checked[hold(name, kind) == "true"]; code { (name) } }
                }
            }
            fieldset {
                legend { code { "media.auto_download" } }
                @for kind in MEDIA_KINDS {
                    label.tick {
                        input type="checkbox" name="media.auto_download" value=(kind) checked[media.split(", ").any(|one| one == kind)];
                        code { (kind) }
                    }
                }
            }
            div.act {
                button type="submit" name="step" value="show" { (tongue.say(Word::ShowChange)) }
                @if let Some(preview) = preview {
                    input type="hidden" name="shown" value=(seal(&preview.foreseen.before, &preview.patch));
                    button.main type="submit" name="step" value="save" { (tongue.say(Word::Save)) }
                }
            }
        }
    }
}

fn choice<'a>(name: &str, value: &str, all: impl Iterator<Item = &'a str>) -> Markup {
    let mut all: Vec<&str> = all.collect();
    if !all.contains(&value) {
        all.push(value);
    }
    html! {
        select name=(name) {
            @for one in all { option value=(one) selected[one == value] { (one) } }
        }
    }
}

fn field(name: &str, kind: Kind, value: &str) -> Markup {
    match kind {
        Kind::AtOnce => {
            let counts = CONCURRENT_REQUESTS.map(|count| count.to_string());
            choice(name, value, counts.iter().map(String::as_str))
        }
        Kind::Level => choice(name, value, LOG_LEVELS.into_iter()),
        Kind::Whole | Kind::Seconds => html! {
            input name=(name) value=(value) inputmode="decimal" maxlength="12" dir="ltr";
        },
        Kind::Address | Kind::Flag | Kind::Media => html! {
            input name=(name) value=(value) maxlength="2048" dir="ltr" autocomplete="off" spellcheck="false";
        },
    }
}

/// The settings for who may not change them.
pub fn list(settings: &ApplicationSettings, tongue: Tongue) -> Markup {
    let shown = shown(settings);
    let heads = [Word::Setting, Word::Value].map(|word| tongue.say(word));
    let rows: Vec<Vec<Markup>> = FIELDS
        .into_iter()
        // Its path may be a secret of the business, and the API shows settings to the administrator only.
        .filter(|(_, kind)| !matches!(kind, Kind::Address))
        .map(|(name, _)| (name, said(&shown, name)))
        .map(|(name, value)| {
            vec![
                html! { code { (name) } },
                html! { @if value.is_empty() { "-" } @else { bdi { (value) } } },
            ]
        })
        .collect();
    table(&tongue.say(Word::ApplicationSettings), &heads, &rows)
}

#[cfg(test)]
#[path = "application_tests.rs"]
mod tests;
