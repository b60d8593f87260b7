"""The harness for STOMP against a daemon with a bug in it: kills show every one of them.

As ``test_mqtt_seeded.py``.
"""

from pathlib import Path

import pytest

from .seeding import check_noticed
from .stomp_campaign import StompCampaign

pytestmark = [pytest.mark.slow]

# What is wrong, and what of it the audit has to notice, beside whatever else it does.
BUGS = {
    "commits one step and later the others": (
        "import asyncio\n"
        "from braidmq.broker.transaction import _Transaction\n"
        "apply = _Transaction.apply\n"
        "def torn(self):\n"
        "    steps, self._steps = self._steps, self._steps[:1]\n"
        "    done = apply(self)\n"
        "    self._steps = steps[1:]\n"
        "    asyncio.get_running_loop().call_later(0.03, apply, self)\n"
        "    return done\n"
        "_Transaction.apply = torn\n",
        {"torn"},
    ),
    "answers a COMMIT before it is kept": (
        "from braidmq.protocols.stomp.session import StompSession\n"
        "from braidmq.storage.log import Durability\n"
        "def hasty(self, frame, now_ms):\n"
        "    self.transactions.commit(frame.headers, now_ms)\n"
        "    self.answer(Durability.MEMORY, frame.headers.get('receipt'))\n"
        "import braidmq.protocols.stomp.session as session\n"
        "session._HANDLERS['COMMIT'] = hasty\n",
        {"lost", "torn"},
    ),
    "answers 1.0 before it is kept": (
        "from braidmq.protocols.stomp.session import StompSession\n"
        "from braidmq.protocols.stomp.frames import V10\n"
        "from braidmq.storage.log import Durability\n"
        "answer = StompSession.answer\n"
        "def hasty(self, level, receipt):\n"
        "    answer(self, Durability.MEMORY if self.version is V10 else level, receipt)\n"
        "StompSession.answer = hasty\n",
        {"lost", "torn", "resurrected"},
    ),
    "loses an ACK of 1.1": (
        "from braidmq.protocols.stomp.acknowledging import Acknowledging\n"
        "from braidmq.protocols.stomp.frames import V11\n"
        "settle = Acknowledging._settle\n"
        "def lose(self, taken):\n"
        "    settle(self, () if self._session.version is V11 else taken)\n"
        "Acknowledging._settle = lose\n",
        {"resurrected"},
    ),
    "acknowledges at once what a transaction acknowledges": (
        "from braidmq.protocols.stomp.acknowledging import Acknowledging\n"
        "on_ack = Acknowledging.on_ack\n"
        "def at_once(self, headers, now_ms):\n"
        "    headers.pop('transaction', None)\n"
        "    on_ack(self, headers, now_ms)\n"
        "Acknowledging.on_ack = at_once\n",
        {"vanished", "torn"},
    ),
    "commits what was left open when its client goes": (
        "from braidmq.protocols.stomp.transactions import Transactions\n"
        "def done(self):\n"
        "    for name in list(self._open):\n"
        "        self.commit({'transaction': name}, self._session.core.now_ms)\n"
        "Transactions.forget = done\n",
        {"phantom"},
    ),
    "takes a cumulative ACK for one message": (
        "from braidmq.protocols.stomp.subscribing import Subscription\n"
        "def one(self, tag):\n"
        "    return {tag: self.held.pop(tag)}\n"
        "Subscription.take = one\n",
        {"resurrected"},
    ),
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.replace(" ", "-"))
async def test_a_daemon_with_a_bug_is_caught(tmp_path: Path, request, bug: str) -> None:
    campaign = StompCampaign(tmp_path / "data", tmp_path, seed=41)
    await check_noticed(request, campaign, *BUGS[bug])
