"""The daemon: whole runs within this process."""

import asyncio
import socket
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme
from jwt import encode

from braidmq.broker.access import Rule
from braidmq.broker.config import (
    Account,
    Auth,
    Config,
    ConfigInvalid,
    Listener,
    Storage,
    StreamTable,
)
from braidmq.broker.errors import BrokerFailed, Unauthenticated
from braidmq.broker.jwt import JwtSettings
from braidmq.broker.limits import Limits, SessionPolicy
from braidmq.broker.mqtt_options import MqttOptions
from braidmq.broker.passwords import hash_password
from braidmq.broker.settings import QueueSettings
from braidmq.protocols import connect
from braidmq.protocols.daemon import Daemon
from braidmq.storage.block import decode_block, encode_block
from braidmq.storage.errors import Locked
from braidmq.storage.log import Durability

SMALL = Limits(reserve_bytes=2**20, disk_free_bytes_min=0)
LOOPBACK = (Listener(url="braid://127.0.0.1:0"),)
SECONDS = 30


def certify(folder: Path, authority: trustme.CA, *names: str) -> Listener:
    issued = authority.issue_cert(*names)
    issued.private_key_pem.write_to_path(str(folder / "key"))
    (folder / "cert").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return Listener(
        url="braids://127.0.0.1:0",
        tls_certificate=str(folder / "cert"),
        tls_key=str(folder / "key"),
    )


def config(tmp_path: Path, **changes: Any) -> Config:
    values: dict[str, Any] = {"data": str(tmp_path / "data"), "listeners": LOOPBACK}
    return Config(**(values | {"limits": SMALL, "drain_ms": 100} | changes))


class Run:
    """A daemon in this process, and what it told."""

    def __init__(self, given: Config, **options: Any) -> None:
        self.next = given
        self.levels: list[str] = []
        self.urls: asyncio.Future[list[str]] = asyncio.get_running_loop().create_future()
        self.daemon = Daemon(
            given,
            lambda: self.load(),
            ready=self.urls.set_result,
            set_log_level=self.levels.append,
            **options,
        )
        self.task = asyncio.create_task(self.daemon.run())

    def load(self) -> Config:
        return self.next

    async def __aenter__(self) -> "Run":
        waiting: list[asyncio.Future[Any]] = [self.urls, self.task]
        await asyncio.wait(waiting, return_when=asyncio.FIRST_COMPLETED)
        if self.task.done():
            await self.task
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.daemon._on_stop("test")
        await self.task

    @property
    def url(self) -> str:
        return self.urls.result()[0]


async def test_it_serves_declares_and_stops(tmp_path):
    queues = {"orders": QueueSettings(max_receives=3, dead_letter="dlq")}
    seen: list[tuple[int, int]] = []
    given = config(tmp_path, queues=queues)
    async with Run(given, progress=lambda *step: seen.append(step)) as run:
        async with connect(run.url) as client:
            assert [info.name async for info in client.queues()] == ["dlq", "orders"]
            await client.queue("orders").send(b"kept")
    async with Run(given) as run:
        async with connect(run.url) as client:
            [message] = await client.queue("orders").receive()
            assert message.body == b"kept"


async def test_queues_follow_the_configuration(tmp_path):
    async with Run(config(tmp_path, queues={"a": QueueSettings()})):
        pass
    changed = config(tmp_path, queues={"a": QueueSettings(delay_ms=5)})
    async with Run(changed) as run, connect(run.url) as client:
        assert (await client.verbs.queue_info("a")).settings.delay_ms == 5
    with pytest.raises(ConfigInvalid, match=r"queues\.a: fifo cannot be changed"):
        async with Run(config(tmp_path, queues={"a": QueueSettings(fifo=True)})):
            pass


