"""The whole harness against a daemon with a bug in it: kills show every one of them.

``test_mqtt_audit.py`` tells the audit broken histories; here the histories are real. See
``seeding.py``.
"""

from pathlib import Path

import pytest

from .mqtt_campaign import MqttCampaign
from .seeding import check_noticed

pytestmark = [pytest.mark.slow]

# Of the publishers, after each message; and of their retained messages, how many end what was
# retained: much more often than in the campaigns, because that is what some of the bugs forget.
HANG_UP_SHARE, DELETES_SHARE = 0.1, 0.5

# What is wrong, and what of it the audit has to notice, beside whatever else it does.
BUGS = {
    "acknowledges before it is kept": (
        "from braidmq.broker.engine import Engine\n"
        "Engine.when_kept = lambda self, level, callback, argument: callback(argument, None)\n",
        # A phantom comes by an UNSUBSCRIBE that was answered and then forgotten.
        {"lost", "stale", "forgotten", "vanished", "collision", "misordered", "phantom"},
    ),
    "forgets subscriptions at a restart": (
        "from braidmq.broker.clients import Clients\n"
        "Clients._log_subscription = lambda self, session, filter, subscription: None\n",
        {"lost"},
    ),
    "forgets what QoS 2 it took": (
        "from braidmq.broker.session import SessionQueue\n"
        "put = SessionQueue.put\n"
        "def forget(self, seq, *rest):\n"
        "    put(self, seq, *rest)\n"
        "    self.inbound.clear()\n"
        "SessionQueue.put = forget\n",
        {"duplicates"},
    ),
    "forgets what QoS 2 it delivered": (
        "from braidmq.broker.session import SessionQueue\n"
        "def release(self, seq, token):\n"
        "    return True\n"
        "SessionQueue.release = release\n",
        {"duplicates"},
    ),
    "forgets acknowledgements": (
        "from braidmq.storage.record import encode_ack\n"
        "import braidmq.broker.queue as queue\n"
        "queue.encode_ack = lambda id, *what: encode_ack(id + 10**6, *what)\n",
        {"resurrected", "duplicates"},
    ),
    "lets nobody forget what is retained": (
        "from braidmq.broker.topics import Topics\n"
        "Topics.forget = lambda self, number, reason: None\n",
        {"stale"},
    ),
    "gives a message to one session less": (
        "from braidmq.broker.topics import Topics\n"
        "log_one = Topics._log_one\n"
        "count = 0\n"
        "def forgetful(self, publication, body, queues, *rest):\n"
        "    global count\n"
        "    count += 1\n"
        "    log_one(self, publication, body, queues[: len(queues) - (count % 10 == 0)], *rest)\n"
        "Topics._log_one = forgetful\n",
        {"lost", "torn"},
    ),
    "mixes up the order": (
        "from braidmq.broker.index import Lane\n"
        "first_ready = Lane.first_ready\n"
        "def later(self, number):\n"
        "    found = first_ready(self, number)\n"
        "    other = first_ready(self, found + 1) if found < self.next else self.next\n"
        "    return other if other < self.next and other % 7 == 0 else found\n"
        "Lane.first_ready = later\n",
        {"misordered"},
    ),
}


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.replace(" ", "-"))
async def test_a_daemon_with_a_bug_is_caught(tmp_path: Path, request, bug: str) -> None:
    campaign = MqttCampaign(tmp_path / "data", tmp_path, seed=37)
    for publisher in campaign.publishers:
        publisher.hang_up_share = HANG_UP_SHARE
        publisher.deletes_share = DELETES_SHARE
    await check_noticed(request, campaign, *BUGS[bug])
