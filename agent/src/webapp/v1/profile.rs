//! `/v1/settings/profile`: the about text and the photo.
//! `api/v1` judges both; the owner of shard 0 asks the upstream.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Bytes;
use axum::extract::multipart::{Multipart, MultipartError};
use axum::extract::{FromRequest as _, Query, Request, State};
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::Response;
use mime::Mime;
use serde::Deserialize;
use utoipa::IntoParams;

use super::business::{other_answer, read_profile};
use crate::api::error::{ApiError, ErrorBody};
use crate::api::owner::{OwnerCall, Told};
use crate::api::v1::MetaOnly;
use crate::api::v1::business::{About, AboutAnswer, ProfileChange};
use crate::api::v1::code::Code;
use crate::api::v1::fields::Fields;
use crate::api::v1::photo::{Photo, PhotoLinkAnswer, too_long};
use crate::webapp::answer::{Answer, Body, ok};
use crate::webapp::state::Webapp;

/// A client must have sent its whole photo within this time.
const READ_WITHIN: Duration = Duration::from_secs(60);

/// Read the about text of the profile. What another tool changed at WhatsApp is seen after a minute at most.
#[utoipa::path(get, path = "/v1/settings/profile/about", tag = "settings",
    responses((status = 200, body = AboutAnswer), (status = 503, body = ErrorBody)))]
pub async fn about(State(webapp): State<Arc<Webapp>>) -> Answer {
    Ok(ok(&read_profile(&webapp).await?.about()))
}

/// Change the about text of the profile: 1 to 139 characters.
#[utoipa::path(patch, path = "/v1/settings/profile/about", tag = "settings", request_body = About,
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn change_about(State(webapp): State<Arc<Webapp>>, Body(body): Body) -> Answer {
    let change = ProfileChange::of_about(&mut Fields::parse(&body)?)?;
    let call = OwnerCall::ChangeProfile { change };
    webapp.owners.ask(call).await?;
    Ok(ok(&MetaOnly::default()))
}

/// What of the photo is wanted.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub struct Wanted {
    /// `link`: where it can be fetched, instead of its bytes.
    format: Option<String>,
}

