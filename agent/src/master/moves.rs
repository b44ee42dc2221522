//! What a switchover, or another number of shards, would come to, or why it cannot be.
//! Moves nothing.

use wa_core::id::NodeId;
use wa_core::shard_map::{Phase, ShardRow};

use super::fit;
use super::view::View;
use crate::api::control::{ShardsAnswer, ShardsRequest, SwitchoverAnswer, SwitchoverRequest};

const NOT_PRIMARY: &str = "this master is not primary (1017); ask the primary master";

/// What a switchover would do, or why it cannot be.
pub fn switchover(view: &View<'_>, wish: &SwitchoverRequest) -> SwitchoverAnswer {
    let core = view.core;
    let no = |message: String| SwitchoverAnswer {
        accepted: false,
        from: None,
        to: wish.to.clone(),
        epoch_before: 0,
        elsewhere: false,
        message,
    };
    if core.primary(view.now).is_none() {
        return SwitchoverAnswer {
            elsewhere: true,
            ..no(NOT_PRIMARY.into())
        };
    }
    let row = core
        .map()
        .and_then(|m| m.shards.iter().find(|r| r.shard.0 == wish.shard));
    let Some(row) = row.filter(|r| r.phase == Phase::Active) else {
        return no(format!(
            "shard {} does not exist or has no active owner now; see wa-agent status",
            wish.shard
        ));
    };
    let asked = wish.to.as_deref().map(NodeId::new);
    let Some(to) = core.taker(view.now, row, asked.as_ref()) else {
        return no(nobody(view, row, asked.as_ref()));
    };
    let to = to.as_str().to_owned();
    let verb = if wish.dry_run { "would be" } else { "is being" };
    SwitchoverAnswer {
        accepted: true,
        from: row.owner.as_ref().map(|n| n.as_str().into()),
        message: format!(
            "shard {} {verb} moved to {to}: intake held, requests finished, epoch raised",
            wish.shard
        ),
        to: Some(to),
        elsewhere: false,
        epoch_before: row.epoch.0,
    }
}

/// Why nobody, or not the one asked for, takes the shard: what the core has against each.
pub fn nobody(view: &View<'_>, row: &ShardRow, asked: Option<&NodeId>) -> String {
    let mut why = match asked {
        Some(to) => format!("{to} cannot take shard {} now", row.shard),
        None => format!(
            "no coreapp can take shard {} now; start one (systemctl start wa-coreapp@2)",
            row.shard
        ),
    };
    for sentence in fit::unfit(view, row) {
        why.push_str("; ");
        why.push_str(&sentence);
    }
    why
}

/// What a change of the number of shards would do, or why it cannot be. A coreapp holds one shard at most, so a count
/// above the number of healthy coreapps would leave recipients without an owner.
pub fn shards(view: &View<'_>, wish: &ShardsRequest) -> ShardsAnswer {
    let core = view.core;
    let before = core.map().map_or(0, |m| m.master.shard_count);
    let answer = |accepted, message| ShardsAnswer {
        accepted,
        before,
        message,
    };
    if core.primary(view.now).is_none() || before == 0 {
        return answer(
            false,
            "this master is not primary (1017); ask the primary master".into(),
        );
    }
    if !wa_core::shard_map::SHARD_COUNTS.contains(&wish.shards) {
        return answer(false, "shards must be 1, 2, 4, 8, 16 or 32".into());
    }
    if before == wish.shards {
        return answer(true, format!("there are {before} shards already"));
    }
    let coreapps = core.able(view.now).len();
    if coreapps < usize::from(wish.shards) {
        return answer(
            false,
            format!(
                "{} shards need as many coreapps, better one more; {coreapps} can hold one now: start others first \
                 (systemctl start wa-coreapp@2)",
                wish.shards
            ),
        );
    }
    let verb = if wish.dry_run {
        "would be"
    } else {
        "are being"
    };
    answer(
        true,
        format!(
            "{before} shards {verb} regrouped into {}: every owner ends, epochs are raised, requests wait meanwhile",
            wish.shards
        ),
    )
}
