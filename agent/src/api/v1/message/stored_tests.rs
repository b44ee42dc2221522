//! Forms: what was written is read, frozen texts and hashes, and what is no message.

use super::*;
use crate::api::v1::message::location::Location;
use crate::api::v1::message::media::{Attachment, MediaKind};
use crate::api::v1::message::text::Text;

const FILE: &str = "f043afd0-0000-4000-8000-000000000001";

fn text_of(body: &str) -> Message {
    Message {
        input: Some("+44 7700 900123".into()),
        to: Recipient::Phone("447700900123".into()),
        reply_to: None,
        preview_url: false,
        ttl_s: None,
        callback_data: None,
        content: Content::Text(Text { body: body.into() }),
    }
}

/// As it is read today: its recipient was typed with `+`.
fn marked() -> Message {
    Message {
        to: Recipient::International("447700900123".into()),
        ..text_of("hi")
    }
}

fn reply() -> Message {
    Message {
        reply_to: Some("wamid.A=".into()),
        preview_url: true,
        ..text_of("hi")
    }
}

fn document() -> Message {
    Message {
        content: Content::Media(Attachment {
            kind: MediaKind::Document,
            source: Source::Id(FileId(FILE.into())),
            caption: Some("c".into()),
            filename: Some("f.pdf".into()),
        }),
        ..text_of("")
    }
}

fn location() -> Message {
    Message {
        content: Content::Location(Location {
            latitude: "51.50".into(),
            longitude: "-0.12".into(),
            name: Some("Here".into()),
            address: None,
        }),
        ..text_of("")
    }
}

/// Goal: a type that came later is in no older form, neither written by us nor believed. Method: its text under each number.
#[test]
fn a_type_is_in_no_form_that_is_older() {
    let text = write(Form::Three, &location());
    for form in ALL {
        let known = form == Form::Three;
        assert_eq!(hash(form, &location()).is_some(), known, "{form:?}");
        if form <= Form::NEWEST {
            assert_eq!(read(form.number(), &text).is_ok(), known, "{form:?}");
        }
    }
}

/// Goal: what was written is read again, in each form that this build writes; what a form does not hold is left out, not guessed.
#[test]
fn what_is_written_is_read_again() {
    let link = Message {
        content: Content::Media(Attachment {
            kind: MediaKind::Image,
            source: Source::Link("https://files.example/a.png".into()),
            caption: None,
            filename: None,
        }),
        ..text_of("")
    };
    let odd = text_of("\u{1}\"\\\u{202a}😀 {\"x\":1}");
    let user = Message {
        to: Recipient::User("GB.1".into()),
        ..text_of("hi")
    };
    let messages = [
        text_of("hi"),
        reply(),
        document(),
        link,
        odd,
        location(),
        marked(),
        user,
    ];
    for message in messages {
        for form in ALL {
            if form > Form::NEWEST || message.since() > form {
                continue;
            }
            let again = read(form.number(), &write(form, &message)).expect("readable");
            let wanted = Message {
                input: message.input.clone().filter(|_| form > Form::One),
                to: match form {
                    Form::One | Form::Two => message.to.unmarked(),
                    Form::Three => message.to.clone(),
                },
                ..message.clone()
            };
            assert!(again == wanted, "{form:?}");
        }
    }
}

