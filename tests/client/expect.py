"""The words in which expectations are written: steps, predicates, and the documented codes with their titles.

Calls nothing. The steps themselves stand in `steps/`, and name the sentence of the documentation that they come from.
"""

import json
import re
from dataclasses import dataclass, field
from typing import Any

# Code: title, status of the HTTP answer (None: only in a `failed` status).
CODES = {
    400: ("Media download error", None),
    402: ("Business eligibility, payment issue", None),
    408: ("Message is not valid", None),
    410: ("Message expired", None),
    429: ("Rate limit hit", None),
    430: ("Unsigned certificate", None),
    470: ("Re-engagement message", None),
    471: ("Spam rate limit hit", None),
    472: ("User's number is part of an experiment", None),
    480: ("User potentially changed", None),
    500: ("Generic error", None),
    501: ("Message type is not currently supported", None),
    1000: ("Generic error", 500),
    1001: ("Message too long", 400),
    1002: ("Invalid recipient type", 400),
    1004: ("Resource already exists", 409),
    1005: ("Access denied", 403),
    1006: ("Resource not found", 404),
    1008: ("Required parameter is missing", 400),
    1009: ("Parameter value is not valid", 400),
    1010: ("Parameter is not required", 400),
    1011: ("Service not ready", 503),
    1012: ("Group is unknown", 404),
    1013: ("User is not valid", 404),
    1014: ("Internal error", 500),
    1015: ("Too many requests", 429),
    1016: ("System overloaded", 503),
    1021: ("Bad User", 400),
    1022: ("Webhooks URL is not configured", 400),
    1024: ("Password Change Required", 401),
    1025: ("Invalid Request", 400),
    1026: ("Receiver incapable", 400),
    1028: ("user_identity_changed needs acknowledgement", 400),
    1031: ("Sender account has been locked", 403),
    2000: ("Template Param Count Mismatch", 400),
    2001: ("Template Missing", 404),
    2005: ("Hydrated Text Too Long", 400),
    2007: ("Format Character Policy Violated", 400),
    2012: ("Parameter Format Mismatch", 400),
    2014: ("Expected Namespace is Empty", 400),
    2015: ("Invalid number of sections", 400),
    2016: ("Invalid number of rows", 400),
    2036: ("Invalid Header Structure", 400),
    2048: ("Not engaged contact", 400),
    2061: ("Template Paused", 400),
    2062: ("Template Disabled", 400),
    2068: ("Flow is blocked", 400),
    2069: ("Flow is throttled", 400),
}
# The list writes these titles in pairs ("Invalid number of sections, of rows"): their exact words are not documented.
TITLE_UNSURE = {430, 501, 2005, 2007, 2012, 2015, 2016, 2061, 2062, 2068, 2069}


class Is:
    """A named predicate on a value."""

    def __init__(self, name, test):
        self.name, self.test = name, test

    def __call__(self, value):
        try:
            return bool(self.test(value))
        except (TypeError, KeyError, IndexError, AttributeError, ValueError):
            return False

    def __repr__(self):
        return self.name


class Absent:
    """The place is not there."""

    def __repr__(self):
        return "absent"


