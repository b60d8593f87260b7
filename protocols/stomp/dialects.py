"""What differs between the STOMP of ActiveMQ and that of RabbitMQ: one table.

STOMP leaves to the broker what a destination is called, what NACK does and which headers say how
something is to be sent or subscribed to, and every application is written for what its broker does.
A listener has one dialect. It fixes conventions and nothing else: queues, topics and messages are
the same for both, and for every other protocol.

A difference is a field of :class:`Dialect`, and a line of the table in docs/stomp.md. Code that
wants to know asks the field; nobody compares the dialect's name.

Sources: ActiveMQ Classic 5.17 and RabbitMQ 3.10, as observed; https://activemq.apache.org/stomp,
https://www.rabbitmq.com/docs/stomp.
"""

from collections.abc import Mapping
from typing import Any, Final, Literal

import msgspec

from ...broker.errors import InvalidArgument

__all__ = ["ACTIVEMQ", "DIALECTS", "RABBITMQ", "Dialect", "Prefetch", "Refused", "whole_number"]

_DIGITS_MAX = 18  # of a number in a header: it fits into 64 bits

Kind = Literal["queue", "topic", "durable", "browser"]


class Refused(InvalidArgument):
    """A frame asks for what cannot be. ``message`` and ``detail`` are for the ERROR frame."""

    def __init__(self, message: str, detail: str) -> None:
        super().__init__(f"{message}: {detail}")
        self.message = message
        self.detail = detail


class Prefetch(msgspec.Struct, frozen=True):
    """How many messages a subscription is sent ahead of its acknowledgements; 0: ``credit_max``."""

    queue: int = 0
    topic: int = 0
    durable: int = 0  # a durable subscription to a topic
    browser: int = 0


