//! `/v1/users`: logins, logouts and accounts.
//! Checks who may; names and passwords are judged by `api/v1/user.rs`.

use std::net::IpAddr;
use std::sync::Arc;

use axum::Extension;
use axum::extract::{FromRequest as _, Path, Request, State};
use axum::http::HeaderMap;
use axum::response::Response;

use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::api::v1::user::{
    ADMIN, Login, LoginAnswer, User, UsersAnswer, check_password, check_username, role_of,
};
use crate::api::v1::{Meta, MetaOnly};
use crate::db::Db;
use crate::db::token::TOKEN_LIFETIME;
use crate::db::user::User as Stored;
use crate::net::door::Entry;
use crate::sys::clock;
use crate::webapp::answer::{Answer, Body, created, database, ok};
use crate::webapp::audited::Trace;
use crate::webapp::auth::{Basic, peer_of};
use crate::webapp::first;
use crate::webapp::state::Webapp;
use crate::webapp::tokens::{Caller, new_token};

/// The stored user; the built-in administrator is made when it is not there yet.
async fn stored(
    webapp: &Arc<Webapp>,
    db: &Arc<Db>,
    username: &str,
) -> Result<Option<Stored>, ApiError> {
    let found = db.user(username).await.map_err(|e| database(&e))?;
    if found.is_some() || username != ADMIN {
        return Ok(found);
    }
    // A client that hangs up stops nothing: else each one would cost a hash, and the row would never be made.
    let (making, at) = (Arc::clone(webapp), Arc::clone(db));
    let making = tokio::spawn(async move { first::make_admin(&making, &at).await });
    making.await.map_err(|_| ApiError::new(Code::Internal))??;
    db.user(username).await.map_err(|e| database(&e))
}

