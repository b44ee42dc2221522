"""Who may call: nobody without a login, no user what is the administrator's; the open calls; paths and methods that do not exist."""

from expect import ABSENT, OBJECT, Call, Is, matches

WHY = "onprem 2.0, 2.1"
PLACES = {"username": "bot1", "id": "x", "name": "x", "wa_id": "447700900123", "pack": "x", "index": "0"}

ADMIN = """POST /v1/users
DELETE /v1/users/{username}
GET /v1/account/shards
POST /v1/account/shards
GET /v1/settings/application
PATCH /v1/settings/application
DELETE /v1/settings/application
POST /v1/account
POST /v1/account/verify
POST /v1/settings/account/two-step
DELETE /v1/settings/account/two-step
GET /v1/settings/application/media/providers
POST /v1/settings/application/media/providers
DELETE /v1/settings/application/media/providers/{name}
POST /v1/settings/backup
POST /v1/settings/restore
POST /v1/certificates/external
GET /v1/certificates/external/ca
GET /v1/certificates/webhooks/ca
POST /v1/certificates/webhooks/ca
DELETE /v1/certificates/webhooks/ca""".splitlines()

USER = """POST /v1/users/logout
GET /v1/users/{username}
PUT /v1/users/{username}
POST /v1/messages
PUT /v1/messages/{id}
POST /v1/contacts
POST /v1/media
GET /v1/media/{id}
DELETE /v1/media/{id}
GET /v1/health
GET /v1/stats/db
GET /v1/metrics
GET /metrics
GET /v1/settings/business/profile
POST /v1/settings/business/profile
GET /v1/settings/business/compliance_info
POST /v1/settings/business/compliance_info
GET /v1/settings/business/profile/compliance_info
POST /v1/settings/business/profile/compliance_info
GET /v1/settings/profile/about
PATCH /v1/settings/profile/about
GET /v1/settings/profile/photo
POST /v1/settings/profile/photo
DELETE /v1/settings/profile/photo
GET /v1/contacts/{wa_id}/identity
PUT /v1/contacts/{wa_id}/identity
POST /v1/contacts/{wa_id}/block
POST /v1/contacts/{wa_id}/unblock
GET /v1/stats/app
GET /v1/stats/app/internal
GET /v1/stats/db/internal
GET /v1/support
PUT /v1/services/message/gc
PUT /v1/services/media/gc
GET /v1/stickerpacks
POST /v1/stickerpacks
GET /v1/stickerpacks/{pack}
PATCH /v1/stickerpacks/{pack}
DELETE /v1/stickerpacks/{pack}
GET /v1/stickerpacks/{pack}/stickers
POST /v1/stickerpacks/{pack}/stickers
GET /v1/stickerpacks/{pack}/stickers/{index}
PATCH /v1/stickerpacks/{pack}/stickers/{index}
DELETE /v1/stickerpacks/{pack}/stickers/{index}
GET /v1/groups
POST /v1/groups
GET /v1/groups/{id}""".splitlines()

STEPS = []
for call in ADMIN + USER:
    STEPS += [
        Call(f"{call} without a login", call, WHY, at=PLACES, who="nobody", status=401, code=1005),
        Call(f"{call} with a token of nobody", call, WHY, at=PLACES, who="nobody", headers={"Authorization": "Bearer no-such-token"}, slash=True, status=401, code=1005),
    ]
STEPS += [Call(f"{call} by a user", call, WHY, at=PLACES, who="user", status=403, code=1005) for call in ADMIN]
STEPS += [
    Call("a key where only logins count", "POST /v1/messages", "onprem 2.0", who="key", send={"to": "447700900123", "text": {"body": "x"}}, status=401, code=1005),
    Call("a password where a token is wanted", "GET /v1/support", WHY, who="nobody", headers={"Authorization": "Basic YWRtaW46VHJ5LWl0LTB1dCE="}, status=401, code=1005),
    Call("the scheme in small letters", "GET /v1/users/{username}", WHY, at={"username": "bot1"}, who="nobody", headers={"Authorization": "bearer ${token_user}"}),
    Call("the root", "GET /", "issue 18", who="nobody", raw=Is("anything", lambda b: True)),
    Call("its head", "HEAD /", "issue 18", who="nobody", raw=Is("nothing", lambda b: b == b"")),
    Call("the description of the API", "GET /v1/openapi.json", "issue 18", who="nobody", body={"openapi": matches(r"^3\."), "paths": OBJECT, "errors": ABSENT}, raw=Is("JSON", len)),
    Call("the upstream's verification with a wrong word", "GET /cloud/webhook", "cloud 3.3", who="nobody",
         query="?hub.mode=subscribe&hub.verify_token=wrong&hub.challenge=1", status=(400, 403), raw=Is("not the challenge", lambda b: b != b"1")),
    Call("events without a signature", "POST /cloud/webhook", "cloud 3.3", who="nobody", send={"object": "whatsapp_business_account", "entry": []}, status=(401, 403), raw=Is("anything", lambda b: True)),
    Call("events with a wrong signature", "POST /cloud/webhook", "cloud 3.3", who="nobody", send={"object": "whatsapp_business_account", "entry": []},
         headers={"X-Hub-Signature-256": "sha256=" + "0" * 64}, status=(401, 403), raw=Is("anything", lambda b: True)),
    Call("a path that does not exist", "GET /v1/nothing", "onprem 2.14: unknown endpoint", status=404, code=(1006, 1014)),
    Call("a method that does not exist", "PATCH /v1/messages", "issue 18: wrong method", who="user", send={}, status=(404, 405), code=(1005, 1006, 1014)),
    Call("another one", "DELETE /v1/contacts", "issue 18: wrong method", who="user", status=(404, 405), code=(1005, 1006, 1014)),
]
