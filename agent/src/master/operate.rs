//! Operator verbs on the primary master: what each would do, what is written for it, and what the core is told.
//! Switchovers and the number of shards are in `status.rs`, with their own answers.

use std::collections::BTreeMap;
use std::time::Duration;

use wa_core::id::{NodeId, Role, ShardId};
use wa_core::master::Command;
use wa_core::shard_map::Phase;
use wa_core::time::Instant;

use super::driver::Driver;
use super::fit;
use crate::api::control::{OperatorAnswer, OperatorRequest, StoredEvidence, StoredPause, Verb};
use crate::db::history::Record;
use crate::db::setting::PAUSES;
use crate::db::{Db, DbError};
use crate::log::message_id;
use crate::sys::clock;

/// Until when failover is paused, by shard; `None` stands for all.
pub type Pauses = BTreeMap<Option<ShardId>, Instant>;

/// Longest pause: whoever forgets it has failover back within a day.
const PAUSE_MAX: Duration = Duration::from_secs(24 * 3600);
/// Readings of one pause differ by the time that they take; less than this is no change.
const SAME_WITHIN: Duration = Duration::from_secs(2);
/// Writers that come between reading and writing are rare: more than this is a fault.
const WRITE_ATTEMPTS: u32 = 8;

/// What a verb comes to now, and what the core is told at once.
pub fn answer(driver: &Driver, wish: &OperatorRequest) -> (OperatorAnswer, Option<Command>) {
    let core = &driver.parts.core;
    if core.primary(clock::now()).is_none() {
        let message = "this master is not primary (1017); ask the primary master".into();
        let answer = OperatorAnswer {
            accepted: false,
            elsewhere: true,
            message,
        };
        return (answer, None);
    }
    let (done, command) = match &wish.verb {
        Verb::Failover { shard, to } => failover(driver, *shard, to.as_deref()),
        Verb::Drain { node, on } => (drain(driver, node, *on), None),
        Verb::Pause { shard, for_ms } => pause(driver, *shard, *for_ms),
        Verb::Ack { shard } => ack(driver, *shard),
        Verb::AckServer => (ack_server(driver), Some(Command::AckServer)),
        Verb::Adopt => (adopt(driver), Some(Command::Adopt)),
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

fn failover(driver: &Driver, shard: u16, to: Option<&str>) -> (Sentence, Option<Command>) {
    let core = &driver.parts.core;
    let row = core
        .map()
        .and_then(|m| m.shards.iter().find(|r| r.shard.0 == shard));
    let Some(row) = row.filter(|r| r.phase == Phase::Active) else {
        let why =
            format!("shard {shard} does not exist or has no active owner now; see wa-agent status");
        return (Err(why), None);
    };
    let Some(best) = core.successor(clock::now(), row) else {
        let unfit = fit::unfit(driver, row);
        let mut why =
            String::from("there is no standby that can take it (systemctl start wa-coreapp@2)");
        for sentence in unfit {
            why.push_str("; ");
            why.push_str(&sentence);
        }
        return (Err(why), None);
    };
    let to = to.map_or(best, NodeId::new);
    let owner = row.owner.as_ref().map_or("-", |n| n.as_str());
    let said = format!(
        "shard {shard}: {owner} (epoch {}) is replaced by {to}. It is asked to be fenced; nothing proves yet that it is over, so {to} \
         acts when a receipt, its own word or {} without a renewal does",
        row.epoch,
        humantime::format_duration(core_lapse(driver))
    );
    let command = Command::Failover {
        shard: ShardId(shard),
        to: Some(to),
    };
    (Ok(said), Some(command))
}

fn core_lapse(driver: &Driver) -> Duration {
    let timers = &driver.parts.settings.timers;
    let span = timers.tolerance.challenge(timers.lease_ttl);
    Duration::from_millis(u64::try_from(span.as_millis()).unwrap_or(u64::MAX))
}

fn drain(driver: &Driver, node: &str, on: bool) -> Sentence {
    let core = &driver.parts.core;
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
    Ok(match (on, owns.is_empty()) {
        (false, _) => format!("{node} may take shards again"),
        (true, true) => format!("{node} owns no shard and gets none until wa-agent undrain {node}"),
        (true, false) => format!(
            "shard {} moves off {node} as soon as a standby can take it; it gets none until wa-agent undrain {node}",
            owns.join(", ")
        ),
    })
}

fn pause(driver: &Driver, shard: Option<u16>, for_ms: Option<u64>) -> (Sentence, Option<Command>) {
    let what = shard.map_or("every shard".into(), |s| format!("shard {s}"));
    let key = shard.map(ShardId);
    let Some(for_ms) = for_ms else {
        let said = if driver.pauses.contains_key(&key) {
            Ok(format!("failover of {what} goes on"))
        } else {
            Err(format!(
                "failover of {what} is not paused; see wa-agent status"
            ))
        };
        return (
            said,
            Some(Command::Pause {
                shard: key,
                until: None,
            }),
        );
    };
    let span = Duration::from_millis(for_ms);
    if span.is_zero() || span > PAUSE_MAX {
        return (
            Err("a pause lasts up to a day: write --for 30m".into()),
            None,
        );
    }
    let any = shard.map_or("any shard".into(), |s| format!("shard {s}"));
    let said = format!(
        "for {} no owner of {any} is replaced on evidence; switchovers, and owners that give up by themselves, go on",
        humantime::format_duration(span)
    );
    let until = Some(clock::now() + span);
    (Ok(said), Some(Command::Pause { shard: key, until }))
}

fn ack(driver: &Driver, shard: u16) -> (Sentence, Option<Command>) {
    let id = ShardId(shard);
    let said = match driver.parts.core.blocked_until(clock::now(), id) {
        Some(_) => Ok(format!("the anti-flap block of shard {shard} is lifted")),
        None => Err(format!(
            "shard {shard} is not blocked by anti-flap; see wa-agent explain"
        )),
    };
    (said, Some(Command::Ack { shard: id }))
}

fn ack_server(driver: &Driver) -> Sentence {
    let core = &driver.parts.core;
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

fn adopt(driver: &Driver) -> Sentence {
    let core = &driver.parts.core;
    if !core.restored() {
        return Err(
            "the database is as new as this master has ever seen it: there is nothing to adopt; see wa-agent status"
                .into(),
        );
    }
    let safe = core
        .safe_left(clock::now())
        .map_or_else(String::new, |left| {
            let left = Duration::from_millis(u64::try_from(left.as_millis()).unwrap_or(u64::MAX));
            format!("in {} (SAFE) ", humantime::format_duration(left))
        });
    Ok(format!(
        "{safe}every grant that the restored database shows is settled, and epochs go on above {}. Messages that it shows as \
         unfinished are finished: those sent after the dump was made may be sent twice",
        core.epoch_high()
    ))
}

/// Writes what must outlive this master, and the record of it.
///
/// # Errors
/// When the database does not answer.
pub async fn write(db: &Db, wish: &OperatorRequest, said: &str) -> Result<(), DbError> {
    let (what, shard, subject) = match &wish.verb {
        Verb::Failover { shard, to } => ("failover", Some(*shard), to.clone().unwrap_or_default()),
        Verb::Drain { node, on } => {
            db.set_draining(node, *on).await?;
            (if *on { "drain" } else { "undrain" }, None, node.clone())
        }
        Verb::Pause { shard, for_ms } => {
            store_pause(db, *shard, *for_ms).await?;
            let what = if for_ms.is_some() { "pause" } else { "resume" };
            let span =
                for_ms.map(|ms| humantime::format_duration(Duration::from_millis(ms)).to_string());
            (what, *shard, span.unwrap_or_default())
        }
        Verb::Ack { shard } => ("ack", Some(*shard), String::new()),
        Verb::AckServer => ("ack-server", None, String::new()),
        Verb::Adopt => ("adopt", None, String::new()),
    };
    let asked = (wish.reason.as_deref(), wish.by.as_deref());
    record(db, what, (shard, &subject), asked, said).await
}

/// An operator's wish in the journal: in whose words, typed by whom, what was answered.
pub fn journal((reason, by): (Option<&str>, Option<&str>), said: &str) {
    tracing::warn!(
        MESSAGE_ID = message_id::OPERATOR_ASKED,
        REASON = reason.unwrap_or("-"),
        OPERATOR = by.unwrap_or("-"),
        "an operator asked: {said}"
    );
}

/// An operator's wish in the history: what, about whom, in whose words, and what was answered.
///
/// # Errors
/// When the database does not answer.
pub async fn record(
    db: &Db,
    what: &str,
    (shard, subject): (Option<u16>, &str),
    (reason, by): (Option<&str>, Option<&str>),
    said: &str,
) -> Result<(), DbError> {
    let evidence = StoredEvidence {
        sentence: said.into(),
        reason: reason.map(Into::into),
        by: by.map(Into::into),
        ..StoredEvidence::default()
    };
    db.record(&Record {
        node: "operator".into(),
        shard: shard.map_or(-1, i64::from),
        what: what.into(),
        subject: subject.into(),
        reason: reason.unwrap_or("OperatorAsked").into(),
        evidence: serde_json::to_string(&evidence).unwrap_or_default(),
    })
    .await
    .map(|_| ())
}

async fn store_pause(db: &Db, shard: Option<u16>, for_ms: Option<u64>) -> Result<(), DbError> {
    for _ in 0..WRITE_ATTEMPTS {
        let (version, text) = db.setting(PAUSES).await?;
        let now = db.now_ms().await?;
        let mut pauses = parse(&text);
        pauses.retain(|p| p.shard != shard && p.until_ms > now);
        pauses.extend(for_ms.map(|span| StoredPause {
            shard,
            until_ms: now.saturating_add(span),
        }));
        let text = serde_json::json!({ "pauses": pauses }).to_string();
        if db.store_setting(PAUSES, version, &text).await? {
            return Ok(());
        }
    }
    Err(DbError::Value("too many pauses are written at once".into()))
}

fn parse(text: &str) -> Vec<StoredPause> {
    #[derive(Default, serde::Deserialize)]
    struct Row {
        #[serde(default)]
        pauses: Vec<StoredPause>,
    }
    let row: Row = serde_json::from_str(text).unwrap_or_else(|error| {
        tracing::error!(%error, "the stored pauses cannot be read; type wa-agent resume");
        Row::default()
    });
    row.pauses
}

/// The pauses as this machine's clock sees them.
///
/// # Errors
/// When the database does not answer.
pub async fn read(db: &Db) -> Result<Pauses, DbError> {
    let (version, text) = db.setting(PAUSES).await?;
    if version == 0 {
        return Ok(Pauses::new());
    }
    let (now_ms, now) = (db.now_ms().await?, clock::now());
    let left = |p: &StoredPause| Duration::from_millis(p.until_ms.saturating_sub(now_ms));
    let pauses = parse(&text);
    let live = pauses.iter().filter(|p| p.until_ms > now_ms);
    Ok(live
        .map(|p| (p.shard.map(ShardId), now + left(p)))
        .collect())
}

/// What the core is told when the pauses were read again.
pub fn changes(known: &mut Pauses, read: Pauses) -> Vec<Command> {
    let ended = known.keys().filter(|key| !read.contains_key(key));
    let ended = ended.map(|key| Command::Pause {
        shard: *key,
        until: None,
    });
    let begun = read.iter().filter(|(key, until)| {
        let same = |old: &Instant| old.since(**until).max(until.since(*old)) < SAME_WITHIN;
        !known.get(key).is_some_and(same)
    });
    let begun = begun.map(|(key, until)| Command::Pause {
        shard: *key,
        until: Some(*until),
    });
    let commands = ended.chain(begun).collect();
    *known = read;
    commands
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every reading of the same row tells the core nothing new; what begins, moves or ends is told once.
    #[test]
    fn only_changes_reach_the_core() {
        let at = |ms| Instant::ZERO + Duration::from_millis(ms);
        let mut known = Pauses::new();
        let one = |until| Pauses::from([(Some(ShardId(0)), until)]);
        assert_eq!(changes(&mut known, one(at(60_000))).len(), 1);
        assert_eq!(changes(&mut known, one(at(60_004))), []);
        let longer = changes(&mut known, one(at(90_000)));
        assert!(
            matches!(&longer[..], [Command::Pause { until: Some(_), .. }]),
            "{longer:?}"
        );
        let over = changes(&mut known, Pauses::new());
        assert!(
            matches!(&over[..], [Command::Pause { until: None, .. }]),
            "{over:?}"
        );
        assert_eq!(changes(&mut known, Pauses::new()), []);
    }

    #[test]
    fn rubbish_in_the_row_is_no_pause() {
        assert_eq!(parse("rubbish"), []);
        assert_eq!(parse("{}"), []);
        let good = parse(r#"{"pauses":[{"shard":null,"until_ms":7}]}"#);
        assert_eq!(
            good,
            [StoredPause {
                shard: None,
                until_ms: 7
            }]
        );
    }
}
