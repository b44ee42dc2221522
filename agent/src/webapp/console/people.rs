//! Users and their tokens: who there is, a new password, a new user, and the end of tokens.
//! Checks no password and stores nothing: the handlers of the API do. Shows no token and no hash, but its first characters.

use std::net::IpAddr;
use std::sync::Arc;

use axum::extract::{Extension, Path, State};
use axum::http::Method;
use maud::{Markup, html};
use serde_json::json;

use super::act::{Act, May};
use super::deed::{self, Sent, administrator};
use super::frame::{Page, Panel, form_token, moment, panel, table};
use super::guard::Visitor;
use super::words::{Tongue, Word};
use crate::api::error::ApiError;
use crate::api::v1::code::Code;
use crate::api::v1::user::{check_username, role_of};
use crate::db::token::{FINGERPRINT_LEN, Shown};
use crate::db::{Db, DbError};
use crate::webapp::answer::{Body, database};
use crate::webapp::audited::Trace;
use crate::webapp::state::Webapp;
use crate::webapp::v1::user;

/// Tokens and users that are shown.
const TOKENS_SHOWN: u32 = 200;
const USERS_SHOWN: usize = 500;

/// A user, for people.
pub struct Person {
    name: String,
    tokens: u64,
    /// The password is the one that the product came with.
    first_password: bool,
}

/// Who there is, as far as somebody may see it: the administrator everybody, others themselves.
pub struct People {
    users: Vec<Person>,
    tokens: Vec<Shown>,
}

impl People {
    /// Reads them.
    ///
    /// # Errors
    /// When the database does not answer.
    pub async fn read(db: &Db, visitor: &Visitor) -> Result<Self, DbError> {
        let own = (!visitor.caller.admin).then_some(&*visitor.caller.username);
        let counts = db.token_counts().await?;
        let users = db.users().await?.into_iter();
        let users = users.filter(|user| own.is_none_or(|own| user.username == own));
        let person = |user: crate::db::user::User| {
            let count = counts.iter().find(|(name, _)| *name == user.username);
            Person {
                tokens: count.map_or(0, |(_, count)| *count),
                first_password: user.must_change != 0,
                name: user.username,
            }
        };
        Ok(Self {
            users: users.take(USERS_SHOWN).map(person).collect(),
            tokens: db.tokens(own, TOKENS_SHOWN).await?,
        })
    }
}

/// What a form asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Wish {
    Password,
    Create,
    EndTokens,
}

impl Wish {
    /// The call of the API that does the same, for the audit. A name that no user can have is not written down.
    pub fn call(self, sent: Option<&Sent>) -> (&'static str, Method, String) {
        let name = sent.map(|sent| sent.text("username"));
        let name = name.filter(|name| check_username(name).is_ok());
        let name = name.unwrap_or("{username}");
        match self {
            Self::Password => (
                "PUT /v1/users/{username}",
                Method::PUT,
                format!("/v1/users/{name}"),
            ),
            Self::Create => ("POST /v1/users", Method::POST, "/v1/users".to_owned()),
            Self::EndTokens => (
                "POST /console/settings/tokens",
                Method::POST,
                "/console/settings/tokens".to_owned(),
            ),
        }
    }

    /// Does it.
    ///
    /// # Errors
    /// As the API answers.
    pub async fn done(
        self,
        webapp: &Arc<Webapp>,
        visitor: &Visitor,
        (sent, trace): (&Sent, Trace),
    ) -> Result<(), ApiError> {
        match self {
            Self::Password => password(webapp, visitor, (sent, trace)).await,
            Self::Create => create(webapp, visitor, (sent, trace)).await,
            Self::EndTokens => end_tokens(webapp, visitor, (sent, &trace)).await,
        }
    }
}

async fn password(
    webapp: &Arc<Webapp>,
    visitor: &Visitor,
    (sent, trace): (&Sent, Trace),
) -> Result<(), ApiError> {
    let username = sent.text("username").to_owned();
    let body = json!({
        "password": sent.get("password").unwrap_or_default(),
        "old_password": sent.get("old_password").unwrap_or_default(),
        "revoke_tokens": sent.get("revoke_tokens").is_some(),
    });
    let body = Body(body.to_string().into());
    let caller = Extension(visitor.caller.clone());
    let state = State(Arc::clone(webapp));
    let changed = user::change(state, caller, Extension(trace), Path(username), body);
    changed.await.map(drop)
}