async def test_streams_follow_the_configuration_and_come_before_their_views(tmp_path):
    queues = {"view": QueueSettings(stream="s")}
    async with Run(config(tmp_path, streams={"s": StreamTable(shards=3)}, queues=queues)):
        pass
    streams = {"s": StreamTable(shards=1, retention_ms=5_000)}
    async with Run(config(tmp_path, streams=streams)) as run, connect(run.url) as client:
        info = await client.verbs.stream_info("s")
        assert (len(info.shards), info.settings.retention_ms) == (3, 5_000)
        await client.stream("s").append(b"a")
        [message] = await client.queue("view").receive(wait=5)
        assert message.body == b"a"
    with pytest.raises(ConfigInvalid, match=r"streams\.s: durability cannot be changed"):
        async with Run(config(tmp_path, streams={"s": StreamTable(durability=Durability.OS)})):
            pass
    with pytest.raises(ConfigInvalid, match=r"queues\.other: there is no stream"):
        async with Run(config(tmp_path, queues={"other": QueueSettings(stream="nowhere")})):
            pass


@pytest.mark.parametrize("compress", [True, False])
async def test_old_records_are_compressed_as_configured(tmp_path, compress):
    pytest.importorskip("zstandard")
    body = b"the same again, " * 1_000
    block = decode_block(encode_block(1, 1, 0, [b""], None, [body]))
    async with Run(config(tmp_path, storage=Storage(cold_compress=compress))) as run:
        cold = run.daemon._broker.core.log.cold
        assert cold is not None
        file = cold.write(1, 1, [block])
    assert (file.bytes < len(body)) == compress


async def test_what_keeps_it_from_starting_is_raised(tmp_path):
    async with Run(config(tmp_path)):
        with pytest.raises(Locked):
            async with Run(config(tmp_path)):
                pass
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        listeners = (*LOOPBACK, Listener(url=f"braid://127.0.0.1:{taken.getsockname()[1]}"))
        with pytest.raises(OSError, match="cannot listen"):
            async with Run(config(tmp_path, listeners=listeners)):
                pass
    async with Run(config(tmp_path)):
        pass


async def test_a_failed_log_is_the_end(tmp_path):
    run = await Run(config(tmp_path)).__aenter__()
    run.daemon._broker._fail(OSError("fdatasync"))
    with pytest.raises(BrokerFailed, match="fdatasync"):
        await run.task


async def test_reload_takes_all(tmp_path, caplog):
    caplog.set_level("INFO", logger="braidmq")
    async with Run(config(tmp_path)) as run:
        rules = (Rule("allow", ("queue:*",), ("*",)),)
        run.next = config(
            tmp_path,
            limits=msgspec.structs.replace(SMALL, queues_max=1),
            users={"alice": Account(password_hash=hash_password("secret"), rules=rules)},
        )
        run.daemon.reload()
        async with connect(run.url.replace("//", "//alice:secret@")) as client:
            await client.declare_queue("a")
            with pytest.raises(Exception, match="1"):
                await client.declare_queue("b")
        with pytest.raises(Exception, match="needs a user"):
            async with connect(run.url):
                pass
    assert run.levels == ["info"]
    assert "changed limits.queues_max: 100000 -> 1" in caplog.text
    assert "changed users.alice.password_hash: added, '(hidden)'" in caplog.text
    assert "reloaded" in caplog.text


async def test_reload_takes_nothing_when_something_is_wrong(tmp_path, caplog):
    async with Run(config(tmp_path)) as run:
        limits = msgspec.structs.replace(SMALL, queues_max=1)
        run.next = config(tmp_path, limits=limits, drain_ms=5)
        run.daemon.reload()

        def fail() -> Config:
            raise ConfigInvalid(["first problem", "second problem"])

        run.load = fail  # type: ignore[method-assign]
        run.daemon.reload()
        async with connect(run.url) as client:
            await client.declare_queue("a")
            await client.declare_queue("b")
    assert "nothing was changed: drain_ms can only be changed by a restart" in caplog.text
    assert "nothing was changed: first problem" in caplog.text
    assert "nothing was changed: second problem" in caplog.text
    assert not run.levels


# MQTT 5, clean start, no client identifier
CONNECT = bytes.fromhex("10 0D 00 04") + b"MQTT" + bytes.fromhex("05 02 00 3C 00 00 00")
MAXIMUM_QOS_1 = b"\x24\x01"


