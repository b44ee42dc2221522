"""Kills the coreapp that owns shard 0 of a development cluster, at once, as `kill -9` does.

    kill_owner.py PROGRAM CONFIG

PROGRAM is `wa-agent`; CONFIG the cluster's `wa-agent.toml`. Where no owner is known at the moment, it waits for one for 20 s.
"""

import json
import os
import pathlib
import signal
import subprocess
import sys
import time

WITHIN = 20.0


def owner(program, config):
    """The name of the owner of shard 0, or None."""
    done = subprocess.run([program, "status", "--json", "--config", config], capture_output=True, text=True, timeout=30)
    try:
        shard = json.loads(done.stdout)["shards"][0]
    except (ValueError, LookupError, TypeError):
        return None
    return shard["owner"] if shard["phase"] == "active" else None


def process(node, folder):
    """The process of the coreapp `host:coreapp-N` whose configuration lies in this folder."""
    number = node.rsplit("-", 1)[1]
    for entry in pathlib.Path("/proc").iterdir():
        if not entry.name.isdigit():
            continue
        try:
            words = (entry / "cmdline").read_bytes().split(b"\0")
        except OSError:
            continue
        if words[1:4] == [b"coreapp", b"--instance", number.encode()] and any(w.startswith(os.fsencode(folder)) for w in words[4:]):
            return int(entry.name)
    return None


def main():
    program, config = sys.argv[1], os.path.abspath(sys.argv[2])
    end = time.monotonic() + WITHIN
    while time.monotonic() < end:
        node = owner(program, config)
        pid = node and process(node, os.path.dirname(config))
        if pid:
            os.kill(pid, signal.SIGKILL)
            print(f"killed {node}, process {pid}")
            return 0
        # The cluster is between two owners.
        time.sleep(0.1)
    print("no owner to kill")
    return 1


if __name__ == "__main__":
    sys.exit(main())
