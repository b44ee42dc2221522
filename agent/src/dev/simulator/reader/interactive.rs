//! Interactive messages of all documented kinds, with their limits.
//! Payments are taken as they are: their form differs from country to country.

use std::collections::BTreeSet;

use super::super::refusal::Refusal;
use super::action::{BUTTON_MAX, cta_url, named, product};
use super::sent::File;
use super::strict::Strict;
use super::{carousel, file};

/// Longest header and footer, in characters.
const LINE_MAX: usize = 60;
/// Longest body, in characters; that of a list is longer.
const BODY_MAX: usize = 1024;
const LIST_BODY_MAX: usize = 4096;
/// Rows of a list in all, products of a message in all, sections of either.
const ROWS_MAX: usize = 10;
const PRODUCTS_MAX: usize = 30;
const SECTIONS_MAX: usize = 10;
/// Longest title of a section or row, in characters.
const TITLE_MAX: usize = 24;

/// What a kind may have above its body.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Header {
    None,
    Text,
    NeedText,
    Any,
}

type Read = fn(&mut Strict, &mut Vec<File>) -> Result<(), Refusal>;

/// One kind.
struct Kind {
    name: &'static str,
    header: Header,
    body: bool,
    action: Read,
}

const fn kind(name: &'static str, header: Header, body: bool, action: Read) -> Kind {
    Kind {
        name,
        header,
        body,
        action,
    }
}

/// All kinds: name, header, whether a body is required, what the action is.
const KINDS: &[Kind] = &[
    kind("button", Header::Any, true, buttons),
    kind("list", Header::Text, true, list),
    kind("product", Header::None, false, product),
    kind("product_list", Header::NeedText, true, product_list),
    kind("catalog_message", Header::Any, true, catalog),
    kind("flow", Header::Any, true, flow),
    kind("cta_url", Header::Any, true, cta_url),
    kind("location_request_message", Header::Any, true, |a, _| {
        named(a, "send_location")
    }),
    kind("address_message", Header::Any, true, address),
    kind("request_contact_info", Header::Any, true, |a, _| {
        named(a, "request_contact_info")
    }),
    kind("carousel", Header::None, true, carousel::cards),
    kind("voice_call", Header::Any, true, voice_call),
    kind("call_permission_request", Header::Any, false, |a, _| {
        named(a, "call_permission_request")
    }),
    kind("order_details", Header::Any, true, payment),
    kind("order_status", Header::Any, true, payment),
];

pub fn interactive(body: &mut Strict, files: &mut Vec<File>) -> Result<(), Refusal> {
    let mut interactive = body.need_object("interactive")?;
    let name = interactive.need_text("type")?;
    let kind = KINDS.iter().find(|kind| kind.name == name);
    let kind =
        kind.ok_or_else(|| Refusal::value(&format!("interactive.type {name} is not known")))?;
    header(&mut interactive, kind.header, files)?;
    let most = if kind.name == "list" {
        LIST_BODY_MAX
    } else {
        BODY_MAX
    };
    match interactive.object("body")? {
        Some(mut body) => {
            body.need_within("text", most)?;
            body.end()?;
        }
        None if kind.body => return Err(Refusal::missing("interactive.body")),
        None => {}
    }
    if let Some(mut footer) = interactive.object("footer")? {
        footer.need_within("text", LINE_MAX)?;
        footer.end()?;
    }
    let mut action = interactive.need_object("action")?;
    (kind.action)(&mut action, files)?;
    action.end()?;
    interactive.end()
}

fn header(interactive: &mut Strict, may: Header, files: &mut Vec<File>) -> Result<(), Refusal> {
    let Some(mut header) = interactive.object("header")? else {
        return match may {
            Header::NeedText => Err(Refusal::missing("interactive.header")),
            Header::None | Header::Text | Header::Any => Ok(()),
        };
    };
    let words = match may {
        Header::None => return Err(Refusal::bad("interactive.header is not for this type")),
        Header::Text | Header::NeedText => &["text"][..],
        Header::Any => &["text", "image", "video", "document"],
    };
    match header.need_word("type", words)? {
        "text" => {
            header.need_within("text", LINE_MAX)?;
        }
        name => file::inside(&mut header, name, files)?,
    }
    header.end()
}

