//! A Cloud API to develop and test against: sends, errors, limits, signed webhooks, and a ban for two primaries.
//! Delivers nothing to anybody: it only remembers.

mod ban;
mod lag;
mod media;
mod reader;
mod record;
#[cfg(test)]
mod tests;
mod webhooks;

use std::collections::{BTreeMap, BTreeSet};
use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Path, Query, Request, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio_util::sync::CancellationToken;

use crate::exit::Exit;
use crate::net::server;
use crate::sys::clock;
use ban::Ban;
use reader::{Asked, Sent};

/// Largest call, in bytes.
const CALL_LEN_MAX: usize = 1 << 20;

/// The simulated Cloud API.
#[derive(Debug, Clone, clap::Args)]
pub struct SimulatorArgs {
    /// Address to listen on.
    #[arg(long, default_value = "127.0.0.1:9280")]
    pub listen: SocketAddr,
    #[arg(long, default_value = "100200300")]
    pub phone_number_id: String,
    /// Bearer token that senders must show.
    #[arg(long, default_value = "simulator-token")]
    pub token: String,
    /// Key of the webhook signature.
    #[arg(long, default_value = "simulator-app-secret")]
    pub app_secret: String,
    /// Word of the hub.challenge verification.
    #[arg(long, default_value = "simulator-verify")]
    pub verify_token: String,
    /// Where webhooks go; tried in order. May be given several times.
    #[arg(long = "webhook", value_name = "URL")]
    pub webhooks: Vec<String>,
    /// One JSON line for every send: when, shard, epoch, peer, our message id, status. Never a body.
    #[arg(long, value_name = "FILE")]
    pub request_log: Option<std::path::PathBuf>,
    #[command(flatten)]
    pub knobs: KnobArgs,
}

/// How the simulator misbehaves from the start; `POST /admin/knobs` changes it while it runs.
#[derive(Debug, Clone, clap::Args)]
pub struct KnobArgs {
    /// Milliseconds that every send takes.
    #[arg(long, default_value_t = 2)]
    pub latency_ms: u64,
    /// Of 1,000 sends, how many fail with 131000.
    #[arg(long, default_value_t = 0)]
    pub errors_per_mille: u64,
    /// Milliseconds between a send and its webhooks.
    #[arg(long, default_value_t = 20)]
    pub webhook_delay_ms: u64,
    /// Every webhook is sent twice.
    #[arg(long)]
    pub duplicate_webhooks: bool,
    /// Sends a second for the number; above it 130429. 0: no limit.
    #[arg(long, default_value_t = 0)]
    pub rate_per_second: u64,
}

/// The knobs as they stand.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Knobs {
    pub latency_ms: u64,
    pub errors_per_mille: u64,
    pub webhook_delay_ms: u64,
    pub duplicate_webhooks: bool,
    pub rate_per_second: u64,
    /// Sends are taken in and never answered.
    pub stall: bool,
    /// Milliseconds that must lie between two messages to one recipient; below it 131056. 0: no limit.
    pub pair_gap_ms: u64,
    /// The only token that is taken; empty: that of the start.
    pub token: String,
    /// The secret that signs webhooks; empty: that of the start.
    pub app_secret: String,
}

impl Default for Knobs {
    fn default() -> Self {
        Self {
            latency_ms: 2,
            errors_per_mille: 0,
            webhook_delay_ms: 20,
            duplicate_webhooks: false,
            rate_per_second: 0,
            stall: false,
            pair_gap_ms: 0,
            token: String::new(),
            app_secret: String::new(),
        }
    }
}

/// What the simulator has seen.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
pub struct Report {
    /// Sends that were accepted.
    pub accepted: u64,
    /// Different messages of ours among them.
    pub unique: u64,
    /// Messages of ours that were accepted more than once.
    pub sent_twice: u64,
    /// Times that two primaries spoke for one shard.
    pub double_primary: u64,
    pub banned: bool,
    /// What the ban was for, one line each.
    pub offences: Vec<String>,
    /// Callbacks that the business end point took.
    pub callbacks: u64,
    /// Webhooks that were dropped because too many waited.
    pub webhooks_dropped: u64,
    /// From a send until a webapp had stored its receipt, ms.
    pub receipt_lag: lag::Spread,
}

