//! What a send says, as far as the simulator plays it.
//! Keeps no text: only whom, which files, and which template.

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Asked {
    Message(Box<Sent>),
    /// An inbound message was read.
    Read {
        message_id: String,
    },
}

/// A message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Sent {
    pub to: Recipient,
    /// Opaque data of the sender.
    pub opaque: String,
    /// The type, as it was written.
    pub kind: String,
    pub files: Vec<File>,
    /// The message that a reaction is about.
    pub reacts_to: Option<String>,
    pub template: Option<Template>,
    /// The identity key that the recipient must have.
    pub identity: Option<String>,
}

impl Sent {
    /// The message's id in its opaque data: what stands before the first dot.
    pub fn id(&self) -> &str {
        self.opaque.split('.').next().unwrap_or_default()
    }
}

/// For whom it is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Recipient {
    /// A phone number: as written, and its digits.
    Number {
        input: String,
        digits: String,
    },
    /// A business-scoped user id.
    User(String),
    Group(String),
    /// Something in `to` that is no number. The vendor takes it, and nobody ever gets it.
    Nobody {
        input: String,
        digits: String,
    },
}

impl Recipient {
    /// What limits are counted by.
    pub fn key(&self) -> &str {
        match self {
            Self::Number { digits, .. } => digits,
            Self::User(id) | Self::Group(id) => id,
            Self::Nobody { input, .. } => input,
        }
    }
}

/// A file that was uploaded before, and what for it is used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct File {
    pub id: String,
    pub kind: Kind,
}

/// What a file is used for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Kind {
    Image,
    Video,
    Audio,
    /// Audio that is shown as recorded in the chat.
    Voice,
    Document,
    Sticker,
}

impl Kind {
    /// The kind that an object's name says.
    pub fn of(name: &str) -> Option<Self> {
        match name {
            "image" => Some(Self::Image),
            "video" | "gif" => Some(Self::Video),
            "audio" => Some(Self::Audio),
            "document" => Some(Self::Document),
            "sticker" => Some(Self::Sticker),
            _ => None,
        }
    }

    /// A file of this type can be used so.
    pub fn takes(self, mime: &str) -> bool {
        let essence = mime.split(';').next().unwrap_or_default().trim();
        match self {
            Self::Image => matches!(essence, "image/jpeg" | "image/png"),
            Self::Video => matches!(essence, "video/mp4" | "video/3gpp"),
            Self::Audio => essence.starts_with("audio/"),
            Self::Voice => essence == "audio/ogg",
            Self::Document => true,
            Self::Sticker => essence == "image/webp",
        }
    }
}

/// A template and what is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Template {
    pub name: String,
    pub language: String,
    pub parts: Parts,
}

/// The components of a template, or of one of its cards.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Parts {
    pub header: Option<Parameter>,
    pub body: Vec<Parameter>,
    pub buttons: Vec<Button>,
    /// It says until when an offer is good.
    pub offer: bool,
    pub cards: Vec<Self>,
}

/// One value that is filled in.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Parameter {
    /// `text`, `currency`, `image` …
    pub kind: String,
    /// Its name, when it has one.
    pub name: Option<String>,
    /// What stands in the message is so long.
    pub chars: usize,
    /// It has line breaks, tabs, or more than four blanks in a row.
    pub ragged: bool,
}

/// What is filled into a button.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Button {
    pub sub_type: String,
    pub index: usize,
}
