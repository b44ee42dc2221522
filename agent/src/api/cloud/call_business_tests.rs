//! The calls about the business as the upstream is asked for them.

use serde_json::json;

use super::call::{Call, Method};
use crate::api::owner::OwnerCall;
use crate::api::v1::business::{Compliance, ProfileChange};
use crate::api::v1::photo::Photo;
use crate::api::v1::who::Recipient;

/// Goal: the calls about the business are the documented requests. Method: every variant, the whole of it.
#[test]
fn calls_about_the_business_are_the_documented_requests() {
    let change = ProfileChange {
        about: Some("Hi".into()),
        ..ProfileChange::default()
    };
    let info = Compliance {
        is_registered: Some(true),
        ..Compliance::default()
    };
    let who = Recipient::parse("+16315551000").expect("somebody");
    let list = json!({"messaging_product": "whatsapp", "block_users": [{"user": "+16315551000"}]});
    for (call, method, path, body) in [
        (
            Call::of(&OwnerCall::ReadProfile),
            Method::Get,
            "106/whatsapp_business_profile?fields=about,address,description,email,profile_picture_url,websites,vertical",
            None,
        ),
        (
            Call::of(&OwnerCall::ChangeProfile { change }),
            Method::Post,
            "106/whatsapp_business_profile",
            Some(json!({"messaging_product": "whatsapp", "about": "Hi"})),
        ),
        (
            Call::of(&OwnerCall::ReadCompliance),
            Method::Get,
            "106/business_compliance_info",
            None,
        ),
        (
            Call::of(&OwnerCall::ChangeCompliance { info }),
            Method::Post,
            "106/business_compliance_info",
            Some(json!({"messaging_product": "whatsapp", "is_registered": true})),
        ),
        (
            Call::of(&OwnerCall::Block { who: who.clone() }),
            Method::Post,
            "106/block_users",
            Some(list.clone()),
        ),
        (
            Call::of(&OwnerCall::Unblock { who }),
            Method::Delete,
            "106/block_users",
            Some(list),
        ),
    ] {
        let call = call.expect("the upstream is asked");
        assert_eq!((call.method(), call.body()), (method, body), "{call:?}");
        assert_eq!(call.path("106"), path, "{call:?}");
    }
}

#[test]
fn a_photo_is_uploaded_as_documented() {
    let photo = Photo::of_client(b"\xff\xd8\xff\xe0".as_slice().into()).expect("a photo");
    for (call, method, path, body) in [
        (
            Call::BeginUpload {
                app_id: "77".into(),
                photo,
            },
            Method::Post,
            "77/uploads?file_name=photo.jpg&file_length=4&file_type=image%2Fjpeg",
            None,
        ),
        (
            Call::ChangePhoto {
                handle: "4:x".into(),
            },
            Method::Post,
            "106/whatsapp_business_profile",
            Some(json!({"messaging_product": "whatsapp", "profile_picture_handle": "4:x"})),
        ),
    ] {
        assert_eq!((call.method(), call.body()), (method, body), "{call:?}");
        assert_eq!(call.path("106"), path, "{call:?}");
    }
}
