//! `/v1/stats/…` and `/metrics`: what nodes measure, what the primary master counts in the database, and what this webapp
//! measures; as JSON, or as Prometheus text.
//! Counts nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::{Query, State};
use axum::http::{HeaderMap, Method, StatusCode, header};
use axum::response::{IntoResponse as _, Response};
use futures_util::future::join_all;
use serde::Deserialize;
use serde::de::DeserializeOwned;
use wa_core::id::Role;

use crate::api::error::{ApiError, ErrorBody, ErrorObject};
use crate::api::v1::Meta;
use crate::api::v1::code::Code;
use crate::api::v1::stats::{
    Metric, Metrics, MetricsAnswer, NodeStats, Sample, StatsApp, StatsAppAnswer, StatsDb,
    StatsDbAnswer,
};
use crate::api::{control, internal};
use crate::db::Db;
use crate::db::node::{Registered, Registration};
use crate::metrics::figure::{Figure, Figures, Page, Pages, add, labelled, text, value};
use crate::sys::clock;
use crate::webapp::answer::{Answer, database, ok};
use crate::webapp::state::Webapp;

/// A node that does not answer within this time is shown with an error.
const NODE_DEADLINE: Duration = Duration::from_secs(1);
/// The primary master reads whole tables.
const COUNT_DEADLINE: Duration = Duration::from_secs(12);

/// `?format=prometheus`.
#[derive(Debug, Deserialize)]
pub struct Format {
    format: Option<String>,
}

impl Format {
    fn prometheus(&self) -> bool {
        self.format.as_deref() == Some("prometheus")
    }
}

fn shown(figures: Figures) -> Metrics {
    let sample = |sample: crate::metrics::figure::Sample| Sample {
        labels: sample.labels,
        value: sample.value,
    };
    let metric = |figure: Figure| Metric {
        r#type: figure.r#type,
        help: figure.help,
        data: figure.data.into_iter().map(sample).collect(),
    };
    figures
        .into_iter()
        .map(|(name, figure)| (name, metric(figure)))
        .collect()
}

fn as_text(body: String) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        body,
    )
        .into_response()
}

