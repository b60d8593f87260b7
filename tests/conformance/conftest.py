"""The broker under test: one per module, many connections.

BRAIDMQ_TEST_MQTT=host:port points the suite at any broker that speaks MQTT there; otherwise ours
runs in a thread of this process, so that the tests can block. Another broker is not held to what
the specification only recommends (`strict`).
"""

import asyncio
import itertools
import os
import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from typing import Any

import pytest

from .client import Client
from .coverage import print_table
from .packets import V5, V311

EXTERNAL = os.environ.get("BRAIDMQ_TEST_MQTT", "")

Address = tuple[str, int]
Join = Callable[..., Client]


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "requirement(version, *ids): the normative statements that a test shows"
    )


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if os.environ.get("BRAIDMQ_CONFORMANCE_TABLE"):
        print_table(terminalreporter)


# What went wrong inside a broker of ours: no input may lead there, however the client was answered.
_crashes: list[str] = []


def _note_crash(loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
    _crashes.append(f"{context['message']}: {context.get('exception')!r}")


@pytest.fixture(autouse=True)
def no_crash() -> Iterator[None]:
    """Fail the test during which an exception reached the broker's event loop."""
    _crashes.clear()
    yield
    assert not _crashes, _crashes


class ThreadedBroker:
    """A broker on an event loop in a thread, in memory, listening for MQTT on a free port."""

    def __init__(self, *urls: Any, **options: Any) -> None:
        self.urls: list[str] = []
        self._wanted = urls
        self._options = options
        self._ready = threading.Event()
        self._stop = asyncio.Event()
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._run, daemon=True)

    def __enter__(self) -> "ThreadedBroker":
        self._thread.start()
        self._ready.wait()
        if self._error is not None:
            raise self._error
        return self

    def __exit__(self, *exc: object) -> None:
        self._loop.call_soon_threadsafe(self._stop.set)
        self._thread.join()
        if self._error is not None:
            raise self._error

    def _run(self) -> None:
        try:
            asyncio.run(self._serve())
        except BaseException as error:
            self._error = error
        finally:
            self._ready.set()

    async def _serve(self) -> None:
        from braidmq.broker import Broker  # not needed for another broker
        from braidmq.protocols import serve

        self._loop = asyncio.get_running_loop()
        self._loop.set_exception_handler(_note_crash)
        async with Broker(**self._options) as broker, serve(broker, *self._wanted) as server:
            self.urls = server.urls
            self._ready.set()
            await self._stop.wait()


def address_of(url: str) -> Address:
    host, _, port = url.rpartition("/")[2].rpartition(":")
    return host, int(port)


@pytest.fixture(scope="module")
def address() -> Iterator[Address]:
    """Where the broker under test listens."""
    if EXTERNAL:
        yield address_of(EXTERNAL)
        return
    with ThreadedBroker("mqtt://127.0.0.1:0") as broker:
        yield address_of(broker.urls[0])


@pytest.fixture
def dial(address: Address) -> Iterator[Callable[..., Client]]:
    """dial(version): a network connection on which nothing was sent yet."""
    clients = []

    def open_client(version: int = V5) -> Client:
        clients.append(Client(address, version, strict=not EXTERNAL))
        return clients[-1]

    yield open_client
    for client in clients:
        client.close()


@pytest.fixture
def configured() -> Iterator[Callable[..., Callable[..., Client]]]:
    """configured(maximum_qos=0): `dial` for a broker of ours with such MQTT options."""
    if EXTERNAL:
        pytest.skip("another broker is configured in its own way")
    with ExitStack() as stack:

        def start(**options: Any) -> Callable[..., Client]:
            from braidmq.broker.config import Listener
            from braidmq.broker.mqtt_options import MqttOptions

            listener = Listener(url="mqtt://127.0.0.1:0", mqtt=MqttOptions(**options))
            broker = stack.enter_context(ThreadedBroker(listener))

            def open_client(version: int = V5) -> Client:
                client = Client(address_of(broker.urls[0]), version)
                stack.callback(client.close)
                return client

            return open_client

        yield start


@pytest.fixture
def join(dial: Callable[..., Client], name: str) -> Join:
    """join(version, client_id, ...): a client that is connected; the id is fresh unless given."""
    numbers = itertools.count(1)

    def connect(version: int = V5, client_id: str | None = None, **options: Any) -> Client:
        client = dial(version)
        client.connect(f"{name}-{next(numbers)}" if client_id is None else client_id, **options)
        return client

    return connect


@pytest.fixture(scope="module")
def address_with_users() -> Iterator[Address]:
    """A broker where `user`, whose password is `password`, may do all but publish below `denied`.

    Without users, ours lets nobody in who shows a password. Another broker takes any.
    """
    if EXTERNAL:
        yield address_of(EXTERNAL)
        return
    from braidmq.broker.access import Rule, User
    from braidmq.broker.passwords import hash_password

    rules = (
        Rule("allow", ("*",), ("*",)),
        Rule("deny", ("topic:Publish",), ("denied/#",)),
    )
    users = [User("user", hash_password("password", kind="scram-sha-256"), rules)]
    with ThreadedBroker("mqtt://127.0.0.1:0", users=users) as broker:
        yield address_of(broker.urls[0])


@pytest.fixture
def with_users(address_with_users: Address) -> Iterator[Callable[..., Client]]:
    """`dial` for a broker that knows `user` with the password `password`."""
    with ExitStack() as stack:

        def open_client(version: int = V5) -> Client:
            client = Client(address_with_users, version, strict=not EXTERNAL)
            stack.callback(client.close)
            return client

        yield open_client


_names = itertools.count(1)


@pytest.fixture
def name() -> str:
    """A client id and topic prefix that no other test uses, not even another run of it."""
    return f"c{os.getpid()}x{next(_names)}"


@pytest.fixture(params=[V311, V5], ids=["v311", "v5"])
def version(request: pytest.FixtureRequest) -> int:
    """For tests of what both versions share."""
    found: int = request.param
    return found
