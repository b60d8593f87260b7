"""A receiver of webhooks: verifies what it is posted, confirms, and handles each message once.

    python examples/webhook_receiver.py --secret whsec_... --broker http://127.0.0.1:8450

It stands on the standard library and on `verify_body`, which knows the signatures of Standard
Webhooks; any other implementation of them does as well. Four things to copy from it:

1. The signature is verified over the bytes that came, before anything else looks at them.
2. It confirms at the broker that it was started with, by the name and the token. It never follows a
   link that a message brings: anybody could have sent that.
3. A message can come more than once, always with the same id. This one remembers ids in
   memory; a real one keeps them with the data that the message changes.
4. It answers only when the message is handled: any 2xx means that it need not come again.
"""

import argparse
import json
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import urlencode
from urllib.request import urlopen

from braidmq.broker import SignatureInvalid, verify_body

BODY_BYTES_MAX = 8 * 1024 * 1024
REMEMBER_SECONDS = 5 * 24 * 3600  # longer than a message waits at the broker
seen: dict[str, float] = {}  # id -> when it may be forgotten


class Receiver(BaseHTTPRequestHandler):
    """Answers one POST after the other; ``secret`` and ``broker`` are set below."""

    secret = ""
    broker = ""

    def do_POST(self) -> None:
        """Verify, then confirm or handle."""
        size = int(self.headers.get("Content-Length", "0"))
        if not 0 <= size <= BODY_BYTES_MAX:
            self.answer(413)
            return
        body = self.rfile.read(size)
        headers = {name.lower(): value for name, value in self.headers.items()}
        try:
            id = verify_body(headers, body, [self.secret], int(time.time() * 1000))
        except SignatureInvalid as error:
            print(f"refused: {error}", file=sys.stderr, flush=True)
            self.answer(401)
            return
        if headers.get("x-amz-sns-message-type") == "SubscriptionConfirmation":
            self.confirm(json.loads(body))
        elif self.is_new(id):
            print(body.decode(errors="replace"), flush=True)  # handle it here
        self.answer(204)

    def confirm(self, question: dict[str, str]) -> None:
        """Bring the token back to the broker that we know."""
        query = urlencode({"name": question["TopicArn"], "token": question["Token"]})
        with urlopen(f"{self.broker}/webhooks/confirm?{query}", timeout=10) as response:
            print(f"confirmed {question['TopicArn']}: {response.status}", flush=True)

    def is_new(self, id: str) -> bool:
        """Whether the message was not handled before."""
        now = time.monotonic()
        for old in [each for each, until in seen.items() if until < now]:
            del seen[old]
        new = id not in seen
        seen[id] = now + REMEMBER_SECONDS
        return new

    def answer(self, status: int) -> None:
        """A status and nothing else: nobody reads more."""
        self.send_response(status)
        self.send_header("Content-Length", "0")
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Quietly."""


def main() -> None:
    """Serve until it is interrupted."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0] if __doc__ else "")
    parser.add_argument("--port", type=int, default=8443, help="where to listen; 0: any free port")
    parser.add_argument("--secret", required=True, help="the webhook's signing secret, whsec_...")
    parser.add_argument("--broker", default="http://127.0.0.1:8450", help="its HTTP port")
    options = parser.parse_args()
    Receiver.secret, Receiver.broker = options.secret, options.broker
    with ThreadingHTTPServer(("127.0.0.1", options.port), Receiver) as server:
        print(f"listening on http://127.0.0.1:{server.server_port}/", flush=True)
        server.serve_forever()


if __name__ == "__main__":
    main()
