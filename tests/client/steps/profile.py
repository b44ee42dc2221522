"""What the number shows of the business: profile, compliance, about, photo; and the pin of two steps."""

from expect import ABSENT, ANY, Call, Is, anywhere, lists, matches
from files import JPEG, PDF

WHY = "onprem 2.5"


def two_step(name, send, **more):
    return Call(name, "POST /v1/settings/account/two-step", WHY, send=send, **more)


STEPS = [
    two_step("a pin", {"pin": "123456"}),
    two_step("as a number", {"pin": 123456}, slash=True),
    two_step("without a pin", {}, code=1008),
    two_step("five digits", {"pin": "12345"}, code=1009),
    two_step("seven digits", {"pin": "1234567"}, code=(1001, 1009)),
    two_step("letters", {"pin": "abcdef"}, code=1009),
    two_step("a user", {"pin": "123456"}, who="user", code=1005),
    Call("it cannot be turned off", "DELETE /v1/settings/account/two-step", "client 7: 403 1005", code=1005, status=403,
         body={"errors[0].details": matches(r"\w")}),
    Call("a user turns it off", "DELETE /v1/settings/account/two-step", WHY, who="user", code=1005),
]

PROFILE = "settings.business.profile."
FULL = {
    "address": "1 Example Street, London",
    "description": "We sell examples.",
    "email": "shop@example.com",
    "vertical": "Retail",
    "websites": ["https://shop.example/", "https://help.example/"],
}


def profile(name, send, **more):
    return Call(name, "POST /v1/settings/business/profile", WHY, send=send, who="user", **more)


def shown(name, body, **more):
    return Call(name, "GET /v1/settings/business/profile", WHY, body={PROFILE + path: v for path, v in body.items()}, who="user", **more)


STEPS += [
    profile("all fields", FULL, status=(200, 201)),
    shown("they are shown", {"address": FULL["address"], "description": FULL["description"], "email": FULL["email"],
                            "vertical": Is("retail in any case", lambda v: v.lower() == "retail"), "websites": lists(*FULL["websites"])}),
    profile("websites as a text", {"websites": "https://shop.example/"}, status=(200, 201), slash=True),
    shown("a list of one, and the rest is as it was", {"websites": ["https://shop.example/"], "email": FULL["email"]}, slash=True),
    profile("an address of 256", {"address": "a" * 256}, status=(200, 201)),
    profile("an address of 257", {"address": "a" * 257}, code=(1001, 1009)),
    profile("a description of 513", {"description": "a" * 513}, code=(1001, 1009)),
    profile("an email of 129", {"email": "a" * 117 + "@example.com"}, code=(1001, 1009)),
    profile("three websites", {"websites": [f"https://{n}.example/" for n in "abc"]}, code=1009),
    profile("a website of 257", {"websites": ["https://" + "a" * 249]}, code=(1001, 1009)),
    profile("a vertical that the Cloud API does not have", {"vertical": "Dragon taming"}, code=1009),
    profile("a text that is an object", {"address": {"street": "x"}}, code=1009),
    shown("what was refused has changed nothing", {"address": "a" * 256}),
]

COMPLIANCE = {
    "entity_name": "Example Shop Private Limited",
    "entity_type": "Private Limited Company",
    "is_registered": True,
    "customer_care_details": {"email": "care@example.com", "landline_number": "+911123456789", "mobile_number": "+919876543210"},
    "grievance_officer_details": {"name": "Asha Rao", "email": "officer@example.com", "landline_number": "+911123456780",
                                  "mobile_number": "+919876543211"},
}
for path in ("/v1/settings/business/compliance_info", "/v1/settings/business/profile/compliance_info"):
    info = COMPLIANCE | {"entity_name": "Example Shop at " + path[-30:].strip("/")}
    STEPS += [
        Call("compliance is told", f"POST {path}", WHY, who="user", send=info, status=(200, 201)),
        Call("it is shown", f"GET {path}", WHY, who="user", body={"settings": anywhere("entity_name", info["entity_name"])}),
        Call("with its officer", f"GET {path}", WHY, who="user", slash=True, body={"settings": anywhere("name", "Asha Rao")}),
        Call("a name that is an object", f"POST {path}", WHY, who="user", send=info | {"entity_name": {"a": 1}}, code=1009),
        Call("no JSON", f"POST {path}", WHY, who="user", send=b"{", code=1025),
    ]

ABOUT = "settings.profile.about.text"


def about(name, send, **more):
    return Call(name, "PATCH /v1/settings/profile/about", WHY, who="user", send=send, **more)


