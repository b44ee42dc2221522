"""What customers send, in the shape of the documentation, and what the business does with it: reads, downloads, marks as read."""

import base64

import files
from expect import ABSENT, SECONDS, TEXT, UUID, Call, Is, Provoke, Told, matches
from runner import OWN_NUMBER, OWN_NUMBER_ID

WHY = "onprem 3.2; cloud 5"
ANN = "447700956001"


def writes(name, message, id_, **more):
    return Provoke(f"a customer sends {name}", "/admin/inbound", {"from": ANN, "message": {"id": id_} | message} | more)


def told(name, id_, body, whole=None, **more):
    """The message, from this customer, with the contact that belongs to it."""
    shape = {"from": ANN, "timestamp": SECONDS, "group_id": ABSENT} | body
    around = {"contacts[0].wa_id": ANN, "contacts[0].profile.name": "Ann Lee", "object": ABSENT, "entry": ABSENT,
              "messaging_product": ABSENT, "metadata": ABSENT} | (whole or {})
    return Told(f"{name} is told", WHY, "messages", {"id": id_}, body=shape, whole=around, **more)


def pair(name, kind, content, body, **more):
    """A message of a kind, and the callback that must come of it."""
    id_ = f"wamid.in-{name.replace(' ', '-')}"
    item = {"type": kind, kind: content} | more
    expected = {"type": kind} | {f"{kind}.{path}" if path else kind: wanted for path, wanted in body.items()}
    return [writes(name, item, id_), told(name, id_, expected)]


STEPS = []
STEPS += pair("text", "text", {"body": "hello"}, {"body": "hello"})
STEPS += pair("location", "location", {"latitude": 51.5072, "longitude": -0.1276, "name": "London", "address": "UK", "url": "https://e.example"},
              {"latitude": 51.5072, "longitude": -0.1276, "name": "London", "address": "UK", "url": "https://e.example"})
CONTACTS = [{"name": {"formatted_name": "Bob", "first_name": "Bob"}, "phones": [{"phone": "+44 7700 900555", "type": "CELL", "wa_id": "447700900555"}]}]
STEPS += [writes("contacts", {"type": "contacts", "contacts": CONTACTS}, "wamid.in-contacts"),
          told("contacts", "wamid.in-contacts", {"type": "contacts", "contacts[0].name.formatted_name": "Bob", "contacts[0].phones[0].wa_id": "447700900555"})]
STEPS += pair("button", "button", {"payload": "yes", "text": "Yes"}, {"payload": "yes", "text": "Yes"})
STEPS += pair("button reply", "interactive", {"type": "button_reply", "button_reply": {"id": "b1", "title": "Button 1"}},
              {"type": "button_reply", "button_reply.id": "b1", "button_reply.title": "Button 1"})
STEPS += pair("list reply", "interactive", {"type": "list_reply", "list_reply": {"id": "r1", "title": "Row 1", "description": "d"}},
              {"type": "list_reply", "list_reply.id": "r1", "list_reply.title": "Row 1", "list_reply.description": "d"})
STEPS += pair("flow reply", "interactive", {"type": "nfm_reply", "nfm_reply": {"name": "flow", "body": "Sent", "response_json": "{\"a\":1}"}},
              {"type": "nfm_reply", "nfm_reply.name": "flow", "nfm_reply.response_json": "{\"a\":1}"})
STEPS += pair("order", "order", {"catalog_id": "900800", "text": "please", "product_items": [
    {"product_retailer_id": "sku-1", "quantity": 2, "item_price": 3.5, "currency": "GBP"}]},
    {"catalog_id": "900800", "text": "please", "product_items[0].product_retailer_id": "sku-1", "product_items[0].quantity": 2,
     "product_items[0].item_price": 3.5, "product_items[0].currency": "GBP"})
STEPS += pair("reaction", "reaction", {"message_id": "wamid.OLD", "emoji": "👍"}, {"message_id": "wamid.OLD", "emoji": "👍"})
STEPS += [writes("no reaction any more", {"type": "reaction", "reaction": {"message_id": "wamid.OLD"}}, "wamid.in-unreaction"),
          told("no reaction any more", "wamid.in-unreaction", {"type": "reaction", "reaction.message_id": "wamid.OLD", "reaction.emoji": ""})]