async fn create(
    webapp: &Arc<Webapp>,
    visitor: &Visitor,
    (sent, trace): (&Sent, Trace),
) -> Result<(), ApiError> {
    administrator(visitor)?;
    let body = json!({
        "username": sent.text("username"),
        "password": sent.get("password").unwrap_or_default(),
    });
    let body = Body(body.to_string().into());
    let made = user::create(State(Arc::clone(webapp)), Extension(trace), body);
    made.await.map(drop)
}

/// Whose tokens a form means, and which one; `None`: all of them. Users mean their own.
fn meant<'a>(visitor: &Visitor, sent: &'a Sent) -> Result<(&'a str, Option<&'a str>), ApiError> {
    let (username, token) = (sent.text("username"), sent.text("token"));
    check_username(username)?;
    if *visitor.caller.username != *username {
        administrator(visitor)?;
    }
    let is_one = token.len() == FINGERPRINT_LEN && token.chars().all(|c| c.is_ascii_hexdigit());
    if !token.is_empty() && !is_one {
        let must_be = format!("token must be the {FINGERPRINT_LEN} characters that the list shows");
        return Err(ApiError::invalid(must_be));
    }
    Ok((username, (!token.is_empty()).then_some(token)))
}

fn no_token() -> ApiError {
    let why = "There is no such token, or it has ended already";
    ApiError::with(Code::NotFound, why)
}

/// The tokens of a user end: one, or all.
async fn end_tokens(
    webapp: &Webapp,
    visitor: &Visitor,
    (sent, trace): (&Sent, &Trace),
) -> Result<(), ApiError> {
    let (username, one) = meant(visitor, sent)?;
    trace.add(username);
    trace.add(one.unwrap_or("all"));
    let ended = webapp.db()?.revoke_tokens(username, one).await;
    let ended = ended.map_err(|error| database(&error))?;
    webapp.tokens.forget_all();
    match ended {
        0 => Err(no_token()),
        _ => Ok(()),
    }
}

/// Tokens that end as soon as somebody says that he is sure.
pub struct Ending {
    username: String,
    /// One by its first characters; empty: all.
    token: String,
    count: u64,
    /// The session that asks is among them.
    own: bool,
}

/// What a form would end.
async fn ending(webapp: &Webapp, visitor: &Visitor, sent: &Sent) -> Result<Ending, ApiError> {
    let (username, one) = meant(visitor, sent)?;
    let db = webapp.db()?;
    let read = async {
        let counts = db.token_counts().await?;
        let of = counts.iter().find(|(name, _)| name == username);
        Ok::<_, DbError>((
            of.map_or(0, |(_, count)| *count),
            db.tokens(Some(username), TOKENS_SHOWN).await?,
        ))
    };
    let (all, tokens) = read.await.map_err(|error| database(&error))?;
    let count = match one {
        None => all,
        Some(one) => u64::from(tokens.iter().any(|token| token.fingerprint == one)),
    };
    if count == 0 {
        return Err(no_token());
    }
    let own = *visitor.caller.username == *username;
    Ok(Ending {
        own: own && one.is_none_or(|one| visitor.caller.token_hash.starts_with(one)),
        username: username.to_owned(),
        token: one.unwrap_or_default().to_owned(),
        count,
    })
}

/// What would end, and the form that ends it.
pub fn confirm(ending: &Ending, visitor: &Visitor) -> Panel {
    let tongue = visitor.tongue;
    let Ending {
        username,
        token,
        count,
        own,
    } = ending;
    let what = match (token.is_empty(), count) {
        (false, _) => format!("The token {token} of {username} would end"),
        (true, 1) => format!("The only token of {username} would end"),
        (true, count) => format!("All {count} tokens of {username} would end"),
    };
    let body = html! {
        p.warn.verdict role="status" lang="en" dir="auto" {
            (what) " on all webapps within a second. Whoever used one logs in again."
            @if *own { " This session of yours would end as well." }
        }
        (end_button(visitor, (username, token), true))
        p { a href=(Page::Settings.path()) { (tongue.say(Word::BackWithoutChange)) } }
    };
    panel("ending", &tongue.say(Word::WouldHappen), &body)
}

