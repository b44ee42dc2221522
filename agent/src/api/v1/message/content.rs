//! What a message carries: a closed list, matched without a rest. A new type is a variant here, and the compiler names every
//! place that has to know it.

use serde::{Deserialize, Serialize};

use super::form::Form;
use super::location::Location;
use super::media::{Attachment, FileId, MediaKind, Source};
use super::text::Text;
use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// The types of messages that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Media(MediaKind),
    Location,
}

impl Kind {
    /// Reads a message type; `None`: not one that is sent.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "location" => Some(Self::Location),
            other => MediaKind::parse(other).map(Self::Media),
        }
    }

    /// The message type, which is also the name of its object and the value of the column `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Media(kind) => kind.as_str(),
            Self::Location => "location",
        }
    }

    /// The first form that has it: a node that reads older ones only knows no message of this type.
    pub fn since(self) -> Form {
        match self {
            Self::Text | Self::Media(_) => Form::One,
            Self::Location => Form::Three,
        }
    }
}

/// The content of a message, by its type. The file of a type has its stored form, too.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Content {
    Text(Text),
    Media(Attachment),
    Location(Location),
}

impl Content {
    /// Reads the object that bears the type's name.
    ///
    /// # Errors
    /// The documented code of what is wrong.
    pub fn parse(kind: Kind, object: &mut Fields) -> Result<Self, ApiError> {
        Ok(match kind {
            Kind::Text => Self::Text(Text::parse(object)?),
            Kind::Media(kind) => Self::Media(Attachment::parse(kind, object)?),
            Kind::Location => Self::Location(Location::parse(object)?),
        })
    }

    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Media(attachment) => Kind::Media(attachment.kind),
            Self::Location(_) => Kind::Location,
        }
    }

    /// Files of ours that the upstream must have before the message, each with what it is used as.
    pub fn files(&self) -> Vec<(MediaKind, &FileId)> {
        match self {
            Self::Text(_) | Self::Location(_) => Vec::new(),
            Self::Media(attachment) => match &attachment.source {
                Source::Id(file) => vec![(attachment.kind, file)],
                Source::Link(_) => Vec::new(),
            },
        }
    }
}
