//! What a page says when it cannot be shown: what happened, and what to do.

use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use maud::html;

use super::frame::{Page, page, panel};
use super::guard::Visitor;
use super::words::Word;
use crate::api::error::ApiError;

/// An answer that is no page of the usual kind.
pub struct Mistake(Box<Response>);

impl Mistake {
    /// A page with an error of the API in its place.
    pub fn of(visitor: &Visitor, at: Page, error: &ApiError) -> Self {
        let status = StatusCode::from_u16(error.http_status());
        let status = status.unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        Self::saying(visitor, at, (status, &error.to_string()))
    }

    /// What was asked for is not there.
    pub fn missing(visitor: &Visitor, at: Page) -> Self {
        let why = "This is not there, or not there any more. Go back to the page that led here and reload it.";
        Self::saying(visitor, at, (StatusCode::NOT_FOUND, why))
    }

    /// A page with a sentence in its place.
    pub fn saying(visitor: &Visitor, at: Page, (status, why): (StatusCode, &str)) -> Self {
        let body = html! { p.bad role="alert" lang="en" dir="auto" { (why) } };
        let title = visitor.tongue.say(Word::WhatIsWrong);
        let mut response = page(visitor, at, &html! {}, &[panel("mistake", &title, &body)]);
        *response.status_mut() = status;
        Self(Box::new(response))
    }
}

impl IntoResponse for Mistake {
    fn into_response(self) -> Response {
        *self.0
    }
}
