//! The page of the timeline: every decision, and of each what was known, which rule it was, and what followed.
//! Reads the history; decides nothing.

use std::sync::Arc;

use axum::extract::{Extension, Path, Query, State};
use axum::response::Response;
use maud::{Markup, html};
use serde::Deserialize;

use super::frame::{Page, Panel, moment, page, panel, table};
use super::guard::Visitor;
use super::mistake::Mistake;
use super::words::{Tongue, Word};
use crate::api::control::StoredEvidence;
use crate::db::history::Decision;
use crate::webapp::answer::database;
use crate::webapp::state::Webapp;

/// Decisions that are read, and those that one page shows.
const READ_MAX: u32 = 2_000;
const SHOWN_MAX: usize = 200;

/// Which decisions are looked for; empty fields: all.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Filter {
    shard: String,
    what: String,
    who: String,
}

impl Filter {
    fn takes(&self, decision: &Decision) -> bool {
        let shard = self.shard.trim();
        let is_in = |text: &str, part: &str| {
            let part = part.trim().to_lowercase();
            part.is_empty() || text.to_lowercase().contains(&part)
        };
        (shard.is_empty() || decision.shard.to_string() == shard)
            && is_in(
                &format!("{} {}", decision.what, decision.reason),
                &self.what,
            )
            && is_in(
                &format!("{} {}", decision.node, decision.subject),
                &self.who,
            )
    }
}

/// The newest decisions that the filter takes.
///
/// # Errors
/// When the database does not answer.
pub async fn show(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    Query(filter): Query<Filter>,
) -> Result<Response, Mistake> {
    let panels = panels(&webapp, &visitor, &filter).await;
    let panels = panels.map_err(|error| Mistake::of(&visitor, Page::Timeline, &error))?;
    let form = filters(&filter, visitor.tongue);
    Ok(page(&visitor, Page::Timeline, &form, &panels))
}

/// The part of the page that changes by itself.
///
/// # Errors
/// When the database does not answer.
pub async fn panels(
    webapp: &Webapp,
    visitor: &Visitor,
    filter: &Filter,
) -> Result<Vec<Panel>, crate::api::error::ApiError> {
    let read = async {
        let decisions = webapp.db()?.decisions(READ_MAX).await;
        decisions.map_err(|error| database(&error))
    };
    let decisions = webapp.console.decisions.get(read).await?;
    let taken = decisions.iter().rev().filter(|d| filter.takes(d));
    let taken: Vec<&Decision> = taken.take(SHOWN_MAX).collect();
    Ok(vec![list(&taken, visitor.tongue)])
}

fn filters(filter: &Filter, tongue: Tongue) -> Markup {
    let field = |name: &str, word: Word, value: &str| {
        html! { label { (tongue.say(word)) " " input name=(name) value=(value) maxlength="96"; } }
    };
    html! {
        form.filter method="get" action="/console/timeline" role="search" {
            (field("shard", Word::Shard, &filter.shard))
            (field("what", Word::What, &filter.what))
            (field("who", Word::Who, &filter.who))
            button type="submit" { (tongue.say(Word::Filter)) }
        }
    }
}

fn shard(decision: &Decision, tongue: Tongue) -> String {
    match decision.shard {
        ..0 => tongue.say(Word::All).into_owned(),
        shard => shard.to_string(),
    }
}

fn rows(decisions: &[&Decision], tongue: Tongue) -> Vec<Vec<Markup>> {
    let row = |d: &&Decision| {
        vec![
            html! { a href=(format!("/console/timeline/{}", d.id)) { time { (moment(d.at_ms)) } } },
            html! { (shard(d, tongue)) },
            html! { (d.what) },
            html! { bdi { (d.subject) } },
            html! { (d.reason) },
            html! { bdi { (d.node) } },
        ]
    };
    decisions.iter().map(row).collect()
}

