//! What the coreapp of these tests says to calls that store nothing.

use wa_core::registration::Call;

use crate::api::cloud::registration::refused;
use crate::api::owner::{OwnerCall, Settled};
use crate::api::registration::Outcome;

pub fn settled(call: OwnerCall) -> Settled {
    match call {
        OwnerCall::AskRegistration(asked) => Settled::Registration(match asked.pin {
            Some(_) => Outcome::Registered,
            None => Outcome::CodeSent {
                vname: format!("Example Ltd {}", asked.attempt),
            },
        }),
        OwnerCall::VerifyRegistration(with) => Settled::Registration(match &*with.code.0 {
            "123456" => Outcome::Registered,
            _ => refused(Call::Register, 133_016, "too often"),
        }),
        OwnerCall::Accept { .. }
        | OwnerCall::MarkRead { .. }
        | OwnerCall::LookUpTemplate { .. }
        | OwnerCall::TwoStep { .. } => Settled::Done,
    }
}
