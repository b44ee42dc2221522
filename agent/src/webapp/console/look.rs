//! Looks at the cluster for the consoles: asks a master, with the right to look and no other, once for all of them.
//! Keeps nothing: `sampler.rs` does.

use std::collections::BTreeMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use axum::http::{Method, StatusCode};
use serde::de::DeserializeOwned;
use tokio_util::sync::CancellationToken;
use wa_core::id::Role;
use wa_core::time::Instant;

use super::sampler::{LOOKED_AT, Sampler, Seen};
use crate::api::control::{ClusterStatus, path};
use crate::api::picture::curve::{Counted, EVERY};
use crate::db::mount::Mount;
use crate::media::watch::REPORT_AGE_MAX_MS;
use crate::metrics::figure::Pages;
use crate::sys::clock;
use crate::webapp::state::Webapp;
use crate::webapp::v1::stats;

/// For one master to answer, and for the database.
const WITHIN: Duration = Duration::from_secs(2);
/// Masters that are asked in one round, should the first ones not answer.
const MASTERS_MAX: usize = 4;

/// Looks until the stop, or until the webapp is gone: often while somebody watches, for the curves otherwise.
pub async fn run(sampler: Arc<Sampler>, webapp: Weak<Webapp>, stop: CancellationToken) {
    let (mut wanted, mut totals) = (false, Totals::default());
    while !stop.is_cancelled() {
        let Some(webapp) = webapp.upgrade() else {
            return;
        };
        let often = wanted || sampler.watched();
        sampler.take(look(&webapp, often, &mut totals).await);
        drop(webapp);
        let pause = if sampler.watched() { LOOKED_AT } else { EVERY };
        wanted = tokio::select! {
            () = stop.cancelled() => false,
            () = clock::sleep(pause) => false,
            () = sampler.wanted() => true,
        };
    }
}

/// `whole`: somebody sees it; for the curves alone less is asked.
async fn look(webapp: &Webapp, whole: bool, totals: &mut Totals) -> Seen {
    let (found, refused) = ask(webapp).await;
    let explained = match (&found, whole) {
        (Some((url, _)), true) => get(webapp, &format!("{url}{}", path::EXPLAIN)).await.ok(),
        (Some(_), false) | (None, _) => None,
    };
    let mounts = if whole {
        mounts(webapp).await
    } else {
        Vec::new()
    };
    let (counted, rates) = if whole {
        totals.now(webapp).await
    } else {
        Default::default()
    };
    Seen {
        counted,
        rates,
        at: Some(clock::now()),
        whole,
        refused,
        status: found.map(|(_, status)| status),
        explained: explained.unwrap_or_default(),
        mounts,
    }
}

/// What each coreapp counted at the look before, and when that was.
#[derive(Default)]
struct Totals {
    at: Option<Instant>,
    of: BTreeMap<(String, Counted), u64>,
    rates: BTreeMap<Counted, u64>,
}

impl Totals {
    /// The sums of all coreapps, and their rates. Nodes are asked at most every few seconds, for all who look.
    async fn now(&mut self, webapp: &Webapp) -> (BTreeMap<Counted, u64>, BTreeMap<Counted, u64>) {
        let Ok(pages) = stats::pages(webapp).await else {
            return Default::default();
        };
        self.add(clock::now(), &counts(&pages))
    }

    fn add(
        &mut self,
        now: Instant,
        counts: &BTreeMap<(String, Counted), u64>,
    ) -> (BTreeMap<Counted, u64>, BTreeMap<Counted, u64>) {
        let mut sums = BTreeMap::new();
        for ((_, of), count) in counts {
            *sums.entry(*of).or_insert(0u64) += count;
        }
        let since = self.at.map(|at| now.since(at));
        if since.is_none_or(|since| since >= EVERY) {
            let ms = since.map_or(0, |since| u64::try_from(since.as_millis()).unwrap_or(0));
            self.rates.clear();
            for ((node, of), count) in counts.iter().filter(|((_, of), _)| of.is_counter()) {
                // A node that started meanwhile counts from zero again.
                let Some(before) = self.of.get(&(node.clone(), *of)) else {
                    continue;
                };
                let more = count.checked_sub(*before).unwrap_or(*count);
                let rate = more.saturating_mul(1_000_000).checked_div(ms).unwrap_or(0);
                *self.rates.entry(*of).or_insert(0) += rate;
            }
            (self.at, self.of) = (Some(now), counts.clone());
        }
        (sums, self.rates.clone())
    }
}

