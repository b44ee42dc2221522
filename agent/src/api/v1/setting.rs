//! `/v1/settings/application`: every documented field, its type, its default, and how a PATCH changes it.
//! Stores nothing: `db/setting.rs` keeps the JSON of [`ApplicationSettings`] under a version.

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use serde_json::{Map, Value};
use utoipa::ToSchema;

use super::Meta;
use crate::api::error::ApiError;

/// Shortest heartbeat interval.
pub const HEARTBEAT_MS_MIN: u64 = 10;
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
        seconds(&value).ok_or_else(|| serde::de::Error::custom("not a number of seconds"))
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
    /// `None` until a PATCH: then the configured profile's value is in force, and `GET` shows that.
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
}

/// A span in seconds: a number, or a string as old clients send it.
fn seconds(value: &Value) -> Option<Seconds> {
    let number = match value {
        Value::Number(number) => number.as_f64()?,
        Value::String(text) => text.trim().parse().ok()?,
        _ => return None,
    };
    let ms = (number * 1000.0).round();
    // In range, so the cast neither truncates nor wraps.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
    (number.is_finite() && (0.0..=1e12).contains(&ms)).then_some(Seconds { ms: ms as u64 })
}

/// Changes `target` if the field is there, by `read`; `what` says what it must be.
fn field<T>(
    object: &Map<String, Value>,
    name: &str,
    target: &mut T,
    what: &str,
    read: impl FnOnce(&Value) -> Option<T>,
) -> Result<(), ApiError> {
    if let Some(value) = object.get(name) {
        *target = read(value).ok_or_else(|| ApiError::invalid(format!("{name} must be {what}")))?;
    }
    Ok(())
}

fn boolean(value: &Value) -> Option<bool> {
    match value {
        Value::Bool(on) => Some(*on),
        Value::String(text) => text.parse().ok(),
        _ => None,
    }
}

fn whole(value: &Value) -> Option<u64> {
    match value {
        // `3000.0` is what some JSON writers make of an integer.
        Value::Number(number) => number.as_u64().or_else(|| {
            number
                .as_f64()
                .filter(|n| n.fract() == 0.0)
                .and_then(|n| format!("{n:.0}").parse().ok())
        }),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

fn one_of(value: &Value, words: &[&str]) -> Option<String> {
    value
        .as_str()
        .filter(|word| words.contains(word))
        .map(ToOwned::to_owned)
}

/// The object under `name`, if it is there; anything but an object is 1009.
fn section<'a>(
    object: &'a Map<String, Value>,
    name: &str,
) -> Result<Option<&'a Map<String, Value>>, ApiError> {
    match object.get(name) {
        None => Ok(None),
        Some(Value::Object(section)) => Ok(Some(section)),
        Some(_) => Err(ApiError::invalid(format!("{name} must be an object"))),
    }
}

impl ApplicationSettings {
    /// Reads what is stored; what an older or newer version wrote beside it is ignored.
    pub fn from_stored(json: &str) -> Result<Self, serde_json::Error> {
        serde_json::from_str(json)
    }

    /// The settings after a PATCH. Absent fields stay, unknown fields are ignored, one bad field refuses all.
    pub fn patched(&self, body: &Map<String, Value>, rules: Rules) -> Result<Self, ApiError> {
        // Some clients send back what GET showed, wrapped as it was.
        let body = match body.get("settings").and_then(|s| s.get("application")) {
            Some(Value::Object(inner)) => inner,
            _ => body,
        };
        let mut new = self.clone();
        new.patch_callbacks(body)?;
        new.patch_intervals(body, rules)?;
        new.patch_switches(body)?;
        if let Some(webhooks) = section(body, "webhooks")? {
            new.patch_webhooks(webhooks, rules.allow_http)?;
        }
        if let Some(media) = section(body, "media")? {
            let kinds = "a list of audio, document, image, video, voice, sticker";
            field(
                media,
                "auto_download",
                &mut new.media.auto_download,
                kinds,
                |v| {
                    v.as_array()?
                        .iter()
                        .map(|kind| one_of(kind, &MEDIA_KINDS))
                        .collect()
                },
            )?;
        }
        new.wa_id = None;
        Ok(new)
    }

    fn patch_callbacks(&mut self, body: &Map<String, Value>) -> Result<(), ApiError> {
        let delay = |v: &Value| whole(v).filter(|ms| (1..=BACKOFF_MS_MAX).contains(ms));
        let what = "a number of milliseconds from 1 to 86400000";
        field(
            body,
            "callback_backoff_delay_ms",
            &mut self.callback_backoff_delay_ms,
            what,
            delay,
        )?;
        field(
            body,
            "max_callback_backoff_delay_ms",
            &mut self.max_callback_backoff_delay_ms,
            what,
            delay,
        )?;
        if self.max_callback_backoff_delay_ms < self.callback_backoff_delay_ms {
            return Err(ApiError::invalid(
                "max_callback_backoff_delay_ms must not be below callback_backoff_delay_ms",
            ));
        }
        field(
            body,
            "callback_persist",
            &mut self.callback_persist,
            "a boolean",
            boolean,
        )
    }

