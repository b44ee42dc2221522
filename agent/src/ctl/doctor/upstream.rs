//! The upstream as it stands for this installation: version, token, number, and whether its events come; one call each.
//! Changes nothing there.

use std::time::Duration;

use bytes::Bytes;
use futures_util::future::join;
use http::{HeaderValue, Request};
use http_body_util::Full;
use jiff::civil::Date;
use jiff::tz::TimeZone;
use jiff::{Span, Timestamp};
use secrecy::ExposeSecret as _;
use wa_core::alarm::Alarm;

use super::Check;
use crate::api::cloud::checkup::{self, Look, Number, Silence, Token, Version};
use crate::config::{Settings, UpstreamSettings};
use crate::net::client::{CallError, OutsideClient};
use crate::sys::clock;
use crate::sys::dial::Dialer;

const AREA: &str = "upstream";
/// For each call.
const ANSWER_WITHIN: Duration = Duration::from_secs(5);
const NEW_TOKEN: &str = "write a good one into the file of [upstream] token_file, and type on each machine with coreapps: systemctl reload 'wa-coreapp@*'";

fn now() -> Timestamp {
    let ms = i64::try_from(clock::wall_ms()).unwrap_or(i64::MAX);
    Timestamp::from_millisecond(ms).unwrap_or(Timestamp::MAX)
}

fn day(moment: Timestamp) -> Date {
    TimeZone::UTC.to_datetime(moment).date()
}

/// How long the version of the Cloud API is served.
pub fn version(settings: &Settings) -> Check {
    let version = &settings.upstream.version;
    let today = day(now());
    let newer = Alarm::VersionEnds.remedy();
    match Version::of(version, today) {
        Version::Lasts(Some(end)) => {
            Check::ok(AREA, format!("version {version} is served until {end}"))
        }
        Version::Lasts(None) => {
            Check::ok(AREA, format!("version {version}: no end of it is known"))
        }
        Version::Ends(end) => Check::warn(
            AREA,
            format!("version {version} of the Cloud API ends on {end}"),
            newer,
        ),
        Version::Ended(Some(end)) => Check::bad(
            AREA,
            format!("version {version} of the Cloud API ended on {end}"),
            newer,
        ),
        Version::Ended(None) => Check::bad(
            AREA,
            format!("version {version} of the Cloud API has ended"),
            newer,
        ),
        Version::NoVersion => Check::bad(
            AREA,
            format!("[upstream] version = {version:?} is none"),
            "write one like \"v25.0\"",
        ),
    }
}

/// Asks the upstream, if there is a token.
pub async fn examine(settings: &Settings) -> Vec<Check> {
    let upstream = &settings.upstream;
    if upstream.token.is_empty() {
        return Vec::new();
    }
    let client = OutsideClient::trusting(
        Dialer::system(),
        &upstream.authorities,
        upstream.connect_timeout,
        2,
    );
    let own = upstream.token.now();
    let token = ask(
        &client,
        upstream,
        Look::Token {
            token: own.expose_secret(),
        },
    );
    let number = ask(
        &client,
        upstream,
        Look::Number {
            phone_number_id: &upstream.phone_number_id,
        },
    );
    let (token, number) = match join(token, number).await {
        (Ok(token), Ok(number)) => (token, number),
        (Err(error), _) | (_, Err(error)) => {
            return vec![
                Check::bad(
                    AREA,
                    format!(
                        "{} does not answer this machine: {error}",
                        upstream.base_url
                    ),
                    "see whether name service, routes and firewalls let coreapps reach it",
                )
                .elsewhere(),
            ];
        }
    };
    let mut checks = vec![judge_token(
        checkup::token(token.0, &token.1),
        &upstream.app_id,
        now(),
    )];
    checks.push(judge_number(checkup::number(number.0, &number.1)));
    checks.push(subscriptions(&client, upstream).await);
    checks
}

