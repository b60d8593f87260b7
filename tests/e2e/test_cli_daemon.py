"""The daemon as a process: signals, restarts, exit statuses, and what its log says.

Every process is ended by its own id. Ports are chosen by the system.
"""

import json
import os
import shlex
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
import trustme

from braidmq.broker.passwords import hash_password

SECONDS = 60
COMMAND = [sys.executable, "-c", "from braidmq.protocols.cli import main; main()"]
PASSWORD = "correct-horse-battery"
HASH = hash_password(PASSWORD)
SMALL = "[limits]\nreserve_bytes = '1MiB'\ndisk_free_bytes_min = 0\n"

unix_only = pytest.mark.skipif(sys.platform == "win32", reason="signals of POSIX")
pytestmark = [pytest.mark.slow, unix_only]


@pytest.fixture(autouse=True, scope="module")
def interruptible() -> Iterator[None]:
    """Make Ctrl-C reach our children: a shell that starts us by `&` has it ignored, and they
    would inherit that."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


def braidmq(*args: str, env: dict[str, str] | None = None, **more: Any) -> Any:
    """Run a command to its end."""
    return subprocess.run(
        [*COMMAND, *args],
        env=environment() | (env or {}),
        capture_output=True,
        text=True,
        timeout=SECONDS,
        **more,
    )


def environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if not name.startswith("BRAIDMQ_")}


class Process:
    """A running ``braidmq serve``."""

    def __init__(self, folder: Path, *args: str, config: str = SMALL, **env: str) -> None:
        self.folder = folder
        self.config = folder / "braidmq.toml"
        self.config.write_text(config)
        self.config.chmod(0o600)
        self.ready = folder / "ready"
        self.log = folder / f"log-{len(list(folder.glob('log-*')))}"
        command = ["serve", "--config", str(self.config), "--data", str(folder / "data")]
        if "listeners" not in config and "--listen" not in args:
            command += ["--listen", "braid://127.0.0.1:0"]
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [*COMMAND, *command, "--ready-file", str(self.ready), *args],
                env=environment() | env,
                stdin=subprocess.DEVNULL,
                stderr=log,
            )

    def wait_until(self, done: Callable[[], Any]) -> Any:
        """Poll until ``done()`` is something, while the process lives."""
        for _ in range(SECONDS * 50):
            found = done()
            if found:
                return found
            try:
                self.process.wait(0.02)
            except subprocess.TimeoutExpired:
                continue
            found = done()
            assert found, f"ended with {self.process.returncode}: {self.log.read_text()}"
            return found
        raise AssertionError(f"waited in vain: {self.log.read_text()}")

    @property
    def url(self) -> str:
        """Where it listens, once it does."""

        def read() -> str:
            try:
                told = json.loads(self.ready.read_text())
            except FileNotFoundError:
                return ""
            assert told["pid"] == self.process.pid
            return str(told["urls"][0])

        return str(self.wait_until(read))

    def lines(self) -> list[dict[str, Any]]:
        """The log; every line of it must be JSON."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def logged(self, text: str) -> dict[str, Any]:
        """Wait until a line with that text is in the log, and return it."""

        def find() -> dict[str, Any] | None:
            whole = self.log.read_text().rpartition("\n")[0]
            found = (json.loads(line) for line in whole.splitlines())
            return next((entry for entry in found if text in entry["message"]), None)

        entry: dict[str, Any] = self.wait_until(find)
        return entry

    def __call__(self, *args: str, **more: Any) -> str:
        """Run a client command against it that must succeed."""
        done = braidmq(*args, env={"BRAIDMQ_URL": self.url}, **more)
        assert done.returncode == 0, done.stderr
        return str(done.stdout)

    def stop(self, number: int = signal.SIGTERM) -> int:
        """Send a signal, wait for the end, return the exit status."""
        self.process.send_signal(number)
        return self.process.wait(SECONDS)


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Process]]:
    """Starts daemons, and ends those that the test did not."""
    started: list[Process] = []

    def start(*args: str, **options: str) -> Process:
        started.append(Process(tmp_path, *args, **options))
        return started[-1]

    yield start
    for each in started:
        if each.process.poll() is None:
            each.process.kill()
        each.process.wait(SECONDS)


def ended(process: Process) -> tuple[int, str]:
    """The exit status of a daemon that does not start, and the last it said."""
    status = process.process.wait(SECONDS)
    return status, process.lines()[-1]["message"]


