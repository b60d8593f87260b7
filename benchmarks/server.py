"""A broker of our own to measure: ``braidmq serve`` on a free loopback port."""

import json
import os
import sys
import time
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

from .peer import BrokerProcess, ServerFailed

__all__ = ["ServerProcess"]

_START_SECONDS: Final = 120.0  # it may have much to recover


class ServerProcess(BrokerProcess):
    """``with ServerProcess(directory) as server: connect(server.url)``.

    ``directory`` gets the data, the log of the daemon and its ready file; it may hold data already.
    ``prefix`` is what runs it in its own process, such as valgrind with its options. ``listen`` is
    added to what ``options`` say; with none of both, the configuration decides.

    Attributes:
        urls: where it listens.
        start_seconds: from starting the process until it served.
    """

    name = "braidmq"

    def __init__(
        self,
        directory: str,
        options: tuple[str, ...] = (),
        prefix: tuple[str, ...] = (),
        listen: tuple[str, ...] = ("braid://127.0.0.1:0",),
    ) -> None:
        super().__init__(directory)
        self.urls: list[str] = []
        self.start_seconds = 0.0
        self._options = (*(word for url in listen for word in ("--listen", url)), *options)
        self._prefix = prefix

    @property
    def url(self) -> str:
        """The first of its URLs; "" while it was never started."""
        return self.urls[0] if self.urls else ""

    def port(self, scheme: str) -> int:
        """Where it listens for a scheme. Raises ServerFailed when it does not."""
        for url in map(urlsplit, self.urls):
            if url.scheme == scheme and url.port:
                return url.port
        raise ServerFailed(f"{self.name} does not listen for {scheme}")

    def start(self) -> None:
        """Start it, and wait until it serves. Raises ServerFailed."""
        ready = Path(self.directory, "ready.json")
        ready.unlink(missing_ok=True)
        begun = time.monotonic()
        self._spawn(
            [
                *self._prefix,
                *(sys.executable, "-c", "from braidmq.protocols.cli import main; main()"),
                *("serve", "--data", os.path.join(self.directory, "data")),
                *("--ready-file", str(ready), *self._options),
            ]
        )
        while not ready.exists():
            if self._is_over():
                raise ServerFailed(f"{self.name} did not start: {self._last_words()}")
            if time.monotonic() - begun > _START_SECONDS:
                self.kill()
                raise ServerFailed(f"{self.name} was not ready in time")
            time.sleep(0.005)
        self.start_seconds = time.monotonic() - begun
        self.urls = json.loads(ready.read_text())["urls"]
