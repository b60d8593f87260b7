"""braidmq config: check, show, init, keys."""

import json
import stat

import pytest

from braidmq.broker.passwords import hash_password

HASH = hash_password("correct horse")


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "braidmq.toml"
    path.write_text(f'[limits]\nqueues_max = 7\n[users.alice]\npassword_hash = "{HASH}"\n')
    path.chmod(0o600)
    return path


def test_check_a_good_one(offline, file):
    assert offline.json("config", "check", str(file)) == {
        "valid": True,
        "problems": [],
        "warnings": [],
    }
    assert "good: data in data" in offline("config", "check", str(file)).stderr
    offline.ok("config", "check")
    offline.ok("config", "check", BRAIDMQ_CONFIG=str(file))


def test_check_a_bad_one(offline, file):
    file.write_text("limits.queue_max = 1\nlog.level = 'x'")
    result = offline("config", "check", str(file), "--json")
    assert result.exit_code == 78
    problems = json.loads(result.stdout)["problems"]
    assert len(problems) == 2 and "did you mean queues_max?" in problems[1]
    text = offline.fails(78, "config", "check", str(file))
    assert all(problem in text for problem in problems) and "2 problems" in text


def test_check_sees_the_environment(offline):
    text = offline.fails(78, "config", "check", BRAIDMQ_LIMITS__QUEUES_MAX="many")
    assert "environment BRAIDMQ_LIMITS__QUEUES_MAX: limits.queues_max: 'many'" in text


@pytest.mark.parametrize(
    ("content", "expected"),
    [
        (None, "cannot be read: No such file"),
        (b"\xff", "is not UTF-8"),
        (b"x = ", "not valid TOML"),
    ],
)
def test_a_file_that_is_none(offline, tmp_path, content, expected):
    path = tmp_path / "f.toml"
    if content is not None:
        path.write_bytes(content)
    assert expected in offline.fails(78, "config", "check", str(path))
    offline.fails(78, "config", "show", str(path))


def test_a_file_with_secrets_that_others_can_read_is_warned_of(offline, file):
    file.chmod(0o644)
    result = offline("config", "check", str(file))
    assert result.exit_code == 0 and "chmod 600" in result.stderr
    assert offline.json("config", "check", str(file))["warnings"]
    file.write_text("")
    assert "chmod" not in offline("config", "check", str(file)).stderr


def test_show_hides_secrets_and_tells_origins(offline, file):
    shown = offline.json("config", "show", str(file))
    assert shown["limits.queues_max"] == 7 and shown["users.alice.password_hash"] == "(hidden)"
    rows = offline.json("config", "show", str(file), "--origin", BRAIDMQ_DATA="/d")
    assert rows["limits.queues_max"]["origin"] == str(file)
    assert rows["data"]["origin"] == "environment BRAIDMQ_DATA"
    assert rows["drain_ms"]["origin"] == "default"
    text = offline.ok("config", "show", str(file), "--origin")
    assert HASH not in text and "ORIGIN" in text
    assert "ORIGIN" not in offline.ok("config", "show", str(file))


def test_init_writes_a_private_file_once(offline, tmp_path):
    path = tmp_path / "new.toml"
    assert offline.json("config", "init", str(path)) == {"file": str(path)}
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    offline.ok("config", "check", str(path))
    assert "is there already" in offline.fails(5, "config", "init", str(path))
    assert offline.ok("config", "init") == path.read_text()
    assert offline.json("config", "init")["toml"] == path.read_text()


def test_keys(offline):
    rows = offline.json("config", "keys")
    assert {"key", "default", "unit", "meaning"} == set(rows[0])
    assert "limits.body_bytes_max" in offline.ok("config", "keys")
