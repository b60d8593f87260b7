"""STOMP frames: what is read, what is refused and how it is said, and what is written.

The two other implementations here are clients; they are asked only where they are right.
"""

import tracemalloc
import warnings
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.protocols.stomp import frames
from braidmq.protocols.stomp.frames import Frame, FrameBuffer, Malformed, Version, encode

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # stomper has escapes in plain strings
    import stomp.utils
    import stomper.stomp_10
    import stomper.stomp_11

V10, V11, V12 = Version
ALL = pytest.mark.parametrize("version", Version)
ESCAPING = pytest.mark.parametrize("version", [V11, V12])


def buffer_of(data=b"", version=V12, frame=4_000, lines=20, header=1_000):
    buffer = FrameBuffer(frame, lines, header, version)
    buffer.feed(data)
    return buffer


def read(data, version=V12, **limits):
    """All frames of some bytes, with nothing left over."""
    buffer = buffer_of(data, version, **limits)
    found = list(iter(buffer.next_frame, None))
    assert len(buffer) == 0
    return found


def wrong(data, version=V12, **limits):
    """What Malformed says about the last of these frames."""
    buffer = buffer_of(data, version, **limits)
    with pytest.raises(Malformed) as caught:
        while buffer.next_frame():
            pass
    return caught.value


def read_in_pieces(data, cuts, version):
    buffer = buffer_of(version=version)
    found: list[Frame] = []
    for begin, end in pairwise(sorted({0, len(data), *cuts})):
        buffer.feed(data[begin:end])
        found += iter(buffer.next_frame, None)
    assert len(buffer) == 0
    return found, buffer.beats


# --- reading ---


@ALL
@pytest.mark.parametrize("eol", [b"\n", b"\r\n"])
def test_a_frame_is_read(version, eol):
    data = b"SEND\ndestination:/queue/a\nk:v\n\n".replace(b"\n", eol) + b"hello\r\n\0"
    headers = {"destination": "/queue/a", "k": "v"}
    assert read(data, version) == [Frame("SEND", headers, b"hello\r\n")]


@ALL
def test_line_ends_may_be_mixed(version):
    assert read(b"SEND\na:1\r\nb:2\n\r\nx\0", version) == [
        Frame("SEND", {"a": "1", "b": "2"}, b"x")
    ]
    assert read(b"SEND\r\na:1\n\nx\0", version) == [Frame("SEND", {"a": "1"}, b"x")]


@ALL
def test_a_frame_needs_neither_headers_nor_a_body(version):
    assert read(b"DISCONNECT\n\n\0", version) == [Frame("DISCONNECT", {}, b"")]
    assert read(b"DISCONNECT\r\n\r\n\0", version) == [Frame("DISCONNECT", {}, b"")]


def test_content_length_counts_nuls_and_empty_lines():
    body = b"a\0\n\nSEND\n\n\0"
    head = b"SEND\ncontent-length:%d\n\n" % len(body)
    assert [each.body for each in read((head + body + b"\0") * 3)] == [body] * 3
    assert read(b"SEND\ncontent-length:0\n\n\0")[0].body == b""


@ALL
@pytest.mark.parametrize("text", ["3", "003", " 3 ", "0" * 50 + "3"])
def test_content_length_may_be_written_in_several_ways(version, text):
    [frame] = read(f"SEND\ncontent-length:{text}\n\na\0b\0".encode(), version)
    assert frame.body == b"a\0b"


def test_line_ends_between_frames_are_heart_beats():
    buffer = buffer_of(b"\n\r\nA\n\n\0\n\n\nB\n\n\0\n")
    assert [frame.command for frame in iter(buffer.next_frame, None)] == ["A", "B"]
    assert buffer.beats == 6
    buffer.feed(b"\r")
    assert buffer.next_frame() is None and buffer.beats == 6
    buffer.feed(b"\n")
    assert buffer.next_frame() is None and buffer.beats == 7 and len(buffer) == 0


@ALL
def test_the_first_of_repeated_headers_counts(version):
    assert read(b"SEND\nfoo:World\nfoo:Hello\n\n\0", version)[0].headers == {"foo": "World"}


@ALL
def test_a_value_may_have_colons_and_may_be_empty(version):
    [frame] = read(b"SEND\nurl:http://a:1/\nnone:\n\n\0", version)
    assert frame.headers == {"url": "http://a:1/", "none": ""}


