"""Messages that must be refused before they are accepted: each with its code and the place in `details`."""

import time

from expect import Call, Do, Is, matches
from runner import Failed, checked, need, request
from steps.messages import BUTTONS, CATALOG, CONTACT, LANGUAGE, PRODUCTS, hsm, interactive, named, number, of, reply, rows, text

WHY = "onprem 2.6, 2.14; cloud 4; client 1.4"
LONG, MISSING, WRONG = 1001, 1008, 1009


def has(place):
    return {"errors[0].details": Is(f"details that name {place}", lambda t: place in t)}


def sections(count):
    return [{"title": f"S {n}", "rows": rows(1, n)} for n in range(count)]


def listed(**more):
    return {"button": "Open", "sections": [{"title": "One", "rows": rows(2)}]} | more


def row(**more):
    return interactive("list", listed(sections=[{"title": "One", "rows": [{"id": "r", "title": "t"} | more]}]))


def button(**more):
    return interactive("button", {"buttons": [{"type": "reply", "reply": {"id": "b", "title": "t"} | more}]})


def body(words):
    return {"body": {"text": words}}


def without(value, name):
    return {key: kept for key, kept in value.items() if key != name}


def tpl(**more):
    return of("template", {"namespace": "x", "name": "hello_world", "language": LANGUAGE} | more)