STEPS += [
    about("a text", {"text": "We answer within a minute"}),
    Call("it is shown", "GET /v1/settings/profile/about", WHY, who="user", body={ABOUT: "We answer within a minute"}),
    about("139 characters", {"text": "ü" * 139}, slash=True),
    about("140 characters", {"text": "a" * 140}, code=(1001, 1009)),
    about("nothing", {}, code=1008),
    Call("what was refused has changed nothing", "GET /v1/settings/profile/about", WHY, who="user", slash=True, body={ABOUT: "ü" * 139}),
]

PHOTO = "/v1/settings/profile/photo"
MULTIPART = (b'--edge\r\nContent-Disposition: form-data; name="file"; filename="a.jpg"\r\nContent-Type: image/jpeg\r\n\r\n'
             + JPEG + b"\r\n--edge--\r\n")
STEPS += [
    Call("there is none", f"GET {PHOTO}", "client 7: no photo → 1006", who="user", code=1006),
    Call("one is put up", f"POST {PHOTO}", WHY, who="user", send=JPEG, kind="image/jpeg", status=(200, 201)),
    Call("its link", f"GET {PHOTO}", WHY, who="user", query="?format=link", body={"settings.profile.photo.link": matches("^http")}),
    Call("itself", f"GET {PHOTO}", WHY, who="user", raw=Is("an image", len), head={"Content-Type": matches("^image/")}),
    Call("as a form, as some examples have it", f"POST {PHOTO}", WHY, who="user", send=MULTIPART,
         kind="multipart/form-data; boundary=edge", status=(200, 201), slash=True),
    Call("no image", f"POST {PHOTO}", WHY, who="user", send=PDF, kind="application/pdf", code=1009),
    Call("nothing", f"POST {PHOTO}", WHY, who="user", send=b"", kind="image/jpeg", code=(1008, 1009)),
    Call("it is taken down, or the Cloud API has no call for that", f"DELETE {PHOTO}", "onprem 2.5; common: 403 1005", who="user",
         status=(200, 403), body={"": Is("meta, or 1005", lambda v: "errors" not in v or v["errors"][0]["code"] == 1005)}),
]

BACKUP, RESTORE = "POST /v1/settings/backup", "POST /v1/settings/restore"
APPLICATION = "/v1/settings/application"
STEPS += [
    Call("a setting to be saved", f"PATCH {APPLICATION}", WHY, send={"callback_backoff_delay_ms": 234}),
    Call("a backup", BACKUP, WHY, send={"password": "B4ckup-pass!"}, body={"settings.data": Is("an opaque text", lambda t: len(t) > 20)},
         save={"backup": "settings.data"}),
    Call("no secret is in it", BACKUP, "client 7: sealed", send={"password": "B4ckup-pass!"}, slash=True,
         body={"settings.data": Is("a text without the word webhooks", lambda t: "webhooks" not in t)}),
    Call("a backup without a password", BACKUP, WHY, send={}, code=1008),
    Call("a user backs up", BACKUP, WHY, who="user", send={"password": "B4ckup-pass!"}, code=1005),
    Call("the setting is changed", f"PATCH {APPLICATION}", WHY, send={"callback_backoff_delay_ms": 432}),
    Call("a wrong password", RESTORE, WHY, send={"password": "0ther-pass!", "data": "${backup}"}, status=(400, 403), code=(1005, 1009)),
    Call("a foreign backup", RESTORE, "client 7: 1009", send={"password": "B4ckup-pass!", "data": "bm90IG91cnM="}, code=1009),
    Call("without data", RESTORE, WHY, send={"password": "B4ckup-pass!"}, code=1008),
    Call("without a password", RESTORE, WHY, send={"data": "${backup}"}, code=1008),
    Call("a user restores", RESTORE, WHY, who="user", send={"password": "B4ckup-pass!", "data": "${backup}"}, code=1005),
    Call("nothing of that has changed anything", f"GET {APPLICATION}", WHY, body={"settings.application.callback_backoff_delay_ms": 432}),
    Call("it is restored", RESTORE, WHY, send={"password": "B4ckup-pass!", "data": "${backup}"}),
    Call("the setting is as it was saved; the caller's login is kept", f"GET {APPLICATION}", "client 7", until=2,
         body={"settings.application.callback_backoff_delay_ms": 234}),
    Call("the number of shards is kept", "GET /v1/account/shards", "client 7", body={"account.shards": 1, "errors": ABSENT, "meta": ANY}),
]