async def connack(url: str) -> bytes:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(url.rpartition(":")[2]))
    writer.write(CONNECT)
    kind, length = await reader.readexactly(2)
    assert kind == 0x20
    rest = await reader.readexactly(length)
    writer.close()
    return rest


async def test_reload_grants_other_options_to_new_connections(tmp_path):
    listener = Listener(url="mqtt://127.0.0.1:0")
    async with Run(config(tmp_path, listeners=(listener,))) as run:
        assert MAXIMUM_QOS_1 not in await connack(run.url)
        changed = msgspec.structs.replace(listener, mqtt=MqttOptions(maximum_qos=1))
        run.next = config(tmp_path, listeners=(changed,), mqtt=changed.mqtt)
        run.daemon.reload()
        assert MAXIMUM_QOS_1 in await connack(run.url)


async def test_reload_trusts_others(tmp_path):
    users = {"alice": Account(rules=(Rule("allow", ("queue:*",), ("*",)),))}
    secrets = {"main": "a secret of at least thirty-two bytes", "next": "s" * 32}

    def given(kid: str) -> Config:
        jwt = JwtSettings(algorithms=("HS256",), keys={kid: secrets[kid]})
        return config(tmp_path, users=users, auth=Auth(jwt=jwt))

    def url(run: Run, kid: str) -> str:
        claims = {"sub": "alice", "exp": 4_000_000_000}
        token = encode(claims, secrets[kid], "HS256", headers={"kid": kid})
        return run.url.replace("//", f"//alice:{token}@")

    async with Run(given("main")) as run:
        async with connect(url(run, "main")) as client:
            await client.declare_queue("a")
        run.next = given("next")
        run.daemon.reload()
        async with connect(url(run, "next")) as client:
            await client.declare_queue("b")
        with pytest.raises(Unauthenticated):
            async with connect(url(run, "main")):
                pass


async def test_sessions_are_kept_as_configured(tmp_path):
    policy = SessionPolicy(overflow="refuse", durability="os")
    async with Run(config(tmp_path, sessions=policy)) as run:
        assert run.daemon._broker.core.clients._policy is policy


async def test_reload_with_a_bad_certificate_changes_nothing(tmp_path, caplog):
    listener = certify(tmp_path, trustme.CA(), "127.0.0.1")
    given = config(tmp_path, listeners=(*LOOPBACK, listener))
    async with Run(given) as run:
        assert [url.partition(":")[0] for url in run.urls.result()] == ["braid", "braids"]
        (tmp_path / "cert").write_text("damaged")
        run.next = msgspec.structs.replace(
            given, limits=msgspec.structs.replace(SMALL, queues_max=1)
        )
        run.daemon.reload()
        assert run.daemon._broker.core.limits.queues_max == SMALL.queues_max
    assert "cannot be used" in caplog.text


async def test_a_connection_has_time_to_finish_and_a_second_signal_does_not_wait(tmp_path):
    run = await Run(config(tmp_path, drain_ms=3_600_000)).__aenter__()
    host, port = run.url.removeprefix("braid://").split(":")
    # Somebody who never says anything would be waited for.
    _, writer = await asyncio.open_connection(host, int(port))
    run.daemon._on_stop("SIGTERM")
    run.daemon._on_stop("SIGTERM")
    await asyncio.wait_for(run.task, SECONDS)
    writer.close()


async def test_dump_writes_into_the_log(tmp_path, caplog):
    async with Run(config(tmp_path)) as run:
        run.daemon.dump()
    [record] = [r for r in caplog.records if "state of all tasks" in r.getMessage()]
    assert record.fields["tasks"] >= 2


async def test_reload_before_it_is_ready_is_put_off(tmp_path, caplog):
    daemon = Daemon(config(tmp_path), lambda: Config())
    daemon.reload()
    assert "not reloaded: still starting" in caplog.text


async def test_recovery_is_told_to_systemd(tmp_path, monkeypatch):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
        manager.bind(str(tmp_path / "notify"))
        manager.settimeout(SECONDS)
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        daemon = Daemon(config(tmp_path), lambda: Config())
        daemon._recovered(43, 100)
        assert b"STATUS=recovering 43%\nEXTEND_TIMEOUT_USEC=" in manager.recv(200)
