"""A campaign for streams, consumer groups and fan-out, over the native protocol.

Segments and hot blocks are small, so that records move to files all the time.
"""

import asyncio
from collections.abc import Awaitable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from .campaign import Campaign, Fault
from .daemon import Daemon
from .fanout_audit import (
    BINDINGS,
    FAN_FIFO,
    FAN_QUEUE_SETTINGS,
    FAN_QUEUES,
    FAN_STREAM,
    FAN_TOPIC,
)
from .fanout_load import empty, publish, pull
from .group_load import Member
from .load import ENDING_CODES
from .stream_audit import STREAMS, StreamJournal
from .stream_load import Tail, append, read_all, reread, reshard
from .stream_wire import BIND, DECLARE_STREAM, DELETE_STREAM, GROUP_INFO, StreamWire
from .wire import DECLARE_QUEUE, Gone, Refusal

__all__ = ["FILES_SOON", "StreamCampaign"]

FILES_SOON = {
    "BRAIDMQ_LIMITS__SHARD_HOT_BYTES_MAX": "16KiB",
    "BRAIDMQ_LIMITS__SHARD_HOT_LAG_BYTES_MAX": "64KiB",
    "BRAIDMQ_LIMITS__GROUP_RELEASE_MS": "200",
}
GROUPS = {"clicks": ("counting", 3), FAN_STREAM: ("archiving", 2)}  # and how many members
LONGER_SHARE, LONGER_TIMES = 0.2, 4.0  # of the runs, and how much longer those are
CHAPTER_RECORDS_MAX = 15_000  # then a stream is deleted, and begins again
VERIFIED_SHARE = 0.1  # of the runs read everything again, not only what is new


