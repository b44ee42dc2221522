"""Every documented call and every type of message of the /v1 API, by a client that knows only the documentation.

    run.py --base http://127.0.0.1:9090 --admin http://127.0.0.1:6200

runs all steps against a new development cluster (`wa-agent dev`), prints one line for each that failed, and ends with
`N passed, N failed`. With `--while-killing COMMAND --seconds N` it repeats the harmless calls afterwards for N seconds, while COMMAND
is run every 5 seconds. Exit code 1 when something failed.
"""

import argparse
import pathlib
import sys
import tempfile
import threading
import time

sys.path.insert(0, str(pathlib.Path(__file__).parent))
# Nothing is left in the source tree.
sys.dont_write_bytecode = True

import files
from fire import Fire
from receiver import Receiver
from runner import Runner, World
from steps import access, account, callbacks, contacts, inbound, media, messages, profile, refused, services, settings, users, watch
from expect import Provoke

TEMPLATES = [Provoke(f"the template {name}", "/admin/templates", messages.template(name, body)) for name, body in messages.PLAIN]

FAMILIES = [
    ("users", users.STEPS),
    ("settings", settings.STEPS),
    ("webhook authority", services.BEFORE),
    ("callbacks", callbacks.SETUP),
    ("account", account.STEPS),
    ("media", media.STEPS),
    ("templates", TEMPLATES),
    ("messages", messages.STEPS),
    ("failures", callbacks.FAILURES),
    ("stories", callbacks.STORIES),
    ("refused", refused.STEPS),
    ("contacts", contacts.STEPS),
    ("inbound", inbound.STEPS),
    ("identity", contacts.IDENTITY),
    ("blocking", contacts.BLOCKING),
    ("told", messages.TOLD),
    ("retries", callbacks.RETRIES),
    ("profile", profile.STEPS),
    ("access", access.STEPS),
    ("services", services.STEPS),
    ("watch", watch.STEPS),
    ("ending", callbacks.ENDING),
]
# The server looks at the list of templates in the background, every few seconds: so does this family, beside the others.
BESIDE = ("list of templates", refused.LIST)
AFTER, BEFORE = "messages", "ending"
# What the harmless calls under fire rest on.
NEEDED = ("users", "callbacks", "media", "templates", "inbound")


def options():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", action="append", required=True, help="address of a webapp; may be given several times")
    parser.add_argument("--admin", required=True, help="address of the simulated Cloud API")
    parser.add_argument("--key-file", help="file with the API key")
    parser.add_argument("--while-killing", metavar="COMMAND", help="kills the owner; run every 5 seconds")
    parser.add_argument("--seconds", type=float, default=15.0, help="how long the owner is killed")
    parser.add_argument("--only", action="append", default=[], metavar="FAMILY", help="these families, and what they need")
    parser.add_argument("--calls", metavar="FILE", help="where to write which calls were made, one `METHOD path` a line")
    parser.add_argument("--tls", metavar="DIR", help="certificates of an earlier run; made by openssl where they are missing")
    parser.add_argument("--slow", action="store_true", help="say how long each family took")
    return parser.parse_args()


def known():
    """What differs from the documents, and why: lines `family: step | why`."""
    text = pathlib.Path(__file__).with_name("known.txt").read_text()
    lines = [line.split(" | ", 1) for line in text.splitlines() if line and not line.startswith("#")]
    return {name: why for name, why in lines}


def main():
    args = options()
    with tempfile.TemporaryDirectory() as scratch:
        folder = pathlib.Path(args.tls or scratch)
        files.certificates(folder)
        receiver = Receiver(folder / "hook.pem")
        receiver.start()
        key = pathlib.Path(args.key_file).read_text().strip() if args.key_file else ""
        world = World(args.base, args.admin, receiver, key, folder)
        runner = Runner(world, known())
        try:
            return carry_out(args, world, runner)
        finally:
            receiver.stop()


def carry_out(args, world, runner):
    beside = threading.Thread(target=runner.run, args=BESIDE)
    for family, steps in FAMILIES:
        if args.only and family not in args.only and family not in NEEDED:
            continue
        if family == BEFORE and beside.ident:
            beside.join()
        began, failed = time.monotonic(), runner.failed
        runner.run(family, steps)
        if args.slow:
            print(f"{family}: {len(steps)} steps, {runner.failed - failed} failed, {time.monotonic() - began:.1f} s")
        if family == AFTER:
            beside.start()
    if beside.ident:
        beside.join()
    runner.ending()
    if args.calls:
        pathlib.Path(args.calls).write_text("".join(f"{call}\n" for call in world.exercised.all()))
    if args.while_killing and "url" in world.saved and "token_user" in world.saved:
        fire = Fire(world, args.while_killing, args.seconds)
        fire.run()
        for line in fire.lines:
            print(f"FAILED under fire: {line}")
        print(fire.summary())
        runner.failed += len(fire.lines)
        runner.passed += fire.calls
    elif args.while_killing:
        print("FAILED under fire: no login or no webhook address")
        runner.failed += 1
    print(f"{runner.passed} passed, {runner.failed} failed" + (f", {runner.differ} differ as known.txt says" if runner.differ else ""))
    return 1 if runner.failed else 0


if __name__ == "__main__":
    sys.exit(main())