async fn ask(
    client: &OutsideClient,
    upstream: &UpstreamSettings,
    look: Look<'_>,
) -> Result<(u16, Bytes), CallError> {
    let base = upstream.base_url.trim_end_matches('/');
    let url = format!("{base}/{}/{}", upstream.version, look.path());
    let token = upstream.token.now();
    let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose_secret()));
    let request = Request::get(url).body(Full::new(Bytes::new()));
    let (Ok(mut bearer), Ok(mut request)) = (bearer, request) else {
        // Configuration of such a form is refused when it is read.
        return Ok((0, Bytes::new()));
    };
    bearer.set_sensitive(true);
    request.headers_mut().insert("authorization", bearer);
    let answer = client.call(request, ANSWER_WITHIN).await?;
    Ok((answer.status().as_u16(), answer.into_body()))
}

fn judge_token(found: Result<Token, Silence>, app_id: &str, now: Timestamp) -> Check {
    let token = match found {
        Ok(token) => token,
        Err(silence @ Silence::Token) => return Check::bad(AREA, silence.to_string(), NEW_TOKEN),
        Err(silence) => return unknown("what the access token is allowed", &silence),
    };
    if !token.is_valid {
        return Check::bad(AREA, "the access token is not valid any more", NEW_TOKEN);
    }
    let missing = token.missing();
    if !missing.is_empty() {
        return Check::bad(
            AREA,
            format!(
                "the access token lacks the permission {}",
                missing.join(" and ")
            ),
            format!("give it to the system user, make a new token; then {NEW_TOKEN}"),
        );
    }
    if !app_id.is_empty() && !token.app_id.is_empty() && token.app_id != app_id {
        return Check::warn(
            AREA,
            format!(
                "the access token belongs to the app {}, and [upstream] app_id names {app_id}",
                token.app_id
            ),
            "write the id of the app whose token this is into [upstream] app_id",
        );
    }
    let end = Timestamp::from_second(token.expires_at)
        .ok()
        .filter(|_| token.expires_at > 0);
    let soon = now
        .saturating_add(Span::new().hours(Alarm::TokenEnds.row().limit * 24))
        .unwrap_or(Timestamp::MAX);
    match end {
        Some(end) if end < soon => Check::warn(
            AREA,
            format!("the access token ends on {}", day(end)),
            Alarm::TokenEnds.remedy(),
        ),
        Some(end) => Check::ok(AREA, format!("the access token is good until {}", day(end))),
        None => Check::ok(AREA, "the access token is good, and does not expire"),
    }
}

fn judge_number(found: Result<Number, Silence>) -> Check {
    let number = match found {
        Ok(number) => number,
        Err(silence @ Silence::Token) => return Check::bad(AREA, silence.to_string(), NEW_TOKEN),
        Err(silence) => return unknown("how the number stands", &silence),
    };
    let quality = match number.quality_rating.as_str() {
        "" | "UNKNOWN" => String::new(),
        quality => format!(", quality {quality}"),
    };
    let stands = format!("the number is {}{quality}", number.status);
    match number.status.as_str() {
        "CONNECTED" => Check::ok(AREA, stands),
        "FLAGGED" | "RESTRICTED" => {
            Check::warn(AREA, stands, "see WhatsApp Manager for the reason")
        }
        "BANNED" => Check::bad(
            AREA,
            stands,
            "see WhatsApp Manager for the reason, and appeal there",
        )
        .elsewhere(),
        _ => Check::warn(AREA, stands, "register it (README, Register the number)"),
    }
}

async fn subscriptions(client: &OutsideClient, upstream: &UpstreamSettings) -> Check {
    if upstream.waba_id.is_empty() {
        return Check::ok(
            AREA,
            "whether the account's events come here is not looked at: [upstream] waba_id is not set; to have it looked at, type: \
             wa-agent setup --waba-id ID --replace",
        );
    }
    let look = Look::Subscriptions {
        waba_id: &upstream.waba_id,
    };
    match ask(client, upstream, look).await {
        Ok((status, body)) => judge_subscriptions(checkup::subscriptions(status, &body), upstream),
        Err(error) => unknown("which apps get the account's events", &error),
    }
}

