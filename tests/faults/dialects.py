"""The dialects, each with a campaign of its own: every fault is tried on all of them."""

from collections.abc import Callable
from pathlib import Path

from .campaign import Campaign, cycles
from .move_campaign import MoveCampaign
from .mqtt_campaign import MqttCampaign
from .queue_campaign import QueueCampaign
from .schedule_campaign import ScheduleCampaign
from .stomp_campaign import StompCampaign
from .stream_campaign import StreamCampaign

__all__ = ["DIALECTS"]

DIALECTS: dict[str, Callable[[Path, Path, int], Campaign]] = {
    "queues": QueueCampaign,
    "mqtt": MqttCampaign,
    "streams": StreamCampaign,
    "stomp": StompCampaign,
}
if cycles(0):  # in `make test` they have test_schedule_seeded.py alone, because each drain waits
    DIALECTS["schedules"] = ScheduleCampaign
    DIALECTS["transactions"] = MoveCampaign  # and these test_move_audit.py
