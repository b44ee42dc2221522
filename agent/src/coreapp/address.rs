//! Under which address a message goes upstream: what is known of the number or user id that the client named.
//! Decides nothing: `wa_core::address` does.

use std::time::Duration;

use wa_core::address::{Named, Use, choose};

use super::customers::Memory;
use super::node::Node;
use super::unsent::Unsent;
use super::work::Work;
use crate::api::v1::message::Message;
use crate::api::v1::who::Recipient;
use crate::db::Db;

/// The address. `needs_number`: the upstream takes this message for a number only, and said so.
///
/// # Errors
/// [`Unsent::Later`]: the store must be asked, and does not answer.
pub async fn resolve(
    node: &Node,
    work: &Work,
    message: &Message,
    needs_number: bool,
) -> Result<Recipient, Unsent> {
    let to = &whom(node, message).await?;
    let named = match to {
        Recipient::Phone(_) | Recipient::International(_) => Named::Remembered,
        Recipient::User(_) if message.alias().is_some() => Named::Alias,
        Recipient::User(_) => Named::User,
    };
    match to {
        Recipient::Phone(number) | Recipient::International(number) => {
            let Some((user_id, ago)) = remembered(node, work, number).await? else {
                return Ok(whole(work, to));
            };
            Ok(match choose(named, Some(ago), needs_number) {
                Use::Number => whole(work, to),
                Use::User => Recipient::User(user_id),
            })
        }
        Recipient::User(_) if !needs_number && named == Named::User => Ok(to.clone()),
        Recipient::User(user_id) => {
            let pair = store(node)?.number_of(user_id).await;
            let pair = pair.map_err(|error| Unsent::Later(error.brief()))?;
            // Learned a moment ago, it may be on its way to the store.
            let learned = || work.customers.number(user_id).map(|number| (number, 0));
            let pair = pair.or_else(|| needs_number.then(learned).flatten());
            let ago = pair.as_ref().map(|(_, ago)| Duration::from_millis(*ago));
            Ok(match (choose(named, ago, needs_number), pair) {
                (Use::Number, Some((number, _))) => Recipient::International(number),
                (Use::Number | Use::User, _) => to.clone(),
            })
        }
    }
}

/// Whom a message is for: its alias may have gone on to another user id since the message was accepted.
async fn whom(node: &Node, message: &Message) -> Result<Recipient, Unsent> {
    let alias = match &message.to {
        Recipient::User(_) => message.alias(),
        Recipient::Phone(_) | Recipient::International(_) => None,
    };
    let Some(alias) = alias else {
        return Ok(message.to.clone());
    };
    let found = store(node)?.user_of_alias(&alias).await;
    let found = found.map_err(|error| Unsent::Later(error.brief()))?;
    Ok(found.map_or_else(|| message.to.clone(), Recipient::User))
}

/// With the mark that it begins with its country code, where the upstream told it.
fn whole(work: &Work, to: &Recipient) -> Recipient {
    match to {
        Recipient::Phone(number)
            if work.international.told(number) || work.customers.lives(number) =>
        {
            Recipient::International(number.clone())
        }
        Recipient::Phone(_) | Recipient::International(_) | Recipient::User(_) => to.clone(),
    }
}

fn store(node: &Node) -> Result<std::sync::Arc<Db>, Unsent> {
    node.db().ok_or_else(|| Unsent::Later("no database".into()))
}

/// The user id of a number that is only remembered, and how long ago one webhook carried both. It is remembered in the upstream's
/// spelling, whichever was typed.
async fn remembered(
    node: &Node,
    work: &Work,
    typed: &str,
) -> Result<Option<(String, Duration)>, Unsent> {
    if let Some(found) = remembered_as(node, work, typed).await? {
        return Ok(Some(found));
    }
    if work.customers.none_remembered() {
        return Ok(None);
    }
    match spelling(node, work, typed).await? {
        Some(spelling) => remembered_as(node, work, &spelling).await,
        None => Ok(None),
    }
}

/// How the upstream spells a number, where that is known to be otherwise.
async fn spelling(node: &Node, work: &Work, typed: &str) -> Result<Option<String>, Unsent> {
    if let Some(known) = work.spellings.get(typed) {
        return Ok(known);
    }
    let routes = store(node)?.routes(&[typed]).await;
    let mut routes = routes.map_err(|error| Unsent::Later(error.brief()))?;
    let spelling = routes.remove(typed).and_then(|route| route.spelling);
    work.spellings.put(typed, spelling.clone());
    Ok(spelling)
}

async fn remembered_as(
    node: &Node,
    work: &Work,
    number: &str,
) -> Result<Option<(String, Duration)>, Unsent> {
    match work.customers.memory(number) {
        Memory::Plain => Ok(None),
        Memory::Remembered(user_id, ago) => Ok(Some((user_id, ago))),
        Memory::Unknown => {
            let found = store(node)?.remembered_number(number).await;
            let found = found.map_err(|error| Unsent::Later(error.brief()))?;
            Ok(found.map(|one| {
                let ago = Duration::from_millis(one.together_ago_ms);
                (one.user_id, ago)
            }))
        }
    }
}
