//! Delivers webhooks (wire name: callbacks) to the business: exactly 200 is success, anything else is tried again.
//! The delay grows linearly per failure up to its cap (API facts, delivery rules). Logs no bodies.

use std::collections::{HashSet, VecDeque};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use base64::Engine as _;
use bytes::Bytes;
use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use http::Request;
use http_body_util::Full;
use wa_core::backoff::linear;

use super::node::Node;
use super::reach::Reach;
use super::work::Work;
use crate::api::v1::setting::ApplicationSettings;
use crate::db::webhook::Due;
use crate::log::seldom;
use crate::net::client::{CallError, OutsideClient};
use crate::sys::{clock, state};

/// The business must answer within this time.
const ANSWER_MAX: Duration = Duration::from_secs(20);
const CONNECT_MAX: Duration = Duration::from_secs(5);
/// How often the table is looked into when nobody says that something came.
const LOOK_EVERY: Duration = Duration::from_millis(500);
/// What a refusal begins with that has a status.
const ANSWERED: &str = "answered ";
/// Results recorded with one commit.
const RECORD_LEN_MAX: usize = 64;

/// Where webhooks go: the URL without its user part, and that part as a header.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Target {
    url: String,
    authorization: Option<String>,
}

impl Target {
    /// Plain `http` is for receivers on this machine only.
    fn parse(text: &str) -> Option<Self> {
        let mut url = url::Url::parse(text).ok()?;
        url.host()?;
        if url.scheme() != "https" && !crate::api::v1::setting::in_the_clear(&url) {
            return None;
        }
        let plain = |part: &str| {
            percent_encoding::percent_decode_str(part)
                .decode_utf8_lossy()
                .into_owned()
        };
        let authorization = (!url.username().is_empty()).then(|| {
            let pair = format!(
                "{}:{}",
                plain(url.username()),
                plain(url.password().unwrap_or_default())
            );
            format!(
                "Basic {}",
                base64::engine::general_purpose::STANDARD.encode(pair)
            )
        });
        let _ = url.set_username("");
        let _ = url.set_password(None);
        url.set_fragment(None);
        Some(Self {
            url: url.into(),
            authorization,
        })
    }
}

/// What was read and not yet recorded.
#[derive(Default)]
struct Desk {
    waiting: VecDeque<Due>,
    /// Ids that are waiting, on their way, or delivered and not recorded: not to be read again.
    known: HashSet<i64>,
    delivered: Vec<i64>,
    put_off: Vec<(i64, u64)>,
    /// The way to the business from here. While there is none, what waits has no pause of its own: the next owner may have one.
    reach: Reach,
}

impl Desk {
    fn results(&self) -> usize {
        self.delivered.len() + self.put_off.len()
    }
}

/// Delivers until the tenure ends.
pub async fn deliver(node: Arc<Node>, work: Arc<Work>) {
    let mut trust = node.trust.load_full();
    let mut client = OutsideClient::trusting(&trust.also, CONNECT_MAX, 24);
    let mut desk = Desk::default();
    let mut calls = FuturesUnordered::new();
    let mut warned = String::new();
    loop {
        let newest = node.trust.load_full();
        if !Arc::ptr_eq(&newest, &trust) {
            // Those that are under way end by the old one; what could not be delivered is tried at once.
            client = OutsideClient::trusting(&newest.also, CONNECT_MAX, 24);
            (trust, desk.reach) = (newest, Reach::default());
        }
        let settings = node.application.load_full();
        let target = Target::parse(&settings.webhooks.url);
        if target.is_none() {
            let error = "webhooks.url is not an https URL";
            node.troubles.callbacks.failed(error);
        }
        if target.is_none() && warned != settings.webhooks.url {
            warned.clone_from(&settings.webhooks.url);
            tracing::error!(
                "webhooks.url is not an https URL; events wait until PATCH /v1/settings/application sets one"
            );
        }
        let at_once = usize::try_from(settings.webhooks.max_concurrent_requests)
            .unwrap_or(6)
            .clamp(1, 24);
        let mut looked = false;
        if target.is_some() && desk.waiting.len() < at_once {
            looked = look(&node, &work, &mut desk, at_once).await;
        }
        let may_run = match (desk.reach.paused(clock::now()), desk.reach.lost()) {
            (Some(_), _) => 0,
            (None, true) => 1,
            (None, false) => at_once,
        };
        while let Some(target) = target.as_ref().filter(|_| calls.len() < may_run) {
            let Some(due) = desk.waiting.pop_front() else {
                break;
            };
            let (node, client, target) = (Arc::clone(&node), client.clone(), target.clone());
            calls.push(measured(node, client, target, due));
        }
        if calls.is_empty() || desk.results() >= RECORD_LEN_MAX {
            put_away(&node, &work, &mut desk).await;
        }
        if calls.is_empty() {
            if !looked || desk.waiting.is_empty() {
                let _ = tokio::time::timeout(LOOK_EVERY, work.webhook_wanted.notified()).await;
            }
            continue;
        }
        node.documented
            .callback_queue
            .store((desk.waiting.len() + calls.len()) as u64, Ordering::Relaxed);
        tokio::select! {
            Some((due, done)) = calls.next() => {
                came_back(&node, &mut desk, &settings, due, done);
                // A slow receiver must not keep the results of a quick one.
                if desk.results() > 0 && calls.len() + 1 < at_once {
                    put_away(&node, &work, &mut desk).await;
                }
            }
            () = work.webhook_wanted.notified() => {}
        }
    }
}