def test_blanks_are_trimmed_in_1_0_only():
    data = b"SEND\n a : b c\t\na:2\n\n\0"
    assert read(data, V10)[0].headers == {"a": "b c"}
    for version in (V11, V12):
        assert read(data, version)[0].headers == {" a ": " b c\t", "a": "2"}


@pytest.mark.parametrize(
    ("version", "raw", "value"),
    [
        (V10, r"\n\c\\\r\t", r"\n\c\\\r\t"),
        (V11, r"\n\c\\", "\n:\\"),
        (V12, r"\n\c\\\r", "\n:\\\r"),
        (V12, r"\\n\\\c", "\\n\\:"),
    ],
)
def test_escapes_mean_what_the_version_says(version, raw, value):
    name = value if version > V10 else "k"
    data = f"SEND\n{raw if version > V10 else 'k'}:{raw}\n\n\0".encode()
    assert read(data, version)[0].headers == {name: value}


@ALL
@pytest.mark.parametrize("command", ["CONNECT", "STOMP", "CONNECTED"])
def test_nothing_is_unescaped_before_a_version_is_agreed_on(version, command):
    raw = r"a\c\tb:c" + "\\"
    data = f"{command}\npasscode:{raw}\n\n\0".encode()
    assert read(data, version)[0].headers == {"passcode": raw}
    assert encode(command, [("passcode", raw)], version=version) == data + b"\n"


def test_the_version_may_change_between_frames():
    buffer = buffer_of(b"STOMP\na:\\t\n\n\0SEND\na:\\c\n\n\0", V10)
    assert buffer.next_frame() == Frame("STOMP", {"a": "\\t"})
    buffer.version = V11
    assert buffer.next_frame() == Frame("SEND", {"a": ":"})


# --- what is wrong ---


@ESCAPING
@pytest.mark.parametrize("escape", [r"\t", r"\N", r"\:", "\\", "\\\N{SNOWMAN}"])
def test_an_undefined_escape_is_fatal(version, escape):
    error = wrong(f"SEND\nreceipt:7\nkey:{escape}\n\n\0".encode(), version)
    assert error.message == "Undefined escape in a header"
    assert error.receipt == "7"
    assert f"STOMP {version}" in error.detail and "key" in error.detail


def test_an_escaped_carriage_return_is_of_1_2():
    assert wrong(b"SEND\na:\\r\n\n\0", V11).message == "Undefined escape in a header"
    error = wrong(b"SEND\na:b\rc\n\n\0", V12)
    assert error.message == "A carriage return in a header"
    assert read(b"SEND\na:b\rc\n\n\0", V11)[0].headers == {"a": "b\rc"}


@ALL
@pytest.mark.parametrize("line", [b"no colon", b":no name", b"a:1\n:b"])
def test_a_line_that_is_no_header(version, line):
    error = wrong(b"SEND\nreceipt:r-1\n" + line + b"\n\n\0", version)
    assert (error.message, error.receipt) == ("Not a header", "r-1")


@ALL
@pytest.mark.parametrize(
    "data",
    [
        b"GET / HTTP/1.1\r\nhost:a\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01",
        b"send\n",
        b" SEND\n",
        b"SEND \n",
        b"\0",
        b"\rSEND\n",
        b"A" * 33,
        b"SEND:a\n\n\0",
    ],
)
def test_what_is_no_command_is_known_from_its_first_bytes(version, data):
    assert wrong(data, version).message == "Not a STOMP frame"
    assert wrong(b"ACK\n\n\0\n" + data, version).message == "Not a STOMP frame"


def test_the_longest_command():
    assert read(b"A" * frames.COMMAND_BYTES_MAX + b"\n\n\0")[0].command == "A" * 32


@pytest.mark.parametrize("data", [b"DISCONNECT\n\0", b"SEND\na:\0b\n\n\0", b"SEND\na:1\n\0\n\n\0"])
def test_a_frame_that_ends_among_its_headers(data):
    assert wrong(data).message == "Frame without an empty line"


@ALL
def test_headers_must_be_utf_8(version):
    assert read("SEND\nä:ö\n\n\0".encode(), version)[0].headers == {"ä": "ö"}
    assert wrong("SEND\nä:ö\n\n\0".encode("latin-1"), version).message == "Headers must be UTF-8"


@pytest.mark.parametrize("text", ["", "-1", "+1", "1_0", "0x1", "1.0", "ten", "٣", "²"])
def test_a_content_length_that_is_no_number(text):
    error = wrong(f"SEND\nreceipt:a\\cb\ncontent-length:{text}\n\nx\0".encode())
    assert (error.message, error.receipt) == ("Bad content-length", "a:b")