    fn patch_intervals(&mut self, body: &Map<String, Value>, rules: Rules) -> Result<(), ApiError> {
        let heartbeat = |v: &Value| {
            seconds(v)
                .filter(|s| (HEARTBEAT_MS_MIN..=INTERVAL_MS_MAX).contains(&s.ms))
                .map(Some)
        };
        let unhealthy = |v: &Value| {
            seconds(v)
                .filter(|s| (3 * HEARTBEAT_MS_MIN..=INTERVAL_MS_MAX).contains(&s.ms))
                .map(Some)
        };
        let seconds_from = "a number of seconds from 0.01 to 3600";
        field(
            body,
            "heartbeat_interval",
            &mut self.heartbeat_interval,
            seconds_from,
            heartbeat,
        )?;
        field(
            body,
            "unhealthy_interval",
            &mut self.unhealthy_interval,
            "a number of seconds from 0.03 to 3600",
            unhealthy,
        )?;
        let heartbeat = self.heartbeat_interval.unwrap_or(rules.heartbeat);
        let unhealthy = self.unhealthy_interval.unwrap_or(rules.unhealthy);
        if unhealthy.ms < 3 * heartbeat.ms {
            return Err(ApiError::invalid(
                "unhealthy_interval must be at least 3 times heartbeat_interval",
            ));
        }
        Ok(())
    }

    fn patch_switches(&mut self, body: &Map<String, Value>) -> Result<(), ApiError> {
        let flag = "a boolean";
        field(
            body,
            "notify_user_change_number",
            &mut self.notify_user_change_number,
            flag,
            boolean,
        )?;
        field(
            body,
            "show_security_notifications",
            &mut self.show_security_notifications,
            flag,
            boolean,
        )?;
        field(body, "pass_through", &mut self.pass_through, flag, boolean)?;
        field(
            body,
            "verbose_logging",
            &mut self.verbose_logging,
            flag,
            boolean,
        )?;
        field(
            body,
            "log_level",
            &mut self.log_level,
            "error, warning, info or debug",
            |v| one_of(v, &LOG_LEVELS),
        )?;
        // The earlier, flat name.
        let messages = &mut self.garbagecollector_enable.messages;
        field(body, "db_garbagecollector_enable", messages, flag, boolean)?;
        if let Some(gc) = section(body, "garbagecollector_enable")? {
            field(
                gc,
                "messages",
                &mut self.garbagecollector_enable.messages,
                flag,
                boolean,
            )?;
            field(
                gc,
                "media",
                &mut self.garbagecollector_enable.media,
                flag,
                boolean,
            )?;
        }
        field(body, "sent_status", &mut self.sent_status, flag, boolean)?;
        if body.contains_key("sent_status") {
            self.webhooks.message.sent = self.sent_status;
        }
        Ok(())
    }

    fn patch_webhooks(
        &mut self,
        webhooks: &Map<String, Value>,
        allow_http: bool,
    ) -> Result<(), ApiError> {
        let what = if allow_http {
            "an http or https URL, or empty"
        } else {
            "an https URL, or empty"
        };
        field(webhooks, "url", &mut self.webhooks.url, what, |v| {
            v.as_str()
                .filter(|text| text.is_empty() || is_webhook_url(text, allow_http))
                .map(ToOwned::to_owned)
        })?;
        field(
            webhooks,
            "max_concurrent_requests",
            &mut self.webhooks.max_concurrent_requests,
            "6, 12, 18 or 24",
            |v| {
                u32::try_from(whole(v)?)
                    .ok()
                    .filter(|n| CONCURRENT_REQUESTS.contains(n))
            },
        )?;
        if let Some(message) = section(webhooks, "message")? {
            let statuses = &mut self.webhooks.message;
            field(message, "sent", &mut statuses.sent, "a boolean", boolean)?;
            field(
                message,
                "delivered",
                &mut statuses.delivered,
                "a boolean",
                boolean,
            )?;
            field(message, "read", &mut statuses.read, "a boolean", boolean)?;
            self.sent_status = statuses.sent;
        }
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

    /// What `GET` shows: the intervals in force and the account's number filled in.
    pub fn shown(&self, rules: Rules, wa_id: Option<String>) -> Self {
        Self {
            heartbeat_interval: Some(self.heartbeat_interval.unwrap_or(rules.heartbeat)),
            unhealthy_interval: Some(self.unhealthy_interval.unwrap_or(rules.unhealthy)),
            wa_id,
            ..self.clone()
        }
    }
}

fn is_webhook_url(text: &str, allow_http: bool) -> bool {
    text.len() <= URL_LEN_MAX
        && url::Url::parse(text).is_ok_and(|url| {
            (url.scheme() == "https" || (allow_http && url.scheme() == "http"))
                && url.host_str().is_some_and(|host| !host.is_empty())
        })
}

#[cfg(test)]
#[path = "setting_tests.rs"]
mod tests;