/// The users, and what can be changed of them.
pub fn users(people: &People, visitor: &Visitor) -> Panel {
    let tongue = visitor.tongue;
    let heads = [Word::UserName, Word::Role, Word::Tokens].map(|word| tongue.say(word));
    let row = |person: &Person| {
        vec![
            html! {
                bdi { (person.name) }
                @if person.first_password {
                    p.bad lang="en" dir="auto" { "The first password still counts. Log in with it on a machine of the cluster, and set another one." }
                }
            },
            html! { (role_of(&person.name)) },
            html! { (person.tokens) },
        ]
    };
    let rows: Vec<Vec<Markup>> = people.users.iter().map(row).collect();
    let title = tongue.say(Word::Users);
    let body = html! {
        (table(&title, &heads, &rows))
        (password_form(people, visitor))
        @if visitor.caller.admin { (user_form(visitor)) }
    };
    panel("users", &title, &body)
}

fn password_field(tongue: Tongue, word: Word, (name, kind): (&str, &str), needed: bool) -> Markup {
    html! {
        label {
            (tongue.say(word))
            input type="password" name=(name) autocomplete=(kind) maxlength="256" required[needed];
        }
    }
}

fn password_form(people: &People, visitor: &Visitor) -> Markup {
    let tongue = visitor.tongue;
    let own = &*visitor.caller.username;
    html! {
        h3 { (tongue.say(Word::ChangePassword)) }
        form.act method="post" action="/console/settings/password" {
            (form_token(visitor))
            label {
                (tongue.say(Word::UserName))
                select name="username" {
                    @for person in &people.users { option value=(person.name) selected[person.name == own] { (person.name) } }
                }
            }
            (password_field(tongue, Word::OldPassword, ("old_password", "current-password"), !visitor.caller.admin))
            (password_field(tongue, Word::NewPassword, ("password", "new-password"), true))
            label.tick { input type="checkbox" name="revoke_tokens" value="true"; (tongue.say(Word::EndAllTokens)) }
            button type="submit" { (tongue.say(Word::ChangePassword)) }
        }
        @if visitor.caller.admin {
            p.quiet lang="en" dir="auto" { "For your own password the old one is asked, for those of others it is not." }
        }
    }
}

fn user_form(visitor: &Visitor) -> Markup {
    let tongue = visitor.tongue;
    html! {
        h3 { (tongue.say(Word::CreateUser)) }
        form.act method="post" action="/console/settings/users" {
            (form_token(visitor))
            label { (tongue.say(Word::UserName)) input name="username" autocomplete="off" required minlength="4" maxlength="32"; }
            (password_field(tongue, Word::Password, ("password", "new-password"), true))
            button type="submit" { (tongue.say(Word::CreateUser)) }
        }
        p.quiet lang="en" dir="auto" {
            "A password has 8 to 64 characters, with a digit, an upper-case letter, a lower-case letter and a sign."
        }
    }
}

/// A button that ends one token of a user, or all. It shows first what would end; `sure`: it was shown.
fn end_button(visitor: &Visitor, (username, token): (&str, &str), sure: bool) -> Markup {
    let word = match token.is_empty() {
        true => Word::EndAllTokens,
        false => Word::EndToken,
    };
    let word = visitor.tongue.say(word);
    html! {
        form method="post" action="/console/settings/tokens" {
            (form_token(visitor))
            input type="hidden" name="username" value=(username);
            input type="hidden" name="token" value=(token);
            @if sure { input type="hidden" name="sure" value="true"; }
            button type="submit" aria-label=(format!("{word}: {username} {token}")) { (word) }
        }
    }
}

/// The end of all tokens of a user. Where masters do it for a console, they do, with a reason and a line in the history.
fn end_all(visitor: &Visitor, may: May, username: &str) -> Markup {
    match may.act(Act::RevokeTokens) {
        true => may.link(Act::RevokeTokens, &[("user", username)]),
        false => end_button(visitor, (username, ""), false),
    }
}

