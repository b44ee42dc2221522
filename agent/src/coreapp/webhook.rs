//! Delivers webhooks (wire name: callbacks) to the business, until each was answered 200.
//! `wa_core::delivery` says which may go; this reads, sends, records, and logs no bodies.

use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use futures_util::StreamExt as _;
use futures_util::stream::FuturesUnordered;
use wa_core::delivery::{Lines, Look, Page, Results, Row};
use wa_core::time::Instant;

use super::node::Node;
use super::reach::Reach;
use super::receiver::{self, Refused, Target};
use super::trust::Trust;
use super::work::Work;
use crate::api::v1::setting::ApplicationSettings;
use crate::config::Settings;
use crate::db::{Db, DbError};
use crate::log::seldom;
use crate::net::client::OutsideClient;
use crate::sys::dial::Dialer;
use crate::sys::{clock, state};

const CONNECT_MAX: Duration = Duration::from_secs(5);
/// Requests at once, at most: what the setting may say.
const AT_ONCE_MAX: usize = 24;
/// How often the table is looked into when nobody says that something came.
const LOOK_EVERY: Duration = Duration::from_millis(500);
const IDLE_MIN: Duration = Duration::from_millis(5);
/// How long the database is left alone after it did not answer.
const AFTER_AN_ERROR: Duration = Duration::from_millis(200);
/// How often rows are looked for that were passed by, and how many are looked at.
const SWEEP_EVERY: Duration = Duration::from_secs(5);
const SWEEP_LEN: u32 = 1000;
/// Results recorded with one commit, as soon as there are so many.
const RECORD_LEN_MAX: usize = 64;
/// Rows read with one statement, whosever they are.
const READ_LEN_MAX: usize = 768;

/// What is asked of the database. One at a time: what was read before a commit must not be taken in after it.
enum Asked {
    Look(Look),
    Record(Results),
    /// For rows behind this id that were passed by.
    Sweep(i64),
}

/// And what came.
enum Came {
    Page(Page<String>),
    Rows(Vec<(u32, i64)>, Vec<Row<String>>),
    Recorded(Results),
    Ids(Vec<(i64, u32)>, Option<i64>, bool),
    /// The database did not answer.
    Nothing(Asked, DbError),
}

type Asking = Pin<Box<dyn Future<Output = Came> + Send>>;

/// The desk of one tenure.
struct Desk {
    node: Arc<Node>,
    work: Arc<Work>,
    lines: Lines<String>,
    /// The way to the business from here. While there is none, what waits has no pause of its own: the next owner may have one.
    reach: Reach,
    trust: Arc<Trust>,
    client: OutsideClient,
    target: Option<Target>,
    /// The URL that was complained about.
    warned: String,
    settings: Arc<ApplicationSettings>,
    at_once: usize,
    /// When the database may be asked again.
    ask_from: Instant,
    look_at: Instant,
    sweep_at: Instant,
    swept: i64,
    recorded_last: bool,
}

/// Delivers until the tenure ends.
pub async fn deliver(node: Arc<Node>, work: Arc<Work>) {
    let mut desk = Desk::new(node, Arc::clone(&work));
    let mut calls = FuturesUnordered::new();
    let mut asking: Option<Asking> = None;
    loop {
        desk.renew();
        while let Some((target, row)) = desk.next() {
            let (node, client) = (Arc::clone(&desk.node), desk.client.clone());
            calls.push(measured(node, client, target, row));
        }
        if asking.is_none() {
            asking = desk.ask();
        }
        desk.tell();
        tokio::select! {
            Some((row, done)) = calls.next(), if !calls.is_empty() => desk.came_back(row, done),
            came = async { asking.as_mut().expect("is asked").await }, if asking.is_some() => {
                asking = None;
                desk.read(came);
            }
            () = work.webhook_wanted.notified() => desk.lines.news(),
            () = clock::sleep(desk.idle()) => {}
        }
    }
}

/// Calls receivers, and whom else nobody calls unasked only where that is written.
pub(super) fn client(settings: &Settings, trust: &Trust) -> OutsideClient {
    let permit = receiver::permit(settings.webhooks.hosts.clone(), settings.development);
    let dialer = Dialer::system().permitting(permit);
    OutsideClient::trusting(dialer, &trust.also, CONNECT_MAX, AT_ONCE_MAX)
}

impl Desk {
    fn new(node: Arc<Node>, work: Arc<Work>) -> Self {
        let trust = node.trust.load_full();
        let settings = node.application.load_full();
        let mut desk = Self {
            client: client(&node.settings, &trust),
            trust,
            settings: Arc::clone(&settings),
            lines: Lines::default(),
            reach: Reach::default(),
            target: None,
            warned: String::new(),
            at_once: 1,
            ask_from: Instant::ZERO,
            look_at: clock::now() + LOOK_EVERY,
            sweep_at: clock::now() + SWEEP_EVERY,
            swept: 0,
            recorded_last: false,
            node,
            work,
        };
        desk.set(settings);
        desk
    }

