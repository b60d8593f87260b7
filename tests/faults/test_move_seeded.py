"""The harness for transactions against a daemon with a bug in it: kills show every one of them.

As ``test_mqtt_seeded.py``.
"""

import pytest

from .move_campaign import MoveCampaign
from .seeding import check_noticed

pytestmark = [pytest.mark.slow]

# What is wrong, and what of it the audit has to notice, beside whatever else it does.
BUGS = {
    "does half of the steps and later the others": (
        "import asyncio\n"
        "from braidmq.broker.transaction import _Transaction\n"
        "apply = _Transaction.apply\n"
        "def torn(self):\n"
        "    half = len(self._steps) // 2\n"
        "    later = self._steps[half:]\n"
        "    del self._steps[half:]\n"
        "    level, results = apply(self)\n"
        "    self._steps = later\n"
        "    asyncio.get_running_loop().call_later(0.03, apply, self)\n"
        "    return level, results + [None] * len(later)\n"
        "_Transaction.apply = torn\n",
        {"torn"},
    ),
    "answers before it is kept": (
        "from braidmq.protocols.native import operations, session\n"
        "on_transact = session.NativeSession.on_transact\n"
        "def hasty(self, request, now_ms):\n"
        "    self._answers = lambda level: self._out\n"
        "    try:\n"
        "        on_transact(self, request, now_ms)\n"
        "    finally:\n"
        "        del self._answers\n"
        "session._HANDLERS[operations.Transact] = (hasty, 0)\n",
        {"lost"},
    ),
    "does what it refuses": (
        "from braidmq.broker.transaction import _Transaction\n"
        "_Transaction.refuse = _Transaction.apply\n",
        {"phantom"},
    ),
}


@pytest.mark.parametrize("bug", BUGS)
async def test_the_audit_notices(tmp_path, request, bug):
    code, kinds = BUGS[bug]
    await check_noticed(request, MoveCampaign(tmp_path / "data", tmp_path, 6), code, kinds)
