//! Acts of the console: what each is called, what it means, what is asked of the primary master for it, and who sees its button.
//! Asks nobody: `acting.rs` does. The master judges by its own setting, whatever stands here.

use std::time::Duration;

use maud::{Markup, html};
use serde::Deserialize;

use super::frame::Page;
use super::guard::Visitor;
use super::words::{Tongue, Word};
use crate::api::act::{Acts, Risk};
use crate::api::control::{StoredPause, SwitchoverRequest, Verb};
use crate::api::parked::{What, Wish};
use crate::webapp::state::Webapp;

/// Where acts are shown and done.
pub const PATH: &str = "/console/act";

/// One act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Act {
    Pause,
    Resume,
    Switchover,
    CancelSwitchover,
    Drain,
    Undrain,
    RetryCallbacks,
    RetryEvents,
    Failover,
    Forget,
    Ack,
    AckServer,
    Adopt,
    RevokeTokens,
    PurgeCallbacks,
}

impl Act {
    pub const ALL: [Self; 15] = [
        Self::Pause,
        Self::Resume,
        Self::Switchover,
        Self::CancelSwitchover,
        Self::Drain,
        Self::Undrain,
        Self::RetryCallbacks,
        Self::RetryEvents,
        Self::Failover,
        Self::Forget,
        Self::Ack,
        Self::AckServer,
        Self::Adopt,
        Self::RevokeTokens,
        Self::PurgeCallbacks,
    ];

    /// Its name in addresses and in the audit.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pause => "pause",
            Self::Resume => "resume",
            Self::Switchover => "switchover",
            Self::CancelSwitchover => "cancel-switchover",
            Self::Drain => "drain",
            Self::Undrain => "undrain",
            Self::RetryCallbacks => "retry-callbacks",
            Self::RetryEvents => "retry-events",
            Self::Failover => "failover",
            Self::Forget => "forget",
            Self::Ack => "ack",
            Self::AckServer => "ack-server",
            Self::Adopt => "adopt",
            Self::RevokeTokens => "revoke-tokens",
            Self::PurgeCallbacks => "purge-callbacks",
        }
    }

    /// What its button says.
    pub fn label(self) -> Word {
        match self {
            Self::Pause => Word::Pause,
            Self::Resume => Word::Resume,
            Self::Switchover => Word::Switchover,
            Self::CancelSwitchover => Word::CancelSwitchover,
            Self::Drain => Word::Drain,
            Self::Undrain => Word::Undrain,
            Self::RetryCallbacks => Word::RetryCallbacks,
            Self::RetryEvents => Word::RetryEvents,
            Self::Failover => Word::Failover,
            Self::Forget => Word::Forget,
            Self::Ack => Word::Ack,
            Self::AckServer => Word::AckServer,
            Self::Adopt => Word::Adopt,
            Self::RevokeTokens => Word::RevokeTokens,
            Self::PurgeCallbacks => Word::PurgeCallbacks,
        }
    }

    /// What it means, whatever the cluster says to it now.
    pub fn consequence(self) -> &'static str {
        match self {
            Self::Pause => {
                "While the pause lasts, masters replace no owner that fails: its messages wait until it comes back or the pause ends."
            }
            Self::Resume => "Masters replace owners that fail again, at once.",
            Self::Switchover => {
                "The shard moves to another coreapp. Messages wait for the moment of the move, and none is lost."
            }
            Self::CancelSwitchover => {
                "The planned switchover is forgotten, and the shard stays where it is."
            }
            Self::Drain => {
                "The coreapp gets no shard any more, and a shard that it owns moves off it. The cluster has one standby less."
            }
            Self::Undrain => "The coreapp may own shards again. Nothing moves by that.",
            Self::RetryCallbacks => {
                "The callbacks that were put aside are delivered to the business again."
            }
            Self::RetryEvents => {
                "The owners of the shards read the events once more that nobody could read."
            }
            Self::Failover => {
                "The owner is replaced, although nothing speaks against it. What it is sending at that moment may be sent twice."
            }
            Self::Forget => {
                "The node is taken out of the tables. If it is started again, it registers again."
            }
            Self::Ack => {
                "The shard may fail over again at once, although it did so too often lately."
            }
            Self::AckServer => {
                "You say that nobody acts by what the former database server granted. If somebody does, two coreapps may send for one shard."
            }
            Self::Adopt => {
                "The cluster goes on with an older database. Messages that were sent after it was saved may be sent twice."
            }
            Self::RevokeTokens => "The tokens end on all webapps. Whoever used them logs in again.",
            Self::PurgeCallbacks => {
                "The callbacks are deleted for good: the business is never told of them."
            }
        }
    }

    /// What a wrong one costs, as masters judge it.
    pub fn risk(self) -> Risk {
        match self {
            Self::Pause
            | Self::Resume
            | Self::Switchover
            | Self::CancelSwitchover
            | Self::Drain
            | Self::Undrain
            | Self::RetryCallbacks
            | Self::RetryEvents => Risk::Safe,
            Self::Failover
            | Self::Forget
            | Self::Ack
            | Self::AckServer
            | Self::Adopt
            | Self::RevokeTokens
            | Self::PurgeCallbacks => Risk::Rest,
        }
    }

    /// The page that it belongs to.
    pub fn page(self) -> Page {
        match self {
            Self::RetryCallbacks | Self::RetryEvents | Self::PurgeCallbacks => Page::Messages,
            Self::RevokeTokens => Page::Settings,
            Self::Pause
            | Self::Resume
            | Self::Switchover
            | Self::CancelSwitchover
            | Self::Drain
            | Self::Undrain
            | Self::Failover
            | Self::Forget
            | Self::Ack
            | Self::AckServer
            | Self::Adopt => Page::Cluster,
        }
    }
}

