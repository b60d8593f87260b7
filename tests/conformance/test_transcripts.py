"""Replays the conversations in transcripts/, byte by byte.

A file opens with `#` lines that say what it shows, then `version: 3.1.1` (or `5`, `3.1`) and, where
it shows normative statements, `v311:` or `v5:` with their ids. Each further line is one step:

    > 10 0e 00 04 ...   # sent, as it stands; several lines that follow are one write each
    < 20 02 00 00       # the next packet, exactly; `..` is any byte, `*` is any rest of the packet
    < close             # the broker closes, and sends nothing before
    > close             # the client drops the connection without a word
    b> c0 00            # another connection; without a letter it is `a`
    < 40 02 i1 i2       # bytes that the broker chooses: from here on `i1` and `i2` are these

A line opens its connection when it is the first of it. Client ids and topics begin with the name
of the file, so that the transcripts can share a broker.
"""

from pathlib import Path

import pytest

from .client import Client, Closed
from .packets import V5, V31, V311

TRANSCRIPTS = sorted((Path(__file__).parent / "transcripts").glob("*.txt"))
VERSIONS = {"3.1": V31, "3.1.1": V311, "5": V5}
HEADERS = {"version", "v311", "v5"}


def read_transcript(text: str) -> tuple[int, list[tuple[str, str, list[str], str]]]:
    """The version, and the steps: connection, direction, bytes (or `close`), the line itself."""
    version, steps = 0, []
    for line in text.splitlines():
        code = line.partition("#")[0].strip()
        name, colon, value = code.partition(":")
        if colon and name in HEADERS:
            version = VERSIONS[value.strip()] if name == "version" else version
        elif code:
            head, *data = code.split()
            assert head[-1] in "<>" and len(head) < 3 and data, f"not a step: {line}"
            steps.append((head[:-1] or "a", head[-1], data, line))
    assert version, "no version"
    return version, steps


def matches(pattern: list[str], raw: bytes, chosen: dict[str, int]) -> bool:
    """Whether a packet is what a line says; the names in it are then in `chosen`."""
    if pattern[-1] == "*":
        pattern = pattern[:-1]
        raw = raw[: len(pattern)]
    return len(pattern) == len(raw) and all(
        wanted == ".." or byte_of(wanted, chosen, found) == found
        for wanted, found in zip(pattern, raw, strict=True)
    )


def byte_of(text: str, chosen: dict[str, int], found: int | None = None) -> int:
    """A byte in hex, or one that the broker chose, now or before."""
    if text[0] not in "0123456789abcdef":
        return chosen[text] if found is None else chosen.setdefault(text, found)
    return int(text, 16)


def replay(dial, text: str) -> None:
    version, steps = read_transcript(text)
    clients: dict[str, Client] = {}
    chosen: dict[str, int] = {}
    for name, direction, data, line in steps:
        if name not in clients:
            clients[name] = dial(version)
        client = clients[name]
        if data == ["close"] and direction == ">":
            client.close()
        elif direction == ">":
            client.send(bytes(byte_of(each, chosen) for each in data))
        else:
            try:
                raw = client.read().raw
            except Closed:
                raw = b""
            if not raw and not client.strict and data[0] in ("20", "e0"):
                continue  # it closes, but does not say why, as it SHOULD
            if data == ["close"]:
                assert raw == b"", f"{line}: instead came {raw.hex(' ')}"
            else:
                assert raw and matches(data, raw, chosen), (
                    f"{line}: instead came {raw.hex(' ') or 'close'}"
                )


@pytest.mark.parametrize("path", TRANSCRIPTS, ids=[path.stem for path in TRANSCRIPTS])
def test_transcript(dial, path):
    replay(dial, path.read_text())


@pytest.mark.parametrize(
    ("pattern", "raw", "expected"),
    [
        ("20 02 00 00", b"\x20\2\0\0", True),
        ("20 02 00 00", b"\x20\2\0\1", False),
        ("20 02 00 00", b"\x20\2\0", False),
        ("20 .. 00 00", b"\x20\7\0\0", True),
        ("20 .. 00 00 *", b"\x20\7\0\0\1\2", True),
        ("20 .. 00 00 *", b"\x20\7\0\1\1\2", False),
        ("20 02 00 00", b"\x20\2\0\0\0", False),
        ("40 02 i1 i2", b"\x40\2\7\3", True),
        ("40 02 i1 i2", b"\x40\2\6\3", False),
        ("40 02 i2 i2", b"\x40\2\6\3", False),
    ],
)
def test_a_line_is_compared_exactly(pattern, raw, expected):
    assert matches(pattern.split(), raw, {"i1": 7}) is expected


@pytest.mark.parametrize("text", ["> 10", "version: 5\nhello", "version: 5\n>"])
def test_a_transcript_that_cannot_be_read_fails(text):
    with pytest.raises(AssertionError):
        read_transcript(text)


@pytest.mark.parametrize("wrong", ["< 20 02 00 01", "< close"])
def test_a_transcript_that_is_not_so_fails(dial, wrong):
    text = f"version: 3.1.1\n> 10 10 00 04 4d 51 54 54 04 02 00 3c 00 04 77 72 6f 6e\n{wrong}\n"
    with pytest.raises(AssertionError):
        replay(dial, text)
