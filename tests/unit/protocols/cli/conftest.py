"""A broker in memory, served from a thread, and a way to run commands against it."""

import asyncio
import json
import threading
from collections.abc import Iterator
from typing import Any

import pytest
from click.testing import CliRunner, Result

from braidmq.broker import Broker
from braidmq.broker.access import Rule, User
from braidmq.broker.passwords import hash_password
from braidmq.protocols import serve
from braidmq.protocols.cli.app import app

PASSWORD = "correct horse"


class Served:
    """A broker on a loop in another thread; ``url`` is where it listens."""

    def __init__(self, *users: User) -> None:
        self._users = users
        self._loop = asyncio.new_event_loop()
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self.url = ""
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        assert self._ready.wait(20) and self.url

    def _run(self) -> None:
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self) -> None:
        try:
            async with Broker(users=self._users) as broker:
                async with serve(broker, "braid://127.0.0.1:0", grace=0) as server:
                    self.url = server.urls[0]
                    self._ready.set()
                    await self._stop.wait()
        finally:
            self._ready.set()

    def close(self) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join(20)


@pytest.fixture(scope="session")
def served() -> Iterator[Served]:
    broker = Served()
    yield broker
    broker.close()


@pytest.fixture(scope="session")
def guarded() -> Iterator[Served]:
    """A broker with a user: alice may do everything with queues that begin with a."""
    rules = (Rule("allow", ("queue:*",), ("a*",)),)
    broker = Served(User("alice", hash_password(PASSWORD), rules))
    yield broker
    broker.close()


class Commands:
    """Runs commands in this process."""

    def __init__(self, env: dict[str, str]) -> None:
        self.env = env

    def __call__(self, *args: str, input: str | bytes | None = None, **env: str) -> Result:
        """Run a command, whatever comes of it."""
        return CliRunner().invoke(app, args, input=input, env=self.env | env)

    def ok(self, *args: str, input: str | bytes | None = None, **env: str) -> str:
        """Run a command that must succeed; its stdout."""
        result = self(*args, input=input, **env)
        assert result.exit_code == 0, result.output
        return result.stdout

    def json(self, *args: str, input: str | bytes | None = None, **env: str) -> Any:
        """Run a command with --json that must succeed; its document."""
        return json.loads(self.ok(*args, "--json", input=input, **env))

    def lines(self, *args: str, input: str | bytes | None = None, **env: str) -> list[Any]:
        """The same for a command that prints a line for each message or step."""
        printed = self.ok(*args, "--json", input=input, **env)
        return [json.loads(line) for line in printed.splitlines()]

    def fails(self, status: int, *args: str, input: str | None = None, **env: str) -> str:
        """Run a command that must end with ``status``; its stderr."""
        result = self(*args, input=input, **env)
        assert result.exit_code == status, result.output
        return result.stderr


@pytest.fixture
def offline(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Commands:
    """Commands that need no broker."""
    for name in ("BRAIDMQ_URL", "BRAIDMQ_CONTEXT", "BRAIDMQ_USER", "BRAIDMQ_PASSWORD_FILE"):
        monkeypatch.delenv(name, raising=False)
    return Commands({"XDG_CONFIG_HOME": str(tmp_path / "config")})


@pytest.fixture
def braidmq(served: Served, offline: Commands) -> Commands:
    """Commands against the broker in memory."""
    return Commands(offline.env | {"BRAIDMQ_URL": served.url})


@pytest.fixture
def queue(braidmq: Commands, request: pytest.FixtureRequest) -> str:
    """An empty queue of this test."""
    name = f"q-{abs(hash(request.node.nodeid))}"
    braidmq.ok("queue", "declare", name)
    return name
