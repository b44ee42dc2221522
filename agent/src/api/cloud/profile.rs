//! The business profile, the compliance information and the photo, as the upstream writes them.
//! Asks nobody: `call.rs` says which calls carry this, `coreapp/profile.rs` makes them.

use serde_json::{Map, Value, json};

use crate::api::v1::business::{Compliance, Profile, ProfileChange, listed};
use crate::api::v1::photo::Photo;

/// What is asked of the profile.
pub const FIELDS: &str = "about,address,description,email,profile_picture_url,websites,vertical";
/// How ids of uploads begin.
const UPLOAD: &str = "upload:";
/// Longest id of an upload, and longest handle, in bytes.
const WORD_LEN_MAX: usize = 4096;

/// The first object of `data`; some documents have its fields one level deeper.
fn first(body: &[u8]) -> Option<Map<String, Value>> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let Some(Value::Object(mut data)) = body.get("data")?.get(0).cloned() else {
        // The list is there, and empty: nothing was ever set.
        return Some(Map::new());
    };
    match data.remove("business_profile") {
        Some(Value::Object(deeper)) => Some(deeper),
        Some(_) | None => Some(data),
    }
}

fn text(data: &Map<String, Value>, name: &str) -> Option<String> {
    let text = data.get(name)?.as_str()?;
    (!text.is_empty()).then(|| text.to_owned())
}

/// Reads an answer to a look at the profile; `None`: it is none.
pub fn read(body: &[u8]) -> Option<Profile> {
    let data = first(body)?;
    let some = |name| text(&data, name).unwrap_or_default();
    let websites = match data.get("websites") {
        Some(Value::Array(items)) => items.clone(),
        // In some documents it is a text that holds the list.
        Some(Value::String(text)) => listed(text.clone()),
        Some(_) | None => Vec::new(),
    };
    let websites = websites.iter().filter_map(Value::as_str);
    Some(Profile {
        about: some("about"),
        address: some("address"),
        description: some("description"),
        email: some("email"),
        vertical: some("vertical"),
        websites: websites
            .filter(|one| !one.is_empty())
            .map(str::to_owned)
            .collect(),
        photo: text(&data, "profile_picture_url"),
    })
}

/// The body of a change of the profile.
pub fn change(change: &ProfileChange) -> Value {
    let mut body = product();
    let texts = [
        ("about", &change.about),
        ("address", &change.address),
        ("description", &change.description),
        ("email", &change.email),
        ("vertical", &change.vertical),
    ];
    for (name, text) in texts {
        if let Some(text) = text {
            body.insert(name.into(), text.as_str().into());
        }
    }
    if let Some(websites) = &change.websites {
        body.insert("websites".into(), websites.clone().into());
    }
    body.into()
}

fn product() -> Map<String, Value> {
    let product = ("messaging_product".to_owned(), Value::from("whatsapp"));
    Map::from_iter([product])
}

/// Reads an answer to a look at the compliance information; `None`: it is none.
pub fn read_compliance(body: &[u8]) -> Option<Compliance> {
    let data = first(body)?;
    let object = |name: &str| data.get(name).and_then(Value::as_object);
    Some(Compliance {
        entity_name: text(&data, "entity_name"),
        entity_type: text(&data, "entity_type"),
        entity_type_custom: text(&data, "entity_type_custom"),
        is_registered: data.get("is_registered").and_then(Value::as_bool),
        customer_care_details: object("customer_care_details").map(|data| {
            crate::api::v1::business::Contact {
                email: text(data, "email"),
                landline_number: text(data, "landline_number"),
                mobile_number: text(data, "mobile_number"),
            }
        }),
        grievance_officer_details: object("grievance_officer_details").map(|data| {
            crate::api::v1::business::Officer {
                name: text(data, "name"),
                email: text(data, "email"),
                landline_number: text(data, "landline_number"),
                mobile_number: text(data, "mobile_number"),
            }
        }),
    })
}

/// The body of a change of the compliance information.
pub fn change_compliance(info: &Compliance) -> Value {
    let mut body = product();
    if let Ok(Value::Object(info)) = serde_json::to_value(info) {
        body.extend(info);
    }
    body.into()
}