# --- messages and restarts ---


def test_messages_survive_a_kill_and_the_acknowledged_are_gone(serve):
    first = serve()
    first("queue", "declare", "orders")
    first("send", "orders", "--lines", input="one\ntwo\nthree\n")
    assert first("receive", "orders") == "one\n"
    first.process.kill()
    assert first.process.wait(SECONDS) == -signal.SIGKILL
    (first.ready).unlink()
    second = serve()
    assert second("receive", "orders", "-n", "9") == "two\nthree\n"
    assert second.logged("recovered")["epoch"] == 2
    assert second.stop() == 0


def test_sigterm_drains_and_exits_0(serve, tmp_path):
    daemon = serve()
    daemon("queue", "declare", "orders")
    waiting = subprocess.Popen(
        [*COMMAND, "receive", "orders", "--follow"],
        env=environment() | {"BRAIDMQ_URL": daemon.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
    )
    assert waiting.stdout is not None
    try:
        daemon("send", "orders", "x")
        assert waiting.stdout.readline() == b"x\n"
        assert daemon.stop() == 0
    finally:
        waiting.kill()
        waiting.wait(SECONDS)
        waiting.stdout.close()
    assert daemon.logged("got SIGTERM") and daemon.logged("stopped")
    assert not daemon.ready.exists()


def test_a_second_signal_does_not_wait(serve):
    daemon = serve(config=SMALL.replace("[limits]", "drain_ms = '1h'\n[limits]", 1))
    host, _, port = daemon.url.removeprefix("braid://").partition(":")
    with socket.create_connection((host, int(port))):
        daemon("queue", "declare", "orders")
        daemon("send", "orders", "kept")
        daemon.process.send_signal(signal.SIGINT)
        daemon.logged("got SIGINT: stopping")
        assert daemon.stop() == 0
    again = serve()
    assert again("receive", "orders") == "kept\n"


# --- reload ---


def test_reload_is_all_or_nothing(serve):
    users = f'[users.alice]\npassword_hash = "{HASH}"\n'
    rule = 'rules = [{ effect = "allow", actions = ["queue:*"], names = ["*"] }]\n'
    daemon = serve(config=SMALL + users)
    password = daemon.folder / "password"
    password.write_text(PASSWORD)
    login = ["--user", "alice", "--password-file", str(password)]

    def declare(name: str) -> int:
        env = {"BRAIDMQ_URL": daemon.url}
        return int(braidmq("queue", "declare", name, *login, env=env).returncode)

    assert declare("a") == 4
    # One thing is good and one is wrong: nothing changes.
    daemon.config.write_text(SMALL + "queue_max = 1\n" + users + rule)
    daemon.process.send_signal(signal.SIGHUP)
    refused = daemon.logged("not reloaded, nothing was changed")
    assert "did you mean queues_max?" in refused["message"]
    assert declare("a") == 4
    daemon.config.write_text(SMALL + "queues_max = 1\n" + users + rule)
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.logged("reloaded")
    assert daemon.logged("changed limits.queues_max: 100000 -> 1")
    assert declare("a") == 0
    assert declare("b") == 1
    daemon.config.write_text(SMALL + users + "[storage]\nsegment_bytes = '1MiB'\n")
    daemon.process.send_signal(signal.SIGHUP)
    assert daemon.logged("nothing was changed: storage can only be changed by a restart")
    assert declare("a") == 0
    assert daemon.stop() == 0
    text = daemon.log.read_text()
    assert HASH not in text and PASSWORD not in text


def test_a_certificate_is_replaced_without_a_restart(serve, tmp_path):
    authority = trustme.CA()
    (tmp_path / "ca").write_bytes(authority.cert_pem.bytes())

    def certify(*names: str) -> None:
        issued = authority.issue_cert(*names)
        issued.private_key_pem.write_to_path(str(tmp_path / "key"))
        (tmp_path / "cert").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))

    certify("wrong.example")
    listener = f'{{url = "braids://127.0.0.1:0", tls_certificate = "{tmp_path}/cert", '
    daemon = serve(config=f'listeners = [{listener} tls_key = "{tmp_path}/key"}}]\n{SMALL}')
    client = {"BRAIDMQ_URL": daemon.url, "BRAIDMQ_CA_FILE": str(tmp_path / "ca")}
    assert daemon.url.startswith("braids://")
    assert braidmq("queue", "ls", env=client).returncode == 69
    (tmp_path / "cert").write_text("no certificate")
    daemon.process.send_signal(signal.SIGHUP)
    assert "cannot be used" in daemon.logged("not reloaded")["message"]
    certify("127.0.0.1")
    daemon.process.send_signal(signal.SIGHUP)
    daemon.logged("reloaded")
    done = braidmq("queue", "ls", env=client)
    assert done.returncode == 0, done.stderr
    assert braidmq("queue", "ls", env={"BRAIDMQ_URL": daemon.url}).returncode == 69
    assert daemon.stop() == 0