REFERRAL = {"source_url": "https://ads.example", "source_id": "1", "source_type": "ad", "headline": "Tea", "body": "Cheap", "ctwa_clid": "c"}
STEPS += [writes("an answer to an advertisement", {"type": "text", "text": {"body": "hi"}, "referral": REFERRAL}, "wamid.in-ad"),
          told("an answer to an advertisement", "wamid.in-ad", {"type": "text", "referral.headline": "Tea", "referral.source_type": "ad", "referral.ctwa_clid": "c"})]
STEPS += [writes("a question about a product", {"type": "text", "text": {"body": "this?"}, "context": {
    "from": OWN_NUMBER, "id": "wamid.OLD", "referred_product": {"catalog_id": "900800", "product_retailer_id": "sku-1"}}}, "wamid.in-product"),
          told("a question about a product", "wamid.in-product", {"context.from": OWN_NUMBER, "context.id": "wamid.OLD",
               "context.referred_product.product_retailer_id": "sku-1"})]
STEPS += [writes("something forwarded", {"type": "text", "text": {"body": "f"}, "context": {"forwarded": True}}, "wamid.in-forwarded"),
          told("something forwarded", "wamid.in-forwarded", {"context.forwarded": True})]
ERROR_131051 = [{"code": 131051, "title": "Message type unknown", "message": "Message type unknown", "error_data": {"details": "Message type is currently not supported."}}]
STEPS += [writes("something that nobody supports", {"type": "unsupported", "errors": ERROR_131051, "unsupported": {"type": "poll_creation"}}, "wamid.in-unsupported"),
          told("something that nobody supports", "wamid.in-unsupported", {"type": "unknown", "errors[0].code": 501, "errors[0].title": TEXT})]
STEPS += [writes("a kind of tomorrow", {"type": "hologram", "hologram": {"a": 1}}, "wamid.in-tomorrow"),
          told("a kind of tomorrow", "wamid.in-tomorrow", {"type": TEXT})]
STEPS += [writes("an edit", {"type": "edit", "edit": {"original_message_id": "wamid.in-text", "message": {"type": "text", "text": {"body": "hello!"}}}}, "wamid.in-edit"),
          told("an edit", "wamid.in-edit", {"type": "unknown", "edit.original_message_id": "wamid.in-text"})]
STEPS += [writes("a text that is taken back", {"type": "revoke", "revoke": {"original_message_id": "wamid.in-text"}}, "wamid.in-revoke"),
          Told("a text that is taken back: a status", "cloud 5.2; client 5", "statuses", {"id": "wamid.in-text", "status": "deleted"}, body={"timestamp": SECONDS})]
STEPS += [writes("a message in a group", {"type": "text", "text": {"body": "all"}, "group_id": "R3JvdXA"}, "wamid.in-group"),
          Told("a message in a group is told", WHY, "messages", {"id": "wamid.in-group"}, body={"group_id": "R3JvdXA", "from": ANN})]
STEPS += [writes("a new number", {"type": "system", "system": {"body": "Ann changed from A to B", "type": "user_changed_number", "wa_id": "447700956009",
                                                             "user_id": "GB.447700956009"}}, "wamid.in-system"),
          Told("a new number is told", "onprem 3.2", "messages", {"id": "wamid.in-system"}, body={"type": "system", "system.body": TEXT, "system.type": TEXT,
               "system": Is("the new number as new_wa_id or wa_id", lambda s: "447700956009" in (s.get("new_wa_id"), s.get("wa_id")))})]
STEPS += [Provoke("someone with a user name writes", "/admin/inbound", {"from": "447700956002", "no_number": True, "username": "bob", "user_id": "GB.956002",
                  "profile": "Bob", "message": {"id": "wamid.in-username", "type": "text", "text": {"body": "hi"}}}),
          Told("the user id stands where the number stood", "client 3", "messages", {"id": "wamid.in-username"}, body={"from": "GB.956002", "from_user_id": "GB.956002"},
               whole={"contacts[0].wa_id": "GB.956002", "contacts[0].user_id": "GB.956002"})]
STEPS += [Provoke("someone without a profile writes", "/admin/inbound", {"from": "447700956003", "no_profile": True, "message": {
                  "id": "wamid.in-noprofile", "type": "text", "text": {"body": "hi"}}}),
          Told("it is told", "cloud 8.1", "messages", {"id": "wamid.in-noprofile"}, body={"from": "447700956003", "text.body": "hi"})]
