//! Who a message is for. Today a phone number only.

use serde::{Deserialize, Serialize};

use super::contact::wa_id;
use super::message::form::Form;

/// A recipient, as it is stored and routed.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Recipient {
    /// A WhatsApp id: digits only.
    Phone(String),
}

impl Recipient {
    /// Reads what a client wrote; `None`: nobody can be meant.
    pub fn parse(input: &str) -> Option<Self> {
        wa_id(input).map(Self::Phone)
    }

    /// The first form that can hold it.
    pub fn since(&self) -> Form {
        match self {
            Self::Phone(_) => Form::One,
        }
    }

    /// Its text in the column `recipient`, in answers and callbacks; its hash decides the shard.
    pub fn as_str(&self) -> &str {
        match self {
            Self::Phone(digits) => digits,
        }
    }

    /// It is this number.
    pub fn is_phone(&self, digits: &str) -> bool {
        match self {
            Self::Phone(own) => own == digits,
        }
    }
}
