"""No matter what bytes come, the HTTP port answers or hangs up, and keeps little of them.

hypothesis makes the bytes: noise, sound requests and frames, and sound ones that were damaged.
BRAIDMQ_FUZZ_SECONDS makes it run longer.
"""

from itertools import pairwise

from hypothesis import example, given
from hypothesis import strategies as st

from braidmq.protocols.http.frames import CONTROL_BYTES_MAX
from braidmq.protocols.http.session import HEADERS_BYTES_MAX, REQUEST_LINE_BYTES_MAX
from tests.unit.protocols.http.carrier import NOW, Line, frame, frames_of

from .budget import fuzz

LIMITS = {"frame_bytes_unauthenticated_max": 300, "frame_bytes_max": 2_000}
HEAD_BYTES_MAX = REQUEST_LINE_BYTES_MAX + HEADERS_BYTES_MAX + 4
ANSWER_BYTES_MAX = 1_000

TOKENS = st.sampled_from(["", "a", "close", "Upgrade", "websocket", "0", "5", "chunked", "é", "\0"])
NAMES = st.sampled_from(
    "Host Origin Connection Upgrade Content-Length Transfer-Encoding Sec-WebSocket-Key"
    " Sec-WebSocket-Version Sec-WebSocket-Protocol X".split()
)
TARGETS = st.sampled_from(["/", "/health", "/mqtt", "*", "http://localhost/health", "//", "?"])


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A request that mostly makes sense."""
    headers = draw(st.lists(st.tuples(NAMES, TOKENS), max_size=3))
    more = "".join(f"{name}: {value}\r\n" for name, value in headers)
    method = draw(st.sampled_from(["GET", "HEAD", "POST", "PRI"]))
    version = draw(st.sampled_from(["1.1", "1.1", "1.1", "1.0", "2.0"]))
    first = f"{method} {draw(TARGETS)} HTTP/{version}\r\n"
    return f"{first}Host: localhost\r\n{more}\r\n".encode("latin-1")


FRAMES = st.builds(
    frame,
    st.sampled_from([0, 1, 2, 2, 2, 8, 9, 10, 3, 15]),
    st.one_of(st.binary(max_size=140), st.sampled_from([b"", b"\x03\xe8", b"x" * 301, b"\xff"])),
    fin=st.booleans(),
    mask=st.one_of(st.binary(min_size=4, max_size=4), st.sampled_from([b"\0\0\0\0", None])),
    rsv=st.sampled_from([0, 0, 0, 0, 1, 4]),
    size=st.sampled_from([None, None, None, 8]),
)


def damaged(draw: st.DrawFn, data: bytearray) -> bytes:
    for _ in range(draw(st.integers(0, 2))):
        at = draw(st.integers(0, max(0, len(data) - 1)))
        match draw(st.sampled_from("flip insert delete repeat".split())):
            case "flip" if data:
                data[at] ^= 1 << draw(st.integers(0, 7))
            case "insert":
                data[at:at] = draw(st.binary(max_size=8))
            case "delete":
                del data[at : at + draw(st.integers(1, 8))]
            case "repeat":
                data[at:at] = data[at : at + draw(st.integers(1, 40))]
    return bytes(data)


@st.composite
def streams(draw: st.DrawFn, parts: st.SearchStrategy[bytes]) -> bytes:
    return damaged(draw, bytearray(b"".join(draw(st.lists(parts, max_size=10)))))


CUTS = st.lists(st.integers(0, 2**16), max_size=6)


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    edges = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(edges)]


def drive(line: Line, chunks: list[bytes], check) -> bytes:
    """What a carrier does, and what must hold after every call. All that came out."""
    session = line.session
    out = b""
    for chunk in chunks:
        if session.finished:
            break
        session.receive_data(chunk, NOW)
        while True:
            said = session.data_to_send(NOW)
            out += said
            check(said)
            if session.finished or not session.backlog:
                break
            session.proceed(NOW)
    session.tick(NOW + 10**6)
    out += session.data_to_send(NOW)
    session.connection_lost(NOW)
    return out


@fuzz(share=0.5, rate=600)
@given(st.one_of(st.binary(max_size=300), streams(requests())), CUTS)
@example(b"\r\n" * 500, [])
@example(b"GET " + b"/" * 20_000, [1, 5_000])
def test_requests_are_answered_or_refused(data, cuts):
    line = Line(**LIMITS)

    def check(said: bytes) -> None:
        assert len(line.session._in) <= HEAD_BYTES_MAX + len(data)
        if not line.session.finished and line.session.reading:
            assert len(line.session._in) <= HEAD_BYTES_MAX
        assert len(said) < 17 * ANSWER_BYTES_MAX

    out = drive(line, pieces(data, cuts), check)
    assert not out or out.startswith(b"HTTP/1.1 ")
    if not line.rig.inners:
        whole = Line(**LIMITS)
        assert drive(whole, [data], lambda said: None).count(b"HTTP/1.1 ") == out.count(
            b"HTTP/1.1 "
        )


@fuzz(share=0.5, rate=800)
@given(st.one_of(st.binary(max_size=300), streams(FRAMES)), CUTS, st.booleans(), st.booleans())
@example(b"\x82\xff" + b"\x7f" * 8, [], False, False)
@example(b"\x82\xff" + b"\xff" * 8, [3], True, True)
def test_frames_are_taken_or_refused(data, cuts, known, text):
    line = Line(takes_text=text, **LIMITS)
    opened = line.open()
    if known:
        line.inner.host.authenticated()

    def check(said: bytes) -> None:
        assert line.session._websocket is not None
        frames = line.session._websocket._frames
        assert len(frames) < 14 + CONTROL_BYTES_MAX or frames.more
        assert len(said) < 2 * (CONTROL_BYTES_MAX + 2) + 1

    out = drive(line, pieces(data, cuts), check)
    assert opened.startswith(b"HTTP/1.1 101 ")
    for first, payload in frames_of(out):
        assert first in (0x8A, 0x88) and len(payload) <= CONTROL_BYTES_MAX
    assert len(line.inner.got) <= len(data)
    slow = Line(takes_text=text, **LIMITS)
    slow.open()
    if known:
        slow.inner.host.authenticated()
    drive(slow, [bytes([byte]) for byte in data], lambda said: None)
    if not text:  # of bad text, more or less may have been handed on
        assert slow.inner.got == line.inner.got
