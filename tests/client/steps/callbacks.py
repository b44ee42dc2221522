"""Callbacks: where they go, how they are repeated, and what becomes of messages that fail, or whose webhooks are odd."""

import base64

from expect import ABSENT, CODES, SECONDS, TITLE_UNSURE, Call, Do, Is, Ranks, Told, matches, one_of
from runner import need
from steps.messages import of, send

WHY = "onprem 3"
USER, PASSWORD = "hook", "pa ss@1"
AUTHORIZATION = "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()


def _ca(world):
    from runner import checked, request

    authority = (world.folder / "ca.pem").read_bytes()
    step = Call("", "POST /v1/certificates/webhooks/ca", "", send=authority, kind="text/plain", status=(200, 201))
    checked(step, world, request(step, world))


def _point(world):
    from runner import checked, request

    url = f"https://{USER}:pa%20ss%401@127.0.0.1:{world.receiver.port}/wa?from=agent"
    world.saved["url"] = url
    step = Call("", "PATCH /v1/settings/application", "", send={
        "webhooks": {"url": url, "message": {"sent": True, "delivered": True, "read": True}},
        "callback_backoff_delay_ms": "100", "max_callback_backoff_delay_ms": 1000,
        "media": {"auto_download": ["audio", "document", "image", "sticker", "video", "voice"]}})
    checked(step, world, request(step, world))


SETUP = [
    Do("the authority of our end point is uploaded", "onprem 2.11", _ca),
    Do("callbacks go to our end point", "onprem 2.4", _point),
    Call("the address is shown", "GET /v1/settings/application", "onprem 2.4", body={"settings.application.webhooks.url": matches(r"^https://.*@127\.0\.0\.1:\d+/wa\?from=agent$")}),
    send("a message", "onprem 2.6", of("text", {"body": "hello"}), "447700957000", save={"first": "messages[0].id"}),
    Ranks("its statuses come", "onprem 3.3", "${first}", body={
        "recipient_id": "447700957000", "timestamp": SECONDS, "errors": ABSENT,
        "status": one_of("sent", "delivered", "read")}, within=30),
]


def _shape(world):
    """Every callback that came: JSON, root words, login, path."""
    with world.receiver.changed:
        callbacks, broken = list(world.receiver.callbacks), list(world.receiver.broken)
    need(not broken, "every callback an object", broken[:3])
    need(callbacks, "callbacks", "none")
    roots = {"contacts", "messages", "statuses", "errors", "services"}
    for callback in callbacks:
        need(set(callback["value"]) <= roots, f"root words among {sorted(roots)}", sorted(callback["value"]))
        need(callback["path"] == "/wa?from=agent", "the path of the address", callback["path"])
        headers = callback["headers"]
        need("json" in headers.get("content-type", ""), "JSON", headers.get("content-type"))
        need(headers.get("authorization") == AUTHORIZATION, AUTHORIZATION, headers.get("authorization"))
        for item in callback["value"].get("statuses", []):
            need("contacts" not in callback["value"], "no contacts beside statuses", callback["value"])
            need(isinstance(item.get("id"), str) and SECONDS(item.get("timestamp")), "id and timestamp", item)
            if item.get("status") == "failed":
                need(item["errors"][0]["code"] and item["errors"][0]["title"], "errors with code and title", item)


def _retried(world):
    """Only 200 counts: what was answered otherwise comes again, also after a redirect."""
    world.receiver.answer_next(500, 204, 302)


def _slow(seconds):
    def act(world):
        world.receiver.delay = seconds

    return act


SLOW = range(447700957010, 447700957016)
RETRIES = [
    Do("the end point takes half a second for each", WHY, _slow(0.5)),
    *[send(f"a message to {to}", WHY, of("text", {"body": "slow"}), str(to), save={f"slow_{to}": "messages[0].id"}) for to in SLOW],
    *[Ranks(f"its statuses come, to {to}", "onprem 3.1: several at once", f"${{slow_{to}}}", within=20) for to in SLOW],
    Do("the end point is quick again", WHY, _slow(0.0)),
    Do("the end point answers 500, 204, 302", WHY, _retried),
    send("a message", WHY, of("text", {"body": "again"}), "447700957001", save={"again": "messages[0].id"}),
    Ranks("its statuses come all the same", "onprem 3.1", "${again}"),
    Do("they were refused three times, and no redirect was followed", "onprem 3.1", lambda world: need(
        len(world.receiver.refused) >= 3 and all(c["path"] == "/wa?from=agent" for c in world.receiver.refused + world.receiver.callbacks),
        "three refused callbacks at /wa", [c["path"] for c in world.receiver.refused])),
    send("callback data", "client 4", of("text", {"body": "data"}, biz_opaque_callback_data="order 17"), "447700957002", save={"data": "messages[0].id"}),
    Ranks("comes back with each status", "client 4", "${data}", body={"biz_opaque_callback_data": "order 17"}),
]

