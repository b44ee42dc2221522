//! Why a message is not sent: the words between those who prepare it and those who send.
//! Decides nothing.

use crate::api::error::ErrorObject;

/// Why a message cannot be sent now, or ever.
#[derive(Debug, Clone)]
pub enum Unsent {
    /// The message that it names is not sent yet: it goes first.
    Behind,
    /// The intake is held for a handover: the next owner sends it.
    Held,
    /// Its file is on the way: in a moment.
    Waiting,
    /// Directory, database or upstream: later.
    Later(String),
    /// The server of a link: later, some times.
    Link(String),
    /// There is no way to the upstream from here, for any message.
    Unreached(String),
    /// What the business is told.
    Never(ErrorObject),
}
