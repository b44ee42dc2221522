//! A template send compared with the template that it names, as the vendor does.
//! Whether the send is well formed was asked before, by `reader/template.rs`.

use super::super::reader::sent::{self, Parameter, Parts, Template};
use super::super::refusal::Refusal;
use super::catalog::{Catalog, Entry, Header, Wanted};

/// Longest text of a body with everything filled in, in characters.
const BODY_MAX: usize = 1024;

/// The template that a send names.
///
/// # Errors
/// 132001 when there is none that is approved, 132015 and 132016 for its state.
pub fn find<'a>(catalog: &'a Catalog, sent: &Template) -> Result<&'a Entry, Refusal> {
    let missing = || {
        let (name, language) = (&sent.name, &sent.language);
        Refusal::new(
            132_001,
            format!("template name ({name}) does not exist in {language}"),
        )
    };
    let entry = catalog
        .get(&sent.name, &sent.language)
        .ok_or_else(missing)?;
    match entry.written.status.as_str() {
        "APPROVED" => Ok(entry),
        "PAUSED" => Err(Refusal::new(132_015, "The template is paused")),
        "DISABLED" => Err(Refusal::new(132_016, "The template is disabled")),
        _ => Err(missing()),
    }
}

/// All that is wanted is filled in, and nothing else.
///
/// # Errors
/// 132000 for counts, 132012 for formats, 132018 for names and places that are not there, 131008 for buttons.
pub fn compare(entry: &Entry, sent: &Template) -> Result<(), Refusal> {
    parts(&entry.wanted, &sent.parts, entry.named(), "")
}

fn parts(wanted: &Wanted, sent: &Parts, named: bool, at: &str) -> Result<(), Refusal> {
    header(wanted.header.as_ref(), sent.header.as_ref(), named, at)?;
    filled(&wanted.body, &sent.body, named, &format!("{at}body"))?;
    buttons(wanted, &sent.buttons, at)?;
    if wanted.offer != sent.offer {
        let why = match wanted.offer {
            true => "the offer needs its expiration_time_ms",
            false => "the template has no limited time offer",
        };
        return Err(Refusal::new(132_012, format!("limited_time_offer: {why}")));
    }
    if wanted.cards.len() != sent.cards.len() {
        let (expected, found) = (wanted.cards.len(), sent.cards.len());
        let why = format!(
            "carousel: number of cards ({found}) does not match the expected number of cards ({expected})"
        );
        return Err(Refusal::new(132_000, why));
    }
    for (n, (wanted, sent)) in wanted.cards.iter().zip(&sent.cards).enumerate() {
        parts(wanted, sent, named, &format!("card {n}: "))?;
    }
    Ok(())
}

fn header(
    wanted: Option<&Header>,
    sent: Option<&Parameter>,
    named: bool,
    at: &str,
) -> Result<(), Refusal> {
    let mismatch = |expected: &str, found: &str| {
        let why = format!("{at}header: Format mismatch, expected {expected}, received {found}");
        Err(Refusal::new(132_012, why))
    };
    let upper = |parameter: &Parameter| parameter.kind.to_uppercase();
    match (wanted, sent) {
        (None, None) => Ok(()),
        (None, Some(sent)) => mismatch("NONE", &upper(sent)),
        (Some(Header::Text(_)), Some(sent)) if sent.kind != "text" => {
            mismatch("TEXT", &upper(sent))
        }
        (Some(Header::Text(places)), sent) => {
            let sent: Vec<Parameter> = sent.cloned().into_iter().collect();
            filled(places, &sent, named, &format!("{at}header"))
        }
        (Some(Header::Other(format)), Some(sent)) if upper(sent) == *format => Ok(()),
        (Some(Header::Other(format)), Some(sent)) => mismatch(format, &upper(sent)),
        (Some(Header::Other(format)), None) => mismatch(format, "UNKNOWN"),
    }
}

