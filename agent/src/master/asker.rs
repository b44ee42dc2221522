//! Who asked for what touches secrets: the administrator's token, which the master looks up in its own database.
//! The credential of calls between nodes does not count here: it follows from a webapp's key file, which opens no secret.

use sha2::{Digest as _, Sha256};

use crate::api::served::Served;
use crate::api::v1::code::Code;
use crate::db::{Db, DbError};

/// A token as the table of tokens has it.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// What the client of a token is told that is nobody's.
pub const NO_TOKEN: &str = "The token is not valid any more; log in again";

/// Whose token it is, as the database knows it now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Holder {
    /// Of the administrator with this name.
    Administrator(String),
    /// Of a user with this name who may only look.
    User(String),
    /// It is unknown, has ended, or its user is gone.
    Nobody,
}

impl Holder {
    /// The administrator's name; else what the client is told.
    pub fn administrator(self) -> Result<String, &'static str> {
        match self {
            Self::Administrator(name) => Ok(name),
            Self::User(_) => Err("Only the administrator may do this"),
            Self::Nobody => Err(NO_TOKEN),
        }
    }
}

/// Whose token this is.
///
/// # Errors
/// When the database does not answer.
pub async fn holder(db: &Db, token_hash: &str) -> Result<Holder, DbError> {
    Ok(match db.token_user(token_hash).await? {
        Some(holder) if holder.admin => Holder::Administrator(holder.username),
        Some(holder) => Holder::User(holder.username),
        None => Holder::Nobody,
    })
}

/// The user of a token that is good now and the administrator's; else what the client is told.
///
/// # Errors
/// When the database does not answer.
pub async fn administrator(db: &Db, token_hash: &str) -> Result<Result<String, Served>, DbError> {
    let found = holder(db, token_hash).await?.administrator();
    Ok(found.map_err(|why| Served::refused(Code::AccessDenied, why)))
}

#[cfg(test)]
#[path = "asker_tests.rs"]
mod tests;
