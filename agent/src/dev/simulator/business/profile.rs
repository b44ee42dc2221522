//! `whatsapp_business_profile` and `business_compliance_info`: what is documented is taken, kept and shown again.
//! The photo's file is in `photo.rs`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, Request, State};
use axum::http::header;
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::super::reader::strict::Strict;
use super::super::refusal::Refusal;
use super::super::state::{Simulator, lock};
use super::entry;

/// Every field that can be asked for.
const FIELDS: &[&str] = &[
    "about",
    "address",
    "description",
    "email",
    "profile_picture_url",
    "websites",
    "vertical",
];
/// What `vertical` may be set to.
const VERTICALS: &[&str] = &[
    "OTHER",
    "AUTO",
    "BEAUTY",
    "APPAREL",
    "EDU",
    "ENTERTAIN",
    "EVENT_PLAN",
    "FINANCE",
    "GROCERY",
    "GOVT",
    "HOTEL",
    "HEALTH",
    "NONPROFIT",
    "PROF_SERVICES",
    "RETAIL",
    "TRAVEL",
    "RESTAURANT",
    "ALCOHOL",
    "ONLINE_GAMBLING",
    "PHYSICAL_GAMBLING",
    "OTC_DRUGS",
    "MATRIMONY_SERVICE",
];
const WEBSITES_MAX: usize = 2;
const WEBSITE_LEN_MAX: usize = 256;

/// What may stand behind the question mark.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Asked {
    fields: Option<String>,
}

/// GET of the profile.
pub async fn read(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (mut parts, _) = request.into_parts();
    let _judged = entry::begin(&simulator, "profile", &parts, &phone).await?;
    let asked: Asked = entry::query(&mut parts).await?;
    let host = parts.headers.get(header::HOST);
    let host = host.and_then(|host| host.to_str().ok()).unwrap_or_default();
    let business = lock(&simulator.business);
    let mut all = business.profile.clone();
    if let Some(id) = business.photos.shown() {
        let url = format!("http://{host}/picture/{id}");
        all.insert("profile_picture_url".into(), url.into());
    }
    drop(business);
    let names = asked.fields.unwrap_or_else(|| FIELDS.join(","));
    let mut found = Map::new();
    for name in names.split(',') {
        if !FIELDS.contains(&name) {
            let why = format!("Tried accessing nonexisting field ({name})");
            return Err(Refusal::bad(&why));
        }
        if let Some(value) = all.remove(name) {
            found.insert(name.to_owned(), value);
        }
    }
    found.insert("messaging_product".into(), "whatsapp".into());
    let deeper = lock(&simulator.knobs).profile_deeper;
    Ok(Json(match deeper {
        false => json!({ "data": [found] }),
        true => json!({"data": [{"business_profile": found, "id": phone}]}),
    }))
}

/// POST of the profile: what is named changes.
pub async fn change(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (parts, body) = request.into_parts();
    let _judged = entry::begin(&simulator, "profile", &parts, &phone).await?;
    let map = entry::object(body).await?;
    let mut body = Strict::new(String::new(), &map);
    body.need_word("messaging_product", &["whatsapp"])?;
    let mut wanted = Map::new();
    if let Some(about) = body.text_within("about", 139)? {
        wanted.insert("about".into(), about.into());
    }
    for (name, most) in [("address", 256), ("description", 512), ("email", 128)] {
        let text = body.any_text(name)?;
        if text.is_some_and(|text| text.chars().count() > most) {
            let why = format!("{name} may have {most} characters");
            return Err(Refusal::value(&why));
        }
        if let Some(text) = text {
            wanted.insert(name.into(), text.into());
        }
    }
    if body.has("vertical") {
        let vertical = body.need_word("vertical", VERTICALS)?;
        wanted.insert("vertical".into(), vertical.into());
    }
    if let Some(websites) = body.raw("websites") {
        wanted.insert("websites".into(), websites_of(websites)?);
    }
    let handle = body.text("profile_picture_handle")?.map(str::to_owned);
    body.end()?;
    if wanted.is_empty() && handle.is_none() {
        return Err(Refusal::bad("Nothing is to be changed"));
    }
    let mut business = lock(&simulator.business);
    if let Some(handle) = handle {
        entry::misbehave_now(&simulator, "photo")?;
        business.photos.show(&handle)?;
    }
    // Empty texts are shown as if they had never been set.
    business.profile.extend(wanted);
    business
        .profile
        .retain(|_, value| *value != "" && *value != json!([]));
    Ok(Json(json!({"success": true})))
}

fn websites_of(value: &Value) -> Result<Value, Refusal> {
    let items = value.as_array();
    let items = items.ok_or_else(|| Refusal::bad("websites must be a list"))?;
    if items.len() > WEBSITES_MAX {
        return Err(Refusal::value("websites may have 2 items"));
    }
    for item in items {
        let text = item.as_str();
        let text = text.ok_or_else(|| Refusal::bad("websites must hold strings"))?;
        let good = url::Url::parse(text).is_ok_and(|url| matches!(url.scheme(), "http" | "https"));
        if !good || text.chars().count() > WEBSITE_LEN_MAX {
            return Err(Refusal::value("a website is no address"));
        }
    }
    Ok(value.clone())
}

/// GET of the compliance information.
pub async fn read_compliance(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (parts, _) = request.into_parts();
    let _judged = entry::begin(&simulator, "compliance", &parts, &phone).await?;
    let kept = lock(&simulator.business).compliance.clone();
    let data: Vec<Value> = kept
        .into_iter()
        .map(|mut info| {
            info.insert("messaging_product".into(), "whatsapp".into());
            info.into()
        })
        .collect();
    Ok(Json(json!({ "data": data })))
}

/// POST of the compliance information.
pub async fn change_compliance(
    State(simulator): State<Arc<Simulator>>,
    Path((_, phone)): Path<(String, String)>,
    request: Request,
) -> Result<Json<Value>, Refusal> {
    let (parts, body) = request.into_parts();
    let _judged = entry::begin(&simulator, "compliance", &parts, &phone).await?;
    let mut map = entry::object(body).await?;
    let mut body = Strict::new(String::new(), &map);
    body.need_word("messaging_product", &["whatsapp"])?;
    for name in ["entity_name", "entity_type", "entity_type_custom"] {
        body.text(name)?;
    }
    body.boolean("is_registered")?;
    let people: [(&str, &[&str]); 2] = [
        (
            "customer_care_details",
            &["email", "landline_number", "mobile_number"],
        ),
        (
            "grievance_officer_details",
            &["name", "email", "landline_number", "mobile_number"],
        ),
    ];
    for (name, fields) in people {
        if let Some(mut object) = body.object(name)? {
            for field in fields {
                object.text(field)?;
            }
            object.end()?;
        }
    }
    body.end()?;
    map.remove("messaging_product");
    let mut business = lock(&simulator.business);
    business.compliance.get_or_insert_default().extend(map);
    Ok(Json(json!({"success": true})))
}
