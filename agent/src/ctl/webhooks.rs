//! `wa-agent webhooks`: those that the business refused for too long, which are not tried any more until somebody says so.
//! Shows no body of a webhook: customers' words are in it.

use std::collections::BTreeSet;
use std::time::{Duration, SystemTime};

use super::operate::confirmed;
use super::reach::Cluster;
use super::view::View;
use crate::api::parked::{Answer, List, PATH, What, Wish, are};
use crate::cli::{Reach, WebhooksVerb, Which};
use crate::exit::Exit;

/// Lists them, or asks the primary master.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(verb: &WebhooksVerb) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    runtime.block_on(async {
        match verb {
            WebhooksVerb::List { reach, limit } => list(reach, *limit).await,
            WebhooksVerb::Retry { which } => change(which, What::Retry, true).await,
            WebhooksVerb::Purge { which, yes } => change(which, What::Purge, *yes).await,
        }
    })
}

async fn list(reach: &Reach, limit: u32) -> anyhow::Result<Exit> {
    let view = View::find(reach.config.as_deref()).await?;
    let list = match view.parked(limit).await {
        Ok(list) => list,
        Err(nothing) => return Ok(nothing.told()),
    };
    if reach.json {
        println!("{}", serde_json::to_string(&list)?);
    } else {
        print!("{}", text(&list));
    }
    Ok(Exit::Ok)
}

fn at(ms: u64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// For people.
fn text(list: &List) -> String {
    if list.count == 0 {
        return "no webhook is parked\n".into();
    }
    let mut out = format!(
        "{}: the business refused them for longer than [webhooks] park_after. They are not tried any more.\n",
        are(list.count, "parked")
    );
    out.push_str(&format!(
        "{:>8}  {:<20}  {:<20}  {:>5}  {:<7}  {:<36}  said last\n",
        "id", "parked", "stored", "tries", "tells", "of"
    ));
    for one in &list.parked {
        out.push_str(&format!(
            "{:>8}  {:<20}  {:<20}  {:>5}  {:<7}  {:<36}  {}\n",
            one.id,
            at(one.parked_ms),
            at(one.since_ms),
            one.attempts,
            one.tells,
            one.event,
            one.why
        ));
    }
    let more = list.count.saturating_sub(list.parked.len() as u64);
    if more > 0 {
        out.push_str(&format!(
            "and {more} more: wa-agent webhooks list --limit {}\n",
            list.count.min(10_000)
        ));
    }
    out.push_str(
        "When the receiver is mended, type: wa-agent webhooks retry --all. To delete them: wa-agent webhooks purge --all\n",
    );
    out
}

/// Asks until all of them are done. Without `sure` a person is asked first, after hearing what would happen.
async fn change(which: &Which, what: What, sure: bool) -> anyhow::Result<Exit> {
    let cluster = Cluster::find(which.wish.reach.config.as_deref()).await?;
    cluster.may_change()?;
    let ids: BTreeSet<i64> = which.ids.iter().copied().collect();
    let mut wish = Wish {
        what,
        ids: ids.into_iter().collect(),
        upto: None,
        dry_run: true,
        reason: which.wish.reason.clone(),
        by: Some(super::reach::who()),
    };
    let Some(answer) = ask(&cluster, &wish).await else {
        eprintln!("wa-agent: {}", cluster.nobody());
        return Ok(Exit::Unavailable);
    };
    if !answer.accepted || which.wish.dry_run || answer.done == 0 {
        return said(which, what, &answer, which.wish.dry_run);
    }
    if !sure {
        println!("{}", what.sentence(answer.done));
        if !confirmed()? {
            println!("nothing was done");
            return Ok(Exit::Failure);
        }
    }
    // Those that are parked meanwhile are not meant.
    (wish.dry_run, wish.upto) = (false, answer.upto);
    let mut all = 0;
    loop {
        let Some(mut answer) = ask(&cluster, &wish).await else {
            eprintln!("wa-agent: {}", cluster.nobody());
            eprintln!(
                "wa-agent: {}. Type the same again for the rest",
                what.sentence(all)
            );
            return Ok(Exit::Unavailable);
        };
        all += answer.done;
        if !answer.more {
            answer.done = all;
            return said(which, what, &answer, false);
        }
    }
}

fn said(which: &Which, what: What, answer: &Answer, dry: bool) -> anyhow::Result<Exit> {
    if which.wish.reach.json {
        println!("{}", serde_json::to_string(answer)?);
    } else if !answer.accepted {
        eprintln!("wa-agent: {}", answer.message);
    } else if answer.done == 0 {
        println!("no webhook is parked: nothing was done");
    } else {
        let dry = if dry { "(dry run) " } else { "" };
        println!("{dry}{}", what.sentence(answer.done));
    }
    Ok(match answer.accepted {
        true => Exit::Ok,
        false => Exit::Failure,
    })
}

async fn ask(cluster: &Cluster, wish: &Wish) -> Option<Answer> {
    let elsewhere = |answer: &Answer| answer.elsewhere;
    let said = cluster.ask(PATH, wish, elsewhere).await;
    said.map(|(_, answer)| answer).filter(|a| !a.elsewhere)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::parked::Parked;

    /// Goal: whoever reads the list knows what happened and what to type; one is one.
    #[test]
    fn the_list_says_what_to_type() {
        assert_eq!(text(&List::default()), "no webhook is parked\n");
        let one = Parked {
            id: 7,
            event: "wamid.X:delivered".into(),
            tells: "status".into(),
            attempts: 680,
            since_ms: 1_893_456_000_000,
            parked_ms: 1_894_060_800_000,
            why: "answered 500 Internal Server Error".into(),
        };
        let list = List {
            parked: vec![one],
            count: 3,
        };
        let said = text(&list);
        for part in [
            "3 webhooks are parked",
            "wamid.X:delivered",
            "2030-01-01T00:00:00Z",
            "answered 500",
            "and 2 more",
            "wa-agent webhooks retry --all",
            "wa-agent webhooks purge --all",
        ] {
            assert!(said.contains(part), "{part} in {said}");
        }
        assert!(
            What::Purge
                .sentence(1)
                .starts_with("1 webhook is deleted for good")
        );
    }
}
