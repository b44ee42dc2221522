//! `ttl`: how long a message may wait. The one place that says which forms of it are understood.
//! Lets no message end: the sender does.

use crate::api::error::ApiError;
use crate::api::v1::fields::Fields;

/// The longest one, in seconds: 400 days.
const TTL_MAX_S: u64 = 400 * 24 * 3600;
/// Fields of the object form, which old clients have, and what one of them is in seconds.
const UNITS: [(&str, u64); 5] = [
    ("weeks", 7 * 24 * 3600),
    ("days", 24 * 3600),
    ("hours", 3600),
    ("minutes", 60),
    ("seconds", 1),
];

/// Reads the field `ttl` in seconds: a number of them, also in quotes, or an object such as `{"days": 1, "hours": 12}`, whose
/// parts are added. None, and zero, is no limit.
///
/// # Errors
/// 1009 for what is no time, or is longer than [`TTL_MAX_S`].
pub fn read(body: &mut Fields) -> Result<Option<u64>, ApiError> {
    let of_units = body.within("ttl", |object| {
        let mut sum = 0u64;
        for (unit, seconds) in UNITS {
            let count = object.whole(unit, 0..=TTL_MAX_S / seconds)?;
            sum += count.unwrap_or(0) * seconds;
        }
        Ok((sum, object.is_silent()))
    })?;
    let seconds = match of_units {
        Some((sum, true)) if sum <= TTL_MAX_S => Some(sum),
        Some(_) => {
            let must_be = format!(
                "seconds, or an object of weeks, days, hours, minutes and seconds, up to {TTL_MAX_S} seconds in all"
            );
            return Err(body.invalid("ttl", &must_be));
        }
        None => body.whole("ttl", 0..=TTL_MAX_S)?,
    };
    Ok(seconds.filter(|seconds| *seconds > 0))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Goal: every plausible form says what it means, and others are refused. Method: one of each.
    #[test]
    fn every_plausible_form_is_understood() {
        let said = |ttl: Value| {
            let body = json!({ "ttl": ttl }).to_string();
            let mut body = Fields::parse(body.as_bytes()).expect("an object");
            read(&mut body).map_err(|error| error.code.number())
        };
        for (form, seconds) in [
            (json!(3600), 3600),
            (json!("3600"), 3600),
            (json!(3600.0), 3600),
            (json!({"days": 1}), 86_400),
            (json!({"days": "1", "hours": 12, "minutes": null}), 129_600),
            (json!({"weeks": 1, "seconds": 5}), 604_805),
            (json!({"days": 400}), TTL_MAX_S),
        ] {
            assert_eq!(said(form.clone()), Ok(Some(seconds)), "{form}");
        }
        for form in [
            json!(null),
            json!(""),
            json!({}),
            json!(0),
            json!("0"),
            json!({"days": 0}),
        ] {
            assert_eq!(said(form.clone()), Ok(None), "{form}");
        }
        for form in [
            json!(-1),
            json!("soon"),
            json!(true),
            json!([1]),
            json!(0.5),
            json!({"x": 1}),
            json!({"days": -1}),
            json!({"days": 400, "seconds": 1}),
            json!(u64::MAX),
            json!({"weeks": u64::MAX}),
            json!(TTL_MAX_S + 1),
        ] {
            assert_eq!(said(form.clone()), Err(1009), "{form}");
        }
    }
}
