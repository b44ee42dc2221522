//! `/v1/users`: logins and accounts.
//! Checks names and passwords; hashing is `webapp/password.rs`, rows are `db/user.rs`.

use serde::Serialize;
use utoipa::ToSchema;

use super::Meta;
use crate::api::error::ApiError;

/// The built-in account; it cannot be deleted.
pub const ADMIN: &str = "admin";
/// What `admin` logs in with the first time, and must change.
pub const ADMIN_FIRST_PASSWORD: &str = "secret";
/// What an account may do, as the API names it.
pub const ROLE_ADMIN: &str = "ROLE_ADMIN";
/// See [`ROLE_ADMIN`].
pub const ROLE_USER: &str = "ROLE_USER";

const PASSWORD_SIGNS: &str = "!\"#$%&'()*+,-./:;<=>?@[]^_`{|}~";

/// The answer of `POST /v1/users/login`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct LoginAnswer {
    pub users: Vec<Login>,
    pub meta: Meta,
}

/// A token and when it ends.
#[derive(Clone, Serialize, ToSchema)]
pub struct Login {
    pub token: String,
    #[schema(example = "2030-03-01 15:29:26+00:00")]
    pub expires_after: String,
}

impl std::fmt::Debug for Login {
    // A token must not reach a log by way of a debug print.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Login {{ expires_after: {} }}", self.expires_after)
    }
}

/// The answer of the calls that create, change, read and delete users.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct UsersAnswer {
    pub users: Vec<User>,
    pub meta: Meta,
}

/// One user; `ROLES` really is upper-case and only there when a user is read.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, ToSchema)]
pub struct User {
    #[serde(rename = "ROLES", skip_serializing_if = "Option::is_none")]
    pub roles: Option<&'static str>,
    #[schema(example = "bot1")]
    pub username: String,
}

/// The role of an account: only `admin` is an administrator.
pub fn role_of(username: &str) -> &'static str {
    if username == ADMIN {
        ROLE_ADMIN
    } else {
        ROLE_USER
    }
}

/// Checks a user name: 4 to 32 characters, letters, digits, `.`, `_`, `-` and `@`.
pub fn check_username(name: &str) -> Result<(), ApiError> {
    if !(4..=32).contains(&name.chars().count()) {
        return Err(ApiError::invalid("username must have 4 to 32 characters"));
    }
    if !name
        .chars()
        .all(|c| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-' | '@'))
    {
        return Err(ApiError::invalid(
            "username may hold letters, digits and . _ - @",
        ));
    }
    Ok(())
}

/// Checks a new password: 8 to 64 characters with a digit, both cases and a sign.
pub fn check_password(password: &str) -> Result<(), ApiError> {
    let has = |test: fn(char) -> bool| password.chars().any(test);
    let long_enough = (8..=64).contains(&password.chars().count());
    let mixed = has(|c| c.is_ascii_digit())
        && has(|c| c.is_ascii_uppercase())
        && has(|c| c.is_ascii_lowercase())
        && has(|c| PASSWORD_SIGNS.contains(c));
    if long_enough && mixed {
        Ok(())
    } else {
        Err(ApiError::invalid(
            "password must have 8 to 64 characters with a digit, an upper-case letter, a lower-case letter and a sign",
        ))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn passwords_need_all_four_kinds() {
        assert!(check_password("Abcdef1!").is_ok());
        for bad in [
            "secret",
            "abcdefg1!",
            "ABCDEFG1!",
            "Abcdefgh!",
            "Abcdefgh1",
            "Ab1!",
        ] {
            assert_eq!(
                check_password(bad).unwrap_err().code.number(),
                1009,
                "{bad}"
            );
        }
        assert!(check_password(&format!("Aa1!{}", "x".repeat(60))).is_ok());
        assert!(check_password(&format!("Aa1!{}", "x".repeat(61))).is_err());
    }

    #[test]
    fn user_names_are_4_to_32_plain_characters() {
        for good in ["bot1", "a.b_c-d@e", &"x".repeat(32)] {
            assert!(check_username(good).is_ok(), "{good}");
        }
        for bad in ["bot", "a b c", "näme", "x/yz", &"x".repeat(33)] {
            assert!(check_username(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn a_printed_login_shows_no_token() {
        let login = Login {
            token: "t0ken".to_owned(),
            expires_after: "then".to_owned(),
        };
        assert!(!format!("{login:?}").contains("t0ken"));
    }
}
