//! Operator verbs on the primary master: what each would do, what is written for it, and what the core is told.
//! Switchovers and the number of shards are in `moves.rs`, with their own answers.

use std::time::Duration;

use wa_core::id::{NodeId, Role, ShardId};
use wa_core::judgement::unit_of;
use wa_core::master::Command;
use wa_core::roll::BEATS_WITHIN;
use wa_core::shard_map::{Phase, ShardRow};

use super::directory::Directory;
use super::view::{View, ms};
use super::{moves, pauses, record};
use crate::api::control::{OperatorAnswer, OperatorRequest, StoredPause, Verb};
use crate::db::token::FINGERPRINT_LEN;
use crate::db::{Db, DbError};

/// Longest pause: whoever forgets it has failover back within a day.
const PAUSE_MAX: Duration = Duration::from_millis(StoredPause::LONGEST_MS);

/// What a verb comes to now, and what the core is told at once.
pub fn answer(view: &View<'_>, wish: &OperatorRequest) -> (OperatorAnswer, Option<Command>) {
    let core = view.core;
    if core.primary(view.now).is_none() {
        let message = "this master is not primary (1017); ask the primary master".into();
        let answer = OperatorAnswer {
            accepted: false,
            elsewhere: true,
            message,
        };
        return (answer, None);
    }
    let (done, command) = match &wish.verb {
        Verb::Failover { shard, to } => failover(view, *shard, to.as_deref()),
        Verb::Drain { node, on } => (drain(view, node, *on), None),
        // Takes effect when it is stored and read back.
        Verb::Pause { shard, for_ms } => (pause(view, *shard, *for_ms), None),
        Verb::Forget { node } => (forget(view, node), None),
        Verb::Ack { shard } => ack(view, *shard),
        Verb::AckServer => (ack_server(view), Some(Command::AckServer)),
        Verb::Adopt => (adopt(view), Some(Command::Adopt)),
        Verb::RetryEvents { key } => (Ok(retry_events(key.as_deref())), None),
        Verb::RevokeTokens { user, token } => (revoke_tokens(user, token.as_deref()), None),
    };
    let accepted = done.is_ok();
    let answer = OperatorAnswer {
        accepted,
        elsewhere: false,
        message: done.unwrap_or_else(|why| why),
    };
    (answer, command.filter(|_| accepted && !wish.dry_run))
}

type Sentence = Result<String, String>;

fn failover(view: &View<'_>, shard: u16, to: Option<&str>) -> (Sentence, Option<Command>) {
    let core = view.core;
    let row = core
        .map()
        .and_then(|m| m.shards.iter().find(|r| r.shard.0 == shard));
    let Some(row) = row.filter(|r| r.phase == Phase::Active) else {
        let why =
            format!("shard {shard} does not exist or has no active owner now; see wa-agent status");
        return (Err(why), None);
    };
    let asked = to.map(NodeId::new);
    let Some(to) = core.taker(view.now, row, asked.as_ref()) else {
        return (Err(moves::nobody(view, row, asked.as_ref())), None);
    };
    let owner = row.owner.as_ref().map_or("-", |n| n.as_str());
    let said = format!(
        "shard {shard}: {owner} (epoch {}) is replaced by {to}. A fence request was sent to the old owner. {to} starts \
         as soon as one of these happens: the host agent confirms the fence, the old owner says that it has stopped, or {} pass \
         without a renewal",
        row.epoch,
        humantime::format_duration(core_lapse(view))
    );
    let command = Command::Failover {
        shard: ShardId(shard),
        to: Some(to),
    };
    (Ok(said), Some(command))
}

fn core_lapse(view: &View<'_>) -> Duration {
    let timers = &view.settings.timers;
    let span = timers.tolerance.challenge(timers.lease_ttl);
    Duration::from_millis(ms(span))
}

fn drain(view: &View<'_>, node: &str, on: bool) -> Sentence {
    let core = view.core;
    let map = core
        .map()
        .ok_or("the shard map was not read yet; try again")?;
    let coreapps = || map.nodes.iter().filter(|n| n.role == Role::Coreapp);
    let Some(found) = coreapps().find(|n| n.node.as_str() == node) else {
        let names: Vec<&str> = coreapps().map(|n| n.node.as_str()).collect();
        return Err(format!(
            "{node} is no coreapp of this cluster; there are: {}",
            names.join(", ")
        ));
    };
    let owns: Vec<String> = map
        .shards
        .iter()
        .filter(|r| r.owner.as_ref() == Some(&found.node))
        .map(|r| r.shard.to_string())
        .collect();
    if !on && !found.draining {
        return Err(format!("{node} is not drained; see wa-agent status"));
    }
    Ok(match (on, owns.is_empty()) {
        (false, true) => format!("{node} may take shards again"),
        (false, false) => format!(
            "{node} may take shards again. The drain has moved nothing: shard {} is still owned by {node}",
            owns.join(", ")
        ),
        (true, true) => format!("{node} owns no shard and gets none until wa-agent undrain {node}"),
        (true, false) => format!(
            "shard {} moves off {node} as soon as a standby can take it; it gets none until wa-agent undrain {node}",
            owns.join(", ")
        ),
    })
}