/// Log in: Basic credentials in, a token out. With `new_password` the password is changed; `revoke_tokens` ends the tokens that
/// the user had.
///
/// Differs from the reference: the token is random text and no JWT, because it can be ended at once like that. A user has 1,000
/// tokens at most; beyond that the one that was not used for the longest time ends. The documented first password counts on the
/// cluster's own machines only (403, 1005). Failed logins slow down their own account and source.
#[utoipa::path(post, path = "/v1/users/login", tag = "users",
    responses((status = 200, body = LoginAnswer), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
        (status = 413, body = ErrorBody), (status = 429, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn login(
    State(webapp): State<Arc<Webapp>>,
    Extension(basic): Extension<Basic>,
    Extension(trace): Extension<Trace>,
    request: Request,
) -> Answer {
    let db = webapp.db()?;
    let from = (peer_of(request.extensions()), request.headers());
    let mut user = authenticate(&webapp, &db, (&basic, &trace), from).await?;
    // Not one byte of the body is read for who is not known.
    if let Some(entry) = request.extensions().get::<Entry>() {
        entry.known();
    }
    let Body(body) = Body::from_request(request, &webapp).await?;
    // Some clients send an empty body, some an empty object.
    let mut body = Fields::parse_optional(&body)?;
    let new = match body.text("new_password")? {
        Some(new) => Some((new, body.flag("revoke_tokens")?.unwrap_or_default())),
        None => None,
    };
    let new = new.as_ref().map(|(new, revoke)| (new.as_str(), *revoke));
    let (token, expires_at) = let_in(&webapp, &db, (&mut user, new), &trace).await?;
    Ok(ok(&LoginAnswer {
        users: vec![Login {
            token,
            expires_after: expires_after(expires_at),
        }],
        meta: Meta::default(),
    }))
}

/// The user whose name and password these are.
///
/// # Errors
/// 1005 with 401 when they are nobody's, with 403 for the documented first password from elsewhere; 1018 with 429 for who guesses.
pub async fn authenticate(
    webapp: &Arc<Webapp>,
    db: &Arc<Db>,
    (basic, trace): (&Basic, &Trace),
    from: (IpAddr, &HeaderMap),
) -> Result<Stored, ApiError> {
    let attempt = webapp.throttle.attempt(&basic.username, basic.source);
    let attempt = attempt.await?;
    let user = stored(webapp, db, &basic.username).await?;
    if let Some(user) = &user {
        trace.tried(&user.username);
    }
    // Everybody knows the documented first password: from elsewhere it is no proof, and not even looked at.
    if user.as_ref().is_some_and(|user| user.must_change != 0) {
        first::admit(webapp, db, from).await?;
    }
    let hash = user.as_ref().map(|user| user.password_hash.as_str());
    let check = webapp
        .passwords
        .check(&basic.password, hash, |fits| attempt.over(fits));
    let fits = check.await?;
    let user = user.filter(|_| fits).ok_or_else(wrong_login)?;
    trace.shown(&user.username);
    Ok(user)
}

/// A new token of a user who has shown who he is, and when it ends, in milliseconds since 1970. `new`: the password that he wants
/// from now on, and whether his other tokens end.
///
/// # Errors
/// Those of a password that is not good enough; when the first one must be changed and no other was sent.
pub async fn let_in(
    webapp: &Webapp,
    db: &Db,
    (user, new): (&mut Stored, Option<(&str, bool)>),
    trace: &Trace,
) -> Result<(String, u64), ApiError> {
    match new {
        Some((new, revoke)) => {
            set_password(webapp, db, (user, new), revoke).await?;
            trace.add("with a new password");
        }
        None if user.must_change != 0 => {
            return Err(ApiError::with(
                Code::PasswordChangeRequired,
                "Send new_password with this login",
            ));
        }
        None => {}
    }
    let (token, hash) = new_token()?;
    let lifetime_ms = u64::try_from(TOKEN_LIFETIME.as_millis()).unwrap_or(u64::MAX);
    let stored = db.store_token(&hash, user, lifetime_ms).await;
    if !stored.map_err(|e| database(&e))? {
        // Deleted, or changed, since its password was looked at.
        return Err(wrong_login());
    }
    Ok((token, clock::wall_ms().saturating_add(lifetime_ms)))
}

fn wrong_login() -> ApiError {
    ApiError::unauthorized("Invalid credentials")
}

/// Sets a password that is good enough; `revoke`: and ends the tokens of the user.
async fn set_password(
    webapp: &Webapp,
    db: &Db,
    (user, new): (&mut Stored, &str),
    revoke: bool,
) -> Result<(), ApiError> {
    check_password(new)?;
    user.password_hash = webapp.passwords.hash(new).await?;
    let set = db.set_password(&user.username, &user.password_hash).await;
    set.map_err(|e| database(&e))?;
    if revoke {
        let ended = db.revoke_tokens(&user.username, None).await;
        ended.map_err(|e| database(&e))?;
        webapp.tokens.forget_all();
    }
    Ok(())
}

/// `2030-03-01 15:29:26+00:00`: a blank instead of `T`, an explicit offset.
fn expires_after(unix_ms: u64) -> String {
    let seconds = i64::try_from(unix_ms / 1000).unwrap_or(i64::MAX);
    let at = jiff::Timestamp::from_second(seconds).unwrap_or(jiff::Timestamp::MAX);
    at.strftime("%Y-%m-%d %H:%M:%S+00:00").to_string()
}

/// Log out: the token that is used stops working on every webapp within a second.
#[utoipa::path(post, path = "/v1/users/logout", tag = "users",
    responses((status = 200, body = MetaOnly), (status = 401, body = ErrorBody)))]
pub async fn logout(
    State(webapp): State<Arc<Webapp>>,
    Extension(caller): Extension<Caller>,
) -> Answer {
    webapp
        .db()?
        .revoke_token(&caller.token_hash)
        .await
        .map_err(|e| database(&e))?;
    webapp.tokens.forget(&caller.token_hash);
    Ok(ok(&MetaOnly::default()))
}

fn user_answer(username: &str, with_role: bool) -> UsersAnswer {
    let roles = with_role.then(|| role_of(username));
    UsersAnswer {
        users: vec![User {
            roles,
            username: username.to_owned(),
        }],
        meta: Meta::default(),
    }
}

/// Create a user.
#[utoipa::path(post, path = "/v1/users", tag = "users",
    responses((status = 201, body = UsersAnswer), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody)))]
pub async fn create(
    State(webapp): State<Arc<Webapp>>,
    Extension(trace): Extension<Trace>,
    Body(body): Body,
) -> Answer {
    let mut body = Fields::parse(&body)?;
    let username = body.need_text("username")?;
    check_username(&username)?;
    trace.add(&username);
    let password = body.need_text("password")?;
    check_password(&password)?;
    let user = Stored {
        username: username.clone(),
        password_hash: webapp.passwords.hash(&password).await?,
        admin: 0,
        must_change: 0,
    };
    // The built-in name is taken even before its first login made the row.
    let made = username != ADMIN
        && webapp
            .db()?
            .create_user(&user)
            .await
            .map_err(|e| database(&e))?;
    if made {
        Ok(created(&user_answer(&username, false)))
    } else {
        Err(ApiError::with(
            Code::Internal,
            "Unable to create user. Already exist?",
        ))
    }
}

