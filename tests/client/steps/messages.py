"""Messages of every type, as clients may write them: each is accepted, reaches the upstream, and is sent, delivered and read.

What must be refused is in `refused.py`.
"""

from expect import TEXT, Call, Ranks, one_of

ON, CLOUD = "onprem 2.6", "cloud 4"
_next = 0


def number():
    """A customer of its own for each message, so that none waits behind another."""
    global _next
    _next += 1
    return f"4477009{_next:05d}"


def of(kind, content, **more):
    return {"type": kind, kind: content} | more


def interactive(kind, action, **more):
    return of("interactive", {"type": kind, "body": {"text": "Choose"}, "action": action} | more)


def reply(index):
    return {"type": "reply", "reply": {"id": f"b{index}", "title": f"Button {index}"}}


def rows(count, first=0):
    return [{"id": f"r{first + n}", "title": f"Row {first + n}", "description": "What it is"} for n in range(count)]


BUTTONS = {"buttons": [reply(1), reply(2), reply(3)]}
SECTIONS = {"button": "Open the list", "sections": [{"title": "One", "rows": rows(4)}, {"title": "Two", "rows": rows(6, 4)}]}
CATALOG = {"catalog_id": "900800", "product_retailer_id": "sku-1"}
PRODUCTS = {"catalog_id": "900800", "sections": [{"title": "Tea", "product_items": [{"product_retailer_id": "sku-1"}, {"product_retailer_id": "sku-2"}]}]}
CONTACT = {
    "name": {"formatted_name": "Ann Lee", "first_name": "Ann", "last_name": "Lee", "prefix": "Dr", "suffix": "Jr"},
    "org": {"company": "Example Ltd", "department": "Sales", "title": "Head"},
    "phones": [{"phone": "+44 7700 900123", "type": "CELL", "wa_id": "447700900123"}, {"phone": "+44 20 7946 0000", "type": "WORK"}],
    "emails": [{"email": "ann@example.com", "type": "WORK"}],
    "urls": [{"url": "https://example.com", "type": "WORK"}],
    "addresses": [{"street": "1 Example Street", "city": "London", "state": "", "zip": "N1", "country": "United Kingdom", "country_code": "gb", "type": "HOME"}],
    "birthday": "1990-02-28",
    "ims": [],
}


def card(index, link="https://shop.example/one.png"):
    return {"card_index": index, "type": "cta_url", "header": {"type": "image", "image": {"link": link}}, "body": {"text": "A card"},
            "action": {"name": "cta_url", "parameters": {"display_text": "See it", "url": "https://shop.example/"}}}


def named(name, parameters=(), *more, code="en_US", body=True):
    components = [{"type": "body", "parameters": list(parameters)}] if body and parameters else []
    return of("template", {"namespace": "the_old_namespace", "name": name, "language": {"policy": "deterministic", "code": code},
                           "components": components + list(more)})


def text(value, **more):
    return {"type": "text", "text": value} | more


def button(kind, index, *parameters):
    return {"type": "button", "sub_type": kind, "index": index, "parameters": list(parameters)}


def image(of_):
    return {"type": "image", "image": of_}


TEA = {"link": "https://shop.example/tea.png"}
MINE = {"id": "${media_jpeg}"}
LANGUAGE = {"policy": "deterministic", "code": "en_US"}


def hsm(name, *parameters, code="en_US"):
    return of("hsm", {"namespace": "the_old_namespace", "element_name": name, "language": {"policy": "deterministic", "code": code},
                      "localizable_params": list(parameters)})


def cards():
    one = [{"type": "header", "parameters": [image(MINE)]}, {"type": "body", "parameters": [text("Tea"), text("3 pounds")]},
           button("quick_reply", 0, {"type": "payload", "payload": "more"}), button("url", 1, text("tea"))]
    return {"type": "carousel", "cards": [{"card_index": 0, "components": one}, {"card_index": 1, "components": one}]}


