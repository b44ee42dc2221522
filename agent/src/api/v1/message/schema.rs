//! How objects of messages look in the description of the API, where parsing keeps another form of them.
//! Reads nothing: the file of each type does, and answers documented codes.

use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

/// `{"message_id":"…","emoji":"👍"}`; an empty emoji takes the reaction away.
#[derive(Debug, Serialize, ToSchema)]
pub struct ReactionObject {
    pub message_id: String,
    pub emoji: Option<String>,
}

/// A message with buttons, a list, products, a flow …. Kinds and fields that are not listed here are passed on.
#[derive(Debug, Serialize, ToSchema)]
pub struct InteractiveObject {
    /// `button`, `list`, `product`, `product_list`, `catalog_message`, `flow`, `cta_url`, or a newer kind, which is passed on
    /// as it is.
    pub r#type: String,
    /// `{"type":"text","text":"…"}`, or `image`, `video`, `document` with a media object.
    pub header: Option<Value>,
    /// `{"text":"…"}`; 1024 characters at most, 4096 in a list.
    pub body: Option<Value>,
    /// `{"text":"…"}`; 60 characters at most.
    pub footer: Option<Value>,
    /// As the kind has it.
    pub action: Value,
}

/// A card of a contact. Fields that are not listed here are passed on; `ims` is ignored.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContactCard {
    pub name: ContactName,
    pub org: Option<ContactOrganization>,
    pub phones: Option<Vec<ContactPhone>>,
    /// `{"email":"…","type":"WORK"}`.
    pub emails: Option<Vec<Value>>,
    /// `{"url":"…","type":"WORK"}`.
    pub urls: Option<Vec<Value>>,
    /// `street`, `city`, `state`, `zip`, `country`, `country_code`, `type`.
    pub addresses: Option<Vec<Value>>,
    #[schema(example = "1990-12-31")]
    pub birthday: Option<String>,
}

/// What the customer sees, and its parts.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContactName {
    pub formatted_name: String,
    pub first_name: Option<String>,
    pub last_name: Option<String>,
    pub middle_name: Option<String>,
    pub prefix: Option<String>,
    pub suffix: Option<String>,
}

/// Where somebody works.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContactOrganization {
    pub company: Option<String>,
    pub department: Option<String>,
    pub title: Option<String>,
}

/// A number of a contact; with `wa_id` the customer can write to it at once.
#[derive(Debug, Serialize, ToSchema)]
pub struct ContactPhone {
    pub phone: Option<String>,
    /// `HOME`, `WORK`, `CELL`, `MAIN`, `IPHONE`.
    pub r#type: Option<String>,
    pub wa_id: Option<String>,
}

/// Which template, and what goes into its places.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateObject {
    pub name: String,
    pub language: LanguageObject,
    /// Ignored, but must not be an empty text.
    pub namespace: Option<String>,
    pub components: Option<Vec<TemplateComponent>>,
}

/// The code goes out as it is.
#[derive(Debug, Serialize, ToSchema)]
pub struct LanguageObject {
    #[schema(example = "en_US")]
    pub code: String,
    /// Ignored.
    pub policy: Option<String>,
}

/// A part of a template. Types, and fields, that are not listed here are passed on.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateComponent {
    /// `header`, `body`, `button`, `limited_time_offer` or `carousel`.
    pub r#type: String,
    /// Buttons: `quick_reply`, `url`, `copy_code`, `flow`, `catalog`, `mpm`, `voice_call`.
    pub sub_type: Option<String>,
    /// Buttons: which one, 0 to 9.
    pub index: Option<u8>,
    pub parameters: Option<Vec<TemplateParameter>>,
    /// Carousels: `{"card_index":0,"components":[…]}`, 2 to 10 of them.
    pub cards: Option<Vec<Value>>,
}

/// What is given for one place; the value stands under the name of the type.
#[derive(Debug, Serialize, ToSchema)]
pub struct TemplateParameter {
    /// `text`, `currency`, `date_time`, `image`, `video`, `document`, `gif`, `location`, `product`, `payload`, `coupon_code`,
    /// `action` or `limited_time_offer`.
    pub r#type: String,
    /// The name of the place, where the template has names.
    pub parameter_name: Option<String>,
    pub text: Option<String>,
    /// `{"fallback_value":"$1.50","code":"USD","amount_1000":1500}`.
    pub currency: Option<Value>,
    /// `{"fallback_value":"1 May"}`; all else in it is ignored.
    pub date_time: Option<Value>,
    /// A media object; `video`, `document` and `gif` likewise.
    pub image: Option<Value>,
    /// As in a message of type `location`.
    pub location: Option<Value>,
    pub payload: Option<String>,
}

/// A template in the form of old; it is sent as one whose body has these parameters.
#[derive(Debug, Serialize, ToSchema)]
pub struct HsmObject {
    pub element_name: String,
    pub language: LanguageObject,
    /// Ignored, but must not be an empty text.
    pub namespace: Option<String>,
    /// `{"default":"…"}`, and `currency` or `date_time` beside it.
    pub localizable_params: Option<Vec<Value>>,
}