/// What an address or a form says of an act. Empty: nothing.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Given {
    pub act: String,
    pub shard: String,
    pub node: String,
    pub minutes: String,
    pub id: String,
    pub upto: String,
    pub event: String,
    pub user: String,
    pub token: String,
    pub reason: String,
    pub form: String,
}

/// What is asked of the primary master.
#[derive(Debug, Clone, PartialEq)]
pub enum Call {
    Verb(Verb),
    Switchover(SwitchoverRequest),
    Parked(Wish),
}

impl Call {
    /// What a wrong one costs.
    #[cfg(test)]
    pub fn risk(&self) -> Risk {
        use crate::api::act::{Act as _, risk_of};
        match self {
            Self::Verb(verb) => risk_of(verb),
            Self::Switchover(wish) => wish.risk(),
            Self::Parked(wish) => wish.risk(),
        }
    }
}

/// A field that must be there.
fn need<'a>(name: &str, value: &'a str) -> Result<&'a str, String> {
    match value.trim() {
        "" => Err(format!(
            "The address or the form lacks {name}. Nothing was done. Go back to the page of the cluster, and choose the act there."
        )),
        value => Ok(value),
    }
}

/// A number that must fit.
fn number<T: std::str::FromStr>(name: &str, value: &str) -> Result<T, String> {
    let value = need(name, value)?;
    value.parse().map_err(|_| {
        format!("{name} is {value:?}, which is no number that fits. Nothing was done. Write digits only.")
    })
}

/// A field that may be there.
fn may(value: &str) -> Option<String> {
    let value = value.trim();
    (!value.is_empty()).then(|| value.to_owned())
}

impl Given {
    /// The act that is meant, and what is asked for it.
    ///
    /// # Errors
    /// A sentence on what is missing or wrong.
    pub fn read(&self) -> Result<(Act, Call), String> {
        let name = need("act", &self.act)?;
        let act = Act::ALL.into_iter().find(|act| act.name() == name);
        let act = act.ok_or_else(|| {
            format!("There is no act {name:?}. Nothing was done. Go back to the page of the cluster, and choose the act there.")
        })?;
        Ok((act, self.call(act)?))
    }