# Code of the Cloud API: code of /v1.
FAILED = {
    4: 1015, 80007: 1015, 0: 1005, 190: 1005, 100: 1009, 130403: (1026, 1007), 130429: 429, 130472: 472, 130497: 1005, 131000: (500, 1000),
    131005: 1005, 131008: 1008, 131009: 1009, 131016: 1016, 131021: 1021, 131026: 1026, 131031: 1031, 131042: 402, 131045: 430, 131047: 470,
    131048: 471, 131049: 471, 131050: 471, 131051: 501, 131052: 400, 131053: 1014, 131055: 2001, 131056: 429, 131057: 1016, 131062: 1013,
    131063: 2001, 131064: 471, 132000: 2000, 132001: 2001, 132005: 2005, 132007: 2007, 132012: 2012, 132015: 2061, 132016: 2062, 132018: 2012,
    132068: 2068, 132069: 2069, 133010: 1011, 134101: 2001, 137000: 480,
}


def error_of(code):
    codes = code if isinstance(code, tuple) else (code,)

    def test(errors):
        error = errors[0]
        fine = error["code"] in codes
        return fine and (error["code"] in TITLE_UNSURE or error["title"] == CODES[error["code"]][0])

    titles = " or ".join(f"{c} {CODES[c][0] if c in CODES else ''}" for c in codes)
    return Is(f"errors with {titles}", test)


def fails(way, cloud):
    return f"1555{way}{cloud:06d}"


CODES.setdefault(1007, ("Recipient blocked to receive message (deprecated)", 403))
FAILURES = []
for cloud, code in FAILED.items():
    to = fails(1, cloud)
    FAILURES.append(send(f"fails by webhook with {cloud}", "onprem 7.3; cloud 4.5", of("text", {"body": "no"}), to, save={f"failed_{cloud}": "messages[0].id"}))
REFUSED = [131021, 131026, 131047, 132007, 137000]
for cloud in REFUSED:
    FAILURES.append(send(f"refused with {cloud}", "onprem 7.3", of("text", {"body": "no"}), fails(0, cloud), save={f"refused_{cloud}": "messages[0].id"}))
FAILURES += [
    send("refused with 131049, and told so by webhook", "client 9.8", of("text", {"body": "no"}), fails(2, 131049), save={"both": "messages[0].id"}),
    send("refused once with 130429", "client 4", of("text", {"body": "yes"}), fails(4, 130429), save={"once": "messages[0].id"}),
    send("refused once with 131056", "client 4", of("text", {"body": "yes"}), fails(4, 131056), save={"pair": "messages[0].id"}),
]
# The Cloud API, which wins, takes documents of listed types only; nothing in the documents lets the agent refuse them first.
FAILURES += [
    send("a document of a type that the Cloud API does not list", "onprem 2.8; client 1.2", of("document", {"id": "${media_zip}"}), "447700957003", save={"zip": "messages[0].id"}),
    Told("it fails", "client 1.2: only the upstream may still refuse it", "statuses", {"id": "${zip}", "status": "failed"}, body={"errors": error_of((1009, 1014))}),
]
for cloud, code in FAILED.items():
    FAILURES.append(Told(f"failed with {cloud}", "onprem 3.3, 7.3; cloud 4.5", "statuses", {"id": f"${{failed_{cloud}}}", "status": "failed"}, body={
        "errors": error_of(code), "recipient_id": fails(1, cloud), "timestamp": SECONDS}))
for cloud in REFUSED:
    FAILURES.append(Told(f"refused with {cloud}: failed", "onprem 7.3", "statuses", {"id": f"${{refused_{cloud}}}", "status": "failed"}, body={
        "errors": error_of(FAILED[cloud]), "recipient_id": fails(0, cloud), "errors[0].details": matches(str(cloud))}))
FAILURES += [
    Ranks("told once", "client 9.8", "${both}", words=("failed",), body={"errors": error_of(471)}),
    Ranks("sent by itself, later", "client 4", "${once}"),
    Ranks("sent by itself, later, to this recipient", "client 4", "${pair}"),
]


