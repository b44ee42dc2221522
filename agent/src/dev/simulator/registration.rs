//! The registration of the number, as the vendor has it: codes by SMS, verification, register and deregister with their limit,
//! and the pin. Reads strictly what is documented.
//! The calls themselves are in `registration_calls.rs`, `GET` of the number in `number.rs`.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::refusal::Refusal;

/// Registrations and deregistrations, and in how many seconds.
const TIMES_MAX: usize = 10;
const TIMES_WITHIN_S: u64 = 72 * 3600;

/// The calls that change the number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Change {
    RequestCode,
    VerifyCode,
    Register,
    Deregister,
    SetPin,
}

/// What the vendor knows of the number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Number {
    pub status: String,
    pub code_verification_status: String,
    pub name_status: String,
    pub new_name_status: String,
    pub platform_type: String,
    /// Of the two-step verification; empty: none.
    pub pin: String,
    /// The code that a request sends.
    pub code: String,
    /// It was sent, and not used.
    pub code_sent: bool,
}

impl Default for Number {
    /// Registered, so that a cluster can begin to send.
    fn default() -> Self {
        Self {
            status: "CONNECTED".into(),
            code_verification_status: "VERIFIED".into(),
            name_status: "APPROVED".into(),
            new_name_status: "NONE".into(),
            platform_type: "CLOUD_API".into(),
            pin: String::new(),
            code: "123456".into(),
            code_sent: false,
        }
    }
}

impl Number {
    /// It can send.
    pub fn registered(&self) -> bool {
        self.status == "CONNECTED" && self.platform_type == "CLOUD_API"
    }
}

/// When a call that hangs takes effect.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Hang {
    /// It never does.
    Before,
    /// It has, and nobody is told.
    After,
}

/// The number, what was asked of it, and what goes wrong the next time.
#[derive(Debug, Clone, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Registration {
    pub number: Number,
    /// Calls that came, whatever became of them.
    pub calls: BTreeMap<Change, u64>,
    /// Calls that took effect.
    pub done: BTreeMap<Change, u64>,
    /// The next call is refused with this code.
    pub fail: BTreeMap<Change, u32>,
    /// The next call is never answered.
    pub hang: BTreeMap<Change, Hang>,
    /// When it was registered or deregistered, in seconds since 1970.
    times_s: Vec<u64>,
}

impl Registration {
    /// One more registration or deregistration.
    fn time(&mut self, now_s: u64) -> Result<(), Refusal> {
        self.times_s.retain(|at| at + TIMES_WITHIN_S > now_s);
        if self.times_s.len() >= TIMES_MAX {
            return Err(Refusal::new(133_016, "10 registrations in 72 hours"));
        }
        self.times_s.push(now_s);
        Ok(())
    }

    /// A call takes effect, or is refused.
    ///
    /// # Errors
    /// As the vendor documents it.
    pub fn apply(&mut self, change: Change, bytes: &[u8], now_s: u64) -> Result<(), Refusal> {
        let fields = Fields::of(bytes)?;
        if let Some(code) = self.fail.remove(&change) {
            return Err(Refusal::new(code, "It was asked to fail once"));
        }
        self.change(change, &fields, now_s)?;
        *self.done.entry(change).or_default() += 1;
        Ok(())
    }

    fn change(&mut self, change: Change, body: &Fields, now_s: u64) -> Result<(), Refusal> {
        match change {
            Change::RequestCode => self.request_code(body),
            Change::VerifyCode => self.verify_code(body),
            Change::Register => self.register(body, now_s),
            Change::Deregister => {
                body.only(&[])?;
                self.time(now_s)?;
                if !self.number.registered() {
                    return Err(Refusal::new(133_010, "The number is not registered"));
                }
                self.number.status = "DISCONNECTED".into();
                Ok(())
            }
            Change::SetPin => {
                body.only(&["pin"])?;
                self.number.pin = body.pin()?;
                Ok(())
            }
        }
    }

    fn request_code(&mut self, body: &Fields) -> Result<(), Refusal> {
        body.only(&["code_method", "language"])?;
        if !["SMS", "VOICE"].contains(&body.text("code_method")?) {
            return Err(Refusal::bad("code_method must be SMS or VOICE"));
        }
        let language = body.text("language")?.as_bytes();
        let locale = language.len() == 5 && language[2] == b'_';
        if !locale {
            return Err(Refusal::bad("language must be a locale such as en_US"));
        }
        if self.number.registered() {
            return Err(Refusal::new(136_024, "The number is verified already"));
        }
        self.number.code_sent = true;
        Ok(())
    }

    fn verify_code(&mut self, body: &Fields) -> Result<(), Refusal> {
        body.only(&["code"])?;
        let right = body.text("code")? == self.number.code && self.number.code_sent;
        if !right {
            return Err(Refusal::new(
                136_025,
                "The code is not the one that was sent",
            ));
        }
        self.number.code_sent = false;
        self.number.code_verification_status = "VERIFIED".into();
        Ok(())
    }

    fn register(&mut self, body: &Fields, now_s: u64) -> Result<(), Refusal> {
        body.only(&[
            "messaging_product",
            "pin",
            "backup",
            "tier",
            "data_localization_region",
        ])?;
        if body.text("messaging_product")? != "whatsapp" {
            return Err(Refusal::bad("messaging_product must be whatsapp"));
        }
        if let Some(backup) = body.0.get("backup") {
            let backup = backup
                .as_object()
                .ok_or_else(|| Refusal::bad("backup must be an object"))?;
            let backup = Fields(backup.clone());
            backup.only(&["password", "data"])?;
            backup.text("password")?;
            backup.text("data")?;
        }
        let pin = body.pin()?;
        self.time(now_s)?;
        if self.number.code_verification_status != "VERIFIED" {
            return Err(Refusal::new(133_006, "The number must be verified first"));
        }
        if !self.number.pin.is_empty() && self.number.pin != pin {
            return Err(Refusal::new(133_005, "The pin is not the number's"));
        }
        self.number.pin = pin;
        self.number.status = "CONNECTED".into();
        self.number.platform_type = "CLOUD_API".into();
        self.number.new_name_status = "NONE".into();
        Ok(())
    }
}

/// A body's fields.
struct Fields(Map<String, Value>);

impl Fields {
    fn of(bytes: &[u8]) -> Result<Self, Refusal> {
        if bytes.is_empty() {
            return Ok(Self(Map::new()));
        }
        match serde_json::from_slice(bytes) {
            Ok(Value::Object(map)) => Ok(Self(map)),
            Ok(_) | Err(_) => Err(Refusal::bad("The body must be a JSON object")),
        }
    }

    fn only(&self, known: &[&str]) -> Result<(), Refusal> {
        match self.0.keys().find(|name| !known.contains(&name.as_str())) {
            Some(name) => Err(Refusal::bad(&format!("Unexpected key \"{name}\""))),
            None => Ok(()),
        }
    }

    fn text(&self, name: &str) -> Result<&str, Refusal> {
        let value = self.0.get(name);
        let text =
            value.ok_or_else(|| Refusal::bad(&format!("The parameter {name} is required")))?;
        text.as_str()
            .ok_or_else(|| Refusal::bad(&format!("Param {name} must be a string")))
    }

    fn pin(&self) -> Result<String, Refusal> {
        let pin = self.text("pin")?;
        match pin.len() == 6 && pin.bytes().all(|b| b.is_ascii_digit()) {
            true => Ok(pin.to_owned()),
            false => Err(Refusal::bad("Param pin must be 6 digits")),
        }
    }
}
