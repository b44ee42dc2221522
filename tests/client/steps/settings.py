"""Application settings, with the habits of old clients, and media providers."""

from expect import ABSENT, BOOL, LIST, Call, anywhere, lists, matches

APP = "settings.application."
WHY = "onprem 2.4"
KINDS = ["audio", "document", "image", "sticker", "video", "voice"]


def get(name, body, **more):
    return Call(name, "GET /v1/settings/application", WHY, body={APP + path: wanted for path, wanted in body.items()}, **more)


def patch(name, send, **more):
    return Call(name, "PATCH /v1/settings/application", WHY, send=send, **more)


def refused(name, send):
    return patch(name, send, code=1009)


DEFAULTS = {
    "callback_backoff_delay_ms": 3000,
    "max_callback_backoff_delay_ms": 900000,
    "callback_persist": True,
    "garbagecollector_enable.messages": True,
    "garbagecollector_enable.media": False,
    "webhooks.max_concurrent_requests": 6,
    "verbose_logging": False,
    "log_level": "info",
}

TIMERS = {"heartbeat_interval": 5, "unhealthy_interval": 30}
STEPS = [
    get("the timers of the reference where nothing was sent", TIMERS),
    get("as they stand in a new cluster", DEFAULTS | {
        "media.auto_download": LIST,
        "webhooks.message.sent": BOOL,
        "webhooks.message.delivered": BOOL,
        "webhooks.message.read": BOOL,
        "notify_user_change_number": BOOL,
        "show_security_notifications": BOOL,
        "wa_id": "447700900999",
    }),
    patch("one field", {"callback_backoff_delay_ms": 4000}),
    get("the others are as they were", DEFAULTS | {"callback_backoff_delay_ms": 4000}, slash=True),
    patch("numbers as texts, as old clients send them", {"callback_backoff_delay_ms": "5000", "max_callback_backoff_delay_ms": "60000"}),
    Call("and so they are at the other webapp", "GET /v1/settings/application", "client 7, Many webapps", webapp=1, until=2,
         body={APP + "callback_backoff_delay_ms": 5000, APP + "max_callback_backoff_delay_ms": 60000}),
    get("they are numbers", {"callback_backoff_delay_ms": 5000, "max_callback_backoff_delay_ms": 60000}),
    patch("booleans in quotes", {"verbose_logging": "true", "notify_user_change_number": "true"}),
    get("they are booleans", {"verbose_logging": True, "notify_user_change_number": True}),
    patch("null changes nothing", {"verbose_logging": None}),
    get("so it is", {"verbose_logging": True}),
    patch("a byte order mark", b"\xef\xbb\xbf" + b'{"verbose_logging": false}', slash=True),
    get("it is read", {"verbose_logging": False}),
    patch("fields of very old versions, and of tomorrow", {"on_call_pager": "447700900123", "tcp_listen_address": "any", "of_tomorrow": {"a": 1}}),
    patch("the flat name of the collector", {"db_garbagecollector_enable": False}),
    get("it is the collector of messages", {"garbagecollector_enable.messages": False, "garbagecollector_enable.media": False}),
    patch("the collector by its name", {"garbagecollector_enable": {"messages": True, "media": True}}),
    get("both", {"garbagecollector_enable.messages": True, "garbagecollector_enable.media": True}),
    patch("the legacy switch for sent", {"sent_status": True}),
    patch("pass_through", {"pass_through": False}),
    patch("what is downloaded", {"media": {"auto_download": KINDS}}),
    get("all kinds", {"media.auto_download": lists(*KINDS)}),
    patch("more callbacks at once", {"webhooks": {"max_concurrent_requests": 12}}),
    get("12", {"webhooks.max_concurrent_requests": 12}),
    patch("as a text", {"webhooks": {"max_concurrent_requests": "18"}}),
    get("18", {"webhooks.max_concurrent_requests": 18}),
    patch("the statuses", {"webhooks": {"message": {"sent": True, "delivered": True, "read": True}}}),
    get("all", {"webhooks.message.sent": True, "webhooks.message.delivered": True, "webhooks.message.read": True,
                "webhooks.max_concurrent_requests": 18}),
    patch("the timers of the reference, which old clients send unasked", {"heartbeat_interval": "5", "unhealthy_interval": "30"}),
    Call("what was sent is shown, and what is in force", "GET /v1/settings/application", "issue 18: Timers by the API",
         body={APP + "heartbeat_interval": 5, APP + "unhealthy_interval": 30, "": anywhere("effective")}),
    refused("no number", {"callback_backoff_delay_ms": "soon"}),
    refused("7 callbacks at once", {"webhooks": {"max_concurrent_requests": 7}}),
    refused("a webhook over http", {"webhooks": {"url": "http://hooks.example/wa"}}),
    refused("a webhook that is no address", {"webhooks": {"url": "hooks.example"}}),
    refused("a kind of media that nobody knows", {"media": {"auto_download": ["fax"]}}),
    refused("a boolean that is none", {"callback_persist": "perhaps"}),
    refused("an interval below zero", {"heartbeat_interval": -1}),
    patch("no JSON", b"{", code=1025),
    get("what was refused has changed nothing", {"callback_backoff_delay_ms": 5000, "webhooks.max_concurrent_requests": 18,
                                                 "webhooks.url": "", "callback_persist": True}),
    Call("a user reads them", "GET /v1/settings/application", "onprem 2.1: only admin", who="user", code=1005),
    patch("a user changes them", {"callback_backoff_delay_ms": 1}, who="user", code=1005),
    Call("a user restores them", "DELETE /v1/settings/application", "onprem 2.1: only admin", who="user", code=1005),
    Call("the defaults are restored", "DELETE /v1/settings/application", WHY),
    get("they are the defaults", DEFAULTS),
]

