"""Replays what the three specifications say of frames, section by section, on our codec.

``frames/VERSION.txt`` has the cases of a version. Each opens with `== SECTION: what is shown`, and
then has, line by line:

    > destination:/queue/a     # sent, and an LF with it, unless `^@` (a NUL) ends it; `^M` is a CR
    < SEND {"a": "b"} text     # the next frame that is read: headers in JSON, body as in Python
    beats 2                    # so many ends of lines stood between frames
    x Bad content-length       # what is wrong: the `message` of the ERROR
    limit 40 frame bytes       # or `header bytes`, or `headers`
    ! MESSAGE {"a": "b"} text  # this frame is written,
    = a:b                      # and these are its lines, in the notation of `>`

What is sent is replayed in one piece, and byte by byte. The comments above are not of the notation.
"""

import ast
import json
from collections.abc import Iterator
from pathlib import Path

import pytest

from braidmq.protocols.stomp.frames import Frame, FrameBuffer, Malformed, Version, encode

HERE = Path(__file__).parent / "frames"
LIMITS = {"frame bytes": 10_000, "headers": 20, "header bytes": 1_000}
# Their headings; the part of 1.0 that has none is called after the frame that it explains.
SECTIONS = {
    "1.0": {"CONNECT", "CONNECTED", "SEND", "SUBSCRIBE", "MESSAGE", "ERROR", "Augmented BNF"},
    "1.1": {
        *("STOMP Frames", "Value Encoding", "Body", "Size Limits", "Repeated Header Entries"),
        *("CONNECT or STOMP Frame", "Heart-beating"),
    },
    "1.2": {
        *("STOMP Frames", "Value Encoding", "Body", "Header content-length", "Size Limits"),
        *("Repeated Header Entries", "CONNECT or STOMP Frame", "Heart-beating", "Augmented BNF"),
    },
}

Step = tuple[str, str]


def read_cases(text: str) -> Iterator[tuple[str, list[Step]]]:
    """The title of each case, and its steps: their sign, and what follows it."""
    title = ""
    steps: list[Step] = []
    for line in text.splitlines():
        sign, _, rest = line.partition(" ")
        if sign == "==":
            if title:
                yield title, steps
            title, steps = rest, []
        elif sign and sign != "#":
            assert title and sign in ("<", ">", "x", "!", "=", "beats", "limit"), line
            steps.append((sign, rest))
    yield title, steps


def bytes_of(lines: list[str]) -> bytes:
    text = "".join(line if line.endswith("^@") else f"{line}\n" for line in lines)
    return text.replace("^@", "\0").replace("^M", "\r").encode()


def frame_of(text: str) -> Frame:
    """`SEND {"a": "b"} text` as a frame."""
    command, _, rest = text.partition(" ")
    headers, end = json.JSONDecoder().raw_decode(rest)
    body = rest[end:].removeprefix(" ")
    return Frame(command, headers, ast.literal_eval(f'b"{body}"'))


def replay(version: Version, steps: list[Step], piece_bytes: int) -> None:
    """Everything that is sent, and then what has come of it."""
    limits = dict(LIMITS)
    for sign, rest in steps:
        if sign == "limit":
            number, _, name = rest.partition(" ")
            assert name in limits
            limits[name] = int(number)
    buffer = FrameBuffer(
        frame_bytes_max=limits["frame bytes"],
        header_lines_max=limits["headers"],
        header_bytes_max=limits["header bytes"],
        version=version,
    )
    data = bytes_of([rest for sign, rest in steps if sign == ">"])
    found: list[Step | Frame] = []
    try:
        for at in range(0, len(data), piece_bytes):
            buffer.feed(data[at : at + piece_bytes])
            while (frame := buffer.next_frame()) is not None:
                found.append(frame)
        assert len(buffer) == 0
    except Malformed as error:
        found.append(("x", error.message))
    expected = [
        frame_of(rest) if sign == "<" else (sign, rest) for sign, rest in steps if sign in "<x"
    ]
    assert found == expected
    beats = [int(rest) for sign, rest in steps if sign == "beats"]
    assert buffer.beats == sum(beats)


def check_written(version: Version, steps: list[Step]) -> None:
    """The frame that is to be written, if there is one, is so byte by byte."""
    written = [frame_of(rest) for sign, rest in steps if sign == "!"]
    data = b"".join(encode(f.command, f.headers.items(), f.body, version) for f in written)
    # An LF goes behind the NUL, as ActiveMQ and RabbitMQ have it; old clients wait for it.
    assert data == bytes_of([rest for sign, rest in steps if sign == "="]) + b"\n" * len(written)


CASES = [
    pytest.param(Version(path.stem), steps, id=f"{path.stem} {title}")
    for path in sorted(HERE.glob("*.txt"))
    for title, steps in read_cases(path.read_text())
]


@pytest.mark.parametrize("piece_bytes", [1, 10_000], ids=["bytewise", "whole"])
@pytest.mark.parametrize(("version", "steps"), CASES)
def test_case(version, steps, piece_bytes):
    replay(version, steps, piece_bytes)
    check_written(version, steps)


@pytest.mark.parametrize("version", Version)
def test_every_section_about_frames_has_a_case(version):
    titles = [title for title, _ in read_cases((HERE / f"{version}.txt").read_text())]
    assert {title.partition(": ")[0] for title in titles} == SECTIONS[version]
    assert len(titles) == len(set(titles))


@pytest.mark.parametrize(
    "steps",
    [
        "> SEND\n>\n> ^@\n",
        "> SEND\n>\n> ^@\n< SEND {} x\n",
        "> SEND\n>\n> ^@\n< SEND {}\nbeats 1\n",
        "> SEND\n>\n> ^@\n< SEND {}\nx Not a header\n",
        "> SEND\n>\n",
        "> send\n>\n> ^@\nx Not a header\n",
        "! SEND {}\n= SEND\n= ^@\n",
    ],
)
def test_a_case_that_is_not_so_fails(steps):
    [(_, found)] = read_cases(f"== Body: wrong\n{steps}")
    with pytest.raises(AssertionError):
        replay(Version.V12, found, 1)
        check_written(Version.V12, found)
