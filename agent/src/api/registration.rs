//! The registration of the number, as nodes store it and speak of it: the intent's row, what an owner is asked, what comes of it.
//! Decides nothing: `wa_core::registration` does.

use serde::{Deserialize, Serialize};
use wa_core::id::{Epoch, Grant};
use wa_core::registration::{Call, Claim, Intent, Pin, Step, Wish};

use super::v1::code::Code;

/// A text that no log line shows: a pin, a code, a password.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Hidden(pub String);

impl std::fmt::Debug for Hidden {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Hidden")
    }
}

/// How a code comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CodeMethod {
    Sms,
    Voice,
}

/// A backup of the reference client, which the upstream takes with a registration.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Backup {
    pub password: Hidden,
    pub data: Hidden,
}

/// Begin the registration, for the attempt that the primary master admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Asked {
    pub attempt: u64,
    pub method: CodeMethod,
    /// The number that was named, in digits, where the webapp does not know ours.
    pub number: Option<String>,
    pub pin: Option<Hidden>,
}

/// Finish it with a code, for the attempt that the primary master admitted.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verified {
    pub attempt: u64,
    pub code: Hidden,
    pub pin: Option<Hidden>,
    pub backup: Option<Backup>,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Outcome {
    Registered,
    /// A code is on its way; the name that the upstream shows.
    CodeSent {
        vname: String,
    },
    /// It came to nothing, or nobody knows.
    Failed {
        code: Code,
        details: String,
        retry_after_s: Option<u32>,
    },
}

/// The words of [`Step`].
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum StepWord {
    #[default]
    Idle,
    Admitted,
    Calling,
    CodeSent,
    Done,
    Refused,
    NotMade,
    Unknown,
}

/// The words of [`Wish`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum WishWord {
    Ask,
    Verify,
}

/// The words of [`Call`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum CallWord {
    RequestCode,
    VerifyCode,
    Register,
}

impl From<Call> for CallWord {
    fn from(call: Call) -> Self {
        match call {
            Call::RequestCode => Self::RequestCode,
            Call::VerifyCode => Self::VerifyCode,
            Call::Register => Self::Register,
        }
    }
}

impl From<CallWord> for Call {
    fn from(word: CallWord) -> Self {
        match word {
            CallWord::RequestCode => Self::RequestCode,
            CallWord::VerifyCode => Self::VerifyCode,
            CallWord::Register => Self::Register,
        }
    }
}

/// The intent as its row holds it. Fields that a step does not have are left out.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct StoredIntent {
    #[serde(default)]
    attempt: u64,
    #[serde(default)]
    step: StepWord,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    wish: Option<WishWord>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    call: Option<CallWord>,
    #[serde(default)]
    epoch: u64,
    #[serde(default)]
    grant: u64,
    #[serde(default)]
    vendor: u32,
    #[serde(default)]
    at_ms: u64,
    /// Sealed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pin: Option<String>,
    #[serde(default)]
    pin_at_ms: u64,
}

impl From<&Intent> for StoredIntent {
    fn from(intent: &Intent) -> Self {
        let at = |step| Self {
            attempt: intent.attempt,
            step,
            at_ms: intent.at_ms,
            pin: intent.pin.as_ref().map(|pin| pin.sealed.clone()),
            pin_at_ms: intent.pin.as_ref().map_or(0, |pin| pin.at_ms),
            ..Self::default()
        };
        let with = |step, call: Call| Self {
            call: Some(call.into()),
            ..at(step)
        };
        match intent.step {
            Step::Idle => at(StepWord::Idle),
            Step::Admitted { wish } => Self {
                wish: Some(match wish {
                    Wish::Ask => WishWord::Ask,
                    Wish::Verify => WishWord::Verify,
                }),
                ..at(StepWord::Admitted)
            },
            Step::Calling { call, by } => Self {
                epoch: by.epoch.0,
                grant: by.grant.0,
                ..with(StepWord::Calling, call)
            },
            Step::CodeSent => at(StepWord::CodeSent),
            Step::Done => at(StepWord::Done),
            Step::Refused { call, vendor } => Self {
                vendor,
                ..with(StepWord::Refused, call)
            },
            Step::NotMade { call } => with(StepWord::NotMade, call),
            Step::Unknown { call } => with(StepWord::Unknown, call),
        }
    }
}

impl StoredIntent {
    /// As the core reads it; `None`: the row contradicts itself.
    pub fn intent(&self) -> Option<Intent> {
        let call = self.call.map(Call::from);
        let step = match self.step {
            StepWord::Idle => Step::Idle,
            StepWord::Admitted => Step::Admitted {
                wish: match self.wish? {
                    WishWord::Ask => Wish::Ask,
                    WishWord::Verify => Wish::Verify,
                },
            },
            StepWord::Calling => Step::Calling {
                call: call?,
                by: Claim {
                    epoch: Epoch(self.epoch),
                    grant: Grant(self.grant),
                },
            },
            StepWord::CodeSent => Step::CodeSent,
            StepWord::Done => Step::Done,
            StepWord::Refused => Step::Refused {
                call: call?,
                vendor: self.vendor,
            },
            StepWord::NotMade => Step::NotMade { call: call? },
            StepWord::Unknown => Step::Unknown { call: call? },
        };
        Some(Intent {
            attempt: self.attempt,
            step,
            at_ms: self.at_ms,
            pin: self.pin.clone().map(|sealed| Pin {
                sealed,
                at_ms: self.pin_at_ms,
            }),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what is written is read back, and no log shows a secret. Method: every step, with and without a pin.
    #[test]
    fn every_step_is_stored_and_read() {
        let call = Call::Register;
        let by = Claim {
            epoch: Epoch(u64::MAX >> 1),
            grant: Grant(8),
        };
        for step in [
            Step::Idle,
            Step::Admitted { wish: Wish::Ask },
            Step::Admitted { wish: Wish::Verify },
            Step::Calling { call, by },
            Step::CodeSent,
            Step::Done,
            Step::Refused {
                call: Call::VerifyCode,
                vendor: 136_025,
            },
            Step::NotMade {
                call: Call::RequestCode,
            },
            Step::Unknown { call },
        ] {
            for pin in [None, Some("v1.k.n.c")] {
                let intent = Intent {
                    attempt: 7,
                    step,
                    at_ms: 1_800_000_000_000,
                    pin: pin.map(|sealed| Pin {
                        sealed: sealed.into(),
                        at_ms: 5,
                    }),
                };
                let text = serde_json::to_string(&StoredIntent::from(&intent)).expect("plain");
                let read: StoredIntent = serde_json::from_str(&text).expect("what was written");
                assert_eq!(read.intent(), Some(intent), "{text}");
            }
        }
        let torn: StoredIntent = serde_json::from_str(r#"{"step":"calling"}"#).expect("JSON");
        assert_eq!(torn.intent(), None);
        assert!(serde_json::from_str::<StoredIntent>(r#"{"step":"of_tomorrow"}"#).is_err());
        assert_eq!(format!("{:?}", Hidden("123456".into())), "Hidden");
    }
}
