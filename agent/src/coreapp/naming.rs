//! A message that answers another one, or reacts to it: under which id the upstream knows that one.
//! Decides nothing: `wa_core::naming` does.

use wa_core::naming::{Naming, Step, step};

use super::node::Node;
use super::unsent::Unsent;
use crate::api::cloud::opaque::is_ours;
use crate::api::cloud::short::is_short;
use crate::api::error::ErrorObject;
use crate::api::v1::code::Code;
use crate::api::v1::message::{Content, Message};
use crate::db::message_id::Named;

/// The upstream's id of the message that `message` names; `None`: it names none, or goes without.
///
/// # Errors
/// [`Unsent`]: it waits for the one that it names, or cannot be sent without it.
pub async fn resolve(node: &Node, id: &str, message: &Message) -> Result<Option<String>, Unsent> {
    let Some(named) = message.named() else {
        return Ok(None);
    };
    // The upstream's own ids, those of customers' messages among them, go as they are.
    if !is_ours(named) && !is_short(named) {
        return Ok(Some(named.to_owned()));
    }
    let db = node
        .db()
        .ok_or_else(|| Unsent::Later("no database".into()))?;
    let found = match is_short(named) {
        true => db
            .upstream_id_of(named)
            .await
            .map(|id| id.map_or(Named::Gone, Named::Sent)),
        false => db.named(id, named).await,
    };
    let found = found.map_err(|error| Unsent::Later(error.brief()))?;
    let known = match &found {
        Named::Sent(_) => wa_core::naming::Named::Sent,
        Named::Open => wa_core::naming::Named::Open,
        Named::Gone => wa_core::naming::Named::Gone,
    };
    match (step(naming(message), known), found) {
        (Step::Go, Named::Sent(upstream_id)) => Ok(Some(upstream_id)),
        (Step::Wait, _) => Err(Unsent::Behind),
        (Step::Fail, _) => Err(Unsent::Never(not_there(named))),
        (Step::GoBare | Step::Go, _) => {
            node.metrics.answers_bare.inc();
            tracing::info!(
                id,
                "the message that this one answers was never sent, or is not known any more; it goes out as no answer"
            );
            Ok(None)
        }
    }
}

fn naming(message: &Message) -> Naming {
    match &message.content {
        Content::Reaction(_) => Naming::Reaction,
        Content::Text(_)
        | Content::Media(_)
        | Content::Location(_)
        | Content::Contacts(_)
        | Content::Template(_)
        | Content::Hsm(_)
        | Content::Interactive(_) => Naming::Answer,
    }
}

fn not_there(named: &str) -> ErrorObject {
    let why =
        format!("reaction.message_id {named}: that message was not sent, or is not known any more");
    ErrorObject::new(Code::ParameterNotValid, Some(why))
}