pub(crate) struct Seen {
    /// Our message id → how often accepted.
    ids: BTreeMap<String, u32>,
    accepted: u64,
    ban: Ban,
    second: (u64, u64),
    last_to: BTreeMap<String, u64>,
}

pub(crate) struct Simulator {
    args: SimulatorArgs,
    knobs: Mutex<Knobs>,
    seen: Mutex<Seen>,
    callbacks: AtomicU64,
    media: Mutex<media::Shelf>,
    /// The last callback that carried an inbound message.
    last_inbound: Mutex<Value>,
    /// Our message ids of which the business was told a status.
    told: Mutex<BTreeSet<String>>,
    webhooks_dropped: AtomicU64,
    lags: Mutex<lag::Lags>,
    record: Option<record::Record>,
    wamids: AtomicU64,
    outgoing: tokio::sync::mpsc::Sender<webhooks::Outgoing>,
}

fn lock<T>(mutex: &Mutex<T>) -> std::sync::MutexGuard<'_, T> {
    mutex
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Runs until Ctrl-C.
///
/// # Errors
/// When the port is taken.
pub fn run(args: SimulatorArgs) -> anyhow::Result<Exit> {
    eprintln!(
        "simulated Cloud API on http://{}; token {}, phone number id {}",
        args.listen, args.token, args.phone_number_id
    );
    crate::runtime::run(None, |stop| async move {
        start(args, stop.clone()).await?;
        stop.cancelled().await;
        Ok::<_, crate::net::NetError>(())
    })?;
    Ok(Exit::Ok)
}

/// Listens and serves in tasks of their own.
///
/// # Errors
/// When the port is taken.
pub async fn start(
    args: SimulatorArgs,
    stop: CancellationToken,
) -> Result<(), crate::net::NetError> {
    let listener = server::listen("simulator", args.listen).await?;
    let (simulator, queue) = assemble(args);
    serve(simulator, queue, listener, stop);
    Ok(())
}

/// The simulator, and the webhooks that it makes.
fn assemble(
    args: SimulatorArgs,
) -> (
    Arc<Simulator>,
    tokio::sync::mpsc::Receiver<webhooks::Outgoing>,
) {
    let (outgoing, queue) = tokio::sync::mpsc::channel(webhooks::QUEUE_LEN_MAX);
    let k = &args.knobs;
    let knobs = Knobs {
        latency_ms: k.latency_ms,
        errors_per_mille: k.errors_per_mille,
        webhook_delay_ms: k.webhook_delay_ms,
        duplicate_webhooks: k.duplicate_webhooks,
        rate_per_second: k.rate_per_second,
        ..Knobs::default()
    };
    let seen = Seen {
        ids: BTreeMap::new(),
        accepted: 0,
        ban: Ban::default(),
        second: (0, 0),
        last_to: BTreeMap::new(),
    };
    let simulator = Arc::new(Simulator {
        knobs: Mutex::new(knobs),
        seen: Mutex::new(seen),
        callbacks: AtomicU64::new(0),
        media: Mutex::default(),
        last_inbound: Mutex::default(),
        told: Mutex::default(),
        webhooks_dropped: AtomicU64::new(0),
        lags: Mutex::default(),
        record: args.request_log.as_deref().map(record::Record::start),
        wamids: AtomicU64::new(crate::sys::state::random_u64() >> 16),
        outgoing,
        args,
    });
    (simulator, queue)
}

