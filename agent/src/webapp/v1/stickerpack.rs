//! `/v1/stickerpacks`: packs and their stickers, kept in the database, so that every webapp shows a change at once.
//! Publishes nothing: the Cloud API has no sticker packs.

use std::sync::Arc;

use axum::extract::{Path, Query, State};
use serde::Deserialize;

use crate::api::error::{ApiError, ErrorBody};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::api::v1::stickerpack::{
    About, Listed, PACKS_MAX, Pack, PacksAnswer, STICKERS_MAX, Sticker, StickersAnswer,
};
use crate::api::v1::{Meta, MetaOnly};
use crate::db::Db;
use crate::db::stickerpack::Stored;
use crate::webapp::answer::{Answer, Body, created, database, ok};
use crate::webapp::state::Webapp;

/// Writers that come between reading and writing are rare.
const WRITE_ATTEMPTS: u32 = 8;

/// `?namespace=whatsapp`.
#[derive(Debug, Deserialize)]
pub struct Namespace {
    namespace: Option<String>,
}

impl Namespace {
    /// Packs of WhatsApp itself are asked for. There are none here.
    fn of_whatsapp(&self) -> bool {
        self.namespace.as_deref() == Some("whatsapp")
    }
}

fn unknown_pack() -> ApiError {
    ApiError::with(Code::NotFound, "There is no sticker pack with this id")
}

fn unknown_sticker() -> ApiError {
    let why = "The sticker pack has no sticker with this index";
    ApiError::with(Code::NotFound, why)
}

/// What the database holds was written by this file.
fn parsed<T: serde::de::DeserializeOwned>(text: &str) -> Result<T, ApiError> {
    serde_json::from_str(text).map_err(|error| {
        tracing::error!(%error, "a stored sticker pack cannot be read; delete it");
        ApiError::new(Code::Internal)
    })
}

fn written(value: &impl serde::Serialize) -> String {
    serde_json::to_string(value).expect("plain data is JSON")
}

async fn find(db: &Db, id: &str) -> Result<Stored, ApiError> {
    let found = db.stickerpack(id).await;
    found.map_err(|e| database(&e))?.ok_or_else(unknown_pack)
}

/// Changes a pack as it is now; again if somebody else was quicker.
async fn change_stored<T>(
    db: &Db,
    id: &str,
    mut change: impl FnMut(&mut Stored) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    for _ in 0..WRITE_ATTEMPTS {
        let mut stored = find(db, id).await?;
        let told = change(&mut stored)?;
        let done = db.change_stickerpack(id, &stored).await;
        if done.map_err(|e| database(&e))? {
            return Ok(told);
        }
    }
    let why = "Too many changes of this sticker pack at once";
    Err(ApiError::with(Code::Overloaded, why))
}

/// The same for its stickers.
async fn change_stickers<T>(
    db: &Db,
    id: &str,
    mut change: impl FnMut(&mut Vec<Sticker>) -> Result<T, ApiError>,
) -> Result<T, ApiError> {
    change_stored(db, id, |stored| {
        let mut stickers: Vec<Sticker> = parsed(&stored.stickers)?;
        let told = change(&mut stickers)?;
        stored.stickers = written(&stickers);
        Ok(told)
    })
    .await
}

/// The sticker packs.
///
/// Differs from the reference: `?namespace=whatsapp` is an empty list, because WhatsApp's own packs cannot be fetched any more.
#[utoipa::path(get, path = "/v1/stickerpacks", tag = "stickerpacks",
    params(("namespace" = Option<String>, Query, description = "`whatsapp`: WhatsApp's own packs, of which there are none")),
    responses((status = 200, body = PacksAnswer), (status = 401, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn packs(State(webapp): State<Arc<Webapp>>, Query(query): Query<Namespace>) -> Answer {
    let mut answer = PacksAnswer::default();
    if query.of_whatsapp() {
        return Ok(ok(&answer));
    }
    let packs = webapp.db()?.stickerpacks().await;
    for (id, about) in packs.map_err(|e| database(&e))? {
        let about = Some(parsed(&about)?);
        answer.stickerpacks.push(Pack { id, about });
    }
    Ok(ok(&answer))
}

/// Create a sticker pack.
#[utoipa::path(post, path = "/v1/stickerpacks", tag = "stickerpacks", request_body = About,
    responses((status = 201, body = PacksAnswer), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
              (status = 503, body = ErrorBody)))]
