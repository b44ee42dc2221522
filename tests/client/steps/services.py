"""Collection of old messages and files, with the callbacks that tell its end; certificates; sticker packs; groups, which are gone."""

from expect import ANY, TEXT, Call, Do, Is, Told, anywhere, matches, one_of
from runner import checked, need, request

GC = "onprem 2.10; client 7"


def _messages(world):
    """One callback item a coreapp."""

    def there(receiver):
        items = [item["message"]["gc"] for item, _ in receiver.items("services") if "message" in item]
        return items if len({item.get("node") for item in items}) >= 2 else None

    items = world.receiver.wait(there, 20)
    need(items, "a callback item for each of two coreapps", items)
    need(all(i["status"] == "complete" and isinstance(i["messages_deleted"], int) for i in items), "complete, with a number of messages", items)



STEPS = [
    Call("messages are collected", "PUT /v1/services/message/gc", GC, who="user", body={"services.message.gc": anywhere("status", "processing")}),
    Do("every coreapp tells that it is done", GC, _messages),
    Call("once more, with a slash", "PUT /v1/services/message/gc", GC, who="user", slash=True, body={"services.message.gc": ANY}),
    Call("files are collected", "PUT /v1/services/media/gc", GC, who="user", body={"services.media.gc": anywhere("status", "processing")}),
    Told("its end is told", GC, "services", {"media.gc.status": one_of("complete", "failed")}, body={"media.gc.items_deleted": Is("a number", lambda n: n >= 0)}),
]


def certificate(name, file, call="POST /v1/certificates/external", **more):
    """An upload of a file of the tests' own folder."""

    def act(world):
        step = Call(name, call, "", send=(world.folder / file).read_bytes(), kind="text/plain", **more)
        checked(step, world, request(step, world))

    return Do(name, "onprem 2.11; client 7", act)


def authority(name, call):
    def act(world):
        wanted = (world.folder / "ca.pem").read_text().split()
        step = Call(name, call, "", raw=Is("the authority as it was uploaded", lambda body: body.decode().split() == wanted))
        checked(step, world, request(step, world))

    return Do(name, "onprem 2.11", act)


CERTIFICATES = "onprem 2.11"
HOOKS = "/v1/certificates/webhooks/ca"
# Before callbacks need it: the authority of the webhook's end point comes and goes.
BEFORE = [
    Call("no authority of the webhook", f"GET {HOOKS}", CERTIFICATES, code=1006),
    Call("text that is no certificate", f"POST {HOOKS}", CERTIFICATES, send=b"hello", kind="text/plain", code=1009),
    certificate("an authority", "ca.pem", f"POST {HOOKS}", status=(200, 201)),
    authority("it is shown", f"GET {HOOKS}"),
    Call("it is shown, with a slash", f"GET {HOOKS}", CERTIFICATES, slash=True, raw=Is("a certificate", lambda b: b"BEGIN CERTIFICATE" in b)),
    Call("a user reads it", f"GET {HOOKS}", CERTIFICATES, who="user", code=1005),
    Call("it is deleted", f"DELETE {HOOKS}", CERTIFICATES),
    Call("it is gone", f"GET {HOOKS}", CERTIFICATES, code=1006, until=2),
    Call("a user deletes it", f"DELETE {HOOKS}", CERTIFICATES, who="user", code=1005),
]
STEPS += [
    Call("the authority of the webapps", "GET /v1/certificates/external/ca", CERTIFICATES, raw=Is("a certificate", lambda b: b"BEGIN CERTIFICATE" in b)),
    Call("text that is no certificate", "POST /v1/certificates/external", CERTIFICATES, send=b"hello", kind="text/plain", code=1009),
    Call("nothing", "POST /v1/certificates/external", CERTIFICATES, send=b"", kind="text/plain", code=(1008, 1009)),
    certificate("the key of another certificate", "strange.pem", code=1009),
    certificate("one whose time is over", "expired.pem", code=1009),
    certificate("a certificate", "web.pem", status=(200, 201)),
    Call("its authority is shown", "GET /v1/certificates/external/ca", CERTIFICATES, slash=True, raw=Is("a certificate", lambda b: b"BEGIN CERTIFICATE" in b), until=2),
    Call("no private key is ever shown", "GET /v1/certificates/external/ca", CERTIFICATES, raw=Is("no key", lambda b: b"PRIVATE KEY" not in b)),
    Call("a user uploads one", "POST /v1/certificates/external", CERTIFICATES, who="user", send=b"x", kind="text/plain", code=1005),
]

