//! `/v1/settings/application`: read, change, restore. Written with a compare-and-set; the primary master tells everybody.
//! What a field may hold is in `api/v1/setting.rs`.

use std::sync::Arc;
use std::time::Duration;

use axum::Extension;
use axum::extract::State;
use axum::http::{Method, StatusCode};

use crate::api::control::{ClusterStatus, path};
use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::api::v1::setting::{ApplicationSettings, Rules, SettingsAnswer, SettingsObject};
use crate::api::v1::{Meta, MetaOnly};
use crate::db::DbError;
use crate::db::setting::Change;
use crate::member::settings;
use crate::sys::clock;
use crate::webapp::answer::{Answer, Body, database, ok};
use crate::webapp::audited::Trace;
use crate::webapp::state::Webapp;

/// Settings as the audit names them.
const NAMES: [&str; 13] = [
    "callback_backoff_delay_ms",
    "max_callback_backoff_delay_ms",
    "callback_persist",
    "sent_status",
    "garbagecollector_enable",
    "heartbeat_interval",
    "unhealthy_interval",
    "media",
    "notify_user_change_number",
    "show_security_notifications",
    "pass_through",
    "webhooks",
    "log_level",
];

/// One call to a master.
const MASTER_DEADLINE: Duration = Duration::from_secs(1);
/// A new primary master may be on its way: asked this often before 1017.
const MASTER_ATTEMPTS: u32 = 3;
const MASTER_PAUSE: Duration = Duration::from_millis(150);

fn rules(webapp: &Webapp) -> Rules {
    let timers = &webapp.settings.timers;
    Rules::of(
        timers.heartbeat_interval,
        timers.unhealthy_interval,
        webapp.settings.development,
    )
}

/// The same, knowing by how much the timers of masters were late lately.
fn rules_by(webapp: &Webapp, master: &ClusterStatus) -> Rules {
    Rules {
        late_ms: master.late_ms,
        ..rules(webapp)
    }
}

/// What a change would lead to.
pub struct Foreseen {
    pub before: ApplicationSettings,
    pub after: ApplicationSettings,
}

/// What a change of the settings would lead to, by all rules that [`change`] goes by. Changes nothing.
///
/// # Errors
/// Those of [`change`].
pub async fn foresee(webapp: &Webapp, body: &Fields) -> Result<Foreseen, ApiError> {
    let before = stored(webapp).await?;
    before.patched(body, rules(webapp))?;
    let (_, status) = primary_master_with_status(webapp).await?;
    let after = before.patched(body, rules_by(webapp, &status))?;
    Ok(Foreseen { before, after })
}

/// The settings as they are stored.
///
/// # Errors
/// When the database does not answer, or nobody can read what is stored.
pub async fn stored(webapp: &Webapp) -> Result<ApplicationSettings, ApiError> {
    let stored = settings::read::<ApplicationSettings>(&*webapp.db()?).await;
    let stored = stored.map_err(|e| database(&e))?;
    stored.value.map_err(|error| {
        tracing::error!(%error, "the stored application settings cannot be read; restore them with DELETE");
        ApiError::new(Code::Internal)
    })
}

/// Read the settings.
#[utoipa::path(get, path = "/v1/settings/application", tag = "settings",
    responses((status = 200, body = SettingsAnswer), (status = 403, body = ErrorBody)))]
pub async fn read(State(webapp): State<Arc<Webapp>>) -> Answer {
    let settings = stored(&webapp).await?;
    let application = settings.shown(
        rules(&webapp),
        webapp.settings.upstream.phone_number.clone(),
    );
    Ok(ok(&SettingsAnswer {
        settings: SettingsObject { application },
        meta: Meta::default(),
    }))
}

