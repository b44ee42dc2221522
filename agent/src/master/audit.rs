//! Operator verbs, and what administrators ask by webapps, in the audit: who, on which machine by an operator's own word, from which
//! address, what, and what came of it. One line for each call, whatever its end.
//! Carries none of them out; `record.rs` writes the history.

use std::net::IpAddr;
use std::sync::Arc;

use axum::response::Response;

use super::control::Why;
use crate::api::control::{
    KeysAnswer, KeysStep, OperatorAnswer, OperatorRequest, RegistrationAnswer, RegistrationRequest,
    ShardsAnswer, ShardsRequest, SwitchoverAnswer, SwitchoverRequest, Verb,
};
use crate::api::parked;
use crate::api::served::{BackupRequest, ProvidersRequest, RestoreRequest, Served};
use crate::member::audit::{Audit, Entry};

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

/// What administrators ask: the token says who it is, so the call does not.
macro_rules! asks {
    ($($wish:ty: $dry:expr, $words:expr;)*) => {$(
        impl Asked for $wish {
            fn by(&self) -> Option<&str> {
                None
            }

            fn dry(&self) -> bool {
                let dry: fn(&$wish) -> bool = $dry;
                dry(self)
            }

            fn words(&self) -> String {
                let words: fn(&$wish) -> String = $words;
                words(self)
            }
        }
    )*};
}

asks! {
    ShardsRequest: |wish| wish.dry_run, |wish| format!("set {} shards by the API", wish.shards);
    RegistrationRequest: |_| false, |wish| match wish {
        RegistrationRequest::Ask => "register the number by the API".to_owned(),
        RegistrationRequest::Verify => "verify the number by the API".to_owned(),
    };
    ProvidersRequest: |_| false, |wish| {
        let stored = wish.store.iter().map(|one| format!("store {}", one.name));
        let deleted = wish.delete.iter().map(|name| format!("delete {name}"));
        let what: Vec<String> = stored.chain(deleted).collect();
        format!("media providers by the API: {}", what.join(", "))
    };
    BackupRequest: |_| false, |_| "make a backup by the API".to_owned();
    RestoreRequest: |_| false, |_| "restore a backup by the API".to_owned();
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

impl Said for ShardsAnswer {
    fn elsewhere(&self) -> bool {
        false
    }

    fn accepted(&self) -> bool {
        self.accepted
    }

    fn message(&self) -> &str {
        &self.message
    }
}

impl Said for RegistrationAnswer {
    fn elsewhere(&self) -> bool {
        self.elsewhere
    }

    fn accepted(&self) -> bool {
        self.attempt.is_some()
    }

    fn message(&self) -> &str {
        &self.message
    }
}

impl Said for Served {
    fn elsewhere(&self) -> bool {
        false
    }

    fn accepted(&self) -> bool {
        !matches!(self, Self::Refused { .. })
    }

    fn message(&self) -> &str {
        match self {
            Self::Refused { details, .. } => details,
            // A text may be a secret.
            Self::Done | Self::Text(_) => "",
        }
    }
}

/// The name of who typed a verb, and where he is: the machine by his own word, and the address that called.
fn whence(asked: &impl Asked, peer: IpAddr) -> (String, String) {
    let by = asked.by().unwrap_or("-");
    let source = match by.rsplit_once('@') {
        Some((_, machine)) if !machine.is_empty() => format!("{machine} ({peer})"),
        Some(_) | None => peer.to_string(),
    };
    (by.to_owned(), source)
}

/// The line of a verb that is not answered yet. Dropped without an answer it says that nobody knows what came of the verb.
pub struct Line {
    audit: Arc<Audit>,
    /// Who, from where, what; `None`: a verb that only asks what would happen, or another master's.
    verb: Option<(String, String, String)>,
    unsure: bool,
}

impl Line {
    /// Begins the line of a verb that came from this address.
    pub fn begin(audit: &Arc<Audit>, asked: &impl Asked, peer: IpAddr) -> Self {
        Self::of(audit, asked, whence(asked, peer))
    }

    /// Begins the line of an act: who is asked for it by the name in the table of users, and where that came from.
    pub fn of(audit: &Arc<Audit>, asked: &impl Asked, (who, source): (String, String)) -> Self {
        Self {
            audit: Arc::clone(audit),
            verb: (!asked.dry()).then(|| (who, source, asked.words())),
            unsure: false,
        }
    }

    /// Begins the line of what this administrator asks, whose call came from this address.
    pub fn of_administrator(
        audit: &Arc<Audit>,
        asked: &impl Asked,
        (by, peer): (&str, IpAddr),
    ) -> Self {
        Self {
            audit: Arc::clone(audit),
            verb: (!asked.dry()).then(|| (by.to_owned(), peer.to_string(), asked.words())),
            unsure: false,
        }
    }

    /// The store did not say whether it took the change.
    pub fn unsure(&mut self) {
        self.unsure = true;
    }

    /// The verb was answered so. One of another master leaves no line here.
    pub fn answered(mut self, said: &impl Said) {
        if said.elsewhere() {
            self.verb = None;
        }
        let outcome = match (said.accepted(), self.unsure) {
            (true, _) => "done".to_owned(),
            (false, true) => format!("not known: {}", said.message()),
            (false, false) => format!("refused: {}", said.message()),
        };
        self.end(&outcome);
    }

    /// The verb came to nothing, or nobody knows.
    pub fn failed(mut self, response: &Response) {
        let outcome = match response.extensions().get::<Why>() {
            Some(why) if why.nothing_done => format!("refused: {}", why.message),
            Some(why) => format!("not known: {}", why.message),
            None => format!("not known: answered {}", response.status()),
        };
        self.end(&outcome);
    }

    fn end(&mut self, outcome: &str) {
        if let Some((who, source, what)) = self.verb.take() {
            self.audit.write(Entry::new(&who, &source, &what, outcome));
        }
    }
}

impl Drop for Line {
    fn drop(&mut self) {
        self.end("not known: this master stopped before it was answered");
    }
}

#[cfg(test)]
#[path = "audit_tests.rs"]
mod tests;