/// What each coreapp counts.
fn counts(pages: &Pages) -> BTreeMap<(String, Counted), u64> {
    let mut counts = BTreeMap::new();
    for (node, page) in pages {
        let Some(page) = page else { continue };
        for of in Counted::ALL {
            let Some(figure) = page.own.get(of.figure()) else {
                continue;
            };
            let sum: f64 = figure.data.iter().map(|sample| sample.value).sum();
            #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
            counts.insert((node.clone(), of), sum.max(0.0) as u64);
        }
    }
    counts
}

/// Why a look came to nothing.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Nothing {
    Silent,
    /// It does not know our credential.
    Refused,
}

/// What the primary master says of the cluster, else any other, and where it is called; and whether one refused to say anything.
async fn ask(webapp: &Webapp) -> (Option<(String, ClusterStatus)>, bool) {
    let first = webapp.map.now().master.clone();
    let first = first.map(|(_, url)| url.to_string());
    if let Some(url) = &first
        && let Ok(status) = status(webapp, url).await
        && status.primary
    {
        return (Some((url.clone(), status)), false);
    }
    let masters = masters(webapp).await.unwrap_or_default();
    let (mut any, mut refused) = (None, false);
    for url in masters {
        match status(webapp, &url).await {
            Ok(status) => {
                let primary = status.primary;
                any = Some((url, status));
                if primary {
                    break;
                }
            }
            Err(Nothing::Refused) => refused = true,
            Err(Nothing::Silent) => {}
        }
    }
    (any, refused)
}

/// Where masters are called, the freshest first.
async fn masters(webapp: &Webapp) -> Option<Vec<String>> {
    let db = webapp.db().ok()?;
    let nodes = tokio::time::timeout(WITHIN, db.members(&webapp.map.roll)).await;
    let mut nodes = nodes.ok()?.ok()?;
    nodes.sort_by_key(|node| node.beat_age_ms);
    let masters = nodes
        .iter()
        .map(|node| &node.registration)
        .filter(|node| node.role == Role::Master);
    let urls = masters.map(|master| master.control_url());
    Some(urls.take(MASTERS_MAX).collect())
}

async fn status(webapp: &Webapp, master: &str) -> Result<ClusterStatus, Nothing> {
    get(webapp, &format!("{master}{}", path::STATUS)).await
}

async fn get<T: DeserializeOwned>(webapp: &Webapp, url: &str) -> Result<T, Nothing> {
    let look = webapp.look(Method::GET, url, WITHIN).await;
    let (status, bytes) = look.map_err(|_| Nothing::Silent)?;
    if status == StatusCode::UNAUTHORIZED {
        return Err(Nothing::Refused);
    }
    serde_json::from_slice(&bytes).map_err(|_| Nothing::Silent)
}

async fn mounts(webapp: &Webapp) -> Vec<Mount> {
    let Ok(db) = webapp.db() else {
        return Vec::new();
    };
    let read = tokio::time::timeout(WITHIN, db.mounts(REPORT_AGE_MAX_MS)).await;
    read.ok().and_then(Result::ok).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: rates are those of all coreapps together, a restart costs no more than what it counted, and a second look within a
    /// moment changes none. Method: three looks at two nodes.
    #[test]
    fn rates_are_sums() {
        let mut totals = Totals::default();
        let at = |ms: u64| Instant::from_millis(1_000_000 + ms);
        let counts = |one: u64, two: u64| {
            BTreeMap::from([
                (("a".to_owned(), Counted::Sent), one),
                (("b".to_owned(), Counted::Sent), two),
                (("b".to_owned(), Counted::Outbox), 7),
            ])
        };
        let (sums, rates) = totals.add(at(0), &counts(100, 50));
        assert_eq!((sums[&Counted::Sent], sums[&Counted::Outbox]), (150, 7));
        assert!(rates.is_empty());
        let (_, rates) = totals.add(at(10_000), &counts(200, 10));
        assert_eq!(rates[&Counted::Sent], 10_000 + 1_000);
        assert!(!rates.contains_key(&Counted::Outbox));
        let (_, rates) = totals.add(at(10_500), &counts(9_999, 9_999));
        assert_eq!(rates[&Counted::Sent], 11_000);
    }
}
