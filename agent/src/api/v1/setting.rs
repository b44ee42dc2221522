//! `/v1/settings/application`: every documented field, its type, its default, and how a PATCH changes it.
//! Stores nothing: `db/setting.rs` keeps the JSON of [`ApplicationSettings`] under a version.

use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::Value;
use utoipa::ToSchema;

use super::Meta;
use super::fields::{self, Fields};
use super::interval::{HEARTBEAT_MS_MIN, Judged, Pair, Refusal, Sent};
use crate::api::error::ApiError;

/// Longest interval that anybody may ask for: an hour.
pub const INTERVAL_MS_MAX: u64 = 3_600_000;
/// Longest webhook delay: a day.
pub const BACKOFF_MS_MAX: u64 = 86_400_000;
/// How many webhook requests may be under way at a time.
pub const CONCURRENT_REQUESTS: [u32; 4] = [6, 12, 18, 24];
/// Kinds of media that can be fetched unasked.
pub const MEDIA_KINDS: [&str; 6] = ["audio", "document", "image", "video", "voice", "sticker"];
/// Longest webhook URL, in bytes.
pub const URL_LEN_MAX: usize = 2048;
const LOG_LEVELS: [&str; 5] = ["error", "warning", "warn", "info", "debug"];

/// A span that the API writes in seconds, whole or with a fraction of at most three digits.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Seconds {
    pub ms: u64,
}

impl Serialize for Seconds {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        if self.ms.is_multiple_of(1000) {
            serializer.serialize_u64(self.ms / 1000)
        } else {
            // Exact enough: at most an hour, to the millisecond.
            #[allow(clippy::cast_precision_loss)]
            serializer.serialize_f64(self.ms as f64 / 1000.0)
        }
    }
}

impl<'de> Deserialize<'de> for Seconds {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let value = Value::deserialize(deserializer)?;
        let number = fields::number_of(&value).and_then(seconds);
        number.ok_or_else(|| serde::de::Error::custom("not a number of seconds"))
    }
}

/// The settings as they are stored and as `GET` shows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct ApplicationSettings {
    pub callback_backoff_delay_ms: u64,
    pub max_callback_backoff_delay_ms: u64,
    pub callback_persist: bool,
    /// Legacy switch; the same as `webhooks.message.sent`.
    pub sent_status: bool,
    pub garbagecollector_enable: GarbageCollector,
    /// `None` until a PATCH. Which pair is in force: see [`Sent::judge`].
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, example = 5)]
    pub heartbeat_interval: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<f64>, example = 30)]
    pub unhealthy_interval: Option<Seconds>,
    pub media: Media,
    pub notify_user_change_number: bool,
    pub show_security_notifications: bool,
    pub pass_through: bool,
    pub webhooks: Webhooks,
    pub verbose_logging: bool,
    pub log_level: String,
    /// The account's number; read-only, filled in when read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub wa_id: Option<String>,
    /// What is in force where that may differ from what was sent; read-only, filled in when read.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub effective: Option<Effective>,
}

/// The intervals in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Effective {
    #[schema(value_type = f64, example = 0.2)]
    pub heartbeat_interval: Seconds,
    #[schema(value_type = f64, example = 2)]
    pub unhealthy_interval: Seconds,
}

/// Which old rows are removed by themselves.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct GarbageCollector {
    pub messages: bool,
    pub media: bool,
}

/// Which media are fetched unasked.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Media {
    pub auto_download: Vec<String>,
}

/// Where events go.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Webhooks {
    pub url: String,
    pub max_concurrent_requests: u32,
    pub message: WebhookStatuses,
}

/// Which statuses are reported.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct WebhookStatuses {
    pub sent: bool,
    pub delivered: bool,
    pub read: bool,
}

impl Default for ApplicationSettings {
    fn default() -> Self {
        Self {
            callback_backoff_delay_ms: 3000,
            max_callback_backoff_delay_ms: 900_000,
            callback_persist: true,
            sent_status: false,
            garbagecollector_enable: GarbageCollector::default(),
            heartbeat_interval: None,
            unhealthy_interval: None,
            media: Media::default(),
            notify_user_change_number: false,
            show_security_notifications: false,
            pass_through: false,
            webhooks: Webhooks::default(),
            verbose_logging: false,
            log_level: "info".to_owned(),
            wa_id: None,
            effective: None,
        }
    }
}

