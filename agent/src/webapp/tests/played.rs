//! What the coreapp of these tests says to calls that store nothing, and what the primary master says to an administrator.

use std::collections::HashMap;
use std::sync::Arc;

use axum::extract::{Query, Request};
use axum::response::IntoResponse as _;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde_json::json;
use wa_core::id::{Incarnation, NodeId};
use wa_core::registration::Call;

use crate::api::cloud::registration::refused;
use crate::api::control::path;
use crate::api::owner::{OwnerCall, Settled, Told};
use crate::api::registration::Outcome;
use crate::api::v1::business::{Compliance, Profile};
use crate::api::v1::code::Code;
use crate::config::ClusterKey;
use crate::net::deed::Taker;
use crate::net::keys::Keys;

/// Gives nonces, and lets every registration in that an administrator asked for.
pub fn primary<S: Clone + Send + Sync + 'static>(key: &ClusterKey) -> Router<S> {
    let start = Incarnation {
        counter: 7,
        random: 9,
    };
    let door = Taker::new(&Keys::of(key), &NodeId::new("test:master-1"), start);
    let door = Arc::new(door);
    let admits = Arc::clone(&door);
    Router::new()
        .route(
            path::NONCE,
            get(|Query(asked): Query<HashMap<String, String>>| async move {
                Json(door.nonce(&asked["challenge"]))
            }),
        )
        .route(
            path::REGISTRATION,
            post(|request: Request| async move {
                let Ok((_, answering)) = admits.administrator(request).await else {
                    panic!("no administrator's token came along");
                };
                let answer = Json(json!({"attempt": 7, "message": ""}));
                answering.seal(answer.into_response()).await
            }),
        )
}

pub fn settled(call: OwnerCall) -> Settled {
    match call {
        OwnerCall::AskRegistration(asked) => Settled::Registration(match asked.pin {
            Some(_) => Outcome::Registered,
            None => Outcome::CodeSent {
                vname: format!("Example Ltd {}", asked.attempt),
            },
        }),
        OwnerCall::VerifyRegistration(with) => Settled::Registration(match &*with.code.0 {
            "123456" => Outcome::Registered,
            _ => refused(Call::Register, 133_016, "too often"),
        }),
        OwnerCall::Accept { .. }
        | OwnerCall::MarkRead { .. }
        | OwnerCall::LookUpTemplate { .. }
        | OwnerCall::TwoStep { .. }
        | OwnerCall::FetchMedium { .. }
        | OwnerCall::ChangeProfile { .. }
        | OwnerCall::ChangeCompliance { .. }
        | OwnerCall::ChangePhoto { .. }
        | OwnerCall::Block { .. }
        | OwnerCall::Unblock { .. } => Settled::Done,
        OwnerCall::ReadProfile => told(Told::Profile(Profile::default())),
        OwnerCall::ReadCompliance => told(Told::Compliance(Compliance::default())),
        OwnerCall::ReadPhoto => Settled::Refused {
            code: Code::NotFound,
            details: "none".into(),
        },
    }
}

fn told(told: Told) -> Settled {
    Settled::Told(Box::new(told))
}