    fn call(&self, act: Act) -> Result<Call, String> {
        let node = || need("node", &self.node).map(str::to_owned);
        Ok(match act {
            Act::Pause => Call::Verb(Verb::Pause {
                shard: self.any_shard()?,
                for_ms: Some(self.span_ms()?.ok_or("Say for how many minutes.")?),
            }),
            Act::Resume => Call::Verb(Verb::Pause {
                shard: self.any_shard()?,
                for_ms: None,
            }),
            Act::Switchover => Call::Switchover(SwitchoverRequest {
                shard: number("shard", &self.shard)?,
                to: may(&self.node),
                in_ms: self.span_ms()?,
                ..SwitchoverRequest::default()
            }),
            Act::CancelSwitchover => Call::Switchover(SwitchoverRequest {
                shard: number("shard", &self.shard)?,
                cancel: true,
                ..SwitchoverRequest::default()
            }),
            Act::Drain => Call::Verb(Verb::Drain {
                node: node()?,
                on: true,
            }),
            Act::Undrain => Call::Verb(Verb::Drain {
                node: node()?,
                on: false,
            }),
            Act::RetryCallbacks => self.parked(What::Retry)?,
            Act::PurgeCallbacks => self.parked(What::Purge)?,
            Act::RetryEvents => Call::Verb(Verb::RetryEvents {
                key: may(&self.event),
            }),
            Act::Failover => Call::Verb(Verb::Failover {
                shard: number("shard", &self.shard)?,
                to: may(&self.node),
            }),
            Act::Forget => Call::Verb(Verb::Forget { node: node()? }),
            Act::Ack => Call::Verb(Verb::Ack {
                shard: number("shard", &self.shard)?,
            }),
            Act::AckServer => Call::Verb(Verb::AckServer),
            Act::Adopt => Call::Verb(Verb::Adopt),
            Act::RevokeTokens => Call::Verb(Verb::RevokeTokens {
                user: need("user", &self.user)?.to_owned(),
                token: may(&self.token),
            }),
        })
    }

    fn any_shard(&self) -> Result<Option<u16>, String> {
        match may(&self.shard) {
            None => Ok(None),
            Some(shard) => number("shard", &shard).map(Some),
        }
    }

    /// The minutes, in milliseconds.
    fn span_ms(&self) -> Result<Option<u64>, String> {
        let Some(minutes) = may(&self.minutes) else {
            return Ok(None);
        };
        let minutes: u64 = number("minutes", &minutes)?;
        let longest = StoredPause::LONGEST_MS / 60_000;
        if !(1..=longest).contains(&minutes) {
            return Err(format!(
                "minutes is {minutes}. Nothing was done. Write 1 to {longest}."
            ));
        }
        let span = Duration::from_secs(minutes * 60);
        Ok(Some(u64::try_from(span.as_millis()).unwrap_or(u64::MAX)))
    }

    fn parked(&self, what: What) -> Result<Call, String> {
        let one = may(&self.id).map(|id| number("id", &id)).transpose()?;
        let upto = may(&self.upto).map(|upto| number("upto", &upto));
        Ok(Call::Parked(Wish {
            what,
            ids: one.into_iter().collect(),
            upto: upto.transpose()?,
            dry_run: true,
            reason: None,
            by: None,
        }))
    }

    /// What there is to say of it, by name; not who may send it, and not why.
    pub fn fields(&self) -> Vec<(&'static str, &str)> {
        let all = [
            ("act", &self.act),
            ("shard", &self.shard),
            ("node", &self.node),
            ("minutes", &self.minutes),
            ("id", &self.id),
            ("upto", &self.upto),
            ("event", &self.event),
            ("user", &self.user),
            ("token", &self.token),
        ];
        let said = all.into_iter().map(|(name, value)| (name, value.trim()));
        said.filter(|(_, value)| !value.is_empty()).collect()
    }

    /// What it is about, for people and for the audit.
    pub fn about(&self) -> String {
        let about = self.fields().into_iter().filter(|(name, _)| *name != "act");
        let about: Vec<String> = about
            .map(|(name, value)| format!("{name} {value}"))
            .collect();
        about.join(", ")
    }
}

/// What somebody who looks may do here.
#[derive(Debug, Clone, Copy)]
pub struct May {
    acts: Acts,
    pub tongue: Tongue,
}

impl May {
    /// By his role, and by the setting of this webapp.
    pub fn of(webapp: &Webapp, visitor: &Visitor) -> Self {
        let acts = match visitor.caller.admin {
            true => webapp.settings.console.acts,
            false => Acts::None,
        };
        Self {
            acts,
            tongue: visitor.tongue,
        }
    }