pub async fn create(State(webapp): State<Arc<Webapp>>, Body(body): Body) -> Answer {
    let about = About::read(&mut Fields::parse(&body)?)?;
    let id = uuid::Uuid::new_v4().hyphenated().to_string();
    let db = webapp.db()?;
    let added = db.add_stickerpack(&id, &written(&about), PACKS_MAX).await;
    if !added.map_err(|e| database(&e))? {
        let why = format!("There are {PACKS_MAX} sticker packs already; delete one first");
        return Err(ApiError::invalid(why));
    }
    Ok(created(&PacksAnswer {
        stickerpacks: vec![Pack { id, about: None }],
        meta: Meta::default(),
    }))
}

/// One sticker pack.
#[utoipa::path(get, path = "/v1/stickerpacks/{pack}", tag = "stickerpacks", params(("pack" = String, Path)),
    responses((status = 200, body = PacksAnswer), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
              (status = 503, body = ErrorBody)))]
pub async fn pack(State(webapp): State<Arc<Webapp>>, Path(id): Path<String>) -> Answer {
    let stored = find(&*webapp.db()?, &id).await?;
    let about = Some(parsed(&stored.about)?);
    Ok(ok(&PacksAnswer {
        stickerpacks: vec![Pack { id, about }],
        meta: Meta::default(),
    }))
}

/// Change a sticker pack: what the body does not name stays.
#[utoipa::path(patch, path = "/v1/stickerpacks/{pack}", tag = "stickerpacks", params(("pack" = String, Path)),
    request_body = About,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
              (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn change(
    State(webapp): State<Arc<Webapp>>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let body = Fields::parse(&body)?;
    let change = |stored: &mut Stored| {
        let mut about: About = parsed(&stored.about)?;
        about.change(&mut body.clone())?;
        stored.about = written(&about);
        Ok(())
    };
    change_stored(&*webapp.db()?, &id, change).await?;
    Ok(ok(&MetaOnly::default()))
}

/// Delete a sticker pack. The files of its stickers stay.
#[utoipa::path(delete, path = "/v1/stickerpacks/{pack}", tag = "stickerpacks", params(("pack" = String, Path)),
    responses((status = 200, body = MetaOnly), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
              (status = 503, body = ErrorBody)))]
pub async fn delete(State(webapp): State<Arc<Webapp>>, Path(id): Path<String>) -> Answer {
    let removed = webapp.db()?.remove_stickerpack(&id).await;
    match removed.map_err(|e| database(&e))? {
        true => Ok(ok(&MetaOnly::default())),
        false => Err(unknown_pack()),
    }
}

/// The stickers of a pack.
#[utoipa::path(get, path = "/v1/stickerpacks/{pack}/stickers", tag = "stickerpacks", params(("pack" = String, Path)),
    responses((status = 200, body = StickersAnswer), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
              (status = 503, body = ErrorBody)))]
pub async fn stickers(State(webapp): State<Arc<Webapp>>, Path(id): Path<String>) -> Answer {
    let stored = find(&*webapp.db()?, &id).await?;
    let stickers: Vec<Sticker> = parsed(&stored.stickers)?;
    let listed = stickers.into_iter().enumerate();
    let listed = listed.map(|(index, sticker)| Listed {
        index,
        sticker: Some(sticker),
    });
    Ok(ok(&StickersAnswer {
        stickers: listed.collect(),
        meta: Meta::default(),
    }))
}

