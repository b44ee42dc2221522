//! Locations.

use std::ops::RangeInclusive;

use serde::{Deserialize, Serialize};

use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// The object of a location message, also as it is stored: degrees as the client wrote them, which no rounding has touched.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Location {
    pub latitude: String,
    pub longitude: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    /// Shown only with a name (API reference).
    #[serde(skip_serializing_if = "Option::is_none")]
    pub address: Option<String>,
}

impl Location {
    /// Reads the object `location` of a message; degrees are strings in the published examples, and numbers in some clients.
    ///
    /// # Errors
    /// 1008, or 1009 for what is no place on earth.
    pub fn parse(object: &mut Fields) -> Result<Self, ApiError> {
        Ok(Self {
            latitude: degrees(object, "latitude", -90.0..=90.0)?,
            longitude: degrees(object, "longitude", -180.0..=180.0)?,
            name: object.text("name")?,
            address: object.text("address")?,
        })
    }
}

fn degrees(
    object: &mut Fields,
    name: &str,
    within: RangeInclusive<f64>,
) -> Result<String, ApiError> {
    let text = object.need_text(name)?;
    let text = text.trim();
    match text.parse::<f64>() {
        Ok(degrees) if within.contains(&degrees) => Ok(text.to_owned()),
        Ok(_) | Err(_) => {
            let must_be = format!("a number from {} to {}", within.start(), within.end());
            Err(object.invalid(name, &must_be))
        }
    }
}
