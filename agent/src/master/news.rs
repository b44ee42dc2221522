//! What the upstream told that people should know: events that nobody could read, and news of the account of the last day.
//! Reads nothing and judges nothing.

use std::time::{Duration, UNIX_EPOCH};

use crate::api::cloud::account::{Gravity, gravity};
use crate::db::history::Decision;

/// Decisions among which it is looked for news.
pub const DECISIONS_LEN: u32 = 100;
/// News are told for so long.
const TOLD_FOR_MS: u64 = 24 * 3600 * 1000;
/// News that are told, the newest first.
const TOLD_MAX: usize = 3;

/// As they were read last.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct News {
    unread: u64,
    account: Vec<String>,
}

impl News {
    /// Of what is kept and recorded. `now_ms` is the time of the database.
    pub fn of(unread: u64, decisions: &[Decision], now_ms: u64) -> Self {
        let at = |one: &Decision| u64::try_from(one.at_ms).unwrap_or(0);
        let young = |one: &&Decision| now_ms.saturating_sub(at(one)) < TOLD_FOR_MS;
        let grave = |one: &&Decision| match gravity(&one.subject, &one.reason) {
            Gravity::Act | Gravity::Look => true,
            Gravity::Know | Gravity::Count | Gravity::Unknown => false,
        };
        let news = decisions.iter().rev().filter(|one| one.what == "account");
        let news = news.filter(young).filter(grave).take(TOLD_MAX);
        let said = news.map(|one| {
            let at = UNIX_EPOCH + Duration::from_millis(at(one));
            format!(
                "WhatsApp told at {}: {} {}; look into the WhatsApp manager of the business, and type: wa-agent history",
                humantime::format_rfc3339_seconds(at),
                one.subject,
                one.reason
            )
        });
        Self {
            unread,
            account: said.collect(),
        }
    }

    /// A sentence where there are events that nobody can read.
    pub fn unread(&self) -> Vec<String> {
        let said = format!(
            "{} events of WhatsApp cannot be read and were not told; they are kept, type: wa-agent events list",
            self.unread
        );
        (self.unread > 0).then_some(said).into_iter().collect()
    }

    /// A sentence for each of the newest news.
    pub fn account(&self) -> Vec<String> {
        self.account.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: `status` tells what somebody must look at, for a day, and what to type. Method: decisions of every kind and age.
    #[test]
    fn what_people_must_look_at_is_told_for_a_day() {
        const NOW_MS: u64 = 1_893_456_000_000;
        let one = |what: &str, reason: &str, ago_ms: i64| Decision {
            id: 1,
            at_ms: i64::try_from(NOW_MS).expect("small") - ago_ms,
            node: "c1:coreapp-1".into(),
            shard: -1,
            what: what.into(),
            subject: "account_update".into(),
            reason: reason.into(),
        };
        let all = [
            one("account", "ACCOUNT_DELETED", 25 * 3600 * 1000),
            one("failover", "ACCOUNT_RESTRICTION", 1000),
            one("account", "PARTNER_ADDED", 1000),
            one("account", "ACCOUNT_RESTRICTION", 1000),
        ];
        let news = News::of(0, &all, NOW_MS);
        let account = news.account();
        assert_eq!(account.len(), 1, "{account:?}");
        let wanted = "WhatsApp told at 2029-12-31T23:59:59Z: account_update ACCOUNT_RESTRICTION;";
        assert!(account[0].starts_with(wanted), "{account:?}");
        assert!(news.unread().is_empty());
        let unread = News::of(2, &[], NOW_MS).unread();
        assert!(unread[0].contains("wa-agent events list"), "{unread:?}");
    }
}
