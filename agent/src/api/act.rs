//! Acts: what an administrator may have done by the console of a webapp, as a table of all verbs. Pure.
//! Says nothing of who is an administrator: the master that is asked looks the token up.

use std::fmt;

use super::control::{OperatorRequest, SwitchoverRequest, Verb, path};
use super::parked::{self, What, Wish};

/// Which acts are done for an administrator: `[console] acts`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Acts {
    /// None: verbs are typed on a machine with the cluster key.
    None,
    /// Those of [`Risk::Safe`].
    #[default]
    Safe,
    /// All that this table lists.
    All,
}

impl Acts {
    /// The word in the configuration.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::Safe => "safe",
            Self::All => "all",
        }
    }

    /// Reads the word.
    pub fn parse(word: &str) -> Option<Self> {
        let all = [Self::None, Self::Safe, Self::All];
        all.into_iter().find(|acts| acts.as_str() == word)
    }

    /// An act of this risk is among them.
    pub fn allow(self, risk: Risk) -> bool {
        match (self, risk) {
            (Self::None, Risk::Safe | Risk::Rest) | (Self::Safe, Risk::Rest) => false,
            (Self::Safe, Risk::Safe) | (Self::All, Risk::Safe | Risk::Rest) => true,
        }
    }

    /// The least word with which an act of this risk is done.
    pub fn least(risk: Risk) -> Self {
        match risk {
            Risk::Safe => Self::Safe,
            Risk::Rest => Self::All,
        }
    }
}

impl fmt::Display for Acts {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What a wrong act costs at worst.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Risk {
    /// It is undone by its opposite, or changes nothing that is lost.
    Safe,
    /// It deletes, ends sessions, or overrules what masters know.
    Rest,
}

/// A request that operators type, and administrators send by a console.
pub trait Act {
    /// Where masters take it.
    const PATH: &'static str;
    /// What a wrong one costs.
    fn risk(&self) -> Risk;
    /// Who asks, in the record. What a caller wrote there counts for nothing.
    fn asker(&mut self) -> &mut Option<String>;
    /// In whose words, for the record.
    fn reason(&mut self) -> &mut Option<String>;
}

/// What a verb costs where it was wrong.
pub fn risk_of(verb: &Verb) -> Risk {
    match verb {
        Verb::Drain { .. } | Verb::Pause { .. } | Verb::RetryEvents { .. } => Risk::Safe,
        Verb::Failover { .. }
        | Verb::Forget { .. }
        | Verb::Ack { .. }
        | Verb::AckServer
        | Verb::Adopt
        | Verb::RevokeTokens { .. } => Risk::Rest,
    }
}

/// The same of what becomes of parked webhooks.
pub fn risk_of_parked(what: What) -> Risk {
    match what {
        What::Retry => Risk::Safe,
        What::Purge => Risk::Rest,
    }
}

impl Act for OperatorRequest {
    const PATH: &'static str = path::OPERATE;

    fn risk(&self) -> Risk {
        risk_of(&self.verb)
    }

    fn asker(&mut self) -> &mut Option<String> {
        &mut self.by
    }

    fn reason(&mut self) -> &mut Option<String> {
        &mut self.reason
    }
}

impl Act for SwitchoverRequest {
    const PATH: &'static str = path::SWITCHOVER;

    /// Another switchover moves the shard back; a planned one is cancelled.
    fn risk(&self) -> Risk {
        Risk::Safe
    }

    fn asker(&mut self) -> &mut Option<String> {
        &mut self.by
    }

    fn reason(&mut self) -> &mut Option<String> {
        &mut self.reason
    }
}

impl Act for Wish {
    const PATH: &'static str = parked::PATH;

    fn risk(&self) -> Risk {
        risk_of_parked(self.what)
    }

    fn asker(&mut self) -> &mut Option<String> {
        &mut self.by
    }

    fn reason(&mut self) -> &mut Option<String> {
        &mut self.reason
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: the table is the documented one, verb by verb: what is deleted, ended or overruled takes `all`. Method: every verb and
    /// every wish under each word.
    #[test]
    fn every_verb_has_its_word() {
        let node = || "a:coreapp-1".to_owned();
        let pause = |for_ms| Verb::Pause {
            shard: None,
            for_ms,
        };
        let drain = |on| Verb::Drain { node: node(), on };
        let verbs = [
            (pause(Some(1)), Risk::Safe),
            (pause(None), Risk::Safe),
            (drain(true), Risk::Safe),
            (drain(false), Risk::Safe),
            (Verb::RetryEvents { key: None }, Risk::Safe),
            (Verb::Failover { shard: 0, to: None }, Risk::Rest),
            (Verb::Forget { node: node() }, Risk::Rest),
            (Verb::Ack { shard: 0 }, Risk::Rest),
            (Verb::AckServer, Risk::Rest),
            (Verb::Adopt, Risk::Rest),
            (
                Verb::RevokeTokens {
                    user: "bot1".into(),
                    token: None,
                },
                Risk::Rest,
            ),
        ];
        for (verb, risk) in verbs {
            let words = format!("{verb:?}");
            let wish = OperatorRequest {
                verb,
                dry_run: false,
                reason: None,
                by: None,
            };
            assert_eq!(wish.risk(), risk, "{words}");
        }
        for (what, risk) in [(What::Retry, Risk::Safe), (What::Purge, Risk::Rest)] {
            assert_eq!(risk_of_parked(what), risk, "{what:?}");
        }
        assert_eq!(SwitchoverRequest::default().risk(), Risk::Safe);
        for (acts, safe, rest) in [
            (Acts::None, false, false),
            (Acts::Safe, true, false),
            (Acts::All, true, true),
        ] {
            assert_eq!(acts.allow(Risk::Safe), safe, "{acts}");
            assert_eq!(acts.allow(Risk::Rest), rest, "{acts}");
            assert_eq!(Acts::parse(acts.as_str()), Some(acts));
        }
        for risk in [Risk::Safe, Risk::Rest] {
            assert!(Acts::least(risk).allow(risk));
        }
        assert_eq!(Acts::parse("some"), None);
        assert_eq!(Acts::default(), Acts::Safe);
    }
}
