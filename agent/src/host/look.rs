//! Lets members of the group `wa` of this machine look, although they can read no key: status, explanations, history, settings.
//! Changes nothing for anybody, and no secret goes out: masters are asked as a node asks them, which may only look.

use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};
use tokio::net::{UnixListener, UnixStream};
use tokio_util::sync::CancellationToken;

use super::agent::Host;
use crate::api::look::Look;
use crate::api::parked::List;
use crate::api::v1::setting::ApplicationSettings;
use crate::db::DbError;
use crate::media::watch::REPORT_AGE_MAX_MS;
use crate::member::masters;
use crate::member::settings::{self, Stored};
use crate::net::client::InternalClient;
use crate::net::keys::Keys;
use crate::sys::{gate_socket, look_socket};

/// People of one machine who look at once; others are turned away.
const CONNECTIONS_MAX: usize = 16;
/// For the whole of one answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(8);
/// Before the masters that are known have to do.
const DATABASE_WITHIN: Duration = Duration::from_secs(2);
/// Most decisions in one answer.
const HISTORY_MAX: u32 = 1000;

/// Listens until `stop`. Where it cannot, those who can read the key look all the same.
pub fn start(host: Arc<Host>, stop: CancellationToken) {
    let listener = match gate_socket::listen(Path::new(look_socket::PATH)) {
        Ok(listener) => listener,
        // As with the gate's socket: outside the unit there is no directory for it.
        Err(error) => {
            tracing::info!(%error, path = look_socket::PATH, "members of the group wa cannot look through this host agent");
            return;
        }
    };
    tokio::spawn(stop.run_until_cancelled_owned(serve(host, listener)));
}

async fn serve(host: Arc<Host>, listener: UnixListener) {
    let each = |stream| {
        let host = Arc::clone(&host);
        async move {
            if let Err(error) = one(&host, stream).await {
                tracing::debug!(%error, "a look through the host agent came to nothing");
            }
        }
    };
    gate_socket::serve(listener, CONNECTIONS_MAX, each).await;
}

async fn one(host: &Host, mut stream: UnixStream) -> std::io::Result<()> {
    let question = look_socket::question(&mut stream).await?;
    let said = match serde_json::from_slice::<Look>(&question) {
        Ok(look) => tokio::time::timeout(ANSWER_WITHIN, see(host, look))
            .await
            .unwrap_or_else(|_| Err(format!("no answer within {ANSWER_WITHIN:?}"))),
        Err(_) => Err(
            "the host agent of this machine does not know this question: another version runs; restart wa-host".into(),
        ),
    };
    look_socket::answer(stream, &serde_json::to_vec(&said)?).await
}

async fn see(host: &Host, look: Look) -> Result<Value, String> {
    let db = || {
        let db = host.db.load_full();
        db.ok_or("the host agent of this machine has not reached the database yet")
    };
    match look {
        Look::Status => {
            let (client, urls) = reach(host).await?;
            let status = masters::status(&client, &urls).await;
            value(&status.ok_or_else(|| nobody(&urls))?)
        }
        Look::Explain => {
            let (client, urls) = reach(host).await?;
            let all = masters::explain(&client, &urls).await;
            value(&all.ok_or_else(|| nobody(&urls))?)
        }
        Look::Masters => value(&host.masters.known()),
        Look::History { limit } => {
            let decisions = db()?.decisions(limit.min(HISTORY_MAX)).await;
            value(&decisions.map_err(|error| error.brief())?)
        }
        Look::Decision { id } => {
            let found = db()?.decision(id).await;
            value(&found.map_err(|error| error.brief())?)
        }
        Look::Webhooks { limit } => {
            let db = db()?;
            let list = async {
                Ok::<_, DbError>(List {
                    parked: db.parked_webhooks(limit.min(HISTORY_MAX)).await?,
                    count: db.parked_count(None).await?,
                })
            };
            value(&list.await.map_err(|error| error.brief())?)
        }
        Look::Mounts => {
            let mounts = db()?.mounts(REPORT_AGE_MAX_MS).await;
            value(&mounts.map_err(|error| error.brief())?)
        }
        Look::Settings => {
            let stored = settings::read(&*db()?).await;
            shown(stored.map_err(|error| error.brief())?)
        }
    }
}

fn value(from: &impl serde::Serialize) -> Result<Value, String> {
    serde_json::to_value(from).map_err(|error| error.to_string())
}

/// Control URLs of all registered masters, the freshest beat first. While the database does not answer: of those that it
/// named last.
async fn reach(host: &Host) -> Result<(InternalClient, Vec<String>), String> {
    let asked = async {
        match host.db.load_full() {
            Some(db) => db.nodes().await.map_err(|error| error.brief()),
            None => Err("the host agent of this machine has not reached the database yet".into()),
        }
    };
    let asked = tokio::time::timeout(DATABASE_WITHIN, asked).await;
    match asked.unwrap_or_else(|_| Err("the database does not answer".into())) {
        Ok(nodes) => host.masters.learn(&nodes),
        Err(why) if host.masters.known().is_empty() => return Err(why),
        Err(why) => tracing::debug!(why, "looking with the masters that are known"),
    }
    let known = host.masters.known();
    let client = InternalClient::of_looks(&Keys::of(&host.settings.cluster_key));
    Ok((client, known.into_iter().map(|m| m.control_url).collect()))
}

fn nobody(urls: &[String]) -> String {
    let what = if urls.is_empty() {
        "no master is registered in the database"
    } else {
        "no master answers"
    };
    format!("{what}. An administrator types on a machine with one: systemctl start wa-master@1")
}

/// What the API shows to an administrator, but for what may be a secret in the webhook's address.
fn shown(stored: Stored<ApplicationSettings>) -> Result<Value, String> {
    let settings = stored.value.map_err(|error| error.to_string())?;
    Ok(json!({ "version": stored.version, "application": value(&settings.without_secrets())? }))
}
