"""Schedules under kill -9; and against a daemon with a bug in it: kills show every one of them.

As ``test_mqtt_seeded.py``.
"""

from pathlib import Path

import pytest

from .campaign import cycles
from .daemon import Daemon
from .schedule_campaign import QUICK_CRON, ScheduleCampaign
from .seeding import check_noticed

pytestmark = [pytest.mark.slow]

# What is wrong, and what of it the audit has to notice, beside whatever else it does.
BUGS = {
    "sends, and later notes that it did": (
        "import asyncio\n"
        "from braidmq.broker.schedulequeue import ScheduleQueue\n"
        "from braidmq.storage.record import encode_delay, encode_receive\n"
        "def late(self, receipt, fired, due_ms):\n"
        "    seq = receipt[0]\n"
        "    self.note_receives(seq, fired)\n"
        "    self.wait(receipt, due_ms)\n"
        "    def note():\n"
        "        self.log.append((encode_receive(self.id, fired, [seq]),))\n"
        "        self.log.append((encode_delay(self.id, due_ms, [seq]),))\n"
        "    asyncio.get_running_loop().call_later(0.03, note)\n"
        "ScheduleQueue.go_on = late\n",
        {"doubled"},
    ),
    "confirms a schedule before it is kept": (
        "from braidmq.protocols.stomp.session import StompSession\n"
        "from braidmq.storage.log import Durability\n"
        "answer = StompSession.answer\n"
        "StompSession.answer = lambda self, level, receipt: answer("
        "self, Durability.MEMORY, receipt)\n",
        {"lost"},
    ),
    "removes later than it says": (
        "import asyncio\n"
        "from braidmq.broker.schedules import Schedules\n"
        "remove = Schedules.remove\n"
        "def late(self, id):\n"
        "    if self.queue.slot(id):\n"
        "        remove(self, id)\n"
        "Schedules.remove = lambda self, id: asyncio.get_running_loop().call_later("
        "0.1, late, self, id) and None\n",
        {"removed"},
    ),
    "forgets at a restart how often it was sent": (
        "import braidmq.broker.schedulequeue as module\n"
        "encode_receive = module.encode_receive\n"
        "module.encode_receive = lambda id, fired, seqs: encode_receive(id, fired // 2, seqs)\n",
        {"doubled"},
    ),
    "leaves a time out that is late": (
        "from braidmq.broker.schedules import Schedules\n"
        "fire = Schedules._fire\n"
        "def forgetful(self, plan, id, sent_before, *what):\n"
        "    late_ms = what[-1] - plan.created_ms - plan.timing.delay_ms - plan.timing.period_ms\n"
        "    if plan.timing.repeat or late_ms < 300:\n"
        "        fire(self, plan, id, sent_before, *what)\n"
        "Schedules._fire = forgetful\n",
        {"lost"},
    ),
}


async def test_kill_9_while_schedules_are_made_and_sent_and_removed(tmp_path, request):
    campaign = ScheduleCampaign(tmp_path / "data", tmp_path, seed=1)

    async def kill(daemon: Daemon) -> None:
        await campaign.busy(daemon)
        await daemon.kill()

    for _ in range(cycles(3)):
        await campaign.cycle(kill)
    await campaign.finish()
    campaign.verdict(request)


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.replace(" ", "-"))
async def test_a_daemon_with_a_bug_is_caught(tmp_path: Path, request, bug: str) -> None:
    code, kinds = BUGS[bug]
    campaign = ScheduleCampaign(tmp_path / "data", tmp_path, seed=43)
    await check_noticed(request, campaign, QUICK_CRON + code, kinds)