/// Change the settings that are named; the others stay.
///
/// Differs from the reference: `heartbeat_interval` 5 and `unhealthy_interval` 30 change no takeover, because old integrations
/// send the reference's own pair unasked; other pairs are in force, and `GET` shows both in `effective`.
#[utoipa::path(patch, path = "/v1/settings/application", tag = "settings",
    request_body = ApplicationSettings,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn change(
    State(webapp): State<Arc<Webapp>>,
    Extension(trace): Extension<Trace>,
    Body(body): Body,
) -> Answer {
    let body = Fields::parse(&body)?;
    // Names only: values may be secrets.
    for name in NAMES
        .iter()
        .filter(|name| body.has(name) || body.is_null(name))
    {
        trace.add(name);
    }
    // A malformed request is told so whether or not a master is up.
    let settings = stored(&webapp).await?;
    settings.patched(&body, rules(&webapp))?;
    write(&webapp, |settings, rules| settings.patched(&body, rules)).await
}

/// Restore the defaults.
#[utoipa::path(delete, path = "/v1/settings/application", tag = "settings",
    responses((status = 200, body = MetaOnly), (status = 503, body = ErrorBody)))]
pub async fn restore(State(webapp): State<Arc<Webapp>>) -> Answer {
    write(&webapp, |_, _| Ok(ApplicationSettings::default())).await
}

async fn write(
    webapp: &Webapp,
    change: impl Fn(ApplicationSettings, Rules) -> Result<ApplicationSettings, ApiError>,
) -> Answer {
    let (control, status) = primary_master_with_status(webapp).await?;
    let rules = rules_by(webapp, &status);
    let db = webapp.db()?;
    let changed = settings::change(&db, |stored| {
        // What cannot be read can only be replaced by the defaults.
        change(stored.or_default(), rules).map(|new| Change::Write(new, ()))
    });
    match changed.await {
        Ok(changed) => changed?,
        Err(DbError::Crowded(_)) => {
            return Err(ApiError::with(Code::Overloaded, "Too many changes at once"));
        }
        Err(error) => return Err(database(&error)),
    }
    announce(webapp, &control).await;
    Ok(ok(&MetaOnly::default()))
}

/// Base URL of the control port of a master that says that it is primary.
pub async fn primary_master(webapp: &Webapp) -> Result<Arc<str>, ApiError> {
    let found = primary_master_with_status(webapp).await;
    found.map(|(control, _)| control)
}

/// The same, and what it knows of the cluster.
async fn primary_master_with_status(
    webapp: &Webapp,
) -> Result<(Arc<str>, ClusterStatus), ApiError> {
    for attempt in 0..MASTER_ATTEMPTS {
        if attempt > 0 {
            webapp.map.reread();
            clock::sleep(MASTER_PAUSE).await;
        }
        let Some((_, control)) = webapp.map.now().master.clone() else {
            continue;
        };
        if let Some(status) = as_primary(webapp, &control).await? {
            return Ok((control, status));
        }
    }
    Err(ApiError::with(
        Code::NotPrimaryMaster,
        "No primary master is up; try again",
    ))
}

/// The status of a master, if it says that it is primary.
///
/// # Errors
/// When it is of a release before, which does not know such a look.
async fn as_primary(webapp: &Webapp, control: &str) -> Result<Option<ClusterStatus>, ApiError> {
    let url = format!("{control}{}", path::STATUS);
    let call = webapp.look(Method::GET, &url, MASTER_DEADLINE).await;
    let Ok((status, bytes)) = call else {
        return Ok(None);
    };
    if status == StatusCode::UNAUTHORIZED {
        let older = "The primary master is of an older release, or has another cluster key; upgrade the masters";
        return Err(ApiError::with(Code::NotReady, older));
    }
    let status = serde_json::from_slice::<ClusterStatus>(&bytes).ok();
    Ok(status.filter(|status| status.primary))
}

/// Asks for the broadcast. The change is stored: if nobody can be told, nodes find it when they read again by themselves.
async fn announce(webapp: &Webapp, control: &str) {
    let told = |control: Arc<str>| async move {
        let url = format!("{control}{}", path::SETTINGS_CHANGED);
        let call = webapp.look(Method::POST, &url, MASTER_DEADLINE).await;
        call.is_ok_and(|(status, _)| status.is_success())
    };
    if told(control.into()).await {
        return;
    }
    let told = match primary_master(webapp).await {
        Ok(control) => told(control).await,
        Err(_) => false,
    };
    if !told {
        tracing::warn!(
            "no primary master could be told of the changed settings; nodes find them when they read again"
        );
    }
}
