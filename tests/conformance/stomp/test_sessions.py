"""Replays what the three specifications say of a server, section by section, on real sessions.

``sessions/VERSION.txt`` has the cases of a version, ``sessions/rabbitmq.txt`` those of RabbitMQ's
documentation, in its dialect. Each opens with `== SECTION: what is shown`, and then has, line by
line:

    a > SEND {"destination": "/queue/a"} text   # client a sends this frame; a client begins here
    a < RECEIPT {"receipt-id": "1"}             # the next frame that it gets has these headers,
    a < MESSAGE {"destination": "/queue/a", "ack": "$x"} text   # "$x": any value, known as $x from
    a > ACK {"id": "$x"}                        # there on; and has this body, unless none is given
    a <                                         # it gets nothing more
    a x                                         # its connection was ended

Clients do not connect by themselves. The comments above are not of the notation.
"""

import ast
import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from braidmq.protocols.stomp.frames import Frame
from tests.stomp_peer import Peer, World

HERE = Path(__file__).parent / "sessions"
# Their headings that say what a server does.
SECTIONS = {
    "1.0": {
        *("CONNECT", "CONNECTED", "SEND", "SUBSCRIBE", "UNSUBSCRIBE", "BEGIN", "COMMIT", "ACK"),
        *("ABORT", "DISCONNECT", "MESSAGE", "RECEIPT", "ERROR"),
    },
    "1.1": {
        *("CONNECT or STOMP Frame", "CONNECTED Frame", "Protocol Negotiation", "Heart-beating"),
        *("SEND", "SUBSCRIBE", "SUBSCRIBE ack Header", "UNSUBSCRIBE", "ACK", "NACK", "BEGIN"),
        *("COMMIT", "ABORT", "DISCONNECT", "MESSAGE", "RECEIPT", "ERROR", "Header receipt"),
    },
    "1.2": {
        *("CONNECT or STOMP Frame", "CONNECTED Frame", "Protocol Negotiation", "Heart-beating"),
        *("SEND", "SUBSCRIBE", "SUBSCRIBE id Header", "SUBSCRIBE ack Header", "UNSUBSCRIBE"),
        *("ACK", "NACK", "BEGIN", "COMMIT", "ABORT", "DISCONNECT", "MESSAGE", "RECEIPT", "ERROR"),
        *("Header receipt", "Connection Lingering"),
    },
}
LINE = re.compile(r"(\w) ([<>x])(?: ([A-Z]+)(?: (\{.*?\}))?(?: (.*))?)?")

Step = tuple[str, ...]  # who, sign, command, headers, body


def read_cases(text: str) -> Iterator[tuple[str, list[Step]]]:
    """The title of each case, and its steps."""
    title = ""
    steps: list[Step] = []
    for line in text.splitlines():
        if line.startswith("== "):
            if title:
                yield title, steps
            title, steps = line[3:], []
        elif line and not line.startswith("#"):
            found = LINE.fullmatch(line)
            assert found and title, line
            steps.append(tuple(part or "" for part in found.groups()))
    yield title, steps


def body_of(text: str) -> bytes:
    return ast.literal_eval(f'b"""{text}"""') if text else b""


class Replay:
    """One case."""

    def __init__(self, **options: str) -> None:
        self.options = options
        self.world = World()
        self.clients: dict[str, Peer] = {}
        self.came: dict[str, list[Frame]] = {}
        self.known: dict[str, str] = {}

    def fill(self, value: str) -> str:
        return self.known.get(value, value)

    def client(self, name: str) -> Peer:
        if name not in self.clients:
            self.clients[name] = self.world.peer(connect=False, **self.options)
            self.came[name] = []
        return self.clients[name]

    def read(self) -> None:
        for name, peer in self.clients.items():
            self.came[name] += peer.read()

    def do(self, step: Step) -> None:
        name, sign, command, headers, body = step
        peer = self.client(name)
        if sign == ">":
            given = {key: self.fill(value) for key, value in json.loads(headers or "{}").items()}
            peer.write(command, given, body_of(body))
            self.read()
        elif sign == "x":
            assert peer.is_lost
        elif not command:
            assert self.came[name] == []
        else:
            frame = self.came[name].pop(0)
            assert frame.command == command, frame
            for key, value in json.loads(headers or "{}").items():
                if value.startswith("$") and value not in self.known:
                    self.known[value] = frame.headers[key]
                assert frame.headers.get(key, "") == self.fill(value), frame
            if body:
                assert frame.body == body_of(body), frame


CASES = [
    (version, title, steps)
    for version in SECTIONS
    for title, steps in read_cases((HERE / f"{version}.txt").read_text(encoding="utf-8"))
]


@pytest.mark.parametrize(
    ("version", "title", "steps"), CASES, ids=[f"{v} {t}" for v, t, _ in CASES]
)
def test_a_server_does_what_the_specification_says(version, title, steps):
    replay = Replay()
    for step in steps:
        replay.do(step)


@pytest.mark.parametrize("version", SECTIONS)
def test_every_section_that_is_about_servers_is_shown(version):
    assert {title.partition(":")[0] for each, title, _ in CASES if each == version} == SECTIONS[
        version
    ]


RABBITMQ_CASES = list(read_cases((HERE / "rabbitmq.txt").read_text(encoding="utf-8")))


@pytest.mark.parametrize(
    "steps",
    [steps for _, steps in RABBITMQ_CASES],
    ids=[title for title, _ in RABBITMQ_CASES],
)
def test_destinations_are_what_the_documentation_of_rabbitmq_says(steps):
    replay = Replay(dialect="rabbitmq")
    for step in steps:
        replay.do(step)
