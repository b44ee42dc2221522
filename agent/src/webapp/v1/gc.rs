//! `/v1/services`: garbage collection by hand. A call writes down what is to be collected; owners do it
//! (`coreapp/collect.rs`), through failovers, and tell it by callbacks.
//! Deletes nothing itself.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use wa_core::id::Role;

use super::media::usable;
use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::code::Code;
use crate::api::v1::collection::GcAnswer;
use crate::db::Db;
use crate::db::collection::{Kind, Part};
use crate::sys::state::random_u64;
use crate::webapp::answer::{Answer, database, ok};
use crate::webapp::state::Webapp;

/// Delete messages that were finished eight days ago or earlier. Each coreapp tells by a callback how many it deleted, if there is a webhook URL. A second
/// call while a collection is under way starts nothing.
#[utoipa::path(put, path = "/v1/services/message/gc", tag = "services",
    responses((status = 200, body = GcAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn messages(State(webapp): State<Arc<Webapp>>) -> Answer {
    let db = webapp.db()?;
    let (shard_count, parts) = parts(&webapp, &db).await?;
    if parts.is_empty() {
        return Err(ApiError::with(Code::NotReady, "No coreapp is registered"));
    }
    let begun = begin(&db, Kind::Messages, shard_count, &parts).await?;
    Ok(ok(&GcAnswer::messages(begun)))
}

/// Delete files that were not used for 30 days, and what broken uploads left. The owner of shard 0 does it, one collection at a
/// time, and tells by a callback how many it deleted.
///
/// Differs from the reference: the owner of shard 0 does it, and not the master, because masters have no media here.
#[utoipa::path(put, path = "/v1/services/media/gc", tag = "services",
    responses((status = 200, body = GcAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn media(State(webapp): State<Arc<Webapp>>) -> Answer {
    usable(&webapp.media)?;
    let whole = Part {
        node: String::new(),
        shard: Some(0),
    };
    begin(&*webapp.db()?, Kind::Media, 1, &[whole]).await?;
    Ok(ok(&GcAnswer::media()))
}

async fn begin(
    db: &Db,
    kind: Kind,
    shard_count: u16,
    parts: &[Part],
) -> Result<Vec<String>, ApiError> {
    // Names the run in the keys of its callbacks; rows hold 63 bits.
    let run = random_u64() >> 1;
    let begun = db.begin_collection(kind, (run, shard_count), parts).await;
    begun.map_err(|e| database(&e))
}

/// Every registered coreapp, with the slice of the shard that it owns now.
async fn parts(webapp: &Webapp, db: &Db) -> Result<(u16, Vec<Part>), ApiError> {
    let members = db.members(&webapp.map.roll).await;
    let members = members.map_err(|e| database(&e))?;
    let (master, rows) = db.shard_map().await.map_err(|e| database(&e))?;
    let coreapps = members
        .iter()
        .map(|member| &member.registration)
        .filter(|registration| registration.role == Role::Coreapp);
    let mut parts: BTreeMap<String, Option<u16>> = coreapps
        .map(|registration| (registration.node.to_string(), None))
        .collect();
    for row in rows {
        let counts = row.generation == master.generation && row.shard.0 < master.shard_count;
        if let Some(owner) = row.owner.filter(|_| counts) {
            parts.insert(owner.to_string(), Some(row.shard.0));
        }
    }
    let parts = parts.into_iter();
    let parts = parts.map(|(node, shard)| Part { node, shard });
    Ok((master.shard_count.max(1), parts.collect()))
}