def test_a_content_length_that_is_wrong_says_what_it_counts():
    body = "größe".encode()
    error = wrong(b"SEND\nreceipt:1\ncontent-length:5\n\n" + body + b"\0")
    assert (error.message, error.receipt) == ("Wrong content-length", "1")
    assert "not characters" in error.detail


@pytest.mark.parametrize("text", ["4000", "9" * 18, "9" * 5_000])
def test_a_content_length_that_is_too_large_is_refused_at_once(text):
    data = f"SEND\nreceipt:1\ncontent-length:{text}\n\n".encode()
    error = wrong(data, header=10_000)
    assert (error.message, error.receipt) == ("Frame too large", "1")
    assert "4000 bytes" in error.detail


def test_after_what_was_wrong_nothing_more_comes():
    buffer = buffer_of(b"SEND\na\n\n\0SEND\n\n\0")
    with pytest.raises(Malformed):
        buffer.next_frame()
    buffer.feed(b"SEND\n\n\0" * 100)
    assert buffer.next_frame() is None and len(buffer) == 0


def test_a_receipt_that_cannot_be_known_is_left_out():
    assert wrong(b"SEND\nreceipt:a\\tb\n\n\0").receipt == ""
    assert wrong(b"SEND\nabc\n\n\0").receipt == ""


def test_what_is_quoted_of_the_peer_is_short_and_on_one_line():
    detail = wrong(b"SEND\n" + b"\x1b\r" * 400 + b"\n\n\0", V11).detail
    assert len(detail) < 300 and detail.isprintable()
    assert wrong(b"SEND\na:\\\1\n\n\0").detail.isprintable()
    assert r'not "\t"; the header is "a:\t".' in wrong(b"SEND\na:\\t\n\n\0").detail


# --- limits ---


def test_a_frame_has_at_most_so_many_bytes():
    for head in (b"SEND\n\n", b"SEND\ncontent-length:100\n\n"):
        data = head + b"x" * 100 + b"\0"
        assert len(read(data * 2, frame=len(data))) == 2
        assert wrong(data, frame=len(data) - 1).message == "Frame too large"
    assert wrong(b"SEND\n\n" + b"x" * 94, frame=100).message == "Frame too large"


def test_headers_have_at_most_so_many_bytes():
    data = b"SEND\nkey:" + b"x" * 90 + b"\n\n\0"
    assert len(read(data * 2, header=len(data) - 1)) == 2
    assert wrong(data, header=len(data) - 2).message == "Headers too large"
    assert wrong(b"SEND\nkey:" + b"x" * 91, header=100).message == "Headers too large"


def test_there_are_at_most_so_many_headers():
    data = b"SEND\n" + b"a:1\n" * 20 + b"receipt:1\n\n\0"
    assert len(read(data, lines=21)) == 1
    error = wrong(data, lines=20)
    assert (error.message, error.receipt) == ("Too many headers", "1")


def test_nothing_is_made_from_a_length_that_was_only_declared():
    buffer = FrameBuffer(2**40, 10, 1_000)
    tracemalloc.start()
    try:
        buffer.feed(b"SEND\ncontent-length:1000000000\n\nabc")
        assert buffer.next_frame() is None
        assert tracemalloc.get_traced_memory()[1] < 50_000
    finally:
        tracemalloc.stop()


def test_headers_that_drip_in_are_not_searched_again_and_again(monkeypatch):
    looked_at = 0

    def find(data, begin, end):
        nonlocal looked_at
        looked_at += min(len(data), end) - begin
        return search(data, begin, end)

    search = frames._find_blank_line
    monkeypatch.setattr(frames, "_find_blank_line", find)
    data = b"SEND\nkey:" + b"x" * 5_000 + b"\r\n\r\n\0"
    buffer = buffer_of(header=10_000, frame=10_000)
    for byte in data[:-1]:
        buffer.feed(bytes([byte]))
        assert buffer.next_frame() is None
    buffer.feed(data[-1:])
    assert buffer.next_frame() is not None
    assert looked_at < 4 * len(data)


def test_a_body_that_drips_in_is_whole():
    for head in (b"SEND\n\n", b"SEND\ncontent-length:3000\n\n"):
        data = head + b"x" * 3_000 + b"\0"
        assert read_in_pieces(data * 2, range(2 * len(data)), V12) == (read(data * 2), 0)


