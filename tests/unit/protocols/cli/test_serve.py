"""braidmq serve, with a daemon that does nothing; tests/e2e/test_cli_daemon.py has real ones."""

import io
import json
import logging
import sys
from pathlib import Path

import pytest

from braidmq.broker.config import ConfigInvalid
from braidmq.broker.errors import BrokerFailed
from braidmq.protocols import daemon
from braidmq.protocols.cli import serve as module
from braidmq.protocols.cli.output import Output
from braidmq.storage.errors import Corrupt


@pytest.fixture(autouse=True)
def restored(monkeypatch):
    root, own = logging.getLogger(), logging.getLogger("braidmq")
    before = root.handlers[:], root.level, own.level
    monkeypatch.setattr("os.umask", lambda mask: 0)
    yield
    root.handlers[:], level, own_level = before
    root.setLevel(level)
    own.setLevel(own_level)
    logging.captureWarnings(False)


class Stub:
    """A daemon that does nothing but what it is told."""

    error: Exception | None = None
    made: list["Stub"] = []

    def __init__(self, config, load, **options):
        self.config, self.load, self.options = config, load, options
        self.made.append(self)

    async def run(self) -> None:
        self.options["progress"](1, 2)
        self.options["ready"](["braid://127.0.0.1:1"])
        self.options["set_log_level"]("error")
        if self.error is not None:
            raise self.error


@pytest.fixture
def stub(monkeypatch):
    monkeypatch.setattr(daemon, "Daemon", Stub)
    monkeypatch.setattr(Stub, "made", [])
    return Stub


def test_the_configuration_is_put_together(offline, stub, tmp_path):
    file = tmp_path / "f.toml"
    file.write_text("drain_ms = '1s'\nlog.level = 'warning'\n")
    offline.ok(
        *("serve", "--config", str(file), "--data", "d", "--listen", "braid://127.0.0.1:2"),
        "--accept-loss",
        BRAIDMQ_LIMITS__QUEUES_MAX="3",
    )
    [made] = stub.made
    assert (made.config.data, made.config.drain_ms, made.config.limits.queues_max) == ("d", 1000, 3)
    assert made.options["accept_loss"]
    file.write_text("drain_ms = '2s'\n")
    assert made.load().drain_ms == 2000
    assert logging.getLogger("braidmq").level == logging.ERROR


def test_quiet_logs_warnings(offline, stub):
    offline.ok("serve", "-q")
    stub.made[0].options["set_log_level"]("debug")
    assert logging.getLogger("braidmq").level == logging.WARNING


def test_the_ready_file_is_written_whole_and_goes_away(offline, stub, tmp_path, monkeypatch):
    seen = []
    monkeypatch.setattr("os.replace", lambda a, b: seen.append((Path(a).read_text(), b)))
    offline.ok("serve", "--ready-file", str(tmp_path / "ready"))
    [(text, name)] = seen
    assert json.loads(text)["urls"] == ["braid://127.0.0.1:1"] and name == str(tmp_path / "ready")


@pytest.mark.parametrize(
    ("error", "status"),
    [(Corrupt(7, "bad"), 74), (BrokerFailed("disk"), 74), (OSError(98, "in use"), 75)],
)
def test_failures_are_in_the_log_and_in_the_status(offline, stub, monkeypatch, error, status):
    monkeypatch.setattr(stub, "error", error)
    result = offline("serve", "--json")
    assert result.exit_code == status
    last = json.loads(result.stderr.splitlines()[-1])
    assert last["level"] == "critical" and last["error"] and str(error) in last["message"]


def test_every_problem_of_a_configuration_is_logged(offline, tmp_path):
    file = tmp_path / "f.toml"
    file.write_text("a = 1\nb = 2\n")
    result = offline("serve", "--config", str(file))
    assert result.exit_code == 78
    messages = [json.loads(line)["message"] for line in result.stderr.splitlines()]
    assert [message.split(": ")[1] for message in messages] == ["a", "b"]


def test_a_bug_is_logged_with_its_stack(offline, stub, monkeypatch):
    monkeypatch.setattr(stub, "error", ZeroDivisionError("oh"))
    result = offline("serve")
    assert result.exit_code == 1
    last = json.loads(result.stderr.splitlines()[-1])
    assert "please report" in last["message"] and "ZeroDivisionError: oh" in last["stack"]


def test_a_file_with_secrets_that_others_can_read_is_warned_of(offline, stub, tmp_path):
    file = tmp_path / "f.toml"
    file.write_text(
        f'[users.a]\npassword_hash = "{offline.ok("user", "hash", "-q", input="p").strip()}"'
    )
    file.chmod(0o644)
    result = offline("serve", "--config", str(file))
    assert "chmod 600" in result.stderr


def test_recovery_is_a_bar_on_a_terminal_and_lines_elsewhere(monkeypatch, caplog):
    caplog.set_level("INFO", logger="braidmq")

    class Clock:
        now = 100.0

        def monotonic(self):
            self.now += 0.6
            return self.now

    monkeypatch.setattr(module, "time", Clock())
    progress = module._RecoveryProgress(Output(False, False))
    for done in range(4):
        progress.update(done, 10)
    progress.finish()
    assert [record.fields["done_bytes"] for record in caplog.records] == [1, 3]

    class Terminal(io.StringIO):
        def isatty(self):
            return True

    terminal = Terminal()
    monkeypatch.setattr(sys, "stderr", terminal)
    progress = module._RecoveryProgress(Output(False, False))
    progress.update(5, 10)
    progress.finish()
    assert "recovering [####" in terminal.getvalue() and len(caplog.records) == 2


def test_uvloop_is_used_where_it_is(monkeypatch):
    uvloop = pytest.importorskip("uvloop")
    assert module._loop_factory() is uvloop.new_event_loop
    monkeypatch.setitem(sys.modules, "uvloop", None)
    assert module._loop_factory() is None


def test_problems_are_one_line_each():
    assert module._log_failure(ConfigInvalid(["a", "b"])) == 78
