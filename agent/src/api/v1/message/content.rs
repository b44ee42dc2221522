//! What a message carries: a closed list, matched without a rest. A new type is a variant here, and the compiler names every
//! place that has to know it.

use std::borrow::Cow;

use serde::{Deserialize, Serialize};

use super::contacts::Contacts;
use super::form::Form;
use super::hsm::Hsm;
use super::interactive::Interactive;
use super::location::Location;
use super::media::{Attachment, MediaKind, Source};
use super::reaction::Reaction;
use super::template::Template;
use super::text::Text;
use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// The types of messages that are sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Text,
    Media(MediaKind),
    Location,
    Contacts,
    Template,
    Hsm,
    Interactive,
    Reaction,
}

impl Kind {
    /// Reads a message type; `None`: not one that is sent.
    pub fn parse(word: &str) -> Option<Self> {
        match word {
            "text" => Some(Self::Text),
            "location" => Some(Self::Location),
            "contacts" => Some(Self::Contacts),
            "template" => Some(Self::Template),
            "hsm" => Some(Self::Hsm),
            "interactive" => Some(Self::Interactive),
            "reaction" => Some(Self::Reaction),
            other => MediaKind::parse(other).map(Self::Media),
        }
    }

    /// The message type, which is also the name of its object and the value of the column `kind`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Text => "text",
            Self::Media(kind) => kind.as_str(),
            Self::Location => "location",
            Self::Contacts => "contacts",
            Self::Template => "template",
            Self::Hsm => "hsm",
            Self::Interactive => "interactive",
            Self::Reaction => "reaction",
        }
    }

    /// The first form that has it: a node that reads older ones only knows no message of this type.
    pub fn since(self) -> Form {
        match self {
            Self::Media(MediaKind::Voice)
            | Self::Location
            | Self::Contacts
            | Self::Template
            | Self::Hsm
            | Self::Interactive
            | Self::Reaction => Form::Three,
            Self::Text | Self::Media(_) => Form::One,
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
    Contacts(Contacts),
    Template(Template),
    Hsm(Hsm),
    Interactive(Interactive),
    Reaction(Reaction),
}

impl Content {
    /// Reads the field of the body that bears the type's name.
    ///
    /// # Errors
    /// The documented code of what is wrong.
    pub fn parse(kind: Kind, body: &mut Fields) -> Result<Self, ApiError> {
        Ok(match kind {
            Kind::Text => Self::Text(Text::parse(&mut body.need_object("text")?)?),
            Kind::Media(kind) => {
                let mut object = body.need_object(kind.as_str())?;
                Self::Media(Attachment::parse(kind, &mut object)?)
            }
            Kind::Location => Self::Location(Location::parse(&mut body.need_object("location")?)?),
            Kind::Contacts => Self::Contacts(Contacts::parse(body)?),
            Kind::Template => Self::Template(Template::parse(body)?),
            Kind::Hsm => Self::Hsm(Hsm::parse(body)?),
            Kind::Interactive => Self::Interactive(Interactive::parse(body)?),
            Kind::Reaction => Self::Reaction(Reaction::parse(body)?),
        })
    }

    /// The first form that can hold it.
    pub fn since(&self) -> Form {
        let provided =
            |(_, source): &(MediaKind, &Source)| matches!(source, Source::Provided { .. });
        match self.sources().iter().any(provided) {
            true => Form::Three,
            false => self.kind().since(),
        }
    }

    /// Its type.
    pub fn kind(&self) -> Kind {
        match self {
            Self::Text(_) => Kind::Text,
            Self::Media(attachment) => Kind::Media(attachment.kind),
            Self::Location(_) => Kind::Location,
            Self::Contacts(_) => Kind::Contacts,
            Self::Template(_) => Kind::Template,
            Self::Hsm(_) => Kind::Hsm,
            Self::Interactive(_) => Kind::Interactive,
            Self::Reaction(_) => Kind::Reaction,
        }
    }

    /// Files that it names, wherever they stand, each with what it is used as.
    pub fn sources(&self) -> Vec<(MediaKind, &Source)> {
        match self {
            Self::Media(attachment) => vec![(attachment.kind, &attachment.source)],
            Self::Template(template) => template.sources(),
            Self::Text(_)
            | Self::Location(_)
            | Self::Contacts(_)
            | Self::Hsm(_)
            | Self::Reaction(_) => Vec::new(),
            Self::Interactive(interactive) => {
                let files = interactive.files().iter();
                files
                    .map(|placed| (placed.file.kind, &placed.file.source))
                    .collect()
            }
        }
    }

    /// It asks for another language where its own is missing, which the upstream does not do.
    pub fn falls_back(&self) -> bool {
        matches!(self, Self::Hsm(hsm) if hsm.fallback)
    }

    /// The template that it fills.
    pub fn template(&self) -> Option<Cow<'_, Template>> {
        match self {
            Self::Template(template) => Some(Cow::Borrowed(template)),
            Self::Hsm(hsm) => Some(Cow::Owned(hsm.template())),
            Self::Text(_)
            | Self::Media(_)
            | Self::Location(_)
            | Self::Contacts(_)
            | Self::Interactive(_)
            | Self::Reaction(_) => None,
        }
    }
}