# Name, where it is documented, the message without its recipient.
KINDS = [
    ("text", ON, of("text", {"body": "hello"})),
    ("text without its type", ON, {"text": {"body": "hello"}}),
    ("text of 4096 characters", ON, of("text", {"body": "ü" * 4096})),
    ("text with a preview at the top", ON, of("text", {"body": "https://example.com"}, preview_url=True)),
    ("text with a preview inside, in quotes", "client 1.4", of("text", {"body": "https://example.com", "preview_url": "true"})),
    ("text that is a number", "client 1.4", of("text", {"body": 12345})),
    ("text to an individual", ON, of("text", {"body": "hello"}, recipient_type="individual")),
    ("text with ttl as an object", ON, of("text", {"body": "hello"}, ttl={"days": 1})),
    ("text with callback data of 512", "client 4", of("text", {"body": "hello"}, biz_opaque_callback_data="d" * 512)),
    ("text with fields of tomorrow", "client 1.4", of("text", {"body": "hello"}, of_tomorrow={"a": [1]})),
    ("text with an empty context", "README", of("text", {"body": "hello"}, context={})),
    ("text with empty objects of other types", "README", of("text", {"body": "hello"}, image={}, hsm=None)),
    ("text that answers an old message", ON, of("text", {"body": "hello"}, context={"message_id": "wamid.OLD=="})),
    ("image by id", ON, of("image", {"id": "${media_jpeg}", "caption": "c" * 1024})),
    ("image by id, png", ON, of("image", {"id": "${media_png}"})),
    ("image by link", ON, of("image", {"link": "https://shop.example/a.png", "caption": "a"})),
    ("image with a filename", "README", of("image", {"id": "${media_jpeg}", "filename": "a.jpg"})),
    ("audio by id, aac", ON, of("audio", {"id": "${media_aac}"})),
    ("audio by id, mp4", ON, of("audio", {"id": "${media_m4a}"})),
    ("audio by id, amr", ON, of("audio", {"id": "${media_amr}"})),
    ("audio by id, mpeg", ON, of("audio", {"id": "${media_mp3}"})),
    ("audio by id, opus", ON, of("audio", {"id": "${media_opus}"})),
    ("audio by link", ON, of("audio", {"link": "https://shop.example/a.mp3"})),
    ("audio that is a voice message", "cloud 4.1", of("audio", {"id": "${media_opus}", "voice": True})),
    ("voice by id", "client 4", of("voice", {"id": "${media_opus}"})),
    ("video by id", ON, of("video", {"id": "${media_mp4}", "caption": "v"})),
    ("video by id, 3gpp", ON, of("video", {"id": "${media_threegp}"})),
    ("video by link", ON, of("video", {"link": "https://shop.example/a.mp4"})),
    ("document by id", ON, of("document", {"id": "${media_pdf}", "caption": "c", "filename": "offer.pdf"})),
    ("document, filename of 240", ON, of("document", {"id": "${media_txt}", "filename": "f" * 236 + ".txt"})),
    ("document by link", ON, of("document", {"link": "https://shop.example/a.pdf", "filename": "a.pdf"})),
    ("sticker by id", ON, of("sticker", {"id": "${media_webp}"})),
    ("sticker by link", ON, of("sticker", {"link": "https://shop.example/a.webp"})),
    ("location in texts", ON, of("location", {"longitude": "-0.1276", "latitude": "51.5072", "name": "London", "address": "London, UK"})),
    ("location in numbers", ON, of("location", {"longitude": -0.1276, "latitude": 51.5072})),
    ("contacts", ON, of("contacts", [CONTACT])),
    ("contacts, two, with little", ON, of("contacts", [{"name": {"formatted_name": "A", "first_name": "A"}}, {"name": {"formatted_name": "B", "last_name": "B"}}])),
    ("contacts, one where a list is meant", "client 1.4", of("contacts", CONTACT)),
    ("contacts, 257", CLOUD, of("contacts", [{"name": {"formatted_name": f"N {n}", "first_name": "N"}} for n in range(257)])),
    ("template", ON, named("hello_world")),
    ("template, body and url button", ON, named("track_parcel", [text("P-1")], button("url", "0", text("p-1")))),
    ("template, header and body", ON, named("order_update", [text("Ann"), text("Monday")], {"type": "header", "parameters": [text("17")]})),
    ("template in another language", ON, named("order_update", [text("Ann"), text("Montag")], {"type": "header", "parameters": [text("17")]}, code="de")),
    ("template, an empty list of components", "README", of("template", {"namespace": "x", "name": "call_us", "language": LANGUAGE, "components": []})),
    ("template, one parameter as an object", "onprem 2.6; client 9.6", of("template", {
        "namespace": "x", "name": "how_to_open", "language": LANGUAGE, "components": [
            {"type": "header", "parameters": {"type": "video", "video": {"id": "${media_mp4}"}}}, {"type": "body", "parameters": text("Ann")}]})),
    ("template, document, currency and date", ON, named("invoice_ready", [
        {"type": "currency", "currency": {"fallback_value": "£10", "code": "GBP", "amount_1000": 10000}},
        {"type": "date_time", "date_time": {"fallback_value": "Monday"}}],
        {"type": "header", "parameters": [{"type": "document", "document": {"id": "${media_pdf}", "filename": "invoice.pdf"}}]})),
    ("template, image by id, quick reply with a payload", ON, named("new_colour", (), {"type": "header", "parameters": [image(MINE)]},
        button("quick_reply", 0, {"type": "payload", "payload": "show"}), button("quick_reply", "1", {"type": "payload", "payload": "stop"}))),
    ("template, image by link, static quick replies", "client 9.6", named("new_colour", (), {"type": "header", "parameters": [image(TEA)]})),
    ("template, a location", CLOUD, named("pick_up", [text("Ann")], {"type": "header", "parameters": [
        {"type": "location", "location": {"latitude": "51.5", "longitude": "-0.1", "name": "Shop", "address": "London"}}]})),
    ("template, named parameters", CLOUD, named("appointment", [text("Ann", parameter_name="first_name"), text("Monday", parameter_name="day")])),
    ("template, a coupon", CLOUD, named("coupon", [text("20 %")], button("copy_code", "0", {"type": "coupon_code", "coupon_code": "SPRING"}))),
    ("template, an offer for a time", CLOUD, named("flash_sale", [text("Ann")], {"type": "header", "parameters": [image(TEA)]},
        {"type": "limited_time_offer", "parameters": [{"type": "limited_time_offer", "limited_time_offer": {"expiration_time_ms": 1893456000000}}]},
        button("copy_code", "0", {"type": "coupon_code", "coupon_code": "TODAY"}), button("url", "1", text("today")))),
    ("template, a code to copy", CLOUD, named("login_code", [text("123456")], button("url", "0", text("123456")))),
    ("template, cards with our files", "client 9.6", named("spring_cards", [text("Ann")], cards())),
    ("template, a flow", CLOUD, named("sign_up", (), button("flow", "0", {"type": "action", "action": {"flow_token": "t", "flow_action_data": {"a": 1}}}))),
    ("template, a catalog", CLOUD, named("our_catalog", [text("Ann")], button("catalog", "0", {"type": "action", "action": {"thumbnail_product_retailer_id": "sku-1"}}))),
    ("template, several products", CLOUD, named("left_behind", (), {"type": "header", "parameters": [text("Ann")]}, button("mpm", "0", {
        "type": "action", "action": {"thumbnail_product_retailer_id": "sku-1", "sections": PRODUCTS["sections"]}}))),
    ("template that asks for a number", CLOUD, named("your_number")),
    ("hsm", ON, hsm("track_parcel_plain", {"default": "P-1"})),
    ("hsm with currency and dates", "client 9.5", hsm("invoice_plain", {"default": "£10", "currency": {"currency_code": "GBP", "amount_1000": 10000}},
        {"default": "Monday", "date_time": {"component": {"day_of_week": 1, "year": 2030, "month": 1, "day_of_month": 7}}},
        {"default": "noon", "date_time": {"unix_epoch": {"timestamp": 1893456000}}})),
    ("list", ON, interactive("list", SECTIONS, header={"type": "text", "text": "h" * 60}, footer={"text": "f" * 60})),
    ("list, all as long as it may be", CLOUD, of("interactive", {"type": "list", "body": {"text": "b" * 4096}, "action": {
        "button": "b" * 20, "sections": [{"title": "t" * 24, "rows": [{"id": "i" * 200, "title": "t" * 24, "description": "d" * 72}]}]}})),
    ("list, one section without a title", CLOUD, interactive("list", {"button": "Open", "sections": [{"rows": rows(10)}]})),
    ("buttons", ON, interactive("button", BUTTONS, header={"type": "text", "text": "Hi"}, footer={"text": "f" * 60})),
    ("buttons, all as long as they may be", CLOUD, of("interactive", {"type": "button", "body": {"text": "b" * 1024}, "action": {
        "buttons": [{"type": "reply", "reply": {"id": "i" * 256, "title": "t" * 20}}]}})),
    ("buttons below our image", ON, interactive("button", {"buttons": [reply(1)]}, header=image(MINE))),
    ("buttons below a video", ON, interactive("button", {"buttons": [reply(1)]}, header={"type": "video", "video": {"link": "https://shop.example/a.mp4"}})),
    ("buttons below our document", ON, interactive("button", {"buttons": [reply(1)]}, header={"type": "document", "document": {"id": "${media_pdf}", "filename": "a.pdf"}})),
    ("a product", ON, interactive("product", CATALOG, footer={"text": "f"})),
    ("a product without a body", CLOUD, of("interactive", {"type": "product", "action": CATALOG})),
    ("products", ON, interactive("product_list", PRODUCTS, header={"type": "text", "text": "Tea"})),
    ("the catalog", CLOUD, interactive("catalog_message", {"name": "catalog_message", "parameters": {"thumbnail_product_retailer_id": "sku-1"}})),
    ("a flow", CLOUD, interactive("flow", {"name": "flow", "parameters": {"flow_message_version": "3", "flow_id": "900900", "flow_cta": "Begin", "flow_token": "t",
        "mode": "published", "flow_action": "navigate", "flow_action_payload": {"screen": "WELCOME"}}})),
    ("a link", CLOUD, interactive("cta_url", {"name": "cta_url", "parameters": {"display_text": "d" * 20, "url": "https://shop.example/"}})),
    ("a question for a place", CLOUD, interactive("location_request_message", {"name": "send_location"})),
    ("an address", CLOUD, interactive("address_message", {"name": "address_message", "parameters": {"country": "IN", "values": {"name": "Asha"}}})),
    ("a question for a number", CLOUD, interactive("request_contact_info", {"name": "request_contact_info"})),
    ("cards", CLOUD, interactive("carousel", {"cards": [card(0), card(1)]})),
    ("a call", CLOUD, interactive("voice_call", {"name": "voice_call", "parameters": {"display_text": "Call us", "ttl_minutes": 60, "payload": "p"}})),
    ("a question whether to call", CLOUD, interactive("call_permission_request", {"name": "call_permission_request"})),
]

