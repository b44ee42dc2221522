//! The numbers of the forms in which messages are stored. What each of them is: `stored.rs`.

/// The forms that there have been.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Form {
    /// Without what the client typed as the recipient. Rows of before there were forms were converted into it.
    One,
    /// With it.
    Two,
    /// As two, with the types of messages and recipients that came later ([`super::Message::since`]), and with whether a
    /// number was typed as an international one.
    Three,
}

/// All of them, oldest first.
pub const ALL: [Form; 3] = [Form::One, Form::Two, Form::Three];

/// A number that is no form: a coreapp that says it (`node_form`) reads the forms below it, and knows that rows of finished messages
/// keep only what their later callbacks repeat. The next form is number 5.
pub const BLANKED: u16 = 4;

/// What a coreapp of this build says that it reads.
pub const SAID: u16 = if cfg!(feature = "previous") {
    1
} else {
    BLANKED
};

impl Form {
    /// The newest one that this build reads and writes.
    pub const NEWEST: Self = if cfg!(feature = "previous") {
        Self::One
    } else {
        Self::Three
    };

    /// Its number in rows and calls.
    pub fn number(self) -> u16 {
        match self {
            Self::One => 1,
            Self::Two => 2,
            Self::Three => 3,
        }
    }

    /// The form of a number; `None`: this build cannot read it.
    pub fn of(number: u16) -> Option<Self> {
        let mut readable = ALL.into_iter().filter(|form| *form <= Self::NEWEST);
        readable.find(|form| form.number() == number)
    }
}
