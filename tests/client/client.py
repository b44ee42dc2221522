"""A client of the /v1 API as its documentation describes one: logs in, calls, and repeats what the documentation tells it to.

Does not judge answers: `runner.py` does.
"""

import base64
import http.client
import json
import re
import threading
import time
import urllib.parse
from dataclasses import dataclass, field

# The longest that one answer may take, in seconds: a request is held while a shard has no owner.
ANSWER_WITHIN = 90
# The longest that one call is repeated, in seconds.
REPEAT_WITHIN = 30
# Service not ready, overloaded, not the primary: the documentation tells clients to call again.
AGAIN = (429, 503)


@dataclass
class Answer:
    """What a call was answered. `json` is None where the body is no JSON; `tries` counts the calls that it took."""

    status: int
    headers: dict
    body: bytes
    tries: int = 1
    json: object = field(default=None)

    def error(self):
        """The first error object, or an empty one."""
        try:
            return self.json["errors"][0]
        except (TypeError, KeyError, IndexError):
            return {}


class Exercised:
    """Which rows of the table of calls were called, as `METHOD template`."""

    def __init__(self):
        self._calls = set()
        self._lock = threading.Lock()

    def add(self, call):
        with self._lock:
            self._calls.add(call)

    def all(self):
        with self._lock:
            return sorted(self._calls)


def basic(name, password):
    """The value of an Authorization header of a login."""
    return "Basic " + base64.b64encode(f"{name}:{password}".encode()).decode()


def read(body):
    """JSON of a body, or None."""
    try:
        return json.loads(body)
    except ValueError:
        return None


def expand(template, values):
    """A path of a template. Values are written as the documentation's own examples write them: only what would end the path,
    or begin an escape, is escaped."""

    def one(match):
        return urllib.parse.quote(str(values[match.group(1)]), safe="/:+=@-._~")

    return re.sub(r"\{(\w+)\}", one, template)


class Client:
    """Calls one webapp. A connection a thread; safe to share."""

    def __init__(self, base, exercised=None):
        parts = urllib.parse.urlsplit(base)
        self.host, self.port = parts.hostname, parts.port or 80
        self.exercised = exercised or Exercised()
        self._local = threading.local()

    def _connection(self):
        if getattr(self._local, "connection", None) is None:
            self._local.connection = http.client.HTTPConnection(self.host, self.port, timeout=ANSWER_WITHIN)
        return self._local.connection

    def _close(self):
        if getattr(self._local, "connection", None) is not None:
            self._local.connection.close()
            self._local.connection = None

    def once(self, method, path, body=None, headers=None):
        """One request and its answer. A kept connection that the server has closed meanwhile is opened again, once."""
        for attempt in (1, 2):
            fresh = getattr(self._local, "connection", None) is None
            connection = self._connection()
            try:
                connection.request(method, path, body=body, headers=headers or {})
                got = connection.getresponse()
                data = got.read()
                answered = {name.lower(): value for name, value in got.getheaders()}
                if got.will_close:
                    self._close()
                return Answer(got.status, answered, data, json=read(data))
            except (http.client.RemoteDisconnected, ConnectionResetError, BrokenPipeError):
                self._close()
                if fresh or attempt == 2:
                    raise
        raise AssertionError("unreachable")

    def call(self, call, values=None, query="", body=None, headers=None, slash=False, again=True):
        """`METHOD template` with the values of its places. Repeats 429 and 503 after `Retry-After` seconds while `again`."""
        method, template = call.split(" ", 1)
        self.exercised.add(call)
        path = expand(template, values or {}) + ("/" if slash else "") + query
        end = time.monotonic() + REPEAT_WITHIN
        tries = 0
        while True:
            tries += 1
            answer = self.once(method, path, body, headers)
            answer.tries = tries
            wait = answer.headers.get("retry-after", "")
            if not again or answer.status not in AGAIN or not wait.isdigit():
                return answer
            if time.monotonic() + int(wait) > end:
                return answer
            # The documentation's own wait, not one of ours.
            time.sleep(int(wait))


class Upstream:
    """The calls for tests of the simulated Cloud API."""

    def __init__(self, base):
        self.client = Client(base)

    def get(self, path):
        return self.client.once("GET", path).json

    def post(self, path, value=None):
        body = json.dumps(value).encode() if value is not None else b""
        answer = self.client.once("POST", path, body, {"Content-Type": "application/json"})
        if answer.status >= 300:
            raise RuntimeError(f"POST {path}: {answer.status} {answer.body[:300]!r}")
        return answer.json