/// What coreapps count in memory, under the names of the reference client. Whoever asks within five seconds gets the same answer.
///
/// Differs from the reference: some counters are always 0, because what they count does not exist here (README, Watch it).
#[utoipa::path(get, path = "/v1/stats/app", tag = "monitoring",
    params(("format" = Option<String>, Query, description = "`prometheus` for Prometheus text")),
    responses((status = 200, body = StatsAppAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn stats_app(State(webapp): State<Arc<Webapp>>, Query(format): Query<Format>) -> Answer {
    app(&webapp, &format, |page| page.documented.clone()).await
}

/// The same, with the figures of our own, of masters, too.
#[utoipa::path(get, path = "/v1/stats/app/internal", tag = "monitoring",
    params(("format" = Option<String>, Query, description = "`prometheus` for Prometheus text")),
    responses((status = 200, body = StatsAppAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn stats_app_internal(
    State(webapp): State<Arc<Webapp>>,
    Query(format): Query<Format>,
) -> Answer {
    app(&webapp, &format, whole).await
}

/// Documented figures and our own.
fn whole(page: &Page) -> Figures {
    let mut all = page.documented.clone();
    all.extend(page.own.clone());
    all
}

async fn app(webapp: &Webapp, format: &Format, of: impl Fn(&Page) -> Figures) -> Answer {
    let pages = pages(webapp).await?;
    if format.prometheus() {
        let mut all = Figures::new();
        let mut answers = Figure::gauge("1 for a node that answers");
        for (node, page) in pages.iter() {
            let there = f64::from(u8::from(page.is_some()));
            answers = answers.with(&[("node", node.as_str())], there);
            if let Some(page) = page {
                add(&mut all, labelled(&of(page), "node", node));
            }
        }
        all.insert("wa_node_answers".to_owned(), answers);
        return Ok(as_text(text(all)));
    }
    let stats = |(node, page): &(String, Option<Page>)| {
        let stats = match page {
            Some(page) => NodeStats::Metrics(shown(labelled(&of(page), "node", node))),
            None => NodeStats::Mute {
                errors: vec![mute()],
            },
        };
        (node.clone(), stats)
    };
    Ok(ok(&StatsAppAnswer {
        stats: StatsApp {
            app: pages.iter().map(stats).collect(),
        },
        meta: Meta::default(),
    }))
}

fn mute() -> ErrorObject {
    let why = "The node does not answer";
    ErrorObject::new(Code::NotReady, Some(why.to_owned()))
}

/// What nodes count in memory, as it was asked within the last seconds.
///
/// # Errors
/// When the database does not say which nodes there are; 1016 while too many wait for the same answer.
pub async fn pages(webapp: &Webapp) -> Result<Arc<Pages>, ApiError> {
    let db = webapp.db()?;
    webapp.stats_app.get(ask_all(webapp, &db)).await
}

/// Masters and coreapps, all at once.
async fn ask_all(webapp: &Webapp, db: &Db) -> Result<Pages, ApiError> {
    let nodes = of_interest(webapp, db).await?;
    let asked = nodes.iter().map(|node| async {
        let node = &node.registration;
        (node.node.to_string(), ask(webapp, node).await)
    });
    Ok(join_all(asked).await)
}

async fn of_interest(webapp: &Webapp, db: &Db) -> Result<Vec<Registered>, ApiError> {
    let members = db.members(&webapp.map.roll).await;
    let mut members = members.map_err(|e| database(&e))?;
    members.retain(|member| matches!(member.registration.role, Role::Master | Role::Coreapp));
    Ok(members)
}

/// A node's own word, which counts only for the name and the start that it carries.
async fn ask(webapp: &Webapp, node: &Registration) -> Option<Page> {
    let url = match node.role {
        Role::Coreapp => format!("{}{}", node.api_url(), internal::path::FIGURES),
        Role::Master | Role::Webapp | Role::Host => {
            format!("{}{}", node.control_url(), control::path::FIGURES)
        }
    };
    let (status, page) = get::<Page>(webapp, &url, NODE_DEADLINE).await?;
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED) {
        // A node of a release before, which knows no such call or no such look: it lives, and tells no figures.
        return Some(Page {
            node: node.node.to_string(),
            start: node.incarnation.to_string(),
            ..Page::default()
        });
    }
    page.filter(|page| {
        page.node == node.node.as_str() && page.start == node.incarnation.to_string()
    })
}

/// The status of an answer, and its body where it is as wanted; `None`: there was none.
async fn get<T: DeserializeOwned>(
    webapp: &Webapp,
    url: &str,
    within: Duration,
) -> Option<(StatusCode, Option<T>)> {
    let call = webapp.look(Method::GET, url, within).await;
    let (status, bytes) = call.ok()?;
    let body = status.is_success().then(|| serde_json::from_slice(&bytes));
    Some((status, body.and_then(Result::ok)))
}

/// Counts of rows in the database, by the primary master: about, where there are more than 50,000 messages or callbacks. One answer
/// is shared for five seconds.
///
/// Differs from the reference: `db_contacts` is always 0, because no list of customers is kept.
#[utoipa::path(get, path = "/v1/stats/db", tag = "monitoring",
    params(("format" = Option<String>, Query, description = "`prometheus` for Prometheus text")),
    responses((status = 200, body = StatsDbAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn stats_db(State(webapp): State<Arc<Webapp>>, Query(format): Query<Format>) -> Answer {
    counts(&webapp, &format, |page| page.documented.clone()).await
}

/// The same, with the rows of every table.
#[utoipa::path(get, path = "/v1/stats/db/internal", tag = "monitoring",
    params(("format" = Option<String>, Query, description = "`prometheus` for Prometheus text")),
    responses((status = 200, body = StatsDbAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn stats_db_internal(
    State(webapp): State<Arc<Webapp>>,
    Query(format): Query<Format>,
) -> Answer {
    counts(&webapp, &format, whole).await
}

async fn counts(webapp: &Webapp, format: &Format, of: impl Fn(&Page) -> Figures) -> Answer {
    let page = webapp.stats_db.get(counted(webapp)).await?;
    let figures = labelled(&of(&page), "node", &page.node);
    if format.prometheus() {
        return Ok(as_text(text(figures)));
    }
    let nodes = of_interest(webapp, &*webapp.db()?).await?;
    let none = |node: Registered| {
        let name = node.registration.node.to_string();
        (name, NodeStats::Metrics(Metrics::new()))
    };
    let mut db: BTreeMap<String, NodeStats> = nodes.into_iter().map(none).collect();
    db.insert(page.node.clone(), NodeStats::Metrics(shown(figures)));
    Ok(ok(&StatsDbAnswer {
        stats: StatsDb { db },
        meta: Meta::default(),
    }))
}

/// What the primary master counts.
async fn counted(webapp: &Webapp) -> Result<Page, ApiError> {
    let no_master = || ApiError::with(Code::NotPrimaryMaster, "No primary master is up; try again");
    let (primary, at) = webapp.map.now().master.clone().ok_or_else(no_master)?;
    let url = format!("{at}{}", control::path::FIGURES_DB);
    let answer = get::<Page>(webapp, &url, COUNT_DEADLINE).await;
    let failed =
        || ApiError::with(Code::Database, "The rows could not be counted in time").status(503);
    match answer.ok_or_else(no_master)? {
        (StatusCode::NOT_FOUND, _) => {}
        (_, page) => return page.ok_or_else(failed),
    }
    // A master of the release before counts less.
    let url = format!("{at}{}", control::path::STATS_DB);
    let answer = get::<Vec<(String, u64)>>(webapp, &url, COUNT_DEADLINE).await;
    let counts = answer.and_then(|(_, counts)| counts).ok_or_else(failed)?;
    let figure = |(name, count): (String, u64)| {
        let help = format!("Rows: {}", name.replace('_', " "));
        (
            format!("db_{name}"),
            Figure::gauge(&help).with(&[], value(count)),
        )
    };
    Ok(Page {
        node: primary.to_string(),
        documented: counts.into_iter().map(figure).collect(),
        ..Page::default()
    })
}

/// What this webapp measures: as JSON, or as Prometheus text with `?format=prometheus` or for a scraper that asks for text.
#[utoipa::path(get, path = "/v1/metrics", tag = "monitoring",
    params(("format" = Option<String>, Query, description = "`prometheus` for Prometheus text, `json`")),
    responses((status = 200, body = MetricsAnswer), (status = 401, body = ErrorBody)))]
pub async fn metrics(
    State(webapp): State<Arc<Webapp>>,
    Query(format): Query<Format>,
    headers: HeaderMap,
) -> Response {
    let documented = webapp.metrics.documented(clock::now().since(webapp.began));
    let node = webapp.settings.node.as_str();
    let documented = labelled(&documented, "node", node);
    webapp.shown_metrics();
    if format.prometheus() || format.format.is_none() && wants_text(&headers) {
        return as_text(webapp.metrics.encode_with(documented));
    }
    let mut all = labelled(&webapp.metrics.figures(), "node", node);
    all.extend(documented);
    ok(&MetricsAnswer {
        metrics: shown(all),
        meta: Meta::default(),
    })
}

/// Scrapers say which texts they read.
fn wants_text(headers: &HeaderMap) -> bool {
    let accept = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/plain") || accept.contains("openmetrics"))
}

/// The same, where scrapers look by themselves.
#[utoipa::path(get, path = "/metrics", tag = "monitoring",
    params(("format" = Option<String>, Query, description = "`prometheus` for Prometheus text, `json`")),
    responses((status = 200, body = MetricsAnswer), (status = 401, body = ErrorBody)))]
pub async fn metrics_at_the_root(
    webapp: State<Arc<Webapp>>,
    format: Query<Format>,
    headers: HeaderMap,
) -> Response {
    metrics(webapp, format, headers).await
}

#[cfg(test)]
#[path = "stats_tests.rs"]
mod tests;
