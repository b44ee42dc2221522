//! `/v1/settings/backup` and `/v1/settings/restore`: the key of the password is derived here, the primary master does the rest.
//! Holds nothing of a backup.

use std::sync::Arc;

use axum::Extension;
use axum::extract::State;

use crate::api::error::{ApiError, ErrorBody};
use crate::api::served::{BackupRequest, RestoreRequest, path};
use crate::api::v1::MetaOnly;
use crate::api::v1::backup::{
    BackupAnswer, BackupBody, Blob, Cost, NONCE_LEN, SALT_LEN, data, password,
};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::webapp::answer::{Answer, Body, ok};
use crate::webapp::primary;
use crate::webapp::state::Webapp;
use crate::webapp::tokens::{Caller, Token};

/// The settings, users and secrets of the cluster, sealed with a password. The number's registration and the count of shards are
/// not among them.
///
/// Differs from the reference: the data has a form of our own, because what the reference kept in it does not exist any more.
#[utoipa::path(post, path = "/v1/settings/backup", tag = "settings",
    request_body = BackupBody,
    responses((status = 200, body = BackupAnswer), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn backup(
    State(webapp): State<Arc<Webapp>>,
    Extension(caller): Extension<Caller>,
    Extension(token): Extension<Token>,
    Body(body): Body,
) -> Answer {
    let password = password(&mut Fields::parse(&body)?)?;
    let mut salt = [0; SALT_LEN];
    getrandom::fill(&mut salt).map_err(|_| ApiError::new(Code::Internal))?;
    let blank = Blob {
        cost: Cost::NEW,
        salt,
        nonce: [0; NONCE_LEN],
        ciphertext: vec![0; 16],
    };
    let key = webapp.passwords.derive(password, blank.cost, salt).await?;
    let wish = BackupRequest {
        key: hex::encode(*key),
        blank: blank.to_string(),
        by: caller.username.to_string(),
    };
    let made = primary::ask(&webapp, path::BACKUP, (&wish, &token)).await?;
    let data = made.ok_or_else(|| ApiError::new(Code::Internal))?;
    Ok(ok(&BackupAnswer::of(data)))
}

/// Put the settings, users and secrets of a backup into force, all or nothing. Whoever asks keeps password and token; the tokens
/// of every other user who is changed or gone end.
///
/// Differs from the reference: a backup of the reference client is refused with 1009, because it holds keys of a protocol that has
/// ended. Send it with `POST /v1/account/verify`.
#[utoipa::path(post, path = "/v1/settings/restore", tag = "settings",
    request_body = BackupBody,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 403, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn restore(
    State(webapp): State<Arc<Webapp>>,
    Extension(caller): Extension<Caller>,
    Extension(token): Extension<Token>,
    Body(body): Body,
) -> Answer {
    let mut body = Fields::parse(&body)?;
    let password = password(&mut body)?;
    let blob = data(&mut body)?;
    let key = webapp
        .passwords
        .derive(password, blob.cost, blob.salt)
        .await?;
    let wish = RestoreRequest {
        key: hex::encode(*key),
        data: blob.to_string(),
        by: caller.username.to_string(),
    };
    primary::ask(&webapp, path::RESTORE, (&wish, &token)).await?;
    // Others notice within a second.
    webapp.tokens.forget_all();
    Ok(ok(&MetaOnly::default()))
}
