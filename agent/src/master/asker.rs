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

/// The user of a token that is good now and the administrator's; else what the client is told.
///
/// # Errors
/// When the database does not answer.
pub async fn administrator(db: &Db, token_hash: &str) -> Result<Result<String, Served>, DbError> {
    let refused = |why: &str| Ok(Err(Served::refused(Code::AccessDenied, why)));
    match db.token_user(token_hash).await? {
        Some(holder) if holder.admin => Ok(Ok(holder.username)),
        Some(_) => refused("Only the administrator may do this"),
        None => refused("The token is not valid any more; log in again"),
    }
}

#[cfg(test)]
#[path = "asker_tests.rs"]
mod tests;