PLACE = {"longitude": "1", "latitude": "1"}
# Name, message without recipient, code or codes, a place that details must name (empty: any).
REFUSED = [
    ("an unknown type", {"type": "fax", "fax": {}}, WRONG, "type"),
    ("no content", {"type": "text"}, MISSING, "text"),
    ("nothing at all", {}, MISSING, "text"),
    ("text without body", of("text", {}), MISSING, "text"),
    ("text with an empty body", of("text", {"body": ""}), MISSING, "text.body"),
    ("text of 4097", of("text", {"body": "a" * 4097}), LONG, "text.body"),
    ("text whose body is an object", of("text", {"body": {"a": 1}}), WRONG, "text.body"),
    ("text with another type's object", of("text", {"body": "hi"}, image={"link": "https://a.example/a.png"}), 1010, "image"),
    ("a preview that is no boolean", of("text", {"body": "hi"}, preview_url="perhaps"), WRONG, "preview_url"),
    ("a ttl that is no time", of("text", {"body": "hi"}, ttl="soon"), WRONG, "ttl"),
    ("callback data of 513", of("text", {"body": "hi"}, biz_opaque_callback_data="d" * 513), LONG, "biz_opaque_callback_data"),
    ("image without id and link", of("image", {"caption": "c"}), MISSING, "image"),
    ("image, caption of 1025", of("image", {"link": "https://a.example/a.png", "caption": "c" * 1025}), LONG, "image.caption"),
    ("image, a link that is none", of("image", {"link": "not a link"}), WRONG, "image.link"),
    ("image, an id that is not there", of("image", {"id": "00000000-0000-4000-8000-000000000000"}), (1006, WRONG), ""),
    ("image, a document's file", of("image", {"id": "${media_pdf}"}), WRONG, "image"),
    ("image, a file above 5 MB", of("image", {"id": "${media_bigpng}"}), (LONG, WRONG), "image"),
    ("audio without id and link", of("audio", {}), MISSING, "audio"),
    ("audio, an image's file", of("audio", {"id": "${media_png}"}), WRONG, "audio"),
    ("voice in stereo", of("voice", {"id": "${media_stereo}"}), WRONG, "voice"),
    ("voice that is no Opus", of("voice", {"id": "${media_mp3}"}), WRONG, "voice"),
    ("video, an image's file", of("video", {"id": "${media_png}"}), WRONG, "video"),
    ("video, caption of 1025", of("video", {"link": "https://a.example/a.mp4", "caption": "c" * 1025}), LONG, "video.caption"),
    ("document, caption of 1025", of("document", {"link": "https://a.example/a.pdf", "caption": "c" * 1025}), LONG, "document.caption"),
    ("document, filename of 241", of("document", {"link": "https://a.example/a.pdf", "filename": "f" * 241}), LONG, "document.filename"),
    ("sticker, an image's file", of("sticker", {"id": "${media_png}"}), WRONG, "sticker"),
    ("a provider that is not there", of("image", {"link": "https://a.example/a.png", "provider": {"name": "nobody"}}), (1006, WRONG), "provider"),
    ("location without latitude", of("location", without(PLACE, "latitude")), MISSING, "location.latitude"),
    ("location without longitude", of("location", without(PLACE, "longitude")), MISSING, "location.longitude"),
    ("location beyond the pole", of("location", PLACE | {"latitude": 90.5}), WRONG, "location.latitude"),
    ("location that is no number", of("location", PLACE | {"longitude": "west"}), WRONG, "location.longitude"),
    ("contacts without any", of("contacts", []), (MISSING, WRONG), "contacts"),
    ("contacts, 258", of("contacts", [CONTACT] * 258), (LONG, WRONG), "contacts"),
    ("contacts without a name", of("contacts", [without(CONTACT, "name")]), MISSING, "contacts[0].name"),
    ("contacts without the formatted name", of("contacts", [{"name": {"first_name": "A"}}]), MISSING, "contacts[0].name.formatted_name"),
    ("contacts, a birthday that is none", of("contacts", [CONTACT | {"birthday": "yesterday"}]), WRONG, "contacts[0].birthday"),
    ("template, an empty namespace", tpl(namespace=""), 2014, ""),
    ("template without name", of("template", {"namespace": "x", "language": LANGUAGE}), MISSING, "template.name"),
    ("template without language", of("template", {"namespace": "x", "name": "hello_world"}), MISSING, "template.language"),
    ("template without a code", tpl(language={"policy": "deterministic"}), MISSING, "template.language.code"),
    ("template, an unknown component without type", tpl(components=[{"parameters": []}]), MISSING, "template.components[0].type"),
    ("template, a parameter without its text", named("track_parcel", [{"type": "text"}]), MISSING, "template.components[0].parameters[0].text"),
    ("hsm without element_name", of("hsm", {"namespace": "x", "language": LANGUAGE, "localizable_params": []}), MISSING, "hsm.element_name"),
    ("hsm without language", of("hsm", {"namespace": "x", "element_name": "y", "localizable_params": []}), MISSING, "hsm.language"),
    ("hsm, a parameter without default", hsm("track_parcel_plain", {"currency": {"currency_code": "GBP", "amount_1000": 1}}), MISSING, "default"),
    ("interactive without type", of("interactive", {"body": {"text": "t"}, "action": BUTTONS}), MISSING, "interactive.type"),
    ("interactive without action", of("interactive", {"type": "button", "body": {"text": "t"}}), MISSING, "interactive.action"),
    ("buttons without body", of("interactive", {"type": "button", "action": BUTTONS}), MISSING, "interactive.body"),
    ("no buttons", interactive("button", {"buttons": []}), (MISSING, WRONG), "interactive.action.buttons"),
    ("four buttons", interactive("button", {"buttons": [reply(n) for n in range(4)]}), WRONG, "interactive.action.buttons"),
    ("two buttons with one id", interactive("button", {"buttons": [reply(1), reply(1) | {"reply": {"id": "b1", "title": "Other"}}]}), WRONG, "id"),
    ("two buttons with one title", interactive("button", {"buttons": [reply(1), {"type": "reply", "reply": {"id": "b2", "title": "Button 1"}}]}), WRONG, "title"),
    ("button without id", interactive("button", {"buttons": [{"type": "reply", "reply": {"title": "t"}}]}), MISSING, "interactive.action.buttons[0].reply.id"),
    ("button without title", interactive("button", {"buttons": [{"type": "reply", "reply": {"id": "i"}}]}), MISSING, "interactive.action.buttons[0].reply.title"),
    ("button, title of 21", button(title="t" * 21), LONG, "interactive.action.buttons[0].reply.title"),
    ("button, id of 257", button(id="i" * 257), LONG, "interactive.action.buttons[0].reply.id"),
    ("button, a blank before the id", button(id=" b"), WRONG, "interactive.action.buttons[0].reply.id"),
    ("buttons, body of 1025", interactive("button", BUTTONS, **body("b" * 1025)), LONG, "interactive.body.text"),
    ("buttons, header of 61", interactive("button", BUTTONS, header={"type": "text", "text": "h" * 61}), LONG, "interactive.header.text"),
    ("buttons, footer of 61", interactive("button", BUTTONS, footer={"text": "f" * 61}), LONG, "interactive.footer.text"),
    ("list without button", interactive("list", without(listed(), "button")), MISSING, "interactive.action.button"),
    ("list, button of 21", interactive("list", listed(button="b" * 21)), LONG, "interactive.action.button"),
    ("list without sections", interactive("list", {"button": "Open"}), (MISSING, 2015), "interactive.action.sections"),
    ("list, 11 sections", interactive("list", listed(sections=sections(11))), (2015, 2016), "interactive.action.sections"),
    ("list, 11 rows", interactive("list", listed(sections=[{"title": "One", "rows": rows(11)}])), 2016, "rows"),
    ("list, 11 rows in two sections", interactive("list", listed(sections=[{"title": "One", "rows": rows(6)}, {"title": "Two", "rows": rows(5, 6)}])), 2016, ""),
    ("list, a section without its title", interactive("list", listed(sections=[{"title": "One", "rows": rows(1)}, {"rows": rows(1, 1)}])), MISSING, "title"),
    ("list, section title of 25", interactive("list", listed(sections=[{"title": "t" * 25, "rows": rows(1)}])), LONG, "interactive.action.sections[0].title"),
    ("list, row title of 25", row(title="t" * 25), LONG, "interactive.action.sections[0].rows[0].title"),
    ("list, row description of 73", row(description="d" * 73), LONG, "interactive.action.sections[0].rows[0].description"),
    ("list, row id of 201", row(id="i" * 201), LONG, "interactive.action.sections[0].rows[0].id"),
    ("list, body of 4097", interactive("list", listed(), **body("b" * 4097)), LONG, "interactive.body.text"),
    ("list, an image above it", interactive("list", listed(), header={"type": "image", "image": {"link": "https://a.example/a.png"}}), (WRONG, 2036), "interactive.header"),
    ("product with a header", interactive("product", CATALOG, header={"type": "text", "text": "h"}), (WRONG, 1010, 2036), "interactive.header"),
    ("product without catalog", interactive("product", without(CATALOG, "catalog_id")), MISSING, "interactive.action.catalog_id"),
    ("products without header", interactive("product_list", PRODUCTS), (MISSING, 2036), "interactive.header"),
    ("a link without its text", interactive("cta_url", {"name": "cta_url", "parameters": {"url": "https://a.example/"}}), MISSING, "display_text"),
    ("a link, text of 21", interactive("cta_url", {"name": "cta_url", "parameters": {"url": "https://a.example/", "display_text": "d" * 21}}), LONG, "display_text"),
    ("a reaction without a message", of("reaction", {"emoji": "👍"}), MISSING, "reaction.message_id"),
    ("a group as recipient", of("text", {"body": "hi"}, recipient_type="group"), 1002, ""),
    ("a recipient that nobody knows", of("text", {"body": "hi"}, recipient_type="friend"), 1002, ""),
]


