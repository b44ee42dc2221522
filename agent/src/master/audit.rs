//! Operator verbs in the audit: who typed what on which machine, and whether it was done.
//! Carries none of them out; `record.rs` writes the history.

use crate::api::control::{
    KeysAnswer, KeysStep, OperatorAnswer, OperatorRequest, SwitchoverAnswer, SwitchoverRequest,
    Verb,
};
use crate::api::parked;
use crate::db::Db;
use crate::log;
use crate::member::audit::{Entry, write_once};

/// What somebody typed.
pub trait Asked {
    /// User and machine, as they name themselves.
    fn by(&self) -> Option<&str>;
    /// Nothing is to be done.
    fn dry(&self) -> bool;
    /// The verb, for people.
    fn words(&self) -> String;
}

/// What was answered.
pub trait Said {
    /// Another master is to answer.
    fn elsewhere(&self) -> bool;
    fn accepted(&self) -> bool;
    fn message(&self) -> &str;
}

impl Asked for SwitchoverRequest {
    fn by(&self) -> Option<&str> {
        self.by.as_deref()
    }

    fn dry(&self) -> bool {
        self.dry_run
    }

    fn words(&self) -> String {
        let to = self.to.as_deref();
        let to = to.map_or(String::new(), |to| format!(" to {to}"));
        let cancel = if self.cancel { "cancel the " } else { "" };
        let later = match self.at_ms.is_some() || self.in_ms.is_some() {
            true => " at a later time",
            false => "",
        };
        format!("{cancel}switchover of shard {}{to}{later}", self.shard)
    }
}

impl Asked for OperatorRequest {
    fn by(&self) -> Option<&str> {
        self.by.as_deref()
    }

    fn dry(&self) -> bool {
        self.dry_run
    }

    fn words(&self) -> String {
        let of = |shard: &Option<u16>| {
            shard.map_or("every shard".to_owned(), |shard| format!("shard {shard}"))
        };
        match &self.verb {
            Verb::Failover { shard, to } => {
                let to = to.as_deref();
                let to = to.map_or(String::new(), |to| format!(" to {to}"));
                format!("failover of shard {shard}{to}")
            }
            Verb::Drain { node, on: true } => format!("drain {node}"),
            Verb::Drain { node, on: false } => format!("undrain {node}"),
            Verb::Pause {
                shard,
                for_ms: Some(ms),
            } => format!("pause failover of {} for {} s", of(shard), ms / 1000),
            Verb::Pause {
                shard,
                for_ms: None,
            } => format!("resume failover of {}", of(shard)),
            Verb::Forget { node } => format!("forget {node}"),
            Verb::Ack { shard } => format!("ack shard {shard}"),
            Verb::AckServer => "ack the database server".to_owned(),
            Verb::Adopt => "adopt the restored database".to_owned(),
            Verb::RetryEvents { key: None } => "retry all unread events".to_owned(),
            Verb::RetryEvents { key: Some(key) } => format!("retry the event {key}"),
            Verb::RevokeTokens { user, token: None } => format!("end all tokens of {user}"),
            Verb::RevokeTokens {
                user,
                token: Some(token),
            } => format!("end the token {token} of {user}"),
        }
    }
}

impl Asked for parked::Wish {
    fn by(&self) -> Option<&str> {
        self.by.as_deref()
    }

    fn dry(&self) -> bool {
        self.dry_run
    }

    fn words(&self) -> String {
        let what = match self.what {
            parked::What::Retry => "retry",
            parked::What::Purge => "purge",
        };
        match self.ids.len() {
            0 => format!("{what} all parked webhooks"),
            n => format!("{what} {n} parked webhooks"),
        }
    }
}

impl Asked for KeysStep {
    fn by(&self) -> Option<&str> {
        self.by.as_deref()
    }

    fn dry(&self) -> bool {
        self.dry_run
    }

    fn words(&self) -> String {
        match self.phase {
            Some(phase) => format!("keys rotate, phase {} of 3", phase.number()),
            None => "keys rotate, the end".to_owned(),
        }
    }
}

macro_rules! says {
    ($($answer:ty),*) => {$(
        impl Said for $answer {
            fn elsewhere(&self) -> bool {
                self.elsewhere
            }

            fn accepted(&self) -> bool {
                self.accepted
            }

            fn message(&self) -> &str {
                &self.message
            }
        }
    )*};
}

says!(SwitchoverAnswer, OperatorAnswer, KeysAnswer, parked::Answer);

fn entry(asked: &impl Asked, said: &impl Said) -> Option<Entry> {
    if asked.dry() || said.elsewhere() {
        return None;
    }
    let by = asked.by().unwrap_or("-");
    let machine = by.rsplit_once('@').map_or("-", |(_, machine)| machine);
    let outcome = match said.accepted() {
        true => "done".to_owned(),
        false => format!("refused: {}", said.message()),
    };
    Some(Entry::new(by, machine, &asked.words(), &outcome))
}

/// Writes the line of a verb that this master carried out or refused; none of one that only asked what would happen.
pub fn verb(db: &Db, asked: &impl Asked, said: &impl Said) {
    if let Some(entry) = entry(asked, said) {
        write_once(db, log::node(), entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the line of a verb says who, where, what and what came of it; a dry run and another master's verb leave none.
    /// Method: one verb with each end.
    #[test]
    fn a_verb_leaves_one_line() {
        let mut asked = OperatorRequest {
            verb: Verb::Drain {
                node: "a:coreapp-1".into(),
                on: true,
            },
            dry_run: false,
            reason: None,
            by: Some("ann@core1.example".into()),
        };
        let mut said = OperatorAnswer {
            accepted: true,
            elsewhere: false,
            message: "it moves".into(),
        };
        let line = |who, source, what, outcome| Some(Entry::new(who, source, what, outcome));
        let drain = "drain a:coreapp-1";
        assert_eq!(
            entry(&asked, &said),
            line("ann@core1.example", "core1.example", drain, "done")
        );
        (said.accepted, said.message) = (false, "no such node".into());
        asked.by = None;
        assert_eq!(
            entry(&asked, &said),
            line("-", "-", drain, "refused: no such node")
        );
        said.elsewhere = true;
        assert_eq!(entry(&asked, &said), None);
        (said.elsewhere, asked.dry_run) = (false, true);
        assert_eq!(entry(&asked, &said), None);
    }
}
