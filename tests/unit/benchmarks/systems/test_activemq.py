"""ActiveMQ: how it is configured, what is missing, and the server itself where it is installed."""

from xml.etree import ElementTree

import pytest

from braidmq.benchmarks.peer import ServerFailed
from braidmq.benchmarks.stomp_client import connect, disconnect
from braidmq.benchmarks.systems import activemq
from braidmq.benchmarks.systems.activemq import ActiveMQProcess, configuration, version, why_not

_NAMES = {"a": "http://activemq.apache.org/schema/core"}


def test_it_syncs_below_its_directory_and_listens_on_loopback():
    found = ElementTree.fromstring(configuration([61999, 61998], "/somewhere"))
    (store,) = found.iterfind(".//a:kahaDB", _NAMES)
    assert store.attrib == {
        "directory": "/somewhere/data/kahadb",
        "journalDiskSyncStrategy": "always",
    }
    connectors = [each.get("uri") for each in found.iterfind(".//a:transportConnector", _NAMES)]
    assert connectors == ["stomp://127.0.0.1:61999", "mqtt://127.0.0.1:61998"]
    (broker,) = found.iterfind("a:broker", _NAMES)
    assert broker.get("persistent") == "true"
    assert 'persistent="false"' in configuration([1, 2], "/somewhere", durable=False)


def test_without_it_the_message_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(activemq, "_JARS", tmp_path)
    assert version() == ""
    with pytest.raises(ServerFailed, match="apt install"):
        ActiveMQProcess(str(tmp_path)).start()


@pytest.mark.skipif(bool(why_not()), reason=why_not())
def test_it_serves_and_ends(tmp_path):
    with ActiveMQProcess(str(tmp_path)) as broker:
        assert broker.port and broker.pid
        disconnect(connect(broker.host, broker.port))
    assert version()
    assert (tmp_path / "data" / "kahadb").exists()