fn serve(
    simulator: Arc<Simulator>,
    queue: tokio::sync::mpsc::Receiver<webhooks::Outgoing>,
    listener: tokio::net::TcpListener,
    stop: CancellationToken,
) {
    let (delivering, ended) = (Arc::clone(&simulator), stop.clone());
    tokio::spawn(async move {
        ended
            .run_until_cancelled(webhooks::deliver(delivering, queue))
            .await;
    });
    let router = Router::new()
        .route("/{version}/{phone}/messages", post(messages))
        .route(
            "/{version}/{phone}/media",
            post(media::upload).layer(axum::extract::DefaultBodyLimit::disable()),
        )
        .route("/media-file/{id}", get(media::file))
        .route("/admin/media", get(media::list))
        .route("/{version}/{phone}", get(phone))
        .route("/admin/report", get(report))
        .route("/admin/ids", get(ids))
        .route("/admin/told", get(told))
        .route("/admin/challenge", post(challenge))
        .route("/admin/knobs", get(knobs_now).post(set_knobs))
        .route("/admin/inbound", post(inbound))
        .route("/admin/reset", post(reset))
        .route("/admin/last-inbound", get(last_inbound))
        .route("/business", post(business))
        .with_state(simulator);
    tokio::spawn(server::serve(listener, router, stop));
}

fn refuse(status: StatusCode, code: u32, message: &str) -> Response {
    let error = json!({"error": {"message": format!("(#{code}) {message}"), "type": "OAuthException", "code": code, "fbtrace_id": "sim"}});
    (status, Json(error)).into_response()
}

impl Simulator {
    fn authorized(&self, headers: &HeaderMap) -> bool {
        let knobs = lock(&self.knobs);
        let token = [&knobs.token, &self.args.token][usize::from(knobs.token.is_empty())];
        let expected = format!("Bearer {token}");
        headers
            .get("authorization")
            .is_some_and(|value| value.as_bytes() == expected.as_bytes())
    }

    /// Limits and errors that the knobs ask for.
    fn refusal(&self, knobs: &Knobs, to: &str) -> Option<Response> {
        let mut seen = lock(&self.seen);
        if seen.ban.banned() {
            return Some(refuse(
                StatusCode::FORBIDDEN,
                368,
                "Temporarily blocked for policies violations",
            ));
        }
        let now_ms = clock::now().as_millis();
        if knobs.rate_per_second > 0 {
            let second = now_ms / 1000;
            seen.second = if seen.second.0 == second {
                (second, seen.second.1 + 1)
            } else {
                (second, 1)
            };
            if seen.second.1 > knobs.rate_per_second {
                return Some(refuse(
                    StatusCode::TOO_MANY_REQUESTS,
                    130_429,
                    "Rate limit hit",
                ));
            }
        }
        if knobs.pair_gap_ms > 0 {
            let last = seen.last_to.insert(to.to_owned(), now_ms);
            if last.is_some_and(|last| now_ms < last + knobs.pair_gap_ms) {
                return Some(refuse(
                    StatusCode::TOO_MANY_REQUESTS,
                    131_056,
                    "Pair rate limit hit",
                ));
            }
        }
        if knobs.errors_per_mille > 0
            && crate::sys::state::random_u64() % 1000 < knobs.errors_per_mille
        {
            return Some(refuse(
                StatusCode::INTERNAL_SERVER_ERROR,
                131_000,
                "Something went wrong",
            ));
        }
        None
    }
}

/// A request that is judged, until it is answered or whoever asked is gone.
struct Judged<'a> {
    simulator: &'a Simulator,
    number: ban::RequestNumber,
}

impl<'a> Judged<'a> {
    fn begin(simulator: &'a Simulator, claim: (u64, u64), peer: Option<SocketAddr>) -> Self {
        let number = lock(&simulator.seen).ban.begin(claim.0, claim.1, peer);
        Self { simulator, number }
    }

    fn received(&self) {
        lock(&self.simulator.seen).ban.received(self.number);
    }
}

impl Drop for Judged<'_> {
    fn drop(&mut self) {
        lock(&self.simulator.seen).ban.end(self.number);
    }
}

