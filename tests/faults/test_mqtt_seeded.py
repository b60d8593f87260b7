"""The whole harness against a daemon with a bug in it: kills show every one of them.

``test_mqtt_audit.py`` tells the audit broken histories; here the histories are real. The daemon is
ours, and a module that Python runs first replaces one method of it by one that is wrong. When such
a bug is not noticed, its method may have another name by now, or the audit has become blind.
"""

import asyncio
import os
from contextlib import suppress
from pathlib import Path

import pytest

from tests.figures import figures

from .daemon import Daemon
from .mqtt_campaign import MqttCampaign
from .mqtt_wire import Gone

pytestmark = [pytest.mark.slow]

CYCLES_MAX = 40

# Between taking a message and answering there is always time to be killed or left in, also when
# the disk is so quick that it would hardly ever happen.
SLOW_DISK = (
    "import time\n"
    "from braidmq.storage.writer import LogWriter\n"
    "commit = LogWriter.commit\n"
    "def late(self, *what):\n"
    "    time.sleep(0.02)\n"
    "    commit(self, *what)\n"
    "LogWriter.commit = late\n"
)
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


def _python_path() -> list[str]:
    return [path for path in os.environ.get("PYTHONPATH", "").split(os.pathsep) if path]


@pytest.mark.parametrize("bug", BUGS, ids=lambda bug: bug.replace(" ", "-"))
async def test_a_daemon_with_a_bug_is_caught(tmp_path: Path, request, bug: str) -> None:
    code, kinds = BUGS[bug]
    (tmp_path / "sitecustomize.py").write_text(SLOW_DISK + code)
    environment = {"PYTHONPATH": os.pathsep.join([str(tmp_path), *_python_path()])}
    campaign = MqttCampaign(tmp_path / "data", tmp_path, seed=37)
    campaign.guard_seconds = 1.0  # something is missing: there is nothing to wait for
    for publisher in campaign.publishers:
        publisher.hang_up_share = HANG_UP_SHARE
        publisher.deletes_share = DELETES_SHARE
    rng, journal = campaign.rng, campaign.journal

    async def kill(daemon: Daemon) -> None:
        await asyncio.sleep(rng.uniform(0.2, 0.6))
        await daemon.kill()

    def noticed() -> bool:
        return bool(journal.found().keys() & kinds)

    cycle = 0
    while not noticed() and cycle < CYCLES_MAX:
        cycle += 1
        await campaign.cycle(kill, campaign.daemon((), environment))
        async with campaign.daemon((), environment) as daemon:
            with suppress(Gone):  # some bugs show themselves by an error
                await campaign.begun(daemon)
                if not noticed():
                    await campaign.drain(daemon)
    figures(request, f"noticed in cycle {cycle}: {', '.join(journal.found())}")
    assert noticed(), "\n".join([campaign.line, *journal.findings])
