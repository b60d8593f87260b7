"""The file of contexts: private, replaced whole, and whatever a name holds."""

import stat

import pytest

from braidmq.protocols.cli.contexts import (
    Context,
    Contexts,
    contexts_path,
    load_contexts,
    save_contexts,
)
from braidmq.protocols.cli.failures import CommandFailed


@pytest.fixture(autouse=True)
def config_home(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))


def test_without_a_file_there_are_none():
    assert load_contexts() == Contexts()


def test_what_was_saved_is_loaded():
    strange = 'a "b" \\ \n \x7f ä.b'
    contexts = Contexts("x", {"x": Context("braid://x:1"), strange: Context("braid://y", "u", "f")})
    save_contexts(contexts)
    assert load_contexts() == contexts
    assert stat.S_IMODE(contexts_path().stat().st_mode) == 0o600
    assert stat.S_IMODE(contexts_path().parent.stat().st_mode) == 0o700
    assert [path.name for path in contexts_path().parent.iterdir()] == ["contexts.toml"]


def test_the_home_directory_is_the_default(monkeypatch, tmp_path):
    monkeypatch.delenv("XDG_CONFIG_HOME")
    monkeypatch.setenv("HOME", str(tmp_path))
    assert contexts_path() == tmp_path / ".config" / "braidmq" / "contexts.toml"


@pytest.mark.parametrize("text", ["x = = 1", "unknown = 1", "current = 1", "[contexts.a]\n"])
def test_a_file_that_is_none(text):
    save_contexts(Contexts())
    contexts_path().write_text(text)
    with pytest.raises(CommandFailed, match=r"contexts\.toml: ") as caught:
        load_contexts()
    assert caught.value.status == 78


def test_a_failed_save_leaves_the_old_file(monkeypatch):
    save_contexts(Contexts("", {"a": Context("braid://a")}))

    def fail(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.replace", fail)
    with pytest.raises(OSError, match="No space"):
        save_contexts(Contexts())
    assert list(load_contexts().contexts) == ["a"]
    assert [path.name for path in contexts_path().parent.iterdir()] == ["contexts.toml"]
