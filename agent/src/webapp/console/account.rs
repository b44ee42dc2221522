//! Asks the owners how the number stands, and the database for templates and news: once for all who look.
//! Draws nothing: `number.rs` does.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use axum::http::{Method, StatusCode};
use futures_util::future::join_all;
use wa_core::id::Role;

use super::standing::{Asked, ShardWord, Standing};
use crate::api::error::ApiError;
use crate::api::internal::{AccountAnswer, HealthAnswer, path};
use crate::api::v1::code::Code;
use crate::db::DbError;
use crate::db::node::Registration;
use crate::webapp::answer::database;
use crate::webapp::state::Webapp;

/// For a coreapp's word on itself.
const WORD_WITHIN: Duration = Duration::from_secs(1);
/// For what the upstream says: the owner waits for it for five seconds.
const HEARD_WITHIN: Duration = Duration::from_secs(6);
/// For everything together.
const WITHIN: Duration = Duration::from_secs(9);
/// Owners that are asked, should the first ones be of an older release.
const OWNERS_MAX: usize = 3;
/// Templates and news that are shown.
const TEMPLATES_SHOWN: u32 = 200;
const NEWS_SHOWN: u32 = 20;

/// How the number stands, as it was asked within the last seconds.
///
/// # Errors
/// When the database does not answer; 1016 while too many wait for the same answer.
pub async fn standing(webapp: &Webapp) -> Result<Arc<Standing>, ApiError> {
    webapp.standing.get(in_time(webapp)).await
}

async fn in_time(webapp: &Webapp) -> Result<Standing, ApiError> {
    match tokio::time::timeout(WITHIN, ask(webapp)).await {
        Ok(standing) => standing,
        Err(_) => Err(ApiError::with(
            Code::NotReady,
            "Neither the coreapps nor the database answered in time; reload the page in a moment",
        )),
    }
}

async fn ask(webapp: &Webapp) -> Result<Standing, ApiError> {
    let db = webapp.db()?;
    let stored = async {
        Ok::<_, DbError>((
            db.members(&webapp.map.roll).await?,
            db.listed_templates(TEMPLATES_SHOWN).await?,
            db.template_states().await?,
            db.records_of("account", NEWS_SHOWN).await?,
        ))
    };
    let (members, templates, states, news) = stored.await.map_err(|error| database(&error))?;
    let coreapps = members.iter().map(|member| &member.registration);
    let coreapps = coreapps.filter(|node| node.role == Role::Coreapp);
    let words = coreapps.map(|node| async move { (node, word(webapp, node).await) });
    let owners = owners(join_all(words).await);
    let count = webapp.map.now().count;
    Ok(Standing {
        shards: shards(&owners, count),
        account: account(webapp, &owners).await,
        templates,
        states,
        news,
    })
}

/// A coreapp's word on itself, which counts only for the name and the start that it carries.
async fn word(webapp: &Webapp, node: &Registration) -> Option<HealthAnswer> {
    let url = format!("{}{}", node.api_url(), path::HEALTH);
    let (_, bytes) = webapp.look(Method::GET, &url, WORD_WITHIN).await.ok()?;
    let word: HealthAnswer = serde_json::from_slice(&bytes).ok()?;
    let start = node.incarnation.to_string();
    word.of(node.node.as_str(), &start).then_some(word)
}

/// Who says that he owns a shard; of two the one with the higher epoch.
type Owners<'a> = BTreeMap<u16, (&'a Registration, HealthAnswer)>;

fn owners(words: Vec<(&Registration, Option<HealthAnswer>)>) -> Owners<'_> {
    let mut owners = Owners::new();
    for (node, word) in words {
        let Some(word) = word else { continue };
        let Some(shard) = word.shard else { continue };
        let before = owners.get(&shard).map_or(0, |(_, word)| word.epoch);
        if word.epoch >= before {
            owners.insert(shard, (node, word));
        }
    }
    owners
}

fn shards(owners: &Owners<'_>, count: u16) -> Vec<ShardWord> {
    let beyond = owners.keys().copied().filter(|shard| *shard >= count);
    let of = |shard: u16| {
        let owner = owners.get(&shard);
        ShardWord {
            shard,
            owner: owner.map(|(node, _)| node.node.to_string()),
            word: owner.map_or(String::new(), |(_, word)| word.gateway_status.clone()),
        }
    };
    (0..count).chain(beyond).map(of).collect()
}

/// What the upstream says, from the first owner that can be asked.
async fn account(webapp: &Webapp, owners: &Owners<'_>) -> Asked {
    let mut last = Asked::NoOwner;
    for (node, _) in owners.values().take(OWNERS_MAX) {
        last = heard(webapp, node).await;
        match last {
            // The next one may be upgraded already.
            Asked::Older(_) => {}
            // He may be on his way out, but the time for another answer is not there.
            Asked::Heard { .. } | Asked::Silent(_) | Asked::NoOwner => break,
        }
    }
    last
}

async fn heard(webapp: &Webapp, node: &Registration) -> Asked {
    let name = node.node.to_string();
    let url = format!("{}{}", node.api_url(), path::ACCOUNT);
    let Ok((status, bytes)) = webapp.look(Method::GET, &url, HEARD_WITHIN).await else {
        return Asked::Silent(name);
    };
    if matches!(status, StatusCode::NOT_FOUND | StatusCode::UNAUTHORIZED) {
        return Asked::Older(name);
    }
    let answer = serde_json::from_slice::<AccountAnswer>(&bytes).ok();
    let start = node.incarnation.to_string();
    let answer = answer.filter(|answer| answer.node == name && answer.start == start);
    match answer.and_then(|answer| answer.heard) {
        Some(word) => Asked::Heard {
            node: name,
            word: Box::new(word),
        },
        None => Asked::Silent(name),
    }
}