/// What came of one call.
fn came_back(
    node: &Node,
    desk: &mut Desk,
    settings: &ApplicationSettings,
    due: Due,
    done: Result<(), Refused>,
) {
    match done {
        Err(Refused::Unreached(why)) => {
            node.troubles.callbacks.failed(&why);
            unreached(desk, due, &why);
        }
        Err(Refused::Failed(why)) => {
            node.troubles.callbacks.failed(&why);
            answered(desk, settings, &due, Some(why));
        }
        Ok(()) => {
            node.troubles.callbacks.over();
            answered(desk, settings, &due, None);
        }
    }
}

/// Reads what is due. True when something new came.
async fn look(node: &Node, work: &Work, desk: &mut Desk, at_once: usize) -> bool {
    let Some(db) = node.db() else { return false };
    let limit = u32::try_from(desk.known.len() + 4 * at_once).unwrap_or(u32::MAX);
    let longest_ms = node.application.load().max_callback_backoff_delay_ms;
    let due = db.due_webhooks(&work.own, work.shard_count, limit, longest_ms);
    match due.await {
        Ok(rows) => {
            let before = desk.waiting.len();
            let fresh = rows.into_iter().filter(|row| desk.known.insert(row.id));
            desk.waiting.extend(fresh);
            desk.waiting.len() > before
        }
        Err(error) => {
            seldom!(tracing::warn!(error = %error.brief(), "reading webhooks failed; retrying"));
            clock::sleep(LOOK_EVERY).await;
            false
        }
    }
}

/// Why a webhook was not delivered.
enum Refused {
    /// There was no connection: not one byte left.
    Unreached(String),
    Failed(String),
}

/// There is no way to the business: it waits here, and is the first one to be tried again.
fn unreached(desk: &mut Desk, due: Due, why: &str) {
    desk.waiting.push_front(due);
    let before = desk.reach.lost();
    let jitter = state::random_u64().to_le_bytes()[0];
    if desk.reach.failed(clock::now(), jitter).is_some() && !before {
        seldom!(tracing::warn!(
            why,
            "the business cannot be reached from this machine; webhooks wait, and one is tried every few seconds{}",
            advice(why)
        ));
    }
}

/// What to do about a certificate that nobody vouches for.
fn advice(why: &str) -> &'static str {
    match why.contains("certificate") {
        true => {
            ". If its certificate is of an authority of yours, send that authority: POST /v1/certificates/webhooks/ca, or set \
             [webhooks] ca"
        }
        false => "",
    }
}

/// Somebody was reached, whatever came of it.
fn answered(desk: &mut Desk, settings: &ApplicationSettings, due: &Due, failure: Option<String>) {
    if desk.reach.reached() {
        tracing::info!("the business is reached again");
    }
    note(desk, settings, due, failure);
}

/// One POST, counted by what it tells and how it ended.
async fn measured(
    node: Arc<Node>,
    client: OutsideClient,
    target: Target,
    due: Due,
) -> (Due, Result<(), Refused>) {
    let began = clock::now();
    let (due, done) = call(client, target, due).await;
    let result = match &done {
        Ok(()) => "success",
        Err(Refused::Unreached(_)) => "unreachable",
        Err(Refused::Failed(why)) => status_in(why),
    };
    let took = clock::now().since(began);
    node.documented.callback(&due.payload, result, took);
    (due, done)
}

/// The number of the status that a refusal names; `failed` for one that names none.
fn status_in(why: &str) -> &str {
    let rest = why.strip_prefix(ANSWERED);
    rest.and_then(|rest| rest.get(..3)).unwrap_or("failed")
}

