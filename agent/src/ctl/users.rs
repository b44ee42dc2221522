//! `wa-agent users`: who may call the API, and with which tokens; ends tokens.
//! Shows no token and no password: a fingerprint tells tokens apart.

use std::time::{Duration, SystemTime};

use serde_json::{Value, json};

use super::operate;
use super::view::{Listed, View};
use crate::api::control::Verb;
use crate::cli::{Reach, UsersVerb};
use crate::db::token::Shown;
use crate::exit::Exit;

/// Lists them, or asks the primary master to end tokens.
///
/// # Errors
/// When there is no usable configuration.
pub fn run(verb: UsersVerb) -> anyhow::Result<Exit> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()?;
    match verb {
        UsersVerb::List { reach } => runtime.block_on(list(&reach)),
        UsersVerb::Tokens { reach, user, limit } => {
            runtime.block_on(tokens(&reach, user.as_deref(), limit))
        }
        UsersVerb::Revoke { wish, user, token } => {
            operate::run(&wish, Verb::RevokeTokens { user, token }, true)
        }
    }
}

fn line(user: &Listed) -> String {
    let role = match user.admin {
        true => "administrator",
        false => "user",
    };
    let first = match user.first_password {
        true => "  first password: log in and change it",
        false => "",
    };
    let (name, tokens) = (&user.username, user.tokens);
    format!("{name:<32}  {role:<13}  {tokens:>6}{first}")
}

fn value(user: &Listed) -> Value {
    json!({
        "user": user.username,
        "admin": user.admin,
        "first_password": user.first_password,
        "tokens": user.tokens,
    })
}

async fn list(reach: &Reach) -> anyhow::Result<Exit> {
    let view = View::find(reach.config.as_deref()).await?;
    let users = match view.users().await {
        Ok(users) => users,
        Err(nothing) => return Ok(nothing.told()),
    };
    if !reach.json {
        println!("{:<32}  {:<13}  {:>6}", "user", "role", "tokens");
    }
    for user in &users {
        match reach.json {
            true => println!("{}", value(user)),
            false => println!("{}", line(user)),
        }
    }
    if users.is_empty() && !reach.json {
        println!("there is no user yet; the first login of admin makes the first one");
    }
    Ok(Exit::Ok)
}

fn at(ms: u64) -> String {
    let at = SystemTime::UNIX_EPOCH + Duration::from_millis(ms);
    humantime::format_rfc3339_seconds(at).to_string()
}

/// Of a token that a release before made nobody knows when it was used.
fn used(token: &Shown) -> Option<String> {
    (token.used_ms > 0).then(|| at(token.used_ms))
}

fn token_line(token: &Shown) -> String {
    format!(
        "{:<12}  {:<32}  {:<20}  {:<20}  {}",
        token.fingerprint,
        token.username,
        at(token.made_ms),
        at(token.expires_ms),
        used(token).unwrap_or_else(|| "-".into())
    )
}

fn token_value(token: &Shown) -> Value {
    json!({
        "fingerprint": token.fingerprint,
        "user": token.username,
        "made": at(token.made_ms),
        "expires": at(token.expires_ms),
        "used": used(token),
    })
}

async fn tokens(reach: &Reach, user: Option<&str>, limit: u32) -> anyhow::Result<Exit> {
    let view = View::find(reach.config.as_deref()).await?;
    let tokens = match view.tokens(user, limit).await {
        Ok(tokens) => tokens,
        Err(nothing) => return Ok(nothing.told()),
    };
    if !reach.json {
        println!(
            "{:<12}  {:<32}  {:<20}  {:<20}  used last",
            "fingerprint", "user", "made", "expires"
        );
    }
    for token in &tokens {
        match reach.json {
            true => println!("{}", token_value(token)),
            false => println!("{}", token_line(token)),
        }
    }
    if !reach.json {
        println!(
            "To end one, type: wa-agent users revoke USER --token FINGERPRINT; without --token all of the user end"
        );
    }
    Ok(Exit::Ok)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: whoever looks can tell tokens apart, and cannot use one; a use that nobody wrote down is not told as 1970.
    #[test]
    fn tokens_are_shown_by_their_fingerprints() {
        let mut token = Shown {
            fingerprint: "0123456789ab".into(),
            username: "bot1".into(),
            made_ms: 1_893_456_000_000,
            expires_ms: 1_894_060_800_000,
            used_ms: 1_893_456_060_000,
        };
        assert_eq!(
            token_line(&token).split_whitespace().collect::<Vec<_>>(),
            [
                "0123456789ab",
                "bot1",
                "2030-01-01T00:00:00Z",
                "2030-01-08T00:00:00Z",
                "2030-01-01T00:01:00Z"
            ]
        );
        token.used_ms = 0;
        assert!(token_line(&token).ends_with(" -"));
        assert_eq!(token_value(&token)["used"], Value::Null);
    }
}
