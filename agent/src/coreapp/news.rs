//! News of the account: into the journal, the record and the figures. As callbacks they go only where the configuration says so.
//! Understands them no further than `api/cloud/account.rs` does.

use super::node::Node;
use crate::api::cloud::account::{Gravity, Headline};
use crate::db::Db;
use crate::db::history::Record;
use crate::log::message_id::ACCOUNT_NEWS;

/// Says it and writes it down. A record that fails stays unwritten: the journal has it.
pub async fn tell(node: &Node, db: &Db, field: &str, value: &serde_json::Value) {
    node.metrics.account_news.inc();
    let headline = Headline::of(field, value);
    let said = headline.to_string();
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