/// As many parameters as places, with names where places have names.
fn filled(places: &[String], sent: &[Parameter], named: bool, at: &str) -> Result<(), Refusal> {
    if places.len() != sent.len() {
        let (expected, found) = (places.len(), sent.len());
        let why = format!(
            "{at}: number of localizable_params ({found}) does not match the expected number of params ({expected})"
        );
        return Err(Refusal::new(132_000, why));
    }
    for parameter in sent {
        let why = match (&parameter.name, named) {
            (None, true) => "a parameter has no parameter_name",
            (Some(_), false) => "a parameter has a parameter_name, and the template has none",
            (Some(name), true) if !places.contains(name) => {
                "a parameter_name is not in the template"
            }
            (Some(_), true) | (None, false) if parameter.ragged => {
                "Param text cannot have new-line/tab characters or more than 4 consecutive spaces"
            }
            (Some(_), true) | (None, false) => continue,
        };
        return Err(Refusal::new(132_018, format!("{at}: {why}")));
    }
    match sent.iter().map(|parameter| parameter.chars).sum::<usize>() > BODY_MAX {
        true => Err(Refusal::new(
            132_005,
            format!("{at}: Translated text too long"),
        )),
        false => Ok(()),
    }
}

/// What is said of buttons of this kind, and whether it must be.
fn sub_type(kind: &str, place: bool) -> Option<(&'static str, bool)> {
    match kind {
        "QUICK_REPLY" => Some(("quick_reply", false)),
        "URL" if place => Some(("url", true)),
        "OTP" => Some(("url", true)),
        "COPY_CODE" => Some(("copy_code", true)),
        "FLOW" => Some(("flow", false)),
        "CATALOG" => Some(("catalog", false)),
        "MPM" => Some(("mpm", true)),
        "SPM" => Some(("spm", false)),
        "VOICE_CALL" => Some(("voice_call", false)),
        "ORDER_DETAILS" => Some(("order_details", true)),
        // Nothing can be said of the others: static addresses, numbers.
        _ => None,
    }
}