/// Goal: interactive messages and cards are stored as they will be read for as long as rows are kept. Method: their texts, by
/// hand; and a place of a file that is not there.
#[test]
fn objects_that_are_kept_whole_have_a_frozen_form() {
    let parse = |rest: &str| {
        let body = format!(r#"{{"to":"447700900123",{rest}}}"#);
        Message::parse(body.as_bytes(), None).unwrap_or_else(|error| panic!("{error}"))
    };
    let head = r#"{"input":"447700900123","to":{"phone":"447700900123"},"content":"#;
    let card = parse(r#""type":"contacts","contacts":[{"name":{"formatted_name":"A"}}]"#);
    let stored =
        format!(r#"{head}{{"contacts":{{"cards":[{{"name":{{"formatted_name":"A"}}}}]}}}}}}"#);
    assert_eq!(write(Form::Three, &card), stored);
    let asked = parse(&format!(
        r#""type":"interactive","interactive":{{"type":"x","header":{{"image":{{"id":"{FILE}"}}}}}}"#
    ));
    let at = |pointer: &str| {
        format!(
            r#"{head}{{"interactive":{{"object":{{"header":{{"image":{{}}}},"type":"x"}},"files":[{{"at":"{pointer}","file":{{"kind":"image","id":"{FILE}"}}}}]}}}}}}"#
        )
    };
    assert_eq!(write(Form::Three, &asked), at("/header/image"));
    if Form::NEWEST == Form::Three {
        assert!(read(3, &at("/header/image")).is_ok_and(|read| read == asked));
        for nowhere in ["/header/video", "/type", "header", "/header/image/0"] {
            assert!(read(3, &at(nowhere)).is_err(), "{nowhere}");
        }
    }
}

/// Goal: the forms are frozen, since rows keep them over upgrades. Method: texts and hashes that were written down by hand
/// (the hashes by another implementation of SHA-256).
#[test]
fn forms_are_frozen() {
    let one = r#"{"to":{"phone":"447700900123"},"content":{"text":{"body":"hi"}}}"#;
    let two = r#"{"input":"+44 7700 900123","to":{"phone":"447700900123"},"content":{"text":{"body":"hi"}}}"#;
    assert_eq!(write(Form::One, &text_of("hi")), one);
    assert_eq!(write(Form::Two, &text_of("hi")), two);
    assert_eq!(write(Form::One, &marked()), one);
    assert_eq!(write(Form::Two, &marked()), two);
    let media = format!(
        r#"{{"to":{{"phone":"447700900123"}},"content":{{"media":{{"kind":"document","id":"{FILE}","caption":"c","filename":"f.pdf"}}}}}}"#
    );
    assert_eq!(write(Form::One, &document()), media);
    let hashes = [
        (text_of("hi"), 8133581981251876687, 7428412876103998730),
        (reply(), 1113890831366736779, 5747988540099315643),
        (document(), 3179232804211968114, 3497755452531954091),
    ];
    for (message, one, two) in hashes {
        assert_eq!(hash(Form::One, &message), Some(one));
        for form in [Form::Two, Form::Three] {
            assert_eq!(hash(form, &message), Some(two));
        }
    }
}

#[test]
fn the_hash_tells_messages_apart_and_ignores_spelling() {
    for form in ALL {
        let spelt = Message {
            input: None,
            ..text_of("hi")
        };
        let of = |message: &Message| hash(form, message);
        assert_eq!(of(&text_of("hi")), of(&spelt));
        assert_eq!(of(&text_of("hi")), of(&marked()));
        let others = [text_of("ho"), reply(), document()];
        for other in &others {
            assert_ne!(of(&text_of("hi")), of(other), "{form:?}");
            let number = of(other).expect("of before");
            assert!(i64::try_from(number).is_ok());
        }
    }
}

/// Goal: nothing is guessed, and no error quotes a value.
#[test]
fn what_is_no_message_is_said_to_be_none() {
    let table = [
        (
            9,
            r#"{"to":{"phone":"1"},"content":{"text":{"body":"pssst"}}}"#,
        ),
        (0, "{}"),
        (1, ""),
        (1, "{"),
        (1, r#"{"to":{"phone":"1"}}"#),
        (
            1,
            r#"{"to":{"user":"x"},"content":{"text":{"body":"pssst"}}}"#,
        ),
        (
            1,
            r#"{"input":"1","to":{"phone":"1"},"content":{"text":{"body":"pssst"}}}"#,
        ),
        (
            2,
            r#"{"to":{"international":"1"},"content":{"text":{"body":"pssst"}}}"#,
        ),
        (
            2,
            r#"{"to":{"user":"GB.1"},"content":{"text":{"body":"pssst"}}}"#,
        ),
        (
            1,
            r#"{"to":{"phone":"1"},"content":{"poll":{"pssst":"x"}}}"#,
        ),
        (
            1,
            r#"{"to":{"phone":"1"},"content":{"text":{"body":"x","pssst":1}}}"#,
        ),
        (
            1,
            r#"{"to":{"phone":"1"},"content":{"media":{"kind":"image"}}}"#,
        ),
        (
            1,
            r#"{"to":{"phone":"1"},"content":{"media":{"kind":"image","id":"a","link":"b"}}}"#,
        ),
    ];
    for (form, text) in table {
        let error = read(form, text).map(|_| ()).expect_err(text).to_string();
        assert!(!error.contains("pssst"), "{error}");
    }
}

/// Goal: a finished message keeps what its later callbacks repeat and where its files are, and none of its content. Method: each
/// alone and all at once; what is left is read like the whole.
#[test]
fn what_is_left_of_a_message_is_what_is_told_again() {
    let left = |message: &Message| remains(3, &write(Form::Three, message));
    assert_eq!(left(&marked()), "");
    assert_eq!(left(&reply()), "");
    assert_eq!(left(&location()), "");
    let file = left(&document());
    assert!(!file.contains("f.pdf"), "{file}");
    assert!(sources(3, &file) == [Source::Id(FileId(FILE.into()))]);
    let full = Message {
        to: Recipient::parse("GB.1234567890123456").expect("a user id"),
        callback_data: Some("data".into()),
        ..document()
    };
    let whole = write(Form::Three, &full);
    let rest = left(&full);
    for text in [&whole, &rest] {
        assert_eq!(callback_data(3, text).as_deref(), Some("data"));
        assert_eq!(sources(3, text).len(), 1);
    }
    assert_eq!(remains(3, &rest), rest, "once more changes nothing");
    assert_eq!(remains(3, "no JSON"), "");
    assert_eq!(remains(3, ""), "");
}
