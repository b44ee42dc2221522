"""The business's own end point: takes callbacks over HTTPS, remembers them, and answers 200, or what it is told to answer.

Judges nothing: `runner.py` asks for what came.
"""

import json
import ssl
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

# Largest callback, in bytes.
CALL_LEN_MAX = 4 << 20


class Receiver:
    """Listens on a port of its own from `start` until `stop`."""

    def __init__(self, certificate):
        self.callbacks = []
        self.statuses = {}
        self.answers = []
        self.refused = []
        self.broken = []
        self.delay = 0.0
        self.changed = threading.Condition()
        receiver = self

        class Handler(BaseHTTPRequestHandler):
            protocol_version = "HTTP/1.1"
            timeout = 60

            def do_POST(self):
                receiver.take(self)

            def log_message(self, *_):
                pass

        class Server(ThreadingHTTPServer):
            daemon_threads = True
            request_queue_size = 128

            def handle_error(self, request, address):
                # A sender that was killed in the middle is what the test is about.
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(certificate)
        # The handshake belongs to the thread of the connection: a silent caller must not hold up the others.
        self.server.socket = context.wrap_socket(
            self.server.socket, server_side=True, do_handshake_on_connect=False
        )
        self.port = self.server.server_address[1]

    def start(self):
        threading.Thread(target=self.server.serve_forever, daemon=True).start()

    def stop(self):
        self.server.shutdown()

    def answer_next(self, *statuses):
        """The next callbacks are answered so, one after the other; then 200 again."""
        with self.changed:
            self.answers.extend(statuses)

    def take(self, request):
        length = int(request.headers.get("Content-Length", "0"))
        body = request.rfile.read(min(length, CALL_LEN_MAX))
        with self.changed:
            status = self.answers.pop(0) if self.answers else 200
            delay = self.delay
        if delay:
            # A slow business, on purpose.
            time.sleep(delay)
        self.remember(request, body, status)
        request.send_response(status)
        if status in (301, 302, 307):
            request.send_header("Location", f"https://127.0.0.1:{self.port}/elsewhere")
        request.send_header("Content-Length", "0")
        request.end_headers()

    def remember(self, request, body, status):
        try:
            value = json.loads(body)
        except ValueError:
            value = None
        kept = {"path": request.path, "value": value, "headers": {k.lower(): v for k, v in request.headers.items()}}
        with self.changed:
            if not isinstance(value, dict):
                self.broken.append(body[:200])
            elif status != 200:
                self.refused.append(kept)
            else:
                self.callbacks.append(kept)
                for item in value.get("statuses") or []:
                    self.statuses.setdefault(item.get("id"), []).append(item)
            self.changed.notify_all()

    def wait(self, wanted, within):
        """The first true value of `wanted(self)`, asked whenever something came; None after `within` seconds."""
        end = time.monotonic() + within
        with self.changed:
            while True:
                found = wanted(self)
                if found:
                    return found
                left = end - time.monotonic()
                if left <= 0:
                    return None
                self.changed.wait(left)

    def items(self, root):
        """Every item below a root word, with the callback that it came in. The caller holds the lock, or nothing comes any more."""
        for callback in self.callbacks:
            for item in callback["value"].get(root) or []:
                yield item, callback

    def words_of(self, message):
        """The words of the statuses of one message, in the order in which they came."""
        with self.changed:
            return [item.get("status") for item in self.statuses.get(message, [])]