/// The tokens that are good, and their end.
pub fn tokens(people: &People, visitor: &Visitor, may: May) -> Panel {
    let tongue = visitor.tongue;
    let heads = [
        Word::Token,
        Word::UserName,
        Word::MadeAt,
        Word::UsedAt,
        Word::EndsAt,
        Word::EndToken,
    ]
    .map(|word| tongue.say(word));
    let at = |ms: u64| {
        let ms = i64::try_from(ms).unwrap_or(i64::MAX);
        html! { @if ms == 0 { "-" } @else { time { (moment(ms)) } } }
    };
    let row = |token: &Shown| {
        let own = visitor.caller.token_hash.starts_with(&token.fingerprint);
        vec![
            html! { code { (token.fingerprint) } @if own { " " span.badge.good { (tongue.say(Word::ThisSession)) } } },
            html! { bdi { (token.username) } },
            at(token.made_ms),
            at(token.used_ms),
            at(token.expires_ms),
            end_button(visitor, (&token.username, &token.fingerprint), false),
        ]
    };
    let rows: Vec<Vec<Markup>> = people.tokens.iter().map(row).collect();
    let title = tongue.say(Word::Tokens);
    let with_tokens = people.users.iter().filter(|person| person.tokens > 0);
    let body = html! {
        @if rows.is_empty() { p.quiet { (tongue.say(Word::None)) } }
        @else { (table(&title, &heads, &rows)) }
        @if u32::try_from(rows.len()).is_ok_and(|rows| rows == TOKENS_SHOWN) {
            p.quiet lang="en" dir="auto" { "These are the first " (TOKENS_SHOWN) " by user. For those of one user type: wa-agent users tokens USER" }
        }
        div.act {
            @for person in with_tokens { div { bdi { (person.name) } (end_all(visitor, may, &person.name)) } }
        }
    };
    panel("tokens", &title, &body)
}

/// What is said after it was done.
pub fn said(wish: Wish) -> &'static str {
    match wish {
        Wish::Password => "The password was changed.",
        Wish::Create => "The user was created, and may look at the console and send messages.",
        Wish::EndTokens => "The tokens were ended. Each webapp refuses them within a second.",
    }
}

/// Takes a form in, does what it asks for, and writes the line of the audit.
///
/// # Errors
/// As the API answers.
pub async fn act(
    webapp: &Arc<Webapp>,
    visitor: &Visitor,
    (wish, request): (Wish, axum::extract::Request),
) -> Result<(), ApiError> {
    let sent = deed::sent(webapp, visitor, request).await;
    carry_out(webapp, visitor, (wish, sent)).await
}

/// Takes a form in that ends tokens: the first time it is shown what would end, and nothing is done.
///
/// # Errors
/// As the API answers.
pub async fn end(
    webapp: &Arc<Webapp>,
    visitor: &Visitor,
    request: axum::extract::Request,
) -> Result<Option<Ending>, ApiError> {
    let (source, sent) = deed::sent(webapp, visitor, request).await;
    let sent = match sent {
        Ok(sent) if sent.get("sure").is_none() => match ending(webapp, visitor, &sent).await {
            Ok(ending) => return Ok(Some(ending)),
            Err(error) => Err(error),
        },
        sent => sent,
    };
    let wish = (Wish::EndTokens, (source, sent));
    carry_out(webapp, visitor, wish).await.map(|()| None)
}

async fn carry_out(
    webapp: &Arc<Webapp>,
    visitor: &Visitor,
    (wish, (source, sent)): (Wish, (IpAddr, Result<Sent, ApiError>)),
) -> Result<(), ApiError> {
    let (call, method, path) = wish.call(sent.as_ref().ok());
    let line = deed::begin(webapp, visitor, (call, &method, &path), source);
    let outcome = match sent {
        Ok(sent) => wish.done(webapp, visitor, (&sent, line.trace())).await,
        Err(error) => Err(error),
    };
    deed::end(line, &outcome);
    outcome
}