class StreamCampaign(Campaign):
    """See :class:`Campaign`."""

    GONE = (Gone, Refusal)
    BUSY_ACKED_MAX = 4_000
    journal: StreamJournal

    def __init__(self, data: Path, scratch: Path, seed: int) -> None:
        super().__init__(data, scratch, seed, StreamJournal())
        self._looked_run = 0
        self._files: set[str] = set()  # of records, that were ever seen
        self._bound: set[tuple[str, str]] = set()
        self._members = [
            Member(self.journal, self.rng, stream, group)
            for stream, (group, count) in GROUPS.items()
            for _ in range(count)
        ]

    def daemon(
        self,
        prefix: Sequence[str] = (),
        environment: Mapping[str, str] | None = None,
        flags: Sequence[str] = (),
    ) -> Daemon:
        return super().daemon(prefix, FILES_SOON | dict(environment or {}), flags)

    async def busy(self, daemon: Daemon, share: float = 1.0) -> None:
        """As in all campaigns, but now and then so long that records are let go meanwhile."""
        longer = share == 1.0 and self.rng.random() < LONGER_SHARE
        await super().busy(daemon, LONGER_TIMES if longer else share)

    def expect_write_errors(self) -> None:
        """Those are known by their codes, see ``load.py``."""

    # After a start ----------------------------------------------------------------------------

    async def look(self, daemon: Daemon) -> None:
        wire = await StreamWire.open(daemon.port)
        try:
            await self._declare(wire)
            for queue in (*FAN_QUEUES, FAN_FIFO):
                await empty(wire, self.journal, queue, self.guard_seconds)
            self.journal.fan.settled()
            self._files |= {str(path) for path in self.data.glob("shard-00/cold/*/*.seg")}
            self.journal.counts["files"] = len(self._files)
            self._looked_run = self.journal.run
        finally:
            wire.abort()

    async def _declare(self, wire: StreamWire) -> None:
        for name, settings in FAN_QUEUE_SETTINGS.items():
            await wire.call(DECLARE_QUEUE, name, settings)
        for name in STREAMS:
            await self._look_at(wire, name)
        targets = [("queue", name) for name in FAN_QUEUE_SETTINGS] + [("stream", FAN_STREAM)]
        for target in targets:
            if target not in self._bound:
                await wire.call(BIND, FAN_TOPIC, target, BINDINGS.get(target[1], {}))
                self._bound.add(target)

    async def _look_at(self, wire: StreamWire, name: str, all_of_it: bool = False) -> None:
        """Make a stream if it is not there, and see that all of it is, as it was."""
        journal = self.journal
        settings, shards = STREAMS[name]
        info = (await wire.call(DECLARE_STREAM, name, settings, shards))[2][0]
        book = journal.declared(name, info["created_ms"])
        journal.told(name, info["shards"])
        all_of_it = all_of_it or self.rng.random() < VERIFIED_SHARE
        ends = {told["index"]: told["next"] for told in info["shards"]}
        for index, end in ends.items():
            journal.ends_at(name, index, end)
            if all_of_it:
                book.shard(index).verified = 0
        await read_all(wire, journal, self.rng, name, ends)
        journal.settled(name)

    # Load -------------------------------------------------------------------------------------

    async def under_load(self, daemon: Daemon, fault: Fault) -> None:
        behaviours = self._behaviours(daemon.port) if self._looked_run == self.journal.run else []
        actors = [asyncio.ensure_future(_act(each)) for each in behaviours]
        try:
            await asyncio.sleep(0)  # let all begin: the daemon may be gone already
            await fault(daemon)
        finally:
            for actor in actors:
                actor.cancel()
            ended = await asyncio.gather(*actors, return_exceptions=True)
        for outcome in ended:
            if isinstance(outcome, Exception):
                raise outcome

    def _behaviours(self, port: int) -> list[Awaitable[None]]:
        journal, rng = self.journal, self.rng
        behaviours: list[Awaitable[None]] = [
            append(port, journal, rng, "clicks"),
            append(port, journal, rng, "clicks"),
            append(port, journal, rng, "relaxed"),
            append(port, journal, rng, "trimmed"),
            reread(port, journal, rng),
            publish(port, journal, rng, "first"),
            publish(port, journal, rng, "second"),
            pull(port, journal, rng, FAN_QUEUES[0]),
            pull(port, journal, rng, FAN_FIFO),
        ]
        for stream in STREAMS:
            behaviours.append(Tail(journal, rng, stream).run(port))
            behaviours.append(reshard(port, journal, rng, stream))
        behaviours += [member.run(port) for member in self._members]
        return behaviours

    # The end of a chapter ---------------------------------------------------------------------

    async def drain(self, daemon: Daemon) -> None:
        wire = await StreamWire.open(daemon.port)
        try:
            for stream, (group, _) in GROUPS.items():
                await self._consume(wire, daemon.port, stream, group)
            for name in STREAMS:
                await self._look_at(wire, name, all_of_it=True)
                if not self.journal.books[name].trims:
                    await Tail(self.journal, self.rng, name).through(wire, self.guard_seconds)
                if name != FAN_STREAM and self.journal.books[name].records > CHAPTER_RECORDS_MAX:
                    self.journal.books[name].deleting = True
                    await wire.call(DELETE_STREAM, name)
                    self.journal.deleted(name)
                    await self._look_at(wire, name)
        finally:
            wire.abort()

    async def _consume(self, wire: StreamWire, port: int, stream: str, group: str) -> None:
        """Have a group read everything there is."""
        journal = self.journal
        members = [Member(journal, self.rng, stream, group, thorough=True) for _ in range(2)]
        actors = [asyncio.ensure_future(_act(member.run(port))) for member in members]
        try:
            heard = -1
            while left := await self._catches_up(wire, stream, group):
                before, heard = heard, journal.counts["checkpoints"]
                if before == heard:
                    journal.find("stuck", f"group {group} of {stream} is {left} records behind")
                    break
        finally:
            for actor in actors:
                actor.cancel()
            await asyncio.gather(*actors, return_exceptions=True)

    async def _catches_up(self, wire: StreamWire, stream: str, group: str) -> int:
        """Wait until a group has nothing left; how many records are left in the end."""
        loop = asyncio.get_running_loop()
        end = loop.time() + self.guard_seconds
        while True:
            with suppress(Refusal):  # nobody has joined yet
                info = (await wire.call(GROUP_INFO, stream, group))[2][0]
                left = sum(shard["state"] != "done" and shard["lag"] for shard in info["shards"])
                if not left or loop.time() > end:
                    return int(left)
            if loop.time() > end:
                return -1
            await asyncio.sleep(0.02)


async def _act(behaviour: Awaitable[None]) -> None:
    try:
        await behaviour
    except Gone:
        pass
    except Refusal as refusal:
        if refusal.code not in ENDING_CODES:
            raise