/// The path that begins an upload: it says name, length and type of the file.
pub fn upload_path(app_id: &str, photo: &Photo) -> String {
    let mut query = url::form_urlencoded::Serializer::new(String::new());
    query.append_pair("file_name", photo.kind.file_name());
    query.append_pair("file_length", &photo.bytes.len().to_string());
    query.append_pair("file_type", photo.kind.mime());
    format!("{app_id}/uploads?{}", query.finish())
}

/// The upload that was begun: its id is a path of its own, with a question mark in it.
pub fn begun(body: &[u8]) -> Option<String> {
    let id = word(body, "id")?;
    let good = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'/' | b'#' | b'\\');
    (id.starts_with(UPLOAD) && id.bytes().all(good)).then_some(id)
}

/// What stands for the uploaded file in a change of the profile.
pub fn handle(body: &[u8]) -> Option<String> {
    word(body, "h")
}

fn word(body: &[u8], name: &str) -> Option<String> {
    let body: Value = serde_json::from_slice(body).ok()?;
    let word = body.get(name)?.as_str()?;
    (1..=WORD_LEN_MAX)
        .contains(&word.len())
        .then(|| word.to_owned())
}

/// The body that makes an uploaded file the photo.
pub fn change_photo(handle: &str) -> Value {
    json!({"messaging_product": "whatsapp", "profile_picture_handle": handle})
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every form in which documents show an answer is understood. Method: flat, deeper, addresses as a list and as a
    /// text, nothing, and what is no answer.
    #[test]
    fn both_forms_of_an_answer_are_read() {
        let flat = json!({"about": "Hi", "websites": ["https://a.example/"], "profile_picture_url": "https://p.example/x?y",
                          "vertical": "RETAIL", "email": "", "messaging_product": "whatsapp"});
        let mut deep = flat.clone();
        deep["websites"] = "[\"https://a.example/\"]".into();
        let answers = [
            json!({"data": [flat]}),
            json!({"data": [{"business_profile": deep, "id": "9"}]}),
        ];
        for answer in answers {
            let profile = read(answer.to_string().as_bytes()).expect("an answer");
            assert_eq!(
                (&*profile.about, &*profile.vertical, &*profile.email),
                ("Hi", "RETAIL", "")
            );
            assert_eq!(profile.websites, ["https://a.example/"]);
            assert_eq!(profile.photo.as_deref(), Some("https://p.example/x?y"));
        }
        assert_eq!(read(b"{\"data\":[]}"), Some(Profile::default()));
        assert_eq!(
            read_compliance(b"{\"data\":[]}"),
            Some(Compliance::default())
        );
        for nothing in [&b""[..], b"{}", b"[]", b"{\"success\":true}"] {
            assert_eq!(read(nothing), None);
        }
    }

    #[test]
    fn what_goes_up_comes_back() {
        let info = Compliance {
            entity_name: Some("Example".into()),
            is_registered: Some(false),
            customer_care_details: Some(crate::api::v1::business::Contact {
                email: Some("a@b.example".into()),
                ..Default::default()
            }),
            ..Compliance::default()
        };
        let body = change_compliance(&info);
        assert_eq!(body["messaging_product"], "whatsapp");
        let answer = json!({ "data": [body] });
        assert_eq!(read_compliance(answer.to_string().as_bytes()), Some(info));
        let wanted = ProfileChange {
            description: Some(String::new()),
            websites: Some(vec![]),
            ..ProfileChange::default()
        };
        assert_eq!(
            change(&wanted),
            json!({"messaging_product": "whatsapp", "description": "", "websites": []})
        );
    }

    /// Goal: an answer cannot send the next call elsewhere. Method: good ids, and some with a path in them.
    #[test]
    fn an_id_of_an_upload_is_one_word() {
        let of = |id: &str| begun(json!({ "id": id }).to_string().as_bytes());
        assert!(of("upload:MTphdHQ=?sig=ARZq_x").is_some());
        for wrong in [
            "",
            "MTph",
            "upload:a/../me",
            "upload:a b",
            "upload:a#b",
            "../upload:x",
        ] {
            assert_eq!(of(wrong), None, "{wrong}");
        }
        assert_eq!(
            handle(b"{\"h\":\"4:aGVsbG8=\"}").as_deref(),
            Some("4:aGVsbG8=")
        );
        assert_eq!(handle(b"{\"h\":7}"), None);
    }
}
