"""The harmless calls, again and again from several threads, while the owner of the shard is killed: nothing may fail, get lost or
come twice, and every status must be told.

Kills nothing itself: `run.py` is given the command that does.
"""

import subprocess
import threading
import time

from client import ANSWER_WITHIN
from expect import Call, Is, show
from runner import Failed, checked, request
from steps import messages

# Seconds between two kills, as the issue has it.
KILL_EVERY = 5.0
SENDERS = 4
# The longest that the last message and its statuses are waited for, in seconds.
SETTLED_WITHIN = 60
WHY = "issue 18 §3"
# `sent` is dropped where the upstream told a higher word first; `delivered` is told before `read` in any case (client 5).
WORDS = ("delivered", "read")


def _calls(world, index):
    """What each thread calls in turn, beside messages."""
    data = f"file of thread {index}".encode()
    return [
        Call("contacts", "POST /v1/contacts", WHY, who="user", send={"contacts": [f"+4477009700{index:02d}"]}, body={"contacts[0].status": "valid"}),
        Call("a file", "POST /v1/media", WHY, who="user", send=data, kind="text/plain", status=(200, 201), save={f"fire_{index}": "media[0].id"}),
        Call("the file", "GET /v1/media/{id}", WHY, who="user", at={"id": f"${{fire_{index}}}"}, raw=Is("the bytes", lambda got: got == data)),
        Call("mark as read", "PUT /v1/messages/{id}", WHY, who="user", at={"id": "wamid.in-location"}, send={"status": "read"}),
        Call("settings", "GET /v1/settings/application", WHY, body={"settings.application.webhooks.url": world.saved["url"]}),
        Call("shards", "GET /v1/account/shards", WHY, body={"account.shards": 1}),
        Call("health", "GET /v1/health", WHY, who="user"),
    ]


class Fire:
    """Runs for so many seconds; `lines` says what failed."""

    def __init__(self, world, command, seconds):
        self.world, self.command = world, command
        self.end = time.monotonic() + seconds
        self.over = threading.Event()
        self.lines, self.accepted, self.calls, self.kills, self.tries, self.slowest = [], {}, 0, 0, 0, 0.0
        self._lock = threading.Lock()

    def fails(self, text):
        with self._lock:
            if len(self.lines) < 50:
                self.lines.append(text)

    def one(self, step, webapp):
        began = time.monotonic()
        try:
            answer = request(step, self.world, webapp)
            checked(step, self.world, answer)
        except (Failed, OSError) as error:
            return self.fails(f"{step.name}: {type(error).__name__}: {error}")
        with self._lock:
            self.calls += 1
            self.tries += answer.tries - 1
            self.slowest = max(self.slowest, time.monotonic() - began)
            if step.call == "POST /v1/messages":
                self.accepted[answer.json["messages"][0]["id"]] = step.name
        return None

    def sender(self, index):
        kinds = messages.KINDS
        others = _calls(self.world, index)
        turn = 0
        while time.monotonic() < self.end:
            name, why, message = kinds[(index * 17 + turn) % len(kinds)]
            to = f"4477{index}{turn:07d}"
            self.one(messages.send(name, why, message, to), index)
            if turn % 3 == 0:
                self.one(others[turn // 3 % len(others)], index + turn)
            turn += 1
            # A pace: four senders of 40 messages a second leave processors for the cluster.
            self.over.wait(0.025)

    def killer(self):
        while not self.over.wait(KILL_EVERY) and time.monotonic() < self.end:
            done = subprocess.run(self.command, shell=True, capture_output=True, text=True, timeout=60)
            if done.returncode != 0:
                self.fails(f"the command that kills ended with {done.returncode}: {show(done.stdout + done.stderr, 300)}")
            else:
                self.kills += 1

    def run(self):
        threads = [threading.Thread(target=self.sender, args=(n,)) for n in range(SENDERS)]
        killer = threading.Thread(target=self.killer)
        for thread in [*threads, killer]:
            thread.start()
        for thread in threads:
            # An answer that never comes fails by itself before that.
            thread.join(max(0.0, self.end - time.monotonic()) + 2 * ANSWER_WITHIN)
            if thread.is_alive():
                self.fails("a call was not answered")
        self.over.set()
        killer.join(60)
        self.settled()

    def settled(self):
        """0 lost, none twice, every status told."""
        wanted = set(self.accepted)

        def all_told(receiver):
            return all({i.get("status") for i in receiver.statuses.get(m, [])} >= set(WORDS) for m in wanted)

        self.world.receiver.wait(all_told, SETTLED_WITHIN)
        ids = set(self.world.upstream.get("/admin/ids"))
        for message in sorted(wanted - ids)[:10]:
            self.fails(f"lost: {message} ({self.accepted[message]}) was accepted and never reached the upstream")
        untold = 0
        for message in sorted(wanted):
            have = self.world.receiver.words_of(message)
            # Twice is allowed: "at least once, duplicates possible" (onprem 3.1).
            if not set(WORDS) <= set(have):
                untold += 1
                if untold <= 10:
                    self.fails(f"untold: {message} ({self.accepted[message]}): expected {WORDS}, got {have}")
        report = self.world.upstream.get("/admin/report")
        if report["sent_twice"] or report["double_primary"] or report["banned"]:
            self.fails(f"expected nothing sent twice and one primary; got {show(report)}")
        if self.kills == 0:
            self.fails("nobody was killed: the run shows nothing")

    def summary(self):
        return (f"under fire: {self.calls} calls, {len(self.accepted)} messages, {self.kills} kills, {self.tries} repeated calls, "
                f"slowest {self.slowest:.1f} s, {len(self.lines)} failed")