/// One POST.
async fn call(client: OutsideClient, target: Target, due: Due) -> (Due, Result<(), Refused>) {
    let mut request = Request::post(&target.url)
        .header("content-type", "application/json")
        .header("user-agent", "wa-agent");
    if let Some(authorization) = &target.authorization {
        request = request.header("authorization", authorization);
    }
    let request = match request.body(Full::new(Bytes::from(due.payload.clone()))) {
        Ok(request) => request,
        Err(error) => return (due, Err(Refused::Failed(error.to_string()))),
    };
    let done = match client.call(request, ANSWER_MAX).await {
        Ok(answer) if answer.status() == http::StatusCode::OK => Ok(()),
        Ok(answer) => Err(Refused::Failed(format!("{ANSWERED}{}", answer.status()))),
        Err(error @ (CallError::Connect(_) | CallError::Forbidden(_))) => {
            Err(Refused::Unreached(error.to_string()))
        }
        Err(error @ (CallError::Broken(_) | CallError::Deadline(_))) => {
            Err(Refused::Failed(error.to_string()))
        }
    };
    (due, done)
}

fn note(desk: &mut Desk, settings: &ApplicationSettings, due: &Due, failure: Option<String>) {
    let Some(why) = failure else {
        desk.delivered.push(due.id);
        return;
    };
    let failures = u32::try_from(due.attempts.saturating_add(1)).unwrap_or(u32::MAX);
    let step = Duration::from_millis(settings.callback_backoff_delay_ms);
    let cap = Duration::from_millis(settings.max_callback_backoff_delay_ms);
    let wait = linear(step, failures, cap);
    seldom!(tracing::warn!(
        webhook = due.id,
        failures,
        why,
        "a webhook was not taken; retrying in {wait:?}"
    ));
    desk.put_off
        .push((due.id, u64::try_from(wait.as_millis()).unwrap_or(u64::MAX)));
}

/// Records results. What cannot be recorded stays on the desk and is tried again.
async fn put_away(node: &Node, work: &Work, desk: &mut Desk) {
    if desk.results() == 0 {
        return;
    }
    let Some(db) = node.db() else { return };
    match node
        .in_turn(db.webhooks_done(&work.own, &desk.delivered, &desk.put_off))
        .await
    {
        // Not held: the rows are the next owner's, who delivers again; the driver ends this tenure.
        Ok(_) => {
            for id in desk
                .delivered
                .drain(..)
                .chain(desk.put_off.drain(..).map(|(id, _)| id))
            {
                desk.known.remove(&id);
            }
        }
        Err(error) => {
            seldom!(tracing::warn!(error = %error.brief(), "recording webhooks failed; retrying"));
            clock::sleep(Duration::from_millis(200)).await;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: no webhook travels in the clear, except to this machine.
    #[test]
    fn only_https_or_loopback() {
        assert!(Target::parse("https://business.example/hook").is_some());
        assert!(Target::parse("http://127.0.0.1:8000/hook").is_some());
        assert!(Target::parse("http://[::1]:8000/hook").is_some());
        assert!(Target::parse("http://localhost/hook").is_some());
        for refused in [
            "http://business.example/",
            "http://localhost.example/",
            "ftp://127.0.0.1/",
            "",
            "hook",
        ] {
            assert_eq!(Target::parse(refused), None, "{refused}");
        }
    }

    #[test]
    fn the_user_part_becomes_a_header() {
        let target = Target::parse("https://ann:p%40ss@business.example/hook").expect("good");
        assert_eq!(target.url, "https://business.example/hook");
        assert_eq!(target.authorization.as_deref(), Some("Basic YW5uOnBAc3M="));
    }

    /// Goal: 3 s, 6 s, 9 s ... up to the cap, and a success takes the row away.
    #[test]
    fn delays_grow_linearly() {
        let settings = ApplicationSettings::default();
        let mut desk = Desk::default();
        for (id, attempts) in [(1, 0), (2, 2), (3, 100_000)] {
            let due = Due {
                id,
                payload: String::new(),
                attempts,
            };
            note(&mut desk, &settings, &due, Some("answered 500".into()));
        }
        note(
            &mut desk,
            &settings,
            &Due {
                id: 4,
                payload: String::new(),
                attempts: 0,
            },
            None,
        );
        assert_eq!(desk.put_off, [(1, 3000), (2, 9000), (3, 900_000)]);
        assert_eq!(desk.delivered, [4]);
    }
}