async fn messages(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let number = |name: &str| {
        parts
            .headers
            .get(name)
            .and_then(|v| v.to_str().ok())
            .and_then(|v| v.parse::<u64>().ok())
    };
    let peer = parts
        .extensions
        .get::<axum::extract::ConnectInfo<SocketAddr>>()
        .map(|p| p.0);
    let claim = number("x-wa-shard").zip(number("x-wa-epoch"));
    let judged = claim.map(|claim| Judged::begin(&simulator, claim, peer));
    let received = to_bytes(body, CALL_LEN_MAX).await;
    if let Some(judged) = &judged {
        judged.received();
    }
    match received {
        Ok(bytes)
            if simulator.authorized(&parts.headers) && phone == simulator.args.phone_number_id =>
        {
            let (answer, id, held) = send(&simulator, &bytes);
            // Before the answer is held back: whoever asked may be gone by then, and this with it.
            if let Some(record) = &simulator.record {
                record.line(claim, peer, &id, answer.status());
            }
            clock::sleep(held).await;
            answer
        }
        Ok(_) => refuse(
            StatusCode::UNAUTHORIZED,
            190,
            "Invalid OAuth access token or phone number id",
        ),
        Err(_) => refuse(
            StatusCode::PAYLOAD_TOO_LARGE,
            100,
            "The body is too large or broke off",
        ),
    }
}

/// The answer to a send, our id of the message, and how long the answer is held back.
fn send(simulator: &Arc<Simulator>, bytes: &[u8]) -> (Response, String, Duration) {
    let at_once = |answer| (answer, String::new(), Duration::ZERO);
    let sent = match reader::read(bytes) {
        Ok(Asked::Message(sent)) => sent,
        Ok(Asked::Read) => return at_once(Json(json!({"success": true})).into_response()),
        Err(refusal) => {
            // Nobody sees this but who looks for a mistake of ours.
            tracing::warn!(
                code = refusal.code,
                why = refusal.why,
                "a send is not as documented; refused"
            );
            return at_once(refuse(StatusCode::BAD_REQUEST, refusal.code, &refusal.why));
        }
    };
    match accept(simulator, &sent) {
        Ok((answer, held)) => (answer, id_of(&sent.opaque), held),
        Err(refusal) => (*refusal, id_of(&sent.opaque), Duration::ZERO),
    }
}

/// The message's id in its opaque data: what stands before the first dot.
fn id_of(opaque: &str) -> String {
    opaque.split('.').next().unwrap_or_default().to_owned()
}

fn accept(simulator: &Arc<Simulator>, sent: &Sent) -> Result<(Response, Duration), Box<Response>> {
    let known = |file: &String| media::known(simulator, file);
    if !sent.files.iter().all(known) {
        let why = "There is no media with this id";
        return Err(refuse(StatusCode::BAD_REQUEST, 131_009, why).into());
    }
    let knobs = lock(&simulator.knobs).clone();
    if let Some(refusal) = simulator.refusal(&knobs, &sent.to) {
        return Err(refusal.into());
    }
    let wamid = format!(
        "wamid.{:016X}",
        simulator.wamids.fetch_add(1, Ordering::Relaxed)
    );
    {
        let mut seen = lock(&simulator.seen);
        seen.accepted += 1;
        *seen.ids.entry(id_of(&sent.opaque)).or_default() += 1;
    }
    webhooks::statuses(simulator, &knobs, &wamid, &sent.to, &sent.opaque);
    let stalled = Duration::from_secs(if knobs.stall { 3600 } else { 0 });
    let answer = Json(json!({
        "messaging_product": "whatsapp",
        "contacts": [{"input": sent.to, "wa_id": sent.to}],
        "messages": [{"id": wamid}],
    }));
    let held = stalled + Duration::from_millis(knobs.latency_ms);
    Ok((answer.into_response(), held))
}

