"""Wills over a kill: what clients of a daemon left behind that was ended by SIGKILL.

The clients are of somebody else. That nothing came is shown by what was published after it.
"""

import queue
import time
from typing import Any

import pytest
from paho.mqtt.client import Client
from paho.mqtt.enums import CallbackAPIVersion, MQTTProtocolVersion
from paho.mqtt.packettypes import PacketTypes
from paho.mqtt.properties import Properties

from tests.e2e.test_cli_daemon import serve, unix_only

__all__ = ["serve"]  # the fixture

pytestmark = [pytest.mark.slow, unix_only]

SECONDS = 60
LISTEN = ("--listen", "mqtt://127.0.0.1:0")
DELAY_SECONDS = 2


class Mqtt:
    """A client of MQTT 5 that is connected; ``expiry`` 0: without a durable session."""

    def __init__(
        self,
        daemon: Any,
        name: str,
        expiry: int = 3_600,
        clean: bool = False,
        will: bytes = b"",
        delay: int = 0,
    ) -> None:
        self.messages: queue.Queue[bytes] = queue.Queue()
        self.happened: queue.Queue[str] = queue.Queue()
        self.client = Client(
            CallbackAPIVersion.VERSION2,
            name,
            protocol=MQTTProtocolVersion.MQTTv5,
            reconnect_on_failure=False,  # when the daemon is killed
        )
        self.client.on_connect = lambda *_: self.happened.put("connected")
        self.client.on_subscribe = lambda *_: self.happened.put("subscribed")
        self.client.on_disconnect = lambda *_: self.happened.put("gone")
        self.client.on_message = lambda _, __, message: self.messages.put(bytes(message.payload))
        if will:
            properties = Properties(PacketTypes.WILLMESSAGE)
            properties.WillDelayInterval = delay
            self.client.will_set("will", will, 1, retain=True, properties=properties)
        properties = Properties(PacketTypes.CONNECT)
        properties.SessionExpiryInterval = expiry
        host, port = daemon.url.removeprefix("mqtt://").split(":")
        self.client.connect(host, int(port), clean_start=clean, properties=properties)
        self.client.loop_start()
        self.expect("connected")

    def expect(self, what: str) -> None:
        assert self.happened.get(timeout=SECONDS) == what

    def subscribe(self) -> None:
        self.client.subscribe("will", 1)
        self.expect("subscribed")

    def leave(self) -> None:
        """Say goodbye."""
        self.client.disconnect()
        self.end()

    def end(self) -> None:
        """Wait for the end of the connection."""
        self.expect("gone")
        self.client.loop_stop()

    def publish(self, body: bytes) -> None:
        self.client.publish("will", body, 1).wait_for_publish(SECONDS)

    def next(self) -> bytes:
        return self.messages.get(timeout=SECONDS)


def start(serve: Any) -> Any:
    return serve(*LISTEN)


def kill(daemon: Any, *clients: Mqtt) -> None:
    daemon.process.kill()
    daemon.process.wait(SECONDS)
    for client in clients:
        client.end()
    daemon.ready.unlink()


@pytest.fixture
def first(serve):
    """A daemon at which a durable session waits for wills."""
    daemon = start(serve)
    keeper = Mqtt(daemon, "keeper")
    keeper.subscribe()
    keeper.leave()
    return daemon


@pytest.mark.parametrize("expiry", [0, 3_600])
def test_will_of_who_was_connected_is_published_once_and_goodbye_counts(serve, first, expiry):
    polite = Mqtt(first, "polite", expiry, will=b"never")
    polite.leave()
    dying = Mqtt(first, "dying", expiry, will=b"gone")
    kill(first, dying)

    second = start(serve)
    keeper = Mqtt(second, "keeper")
    assert keeper.next() == b"gone"
    kill(second, keeper)

    third = start(serve)
    late = Mqtt(third, "late", 0)
    late.subscribe()
    assert late.next() == b"gone"  # it was to be retained
    keeper = Mqtt(third, "keeper")
    keeper.publish(b"end")
    bodies = [keeper.next()]
    while bodies[-1] != b"end":
        bodies.append(keeper.next())  # perhaps once more what it had not acknowledged
    assert set(bodies) <= {b"gone", b"end"} and len(bodies) <= 2
    assert late.next() == b"end"  # no other will was published
    keeper.leave()
    late.leave()
    assert third.stop() == 0


def test_delayed_will_is_not_early_after_a_kill(serve, first):
    dying = Mqtt(first, "dying", will=b"gone", delay=DELAY_SECONDS)
    kill(first, dying)
    begun = time.time()
    second = start(serve)
    keeper = Mqtt(second, "keeper")
    assert keeper.next() == b"gone"
    assert time.time() - begun >= DELAY_SECONDS - 0.01
    keeper.leave()
    assert second.stop() == 0


@pytest.mark.parametrize("comes_back", [True, False])
def test_who_comes_back_before_the_delay_has_no_will_any_more(serve, first, comes_back):
    """A clean start shows which: it ends the session, and with it the delay."""
    dying = Mqtt(first, "dying", will=b"gone", delay=3_600)
    kill(first, dying)
    second = start(serve)
    if comes_back:
        Mqtt(second, "dying").leave()
    other = Mqtt(second, "dying", clean=True)
    other.publish(b"end")
    other.leave()
    keeper = Mqtt(second, "keeper")
    expected = [b"end"] if comes_back else [b"gone", b"end"]
    assert [keeper.next() for _ in expected] == expected
    keeper.leave()
    assert second.stop() == 0