/// Add a sticker to a pack, behind the others.
#[utoipa::path(post, path = "/v1/stickerpacks/{pack}/stickers", tag = "stickerpacks", params(("pack" = String, Path)),
    request_body = Sticker,
    responses((status = 201, body = StickersAnswer), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
              (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn add(
    State(webapp): State<Arc<Webapp>>,
    Path(id): Path<String>,
    Body(body): Body,
) -> Answer {
    let mut sticker = Sticker::read(&mut Fields::parse(&body)?)?;
    let db = webapp.db()?;
    find(&db, &id).await?;
    known_file(&db, &mut sticker).await?;
    let push = |stickers: &mut Vec<Sticker>| {
        if stickers.len() >= STICKERS_MAX {
            let why = format!("A sticker pack takes {STICKERS_MAX} stickers at most");
            return Err(ApiError::invalid(why));
        }
        stickers.push(sticker.clone());
        Ok(stickers.len() - 1)
    };
    let index = change_stickers(&db, &id, push).await?;
    Ok(created(&StickersAnswer {
        stickers: vec![Listed {
            index,
            sticker: None,
        }],
        meta: Meta::default(),
    }))
}

/// A sticker names a file of ours.
async fn known_file(db: &Db, sticker: &mut Sticker) -> Result<(), ApiError> {
    let unknown = || ApiError::invalid("image_data_id is not the id of an uploaded file");
    let id = uuid::Uuid::try_parse(&sticker.image_data_id).map_err(|_| unknown())?;
    sticker.image_data_id = id.hyphenated().to_string();
    // Noted as used: a collection that is on its way leaves it.
    let found = db.use_medium(&sticker.image_data_id).await;
    match found.map_err(|e| database(&e))? {
        Some(_) => Ok(()),
        None => Err(unknown()),
    }
}

/// The place that a path names.
fn place(index: &str) -> Result<usize, ApiError> {
    index.parse().map_err(|_| unknown_sticker())
}

/// One sticker of a pack.
#[utoipa::path(get, path = "/v1/stickerpacks/{pack}/stickers/{index}", tag = "stickerpacks",
    params(("pack" = String, Path), ("index" = usize, Path, description = "From 0")),
    responses((status = 200, body = StickersAnswer), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
              (status = 503, body = ErrorBody)))]
pub async fn sticker(
    State(webapp): State<Arc<Webapp>>,
    Path((id, index)): Path<(String, String)>,
) -> Answer {
    let stored = find(&*webapp.db()?, &id).await?;
    let mut stickers: Vec<Sticker> = parsed(&stored.stickers)?;
    let index = place(&index)?;
    if index >= stickers.len() {
        return Err(unknown_sticker());
    }
    let sticker = Some(stickers.swap_remove(index));
    Ok(ok(&StickersAnswer {
        stickers: vec![Listed { index, sticker }],
        meta: Meta::default(),
    }))
}

/// Change a sticker of a pack: what the body does not name stays.
#[utoipa::path(patch, path = "/v1/stickerpacks/{pack}/stickers/{index}", tag = "stickerpacks",
    params(("pack" = String, Path), ("index" = usize, Path, description = "From 0")), request_body = Sticker,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 401, body = ErrorBody),
              (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn change_sticker(
    State(webapp): State<Arc<Webapp>>,
    Path((id, index)): Path<(String, String)>,
    Body(body): Body,
) -> Answer {
    let mut body = Fields::parse(&body)?;
    let db = webapp.db()?;
    find(&db, &id).await?;
    let index = place(&index)?;
    let mut wanted = Sticker::default();
    let emojis_too = body.has("emojis");
    wanted.change(&mut body)?;
    if !wanted.image_data_id.is_empty() {
        known_file(&db, &mut wanted).await?;
    }
    let change = |stickers: &mut Vec<Sticker>| {
        let sticker = stickers.get_mut(index).ok_or_else(unknown_sticker)?;
        if !wanted.image_data_id.is_empty() {
            sticker.image_data_id.clone_from(&wanted.image_data_id);
        }
        if emojis_too {
            sticker.emojis.clone_from(&wanted.emojis);
        }
        Ok(())
    };
    change_stickers(&db, &id, change).await?;
    Ok(ok(&MetaOnly::default()))
}

/// Delete a sticker of a pack; those behind it move up.
#[utoipa::path(delete, path = "/v1/stickerpacks/{pack}/stickers/{index}", tag = "stickerpacks",
    params(("pack" = String, Path), ("index" = usize, Path, description = "From 0")),
    responses((status = 200, body = MetaOnly), (status = 401, body = ErrorBody), (status = 404, body = ErrorBody),
              (status = 503, body = ErrorBody)))]
pub async fn delete_sticker(
    State(webapp): State<Arc<Webapp>>,
    Path((id, index)): Path<(String, String)>,
) -> Answer {
    let remove = |stickers: &mut Vec<Sticker>| {
        let index = place(&index)?;
        if index >= stickers.len() {
            return Err(unknown_sticker());
        }
        stickers.remove(index);
        Ok(())
    };
    change_stickers(&*webapp.db()?, &id, remove).await?;
    Ok(ok(&MetaOnly::default()))
}

#[cfg(test)]
#[path = "stickerpack_tests.rs"]
mod tests;
