"""Which broker a command talks to, and as whom."""

import pytest

from braidmq.protocols.cli.contexts import Context, Contexts, save_contexts
from braidmq.protocols.cli.failures import CommandFailed
from braidmq.protocols.cli.target import Target, find_target

from .conftest import PASSWORD


@pytest.fixture(autouse=True)
def config_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_without_anything_it_is_this_machine():
    assert find_target(None, None, None, None, None).url == "braid://127.0.0.1:7450"


def test_a_url_may_hold_who_you_are():
    target = Target("braid://alice:p%40ss@host:1")
    assert (target.address, target.user) == ("braid://host:1", "alice")
    assert target.url == "braid://alice:p%40ss@host:1"
    assert "ss" not in repr(target)


def test_options_win_over_the_url(tmp_path):
    (tmp_path / "password").write_text("from file\r\nsecond line\n")
    target = find_target("braid://a:b@host", None, "bob", str(tmp_path / "password"), None)
    assert target.url == "braid://bob:from%20file@host"
    # The password in the URL is that of its user, and of nobody else.
    assert find_target("braid://a:b@host", None, "bob", None, None).url == "braid://bob@host"


def test_the_context_in_use_and_one_by_name():
    contexts = {
        "one": Context("braid://one:1", "u", "", "ca.pem"),
        "two": Context("braid://two:2"),
    }
    save_contexts(Contexts("one", contexts))
    found = find_target(None, None, None, None, None)
    assert (found.address, found.user, found.ca_file) == ("braid://one:1", "u", "ca.pem")
    assert find_target(None, "two", "x", None, None).url == "braid://x@two:2"
    assert find_target("braid://three", None, None, None, None).url == "braid://three"
    with pytest.raises(CommandFailed, match="no context 'four'"):
        find_target(None, "four", None, None, None)
    with pytest.raises(CommandFailed, match="exclude each other"):
        find_target("braid://x", "two", None, None, None)


@pytest.mark.parametrize("url", ["", "host:1", "braid://", "braid://host:port", "braid://[::1"])
def test_no_urls(url):
    with pytest.raises(CommandFailed, match="is not a URL"):
        Target(url)


def test_a_password_file_that_is_missing_or_empty(tmp_path):
    (tmp_path / "empty").write_text("\n")
    for name, expected in (("missing", "cannot be read"), ("empty", "begins with an empty line")):
        with pytest.raises(CommandFailed, match=expected) as caught:
            find_target(None, None, "u", str(tmp_path / name), None)
        assert caught.value.status == 4


def test_logging_in(guarded, offline, tmp_path):
    password = tmp_path / "password"
    password.write_text(PASSWORD + "\n")
    who = ["--url", guarded.url, "--user", "alice"]
    offline.ok("queue", "declare", "a-queue", *who, "--password-file", str(password))
    offline.ok("send", "a-queue", "x", *who, "--password-file", "-", input=PASSWORD + "\n")
    error = offline.fails(4, "send", "b-queue", "x", *who, "--password-file", str(password))
    assert "'alice' may not queue:Send on 'b-queue'" in error
    password.write_text("wrong")
    error = offline.fails(4, "queue", "ls", *who, "--password-file", str(password))
    assert "wrong password" in error and "wrong\n" not in error
    offline.fails(4, "queue", "ls", "--url", guarded.url)


def test_a_ca_file_that_cannot_be_used(offline, tmp_path):
    (tmp_path / "ca").write_text("no pem")
    error = offline.fails(
        2, "queue", "ls", "--url", "braids://127.0.0.1:1", "--ca-file", str(tmp_path / "ca")
    )
    assert "cannot be used" in error


def test_the_environment_says_where(offline, guarded):
    error = offline.fails(4, "queue", "ls", BRAIDMQ_URL=guarded.url)
    assert "error: " in error
    offline.ok("context", "add", "served", guarded.url)
    # A context that was asked for wins over a URL that was not.
    offline.fails(4, "queue", "ls", "--context", "served", BRAIDMQ_URL="braid://127.0.0.1:1")