fn unknown_user() -> ApiError {
    ApiError::with(Code::NotFound, "There is no such user")
}

/// Users see and change themselves; the administrator everybody.
fn only_own(caller: &Caller, username: &str) -> Result<(), ApiError> {
    if caller.admin || *caller.username == *username {
        Ok(())
    } else {
        Err(ApiError::with(
            Code::AccessDenied,
            "Only the administrator may do this to other users",
        ))
    }
}

/// Read a user.
#[utoipa::path(get, path = "/v1/users/{username}", tag = "users",
    params(("username" = String, Path)),
    responses((status = 200, body = UsersAnswer), (status = 404, body = ErrorBody)))]
pub async fn read(
    State(webapp): State<Arc<Webapp>>,
    Extension(caller): Extension<Caller>,
    Path(username): Path<String>,
) -> Answer {
    only_own(&caller, &username)?;
    let user = webapp
        .db()?
        .user(&username)
        .await
        .map_err(|e| database(&e))?
        .ok_or_else(unknown_user)?;
    Ok(ok(&user_answer(&user.username, true)))
}

/// Change a password. Tokens that exist go on working, as documented; with `revoke_tokens` they end, or delete the user.
///
/// Differs from the reference: users name their `old_password`, because whoever got hold of a token could lock its user out. The
/// administrator needs none for other users.
#[utoipa::path(put, path = "/v1/users/{username}", tag = "users",
    params(("username" = String, Path)),
    responses((status = 200, body = UsersAnswer), (status = 404, body = ErrorBody), (status = 429, body = ErrorBody)))]
pub async fn change(
    State(webapp): State<Arc<Webapp>>,
    Extension(caller): Extension<Caller>,
    Extension(trace): Extension<Trace>,
    Path(username): Path<String>,
    Body(body): Body,
) -> Answer {
    only_own(&caller, &username)?;
    let mut body = Fields::parse(&body)?;
    let password = body.need_text("password")?;
    check_password(&password)?;
    let revoke = body.flag("revoke_tokens")?.unwrap_or_default();
    let db = webapp.db()?;
    let found = db.user(&username).await.map_err(|e| database(&e))?;
    let mut user = found.ok_or_else(unknown_user)?;
    if *caller.username == *username {
        let old = body.need_text("old_password")?;
        let attempt = webapp.throttle.attempt(&username, trace.source).await?;
        let hash = Some(user.password_hash.as_str());
        let check = webapp
            .passwords
            .check(&old, hash, |fits| attempt.over(fits));
        if !check.await? {
            return Err(ApiError::with(
                Code::AccessDenied,
                "old_password is not the password of this user",
            ));
        }
    }
    set_password(&webapp, &db, (&mut user, &password), revoke).await?;
    trace.add(match revoke {
        true => "(new password, tokens ended)",
        false => "(new password)",
    });
    Ok(ok(&user_answer(&username, false)))
}

/// Delete a user and its tokens.
#[utoipa::path(delete, path = "/v1/users/{username}", tag = "users",
    params(("username" = String, Path)),
    responses((status = 200, body = UsersAnswer), (status = 404, body = ErrorBody)))]
pub async fn delete(
    State(webapp): State<Arc<Webapp>>,
    Path(username): Path<String>,
) -> Result<Response, ApiError> {
    if username == ADMIN {
        return Err(ApiError::with(
            Code::AccessDenied,
            "The built-in administrator cannot be deleted",
        ));
    }
    let gone = webapp
        .db()?
        .delete_user(&username)
        .await
        .map_err(|e| database(&e))?;
    webapp.tokens.forget_all();
    if gone {
        Ok(ok(&user_answer(&username, false)))
    } else {
        Err(unknown_user())
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn expiry_is_written_with_a_blank_and_an_offset() {
        assert_eq!(
            super::expires_after(1_898_609_366_000),
            "2030-03-01 15:29:26+00:00"
        );
    }
}
