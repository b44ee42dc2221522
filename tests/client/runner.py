"""Carries out the steps one after the other, and says of each that failed what was expected and what was got.

Knows no call of the API: what is expected stands in `steps/`.
"""

import json
import re
import threading
import time

from client import Client, Upstream
from expect import ABSENT, CODES, TITLE_UNSURE, Call, Do, Is, Provoke, Ranks, Told, at, each, holds, show

# The number, and the id of it, that the simulated Cloud API has when nothing else is said.
OWN_NUMBER = "447700900999"
OWN_NUMBER_ID = "100200300"
# When so many waits were in vain, the others are short: one missing thing shall not take an hour.
VAIN_MAX = 8
VAIN_WITHIN = 0.3
STATES = ("stable", "deprecated", "experimental")
# "Settings calls answer 200 with null, {} or only meta": such calls need no meta.
BARE = Is("null or {}", lambda v: v is None or v == {})


class World:
    """What the steps share: the clients, the receiver, and what was saved."""

    def __init__(self, bases, admin, receiver, key="", folder=None):
        first = Client(bases[0])
        self.webapps = [first] + [Client(base, first.exercised) for base in bases[1:]]
        self.exercised = first.exercised
        self.upstream = Upstream(admin)
        self.receiver = receiver
        self.key = key
        self.folder = folder
        self.saved = {}
        # Messages that were accepted, and what must never come; both are looked at in the end.
        self.accepted = []
        self.never = []

    def fill(self, value):
        """The value with what was saved in the place of `${name}`."""
        if isinstance(value, str):
            whole = re.fullmatch(r"\$\{(\w+)\}", value)
            if whole:
                return self.saved[whole.group(1)]
            return re.sub(r"\$\{(\w+)\}", lambda m: str(self.saved[m.group(1)]), value)
        if isinstance(value, dict):
            return {self.fill(k): self.fill(v) for k, v in value.items()}
        if isinstance(value, (list, tuple)):
            return [self.fill(v) for v in value]
        return value

    def authorization(self, who):
        if who == "nobody":
            return {}
        if who == "key":
            return {"Authorization": f"Apikey {self.key}"}
        return {"Authorization": f"Bearer {self.saved['token_' + who]}"}


class Failed(AssertionError):
    """A step was not as expected."""


def need(condition, expected, got):
    if not condition:
        raise Failed(f"expected {expected}; got {got}")


def described(answer):
    body = answer.json if answer.json is not None else repr(answer.body[:200])
    return f"{answer.status} {show(body)}"


def checked_error(step, answer):
    """The documented form of an error: code, title, status, meta, nothing beside it."""
    codes = step.code if isinstance(step.code, tuple) else (step.code,)
    error = answer.error()
    need(error.get("code") in codes, f"code {' or '.join(map(str, codes))}", described(answer))
    title, status = CODES[error["code"]]
    if error["code"] not in TITLE_UNSURE:
        need(error.get("title") == title, f"title {title!r}", described(answer))
    if step.status is None:
        need(answer.status == status, f"status {status} with code {error['code']}", described(answer))
    for name in ("details", "href"):
        need(isinstance(error.get(name, ""), str), f"{name} a text", described(answer))
    need("messages" not in answer.json, "no messages beside errors", described(answer))


def checked(step, world, answer):
    """One answer against all that the step expects."""
    if step.status is not None:
        wanted = step.status if isinstance(step.status, tuple) else (step.status,)
        need(answer.status in wanted, f"status {' or '.join(map(str, wanted))}", described(answer))
    elif step.code is None:
        need(answer.status == 200, "status 200", described(answer))
    if answer.status in (429, 503):
        need(answer.headers.get("retry-after", "").isdigit(), "Retry-After in seconds", repr(answer.headers))
    if step.code is not None:
        checked_error(step, answer)
    is_json = "json" in answer.headers.get("content-type", "")
    method = step.call.split(" ")[0]
    if step.raw is None and method != "HEAD" and not step.head and (is_json or step.code or step.body):
        meta = at(answer.json, "meta")
        bare = "/settings/" in step.call and BARE(answer.json)
        fine = holds(Is("", lambda m: m["api_status"] in STATES and re.match(r"v\d", m["version"])), meta)
        need(bare or fine, "meta with api_status and version", described(answer))
    for path, wanted in step.body.items():
        found = at(answer.json, path)
        wanted = world.fill(wanted)
        got = described(answer) if path == "" else f"{show(found)} in {described(answer)}"
        need(holds(wanted, found), f"{path or 'body'}: {wanted!r}", got)
    for name, wanted in step.head.items():
        found = answer.headers.get(name.lower(), ABSENT)
        need(holds(world.fill(wanted), found), f"header {name}: {wanted!r}", f"{found!r} of {answer.headers}")
    if step.raw is not None:
        need(holds(step.raw, answer.body), f"body: {show(repr(step.raw))}", f"{len(answer.body)} bytes {answer.body[:80]!r}")
    for name, path in step.save.items():
        found = at(answer.json, path)
        need(found is not ABSENT, f"something at {path}", described(answer))
        world.saved[name] = found


def request(step, world, webapp=0):
    headers = dict(world.authorization(step.who)) | world.fill(step.headers)
    send = step.send if isinstance(step.send, bytes) else world.fill(step.send)
    body = None
    if isinstance(send, bytes):
        body = send
    elif send is not None:
        body = json.dumps(send, ensure_ascii=False).encode()
        headers.setdefault("Content-Type", "application/json")
    if step.kind:
        headers["Content-Type"] = step.kind
    client = world.webapps[webapp % len(world.webapps)]
    # A step that expects 429 or 503 wants to see it.
    statuses = step.status if isinstance(step.status, tuple) else (step.status,)
    again = not {429, 503} & set(statuses)
    return client.call(step.call, world.fill(step.at), world.fill(step.query), body, headers, step.slash, again)