impl Default for GarbageCollector {
    fn default() -> Self {
        Self {
            messages: true,
            media: false,
        }
    }
}

impl Default for Media {
    fn default() -> Self {
        Self {
            auto_download: MEDIA_KINDS.iter().map(ToString::to_string).collect(),
        }
    }
}

impl Default for Webhooks {
    fn default() -> Self {
        Self {
            url: String::new(),
            max_concurrent_requests: 6,
            message: WebhookStatuses::default(),
        }
    }
}

impl Default for WebhookStatuses {
    fn default() -> Self {
        Self {
            sent: false,
            delivered: true,
            read: true,
        }
    }
}

/// The answer of `GET`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SettingsAnswer {
    pub settings: SettingsObject,
    pub meta: Meta,
}

/// `{"application":{…}}`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct SettingsObject {
    pub application: ApplicationSettings,
}

/// What is checked beside the fields themselves.
#[derive(Debug, Clone, Copy)]
pub struct Rules {
    /// In force until a PATCH says otherwise.
    pub heartbeat: Seconds,
    pub unhealthy: Seconds,
    /// Plain `http` webhooks: only for a cluster on one machine (`dev`).
    pub allow_http: bool,
    /// By how much timers of masters were late lately, at worst, in milliseconds; 0 where nobody knows.
    pub late_ms: u64,
}

impl Rules {
    /// The rules for these configured intervals.
    pub fn of(heartbeat: Duration, unhealthy: Duration, allow_http: bool) -> Self {
        let seconds = |d: Duration| Seconds {
            ms: u64::try_from(d.as_millis()).unwrap_or(u64::MAX),
        };
        Self {
            heartbeat: seconds(heartbeat),
            unhealthy: seconds(unhealthy),
            allow_http,
            late_ms: 0,
        }
    }

    fn configured(&self) -> Pair {
        Pair {
            heartbeat_ms: self.heartbeat.ms,
            unhealthy_ms: self.unhealthy.ms,
        }
    }
}

/// A refused pair, in words for whoever sent it.
fn refused(refusal: Refusal) -> ApiError {
    let s = |ms: u64| Duration::from_millis(ms).as_secs_f64();
    ApiError::invalid(match refusal {
        Refusal::Unfit(pair) => format!(
            "unhealthy_interval must be at least 3 times heartbeat_interval, and together they would be {} and {}",
            s(pair.unhealthy_ms),
            s(pair.heartbeat_ms)
        ),
        Refusal::TooFast { late_ms, least_ms } => format!(
            "unhealthy_interval must be at least {} now: a master was late by {} lately, and would take living nodes for dead",
            s(least_ms),
            s(late_ms)
        ),
    })
}

/// A span in seconds; `None`: nobody can mean that.
fn seconds(number: f64) -> Option<Seconds> {
    let ms = (number * 1000.0).round();
    // In range, so the cast neither truncates nor wraps.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (number.is_finite() && (0.0..=1e12).contains(&ms)).then_some(Seconds { ms: ms as u64 })
}

/// Changes `target` if there is something to change it to.
fn set<T>(target: &mut T, to: Option<T>) {
    if let Some(to) = to {
        *target = to;
    }
}

/// An interval of at least so long: `None` where none is named, `Some(None)` where it is unset again by `null`.
fn interval(
    body: &mut Fields,
    name: &str,
    least_ms: u64,
) -> Result<Option<Option<Seconds>>, ApiError> {
    if body.is_null(name) {
        return Ok(Some(None));
    }
    let in_range = |s: &Seconds| (least_ms..=INTERVAL_MS_MAX).contains(&s.ms);
    let number = match body.number(name) {
        Ok(None) => return Ok(None),
        Ok(Some(number)) => seconds(number).filter(in_range),
        Err(_) => None,
    };
    match number {
        Some(number) => Ok(Some(Some(number))),
        None => {
            let least = Duration::from_millis(least_ms).as_secs_f64();
            let must_be = format!(
                "a number of seconds from {least} to 3600, or null for the configured value"
            );
            Err(body.invalid(name, &must_be))
        }
    }
}