ABSENT = Absent()
ANY = Is("anything but null", lambda v: v is not None)
TEXT = Is("a text", lambda v: isinstance(v, str) and v != "")
TEXT_OR_EMPTY = Is("a text, or an empty one", lambda v: isinstance(v, str))
NUMBER = Is("a number", lambda v: isinstance(v, (int, float)) and not isinstance(v, bool))
BOOL = Is("a boolean", lambda v: isinstance(v, bool))
OBJECT = Is("an object", lambda v: isinstance(v, dict))
LIST = Is("a list", lambda v: isinstance(v, list))
UUID = Is("a UUID", lambda v: re.fullmatch(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}", v))
SECONDS = Is("epoch seconds as a text", lambda v: isinstance(v, str) and re.fullmatch(r"\d{10}", v))


def matches(pattern):
    return Is(f"a text like {pattern}", lambda v: re.search(pattern, v))


def one_of(*values):
    return Is(f"one of {values}", lambda v: v in values)


def lists(*values):
    """A list of exactly these, in any order."""
    return Is(f"a list of {values}", lambda v: sorted(map(str, v)) == sorted(map(str, values)))


def anywhere(key, wanted=ANY):
    """An object somewhere below has this key, with such a value."""

    def search(value):
        if isinstance(value, dict):
            if key in value and holds(wanted, value[key]):
                return True
            return any(search(v) for v in value.values())
        return isinstance(value, list) and any(search(v) for v in value)

    return Is(f"{key}: {wanted!r} somewhere below", search)


def each(predicate):
    """Every member of a list, or value of an object, and there is one."""

    def test(value):
        members = list(value.values()) if isinstance(value, dict) else value
        return members and all(predicate(m) for m in members)

    return Is(f"each {predicate!r}", test)


def holds(wanted, value):
    """A value is as wanted: a predicate, or equal."""
    if wanted is ABSENT:
        return value is ABSENT
    if value is ABSENT:
        return False
    if isinstance(wanted, Is):
        return wanted(value)
    return wanted == value and isinstance(wanted, bool) == isinstance(value, bool)


def at(value, path):
    """What stands at `a.b[0].c`, or ABSENT. The empty path is the whole."""
    for name, index in re.findall(r"([^.\[\]]+)|\[(\d+)\]", path):
        try:
            value = value[int(index)] if index else value[name]
        except (TypeError, KeyError, IndexError):
            return ABSENT
    return value


@dataclass
class Call:
    """One call and what it must be answered. `${name}` in texts stands for what an earlier step saved.

    `who`: admin, user, key, nobody, or the name of a saved token. `send`: JSON, or bytes as they are. `code` alone settles the
    status by the table above. `status` and `code` may be tuples where the documentation leaves a choice.
    `until`: seconds within which the answer must become so, where the documentation gives the server time.
    """

    name: str
    call: str
    why: str
    at: dict = field(default_factory=dict)
    query: str = ""
    who: str = "admin"
    send: Any = None
    kind: str = ""
    headers: dict = field(default_factory=dict)
    status: Any = None
    code: Any = None
    body: dict = field(default_factory=dict)
    head: dict = field(default_factory=dict)
    raw: Any = None
    save: dict = field(default_factory=dict)
    slash: bool = False
    until: float = 0
    # Which of the webapps is called.
    webapp: int = 0


@dataclass
class Provoke:
    """A call for tests of the simulated Cloud API; it must succeed."""

    name: str
    path: str
    send: Any = None


@dataclass
class Told:
    """A callback must have come, or come within `within` seconds, with an item as in `match` (place: value) below `root`."""

    name: str
    why: str
    root: str
    match: dict
    body: dict = field(default_factory=dict)
    whole: dict = field(default_factory=dict)
    save: dict = field(default_factory=dict)
    within: float = 8
    times: int = 1


@dataclass
class Ranks:
    """The statuses of one message of ours: these words, each once, and nothing else. `sent` may be missing below a higher word:
    the upstream guarantees no order, and a lower word than what was told is dropped. Their order is a step of its own, for
    all messages at once: `callbacks.ENDING`."""

    name: str
    why: str
    id: str
    words: tuple = ("sent", "delivered", "read")
    body: dict = field(default_factory=dict)
    never: tuple = ()
    within: float = 8

    def required(self):
        """The words that must come."""
        return [w for w in self.words if w != "sent"] or list(self.words)


@dataclass
class Do:
    """Anything else: `act(world)` raises AssertionError with expected and got."""

    name: str
    why: str
    act: Any = None


def show(value, most=600):
    """A value for a line of output."""
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= most else text[:most] + "…"