fn heads(tongue: Tongue) -> [std::borrow::Cow<'static, str>; 6] {
    [
        Word::When,
        Word::Shard,
        Word::What,
        Word::Subject,
        Word::Rule,
        Word::Who,
    ]
    .map(|word| tongue.say(word))
}

fn list(decisions: &[&Decision], tongue: Tongue) -> Panel {
    let title = tongue.say(Word::Timeline);
    let body = html! {
        @if decisions.is_empty() { p.quiet { (tongue.say(Word::None)) } }
        @else { (table(&title, &heads(tongue), &rows(decisions, tongue))) }
    };
    panel("decisions", &title, &body)
}

/// One decision.
///
/// # Errors
/// When there is none of this id, or the database does not answer.
pub async fn one(
    State(webapp): State<Arc<Webapp>>,
    Extension(visitor): Extension<Visitor>,
    Path(id): Path<i64>,
) -> Result<Response, Mistake> {
    let wrong = |error| Mistake::of(&visitor, Page::Timeline, &error);
    let db = webapp.db().map_err(wrong)?;
    let found = db
        .decision(id)
        .await
        .map_err(|error| wrong(database(&error)))?;
    let Some((decision, evidence, after)) = found else {
        return Err(Mistake::missing(&visitor, Page::Timeline));
    };
    let evidence: StoredEvidence = serde_json::from_str(&evidence).unwrap_or_default();
    let tongue = visitor.tongue;
    let after: Vec<&Decision> = after.iter().collect();
    let title = tongue.say(Word::Followed);
    let mut panels = vec![whole(&decision, &evidence, tongue)];
    if !after.is_empty() {
        let body = table(&title, &heads(tongue), &rows(&after, tongue));
        panels.push(panel("followed", &title, &body));
    }
    Ok(page(&visitor, Page::Timeline, &html! {}, &panels))
}

fn whole(d: &Decision, e: &StoredEvidence, tongue: Tongue) -> Panel {
    let fact = |word: Word, value: Markup| {
        html! { div { dt { (tongue.say(word)) } dd { (value) } } }
    };
    let lines = |word: Word, lines: &[String]| {
        html! {
            @if !lines.is_empty() {
                h3 { (tongue.say(word)) }
                ul.plain lang="en" dir="auto" { @for line in lines { li { (line) } } }
            }
        }
    };
    let body = html! {
        dl.facts {
            (fact(Word::When, html! { time { (moment(d.at_ms)) } }))
            (fact(Word::Shard, html! { (shard(d, tongue)) }))
            (fact(Word::What, html! { (d.what) " " bdi { (d.subject) } }))
            (fact(Word::Rule, html! { (d.reason) }))
            (fact(Word::Who, html! { bdi { (e.by.as_deref().unwrap_or(&d.node)) } }))
            @if let Some(successor) = &e.successor { (fact(Word::Successor, html! { bdi { (successor) } })) }
        }
        p lang="en" dir="auto" { (e.sentence) }
        @if let Some(reason) = &e.reason { p dir="auto" { (reason) } }
        (lines(Word::Evidence, &e.evidence))
        (lines(Word::Obstacles, &e.obstacles))
    };
    panel("decision", &tongue.say(Word::Decision), &body)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: each field of the filter narrows the list, in any case of letters, and empty ones take everything. Method: one
    /// decision.
    #[test]
    fn filters_narrow() {
        let decision = Decision {
            id: 1,
            at_ms: 0,
            node: "a:master-1".into(),
            shard: 2,
            what: "handover".into(),
            subject: "b:coreapp-1".into(),
            reason: "SilentOwner".into(),
        };
        let takes = |shard: &str, what: &str, who: &str| {
            let filter = Filter {
                shard: shard.into(),
                what: what.into(),
                who: who.into(),
            };
            filter.takes(&decision)
        };
        assert!(takes("", "", "") && takes(" 2 ", "HANDOVER", "coreapp-1"));
        assert!(takes("", "silent", "a:master"));
        assert!(!takes("1", "", "") && !takes("", "fence", "") && !takes("", "", "c:"));
    }
}
