"""Contacts, identities, blocking. Numbers are never guessed: what comes out is what the documents work out by hand."""

from expect import ABSENT, Call, Do, Is, Provoke, Told, anywhere
from runner import need, request

WHY = "onprem 2.7; client 3"
# Typed: answered; None: invalid.
NUMBERS = [
    ("+44 7700 900123", "447700900123"),
    ("447700900124", "447700900124"),
    ("+44 (0)7700 900125", "447700900125"),
    ("+39 (0)6 1234567", "39061234567"),
    ("07700 900126", "07700900126"),
    ("\u202a+44 7700 900127\u202c", "447700900127"),
    ("tel:+44 7700 900128", "447700900128"),
    ("whatsapp:+447700900129", "447700900129"),
    ("+44\u00a07700\u2011900130", "447700900130"),
    ("٤٤٧٧٠٠٩٠٠١٣١", "447700900131"),
    ("00447700900132", "447700900132"),
    ("GB.1234567890", "GB.1234567890"),
    ("abc", None),
    ("1234", None),
    ("1234567890123456", None),
    ("+44 7700 900133 ext 5", None),
]


def look_up(name, send, **more):
    return Call(name, "POST /v1/contacts", WHY, who="user", send=send, **more)


def _answered(world):
    numbers = [typed for typed, _ in NUMBERS]
    step = look_up("many", {"contacts": numbers})
    answer = request(step, world)
    need(answer.status == 200, "status 200", f"{answer.status} {answer.body[:300]!r}")
    got = answer.json["contacts"]
    need([c["input"] for c in got] == numbers, "one answer a number, in order", [c.get("input") for c in got])
    wrong = []
    for (typed, wa_id), contact in zip(NUMBERS, got):
        wanted = ("valid", wa_id) if wa_id else ("invalid", None)
        if (contact["status"], contact.get("wa_id")) != wanted:
            wrong.append(f"{typed!r}: expected {wanted}, got {contact}")
    need(not wrong, "every number as documented", "; ".join(wrong))


STEPS = [
    look_up("a number", {"blocking": "wait", "contacts": ["+44 7700 900123"], "force_check": True},
            body={"contacts[0].input": "+44 7700 900123", "contacts[0].status": "valid", "contacts[0].wa_id": "447700900123"}),
    look_up("without waiting", {"blocking": "no_wait", "contacts": ["447700900124"]}, slash=True,
            body={"contacts[0].status": "valid", "contacts[0].wa_id": "447700900124"}),
    look_up("one that is none", {"contacts": ["abc"]}, body={"contacts[0].status": "invalid", "contacts[0].wa_id": ABSENT}),
    look_up("numbers that are numbers", {"contacts": [447700900124]}, body={"contacts[0].wa_id": "447700900124"}),
    Do("many in one call, each for itself", "client 9.4, 1.7, 3", _answered),
    look_up("no list", {"blocking": "wait"}, code=1008),
    look_up("an object where a list is meant", {"contacts": {"a": 1}}, code=1009),
    look_up("a word of blocking that nobody knows", {"contacts": ["447700900124"], "blocking": "maybe"}, status=(200, 400)),
    look_up("no JSON", b"contacts", code=1025),
]

KNOWN, STRANGER = "447700901001", "447700901002"


def event(hash_, message):
    """A message of the known customer, whose identity key is this one from now on."""
    return {"from": KNOWN, "identity_key_hash": hash_, "message": {"id": message, "type": "text", "text": {"body": "it is me"}}}


def identity(name, **more):
    return Call(name, "GET /v1/contacts/{wa_id}/identity", WHY, at={"wa_id": KNOWN}, who="user", **more)


def acknowledge(name, send, **more):
    return Call(name, "PUT /v1/contacts/{wa_id}/identity", WHY, at={"wa_id": KNOWN}, who="user", send=send, **more)


def write(name, **more):
    return Call(name, "POST /v1/messages", "client 5: 1028 until PUT", who="user", send={"to": KNOWN, "text": {"body": "is it you?"}}, **more)


def _becomes_known(world):
    """The upstream tells identities from the moment on at which the switch has reached it; no document says when that is."""
    for count in range(20):
        world.upstream.post("/admin/inbound", event("first=", f"wamid.identity-first-{count}"))
        told = world.receiver.wait(lambda r, c=count: [i for i, _ in r.items("messages") if i.get("id") == f"wamid.identity-first-{c}"], 5)
        need(told, "the message of the customer", told)
        answer = request(identity(""), world)
        if answer.status == 200:
            return
        need(answer.status == 404 and answer.error().get("code") == 1006, "1006 until it is known", answer.body[:200])
        world.receiver.wait(lambda _: False, 0.5)
    need(False, "an identity within 10 s", f"{answer.status} {answer.body[:200]!r}")


IDENTITY = [
    identity("an identity that nobody told", code=1006),
    acknowledge("a hash where none is known", {"hash": "first="}, code=1006),
    Call("security notifications are switched on", "PATCH /v1/settings/application", "onprem 2.4", send={"show_security_notifications": True}),
    Do("a customer with an identity writes, until it is known", WHY, _becomes_known),
    identity("its identity", body={"": anywhere("hash", "first=")}),
    Provoke("the identity changes", "/admin/inbound", event("second=", "wamid.identity-2")),
    Told("a system message tells it", "client 5; onprem 3.2", "messages", {"type": "system", "system.type": "user_identity_changed"}),
    Told("the message has the identity", "onprem 3.2", "messages", {"id": "wamid.identity-2"},
         body={"identity.hash": "second=", "identity.acknowledged": False,
               "identity.created_timestamp": Is("milliseconds, as a number or a text", lambda v: int(v) > 10**12)}),
    write("a message to it must wait", code=1028),
    Call("the new identity, with a slash", "GET /v1/contacts/{wa_id}/identity", WHY, at={"wa_id": KNOWN}, who="user", slash=True,
         body={"": anywhere("hash", "second=")}),
    acknowledge("the wrong hash", {"hash": "first="}, code=1009),
    acknowledge("no hash", {}, code=1008),
    acknowledge("the right one", {"hash": "second="}),
    identity("it is acknowledged", body={"": anywhere("acknowledged", Is("true", lambda v: v is True))}),
    write("a message to it goes", status=201, save={"to_known": "messages[0].id"}),
    Call("security notifications are switched off", "PATCH /v1/settings/application", "onprem 2.4", send={"show_security_notifications": False}),
]


def block(name, who, verb="block", **more):
    return Call(name, f"POST /v1/contacts/{{wa_id}}/{verb}", "onprem 2.7; client 7; cloud 6", at={"wa_id": who}, who="user", **more)


BLOCKING = [
    block("someone who never wrote", STRANGER, send={"reason": "spam"}, code=2048),
    Provoke("a customer writes", "/admin/inbound", {"from": "447700901003", "message": {"id": "wamid.block", "type": "text", "text": {"body": "buy now"}}}),
    Told("the message comes", "onprem 3.2", "messages", {"id": "wamid.block"}),
    block("who wrote", "447700901003", send={"reason": "spam"}),
    block("once more: already so", "447700901003", send={"reason": "spam"}),
    block("let in again", "447700901003", "unblock", slash=True),
    block("once more: already so", "447700901003", "unblock"),
    block("in another spelling", "+447700901003", send={}),
    block("let in again in that spelling", "+44 7700 901003", "unblock", send={}),
    block("a parent user id", "GB.ENT.1234567890", send={"reason": "spam"}, code=1009),
    block("no recipient at all", "abc", send={"reason": "spam"}, code=1009),
]
