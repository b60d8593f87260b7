"""The whole harness against a daemon with a bug in it, for streams, groups and fan-out.

As ``test_mqtt_seeded.py`` does it: the histories are real, one method of the daemon is wrong. When
such a bug is not noticed, its method may have another name by now, or the audit has become blind.
"""

import asyncio
from pathlib import Path

import pytest

from tests.figures import figures

from .campaign import cycles
from .daemon import Daemon, NotStarted
from .powercut import lossy_disk, why_not
from .seeding import check_noticed
from .stream_campaign import StreamCampaign
from .stream_planting import FILES_ALL_THE_TIME, SLOW_DISK, planted

pytestmark = [pytest.mark.slow]

CYCLES_MAX = 20

# What is wrong, and what of it the audit has to notice, beside whatever else it does.
BUGS = {
    "forgets a block when it moves records to a file": (
        "from braidmq.broker.shard import Shard\n"
        "rehome = Shard.rehome\n"
        "def forgetful(self, file, replaces):\n"
        "    lsns, files = rehome(self, file, replaces)\n"
        "    return lsns + self._drop_blocks(1), files\n"
        "Shard.rehome = forgetful\n",
        {"lost", "trimmed", "gap", "vanished"},
    ),
    "mixes up times when it merges blocks": (
        "import braidmq.storage.coldwriter as writer\n"
        "from braidmq.storage.block import decode_block, encode_block\n"
        "merge = writer.merge_blocks\n"
        "def hasty(blocks):\n"
        "    fields = zip(*map(lambda each: list(each.fields()[:]), blocks))\n"
        "    _, _, keys, headers, bodies = map(lambda column: [v for part, block in\n"
        "        zip(column, blocks) for v, _ in zip(part, range(block.count))], fields)\n"
        "    first = blocks[0]\n"
        "    return encode_block(first.shard, first.first, first.time_ms, keys, headers, bodies)\n"
        "writer.merge_blocks = hasty\n",
        {"changed"},
    ),
    "forgets the last block of a shard at a restart": (
        "from braidmq.broker.streamstore import StreamStore\n"
        "finish = StreamStore.finish\n"
        "def forgetful(self):\n"
        "    finish(self)\n"
        "    for shard in self.shards.values():\n"
        "        if shard.firsts and not shard.closed:\n"
        "            shard.next = shard.firsts.pop()\n"
        "            for column in (shard.lsns, shard.sizes, shard.times):\n"
        "                column.pop()\n"
        "StreamStore.finish = forgetful\n",
        {"lost", "vanished"},
    ),
    "gives numbers again that it had lost": (
        "from braidmq.broker.shard import Shard\n"
        "put = Shard.put\n"
        "count = 0\n"
        "def again(self, number, many, *rest):\n"
        "    global count\n"
        "    count += 1\n"
        "    put(self, number, many, *rest)\n"
        "    if count % 50 == 0 and many > 1:\n"
        "        self.next -= 1\n"
        "Shard.put = again\n",
        {"reused", "lost", "duplicates"},
    ),
    "shows readers what is not kept yet": (
        "from braidmq.broker.shard import Shard\n"
        "from braidmq.broker.streamwaiting import StreamWaiting\n"
        "Shard.frontier = lambda self: 2**62\n"
        "StreamWaiting.came = lambda self, stream, shard: self.wake(stream, shard.index)\n",
        {"vanished"},
    ),
    "acknowledges records before they are kept": (
        "from braidmq.broker.streams import Streams\n"
        "from braidmq.storage.log import Durability\n"
        "append = Streams.append\n"
        "Streams.append = lambda *what: (Durability.MEMORY, append(*what)[1])\n",
        {"lost", "reused"},
    ),
    "forgets how a shard was split": (
        "from braidmq.broker.streams import Streams\n"
        "def forgetful(self, stream, definition):\n"
        "    self._store.define(stream.id, definition)\n"
        "Streams._reshard = forgetful\n",
        {"forgotten", "changed", "lost"},
    ),
    "lets checkpoints go back": (
        "import braidmq.broker.groups as groups\n"
        "encode = groups.encode_cursor\n"
        "def back(group, shard, number, *rest):\n"
        "    return encode(group, shard, max(number - 3, 1), *rest)\n"
        "groups.encode_cursor = back\n",
        {"repeated"},
    ),
    "lets checkpoints go ahead": (
        "from braidmq.broker.groupstore import GroupStore\n"
        "finish = GroupStore.finish\n"
        "def ahead(self):\n"
        "    finish(self)\n"
        "    for group in self.by_id.values():\n"
        "        for cursor in group.cursors.values():\n"
        "            cursor.number += 2\n"
        "GroupStore.finish = ahead\n",
        {"skipped"},
    ),
    "takes checkpoints from whoever had the shard once": (
        "from braidmq.broker.groups import Groups\n"
        "def find(self, member, index, epoch):\n"
        "    return member.group.leases.get(index)\n"
        "Groups.find = find\n",
        {"fenced"},
    ),
    "begins with the first epoch at a restart": (
        "from braidmq.broker.groups import Groups\n"
        "start = Groups.start\n"
        "def again(self, epoch):\n"
        "    start(self, epoch)\n"
        "    self._epoch = 0\n"
        "Groups.start = again\n",
        {"fenced"},
    ),
    "gives children out before their parents": (
        "from braidmq.broker.group import Group\n"
        "def readable(self):\n"
        "    return [each for each in self.stream.shards.values() if not self.done(each)]\n"
        "Group.readable = readable\n",
        {"misordered"},
    ),
    "tails children before their parents": (
        "from braidmq.broker.tail import Tail\nTail._comes_later = lambda self, shard: False\n",
        {"misordered"},
    ),
    "gives a publication to one queue less": (
        "import braidmq.broker.fanout as fanout\n"
        "post = fanout.post\n"
        "count = 0\n"
        "def forgetful(log, letters, *rest):\n"
        "    global count\n"
        "    count += 1\n"
        "    if count % 20 == 0:\n"
        "        letters[0].queues = letters[0].queues[:-1]\n"
        "    post(log, letters, *rest)\n"
        "fanout.post = forgetful\n",
        {"lost", "torn"},
    ),
    "posts the letters of a publication one after the other": (
        "import asyncio\n"
        "import braidmq.broker.fanout as fanout\n"
        "post = fanout.post\n"
        "def torn(log, letters, *rest):\n"
        "    post(log, letters[:1], *rest)\n"
        "    if letters[1:]:\n"
        "        asyncio.get_running_loop().call_later(0.03, post, log, letters[1:], *rest)\n"
        "fanout.post = torn\n",
        {"torn", "lost"},
    ),
    "forgets deduplication ids": (
        "from braidmq.broker.fifo import FifoQueue\n"
        "FifoQueue.remember = lambda self, *what: None\n",
        {"lost", "torn"},
    ),
}