async fn phone(
    State(simulator): State<Arc<Simulator>>,
    headers: HeaderMap,
    Path((_, phone)): Path<(String, String)>,
) -> Response {
    if !simulator.authorized(&headers) {
        return refuse(StatusCode::UNAUTHORIZED, 190, "Invalid OAuth access token");
    }
    match media::about(&simulator, &headers, &phone) {
        Some(about) => Json(about).into_response(),
        None => Json(json!({"id": phone})).into_response(),
    }
}

async fn report(State(simulator): State<Arc<Simulator>>) -> Json<Report> {
    let seen = lock(&simulator.seen);
    Json(Report {
        accepted: seen.accepted,
        unique: seen.ids.len() as u64,
        sent_twice: seen.ids.values().filter(|n| **n > 1).count() as u64,
        double_primary: seen.ban.offences().len() as u64,
        banned: seen.ban.banned(),
        offences: seen.ban.offences().to_vec(),
        callbacks: simulator.callbacks.load(Ordering::Relaxed),
        webhooks_dropped: simulator.webhooks_dropped.load(Ordering::Relaxed),
        receipt_lag: lock(&simulator.lags).spread(),
    })
}

async fn ids(State(simulator): State<Arc<Simulator>>) -> Json<Vec<String>> {
    Json(lock(&simulator.seen).ids.keys().cloned().collect())
}

async fn told(State(simulator): State<Arc<Simulator>>) -> Json<BTreeSet<String>> {
    Json(lock(&simulator.told).clone())
}

/// Verifies every webhook address as the vendor's dashboard does, and says which answered right.
async fn challenge(State(simulator): State<Arc<Simulator>>) -> Json<BTreeMap<String, bool>> {
    Json(webhooks::challenge(&simulator).await)
}

async fn knobs_now(State(simulator): State<Arc<Simulator>>) -> Json<Knobs> {
    Json(lock(&simulator.knobs).clone())
}

async fn set_knobs(State(simulator): State<Arc<Simulator>>, Json(new): Json<Knobs>) -> Json<Knobs> {
    lock(&simulator.knobs).clone_from(&new);
    Json(new)
}

#[derive(Deserialize)]
struct Inbound {
    from: String,
    #[serde(default)]
    body: String,
    /// A file that the customer sends.
    media: Option<media::Given>,
}

async fn inbound(
    State(simulator): State<Arc<Simulator>>,
    Json(message): Json<Inbound>,
) -> StatusCode {
    let content = match message.media {
        None => json!({"type": "text", "text": {"body": message.body}}),
        Some(given) => media::inbound(&simulator, given),
    };
    webhooks::inbound(&simulator, &message.from, content);
    StatusCode::ACCEPTED
}

async fn last_inbound(State(simulator): State<Arc<Simulator>>) -> Json<Value> {
    Json(lock(&simulator.last_inbound).clone())
}

/// Forgets all sends and the ban; for the next drill.
async fn reset(State(simulator): State<Arc<Simulator>>) -> StatusCode {
    let mut seen = lock(&simulator.seen);
    seen.ids.clear();
    seen.accepted = 0;
    seen.ban = Ban::default();
    lock(&simulator.told).clear();
    *lock(&simulator.lags) = lag::Lags::default();
    StatusCode::NO_CONTENT
}

/// The business's end point: takes every callback.
async fn business(
    State(simulator): State<Arc<Simulator>>,
    Query(_): Query<BTreeMap<String, String>>,
    body: Body,
) -> StatusCode {
    let body = to_bytes(body, CALL_LEN_MAX).await.unwrap_or_default();
    let value: Value = serde_json::from_slice(&body).unwrap_or_default();
    let statuses = value.get("statuses").and_then(Value::as_array);
    let ids = statuses.into_iter().flatten().filter_map(|s| s.get("id"));
    if value.get("messages").is_some() {
        *lock(&simulator.last_inbound) = value.clone();
    }
    lock(&simulator.told).extend(ids.filter_map(Value::as_str).map(ToOwned::to_owned));
    simulator.callbacks.fetch_add(1, Ordering::Relaxed);
    StatusCode::OK
}