class Runner:
    """Runs steps; counts, and prints a line for each that failed."""

    def __init__(self, world, known=None):
        self.world = world
        # `family: step` and why it differs from the documents.
        self.known = known or {}
        self.passed, self.failed, self.differ, self.vain = 0, 0, 0, 0
        # Two families may run beside each other.
        self._lock = threading.RLock()

    def run(self, family, steps):
        for step in steps:
            self.one(family, step)

    def one(self, family, step):
        try:
            self.step(step)
        except Failed as failure:
            return self.fails(family, step, str(failure))
        except KeyError as missing:
            return self.fails(family, step, f"needs {missing} of an earlier step, which failed")
        except (OSError, RuntimeError) as error:
            return self.fails(family, step, f"expected an answer; got {type(error).__name__}: {error}")
        self.passes(family, step)

    def passes(self, family, step):
        name = f"{family}: {step.name}"
        with self._lock:
            if name in self.known:
                self.failed += 1
                print(f"FAILED {name}: it is as documented; take it out of known.txt", flush=True)
            else:
                self.passed += 1

    def fails(self, family, step, text):
        why = getattr(step, "why", "")
        with self._lock:
            if f"{family}: {step.name}" in self.known:
                self.differ += 1
                return
            self.failed += 1
            print(f"FAILED {family}: {step.name}: {text}" + (f"  [{why}]" if why else ""), flush=True)

    def step(self, step):
        if isinstance(step, Call):
            self.call(step)
        elif isinstance(step, Provoke):
            self.world.upstream.post(self.world.fill(step.path), self.world.fill(step.send))
        elif isinstance(step, Told):
            self.told(step)
        elif isinstance(step, Ranks):
            self.ranks(step)
        elif isinstance(step, Do):
            step.act(self.world)
        else:
            raise TypeError(f"no step: {step!r}")

    def call(self, step):
        end = time.monotonic() + step.until
        while True:
            answer = request(step, self.world, step.webapp)
            try:
                checked(step, self.world, answer)
                break
            except Failed:
                if time.monotonic() >= end:
                    raise
            # Asked again while the documentation gives the server time: messages seldom, each is one more.
            time.sleep(0.5 if step.call == "POST /v1/messages" else 0.05)
        self.remember(step, answer)

    def remember(self, step, answer):
        """An accepted message is looked for in the end."""
        if step.call == "POST /v1/messages" and answer.status in (200, 201):
            self.world.accepted.append(answer.json["messages"][0]["id"])

    def within(self, seconds):
        return seconds if self.vain < VAIN_MAX else VAIN_WITHIN

    def told(self, step):
        match = self.world.fill(step.match)

        def found(receiver):
            hits = [
                (item, callback)
                for item, callback in receiver.items(step.root)
                if all(holds(wanted, at(item, path)) for path, wanted in match.items())
            ]
            return hits if len(hits) >= step.times else None

        hits = self.world.receiver.wait(found, self.within(step.within))
        if hits is None:
            self.vain += 1
            raise Failed(f"expected a callback with {step.root} {match!r} within {step.within:g} s; got none")
        item, callback = hits[0]
        for path, wanted in self.world.fill(step.body).items():
            need(holds(wanted, at(item, path)), f"{path}: {wanted!r}", show(item))
        for path, wanted in self.world.fill(step.whole).items():
            need(holds(wanted, at(callback["value"], path)), f"{path}: {wanted!r}", show(callback["value"]))
        for name, path in step.save.items():
            need(at(item, path) is not ABSENT, f"something at {path}", show(item))
            self.world.saved[name] = at(item, path)

    def ranks(self, step):
        message = self.world.fill(step.id)
        words, required = list(step.words), set(step.required())

        def there(receiver):
            have = [item.get("status") for item in receiver.statuses.get(message, [])]
            return required <= set(have)

        if not self.world.receiver.wait(there, self.within(step.within)):
            self.vain += 1
            with self.world.receiver.changed:
                got = [(i.get("status"), i.get("errors")) for i in self.world.receiver.statuses.get(message, [])]
            raise Failed(f"expected statuses {words} within {step.within:g} s; got {show(got)}")
        have = self.world.receiver.words_of(message)
        fine = required <= set(have) <= set(words) and len(have) == len(set(have))
        need(fine, f"statuses {words}, each once", have)
        with self.world.receiver.changed:
            items = list(self.world.receiver.statuses[message])
        for item in items:
            for path, value in self.world.fill(step.body).items():
                need(holds(value, at(item, path)), f"{path}: {value!r}", show(item))
        # What may come later all the same is looked at in the end.
        self.world.never.append((step, message, words))

    def ending(self):
        """What must never have come; every callback well-formed; every accepted message with the upstream once."""
        for step, message, words in self.world.never:
            have = self.world.receiver.words_of(message)
            more = [w for w in have if have.count(w) > 1 or w not in words or w in step.never]
            if more:
                self.fails("in the end", step, f"expected statuses {words} only, each once; got {have}")
            else:
                self.passes("in the end", step)


__all__ = ["Runner", "World", "Failed", "need", "each", "OWN_NUMBER", "OWN_NUMBER_ID"]
