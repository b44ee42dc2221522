//! A Cloud API to develop and test against: sends, errors, limits, signed webhooks, and a ban for two primaries.
//! Delivers nothing to anybody: it only remembers.

mod admin;
mod args;
mod ban;
mod business;
mod codes;
mod event;
mod identity;
mod ids;
mod knobs;
mod lag;
pub mod ledger;
mod media;
mod messages;
mod number;
mod reader;
mod record;
mod refusal;
mod registration;
mod registration_calls;
mod script;
mod shelf;
mod state;
mod switch;
mod template;
#[cfg(test)]
mod tests;
mod throttle;
mod webhooks;

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::Request;
use axum::middleware::{Next, from_fn};
use axum::response::Response;
use axum::routing::{get, post};
use tokio::net::TcpListener;
use tokio::sync::mpsc::Receiver;
use tokio_util::sync::CancellationToken;

pub use args::SimulatorArgs;
pub use state::{Report, Simulator, lock};

use crate::exit::Exit;
use crate::net::door::Entry;
use crate::net::server;
use event::Outgoing;

/// Runs until Ctrl-C.
///
/// # Errors
/// When the port is taken.
pub fn run(args: SimulatorArgs) -> anyhow::Result<Exit> {
    eprintln!(
        "simulated Cloud API on http://{}; token {}, phone number id {}; see --help for recipients that make errors",
        args.listen, args.token, args.phone_number_id
    );
    crate::runtime::run(None, |stop| async move {
        start(args, stop.clone()).await?;
        stop.cancelled().await;
        Ok::<_, crate::net::NetError>(())
    })?;
    Ok(Exit::Ok)
}

/// Listens and serves in tasks of their own; what it remembers can be looked at meanwhile.
///
/// # Errors
/// When the port is taken.
pub async fn start(
    args: SimulatorArgs,
    stop: CancellationToken,
) -> Result<Arc<Simulator>, crate::net::NetError> {
    let listener = server::listen("simulator", args.listen).await?;
    let (simulator, queue) = Simulator::new(args);
    serve(Arc::clone(&simulator), queue, listener, stop);
    Ok(simulator)
}

/// The business alone, on an address of its own, in a task of the runtime that calls.
///
/// # Errors
/// When the port is taken.
pub async fn receive(
    simulator: Arc<Simulator>,
    address: SocketAddr,
    stop: CancellationToken,
) -> Result<(), crate::net::NetError> {
    let listener = server::listen("business", address).await?;
    let router = Router::new()
        .route("/business", post(admin::business))
        .with_state(simulator)
        .layer(from_fn(known));
    tokio::spawn(server::serve(listener, router, stop));
    Ok(())
}

fn serve(
    simulator: Arc<Simulator>,
    queue: Receiver<Outgoing>,
    listener: TcpListener,
    stop: CancellationToken,
) {
    let (delivering, ended) = (Arc::clone(&simulator), stop.clone());
    tokio::spawn(async move {
        ended
            .run_until_cancelled(webhooks::deliver(delivering, queue))
            .await;
    });
    let router = Router::new()
        .route("/{version}/{phone}/messages", post(messages::messages))
        .route(
            "/{version}/{phone}/media",
            post(media::upload).layer(axum::extract::DefaultBodyLimit::disable()),
        )
        .route(
            "/{version}/{account}/message_templates",
            get(template::calls::list),
        )
        .route(
            "/{version}/{phone}/settings",
            get(switch::get).post(switch::set),
        )
        .route(
            "/{version}/{id}",
            get(number::node)
                .delete(media::delete)
                .post(number::post)
                .layer(axum::extract::DefaultBodyLimit::disable()),
        )
        .route("/{version}/debug_token", get(number::token))
        .route("/{version}/{account}/subscribed_apps", get(number::apps))
        .merge(about_the_business())
        .merge(registrations())
        .route("/media-file/{id}", get(media::file))
        .merge(tests_and_drills())
        .with_state(simulator)
        .layer(from_fn(known));
    tokio::spawn(server::serve(listener, router, stop));
}

/// Nobody is a stranger here: bounds for strangers would be taken for the upstream's.
async fn known(request: Request, next: Next) -> Response {
    if let Some(entry) = request.extensions().get::<Entry>() {
        entry.known();
    }
    next.run(request).await
}

/// What registers the number.
fn registrations() -> Router<Arc<Simulator>> {
    Router::new()
        .route(
            "/{version}/{phone}/request_code",
            post(registration_calls::request_code),
        )
        .route(
            "/{version}/{phone}/verify_code",
            post(registration_calls::verify_code),
        )
        .route(
            "/{version}/{phone}/register",
            post(registration_calls::register),
        )
        .route(
            "/{version}/{phone}/deregister",
            post(registration_calls::deregister),
        )
}

/// Profile, photo, compliance and blocked users.
fn about_the_business() -> Router<Arc<Simulator>> {
    use business::{block, photo, profile};
    let blocked = get(block::list).post(block::block).delete(block::unblock);
    Router::new()
        .route(
            "/{version}/{phone}/whatsapp_business_profile",
            get(profile::read).post(profile::change),
        )
        .route(
            "/{version}/{phone}/business_compliance_info",
            get(profile::read_compliance).post(profile::change_compliance),
        )
        .route("/{version}/{phone}/block_users", blocked)
        .route("/{version}/{app}/uploads", post(photo::begin))
        .route("/picture/{id}", get(photo::picture))
}

/// What the vendor does not have.
fn tests_and_drills() -> Router<Arc<Simulator>> {
    let templates = get(template::calls::all)
        .post(template::calls::put)
        .delete(template::calls::remove);
    Router::new()
        .route("/admin/report", get(admin::report))
        .route("/admin/ids", get(admin::ids))
        .route("/admin/told", get(admin::told))
        .route("/admin/statuses", get(admin::statuses))
        .route("/admin/challenge", post(admin::challenge))
        .route("/admin/knobs", get(admin::knobs).post(admin::set_knobs))
        .route("/admin/inbound", post(admin::inbound))
        .route("/admin/webhook", post(admin::webhook))
        .route("/admin/identity", post(switch::change))
        .route("/admin/media", get(admin::files))
        .route("/admin/media/forget", post(admin::forget))
        .route("/admin/templates", templates)
        .route(
            "/admin/number",
            get(registration_calls::show).post(registration_calls::put),
        )
        .route("/admin/number/faults", post(registration_calls::faults))
        .route("/admin/reset", post(admin::reset))
        .route("/admin/last-inbound", get(admin::last_inbound))
        .route("/business", post(admin::business))
}