fn buttons(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    let (mut ids, mut titles) = (BTreeSet::new(), BTreeSet::new());
    for mut button in action.need_objects("buttons", 1..=3)? {
        button.need_word("type", &["reply"])?;
        let mut reply = button.need_object("reply")?;
        let id = reply.need_within("id", 256)?;
        if id != id.trim() {
            let why = format!("{} has blanks around it", reply.path("id"));
            return Err(Refusal::value(&why));
        }
        let title = reply.need_within("title", BUTTON_MAX)?;
        if !ids.insert(id) || !titles.insert(title) {
            let why = format!("{}: ids and titles must differ", reply.path("id"));
            return Err(Refusal::value(&why));
        }
        reply.end()?;
        button.end()?;
    }
    Ok(())
}

/// The title of a section, which may be left out when it is the only one.
fn section_title(section: &mut Strict, only: bool) -> Result<(), Refusal> {
    match section.text_within("title", TITLE_MAX)? {
        None if !only => Err(Refusal::missing(&section.path("title"))),
        Some(_) | None => Ok(()),
    }
}

fn list(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    action.need_within("button", BUTTON_MAX)?;
    let sections = action.need_objects("sections", 1..=SECTIONS_MAX)?;
    let (only, mut rows) = (sections.len() == 1, 0);
    for mut section in sections {
        section_title(&mut section, only)?;
        for mut row in section.need_objects("rows", 1..=ROWS_MAX)? {
            rows += 1;
            row.need_within("id", 200)?;
            row.need_within("title", TITLE_MAX)?;
            row.text_within("description", 72)?;
            row.end()?;
        }
        section.end()?;
    }
    match rows > ROWS_MAX {
        true => Err(Refusal::value(&format!(
            "{} may have {ROWS_MAX} rows in all",
            action.path("sections")
        ))),
        false => Ok(()),
    }
}

fn product_list(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    action.need_text("catalog_id")?;
    let sections = action.need_objects("sections", 1..=SECTIONS_MAX)?;
    let (only, mut products) = (sections.len() == 1, 0);
    for mut section in sections {
        section_title(&mut section, only)?;
        for mut item in section.need_objects("product_items", 1..=PRODUCTS_MAX)? {
            products += 1;
            item.need_text("product_retailer_id")?;
            item.end()?;
        }
        section.end()?;
    }
    match products > PRODUCTS_MAX {
        true => Err(Refusal::value(&format!(
            "{} may have {PRODUCTS_MAX} products in all",
            action.path("sections")
        ))),
        false => Ok(()),
    }
}

fn catalog(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    named(action, "catalog_message")?;
    if let Some(mut parameters) = action.object("parameters")? {
        parameters.text("thumbnail_product_retailer_id")?;
        parameters.end()?;
    }
    Ok(())
}

fn flow(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    named(action, "flow")?;
    let mut parameters = action.need_object("parameters")?;
    parameters.need_word("flow_message_version", &["3"])?;
    if parameters.has("flow_id") == parameters.has("flow_name") {
        let why = format!(
            "{}: one of flow_id and flow_name",
            parameters.path("flow_id")
        );
        return Err(Refusal::bad(&why));
    }
    parameters.text("flow_id")?;
    parameters.text("flow_name")?;
    parameters.need_text("flow_cta")?;
    parameters.text("flow_token")?;
    for (name, words) in [
        ("mode", ["draft", "published"]),
        ("flow_action", ["navigate", "data_exchange"]),
    ] {
        if parameters.has(name) {
            parameters.need_word(name, &words)?;
        }
    }
    if let Some(mut payload) = parameters.object("flow_action_payload")? {
        payload.text("screen")?;
        // The screen's own data.
        payload.raw("data");
        payload.end()?;
    }
    parameters.end()
}

fn address(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    named(action, "address_message")?;
    let mut parameters = action.need_object("parameters")?;
    parameters.need_text("country")?;
    // Fields of the form, which the vendor alone knows.
    for name in ["values", "saved_addresses", "validation_errors"] {
        parameters.raw(name);
    }
    parameters.end()
}

fn voice_call(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    named(action, "voice_call")?;
    if let Some(mut parameters) = action.object("parameters")? {
        parameters.text_within("display_text", BUTTON_MAX)?;
        parameters.integer("ttl_minutes", 1..=43_200)?;
        parameters.text_within("payload", 512)?;
        parameters.end()?;
    }
    Ok(())
}

fn payment(action: &mut Strict, _: &mut Vec<File>) -> Result<(), Refusal> {
    action.need_text("name")?;
    action.raw("parameters");
    Ok(())
}