def story(number, name, words, why="client 5", never=(), **more):
    return (f"15555{number:06d}", name, words, why, never, more)


STORIES_OF = [
    story(2, "sent, and nothing after it", ("sent",)),
    story(3, "sent, read: delivered is told all the same", ("sent", "delivered", "read")),
    story(5, "each twice: each once", ("sent", "delivered", "read")),
    story(7, "all before the answer", ("sent", "delivered", "read")),
    story(8, "played is no word of /v1", ("sent", "delivered", "read"), never=("played",)),
]
STORIES = [send(name, why, of("text", {"body": "story"}), to, save={f"story_{to}": "messages[0].id"}) for to, name, _, why, _, _ in STORIES_OF]
STORIES += [
    send("without our data and with another spelling", "client 5", of("text", {"body": "story"}), "15555000006", save={"strange": "messages[0].id"}),
    send("delivered after failed", "client 5", of("text", {"body": "story"}), "15555000009", save={"wins": "messages[0].id"}),
    send("failed after delivered", "client 5", of("text", {"body": "story"}), "15555000010", save={"settled": "messages[0].id"}),
    send("the wrong order", "client 5", of("text", {"body": "story"}), "15555000004", save={"backwards": "messages[0].id"}),
    send("no webhook at all", "client 5", of("text", {"body": "story"}), "15555000001", save={"silent": "messages[0].id"}),
    send("an answer without an id; it goes out", "client 4", of("text", {"body": "story"}), "15553000200", save={"noid": "messages[0].id"}),
    send("a page of a proxy; it goes out", "client 4", of("text", {"body": "story"}), "15553000502", save={"page": "messages[0].id"}),
    send("an answer that breaks off; it goes out", "client 4", of("text", {"body": "story"}), "15553000499", save={"broken": "messages[0].id"}),
]
STORIES += [Ranks(name + ": told", why, f"${{story_{to}}}", words=words, never=never, **more) for to, name, words, why, never, more in STORIES_OF]
STORIES += [
    Told("without our data and with another spelling: told by our id and number", "client 5, 9.2", "statuses", {"id": "${strange}", "status": "read"},
         body={"recipient_id": "15555000006"}, within=20),
    Told("delivered after failed: told, and wins", "client 5", "statuses", {"id": "${wins}", "status": "delivered"}),
    Told("failed after delivered: delivered is told", "client 5", "statuses", {"id": "${settled}", "status": "delivered"}),
    Told("the wrong order: read is told", "client 5", "statuses", {"id": "${backwards}", "status": "read"}),
    Ranks("an answer without an id: told", "client 4", "${noid}"),
    Ranks("a page of a proxy: told", "client 4", "${page}"),
    Ranks("an answer that breaks off: told", "client 4", "${broken}"),
]


def _order(world):
    """Nobody is told a lower word after a higher one."""
    rank = {"sent": 1, "delivered": 2, "read": 3}
    wrong = []
    with world.receiver.changed:
        for message, items in world.receiver.statuses.items():
            ranks = [rank[i["status"]] for i in items if i.get("status") in rank]
            if ranks != sorted(ranks):
                wrong.append(f"{message}: {[i.get('status') for i in items]}")
    need(not wrong, "sent before delivered before read", f"{len(wrong)} messages otherwise: " + "; ".join(wrong[:3]))


def _upstream(world):
    """Every message that was accepted reached the upstream, once, and to somebody."""
    report = world.upstream.get("/admin/report")
    need(report["sent_twice"] == 0, "nothing sent twice", report)
    need(report["never_delivered"] == 0, "every recipient one that can be reached", report)
    need(report["double_primary"] == 0 and not report["banned"], "one primary", report)


def _never(world):
    """Failed after delivered is counted, not told."""
    have = world.receiver.words_of(world.saved["settled"])
    need("failed" not in have, "no failed after delivered", have)


ENDING = [
    Do("failed after delivered: failed is not told", "client 5", _never),
    Do("every callback has the documented shape", WHY, _shape),
    Do("the order of statuses", "client 6: order per customer while deliveries succeed; client 5: a lower one is dropped", _order),
    Do("what the upstream saw", "issue 18", _upstream),
    Do("the webhook addresses answer the upstream's verification", "cloud 6.2; onprem 6.2", lambda world: need(
        all((answered := world.upstream.post("/admin/challenge")).values()) and answered, "true for each", "false for one")),
]
