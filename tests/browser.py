"""A real Chromium without a window, asked through its DevTools protocol.

It looks at one page at a time, and remembers every request and every complaint of that page.
"""

import base64
import json
import os
import shutil
import signal
import struct
import subprocess
import time
import urllib.request
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from websockets.sync.client import connect
from websockets.sync.connection import Connection

__all__ = ["Browser", "chromium", "missing"]

GUARD_SECONDS = 60
FLAGS = (
    "--headless",
    "--no-sandbox",  # which root may not have
    "--disable-gpu",
    "--disable-quic",
    "--disable-dev-shm-usage",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--hide-scrollbars",
    "--remote-debugging-port=0",
)


def _program() -> str:
    return shutil.which("chromium") or shutil.which("chromium-browser") or ""


def missing() -> str:
    """Why it cannot run here."""
    if not _program():
        return "chromium is not installed; `make test` installs it where it may"
    return ""


class Browser:
    """One page of a browser that runs.

    Attributes:
        requests: the URLs of all that the page asked for, itself included.
        complaints: errors, warnings and exceptions.
    """

    def __init__(self, socket: Connection) -> None:
        self._socket = socket
        self._number = 0
        self._is_loaded = False
        self.requests: list[str] = []
        self.complaints: list[str] = []
        for domain in ("Page", "Network", "Log", "Runtime"):
            self.ask(f"{domain}.enable")

    def ask(self, method: str, **parameters: Any) -> Any:
        """Call a method of the protocol; its result."""
        self._number += 1
        self._socket.send(json.dumps({"id": self._number, "method": method, "params": parameters}))
        while True:
            message = self._receive()
            if message.get("id") == self._number:
                assert "error" not in message, message["error"]
                return message["result"]

    def _receive(self) -> dict[str, Any]:
        message: dict[str, Any] = json.loads(self._socket.recv(GUARD_SECONDS))
        self._notice(message)
        return message

    def _notice(self, message: dict[str, Any]) -> None:
        parameters = message.get("params", {})
        match message.get("method"):
            case "Network.requestWillBeSent":
                self.requests.append(parameters["request"]["url"])
            case "Page.loadEventFired":
                self._is_loaded = True
            case "Log.entryAdded":
                self.complaints.append(parameters["entry"]["text"])
            case "Runtime.exceptionThrown":
                self.complaints.append(json.dumps(parameters["exceptionDetails"]))
            case "Runtime.consoleAPICalled":
                self.complaints.append(json.dumps(parameters["args"]))

    def open(
        self, url: str, *, is_dark: bool = False, width: int = 1280, height: int = 900
    ) -> None:
        """Look at a page, in one of the two schemes, until all of it is there."""
        scheme = {"name": "prefers-color-scheme", "value": "dark" if is_dark else "light"}
        self.ask("Emulation.setEmulatedMedia", features=[scheme])
        self.ask(
            "Emulation.setDeviceMetricsOverride",
            width=width,
            height=height,
            deviceScaleFactor=1,
            mobile=False,
        )
        self.requests.clear()
        self.complaints.clear()
        self._is_loaded = False
        self.ask("Page.navigate", url=url)
        while not self._is_loaded:
            self._receive()

    def run(self, script: str) -> Any:
        """What an expression in JavaScript gives, or what it promises."""
        found = self.ask(
            "Runtime.evaluate", expression=script, returnByValue=True, awaitPromise=True
        )
        assert "exceptionDetails" not in found, found
        return found["result"].get("value")

    def hover(self, x: float, y: float) -> None:
        """Move the pointer there."""
        self.ask("Input.dispatchMouseEvent", type="mouseMoved", x=x, y=y)

    def pixel(self, x: float, y: float) -> tuple[int, int, int]:
        """The colour that is really there, a place of the page."""
        clip = {"x": x, "y": y, "width": 1, "height": 1, "scale": 1}
        shot = self.ask("Page.captureScreenshot", clip=clip, captureBeyondViewport=True)
        data = base64.b64decode(shot["data"])
        packed = b""
        at = 8  # chunks of a PNG: length, name, bytes, checksum
        while at < len(data):
            length, name = struct.unpack_from(">I4s", data, at)
            packed += data[at + 8 : at + 8 + length] if name == b"IDAT" else b""
            at += length + 12
        # The byte of the filter, which changes nothing in the first pixel, then the pixel.
        _, red, green, blue = zlib.decompress(packed)[:4]
        return red, green, blue


@contextmanager
def chromium(directory: Path) -> Iterator[Browser]:
    """A browser with an empty profile in ``directory``."""
    process = subprocess.Popen(
        [_program(), *FLAGS, f"--user-data-dir={directory}", "about:blank"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    try:
        port = _port(directory / "DevToolsActivePort", process)
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/json/list", timeout=30) as answer:
            [page] = [each for each in json.load(answer) if each["type"] == "page"]
        with connect(page["webSocketDebuggerUrl"], max_size=None) as socket:
            yield Browser(socket)
    finally:
        os.killpg(process.pid, signal.SIGTERM)
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _port(path: Path, process: subprocess.Popen[bytes]) -> int:
    """Where it listens, once it does."""
    end = time.monotonic() + GUARD_SECONDS
    while True:
        lines = path.read_text().splitlines() if path.exists() else []
        if len(lines) > 1:
            return int(lines[0])
        assert process.poll() is None and time.monotonic() < end, "chromium did not start"
        time.sleep(0.02)