PROVIDERS = "/v1/settings/application/media/providers"
LISTED = APP + "media.providers"
ONE = {"name": "cdn", "type": "www", "config": {"bearer": "the-secret-of-cdn"}}
TWO = {"name": "vault", "type": "www", "config": {"basic": {"username": "u", "password": "the-secret-of-vault"}}}


def provide(name, send, **more):
    return Call(name, f"POST {PROVIDERS}", WHY, send=send, **more)


def listed(name, body, **more):
    return Call(name, f"GET {PROVIDERS}", WHY, body=body, **more)


STEPS += [
    listed("no provider", {LISTED: []}),
    provide("one", [ONE]),
    listed("it is listed without its secret", {LISTED + "[0].name": "cdn", LISTED + "[0].type": "www", LISTED + "[0].config.bearer": "****"}),
    provide("an object where a list of one is meant", TWO, slash=True),
    listed("both, without secrets", {LISTED + "[1].name": matches("^(cdn|vault)$"), LISTED + "[2]": ABSENT,
                                    "": anywhere("password", "****")}, slash=True),
    provide("what was shown is posted back", [{"name": "cdn", "type": "www", "config": {"bearer": "****"}}]),
    provide("without a name", [{"type": "www", "config": {"bearer": "x"}}], code=1008),
    provide("a type that nobody knows", [{"name": "other", "type": "ftp", "config": {"bearer": "x"}}], code=1009),
    provide("a text where an object is meant", ["cdn"], code=1009),
    provide("a user", [ONE], who="user", code=1005),
    listed("still both", {LISTED + "[1].name": matches("^(cdn|vault)$"), LISTED + "[2]": ABSENT}),
    listed("a user lists them", {}, who="user", code=1005),
    Call("a user deletes one", f"DELETE {PROVIDERS}/{{name}}", WHY, at={"name": "cdn"}, who="user", code=1005),
    Call("one is deleted", f"DELETE {PROVIDERS}/{{name}}", WHY, at={"name": "vault"}),
    listed("the other stays", {LISTED + "[0].name": "cdn", LISTED + "[1]": ABSENT}, until=2),
    Call("it is deleted once more", f"DELETE {PROVIDERS}/{{name}}", WHY, at={"name": "vault"}, code=1006),
]