impl ApplicationSettings {
    /// Reads what is stored; what an older or newer version wrote beside it is ignored.
    pub fn from_stored(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The settings after a PATCH. Absent fields stay, unknown fields are ignored, one bad field refuses all.
    pub fn patched(&self, body: &Fields, rules: Rules) -> Result<Self, ApiError> {
        // Some clients send back what GET showed, wrapped as it was.
        let wrapped = body.clone().descend(&["settings", "application"]);
        let mut body = wrapped.unwrap_or_else(|| body.clone());
        let mut new = self.clone();
        new.patch_callbacks(&mut body)?;
        new.patch_intervals(&mut body, rules)?;
        new.patch_switches(&mut body)?;
        if let Some(mut webhooks) = body.object("webhooks")? {
            new.patch_webhooks(&mut webhooks, rules.allow_http)?;
        }
        if let Some(mut media) = body.object("media")? {
            new.patch_media(&mut media)?;
        }
        (new.wa_id, new.effective) = (None, None);
        Ok(new)
    }

    /// Which pair of intervals is in force, and which one `GET` shows. Masters, webapps and `GET` ask here, and nobody reads the
    /// fields by rules of their own.
    pub fn intervals(&self, rules: Rules) -> Judged {
        self.sent().judge(rules.configured())
    }

    fn sent(&self) -> Sent {
        Sent {
            heartbeat_ms: self.heartbeat_interval.map(|s| s.ms),
            unhealthy_ms: self.unhealthy_interval.map(|s| s.ms),
        }
    }

    fn patch_callbacks(&mut self, body: &mut Fields) -> Result<(), ApiError> {
        let delays = 1..=BACKOFF_MS_MAX;
        set(
            &mut self.callback_backoff_delay_ms,
            body.whole("callback_backoff_delay_ms", delays.clone())?,
        );
        set(
            &mut self.max_callback_backoff_delay_ms,
            body.whole("max_callback_backoff_delay_ms", delays)?,
        );
        if self.max_callback_backoff_delay_ms < self.callback_backoff_delay_ms {
            return Err(ApiError::invalid(
                "max_callback_backoff_delay_ms must not be below callback_backoff_delay_ms",
            ));
        }
        set(&mut self.callback_persist, body.flag("callback_persist")?);
        Ok(())
    }

    fn patch_intervals(&mut self, body: &mut Fields, rules: Rules) -> Result<(), ApiError> {
        let heartbeat = interval(body, "heartbeat_interval", HEARTBEAT_MS_MIN)?;
        set(&mut self.heartbeat_interval, heartbeat);
        let unhealthy = interval(body, "unhealthy_interval", 3 * HEARTBEAT_MS_MIN)?;
        set(&mut self.unhealthy_interval, unhealthy);
        // What is stored already, and not touched by this call, was judged when it came.
        if heartbeat.is_none() && unhealthy.is_none() {
            return Ok(());
        }
        self.sent()
            .check(rules.configured(), rules.late_ms)
            .map_err(refused)
    }

    fn patch_switches(&mut self, body: &mut Fields) -> Result<(), ApiError> {
        for (name, target) in [
            (
                "notify_user_change_number",
                &mut self.notify_user_change_number,
            ),
            (
                "show_security_notifications",
                &mut self.show_security_notifications,
            ),
            ("pass_through", &mut self.pass_through),
            ("verbose_logging", &mut self.verbose_logging),
        ] {
            set(target, body.flag(name)?);
        }
        set(&mut self.log_level, body.word("log_level", &LOG_LEVELS)?);
        let collector = &mut self.garbagecollector_enable;
        // The earlier, flat name.
        set(
            &mut collector.messages,
            body.flag("db_garbagecollector_enable")?,
        );
        if let Some(mut gc) = body.object("garbagecollector_enable")? {
            set(&mut collector.messages, gc.flag("messages")?);
            set(&mut collector.media, gc.flag("media")?);
        }
        if let Some(sent) = body.flag("sent_status")? {
            self.sent_status = sent;
            self.webhooks.message.sent = sent;
        }
        Ok(())
    }

    fn patch_webhooks(&mut self, webhooks: &mut Fields, allow_http: bool) -> Result<(), ApiError> {
        let must_be = if allow_http {
            "an https URL, an http URL of this machine (localhost), or empty"
        } else {
            "an https URL, or empty"
        };
        let url = webhooks.text_or_empty("url");
        let good = |text: &String| text.is_empty() || is_webhook_url(text, allow_http);
        match url {
            Ok(None) => {}
            Ok(Some(url)) if good(&url) => self.webhooks.url = url,
            Ok(Some(_)) | Err(_) => return Err(webhooks.invalid("url", must_be)),
        }
        let at_once = webhooks.whole("max_concurrent_requests", 0..=u64::from(u32::MAX));
        let at_once = match at_once {
            Ok(None) => None,
            Ok(Some(number)) => Some(u32::try_from(number).unwrap_or(0)),
            Err(_) => Some(0),
        };
        if at_once.is_some_and(|number| !CONCURRENT_REQUESTS.contains(&number)) {
            return Err(webhooks.invalid("max_concurrent_requests", "6, 12, 18 or 24"));
        }
        set(&mut self.webhooks.max_concurrent_requests, at_once);
        if let Some(mut message) = webhooks.object("message")? {
            let statuses = &mut self.webhooks.message;
            set(&mut statuses.sent, message.flag("sent")?);
            set(&mut statuses.delivered, message.flag("delivered")?);
            set(&mut statuses.read, message.flag("read")?);
            self.sent_status = statuses.sent;
        }
        Ok(())
    }

    fn patch_media(&mut self, media: &mut Fields) -> Result<(), ApiError> {
        let Some(kinds) = media.list("auto_download")? else {
            return Ok(());
        };
        let kinds = kinds.texts()?;
        if kinds
            .iter()
            .any(|kind| !MEDIA_KINDS.contains(&kind.as_str()))
        {
            let must_be = format!("a list of {}", MEDIA_KINDS.join(", "));
            return Err(media.invalid("auto_download", &must_be));
        }
        self.media.auto_download = kinds;
        Ok(())
    }

    /// As whoever may look, but may not change them, sees them: without what may be a secret in the webhook's address.
    pub fn without_secrets(mut self) -> Self {
        if let Ok(mut url) = url::Url::parse(&self.webhooks.url) {
            if url.password().is_some() {
                let _ = url.set_password(Some("***"));
            }
            if url.query().is_some() {
                url.set_query(Some("***"));
            }
            self.webhooks.url = url.to_string();
        }
        self
    }

    /// What `GET` shows: the intervals as they were sent and as they are in force, and the account's number.
    pub fn shown(&self, rules: Rules, wa_id: Option<String>) -> Self {
        let seconds = |ms| Seconds { ms };
        let Judged {
            in_force, shown, ..
        } = self.intervals(rules);
        Self {
            heartbeat_interval: Some(seconds(shown.heartbeat_ms)),
            unhealthy_interval: Some(seconds(shown.unhealthy_ms)),
            wa_id,
            effective: Some(Effective {
                heartbeat_interval: seconds(in_force.heartbeat_ms),
                unhealthy_interval: seconds(in_force.unhealthy_ms),
            }),
            ..self.clone()
        }
    }
}

fn is_webhook_url(text: &str, allow_http: bool) -> bool {
    text.len() <= URL_LEN_MAX
        && url::Url::parse(text).is_ok_and(|url| {
            (url.scheme() == "https" || (allow_http && in_the_clear(&url)))
                && url.host_str().is_some_and(|host| !host.is_empty())
        })
}

/// `http` to a receiver on this machine: the only one to which anything is delivered in the clear.
pub fn in_the_clear(url: &url::Url) -> bool {
    let local = match url.host() {
        Some(url::Host::Ipv4(ip)) => ip.is_loopback(),
        Some(url::Host::Ipv6(ip)) => ip.is_loopback(),
        Some(url::Host::Domain(name)) => name == "localhost",
        None => false,
    };
    url.scheme() == "http" && local
}

#[cfg(test)]
#[path = "setting_tests.rs"]
mod tests;
