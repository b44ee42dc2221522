//! What a webapp asks of the owner of a shard: one enum of calls, one of answers. Types only.
//! Nothing here is public; who calls whom and how often is decided in `webapp/owner.rs`, what is done in `coreapp/serve.rs`.

use serde::{Deserialize, Serialize};

use super::registration::{self, Hidden};
use super::v1::business::{Compliance, Profile, ProfileChange};
use super::v1::code::Code;
use super::v1::photo::Photo;
use super::v1::who::Recipient;

/// POST [`OwnerRequest`] → [`OwnerAnswer`], on a coreapp's API port.
pub const PATH: &str = "/internal/owner";

/// A call, and whom it is meant for: a coreapp that is not the owner of this shard answers [`Setback::NotOwner`].
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct OwnerRequest {
    pub shard: u16,
    pub generation: u32,
    /// The epoch that the webapp's shard map shows; a coreapp that has not got there yet is not the owner.
    pub epoch: u64,
    pub call: OwnerCall,
}

/// Everything that only an owner does.
#[derive(Debug, Clone, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerCall {
    /// Store messages and send them.
    Accept {
        messages: Vec<Message>,
    },
    /// Mark an inbound message as read. The shard plays no part: every owner has the number.
    MarkRead {
        wamid: String,
    },
    /// Ask the upstream for the templates of this name, and keep what it says.
    LookUpTemplate {
        name: String,
    },
    /// Bring a customer's file here which only the upstream has, by our id of it. The shard plays no part.
    FetchMedium {
        id: String,
    },
    /// The business profile.
    ReadProfile,
    /// Change what is named of the business profile.
    ChangeProfile {
        change: ProfileChange,
    },
    ReadCompliance,
    ChangeCompliance {
        info: Compliance,
    },
    /// The photo of the profile, with its bytes.
    ReadPhoto,
    ChangePhoto {
        photo: Photo,
    },
    /// Take nothing of this customer any more.
    Block {
        who: Recipient,
    },
    Unblock {
        who: Recipient,
    },
    /// Register the number, or ask for a code. The first shard's owner only.
    AskRegistration(registration::Asked),
    /// Register the number with the code that came. The first shard's owner only.
    VerifyRegistration(registration::Verified),
    /// Set the pin of the two-step verification.
    TwoStep {
        pin: Hidden,
    },
}

/// Which owner a call is for, where a cluster has several.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Whom {
    /// Of the shard that the call is about, or any one where it is about none.
    Any,
    /// Of shard 0: what it remembers of the upstream's answers, it alone remembers and forgets.
    First,
}

/// Whether a call whose outcome nobody knows may be made once more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Repeat {
    /// Done twice it has done the same.
    Harmless,
    /// Done twice it has done more: only who knows that nothing was done may repeat it.
    Harmful,
}

impl OwnerCall {
    /// See [`Repeat`].
    pub fn repeat(&self) -> Repeat {
        match self {
            // Every message has its id before the first attempt, and the store takes an id once.
            Self::Accept { .. } => Repeat::Harmless,
            // It says the same once more.
            Self::MarkRead { .. } => Repeat::Harmless,
            // What is here already is not fetched again.
            Self::FetchMedium { .. } => Repeat::Harmless,
            // The upstream takes ten registrations in 72 hours.
            Self::AskRegistration(_) | Self::VerifyRegistration(_) => Repeat::Harmful,
            // It is the same pin once more.
            Self::TwoStep { .. } => Repeat::Harmless,
            // It is read, and read again.
            Self::LookUpTemplate { .. }
            | Self::ReadProfile
            | Self::ReadCompliance
            | Self::ReadPhoto => Repeat::Harmless,
            // It is the same value once more.
            Self::ChangeProfile { .. }
            | Self::ChangeCompliance { .. }
            | Self::ChangePhoto { .. }
            | Self::Block { .. }
            | Self::Unblock { .. } => Repeat::Harmless,
        }
    }

    /// See [`Whom`].
    pub fn whom(&self) -> Whom {
        match self {
            Self::Accept { .. }
            | Self::MarkRead { .. }
            | Self::LookUpTemplate { .. }
            | Self::FetchMedium { .. }
            | Self::Block { .. }
            | Self::Unblock { .. }
            | Self::TwoStep { .. } => Whom::Any,
            Self::ReadProfile
            | Self::ChangeProfile { .. }
            | Self::ReadCompliance
            | Self::ChangeCompliance { .. }
            | Self::ReadPhoto
            | Self::ChangePhoto { .. }
            | Self::AskRegistration(_)
            | Self::VerifyRegistration(_) => Whom::First,
        }
    }
}

/// A message that the webapp has checked, with the id that it minted.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct Message {
    pub id: String,
    pub recipient_hash: u32,
    /// Number of the form (`api/v1/message/stored.rs`) that `payload` is in.
    pub form: u16,
    pub payload: String,
}

/// What became of one message.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Acceptance {
    /// Stored by this call. Durable as the store is.
    Accepted,
    /// It was there before.
    Duplicate,
    /// Same id, other body.
    Conflict,
    /// This owner cannot tell: it does not read the message, or what is stored under its id. A newer release does; ask again.
    Unsettled,
}

/// The answer to a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum OwnerAnswer {
    Settled(Settled),
    /// Nothing was settled, for a reason that passes.
    Setback(Setback),
}

/// What came of a call.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Settled {
    /// To [`OwnerCall::Accept`]: one verdict a message, in order.
    Accepted { verdicts: Vec<Acceptance> },
    /// To calls that change something: it is done.
    Done,
    /// To calls that ask for something.
    Told(Box<Told>),
    /// The upstream refused; the `/v1` code, which is a number here too, and the upstream's words.
    Refused { code: Code, details: String },
    /// To the calls of a registration.
    Registration(registration::Outcome),
    /// The upstream did not answer in time. Who asked is told; nobody tries again by himself.
    Unreachable,
}

/// What a call asked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Told {
    Profile(Profile),
    Compliance(Compliance),
    Photo(Photo),
}

/// Why nothing was settled.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Setback {
    /// This node may not act for the shard (any more, or yet): read the shard map again. Nothing was done.
    NotOwner,
    /// Held for a handover that is under way, or too much is waiting. Nothing was done.
    Busy,
    /// The outcome is unknown: the store did not answer, or the call broke off.
    Unknown,
}

impl Setback {
    /// A call that met it may be made once more.
    pub fn may_repeat(self, repeat: Repeat) -> bool {
        match self {
            Self::NotOwner | Self::Busy => true,
            Self::Unknown => repeat == Repeat::Harmless,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: what may have been done is repeated only where that is harmless. Method: every pair.
    #[test]
    fn only_a_harmless_call_is_repeated_in_doubt() {
        for setback in [Setback::NotOwner, Setback::Busy] {
            assert!(setback.may_repeat(Repeat::Harmless) && setback.may_repeat(Repeat::Harmful));
        }
        assert!(Setback::Unknown.may_repeat(Repeat::Harmless));
        assert!(!Setback::Unknown.may_repeat(Repeat::Harmful));
    }
}
