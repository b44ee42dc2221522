//! What the coreapp of these tests says to calls that store nothing.

use wa_core::registration::Call;

use crate::api::cloud::registration::refused;
use crate::api::owner::{OwnerCall, Settled, Told};
use crate::api::registration::Outcome;
use crate::api::v1::business::{Compliance, Profile};
use crate::api::v1::code::Code;

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
        | OwnerCall::TwoStep { .. }
        | OwnerCall::FetchMedium { .. }
        | OwnerCall::ChangeProfile { .. }
        | OwnerCall::ChangeCompliance { .. }
        | OwnerCall::ChangePhoto { .. }
        | OwnerCall::Block { .. }
        | OwnerCall::Unblock { .. } => Settled::Done,
        OwnerCall::ReadProfile => told(Told::Profile(Profile::default())),
        OwnerCall::ReadCompliance => told(Told::Compliance(Compliance::default())),
        OwnerCall::ReadPhoto => Settled::Refused {
            code: Code::NotFound,
            details: "none".into(),
        },
    }
}

fn told(told: Told) -> Settled {
    Settled::Told(Box::new(told))
}