FILES_NOT_SYNCED = (
    "from braidmq.storage.coldwriter import ColdFileWriter\n"
    "publish = ColdFileWriter._publish\n"
    "class Hasty:\n"
    "    def __init__(self, disk):\n"
    "        self.disk = disk\n"
    "    def __getattr__(self, name):\n"
    "        if name in ('fdatasync', 'fsync_dir'):\n"
    "            return lambda *what: None\n"
    "        return getattr(self.disk, name)\n"
    "def hasty(self, *what):\n"
    "    self._disk = Hasty(self._disk)\n"
    "    publish(self, *what)\n"
    "ColdFileWriter._publish = hasty\n"
)


async def test_a_daemon_without_a_bug_is_not_accused(tmp_path: Path, request) -> None:
    """The slow disk alone, and records that move all the time, break no promise."""
    environment = planted(tmp_path, SLOW_DISK + FILES_ALL_THE_TIME)
    campaign = StreamCampaign(tmp_path / "data", tmp_path, seed=36)

    async def kill(daemon: Daemon) -> None:
        await asyncio.sleep(campaign.rng.uniform(0.3, 0.8))
        await daemon.kill()

    for _ in range(cycles(3)):
        await campaign.cycle(kill, campaign.daemon((), environment))
    await campaign.finish()
    campaign.verdict(request)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.replace(" ", "-"))
async def test_a_daemon_with_a_bug_is_caught(tmp_path: Path, request, bug: str) -> None:
    code, kinds = BUGS[bug]
    campaign = StreamCampaign(tmp_path / "data", tmp_path, seed=37)
    await check_noticed(request, campaign, FILES_ALL_THE_TIME + code, kinds, seconds=(0.3, 0.8))


async def test_files_that_are_not_synced_are_noticed_when_power_is_cut(tmp_path, request):
    """A COLD record is durable, and its file is not: only a power cut shows that."""
    if reason := why_not("ext4"):
        pytest.skip(reason)
    environment = planted(tmp_path, FILES_ALL_THE_TIME + FILES_NOT_SYNCED)
    with lossy_disk("ext4", tmp_path) as disk:
        campaign = StreamCampaign(disk.path / "data", tmp_path, seed=38)
        campaign.guard_seconds = 1.0
        noticed, cycle = "", 0
        while not noticed and cycle < CYCLES_MAX:
            cycle += 1

            async def cut(daemon: Daemon) -> None:
                await asyncio.sleep(campaign.rng.uniform(0.5, 1.0))
                daemon.freeze()
                disk.cut()
                await daemon.kill()

            try:
                await campaign.cycle(cut, campaign.daemon((), environment))
            except NotStarted as refused:
                assert refused.status == 74, refused.log
                noticed = "refused to start"
            campaign.journal.power_cut_runs.add(campaign.journal.run)
            disk.umount()
            disk.mount()
            noticed = noticed or ", ".join(campaign.journal.found())
        figures(request, f"noticed in cycle {cycle}: {noticed}")
        assert noticed, campaign.line