# --- writing ---


def test_content_length_is_there_with_a_body():
    assert encode("SEND", [("a", "b")], b"xyz") == b"SEND\na:b\ncontent-length:3\n\nxyz\0\n"
    assert encode("RECEIPT", [("receipt-id", "1")]) == b"RECEIPT\nreceipt-id:1\n\n\0\n"
    assert encode("SEND", [], b"xyz", content_length=False) == b"SEND\n\nxyz\0\n"
    assert encode("SEND", [], b"x\0", content_length=False) == b"SEND\ncontent-length:2\n\nx\0\0\n"


@pytest.mark.parametrize(
    ("version", "name", "value"),
    [
        (V10, r"a_b\ c", r"x:y\ z" + "\r "),
        (V11, r"a\cb\\\nc", r"x\cy\\\nz" + "\r "),
        (V12, r"a\cb\\\nc", r"x\cy\\\nz\r "),
    ],
)
def test_headers_are_escaped_as_the_version_says(version, name, value):
    line = frames.encode_headers([("a:b\\\nc", "x:y\\\nz\r\0")], version)
    assert line.decode() == f"{name}:{value}\n"
    assert frames.escape("x:y\\\nz\r\0", version) == value


@ALL
@given(headers=st.lists(st.tuples(st.text(min_size=1), st.text()), max_size=5))
def test_no_header_makes_another_one_or_ends_the_frame(version, headers):
    data = encode("MESSAGE", headers, b"body", version)
    assert data.count(b"\n") <= len(headers) + 4 and data.count(b"\0") == 1


@ALL
def test_a_header_without_a_name_is_left_out(version):
    assert frames.encode_headers([("", "a"), ("b", ""), ("", "")], version) == b"b:\n"
    blank = b"" if version is V10 else b" :a\n"
    assert frames.encode_headers([(" ", "a")], version) == blank


@ALL
def test_a_content_length_from_elsewhere_is_left_out(version):
    [frame] = read(encode("MESSAGE", [("content-length", "1")], b"abc", version), version)
    assert frame == Frame("MESSAGE", {"content-length": "3"}, b"abc")
    assert encode("MESSAGE", [("content-length", "1")], b"", version) == b"MESSAGE\n\n\0\n"
    spaced = frames.encode_headers([(" content-length", "1")], version)
    assert spaced == (b"" if version is V10 else b" content-length:1\n")


def test_a_message_is_appended_to_what_is_there():
    out = bytearray(b"before")
    head = frames.encode_head("MESSAGE", [("subscription", "a:1")], V12)
    frames.append_message(out, head, frames.encode_headers([("message-id", "7")], V12), b"")
    frames.append_message(out, head, b"", b"text", content_length=False)
    frames.append_message(out, head, b"", b"\0", content_length=False)
    assert out == (
        b"beforeMESSAGE\nsubscription:a\\c1\nmessage-id:7\ncontent-length:0\n\n\0\n"
        b"MESSAGE\nsubscription:a\\c1\n\ntext\0\n"
        b"MESSAGE\nsubscription:a\\c1\ncontent-length:1\n\n\0\0\n"
    )


# --- there and back ---

SPECIAL = st.sampled_from([*"\n\r:\\ \tcnr", "\r\n", "\\n", "content-length", "ä"])
TEXTS = st.lists(st.one_of(SPECIAL, st.text(max_size=5)), max_size=5).map("".join)
HEADERS = st.lists(st.tuples(TEXTS, TEXTS), max_size=6)
BODIES = st.one_of(st.binary(max_size=50), st.sampled_from([b"\0", b"\n\n", b"SEND\n\n\0"]))
FRAMES = st.lists(st.tuples(st.sampled_from(["SEND", "MESSAGE", "ERROR"]), HEADERS, BODIES))


def writable(text, version, name=False):
    """What is left of a text when all that a version cannot write is taken out."""
    text = text.replace("\0", "")
    if version is V10:
        text = text.replace("\n", "").replace(":" if name else "\n", "")
    while version is not V12 and text != text.rstrip("\r"):
        text = text.rstrip("\r")
    return text.strip(" \t\r") if version is V10 else text


def written(headers, version):
    pairs = [(writable(n, version, True), writable(v, version)) for n, v in headers]
    return {n: v for n, v in reversed(pairs) if n and n != "content-length"}


