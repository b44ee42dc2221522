"""Health, statistics, metrics, support: what monitoring reads, with a login or with the key."""

import re

from expect import ANY, LIST, OBJECT, TEXT, Call, Is, anywhere, matches

WHY = "onprem 2.9"
STATUS = ("connected", "connecting", "disconnected", "uninitialized", "unregistered")
ROLES = ("primary_master", "secondary_master", "coreapp")


def _nodes(health):
    return list(health.values())


def _known(health):
    return _nodes(health) and all(n.get("role") in ROLES and (n.get("gateway_status") in STATUS or "errors" in n) for n in _nodes(health))


def _roles(health):
    roles = sorted(n["role"] for n in _nodes(health))
    return roles == ["coreapp", "coreapp", "primary_master", "secondary_master"]


def _connected(health):
    return [n["role"] for n in _nodes(health) if n.get("gateway_status") == "connected"] == ["coreapp"]


def health(name, **more):
    return Call(name, "GET /v1/health", WHY, **more)


STEPS = [
    health("a cluster: words and roles", body={"health": Is("nodes with role and gateway_status", _known)}),
    health("every master and coreapp, no webapp", body={"health": Is("two masters, two coreapps", _roles)}, until=10),
    health("one coreapp is connected", slash=True, body={"health": Is("one connected, a coreapp", _connected)}, until=10),
    health("by a user", who="user"),
    health("by the key", who="key"),
    health("by a wrong key", who="nobody", headers={"Authorization": "Apikey 0123456789abcdef"}, status=401, code=1005),
]

APP = """callback_queue_size callback_requests_duration_ms_sum callback_requests_duration_ms_count db_request_duration_us_sum
 db_request_duration_us_count endpoint_requests endpoint_requests_duration_ms_sum endpoint_requests_duration_ms_count
 in_message_from_server in_message_decoded in_message_persisted in_messages_pending_processing internal_server_conn_duration_ms_count
 internal_server_requests_duration_ms_sum media_downloads media_uploads out_message_persisted out_message_sent_duration_ms_sum
 out_message_sent_duration_ms_count out_message_status pending_callbacks pending_messages""".split()
DB = "db_contacts db_message_receipts db_messages db_pending_callbacks db_pending_messages".split()
WEB = """web_uptime web_connections web_pending_connections web_max_pending_connections web_queue_len web_idle_processes
 web_total_processes web_process_limit_hit web_handled_requests web_requests web_out_kbytes api_requests_duration_ms_sum
 api_requests_duration_ms_count api_requests_db_duration_ms_sum api_requests_db_duration_ms_count
 api_requests_coreapp_duration_ms_sum api_requests_coreapp_duration_ms_count""".split()


def _keys(value):
    if isinstance(value, dict):
        for key, below in value.items():
            yield key
            yield from _keys(below)
    elif isinstance(value, list):
        for below in value:
            yield from _keys(below)


def named(names):
    """Every one of these names is a key somewhere; says which are missing."""

    def test(value):
        there = set(_keys(value))
        found.name = f"the names {' '.join(n for n in names if n not in there)}, too"
        return there >= set(names)

    found = Is("documented names", test)
    return found


def _metric(metric):
    data = metric["data"]
    return metric["type"] in ("gauge", "counter") and isinstance(metric["help"], str) and all(
        isinstance(d["labels"], dict) and isinstance(d["value"], (int, float)) for d in data)


METRIC = Is("type, help, data of labels and value", _metric)


def text(names):
    """The Prometheus form has every name, with its type; says which are missing."""

    def test(body):
        lines = body.decode().splitlines()
        types = {line.split()[2] for line in lines if line.startswith("# TYPE ")}
        samples = [line for line in lines if line and not line.startswith("#")]
        missing = [n for n in names if n not in types and re.sub("_(sum|count|total|bucket)$", "", n) not in types]
        strange = [s for s in samples if not re.match(r"^[a-z_:A-Z0-9]+(\{.*\})? \S+( \d+)?$", s)]
        found.name = f"Prometheus text with the names {' '.join(missing)}, too, and without lines like {strange[:1]}"
        return samples and not missing and not strange

    found = Is("Prometheus text", test)
    return found


PROMETHEUS = {"Content-Type": matches("^text/plain|openmetrics")}
for path, names, first in [
    ("/v1/stats/app", APP, "pending_messages"),
    ("/v1/stats/db", DB, "db_messages"),
    ("/v1/metrics", WEB, "web_uptime"),
    ("/metrics", WEB, "web_uptime"),
]:
    call = f"GET {path}"
    STEPS += [
        Call(f"{path} in JSON", call, "onprem 2.9, 4", body={"": named(names)}),
        Call(f"{path}: the form of a metric", call, "onprem 4", body={"": anywhere(first, METRIC)}, slash=True),
        Call(f"{path} for Prometheus, by the key", call, "onprem 2.9, 4", who="key", query="?format=prometheus", raw=text(names), head=PROMETHEUS),
        Call(f"{path} by a user", call, "onprem 2.0", who="user"),
    ]
for path in ("/v1/stats/app/internal", "/v1/stats/db/internal"):
    STEPS += [
        Call(f"{path} in JSON", f"GET {path}", "onprem 2.9", who="key", body={"": OBJECT}),
        Call(f"{path} for Prometheus", f"GET {path}", "onprem 2.9", query="?format=prometheus", raw=text([]), head=PROMETHEUS),
    ]
STEPS += [
    Call("a format that nobody knows is no fault of the server", "GET /v1/metrics", "no document", query="?format=fax", status=(200, 400)),
    Call("the calls are counted by method and result", "GET /metrics", "onprem 4", query="?format=prometheus", raw=Is(
        "a sample with method POST_v1_messages and result 201", lambda b: any(
            "POST_v1_messages" in line and re.search(r'result="20[01]"', line) for line in b.decode().splitlines()))),
    Call("the primary master alone has figures of the database", "GET /v1/stats/db", "onprem 2.9", body={
        "stats.db": Is("nodes, one of which is filled", lambda v: [n for n in v.values() if n] and len([n for n in v.values() if n]) == 1)}),
    Call("support", "GET /v1/support", WHY, who="user", body={
        "support.db_engine": TEXT, "support.db_info": LIST, "support.device_iso8601": matches(r"^\d{4}-\d\d-\d\dT"),
        "support.free_space_data": ANY, "support.multi_connect": Is("a boolean", lambda v: isinstance(v, bool)),
        "support.os_name": TEXT, "support.os_version": TEXT, "support.schema": OBJECT}),
    Call("our own version stands in Server", "GET /v1/support", "issue 18", who="user", slash=True, head={"Server": TEXT}),
    Call("meta.version is that of the reference", "GET /v1/support", "issue 18", who="user", body={"meta.version": "v2.57.2", "meta.api_status": "stable"}),
]
