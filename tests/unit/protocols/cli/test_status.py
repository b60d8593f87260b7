"""braidmq version, ping and health."""

from braidmq.protocols.cli import status


def test_version(offline):
    versions = offline.json("version")
    assert {"braidmq", "python", "click", "msgspec"} <= versions.keys()
    assert offline.ok("version", "-q").strip() == versions["braidmq"]
    assert versions["python"] in offline.ok("version")
    assert status._version_of("no-such-distribution") == "-"


def test_ping(braidmq, offline):
    times = braidmq.json("ping", "-n", "3", "--interval", "1ms")
    assert times["count"] == 3 and 0 < times["min_ms"] <= times["mean_ms"] <= times["max_ms"]
    assert "connected in" in braidmq.ok("ping", "-n", "1")
    offline.fails(69, "ping", "--url", "braid://127.0.0.1:1")


def test_health(braidmq, offline):
    health = braidmq.json("health")
    assert health["status"] == "ok" and health["connections"] >= 1
    assert len(health["instance"]) == 16
    assert braidmq.ok("health").startswith("status")
    assert braidmq.ok("health", "-q") == ""
    offline.fails(69, "health", "--url", "braid://127.0.0.1:1")
