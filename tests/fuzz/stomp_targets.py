"""No matter what bytes come, the STOMP parser gives frames, asks for more, or says what is wrong.

The functions here are fed by hypothesis and by atheris.
"""

from collections.abc import Iterable
from itertools import pairwise

from braidmq.protocols.stomp.frames import Frame, FrameBuffer, Malformed, Version, encode

__all__ = ["FRAME_BYTES_MAX", "HEADER_BYTES_MAX", "HEADER_LINES_MAX", "check_frames"]

# Small, so that the fuzzer reaches what they forbid.
FRAME_BYTES_MAX = 600
HEADER_LINES_MAX = 8
HEADER_BYTES_MAX = 300
ERROR_CHARACTERS_MAX = 1_000

Outcome = tuple[list[Frame], int, str]


def cut_into_frames(chunks: Iterable[bytes], version: Version) -> Outcome:
    """What comes out of a FrameBuffer: frames, heart-beats, and the message of a Malformed.

    A CONNECT is taken to agree on a version, as a session does.
    """
    buffer = FrameBuffer(FRAME_BYTES_MAX, HEADER_LINES_MAX, HEADER_BYTES_MAX)
    found: list[Frame] = []
    for chunk in chunks:
        buffer.feed(chunk)
        try:
            while (frame := buffer.next_frame()) is not None:
                found.append(frame)
                if frame.command == "CONNECT":
                    buffer.version = version
        except Malformed as error:
            assert len(str(error)) < ERROR_CHARACTERS_MAX and str(error).isprintable()
            assert buffer.next_frame() is None and len(buffer) == 0
            return found, buffer.beats, error.message
        assert len(buffer) <= FRAME_BYTES_MAX, "it waits for more than a frame"
    return found, buffer.beats, ""


def check_frames(data: bytes, cuts: list[int], version: Version) -> Outcome:
    """However the bytes are cut, the same comes out, and it can be written and read again."""
    whole = cut_into_frames([data], version)
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    assert cut_into_frames([data[a:b] for a, b in pairwise(edges)], version) == whole
    for frame in whole[0]:
        assert frame.command.isalpha() and len(frame.headers) <= HEADER_LINES_MAX
        check_again(frame)
    return whole


def check_again(frame: Frame) -> None:
    """What was read can be written for every version, and is the same in the latest."""
    for version in Version:
        headers = [(n, v) for n, v in frame.headers.items() if n != "content-length"]
        data = encode(frame.command, headers, frame.body, version)
        buffer = FrameBuffer(len(data), len(headers) + 1, len(data), version)
        buffer.feed(data)
        again = buffer.next_frame()
        assert again is not None and buffer.next_frame() is None and len(buffer) == 0
        assert (again.command, again.body) == (frame.command, frame.body)
        if version is Version.V12 and frame.command not in ("CONNECT", "STOMP", "CONNECTED"):
            again.headers.pop("content-length", None)
            assert again.headers == dict(headers)
