"""No matter what bytes come, a STOMP stream is cut into the same frames, or refused the same way.

hypothesis makes the bytes: noise, sound frames, and sound frames that were damaged.
BRAIDMQ_FUZZ_SECONDS makes it run longer.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.protocols.stomp.frames import Frame, Version, encode

from .budget import fuzz
from .stomp_targets import FRAME_BYTES_MAX, HEADER_BYTES_MAX, HEADER_LINES_MAX, check_frames

EOL = st.sampled_from([b"\n", b"\n", b"\r\n"])
COMMANDS = st.sampled_from(
    [b"CONNECT", b"STOMP", b"SEND", b"SEND", b"ACK", b"A" * 33, b"Send", b""]
)
PARTS = st.one_of(
    st.text(max_size=9).map(str.encode),
    st.sampled_from([b"", b"a", b" a ", b"receipt", b"destination", b"\\c", b"\\t", b"\\r", b"\\"]),
    st.sampled_from([b"\r", b"\0", b"\xff", b":", b"x" * HEADER_BYTES_MAX]),
)
LENGTHS = st.sampled_from([b"0", b"1", b"5", b"-1", b" 2", b"600", b"9" * 40, b"x"])
LINES = st.one_of(
    st.tuples(PARTS, PARTS).map(b":".join),
    LENGTHS.map(b"content-length:".__add__),
    st.sampled_from([b"no colon", b"k:v", b"k:w"]),
)
BODIES = st.one_of(
    st.binary(max_size=9),
    st.sampled_from([b"", b"\n", b"\n\n", b"SEND\n\n", b"x" * FRAME_BYTES_MAX]),
)
VERSIONS = st.sampled_from(Version)
CUTS = st.lists(st.integers(0, 3_000), max_size=9)


@st.composite
def loose_frames(draw: st.DrawFn) -> bytes:
    """Something like a frame."""
    lines = [draw(COMMANDS), *draw(st.lists(LINES, max_size=HEADER_LINES_MAX + 2)), b""]
    return b"".join(line + draw(EOL) for line in lines) + draw(BODIES) + b"\0"


@st.composite
def sound_frames(draw: st.DrawFn) -> bytes:
    """A frame, perhaps with heart-beats before it."""
    headers = draw(st.lists(st.tuples(st.text(min_size=1, max_size=5), st.text(max_size=9))))
    body = draw(st.binary(max_size=50))
    beats = draw(st.sampled_from([b"", b"\n", b"\r\n\n"]))
    return beats + encode("SEND", headers[:7], body, Version.V12)


@fuzz(0.3, 1_500)
@given(data=st.binary(max_size=400), cuts=CUTS, version=VERSIONS)
def test_noise(data, cuts, version):
    check_frames(data, cuts, version)
    check_frames(b"CONNECT\n\n\0" + data, cuts, version)


@fuzz(0.4, 270)
@given(
    data=st.lists(loose_frames() | sound_frames(), max_size=5).map(b"".join),
    cuts=CUTS,
    version=VERSIONS,
)
def test_what_looks_like_frames(data, cuts, version):
    check_frames(data, cuts, version)
    check_frames(b"CONNECT\n\n\0" + data, [*range(len(data))], version)


@fuzz(0.3, 200)
@given(
    data=st.lists(sound_frames(), min_size=1, max_size=5).map(b"".join),
    changes=st.lists(st.tuples(st.integers(0, 2_000), st.integers(0, 255)), max_size=3),
    cuts=CUTS,
    version=VERSIONS,
)
def test_damage(data, changes, cuts, version):
    damaged = bytearray(b"CONNECT\n\n\0" + data)
    for at, byte in changes:
        damaged[at % len(damaged)] = byte
    check_frames(bytes(damaged), cuts, version)


@pytest.mark.parametrize("version", Version)
def test_the_checks_see_frames(version):
    """Were everything refused, the tests above would show nothing."""
    sound = b"\nCONNECT\n\n\0\nSEND\na:b\n\nx\0\nsend\n"
    frames, beats, message = check_frames(sound, [*range(len(sound))], version)
    assert frames == [Frame("CONNECT", {}), Frame("SEND", {"a": "b"}, b"x")]
    assert (beats, message) == (3, "Not a STOMP frame")
