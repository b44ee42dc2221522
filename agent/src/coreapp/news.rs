//! News of the account: into the journal, the record and the figures. As callbacks they go only where the configuration says so.
//! Understands them no further than `api/cloud/account.rs` does.

use serde_json::Value;

use super::node::Node;
use crate::api::cloud::account::{Gravity, Headline};
use crate::api::cloud::event::Event;
use crate::db::Db;
use crate::db::history::Record;
use crate::log::message_id::ACCOUNT_NEWS;
use crate::log::seldom;

/// The news in a batch of events: each a field and its value.
pub fn of(events: &[Option<Event>]) -> Vec<(String, Value)> {
    let news = |event: &Event| match event {
        Event::Account { field, value } => Some((field.clone(), value.clone())),
        Event::Message(_) | Event::Status(_) | Event::Error(_) | Event::Unread { .. } => None,
    };
    events.iter().flatten().filter_map(news).collect()
}

/// Says it and writes it down, once its event is done with. A record that fails stays unwritten: the journal has it.
pub async fn tell(node: &Node, db: &Db, field: &str, value: &Value) {
    node.metrics.account_news.inc();
    let headline = Headline::of(field, value);
    let said = headline.to_string();
    // It may be allowed another rate.
    if headline.field == "phone_number_quality_update"
        && let Some(work) = node.work()
    {
        work.number_wanted.notify_one();
    }
    match headline.gravity {
        Gravity::Act => tracing::error!(
            MESSAGE_ID = ACCOUNT_NEWS,
            news = said,
            "the upstream restricts the account; look into the WhatsApp manager of the business, and type: wa-agent history"
        ),
        Gravity::Look => tracing::warn!(
            MESSAGE_ID = ACCOUNT_NEWS,
            news = said,
            "the upstream has news of the account that may limit what is sent; see: wa-agent history"
        ),
        Gravity::Know => tracing::info!(
            MESSAGE_ID = ACCOUNT_NEWS,
            news = said,
            "the upstream has news of the account"
        ),
        Gravity::Unknown => {
            seldom!(tracing::info!(
                field = headline.field,
                "the upstream has news of a field that this release does not know; they are counted only"
            ));
            return;
        }
        Gravity::Count => return,
    }
    let record = Record {
        node: node.settings.node.as_str().to_owned(),
        shard: -1,
        what: "account".to_owned(),
        subject: headline.field.clone(),
        reason: headline.event.clone(),
        evidence: value.to_string(),
    };
    if let Err(error) = db.record(&record).await {
        tracing::warn!(error = %error.brief(), news = said, "news of the account could not be recorded; the journal has them");
    }
}
