//! `/v1/settings/business` and `/v1/settings/profile/about`: the business as its customers see it, and what the law of India
//! wants to know of it.
//! Asks nobody: `api/cloud/profile.rs` says how the upstream writes the same.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::Meta;
use super::fields::Fields;
use super::vertical;
use crate::api::error::ApiError;

/// Longest texts, in characters. Where the two APIs differ, the longer one: the upstream judges.
const ABOUT_LEN_MAX: usize = 139;
const ADDRESS_LEN_MAX: usize = 256;
const DESCRIPTION_LEN_MAX: usize = 512;
const EMAIL_LEN_MAX: usize = 128;
const VERTICAL_LEN_MAX: usize = 128;
const WEBSITE_LEN_MAX: usize = 256;
const WEBSITES_MAX: usize = 2;
/// Of each text of the compliance information. No document names one: this one only bounds what is passed on.
const COMPLIANCE_LEN_MAX: usize = 256;

/// The business as the upstream shows it. What was never set is empty.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Profile {
    pub about: String,
    pub address: String,
    pub description: String,
    pub email: String,
    /// The upstream's word, such as `RETAIL`.
    pub vertical: String,
    pub websites: Vec<String>,
    /// Where the photo can be fetched, for a while.
    pub photo: Option<String>,
}

/// What is to become of the profile: `None` stays as it is, an empty text is taken away.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct ProfileChange {
    pub about: Option<String>,
    pub address: Option<String>,
    pub description: Option<String>,
    pub email: Option<String>,
    /// The upstream's word.
    pub vertical: Option<String>,
    pub websites: Option<Vec<String>>,
}

/// The body of `POST /v1/settings/business/profile`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct BusinessProfile {
    #[schema(max_length = 256)]
    pub address: String,
    #[schema(max_length = 512)]
    pub description: String,
    #[schema(max_length = 128)]
    pub email: String,
    #[schema(max_length = 128, example = "RETAIL")]
    pub vertical: String,
    #[schema(max_items = 2)]
    pub websites: Vec<String>,
}

/// The answer of `GET /v1/settings/business/profile`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BusinessProfileAnswer {
    pub settings: BusinessProfileSettings,
    pub meta: Meta,
}

/// `{"business":{"profile":…}}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BusinessProfileSettings {
    pub business: BusinessProfileOf,
}

/// `{"profile":…}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct BusinessProfileOf {
    pub profile: BusinessProfile,
}

/// The body of `PATCH /v1/settings/profile/about`.
#[derive(Debug, Clone, Serialize, ToSchema)]
pub struct About {
    #[schema(min_length = 1, max_length = 139)]
    pub text: String,
}

/// The answer of `GET /v1/settings/profile/about`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AboutAnswer {
    pub settings: AboutSettings,
    pub meta: Meta,
}

/// `{"profile":{"about":…}}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AboutSettings {
    pub profile: AboutOf,
}

/// `{"about":…}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct AboutOf {
    pub about: About,
}

impl Profile {
    /// What `GET /v1/settings/business/profile` answers.
    pub fn business(self) -> BusinessProfileAnswer {
        let profile = BusinessProfile {
            address: self.address,
            description: self.description,
            email: self.email,
            vertical: self.vertical,
            websites: self.websites,
        };
        BusinessProfileAnswer {
            settings: BusinessProfileSettings {
                business: BusinessProfileOf { profile },
            },
            meta: Meta::default(),
        }
    }

    /// What `GET /v1/settings/profile/about` answers.
    pub fn about(self) -> AboutAnswer {
        let about = About { text: self.about };
        AboutAnswer {
            settings: AboutSettings {
                profile: AboutOf { about },
            },
            meta: Meta::default(),
        }
    }
}

impl ProfileChange {
    /// Reads a change of the business profile.
    ///
    /// # Errors
    /// 1008 when it names nothing, 1001 and 1009 for what it may not name.
    pub fn of_business(body: &mut Fields) -> Result<Self, ApiError> {
        let change = Self {
            about: None,
            address: body.text_or_empty_within("address", ADDRESS_LEN_MAX)?,
            description: body.text_or_empty_within("description", DESCRIPTION_LEN_MAX)?,
            email: body.text_or_empty_within("email", EMAIL_LEN_MAX)?,
            vertical: wanted_vertical(body)?,
            websites: wanted_websites(body)?,
        };
        match change == Self::default() {
            true => Err(ApiError::missing(
                "address, description, email, vertical or websites",
            )),
            false => Ok(change),
        }
    }

    /// Reads a change of the about text.
    ///
    /// # Errors
    /// 1008 when it is missing or empty, 1001 when it is too long, 1009 when it is no text.
    pub fn of_about(body: &mut Fields) -> Result<Self, ApiError> {
        let text = body.text_within("text", ABOUT_LEN_MAX)?;
        let text = text.filter(|text| !text.trim().is_empty());
        Ok(Self {
            about: Some(text.ok_or_else(|| body.missing("text"))?),
            ..Self::default()
        })
    }
}

