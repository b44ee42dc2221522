//! A good request of every call, for tests that make all of them.

use super::call::Call;

/// A path of the table with something in the place of its names.
pub fn example(path: &str) -> String {
    path.replace("{username}", "bot1")
        .replace("{id}", "wamid.X")
        .replace("{name}", "cdn")
        .replace("{wa_id}", "16315551000")
        .replace("{pack}", "p1")
        .replace("{index}", "0")
}

/// A body that is well-formed, by the call's label.
const BODIES: &[(&str, &str)] = &[
    (
        "POST_v1_users",
        r#"{"username":"bot7","password":"Bcdefg1!"}"#,
    ),
    ("PUT_v1_users_username", r#"{"password":"Bcdefg1!"}"#),
    (
        "POST_v1_account_shards",
        r#"{"cc":"44","phone_number":"7700900999","shards":1,"pin":"123456","cert":"x"}"#,
    ),
    (
        "PATCH_v1_settings_application",
        r#"{"callback_backoff_delay_ms":"4000"}"#,
    ),
    (
        "POST_v1_messages",
        r#"{"to":"+44 7700 900123","type":"text","text":{"body":"hi"}}"#,
    ),
    ("PUT_v1_messages_id", r#"{"status":"read"}"#),
    (
        "POST_v1_contacts",
        r#"{"blocking":"wait","contacts":["+44 7700 900123"],"force_check":false}"#,
    ),
    (
        "POST_v1_account",
        r#"{"cc":"44","phone_number":"7700900999","method":"sms","cert":"x","pin":"123456"}"#,
    ),
    ("POST_v1_account_verify", r#"{"code":"123456"}"#),
    ("POST_v1_settings_account_two-step", r#"{"pin":"123456"}"#),
    (
        "POST_v1_settings_application_media_providers",
        r#"[{"name":"cdn","type":"www","config":{"bearer":"secret"}}]"#,
    ),
    ("POST_v1_settings_backup", r#"{"password":"Bcdefg1!"}"#),
    (
        "POST_v1_settings_restore",
        r#"{"password":"Bcdefg1!","data":"x"}"#,
    ),
    (
        "POST_v1_settings_business_profile",
        r#"{"address":"a","description":"b","email":"c@d.example","vertical":"RETAIL","websites":["https://a.example/"]}"#,
    ),
    (
        "POST_v1_settings_business_compliance_info",
        r#"{"entity_name":"E","entity_type":"PARTNERSHIP","is_registered":true,"customer_care_details":{"email":"a@b.example"},"grievance_officer_details":{"name":"A"}}"#,
    ),
    (
        "POST_v1_settings_business_profile_compliance_info",
        r#"{"entity_name":"E","is_registered":true}"#,
    ),
    ("PATCH_v1_settings_profile_about", r#"{"text":"Open"}"#),
    ("POST_v1_settings_profile_photo", "\u{fffd}"),
    ("PUT_v1_contacts_wa_id_identity", r#"{"hash":"x"}"#),
    ("POST_v1_contacts_wa_id_block", r#"{"reason":"x"}"#),
    ("POST_v1_stickerpacks", r#"{"publisher":"P","name":"N"}"#),
    ("PATCH_v1_stickerpacks_pack", r#"{"name":"N"}"#),
    (
        "POST_v1_stickerpacks_pack_stickers",
        r#"{"image_data_id":"00000000-0000-4000-8000-000000000099","emojis":["x"]}"#,
    ),
    (
        "PATCH_v1_stickerpacks_pack_stickers_index",
        r#"{"emojis":["x"]}"#,
    ),
];

/// A body that is well-formed; `{}` where none is needed.
pub fn good(call: &Call) -> &'static str {
    let label = call.label();
    let found = BODIES.iter().find(|(name, _)| *name == label);
    found.map_or("{}", |(_, body)| body)
}