class Dialect(msgspec.Struct, frozen=True, kw_only=True):
    """The conventions of one broker. "" stands for a header that it has not.

    The texts of errors are the ``message`` of the ERROR and its body; in them ``{value}`` is what
    the client wrote and ``{why}`` what is wrong with it.
    """

    name: str

    # Destinations
    wildcards: Mapping[str, str]  # a word in a destination -> a level of a filter
    composites: bool  # commas separate destinations
    queue_wildcards: bool  # a SUBSCRIBE to /queue/PRICE.> consumes from all queues that match
    virtual_topics: bool  # /queue/Consumer.NAME.VirtualTopic.X is bound to VirtualTopic/X
    temporary_only_in_reply_to: bool  # nobody can SEND or SUBSCRIBE to /temp-queue/ or /temp-topic/
    reply_queue_prefix: str  # how somebody else's temporary queue is shown in reply-to
    exchanges_shown: bool  # amq.direct/KEY as /exchange/amq.direct/KEY, not as a topic

    # SEND
    expiry_header: str
    expiry_is_absolute: bool  # unix ms, 0 for never; else ms from now on
    delay_header: str  # ms
    period_header: str  # ms between repetitions
    repeat_header: str  # how many
    cron_header: str
    retain_header: str  # "true": the topic keeps the message for who subscribes later
    text_without_length: bool  # a body without content-length is text, both ways
    refused_on_send: frozenset[str]  # headers

    # SUBSCRIBE
    prefetch_header: str
    prefetch: Prefetch
    durable_header: str  # names the durable subscription, or says "true" and its id names it
    durable_needs_client_id: bool  # from CONNECT, in front of the name
    exclusive_header: str
    exclusive_refuses: bool  # a second consumer; else it waits until the exclusive one is gone
    priority_header: str  # of consumers: higher ones first
    no_local_header: str  # nothing that the same connection sent

    # MESSAGE
    message_id: str  # of {id}, {subscription} and {session}
    fields_always: bool  # priority, timestamp and expires on each; else if the sender gave them
    redelivered_always: bool  # also when it is false
    receives_header: str  # how often it was delivered before, or with this time; when again
    receives_counts_this: bool
    retained_header: str  # "true" on what was there before the subscription
    origin_header: str  # the destination where a dead letter, or a topic's message, was before
    dead_letter_headers: Mapping[str, str]  # the broker's names -> further names for the same

    # NACK
    nack: Literal["dead-letter", "requeue"]
    nack_requeue_header: str  # "true" and "false" say otherwise

    # Queues that are declared because somebody uses them
    dead_letter: str  # "{queue}" stands for the name of the queue; "" for none
    queue_settings: Mapping[str, Any]
    queue_headers: Mapping[str, str]  # of SEND and SUBSCRIBE -> settings

    # ERROR
    refused_login: tuple[str, str]
    unknown_destination: tuple[str, str]
    invalid_destination: tuple[str, str]
    invalid_header: tuple[str, str]

    def not_let_in(self, login: str) -> Refused:
        """The error for a login that nobody has, or with another passcode."""
        message, detail = self.refused_login
        return Refused(message.format(value=login), detail.format(value=login))

    def unknown(self, destination: str) -> Refused:
        """The error for a destination that begins with nothing known."""
        message, detail = self.unknown_destination
        return Refused(message.format(value=destination), detail.format(value=destination))

    def invalid(self, destination: str, why: str) -> Refused:
        """The error for a destination that is none; ``why`` says what it should be."""
        message, detail = self.invalid_destination
        return Refused(
            message.format(value=destination, why=why), detail.format(value=destination, why=why)
        )

    def bad_header(self, name: str, why: str) -> Refused:
        """The error for a header that means nothing; ``why`` says what it should be."""
        message, detail = self.invalid_header
        return Refused(message.format(value=name, why=why), detail.format(value=name, why=why))

    def prefetch_of(self, headers: Mapping[str, str], kind: Kind, credit_max: int) -> int:
        """How many messages a SUBSCRIBE with these headers is sent ahead, 1 to ``credit_max``.

        0 in the header means without a limit, and so ``credit_max``.

        Raises:
            Refused: the header is no whole number.
        """
        written = headers.get(self.prefetch_header)
        if written is None:
            asked = int(getattr(self.prefetch, kind))
        else:
            asked = whole_number(self, self.prefetch_header, written)
        return min(asked, credit_max) if asked else credit_max

    def durable_name(self, headers: Mapping[str, str], client_id: str) -> str:
        """The session that a SUBSCRIBE or UNSUBSCRIBE with these headers means; "" for none.

        Raises:
            Refused: it is to be durable and has no name.
        """
        value = headers.get(self.durable_header, "")
        if self.durable_needs_client_id:
            if value and not client_id:
                raise self.bad_header(
                    self.durable_header, "a durable subscription needs a client-id in CONNECT"
                )
            return f"{client_id}:{value}" if value else ""
        # RabbitMQ: "persistent" is the older name of "durable".
        if "true" not in (value, headers.get("persistent")):
            return ""
        if not headers.get("id"):
            raise self.bad_header("id", "Header 'id' is required for durable subscriptions")
        return f"{headers.get('destination', '')}:{headers['id']}"

    def settings_for(self, queue: str, headers: Mapping[str, str]) -> dict[str, Any]:
        """Settings of a queue that is declared because a frame with these headers names it.

        Raises:
            Refused: a header that says how the queue is to be has a value that it cannot have.
        """
        settings = dict(self.queue_settings)
        dead_letter = self.dead_letter.replace("{queue}", queue)
        if dead_letter:
            if queue == dead_letter or _is_dead_letter(self.dead_letter, queue):
                return {}  # what is there stays there
            settings["dead_letter"] = dead_letter
        for header, setting in self.queue_headers.items():
            written = headers.get(header)
            if written is None:
                continue
            if setting == "dead_letter":
                settings |= {setting: written, "dead_letter_expired": True}
            elif setting == "overflow":
                settings[setting] = self._overflow(header, written)
            else:
                settings[setting] = whole_number(self, header, written)
                if setting in ("messages_max", "bytes_max"):
                    settings.setdefault("overflow", "drop-oldest")
        return settings

    def _overflow(self, header: str, written: str) -> str:
        known = {"drop-head": "drop-oldest", "reject-publish": "reject"}
        if written not in known:
            raise self.bad_header(header, f"it is one of {', '.join(known)}")
        return known[written]


def _is_dead_letter(template: str, queue: str) -> bool:
    """Whether a queue is where the dead letters of another one go."""
    before, mark, after = template.partition("{queue}")
    return bool(mark) and queue.startswith(before) and queue.endswith(after)


def whole_number(dialect: Dialect, header: str, written: str) -> int:
    """The number that a header holds. Refused when it holds none, or a negative one."""
    digits = written.strip(" ")
    if not (digits.isascii() and digits.isdigit() and len(digits) <= _DIGITS_MAX):
        raise dialect.bad_header(header, f"it is a whole number of at most {_DIGITS_MAX} digits")
    return int(digits)