/// A node may be forgotten when nobody hears of it and no row of the map names it: it is history then.
fn forget(view: &View<'_>, node: &str) -> Sentence {
    let core = view.core;
    let all = &view.table.nodes;
    let Some(found) = all.iter().find(|n| n.registration.node.as_str() == node) else {
        let names: Vec<&str> = all.iter().map(|n| n.registration.node.as_str()).collect();
        return Err(format!(
            "{node} is not registered; there are: {}",
            names.join(", ")
        ));
    };
    let id = &found.registration.node;
    let peer = core.detector().peers.get(id);
    if *id == view.settings.node
        || peer.is_some_and(|p| p.fresh(&core.detector().intervals).is_some())
    {
        return Err(format!(
            "{node} answers heartbeats: stop it first (systemctl disable --now {})",
            unit_of(node)
        ));
    }
    let age = Duration::from_millis(found.beat_age_ms);
    if age < BEATS_WITHIN {
        return Err(format!(
            "{node} beat {} ago, and would register again: stop it (systemctl disable --now {}), and try again in {}",
            humantime::format_duration(Duration::from_secs(age.as_secs())),
            unit_of(node),
            humantime::format_duration(Duration::from_secs((BEATS_WITHIN - age).as_secs() + 1))
        ));
    }
    let map = core
        .map()
        .ok_or("the shard map was not read yet; try again")?;
    let named = |row: &&ShardRow| {
        row.owner.as_ref() == Some(id) || row.previous.iter().any(|p| p.owner == *id)
    };
    if let Some(row) = map.shards.iter().find(named) {
        return Err(format!(
            "{node} owns shard {}, or did and that is not settled yet: wa-agent explain --shard {}",
            row.shard, row.shard
        ));
    }
    Ok(format!(
        "{node} is forgotten: nobody asks for it any more. Should it start again, it registers again"
    ))
}

fn pause(view: &View<'_>, shard: Option<u16>, for_ms: Option<u64>) -> Sentence {
    let what = shard.map_or("every shard".into(), |s| format!("shard {s}"));
    let Some(for_ms) = for_ms else {
        return if view.pauses.contains_key(&shard.map(ShardId)) {
            Ok(format!("failover of {what} goes on"))
        } else {
            Err(format!(
                "failover of {what} is not paused; see wa-agent status"
            ))
        };
    };
    let span = Duration::from_millis(for_ms);
    if span.is_zero() || span > PAUSE_MAX {
        return Err("a pause lasts up to a day: write --for 30m".into());
    }
    let any = shard.map_or("any shard".into(), |s| format!("shard {s}"));
    Ok(format!(
        "for {} no owner of {any} is replaced on evidence; switchovers, and owners that give up by themselves, go on",
        humantime::format_duration(span)
    ))
}

fn ack(view: &View<'_>, shard: u16) -> (Sentence, Option<Command>) {
    let id = ShardId(shard);
    let said = match view.core.blocked_until(view.now, id) {
        Some(_) => Ok(format!("the anti-flap block of shard {shard} is lifted")),
        None => Err(format!(
            "shard {shard} is not blocked by anti-flap; see wa-agent explain"
        )),
    };
    (said, Some(Command::Ack { shard: id }))
}

fn ack_server(view: &View<'_>) -> Sentence {
    let core = view.core;
    if !core.server_changed() {
        return Err("the database server is the one that is known; see wa-agent status".into());
    }
    let open = core.unaccounted();
    let names: Vec<&str> = open.iter().map(|n| n.as_str()).collect();
    Ok(format!(
        "another database server took over and may lack commits. Not accounted for: {}. Nothing here proves that none of them acts \
         by what the former server granted: you say so, and failover goes on as usual",
        if names.is_empty() {
            "nobody".into()
        } else {
            names.join(", ")
        }
    ))
}