# --- what keeps it from starting ---


def test_a_second_daemon_on_the_same_data_is_75(serve):
    first = serve()
    url = first.url
    first.ready.unlink()
    second = serve()
    status, message = ended(second)
    assert status == 75 and str(first.process.pid) in message
    assert second.lines()[-1]["error"] == "locked"
    assert braidmq("queue", "ls", env={"BRAIDMQ_URL": url}).returncode == 0
    first.process.kill()


def test_a_port_in_use_is_75(serve):
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        port = taken.getsockname()[1]
        status, message = ended(serve("--listen", f"braid://127.0.0.1:{port}"))
    assert status == 75 and f"braid://127.0.0.1:{port}" in message


@pytest.mark.parametrize(
    ("config", "expected"),
    [
        ("limits.queue_max = 1", "did you mean queues_max?"),
        ("x = = 1", "not valid TOML"),
        ("listeners = ['braid://0.0.0.0:0']", "no user is defined"),
        ("listeners = ['braid://127.0.0.1:0']\nqueues.a.max_receives = 1", "need dead_letter"),
    ],
)
def test_a_bad_configuration_is_78(serve, config, expected):
    status, message = ended(serve(config=config))
    assert status == 78 and expected in message


def test_a_configuration_that_is_not_there_is_78(tmp_path):
    done = braidmq("serve", "--config", str(tmp_path / "missing.toml"))
    assert done.returncode == 78 and "cannot be read" in json.loads(done.stderr)["message"]


def test_a_user_opens_other_addresses(serve):
    config = f'listeners = ["braid://0.0.0.0:0"]\n{SMALL}[users.a]\npassword_hash = "{HASH}"\n'
    daemon = serve(config=config)
    assert "cross the network in clear" in daemon.logged("clear")["message"]
    assert daemon.url.startswith("braid://0.0.0.0:")
    assert daemon.stop() == 0


def test_a_damaged_log_is_74_and_the_loss_can_be_accepted(serve, tmp_path):
    first = serve()
    first("queue", "declare", "orders")
    first("send", "orders", "--lines", input="".join(f"{n}\n" for n in range(500)))
    first("send", "orders", "last")
    first.process.kill()
    first.process.wait(SECONDS)
    first.ready.unlink()
    segment = max((tmp_path / "data" / "shard-00").glob("wal-*.log"))
    content = bytearray(segment.read_bytes())
    written = len(content.rstrip(b"\0"))
    content[written // 2] ^= 1  # among the 500; the frame behind says they were kept
    segment.write_bytes(content)
    assert braidmq("log", "verify", str(tmp_path / "data")).returncode == 74
    refused = serve()
    status, message = ended(refused)
    assert status == 74 and "damaged at lsn" in message
    assert "--accept-loss" in refused.lines()[-1]["next"]
    accepted = serve("--accept-loss")
    assert accepted.logged("recovered")["accepted_loss"]
    assert accepted.stop() == 0


# --- its log, its queues, its state ---


def test_queues_of_the_configuration_are_there_and_follow_it(serve):
    first = serve(config=SMALL + "[queues.orders]\nmax_receives = 3\ndead_letter = 'dlq'\n")
    names = [row["name"] for row in json.loads(first("queue", "ls", "--json"))]
    assert names == ["dlq", "orders"]
    assert first.stop() == 0
    second = serve(config=SMALL + "[queues.orders]\nmax_receives = 5\ndead_letter = 'dlq'\n")
    shown = json.loads(second("queue", "show", "orders", "--json"))
    assert shown["settings"]["max_receives"] == 5
    assert second.logged("changed a queue as configured")["queue"] == "orders"
    assert second.stop() == 0
    status, message = ended(serve(config=SMALL + "[queues.orders]\nfifo = true\n"))
    assert status == 78 and "queues.orders: fifo cannot be changed" in message


def test_sigusr1_tells_what_everything_does(serve):
    daemon = serve()
    assert daemon.url
    daemon.process.send_signal(signal.SIGUSR1)
    entry = daemon.logged("state of all tasks and threads")
    text = "\n".join(entry["stack"])
    assert "thread MainThread" in text and "thread loop-watch" in text and "task " in text
    assert daemon.stop() == 0


def test_systemd_is_told(serve, tmp_path):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SECONDS)
        daemon = serve(NOTIFY_SOCKET=str(tmp_path / "notify"), WATCHDOG_USEC="100000")
        told: list[str] = []
        while "READY=1" not in "\n".join(told).splitlines():
            told.append(manager.recv(4096).decode())
        while "WATCHDOG=1" not in told:
            told.append(manager.recv(4096).decode())
        daemon.process.send_signal(signal.SIGHUP)
        while not any(text.startswith("RELOADING=1\nMONOTONIC_USEC=") for text in told):
            told.append(manager.recv(4096).decode())
        assert daemon.stop() == 0
        while not any(text.startswith("STOPPING=1") for text in told):
            told.append(manager.recv(4096).decode())


