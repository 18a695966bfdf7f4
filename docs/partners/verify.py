"""Receives orderflow's webhooks: verifies each, takes each event once, and tells newer from older.

    pip install standardwebhooks
    WEBHOOK_SECRET=whsec_… python verify.py 8000
"""

import json
import os
import sys
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

from standardwebhooks.webhooks import Webhook, WebhookVerificationError

hook = Webhook(os.environ["WEBHOOK_SECRET"])

# In your system these are rows, written in the transaction that does the work: a unique webhook-id, and per order (or
# job) the highest sequence seen.
lock = threading.Lock()
taken = set()
newest = {}


def take(event, sequence):
    """What an event is to us: `new`, a `repeat` of one that we have, or `older` than what we know of its order."""
    about = event["data"].get("orderId") or event["data"]["jobId"]
    with lock:
        if event["id"] in taken:
            return "repeat"
        taken.add(event["id"])
        if sequence < newest.get(about, -1):
            return "older"
        newest[about] = sequence
        return "new"


class Receiver(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # keeps the connection open for the next request

    def do_POST(self):
        # The raw bytes are signed: verify before anything parses them.
        body = self.rfile.read(int(self.headers["content-length"]))
        try:
            event = hook.verify(body, dict(self.headers))
        except WebhookVerificationError:
            return self.answer(401)
        verdict = take(event, int(self.headers["x-webhook-sequence"]))
        print(json.dumps({"id": event["id"], "event": event["event"], "verdict": verdict}), flush=True)
        self.answer(204)  # for repeats too: anything else is tried again

    def answer(self, status):
        self.send_response(status)
        self.send_header("content-length", "0")
        self.end_headers()

    def log_message(self, *_):
        pass


server = ThreadingHTTPServer(("127.0.0.1", int(sys.argv[1])), Receiver)
print(f"listening on {server.server_port}", flush=True)
server.serve_forever()
