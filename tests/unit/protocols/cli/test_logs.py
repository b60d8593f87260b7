"""The log: one line a record, no control characters, no secrets."""

import io
import json
import logging

import pytest

from braidmq.protocols.cli.logs import JsonFormatter, TextFormatter, configure, masked, set_level

logger = logging.getLogger("braidmq.test")


@pytest.fixture(autouse=True)
def restored():
    root, own = logging.getLogger(), logging.getLogger("braidmq")
    before = root.handlers[:], root.level, own.level
    yield
    root.handlers[:], level, own_level = before
    root.setLevel(level)
    own.setLevel(own_level)
    logging.captureWarnings(False)


def logged(form: str, call, level: str = "info") -> str:
    stream = io.StringIO()
    configure(level, form, stream)
    call()
    return stream.getvalue()


def test_json_lines():
    text = logged("json", lambda: logger.info("a\n\x1b b", extra={"fields": {"n": 1, "s": "\r"}}))
    entry = json.loads(text)
    assert text.count("\n") == 1
    assert entry["message"] == "a\\n\\x1b b" and entry["level"] == "info"
    assert (entry["n"], entry["s"], entry["logger"]) == (1, "\\r", "braidmq.test")
    assert entry["time"].endswith("Z") and "T" in entry["time"]


def test_text_lines():
    text = logged("text", lambda: logger.warning("a\nb", extra={"fields": {"n": [1], "s": "x"}}))
    assert text.endswith(" WARNING  a\\nb  n=[1]  s=x\n")


def test_auto_is_json_where_nobody_looks():
    assert logged("auto", lambda: logger.info("x")).startswith("{")


def test_a_terminal_gets_text_and_colour(monkeypatch):
    class Terminal(io.StringIO):
        def isatty(self):
            return True

    for no_color, expected in (("", True), ("1", False)):
        monkeypatch.setenv("NO_COLOR", no_color)
        terminal = Terminal()
        configure("info", "auto", terminal)
        logger.error("x")
        assert ("\x1b[31m" in terminal.getvalue()) is expected and " x\n" in terminal.getvalue()


def test_fields_do_not_replace_the_record():
    entry = json.loads(logged("json", lambda: logger.info("x", extra={"fields": {"level": "y"}})))
    assert entry["level"] == "info"


def fail():
    try:
        raise ValueError("bad\x1b thing")
    except ValueError:
        logger.exception("oh", extra={"stack_lines": ["one\x1b", "two"]})


def test_stacks_have_lines_of_their_own():
    entry = json.loads(logged("json", fail))
    assert entry["stack"][:2] == ["one\\x1b", "two"]
    assert entry["stack"][-1] == "ValueError: bad\\x1b thing"
    text = logged("text", fail)
    assert "\n    one\\x1b\n    two\n    Traceback" in text and "\x1b" not in text
    assert json.loads(logged("json", lambda: logger.info("x", stack_info=True)))["stack"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("hash $argon2id$v=19$m=19456$abc$def end", "hash $argon2id$(hidden) end"),
        ("'$scrypt$ln=14$a$b'", "'$scrypt$(hidden)'"),
        ("to braid://alice:hunter2@host:1", "to braid://alice:(hidden)@host:1"),
        ("braid://127.0.0.1:7450", "braid://127.0.0.1:7450"),
    ],
)
def test_secrets_are_masked(text, expected):
    assert masked(text) == expected
    for form in ("json", "text"):
        assert expected in logged(form, lambda: logger.info(text))
        in_fields = logged(form, lambda: logger.info("x", extra={"fields": {"f": text}}))
        assert expected in in_fields


def test_long_messages_are_cut():
    assert len(logged("json", lambda: logger.info("x" * 100_000))) < 9_000


def test_levels():
    assert logged("json", lambda: logger.debug("x")) == ""
    assert logged("json", lambda: logging.getLogger("other").info("x")) == ""
    stream = io.StringIO()
    configure("error", "json", stream)
    logger.warning("no")
    set_level("debug")
    logger.debug("yes")
    assert json.loads(stream.getvalue())["message"] == "yes"


def test_formatters_can_be_used_alone():
    record = logging.LogRecord("n", logging.INFO, "f", 1, "%s", ({1, 2},), None)
    record.fields = {"set": {1}}
    assert json.loads(JsonFormatter().format(record))["set"] == "{1}"
    assert 'set="{1}"' in TextFormatter(False).format(record)