fn wanted_vertical(body: &mut Fields) -> Result<Option<String>, ApiError> {
    let Some(text) = body.text_within("vertical", VERTICAL_LEN_MAX)? else {
        return Ok(None);
    };
    match vertical::word(&text) {
        Some(word) => Ok(Some(word.to_owned())),
        None => {
            let words: Vec<&str> = vertical::words().collect();
            Err(body.invalid("vertical", &format!("one of {}", words.join(", "))))
        }
    }
}

/// A list, a text that is one address, or a text that is a list in JSON. Empty items say nothing.
fn wanted_websites(body: &mut Fields) -> Result<Option<Vec<String>>, ApiError> {
    const LIST: &str = "a list of addresses";
    let items = match body.value("websites") {
        None => return Ok(None),
        Some(Value::Array(items)) => items,
        Some(Value::String(text)) => listed(text),
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => {
            return Err(body.invalid("websites", LIST));
        }
    };
    let mut found = Vec::new();
    for (index, item) in items.into_iter().enumerate() {
        let name = format!("websites[{index}]");
        match item {
            Value::Null => {}
            Value::String(text) if text.trim().is_empty() => {}
            Value::String(text) => {
                found.push(body.not_longer(&name, text, WEBSITE_LEN_MAX)?);
            }
            Value::Bool(_) | Value::Number(_) | Value::Array(_) | Value::Object(_) => {
                return Err(body.invalid(&name, "an address"));
            }
        }
    }
    match found.len() > WEBSITES_MAX {
        true => Err(body.invalid("websites", "at most 2 addresses")),
        false => Ok(Some(found)),
    }
}

/// The items of a text that holds a list, or the text itself.
pub fn listed(text: String) -> Vec<Value> {
    match serde_json::from_str(&text) {
        Ok(Value::Array(items)) => items,
        Ok(_) | Err(_) => vec![Value::String(text)],
    }
}

/// How customers reach somebody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Contact {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landline_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mobile_number: Option<String>,
}

/// Who answers complaints.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Officer {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub email: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub landline_number: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mobile_number: Option<String>,
}

/// What the law of India wants to know of a business. What is not known is absent.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(default)]
pub struct Compliance {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    #[schema(example = "PARTNERSHIP")]
    pub entity_type: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub entity_type_custom: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub is_registered: Option<bool>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub customer_care_details: Option<Contact>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub grievance_officer_details: Option<Officer>,
}

impl Compliance {
    /// Reads a change; which of its fields a business needs, the upstream knows.
    ///
    /// # Errors
    /// 1008 when it names nothing, 1001 and 1009 for what it may not name.
    pub fn of_client(body: &mut Fields) -> Result<Self, ApiError> {
        let mut text = |name: &str| body.text_within(name, COMPLIANCE_LEN_MAX);
        let (entity_name, entity_type) = (text("entity_name")?, text("entity_type")?);
        let entity_type_custom = text("entity_type_custom")?;
        let info = Self {
            entity_name,
            entity_type,
            entity_type_custom,
            is_registered: body.flag("is_registered")?,
            customer_care_details: body
                .filled_object("customer_care_details")?
                .map(contact)
                .transpose()?,
            grievance_officer_details: body
                .filled_object("grievance_officer_details")?
                .map(officer)
                .transpose()?,
        };
        match info == Self::default() {
            true => Err(body.missing("entity_name")),
            false => Ok(info),
        }
    }

    /// What the two paths answer: each names the information where it stands itself.
    pub fn answer(&self, below_profile: bool) -> Value {
        let business = match below_profile {
            true => json!({"profile": {"compliance_info": self}}),
            false => json!({"compliance_info": self}),
        };
        json!({"settings": {"business": business}, "meta": Meta::default()})
    }
}

fn contact(mut body: Fields) -> Result<Contact, ApiError> {
    let mut text = |name: &str| body.text_within(name, COMPLIANCE_LEN_MAX);
    Ok(Contact {
        email: text("email")?,
        landline_number: text("landline_number")?,
        mobile_number: text("mobile_number")?,
    })
}

fn officer(mut body: Fields) -> Result<Officer, ApiError> {
    let name = body.text_within("name", COMPLIANCE_LEN_MAX)?;
    let rest = contact(body)?;
    Ok(Officer {
        name,
        email: rest.email,
        landline_number: rest.landline_number,
        mobile_number: rest.mobile_number,
    })
}

/// The answer of the compliance calls, for the description of the API.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComplianceAnswer {
    pub settings: ComplianceSettings,
    pub meta: Meta,
}

/// `{"business":{"compliance_info":…}}`; below the profile's path `{"business":{"profile":{"compliance_info":…}}}`.
#[derive(Debug, Serialize, ToSchema)]
pub struct ComplianceSettings {
    #[schema(value_type = Object)]
    pub business: Value,
}

#[cfg(test)]
#[path = "business_tests.rs"]
mod tests;