    /// Settings and trust as they are now.
    fn renew(&mut self) {
        let newest = self.node.trust.load_full();
        if !Arc::ptr_eq(&newest, &self.trust) {
            // Those that are under way end by the old one; what could not be delivered is tried at once.
            self.client = client(&self.node.settings, &newest);
            (self.trust, self.reach) = (newest, Reach::default());
        }
        let settings = self.node.application.load_full();
        if !Arc::ptr_eq(&settings, &self.settings) {
            self.set(settings);
        }
        let webhooks = &self.settings.webhooks;
        if self.target.is_none() {
            let error = "webhooks.url is not an https URL";
            self.node.troubles.callbacks.failed(error);
            if self.warned != webhooks.url {
                self.warned.clone_from(&webhooks.url);
                tracing::error!(
                    "webhooks.url is not an https URL; events wait until PATCH /v1/settings/application sets one"
                );
            }
        }
        let now = clock::now();
        if now >= self.look_at {
            self.look_at = now + LOOK_EVERY;
            self.lines.news();
        }
    }

    fn set(&mut self, settings: Arc<ApplicationSettings>) {
        let webhooks = &settings.webhooks;
        self.target = Target::parse(&webhooks.url);
        self.at_once = usize::try_from(webhooks.max_concurrent_requests)
            .unwrap_or(6)
            .clamp(1, AT_ONCE_MAX);
        self.settings = settings;
    }

    /// What is sent next, and where to.
    fn next(&mut self) -> Option<(Target, Row<String>)> {
        let target = self.target.clone()?;
        let now = clock::now();
        let may_run = match (self.reach.paused(now), self.reach.lost()) {
            (Some(_), _) => 0,
            (None, true) => 1,
            (None, false) => self.at_once,
        };
        let row = self.lines.start(now, self.at_once, may_run)?;
        Some((target, row))
    }

    /// The next question to the database, if there is one.
    fn ask(&mut self) -> Option<Asking> {
        let now = clock::now();
        let db = self.node.db().filter(|_| now >= self.ask_from)?;
        let asked = self.choose(now)?;
        self.recorded_last = matches!(asked, Asked::Record(_));
        let limit = (4 * self.at_once * usize::from(self.work.shard_count)).min(READ_LEN_MAX);
        let longest_ms = self.settings.max_callback_backoff_delay_ms;
        let (node, work) = (Arc::clone(&self.node), Arc::clone(&self.work));
        let bounds = (u32::try_from(limit).unwrap_or(u32::MAX), longest_ms);
        Some(Box::pin(answer(node, work, db, asked, bounds)))
    }

    fn choose(&mut self, now: Instant) -> Option<Asked> {
        let results = self.lines.results().len();
        // A slow receiver must not keep the results of a quick one.
        let record = results >= RECORD_LEN_MAX || results > 0 && self.lines.flying() < self.at_once;
        if record && !self.recorded_last {
            return Some(Asked::Record(self.lines.take_results()));
        }
        if now >= self.sweep_at {
            self.sweep_at = now + SWEEP_EVERY;
            return Some(Asked::Sweep(self.swept));
        }
        let look = self.lines.wants(now, self.at_once).map(Asked::Look);
        look.or_else(|| record.then(|| Asked::Record(self.lines.take_results())))
    }

    /// Takes in what came.
    fn read(&mut self, came: Came) {
        let now = clock::now();
        match came {
            Came::Page(page) => self.lines.read_ahead(now, page),
            Came::Rows(asked, rows) => self.lines.read_customers(now, &asked, rows),
            Came::Recorded(results) => {
                let parked = results.parked.iter().map(|(id, _)| id);
                let gone = results.delivered.iter().chain(parked).copied();
                self.work.callbacks.backlog(|backlog| backlog.gone(gone));
                self.lines.recorded(&results);
            }
            Came::Ids(ids, last, full) => {
                ids.into_iter()
                    .for_each(|(id, customer)| self.lines.seen(id, customer));
                self.swept = last.filter(|_| full).unwrap_or(0);
                self.work.callbacks.oldest(self.lines.oldest());
            }
            Came::Nothing(asked, error) => {
                self.ask_from = now + AFTER_AN_ERROR;
                let error = error.brief();
                match asked {
                    Asked::Record(results) => {
                        self.lines.unrecorded(results);
                        seldom!(tracing::warn!(error, "recording webhooks failed; retrying"));
                    }
                    Asked::Look(look) => {
                        self.lines.unread(look);
                        seldom!(tracing::warn!(error, "reading webhooks failed; retrying"));
                    }
                    Asked::Sweep(_) => {}
                }
            }
        }
    }