@ALL
@given(each=FRAMES, cuts=st.lists(st.integers(0, 2_000)), beats=st.sampled_from([b"", b"\n"]))
def test_what_is_written_is_read_again_however_it_is_cut(version, each, cuts, beats):
    expected, data = [], b""
    for command, headers, body in each:
        pairs = written(headers, version)
        data += encode(command, pairs.items(), body, version) + beats
        length = {"content-length": str(len(body))} if body else {}
        expected.append(Frame(command, pairs | length, body))
    beat_count = len(expected) * len(beats + b"\n")  # with the one behind each frame
    cuts = [cut for cut in cuts if cut < len(data)]
    assert read_in_pieces(data, cuts, version) == (expected, beat_count)
    assert read_in_pieces(data, range(len(data)), version) == (expected, beat_count)


# --- beside others ---

PLAIN = st.text(
    st.characters(codec="utf-8", exclude_characters="\0\r\n:", exclude_categories=["C", "Z"]),
    min_size=1,
).filter(lambda text: text not in ("content-length", "destination"))


@ALL
@given(headers=st.dictionaries(PLAIN, PLAIN | st.just("a:b\\ \n"), max_size=5), body=BODIES)
def test_stomp_py_reads_what_we_write(version, headers, body):
    if version is V10:  # its parser unescapes in every version
        headers = {n.replace("\\", ""): v.replace("\\", "").strip() for n, v in headers.items()}
        headers = {n: v.replace("\n", "") for n, v in headers.items() if n}
    data = encode("MESSAGE", headers.items(), body, version)
    theirs = stomp.utils.parse_frame(data.removesuffix(b"\0\n"))
    [ours] = read(data, version, lines=50, frame=10**6, header=10**6)
    assert (theirs.cmd, theirs.headers, theirs.body) == (ours.command, ours.headers, ours.body)


STOMP_PY = {V10: stomp.Connection10, V11: stomp.Connection11, V12: stomp.Connection12}


@ALL
@given(headers=st.dictionaries(PLAIN, PLAIN | st.just("a:b\\ \n"), max_size=5), body=BODIES)
def test_we_read_what_stomp_py_writes(version, headers, body):
    sent: list[stomp.utils.Frame] = []
    connection = STOMP_PY[version]()
    connection.transport.transmit = sent.append
    if version is V10:
        headers = {n: v.replace("\n", "").strip() for n, v in headers.items()}
    else:  # it does not escape names
        headers = {n.replace("\\", "") or "n": v for n, v in headers.items()}
    connection.send("/queue/a", body, headers=headers)
    data = b"".join(stomp.utils.convert_frame(sent[0]))
    [frame] = read(data, version, lines=50, frame=10**6, header=10**6)
    assert (frame.command, frame.body) == ("SEND", body)
    length = {"content-length": str(len(body))} if body else {}
    assert frame.headers == {**headers, "destination": "/queue/a", **length}


@pytest.mark.parametrize(("version", "module"), [(V10, stomper.stomp_10), (V11, stomper.stomp_11)])
@given(
    headers=st.dictionaries(PLAIN, PLAIN, max_size=5),
    body=st.text(st.characters(codec="ascii", categories=["L", "N"])),
)
def test_stomper_and_we_read_each_other(version, module, headers, body):
    headers = {n.replace("\\", "n"): v.replace("\\", "") for n, v in headers.items()}
    data = encode("MESSAGE", headers.items(), body.encode(), version)
    theirs = module.unpack_frame(data.decode().removesuffix("\n"))
    [ours] = read(data, version, lines=50, frame=10**6, header=10**6)
    assert (
        (theirs["cmd"], theirs["body"]) == (ours.command, ours.body.decode()) == ("MESSAGE", body)
    )
    assert theirs["headers"] == ours.headers

    frame = module.Frame()
    frame.cmd, frame.headers, frame.body = "SEND", headers, body
    again = encode("SEND", sorted(headers.items()), b"", version)[:-2] + f"{body}\0\n".encode()
    assert frame.pack().encode() == again
    assert read(again, version, lines=50, frame=10**6, header=10**6) == [
        Frame("SEND", headers, body.encode())
    ]


def test_stomper_writes_frames_that_we_read():
    for module, version in ((stomper.stomp_10, V10), (stomper.stomp_11, V11)):
        [frame] = read(module.send("/queue/a", "hello").encode(), version)
        assert (frame.command, frame.headers["destination"]) == ("SEND", "/queue/a")
        assert frame.body.strip() == b"hello"
