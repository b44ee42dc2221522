//! `block_users`: a list of at most 64,000, of whom each wrote in the last 24 hours when it was blocked.
//! Every user is answered for; when one of them failed, an error stands beside the lists, also with HTTP 200.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse as _, Response};
use serde_json::{Value, json};

use super::super::reader::strict::Strict;
use super::super::refusal::Refusal;
use super::super::state::{Simulator, lock};
use super::entry;
use super::kept::Business;

const LIST_LEN_MAX: usize = 64_000;
const USERS_MAX: usize = 1_000;
const ENGAGED_S: u64 = 24 * 3600;

/// A user of a call: as written, and the digits or the user id.
struct User {
    input: String,
    key: String,
    is_id: bool,
}

impl User {
    fn item(&self) -> Value {
        match self.is_id {
            true => json!({"input": self.input, "user_id": self.key}),
            false => json!({"input": self.input, "wa_id": self.key}),
        }
    }

    fn failed(&self, refusal: &Refusal) -> Value {
        let mut item = self.item();
        item["errors"] = json!([refusal.item()]);
        item
    }
}

/// POST blocks.
pub async fn block(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Response {
    change(&simulator, &phone, request, true).await
}

/// DELETE unblocks.
pub async fn unblock(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Response {
    change(&simulator, &phone, request, false).await
}

/// GET of the list.
pub async fn list(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (parts, _) = request.into_parts();
    let _judged = entry::begin(&simulator, "block", &parts, &phone).await?;
    let business = lock(&simulator.business);
    let users = business.blocked.iter().map(|key| {
        let field = if key.contains('.') {
            "user_id"
        } else {
            "wa_id"
        };
        json!({"messaging_product": "whatsapp", field: key})
    });
    let users: Vec<Value> = users.collect();
    Ok(Json(json!({"data": [{"block_users": users}]})))
}

async fn change(simulator: &Simulator, phone: &str, request: Request, block: bool) -> Response {
    let (parts, body) = request.into_parts();
    let judged = entry::begin(simulator, "block", &parts, phone).await;
    let users = match judged {
        Err(refusal) => return refusal.into_response(),
        Ok(_judged) => entry::object(body).await.and_then(|map| read(&map)),
    };
    match users {
        Ok(users) => answer(simulator, &users, block),
        Err(refusal) => refusal.into_response(),
    }
}

fn read(map: &serde_json::Map<String, Value>) -> Result<Vec<User>, Refusal> {
    let mut body = Strict::new(String::new(), map);
    body.need_word("messaging_product", &["whatsapp"])?;
    let items = body.need_objects("block_users", 1..=USERS_MAX)?;
    body.end()?;
    items.into_iter().map(user).collect()
}

fn user(mut item: Strict<'_>) -> Result<User, Refusal> {
    let (number, id) = (item.text("user")?, item.text("user_id")?);
    let found = match (number, id) {
        (Some(number), None) => {
            let digits = number.strip_prefix('+').unwrap_or(number);
            let good =
                (5..=15).contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
            good.then_some((number, digits, false))
        }
        (None, Some(id)) => {
            let own = id.split_once('.').map(|(_, own)| own);
            // Ids that stand for a customer of several businesses have a dot more.
            let good = own.is_some_and(|own| own.bytes().all(|b| b.is_ascii_alphanumeric()));
            good.then_some((id, id, true))
        }
        (Some(_), Some(_)) | (None, None) => None,
    };
    item.end()?;
    let (input, key, is_id) = found.ok_or_else(|| Refusal::bad("block_users names no user"))?;
    Ok(User {
        input: input.to_owned(),
        key: key.to_owned(),
        is_id,
    })
}

fn answer(simulator: &Simulator, users: &[User], block: bool) -> Response {
    let now_s = simulator.now_s();
    let own = &simulator.args.display_phone_number;
    let (mut done, mut failed) = (Vec::new(), Vec::new());
    let mut business = lock(&simulator.business);
    for user in users {
        let judged = match block {
            true => add(&mut business, user, own, now_s),
            false => {
                business.blocked.remove(&user.key);
                Ok(())
            }
        };
        match judged {
            Ok(()) => done.push(user.item()),
            Err(refusal) => failed.push(user.failed(&refusal)),
        }
    }
    let name = if block {
        "added_users"
    } else {
        "removed_users"
    };
    let mut body = json!({"messaging_product": "whatsapp", "block_users": {name: done}});
    if failed.is_empty() {
        return Json(body).into_response();
    }
    let status = match done.is_empty() {
        true => StatusCode::BAD_REQUEST,
        false => StatusCode::OK,
    };
    body["block_users"]["failed_users"] = failed.into();
    let error = Refusal::new(139_100, "Some users were not blocked or unblocked");
    body["error"] = error.body()["error"].clone();
    (status, Json(body)).into_response()
}

fn add(business: &mut Business, user: &User, own: &str, now_s: u64) -> Result<(), Refusal> {
    if business.blocked.contains(&user.key) {
        return Ok(());
    }
    if user.key == own {
        return Err(Refusal::bad("A business cannot be blocked"));
    }
    let wrote = business.wrote_s.get(&user.key);
    if wrote.is_none_or(|at_s| at_s + ENGAGED_S < now_s) {
        let why = "The user has not written in the last 24 hours";
        return Err(Refusal::new(131_047, why));
    }
    if business.blocked.len() >= LIST_LEN_MAX {
        return Err(Refusal::new(139_101, "The list is full"));
    }
    business.blocked.insert(user.key.clone());
    Ok(())
}