def test_the_data_directory_is_private(serve, tmp_path):
    daemon = serve()
    daemon("queue", "declare", "orders")
    assert daemon.stop() == 0
    for path in [tmp_path / "data", *(tmp_path / "data").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path


def test_a_pipe_that_is_closed_is_quiet(serve):
    daemon = serve()
    daemon("queue", "declare", "orders")
    daemon("send", "orders", "--lines", input="x\n" * 5_000)
    done = subprocess.run(
        ["sh", "-c", f"{shlex.join(COMMAND)} peek orders -n 5000 | head -n 1"],
        env=environment() | {"BRAIDMQ_URL": daemon.url},
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert (done.stdout, done.stderr) == ("x\n", "")


def test_ctrl_c_is_130(serve):
    daemon = serve()
    daemon("queue", "declare", "orders")
    daemon("send", "orders", "x")
    follower = subprocess.Popen(
        [*COMMAND, "receive", "orders", "--follow"],
        env=environment() | {"BRAIDMQ_URL": daemon.url},
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert follower.stdout is not None
    assert follower.stdout.readline() == b"x\n"
    follower.send_signal(signal.SIGINT)
    _, error = follower.communicate(timeout=SECONDS)
    assert follower.returncode == 130 and b"Traceback" not in error


def test_lines_go_out_as_they_come_and_ctrl_c_ends_it(serve):
    daemon = serve()
    daemon("queue", "declare", "orders")
    sender = subprocess.Popen(
        [*COMMAND, "send", "orders", "--lines", "--json"],
        env=environment() | {"BRAIDMQ_URL": daemon.url},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
    )
    assert sender.stdin is not None and sender.stdout is not None
    sender.stdin.write(b"one\n")
    sender.stdin.flush()
    assert json.loads(sender.stdout.readline())["duplicate"] is False
    assert daemon("receive", "orders", "--wait", "20s") == "one\n"
    sender.send_signal(signal.SIGINT)
    assert sender.wait(SECONDS) == 130
    sender.communicate()


BLOCKED = """
import asyncio, logging, sys, time
from braidmq.broker.config import Config, Listener
from braidmq.broker.limits import Limits
from braidmq.protocols.cli.logs import configure
from braidmq.protocols.daemon import Daemon
from braidmq.protocols.watchdog import LoopWatch

LoopWatch.__init__.__defaults__ = (0.05, 0.1, 0.2)
configure("info", "json")
limits = Limits(reserve_bytes=2**20, disk_free_bytes_min=0)
listeners = (Listener(url="braid://127.0.0.1:0"),)
config = Config(data=sys.argv[1], limits=limits, listeners=listeners)

def stand_still(urls):
    time.sleep(600)

asyncio.run(Daemon(config, lambda: config, ready=stand_still).run())
"""


def test_a_daemon_whose_loop_stands_still_ends_with_70(tmp_path):
    done = subprocess.run(
        [sys.executable, "-c", BLOCKED, str(tmp_path / "data")],
        env=environment(),
        capture_output=True,
        text=True,
        timeout=SECONDS,
    )
    assert done.returncode == 70
    last = json.loads(done.stderr.splitlines()[-1])
    assert "giving up" in last["message"] and any("stand_still" in line for line in last["stack"])