def step(name, send, **more):
    return Call(name, "POST /v1/messages", WHY, who="user", send=send, **more)


STEPS = [step(name, {"to": number()} | message, code=code, body=has(place)) for name, message, code, place in REFUSED]

HI = {"type": "text", "text": {"body": "hi"}}
STEPS += [
    step("no recipient", HI, code=MISSING, body=has("to")),
    step("an empty recipient", HI | {"to": ""}, code=MISSING, body=has("to")),
    step("a recipient of letters", HI | {"to": "abc"}, code=WRONG, body=has("to")),
    step("a recipient of 4 digits", HI | {"to": "1234"}, code=WRONG, body=has("to")),
    step("a recipient of 16 digits", HI | {"to": "1234567890123456"}, code=WRONG, body=has("to")),
    step("a number with an extension", HI | {"to": "+447700900123 ext 5"}, code=WRONG, body=has("to")),
    step("a user id with a strange sign", HI | {"to": "GB.12-34"}, code=WRONG, body=has("to")),
    step("an answer to another customer's message", HI | {"to": number(), "context": {"message_id": "${question}"}}, code=WRONG),
    step("no JSON", b"{", code=1025),
    step("no body", b"", code=(MISSING, 1025)),
    step("a list", [1], code=(WRONG, 1025)),
    step("a text", '"hello"'.encode(), code=(WRONG, 1025)),
    step("300,000 bytes", {"to": number(), "text": {"body": "a" * 300_000}}, status=(400, 413), code=(LONG, WRONG, 1025)),
]


def read(name, of_, send, **more):
    return Call(name, "PUT /v1/messages/{id}", "onprem 2.6", who="user", at={"id": of_}, send=send, **more)


STEPS += [
    read("read: no status", "wamid.in-text", {}, code=MISSING, body=has("status")),
    read("read: another status", "wamid.in-text", {"status": "delivered"}, code=WRONG, body={"errors[0].details": matches("status")}),
    read("read: no JSON", "wamid.in-text", b"{", code=1025),
]


# What the account's list of templates says against a message; the server reads the list in the background.
LISTED = [
    ("too many parameters", named("hello_world", [text("too many")]), 2000),
    ("not there", named("no_such_template"), 2001),
    ("another language", named("hello_world", code="fr"), 2001),
    ("paused", named("paused_offer"), 2061),
    ("disabled", named("disabled_offer"), 2062),
]
LISTED_WITHIN = 75


def _listed(world):
    """All of them in turn, until each is refused as documented: a look at the list serves several."""
    open_ = {name: step(f"templates: {name}", {"to": number()} | message, code=code) for name, message, code in LISTED}
    end = time.monotonic() + LISTED_WITHIN
    said = {}
    while open_ and time.monotonic() < end:
        for name in list(open_):
            try:
                checked(open_[name], world, request(open_[name], world))
                del open_[name]
            except Failed as failure:
                said[name] = str(failure)
        world.receiver.wait(lambda _: False, 0.5)
    need(not open_, f"each refused within {LISTED_WITHIN} s", {name: said[name] for name in open_})


LIST = [Do("templates that surely fail are refused", "README, check_templates", _listed)]