fn buttons(wanted: &Wanted, sent: &[sent::Button], at: &str) -> Result<(), Refusal> {
    for (index, button) in wanted.buttons.iter().enumerate() {
        let expected = sub_type(&button.kind, button.place);
        let found = sent.iter().find(|sent| sent.index == index);
        let at = format!(
            "{at}buttons: Button at index {index} of type {}",
            button.kind
        );
        match (expected, found) {
            (Some((_, true)), None) => {
                return Err(Refusal::new(131_008, format!("{at} requires a parameter")));
            }
            (Some((_, false)) | None, None) => {}
            (None, Some(_)) => {
                return Err(Refusal::new(132_018, format!("{at} takes no parameter")));
            }
            (Some((name, _)), Some(sent)) if sent.sub_type != name => {
                let why = format!("{at} does not match {}", sent.sub_type);
                return Err(Refusal::new(132_018, why));
            }
            (Some(_), Some(_)) => {}
        }
    }
    match sent.iter().find(|sent| sent.index >= wanted.buttons.len()) {
        Some(beyond) => Err(Refusal::new(
            132_018,
            format!("{at}buttons: there is no button at index {}", beyond.index),
        )),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::super::super::reader::read;
    use super::super::super::reader::sent::Asked;
    use super::*;

    fn code(name: &str, language: &str, components: &Value) -> u32 {
        let body = json!({"messaging_product": "whatsapp", "to": "447700900456", "type": "template",
            "template": {"name": name, "language": {"code": language}, "components": components}});
        let Ok(Asked::Message(sent)) = read(body.to_string().as_bytes()) else {
            panic!("{:?}", read(body.to_string().as_bytes()));
        };
        let sent = sent.template.expect("a template");
        let catalog = Catalog::builtin();
        let found = find(&catalog, &sent).and_then(|entry| compare(entry, &sent));
        found.map_or_else(|refusal| refusal.code, |()| 0)
    }

    fn text(text: &str) -> Value {
        json!({"type": "text", "text": text})
    }

    fn body(parameters: &[Value]) -> Value {
        json!({"type": "body", "parameters": parameters})
    }

    fn button(sub_type: &str, index: u64, parameter: Value) -> Value {
        json!({"type": "button", "sub_type": sub_type, "index": index, "parameters": [parameter]})
    }

    fn image() -> Value {
        json!({"type": "header", "parameters": [{"type": "image", "image": {"id": "7"}}]})
    }

    fn coupon() -> Value {
        let parameter = json!({"type": "coupon_code", "coupon_code": "A"});
        button("copy_code", 0, parameter)
    }

    fn link(index: u64) -> Value {
        button("url", index, text("17"))
    }

    fn payload(index: u64) -> Value {
        let parameter = json!({"type": "payload", "payload": "p"});
        button("quick_reply", index, parameter)
    }

    /// Every send of the table is answered with its code; zero: it is taken.
    fn compared(table: impl IntoIterator<Item = (&'static str, Value, u32)>) {
        for (name, components, wanted) in table {
            let found = code(name, "en_US", &components);
            assert_eq!(found, wanted, "{name} {components}");
        }
    }

    /// Goal: a send is refused as the vendor refuses it. Method: good sends of each form, and each with one thing wrong.
    #[test]
    fn texts_and_headers_are_compared() {
        let header = json!({"type": "header", "parameters": [text("17")]});
        let two = body(&[text("Ann"), text("May 1")]);
        let named = |name: &str, value: &str| json!({"type": "text", "parameter_name": name, "text": value});
        let video =
            json!({"type": "header", "parameters": [{"type": "video", "video": {"id": "7"}}]});
        let one = body(&[text("a")]);
        #[rustfmt::skip]
        compared([
            ("hello_world", json!([]), 0),
            ("hello_world", json!([one]), 132_000),
            ("hello_world", json!([header]), 132_000),
            ("hello_world", json!([payload(0)]), 132_018),
            ("nothing", json!([]), 132_001),
            ("order_update", json!([header, two]), 0),
            ("order_update", json!([header, one]), 132_000),
            ("order_update", json!([two]), 132_000),
            ("order_update", json!([image(), two]), 132_012),
            ("order_update", json!([header, body(&[named("a", "x"), text("b")])]), 132_018),
            ("order_update", json!([header, body(&[text("a\nb"), text("b")])]), 132_018),
            ("order_update", json!([header, body(&[text(&"x".repeat(1024)), text("b")])]), 132_005),
            ("appointment", json!([body(&[named("day", "May 1"), named("first_name", "Ann")])]), 0),
            ("appointment", json!([two]), 132_018),
            ("appointment", json!([body(&[named("day", "May 1"), named("name", "Ann")])]), 132_018),
            ("new_colour", json!([image()]), 0),
            ("new_colour", json!([]), 132_012),
            ("new_colour", json!([video]), 132_012),
            ("paused_offer", json!([]), 132_015),
            ("disabled_offer", json!([]), 132_016),
            ("rejected_offer", json!([]), 132_001),
            ("pending_offer", json!([]), 132_001),
        ]);
        assert_eq!(code("order_update", "de", &json!([header, two])), 0);
        let guessed = code("order_update", "en", &json!([header, two]));
        assert_eq!(guessed, 132_001, "never guessed");
    }

    #[test]
    fn buttons_offers_and_cards_are_compared() {
        let offer = json!({"type": "limited_time_offer", "parameters": [
            {"type": "limited_time_offer", "limited_time_offer": {"expiration_time_ms": 1_893_456_000_000_u64}}]});
        let one = body(&[text("a")]);
        let card = |n: u64, more: Vec<Value>| {
            let mut parts = vec![image(), body(&[text("a"), text("b")])];
            parts.extend(more);
            json!({"card_index": n, "components": parts})
        };
        let cards = |cards: Vec<Value>| json!([one, {"type": "carousel", "cards": cards}]);
        let flow = json!({"type": "action", "action": {"flow_token": "t"}});
        #[rustfmt::skip]
        compared([
            ("new_colour", json!([image(), payload(1)]), 0),
            ("new_colour", json!([image(), payload(2)]), 132_018),
            ("new_colour", json!([image(), link(0)]), 132_018),
            ("track_parcel", json!([one, link(0)]), 0),
            ("track_parcel", json!([one]), 131_008),
            ("track_parcel", json!([one, link(0), link(1)]), 132_018),
            ("coupon", json!([one, coupon()]), 0),
            ("coupon", json!([one]), 131_008),
            ("sign_up", json!([]), 0),
            ("sign_up", json!([button("flow", 0, flow)]), 0),
            ("login_code", json!([one, link(0)]), 0),
            ("login_code", json!([one]), 131_008),
            ("flash_sale", json!([image(), offer, one, coupon(), link(1)]), 0),
            ("flash_sale", json!([image(), one, coupon(), link(1)]), 132_012),
            ("spring_cards", cards(vec![card(0, vec![link(1)]), card(1, vec![payload(0), link(1)])]), 0),
            ("spring_cards", json!([one]), 132_000),
            ("spring_cards", cards((0..3).map(|n| card(n, vec![link(1)])).collect()), 132_000),
            ("spring_cards", cards(vec![card(0, vec![link(1)]), card(1, vec![])]), 131_008),
        ]);
    }
}