    /// This act is offered to him.
    pub fn act(self, act: Act) -> bool {
        self.acts.allow(act.risk())
    }

    /// The way to the page of an act; nothing where it is not offered.
    pub fn link(self, act: Act, fields: &[(&str, &str)]) -> Markup {
        if !self.act(act) {
            return html! {};
        }
        let mut query = url::form_urlencoded::Serializer::new(String::new());
        let query = query.append_pair("act", act.name()).extend_pairs(fields);
        let label = self.tongue.say(act.label());
        let about: Vec<&str> = fields.iter().map(|(_, value)| *value).collect();
        let name = format!("{label} {}", about.join(" "));
        html! {
            a.act-link href=(format!("{PATH}?{}", query.finish())) aria-label=(name.trim_end()) { (label) }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    fn full(act: &str) -> Given {
        Given {
            act: act.into(),
            shard: "3".into(),
            node: " a:coreapp-1 ".into(),
            minutes: "30".into(),
            id: "7".into(),
            upto: "9".into(),
            user: "bot1".into(),
            ..Given::default()
        }
    }

    /// Goal: buttons follow the same table as masters, act by act. Method: every act, as it is asked for.
    #[test]
    fn buttons_follow_the_masters_table() {
        let mut seen = BTreeSet::new();
        for act in Act::ALL {
            let (read, call) = full(act.name()).read().expect("whole");
            assert_eq!((read, call.risk()), (act, act.risk()), "{}", act.name());
            assert!(seen.insert(act.consequence()) && seen.insert(act.name()));
            for acts in [Acts::None, Acts::Safe, Acts::All] {
                let may = May {
                    acts,
                    tongue: Tongue::English,
                };
                let link = may.link(act, &[("node", "<b>&")]).into_string();
                assert_eq!(!link.is_empty(), acts.allow(call.risk()), "{link}");
                assert!(!link.contains("<b>"), "{link}");
            }
        }
    }

    /// Goal: what is asked is what the page says. Method: acts with their fields.
    #[test]
    fn fields_become_calls() {
        let (_, call) = full("pause").read().expect("whole");
        let for_ms = Some(1_800_000);
        let shard = Some(3);
        assert_eq!(call, Call::Verb(Verb::Pause { shard, for_ms }));
        let (_, call) = full("drain").read().expect("whole");
        let node = "a:coreapp-1".to_owned();
        assert_eq!(call, Call::Verb(Verb::Drain { node, on: true }));
        let Ok((_, Call::Parked(wish))) = full("purge-callbacks").read() else {
            panic!("not read");
        };
        assert_eq!(
            (wish.ids, wish.upto, wish.what),
            (vec![7], Some(9), What::Purge)
        );
        assert_eq!(
            full("drain").about(),
            "shard 3, node a:coreapp-1, minutes 30, id 7, upto 9, user bot1"
        );
    }

    /// Goal: what is missing or wrong is said, with its name; nothing panics. Method: a table.
    #[test]
    fn wrong_fields_are_named() {
        let given = |act: &str, shard: &str, node: &str, minutes: &str, id: &str| Given {
            act: act.into(),
            shard: shard.into(),
            node: node.into(),
            minutes: minutes.into(),
            id: id.into(),
            ..Given::default()
        };
        for (given, said) in [
            (Given::default(), "lacks act"),
            (given("reboot", "", "", "", ""), "no act \"reboot\""),
            (given("pause", "", "", "", ""), "how many minutes"),
            (given("pause", "", "", "0", ""), "Write 1 to 1440"),
            (
                given("pause", "", "", "99999999999999999999", ""),
                "no number",
            ),
            (given("pause", "-1", "", "5", ""), "shard is \"-1\""),
            (given("switchover", "", "", "", ""), "lacks shard"),
            (given("switchover", "65536", "", "", ""), "no number"),
            (given("drain", "", " ", "", ""), "lacks node"),
            (given("revoke-tokens", "", "", "", ""), "lacks user"),
            (given("retry-callbacks", "", "", "", "x"), "id is \"x\""),
        ] {
            let why = given.read().expect_err(said);
            assert!(why.contains(said), "{why}");
        }
    }
}