fn judge_subscriptions(found: Result<Vec<String>, Silence>, upstream: &UpstreamSettings) -> Check {
    let apps = match found {
        Ok(apps) => apps,
        Err(silence) => return unknown("which apps get the account's events", &silence),
    };
    let subscribe = "subscribe the app to the account in its dashboard (WhatsApp, Configuration)";
    if apps.is_empty() {
        return Check::bad(
            AREA,
            format!(
                "no app gets the events of the account {}: no message of a customer arrives",
                upstream.waba_id
            ),
            subscribe,
        )
        .elsewhere();
    }
    if !upstream.app_id.is_empty() && !apps.contains(&upstream.app_id) {
        return Check::warn(
            AREA,
            format!(
                "the app {} does not get the events of the account {}; these do: {}",
                upstream.app_id,
                upstream.waba_id,
                apps.join(", ")
            ),
            subscribe,
        );
    }
    Check::ok(
        AREA,
        format!(
            "events of the account {} go to the app {}",
            upstream.waba_id,
            apps.join(", ")
        ),
    )
}

fn unknown(what: &str, why: &dyn std::fmt::Display) -> Check {
    Check::warn(
        AREA,
        format!("{what} is not known: {why}"),
        "type later again: wa-agent doctor",
    )
}

#[cfg(test)]
mod tests {
    use super::super::Verdict;
    use super::*;

    fn token(change: impl FnOnce(&mut Token)) -> Token {
        let mut token = Token {
            is_valid: true,
            scopes: checkup::SCOPES.map(str::to_owned).to_vec(),
            expires_at: 0,
            app_id: "7".into(),
        };
        change(&mut token);
        token
    }

    /// Goal: a token that cannot do its work, or not for long, is said before it matters. Method: one of each sort.
    #[test]
    fn tokens_are_judged() {
        let now = Timestamp::from_second(1_800_000_000).expect("a moment");
        let day = 24 * 3600;
        let judge = |token| judge_token(Ok(token), "7", now);
        assert_eq!(judge(token(|_| {})).verdict, Verdict::Ok);
        assert_eq!(judge(token(|t| t.is_valid = false)).verdict, Verdict::Bad);
        let lacking = judge(token(|t| t.scopes.truncate(1)));
        assert_eq!(lacking.verdict, Verdict::Bad);
        assert!(
            lacking.text.contains(checkup::SCOPES[1]),
            "{}",
            lacking.text
        );
        let ends = |days: i64| judge(token(|t| t.expires_at = 1_800_000_000 + days * day));
        assert_eq!(ends(29).verdict, Verdict::Warn);
        assert_eq!(ends(31).verdict, Verdict::Ok);
        assert_eq!(
            judge(token(|t| t.app_id = "8".into())).verdict,
            Verdict::Warn
        );
        assert_eq!(
            judge_token(Err(Silence::Token), "", now).verdict,
            Verdict::Bad
        );
        let odd = judge_token(Err(Silence::Unread { status: 200 }), "", now);
        assert_eq!(odd.verdict, Verdict::Warn);
    }

    /// Goal: a number in trouble is named as what it is. Method: every state that the upstream documents.
    #[test]
    fn numbers_are_judged() {
        let judge = |status: &str| {
            let quality_rating = "RED".into();
            let number = Number {
                status: status.into(),
                quality_rating,
                ..Number::default()
            };
            judge_number(Ok(number)).verdict
        };
        assert_eq!(judge("CONNECTED"), Verdict::Ok);
        for status in [
            "FLAGGED",
            "RESTRICTED",
            "DISCONNECTED",
            "PENDING",
            "UNVERIFIED",
            "MIGRATED",
            "DELETED",
            "NEW_ONE",
        ] {
            assert_eq!(judge(status), Verdict::Warn, "{status}");
        }
        assert_eq!(judge("BANNED"), Verdict::Bad);
        assert_eq!(judge_number(Err(Silence::Token)).verdict, Verdict::Bad);
    }
}