ACTIVEMQ: Final = Dialect(
    name="activemq",
    wildcards={"*": "+", ">": "#", "#": "#", "+": "+"},
    composites=True,
    queue_wildcards=True,
    virtual_topics=True,
    temporary_only_in_reply_to=False,
    reply_queue_prefix="/remote-temp-queue/",
    exchanges_shown=False,
    expiry_header="expires",
    expiry_is_absolute=True,
    delay_header="AMQ_SCHEDULED_DELAY",
    period_header="AMQ_SCHEDULED_PERIOD",
    repeat_header="AMQ_SCHEDULED_REPEAT",
    cron_header="AMQ_SCHEDULED_CRON",
    retain_header="ActiveMQ.Retain",
    text_without_length=True,
    refused_on_send=frozenset(),
    prefetch_header="activemq.prefetchSize",
    prefetch=Prefetch(queue=1_000, topic=32_767, durable=100, browser=500),
    durable_header="activemq.subscriptionName",
    durable_needs_client_id=True,
    exclusive_header="activemq.exclusive",
    exclusive_refuses=False,
    priority_header="activemq.priority",
    no_local_header="activemq.noLocal",
    message_id="ID:{id}",
    fields_always=True,
    redelivered_always=False,
    receives_header="JMSXDeliveryCount",
    receives_counts_this=True,
    retained_header="ActiveMQ.Retained",
    origin_header="original-destination",
    dead_letter_headers={
        "dead-letter-reason": "dlqDeliveryFailureCause",
        "schedule-id": "scheduledJobId",
    },
    nack="dead-letter",
    nack_requeue_header="",
    dead_letter="ActiveMQ.DLQ",
    queue_settings={"max_receives": 7, "dead_letter_expired": True, "group_affinity": True},
    queue_headers={},
    refused_login=(
        "User name [{value}] or password is invalid.",
        "Connect with the login and passcode of a user of this broker.",
    ),
    unknown_destination=(
        "Illegal destination name: [{value}] -- ActiveMQ STOMP destinations must begin with one of:"
        " /queue/ /topic/ /temp-queue/ /temp-topic/",
        "Write the kind in front of the name: /queue/{value}, /topic/{value} or /stream/{value}.",
    ),
    invalid_destination=("Illegal destination name: [{value}]", "{why}"),
    invalid_header=("The header {value} cannot be used", "{value}: {why}"),
)

RABBITMQ: Final = Dialect(
    name="rabbitmq",
    wildcards={"*": "+", "#": "#", "+": "+"},
    composites=False,
    queue_wildcards=False,
    virtual_topics=False,
    temporary_only_in_reply_to=True,
    reply_queue_prefix="/reply-queue/",
    exchanges_shown=True,
    expiry_header="expiration",
    expiry_is_absolute=False,
    delay_header="x-delay",
    period_header="",
    repeat_header="",
    cron_header="",
    retain_header="",
    text_without_length=False,
    refused_on_send=frozenset(["message-id"]),
    prefetch_header="prefetch-count",
    prefetch=Prefetch(),
    durable_header="durable",
    durable_needs_client_id=False,
    exclusive_header="exclusive",
    exclusive_refuses=True,
    priority_header="x-priority",
    no_local_header="",
    message_id="T_{subscription}@@session-{session}@@{id}",
    fields_always=False,
    redelivered_always=True,
    receives_header="x-delivery-count",
    receives_counts_this=False,
    retained_header="",
    origin_header="",
    dead_letter_headers={
        "dead-letter-queue": "x-first-death-queue",
        "dead-letter-reason": "x-first-death-reason",
    },
    nack="requeue",
    nack_requeue_header="requeue",
    dead_letter="",
    queue_settings={},
    queue_headers={
        "x-message-ttl": "ttl_ms",
        "x-max-length": "messages_max",
        "x-max-length-bytes": "bytes_max",
        "x-overflow": "overflow",
        "x-delivery-limit": "max_receives",
        "x-dead-letter-routing-key": "dead_letter",
    },
    refused_login=("Bad CONNECT", "Access refused for user '{value}'\n"),
    unknown_destination=(
        "Unknown destination",
        "'{value}' is not a valid destination.\nValid destination types are: /temp-queue, /queue,"
        " /topic, /exchange, /amq/queue, /reply-queue, /stream.\n",
    ),
    invalid_destination=("Invalid destination", "'{value}' is not a valid destination: {why}\n"),
    invalid_header=("Invalid header", "'{value}': {why}\n"),
)

DIALECTS: Final = {dialect.name: dialect for dialect in (ACTIVEMQ, RABBITMQ)}