/// The photo of the profile, or with `format=link` where it can be fetched. Without one: 404.
#[utoipa::path(get, path = "/v1/settings/profile/photo", tag = "settings", params(Wanted),
    responses((status = 200, content((PhotoLinkAnswer = "application/json"), (Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"))),
              (status = 400, body = ErrorBody), (status = 404, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn photo(State(webapp): State<Arc<Webapp>>, Query(wanted): Query<Wanted>) -> Answer {
    match wanted.format.as_deref() {
        None | Some("") => bytes(&webapp).await,
        Some("link") => match read_profile(&webapp).await?.photo {
            Some(link) => Ok(ok(&PhotoLinkAnswer::of(link))),
            None => Err(ApiError::with(Code::NotFound, "The profile has no photo")),
        },
        Some(_) => Err(ApiError::invalid("format must be link, or be left out")),
    }
}

async fn bytes(webapp: &Webapp) -> Answer {
    let photo = match webapp.owners.told(OwnerCall::ReadPhoto).await? {
        Told::Photo(photo) => photo,
        Told::Profile(_) | Told::Compliance(_) => return Err(other_answer()),
    };
    let mut response = Response::new(axum::body::Body::from(photo.bytes));
    let headers = response.headers_mut();
    let mime = HeaderValue::from_static(photo.kind.mime());
    headers.insert(header::CONTENT_TYPE, mime);
    let nosniff = HeaderName::from_static("x-content-type-options");
    headers.insert(nosniff, HeaderValue::from_static("nosniff"));
    Ok(response)
}

/// Replace the photo of the profile by a JPEG or PNG file of 5 MB at most: the body is the file, or a form with it.
/// Differs from the reference: it needs the id of the app that the access token belongs to (`[upstream] app_id`), because the
/// Cloud API takes photos by an upload of the app. Without it: 403, code 1005.
#[utoipa::path(post, path = "/v1/settings/profile/photo", tag = "settings",
    request_body(content((Vec<u8> = "image/jpeg"), (Vec<u8> = "image/png"), (Vec<u8> = "multipart/form-data"))),
    responses((status = 200, body = MetaOnly), (status = 400, body = ErrorBody), (status = 403, body = ErrorBody),
              (status = 413, body = ErrorBody), (status = 503, body = ErrorBody)))]
pub async fn change_photo(State(webapp): State<Arc<Webapp>>, request: Request) -> Answer {
    let Ok(_place) = webapp.photos.try_acquire() else {
        return Err(ApiError::with(
            Code::Overloaded,
            "Too many photos at once; try again",
        ));
    };
    let received = tokio::time::timeout(READ_WITHIN, receive(request)).await;
    let slow = |_| ApiError::with(Code::InvalidRequest, "The body took too long").status(408);
    let photo = Photo::of_client(received.map_err(slow)??)?;
    let call = OwnerCall::ChangePhoto { photo };
    webapp.owners.ask(call).await?;
    Ok(ok(&MetaOnly::default()))
}

/// What kind of body it is. What the bytes are, their beginning tells; a type that can be no photo is refused all the same.
async fn receive(request: Request) -> Result<Bytes, ApiError> {
    let wrong = || ApiError::invalid("Content-Type must be image/jpeg or image/png");
    let kind = match request.headers().get(header::CONTENT_TYPE) {
        None => mime::APPLICATION_OCTET_STREAM,
        Some(value) => {
            let text = value.to_str().map_err(|_| wrong())?;
            text.parse::<Mime>().map_err(|_| wrong())?
        }
    };
    match (kind.type_(), kind.subtype()) {
        (mime::MULTIPART, mime::FORM_DATA) => form(request).await,
        (mime::IMAGE, mime::JPEG | mime::PNG)
        // What tools write that were told nothing.
        | (mime::APPLICATION, mime::OCTET_STREAM | mime::WWW_FORM_URLENCODED) => {
            let whole = Bytes::from_request(request, &()).await;
            whole.map_err(|rejection| refused(rejection.status()))
        }
        (mime::IMAGE, name) if name == "jpg" => {
            let whole = Bytes::from_request(request, &()).await;
            whole.map_err(|rejection| refused(rejection.status()))
        }
        _ => Err(wrong()),
    }
}

fn refused(status: StatusCode) -> ApiError {
    match status {
        StatusCode::PAYLOAD_TOO_LARGE => too_long(),
        _ => ApiError::with(Code::InvalidRequest, "The body broke off, or is no form"),
    }
}

/// The first file of a form; of one without files, the first field.
async fn form(request: Request) -> Result<Bytes, ApiError> {
    let wrong = |error: MultipartError| refused(error.status());
    let form = Multipart::from_request(request, &()).await;
    let mut form = form.map_err(|rejection| refused(rejection.status()))?;
    let mut first = None;
    while let Some(field) = form.next_field().await.map_err(wrong)? {
        let file = field.file_name().is_some() || field.content_type().is_some();
        let bytes = field.bytes().await.map_err(wrong)?;
        if file {
            return Ok(bytes);
        }
        first.get_or_insert(bytes);
    }
    Ok(first.unwrap_or_default())
}

/// Delete the photo of the profile.
/// Differs from the reference: always 403, code 1005, because the Cloud API has no call that takes a photo away. It can be replaced.
#[utoipa::path(delete, path = "/v1/settings/profile/photo", tag = "settings",
    responses((status = 403, body = ErrorBody)))]
pub async fn delete_photo() -> ApiError {
    ApiError::with(
        Code::AccessDenied,
        "WhatsApp's Cloud API cannot delete the photo. Replace it: POST /v1/settings/profile/photo",
    )
}

#[cfg(test)]
#[path = "profile_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "profile_form_tests.rs"]
mod form_tests;