PACKS = "onprem 2.12"
PACK = {"publisher": "Example Ltd", "name": "Cups", "ios_app_store_link": "https://apps.example/1", "android_app_store_link": "https://play.example/1"}


def pack(name, call, **more):
    return Call(name, call, PACKS, who="user", at={"pack": "${pack}", "index": "0"}, **more)


ONE, STICKERS, STICKER = "/v1/stickerpacks/{pack}", "/v1/stickerpacks/{pack}/stickers", "/v1/stickerpacks/{pack}/stickers/{index}"
STEPS += [
    Call("no packs", "GET /v1/stickerpacks", PACKS, who="user", body={"stickerpacks": []}),
    Call("none of the first party either", "GET /v1/stickerpacks", "client 7", who="user", query="?namespace=whatsapp", body={"stickerpacks": []}),
    Call("a pack", "POST /v1/stickerpacks", PACKS, who="user", send=PACK, status=(200, 201), body={"stickerpacks[0].id": TEXT}, save={"pack": "stickerpacks[0].id"}),
    Call("without publisher", "POST /v1/stickerpacks", PACKS, who="user", send={"name": "Cups"}, code=1008),
    Call("without name", "POST /v1/stickerpacks", PACKS, who="user", send={"publisher": "x"}, code=1008),
    Call("it is listed", "GET /v1/stickerpacks", PACKS, who="user", slash=True, body={"stickerpacks": Is("a list of one", lambda v: len(v) == 1)}),
    pack("it is read", f"GET {ONE}", body={"stickerpacks": anywhere("name", "Cups")}),
    pack("it is renamed", f"PATCH {ONE}", send={"name": "Mugs"}),
    pack("so it is", f"GET {ONE}", slash=True, body={"stickerpacks": anywhere("name", "Mugs")}),
    pack("the publisher is as it was", f"GET {ONE}", body={"stickerpacks": anywhere("publisher", "Example Ltd")}),
    pack("a sticker", f"POST {STICKERS}", send={"image_data_id": "${media_webp}", "emojis": ["☕"]}, status=(200, 201)),
    pack("a sticker without an image", f"POST {STICKERS}", send={"emojis": ["☕"]}, code=1008),
    pack("a sticker whose file is not there", f"POST {STICKERS}", send={"image_data_id": "00000000-0000-4000-8000-000000000000", "emojis": ["☕"]}, status=(400, 404), code=(1006, 1009)),
    pack("the stickers", f"GET {STICKERS}", body={"stickers": Is("a list of one", lambda v: len(v) == 1)}),
    pack("one sticker", f"GET {STICKER}", body={"stickers": anywhere("emojis", ["☕"])}),
    pack("its signs are changed", f"PATCH {STICKER}", send={"emojis": ["🍵"]}),
    pack("so they are", f"GET {STICKER}", slash=True, body={"stickers": anywhere("emojis", ["🍵"])}),
    pack("it is deleted", f"DELETE {STICKER}"),
    pack("it is gone", f"GET {STICKER}", code=1006),
    pack("the pack is deleted", f"DELETE {ONE}"),
    pack("it is gone", f"GET {ONE}", code=1006),
    Call("a pack that never was", f"GET {ONE}", PACKS, who="user", at={"pack": "nothing"}, code=1006),
]

GROUPS = "onprem 2.13; client 7: 404"
for call in ("GET /v1/groups", "POST /v1/groups", "GET /v1/groups/{id}", "PUT /v1/groups/{id}", "PATCH /v1/groups/{id}/admins", "DELETE /v1/groups/{id}/admins",
             "DELETE /v1/groups/{id}/participants", "GET /v1/groups/{id}/icon", "POST /v1/groups/{id}/icon", "DELETE /v1/groups/{id}/icon",
             "GET /v1/groups/{id}/invite", "DELETE /v1/groups/{id}/invite", "POST /v1/groups/{id}/leave"):
    for slash in (False, True):
        STEPS.append(Call(f"{call}, gone" + (", with a slash" if slash else ""), call, GROUPS, who="user", at={"id": "447700900123-1"}, slash=slash,
                          send={"subject": "x", "wa_ids": ["447700900123"]} if call.split()[0] in ("POST", "PUT", "PATCH") else None,
                          status=404, code=(1006, 1012, 1014), body={"errors[0].details": matches(r"\w+ \w+")}))
