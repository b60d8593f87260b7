"""Reading the configuration: file, environment, flags."""

import pytest

from braidmq.broker.config import ConfigInvalid
from braidmq.protocols.cli import loading
from braidmq.protocols.cli.loading import read_configuration


def test_flags_win_and_have_an_origin(tmp_path, monkeypatch):
    file = tmp_path / "f.toml"
    file.write_text('data = "a"\nlisteners = ["braid://127.0.0.1:1"]\n')
    monkeypatch.setenv("BRAIDMQ_DATA", "b")
    loaded, warnings = read_configuration(str(file), "c", ["braid://127.0.0.1:2"])
    assert loaded.config.data == "c" and not warnings
    assert [listener.url for listener in loaded.config.listeners] == ["braid://127.0.0.1:2"]
    assert loaded.origin(("data",)) == "flag --data"
    assert loaded.origin(("listeners", "0", "url")) == "flag --listen"
    assert read_configuration(str(file))[0].config.data == "b"


def test_a_secret_from_a_file(tmp_path, monkeypatch):
    (tmp_path / "name").write_text("/data\n")
    monkeypatch.setenv("BRAIDMQ_DATA_FILE", str(tmp_path / "name"))
    assert read_configuration(None)[0].config.data == "/data"


def test_a_file_that_is_too_large(tmp_path, monkeypatch):
    monkeypatch.setattr(loading, "_FILE_BYTES_MAX", 10)
    (tmp_path / "f").write_text("#" * 11)
    with pytest.raises(ConfigInvalid, match="larger than 10 bytes"):
        read_configuration(str(tmp_path / "f"))