fn adopt(view: &View<'_>) -> Sentence {
    let core = view.core;
    if !core.restored() {
        return Err(
            "the database is as new as this master has ever seen it: there is nothing to adopt; see wa-agent status"
                .into(),
        );
    }
    let safe = core.safe_left(view.now).map_or_else(String::new, |left| {
        let left = Duration::from_millis(ms(left));
        format!("in {} (SAFE) ", humantime::format_duration(left))
    });
    Ok(format!(
        "{safe}every grant that the restored database shows is settled, and epochs go on above {}. Messages that it shows as \
         unfinished are finished: those sent after the dump was made may be sent twice",
        core.epoch_high()
    ))
}

fn retry_events(key: Option<&str>) -> String {
    let what = key.map_or("all events that nobody could read".to_owned(), |key| {
        format!("the event {}", key.escape_debug())
    });
    format!(
        "the owners of the shards read {what} once more, within a second; wa-agent events list shows what stays unread"
    )
}

fn revoke_tokens(user: &str, token: Option<&str>) -> Sentence {
    let what = match token {
        None => format!("every token of {}", user.escape_debug()),
        Some(token) if token.len() == FINGERPRINT_LEN => {
            format!(
                "the token {} of {}",
                token.escape_debug(),
                user.escape_debug()
            )
        }
        Some(_) => {
            return Err(format!(
                "a token is named by its fingerprint of {FINGERPRINT_LEN} characters; wa-agent users tokens shows it"
            ));
        }
    };
    Ok(format!(
        "{what} ends on all webapps within a second; whoever used it logs in again"
    ))
}

/// What a verb was about, for the history: its name, the shard, the subject.
pub type About = (&'static str, Option<u16>, String);

/// Writes what must outlive this master. Verbs that the core alone carries out write nothing.
///
/// # Errors
/// When the database does not answer; [`DbError::Value`]: nothing was written.
pub async fn write(
    db: &Db,
    directory: &Directory,
    wish: &OperatorRequest,
) -> Result<About, DbError> {
    Ok(match &wish.verb {
        Verb::Failover { shard, to } => ("failover", Some(*shard), to.clone().unwrap_or_default()),
        Verb::Drain { node, on } => {
            db.set_draining(node, *on).await?;
            (if *on { "drain" } else { "undrain" }, None, node.clone())
        }
        Verb::Pause { shard, for_ms } => {
            pauses::store(db, *shard, *for_ms).await?;
            let what = if for_ms.is_some() { "pause" } else { "resume" };
            let span =
                for_ms.map(|ms| humantime::format_duration(Duration::from_millis(ms)).to_string());
            (what, *shard, span.unwrap_or_default())
        }
        Verb::Forget { node } => {
            // The very row that was watched for long enough: the database's clock may have leapt.
            let table = directory.table();
            let silent = table.nodes.iter().find(|found| {
                found.registration.node.as_str() == node
                    && Duration::from_millis(found.beat_age_ms) >= BEATS_WITHIN
            });
            let forgotten = match silent {
                Some(found) => db.forget_node(node, found.beat_ms).await?,
                None => false,
            };
            if !forgotten {
                return Err(DbError::Value(format!(
                    "{node} beats again, or is forgotten already"
                )));
            }
            ("forget", None, node.clone())
        }
        Verb::Ack { shard } => ("ack", Some(*shard), String::new()),
        Verb::AckServer => ("ack-server", None, String::new()),
        Verb::Adopt => ("adopt", None, String::new()),
        Verb::RetryEvents { key } => {
            let found = db.retry_events(key.as_deref()).await?;
            if found == 0 {
                let why = "there is no such event; wa-agent events list shows those that are kept";
                return Err(DbError::Value(why.to_owned()));
            }
            ("retry-events", None, found.to_string())
        }
        Verb::RevokeTokens { user, token } => {
            let ended = db.revoke_tokens(user, token.as_deref()).await?;
            if ended == 0 {
                let why = "there is no such token; wa-agent users tokens shows those that are good";
                return Err(DbError::Value(why.to_owned()));
            }
            ("revoke-tokens", None, user.clone())
        }
    })
}

/// Writes the record of a verb into the history.
///
/// # Errors
/// When the database does not answer: the verb stands all the same.
pub async fn note(
    db: &Db,
    wish: &OperatorRequest,
    (what, shard, subject): About,
    said: &str,
) -> Result<(), DbError> {
    let asked = (wish.reason.as_deref(), wish.by.as_deref());
    record::record(db, what, (shard, &subject), asked, said).await
}
