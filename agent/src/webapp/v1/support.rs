//! `/v1/support`: what a support engineer asks for first. One answer is shared for five seconds.
//! Shows no setting and no secret.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use wa_core::id::Role;

use crate::api::error::ErrorBody;
use crate::api::v1::Meta;
use crate::api::v1::support::{Support, SupportAnswer};
use crate::db::Db;
use crate::db::migrate::SCHEMA_VERSION;
use crate::sys::{clock, machine, room};
use crate::webapp::answer::{Answer, ok};
use crate::webapp::state::Webapp;

/// Where the journal keeps its files.
const LOGS: &str = "/var/log";
/// The database and the disks have this long to say something of themselves.
const WITHIN: Duration = Duration::from_secs(2);

/// What a support engineer asks for: versions, free space, the database. It is answered without a database, too.
///
/// Differs from the reference: no `expire_timestamp`, because this software does not expire; and no keys of the old protocol.
#[utoipa::path(get, path = "/v1/support", tag = "monitoring",
    responses((status = 200, body = SupportAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn support(State(webapp): State<Arc<Webapp>>) -> Answer {
    let found = webapp
        .support
        .get(async { Ok(look(&webapp).await) })
        .await?;
    Ok(ok(&SupportAnswer {
        support: (*found).clone(),
        meta: Meta::default(),
    }))
}

async fn look(webapp: &Webapp) -> Support {
    let state = webapp.settings.instance_directory();
    let disks = tokio::task::spawn_blocking(move || {
        // It is made with the first thing that is kept there.
        let data = state.ancestors().find_map(room::free_bytes);
        (data, room::free_bytes(Path::new(LOGS)), machine::os())
    });
    let (disks, database) = tokio::join!(
        tokio::time::timeout(WITHIN, disks),
        tokio::time::timeout(WITHIN, of_database(webapp))
    );
    let (data, logs, os) = disks.ok().and_then(Result::ok).unwrap_or_default();
    let (db_info, coreapps) = database.unwrap_or_default();
    let media = webapp.media.state();
    let media = (webapp.media.wanted() && media.looked).then_some(media.free_bytes);
    let embedded = webapp
        .settings
        .database
        .urls
        .iter()
        .any(|url| url.starts_with("sqlite:"));
    let at = i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX);
    let version = env!("CARGO_PKG_VERSION");
    Support {
        db_engine: if embedded { "SQLITE" } else { "MYSQL" }.to_owned(),
        db_info,
        description: format!("wa-agent {version}"),
        device_iso8601: jiff::Timestamp::from_millisecond(at)
            .unwrap_or(jiff::Timestamp::MAX)
            .to_string(),
        free_space_data: data,
        free_space_logs: logs,
        free_space_media_incoming: media,
        free_space_media_outgoing: media,
        multi_connect: coreapps > 1,
        os_name: os.name,
        os_version: os.version,
        schema: BTreeMap::from([("wa_agent".to_owned(), SCHEMA_VERSION)]),
        node: webapp.settings.node.to_string(),
        version: version.to_owned(),
    }
}

/// What the database says of itself, and how many coreapps are registered.
async fn of_database(webapp: &Webapp) -> (Vec<String>, usize) {
    let Ok(db) = webapp.db() else {
        return Default::default();
    };
    let coreapps = async |db: &Db| {
        let members = db.members(&webapp.map.roll).await.unwrap_or_default();
        let coreapp = |role| role == Role::Coreapp;
        members
            .iter()
            .filter(|member| coreapp(member.registration.role))
            .count()
    };
    let (facts, coreapps) = tokio::join!(db.facts(), coreapps(&db));
    let info = facts.map(|facts| vec![facts.version]).unwrap_or_default();
    (info, coreapps)
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use crate::webapp::tests::whole_with;

    /// Goal: the documented fields that mean something here, with what is true of this machine, and no field that would lie.
    #[tokio::test]
    async fn support_says_what_is_true() {
        let bench = whole_with(true).await;
        let admin = bench.admin().await;
        let key = [("authorization", admin.as_str())];
        let (status, body) = bench.call("GET", "/v1/support", &key, "").await;
        assert_eq!(status, 200, "{body}");
        let support = &body["support"];
        assert_eq!(support["db_engine"], "SQLITE", "{body}");
        let info = support["db_info"][0].as_str().unwrap_or_default();
        assert!(info.starts_with("SQLite 3."), "{body}");
        assert!(support["free_space_data"].as_u64() > Some(0), "{body}");
        assert_eq!(support["multi_connect"], false);
        assert_eq!(support["version"], env!("CARGO_PKG_VERSION"));
        assert!(support["schema"]["wa_agent"].as_i64() > Some(34), "{body}");
        for name in ["os_name", "description", "device_iso8601"] {
            assert!(
                !support[name].as_str().unwrap_or_default().is_empty(),
                "{name}: {body}"
            );
        }
        for absent in ["expire_timestamp", "e2e", "env"] {
            assert_eq!(support[absent], Value::Null, "{absent}");
        }
    }
}