# Templates for hsm: plain parameters in the body, as an hsm has nothing else.
PLAIN = [("track_parcel_plain", "Parcel {{1}} has left us."), ("invoice_plain", "Your invoice over {{1}} of {{2}}, {{3}}.")]


def template(name, body):
    return {"name": name, "language": "en_US", "status": "APPROVED", "category": "UTILITY", "parameter_format": "POSITIONAL",
            "components": [{"type": "BODY", "text": body}]}


def send(name, why, message, to=None, **more):
    """One message; accepted with an id, and with the recipient as it was typed and as it is known."""
    to = to or number()
    body = {"messages[0].id": TEXT, "contacts[0].input": to, "contacts[0].wa_id": to.lstrip("+")}
    return Call(name, "POST /v1/messages", why, who="user", send={"to": to} | message, status=(200, 201), body=body, **more)


STEPS = []
for index, (name, why, message) in enumerate(KINDS):
    STEPS.append(send(name, why, message, save={f"kind_{index}": "messages[0].id", f"to_{index}": "contacts[0].wa_id"}, slash=index % 7 == 3))

ANNS = "447700955001"
STEPS += [
    send("a question", ON, of("text", {"body": "Tea?"}), ANNS, save={"question": "messages[0].id"}),
    send("an answer to it", ON, of("text", {"body": "Or coffee?"}, context={"message_id": "${question}"}), ANNS, save={"answer": "messages[0].id"}),
    send("a reaction to it", ON, of("reaction", {"message_id": "${question}", "emoji": "👍"}), ANNS, save={"reaction": "messages[0].id"}),
    send("the reaction is taken back", CLOUD, of("reaction", {"message_id": "${question}", "emoji": ""}), ANNS, save={"unreaction": "messages[0].id"}),
    send("to a number with +", "onprem 2.6", of("text", {"body": "hello"}), "+447700955002", save={"plus": "messages[0].id"}),
    Call("to a number as people type it", "POST /v1/messages", "onprem 2.6", who="user", send={"to": "+44 (0)7700 955-003", "text": {"body": "hello"}},
         status=(200, 201), body={"contacts[0].input": "+44 (0)7700 955-003", "contacts[0].wa_id": "447700955003"}, save={"typed": "messages[0].id"}),
    Call("to a user id", "POST /v1/messages", "client 3", who="user", send={"to": "GB.447700955004", "text": {"body": "hello"}},
         status=(200, 201), body={"contacts[0].input": "GB.447700955004"}, save={"bsuid": "messages[0].id"}),
    Call("an old client sends again", "POST /v1/messages", "onprem 2.7: adding ?retry=1", who="user", query="?retry=1",
         send={"to": number(), "text": {"body": "hello"}}, status=(200, 201)),
    Call("to a number that is a number", "POST /v1/messages", "client 1.4", who="user", send={"to": 447700955005, "text": {"body": "hello"}},
         status=(200, 201), body={"contacts[0].wa_id": "447700955005"}),
]

# Every one of them is sent, delivered and read; the upstream tells it.
TOLD = [
    Ranks(f"{name}: sent, delivered, read", "onprem 3.3", f"${{kind_{index}}}", body={"recipient_id": f"${{to_{index}}}"})
    for index, (name, _, _) in enumerate(KINDS)
] + [
    Ranks(f"{name}: told", "onprem 3.3", f"${{{name}}}", body={"recipient_id": who}, words=words)
    for name, who, words in [
        ("question", ANNS, ("sent", "delivered", "read")),
        ("answer", ANNS, ("sent", "delivered", "read")),
        ("plus", "447700955002", ("sent", "delivered", "read")),
        ("typed", "447700955003", ("sent", "delivered", "read")),
    ]
] + [
    Ranks("a reaction: sent", "cloud 2: reactions get only sent", "${reaction}", words=("sent",), body={"recipient_id": one_of(ANNS)}),
]
