//! What customers see of the business, whom it blocked, and the uploads that its photo comes from.
//! Sends and their webhooks know only who is blocked.

pub mod block;
mod entry;
pub mod kept;
pub mod photo;
pub mod profile;