STEPS += [Provoke("someone without a contact writes", "/admin/inbound", {"from": "447700956004", "no_contact": True, "message": {
                  "id": "wamid.in-nocontact", "type": "text", "text": {"body": "hi"}}}),
          Told("it is told", "client 5", "messages", {"id": "wamid.in-nocontact"}, body={"from": "447700956004", "text.body": "hi"})]
STEPS += [Provoke("one item of a batch is broken", "/admin/webhook", {"field": "messages", "value": {
              "messaging_product": "whatsapp", "metadata": {"display_phone_number": OWN_NUMBER, "phone_number_id": OWN_NUMBER_ID},
              "contacts": [{"profile": {"name": "Ann Lee"}, "wa_id": ANN, "user_id": "GB." + ANN}],
              "messages": [{"type": 7}, {"from": ANN, "from_user_id": "GB." + ANN, "id": "wamid.in-behind", "timestamp": "1893456000", "type": "text", "text": {"body": "still here"}}]}}),
          Told("the other one is told", "client 1.7, 5", "messages", {"id": "wamid.in-behind"}, body={"text.body": "still here", "timestamp": "1893456000"})]

GIVEN = [
    ("image", "image/jpeg", files.JPEG),
    ("video", "video/mp4", files.MP4),
    ("audio", "audio/mpeg", files.MP3),
    ("document", "application/pdf", files.PDF),
    ("sticker", "image/webp", files.WEBP),
]


def gives(kind, mime, data, who):
    return Provoke(f"a customer sends {kind}", "/admin/inbound", {"from": who, "media": {"kind": kind, "mime": mime, "base64": base64.b64encode(data).decode()}})


for index, (kind, mime, data) in enumerate(GIVEN):
    who = f"44770095610{index}"
    STEPS += [
        gives(kind, mime, data, who),
        Told(f"the {kind} is told, with an id of ours", WHY, "messages", {"from": who, "type": kind},
             body={f"{kind}.id": UUID, f"{kind}.mime_type": matches("^" + mime), f"{kind}.sha256": TEXT, f"{kind}.url": ABSENT},
             save={"given_" + kind: kind + ".id"}),
        Call(f"the {kind} is downloaded", "GET /v1/media/{id}", "onprem 2.8", who="user", at={"id": f"${{given_{kind}}}"},
             raw=Is("the bytes that the customer sent", lambda got, data=data: got == data), head={"Content-Length": str(len(data))}),
    ]

VOICE = {"type": "audio", "audio": {"id": "1", "mime_type": "audio/ogg; codecs=opus", "sha256": "c2hh", "voice": True}}
STEPS += [
    writes("a voice note", VOICE, "wamid.in-voice"),
    told("a voice note", "wamid.in-voice", {"type": "voice", "voice.mime_type": "audio/ogg; codecs=opus", "audio": ABSENT}),
    Call("videos are not downloaded any more", "PATCH /v1/settings/application", "onprem 2.4", send={"media": {"auto_download": ["image"]}}),
    gives("video", "video/mp4", files.MP4, "447700956110"),
    Told("the video is told as undownloaded", "onprem 3.2; client 5", "messages", {"from": "447700956110", "type": "video"}, body={
        "": Is("status undownloaded", lambda m: "undownloaded" in (m.get("status"), m["video"].get("status")))}, save={"given_later": "video.id"}),
    Call("the video comes when it is asked for", "GET /v1/media/{id}", "client 5", who="user", at={"id": "${given_later}"},
         raw=Is("the bytes that the customer sent", lambda got: got == files.MP4), head={"Content-Length": str(len(files.MP4))}),
    Call("all are downloaded again", "PATCH /v1/settings/application", "onprem 2.4",
         send={"media": {"auto_download": ["audio", "document", "image", "sticker", "video", "voice"]}}),
]


def read(name, id_, send, **more):
    return Call(name, "PUT /v1/messages/{id}", "onprem 2.6; client 9.10", who="user", at={"id": id_}, send=send, **more)


STRANGE = "wamid.HBgM/a+b=="
STEPS += [
    writes("a text with a strange id", {"type": "text", "text": {"body": "hi"}}, STRANGE),
    told("a text with a strange id", STRANGE, {"text.body": "hi"}),
    read("it is marked as read", "wamid.in-location", {"status": "read"}),
    read("once more", "wamid.in-location", {"status": "read"}),
    read("with a sign that we write", "wamid.in-contacts", {"status": "read", "typing_indicator": {"type": "text"}}),
    read("an id with a slash and signs of equality", STRANGE, {"status": "read"}),
]
