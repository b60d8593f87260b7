"""What version 3.1.1 says about refusals that it has no code for: acknowledge, or hang up."""

import pytest

from ..client import Client, Closed
from ..conftest import EXTERNAL, ThreadedBroker, address_of
from ..packets import PUBACK, PUBREC, V5, V311, publish
from ..requirements import v311


@pytest.mark.skipif(bool(EXTERNAL), reason="another broker has other rules")
@v311("MQTT-3.3.5-2")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_publish_that_is_not_allowed(with_users, name, qos):
    """It is acknowledged as any other or the connection is closed; nobody gets the message."""
    watcher, client = with_users(V5), with_users(V311)
    for each in (watcher, client):
        each.connect(f"{name}{each.version}", username="user", password="password")
    watcher.subscribe("denied/#")
    client.send(publish(f"denied/{name}", b"x", qos=qos, retain=True, version=V311))
    try:
        assert client.read(PUBACK if qos == 1 else PUBREC).packet_id == 1
    except Closed:
        pass
    watcher.quiet()
    watcher.subscribe("denied/#")
    watcher.quiet()


@pytest.mark.skipif(bool(EXTERNAL), reason="the disk of another broker cannot be filled")
@v311("MQTT-4.8.0-2")
@pytest.mark.parametrize("qos", [1, 2])
def test_a_message_that_cannot_be_kept_closes(tmp_path, name, qos):
    """There is no room on the disk, and no code to say so: the connection ends, only this one."""
    from braidmq.broker.limits import Limits

    limits = Limits(disk_free_bytes_min=2**60)
    with ThreadedBroker("mqtt://127.0.0.1:0", path=tmp_path / "data", limits=limits) as broker:
        address = address_of(broker.urls[0])
        client, other = Client(address, V311), Client(address, V311)
        client.connect(f"{name}a")
        other.connect(f"{name}b")
        client.send(publish(name, b"x", qos=qos, retain=True, version=V311))
        assert client.closed() == []
        other.quiet()
        client.close()
        other.close()