    /// Figures for others.
    fn tell(&self) {
        let queue = &self.node.documented.callback_queue;
        queue.store(self.lines.in_memory() as u64, Ordering::Relaxed);
    }

    /// How long there is nothing to do unless something comes.
    fn idle(&self) -> Duration {
        let now = clock::now();
        let mut until = self.look_at;
        if let Some(pause) = self.reach.paused(now) {
            until = until.min(now + pause);
        }
        until = until.min(self.lines.deadline().unwrap_or(until));
        if self.ask_from > now {
            until = until.min(self.ask_from);
        }
        // A pause that has ended may wait for room.
        until.since(now).max(IDLE_MIN)
    }

    /// What came of one call.
    fn came_back(&mut self, row: Row<String>, done: Result<(), Refused>) {
        let troubles = &self.node.troubles.callbacks;
        match done {
            Err(Refused::Unreached(why)) => {
                troubles.failed(&why);
                self.lines.unreached(row);
                self.out_of_reach(&why);
            }
            Err(Refused::Failed(why)) => {
                troubles.failed(&why);
                self.reached();
                if row.age >= self.node.settings.webhooks.park_after {
                    return self.park(&row, why);
                }
                let settings = &self.settings;
                let pauses = (
                    Duration::from_millis(settings.callback_backoff_delay_ms),
                    Duration::from_millis(settings.max_callback_backoff_delay_ms),
                );
                let (failures, wait) = self.lines.failed(clock::now(), &row, pauses);
                seldom!(tracing::warn!(
                    webhook = row.id,
                    failures,
                    why,
                    "a webhook was not taken; its customer's wait, and it is retried in {wait:?}"
                ));
            }
            Ok(()) => {
                troubles.over();
                self.reached();
                self.lines.delivered(row.id, row.customer);
            }
        }
    }

    /// Refused for too long: an operator says what becomes of it.
    fn park(&mut self, row: &Row<String>, why: String) {
        self.node.metrics.webhooks_parked.inc();
        let age = humantime::format_duration(Duration::from_secs(row.age.as_secs()));
        seldom!(tracing::warn!(
            webhook = row.id,
            why,
            "the business has not taken a webhook for {age}; it is parked and not tried any more; wa-agent webhooks list shows those \
             that are parked"
        ));
        self.lines.park(row.id, row.customer, why);
    }

    /// There is no way to the business: what waits, waits here.
    fn out_of_reach(&mut self, why: &str) {
        let before = self.reach.lost();
        let jitter = state::random_u64().to_le_bytes()[0];
        if self.reach.failed(clock::now(), jitter).is_some() && !before {
            seldom!(tracing::warn!(
                why,
                "the business cannot be reached from this machine; webhooks wait, and one is tried every few seconds{}",
                advice(why)
            ));
        }
    }

    /// Somebody was reached, whatever came of it.
    fn reached(&mut self) {
        if self.reach.reached() {
            tracing::info!("the business is reached again");
        }
    }
}

/// One statement or commit.
async fn answer(
    node: Arc<Node>,
    work: Arc<Work>,
    db: Arc<Db>,
    asked: Asked,
    (limit, longest_ms): (u32, u64),
) -> Came {
    let (own, count) = (&work.own, work.shard_count);
    let came = match &asked {
        Asked::Look(Look::Ahead { after }) => {
            let page = db.webhooks_behind(own, count, *after, (limit, longest_ms));
            page.await.map(Came::Page)
        }
        Asked::Look(Look::Customers(customers)) => {
            let rows = db.webhooks_of(customers, longest_ms).await;
            rows.map(|rows| Came::Rows(customers.clone(), rows))
        }
        Asked::Record(results) => {
            let done = db.webhooks_done(own, results);
            // Not held: the rows are the next owner's, who delivers again; the driver ends this tenure.
            let done = node.in_turn(done).await;
            done.map(|_| Came::Recorded(results.clone()))
        }
        Asked::Sweep(after) => {
            let ids = db.webhook_ids(own, count, *after, SWEEP_LEN).await;
            ids.map(|(ids, last, full)| Came::Ids(ids, last, full))
        }
    };
    came.unwrap_or_else(|error| Came::Nothing(asked, error))
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

/// One POST, counted by what it tells and how it ended.
async fn measured(
    node: Arc<Node>,
    client: OutsideClient,
    target: Target,
    row: Row<String>,
) -> (Row<String>, Result<(), Refused>) {
    let began = clock::now();
    let secret = &node.settings.webhooks.secret;
    let done = receiver::post(&client, &target, secret, &row.body).await;
    let result = match &done {
        Ok(()) => "success",
        Err(refused) => refused.result(),
    };
    let took = clock::now().since(began);
    node.documented.callback(&row.body, result, took);
    (row, done)
}
