"""The number's account, its verification, and the shards. The number of the simulated Cloud API is registered from the start."""

from expect import TEXT, Call, Do, Is, Provoke, one_of
from runner import need

WHY = "onprem 2.2; client 7"
one_connected = Is("one node is connected", lambda h: [n.get("gateway_status") for n in h.values()].count("connected") == 1)
OWN = {"cc": "44", "phone_number": "7700900999", "method": "sms", "cert": "AA==", "pin": "123456"}


def ask(name, send, **more):
    return Call(name, "POST /v1/account", WHY, send=send, **more)


def verify(name, send, **more):
    return Call(name, "POST /v1/account/verify", WHY, send=send, **more)


def shards(name, send, **more):
    return Call(name, "POST /v1/account/shards", "onprem 2.3", send=send, **more)


def without(name):
    return {key: value for key, value in OWN.items() if key != name}

def number(name, **more):
    """The upstream's record of the number becomes so."""
    return Provoke(name, "/admin/number", {"number": more})


def _once(world):
    """The upstream was asked once for a code, once to verify it, once to register: nothing is repeated by itself."""
    done = world.upstream.get("/admin/number")["done"]
    wanted = {"request_code": 1, "verify_code": 1, "register": 1}
    need({key: done.get(key, 0) for key in wanted} == wanted, wanted, done)


NO_PIN = {"cc": "44", "phone_number": "7700900999", "method": "sms", "cert": "AA=="}
STEPS = [
    # First of all: a pin that POST /v1/account was told is kept for a day, and would be used here.
    number("the number is not verified any more", status="UNVERIFIED", code_verification_status="NOT_VERIFIED", platform_type="NOT_APPLICABLE"),
    ask("a code is sent", NO_PIN, status=202, body={"account[0].vname": TEXT}),
    verify("no pin is known: nothing is used up", {"code": "123456"}, code=1008, body={"errors[0].details": TEXT}),
    verify("the code, as people type it, with a pin", {"code": "123-456", "pin": "123456"}, status=201, slash=True),
    Do("each was asked once of the upstream", "client 7", _once),
    Call("the gateway is connected again", "GET /v1/health", "client 7", until=10,
         body={"health": one_connected}),
    number("verified, and not registered", status="DISCONNECTED", code_verification_status="VERIFIED", platform_type="NOT_APPLICABLE"),
    ask("with a pin it is registered at once", OWN, status=201),
    number("registered, as from the start"),
    ask("nothing is left to do", OWN, status=201),
    Call("the gateway is connected", "GET /v1/health", "client 7", until=10, body={"health": one_connected}),
]
STEPS += [
    ask("a number that is connected already", OWN, status=201),
    ask("the same, with a slash and the voice", OWN | {"method": "voice"}, status=201, slash=True),
    ask("cc and pin as numbers", OWN | {"cc": 44, "pin": 123456}, status=201),
    ask("without a certificate, which nobody uses", without("cert"), status=201),
    ask("a number that is not ours", OWN | {"phone_number": "7700900888"}, code=1009),
    ask("without cc", without("cc"), code=1008),
    ask("without phone_number", without("phone_number"), code=1008),
    ask("without method", without("method"), code=1008),
    ask("a method that nobody knows", OWN | {"method": "pigeon"}, code=1009),
    ask("a pin of five digits", OWN | {"pin": "12345"}, code=1009),
    ask("a body that is no JSON", b"cc=44", code=1025),
    ask("a user registers", OWN, who="user", code=1005),
    verify("without a code", {}, code=1008),
    verify("a code that is none", {"code": "abc", "pin": "123456"}, code=1009),
    verify("a user verifies", {"code": "123456"}, who="user", code=1005),
    Call("the shards", "GET /v1/account/shards", "onprem 2.3", body={"account.shards": 1}),
    Call("the shards, with a slash", "GET /v1/account/shards", "onprem 2.3", slash=True, body={"account.shards": one_of(1)}),
    shards("as many as there are", {"cc": "44", "phone_number": "7700900999", "shards": 1, "pin": "123456", "cert": "AA=="}, status=201),
    shards("the number as a text", {"cc": "44", "phone_number": "7700900999", "shards": "1"}, status=201),
    shards("three", {"shards": 3}, code=1009),
    shards("64", {"shards": 64}, code=1009),
    shards("no number", {}, code=1008, body={"errors[0].details": TEXT}),
    shards("a user", {"shards": 1}, who="user", code=1005),
]
