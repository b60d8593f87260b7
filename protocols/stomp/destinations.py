"""What a ``destination`` names, and how the broker's names are written as destinations.

    /queue/a.b                  the queue a.b
    /queue/a.*                  all queues that match, those to come too (ActiveMQ)
    /queue/Consumer.N.VirtualTopic.X   the queue of that name, bound to the topic VirtualTopic/X
    /amq/queue/NAME             the same queue, which must be there
    /topic/a.b, /topic/a/b      the topic a/b
    /exchange/amq.topic/a.b     the same topic
    /exchange/amq.direct/KEY    the topic amq.direct/KEY; the key is taken as it is
    /exchange/amq.fanout        the topic amq.fanout; a key is ignored
    /stream/NAME                the stream NAME
    /temp-queue/N, /temp-topic/N    the connection's own, by its own name
    /remote-temp-queue/N, /reply-queue/N, /remote-temp-topic/N    somebody else's, to answer to

Rules:

1. In a SUBSCRIBE a word of a topic may be a wildcard of the dialect, also the one for many words
   at the beginning and in the middle. Nobody can SEND to wildcards.
2. With ``composites``, commas separate destinations; one without a prefix is of the kind of the one
   before it.
3. What would mean something else is written as in a URL: ``%2E`` is a dot within a level of a
   topic, ``%2F`` a slash. So each name has a destination, and :func:`show` and :func:`parse` are
   inverse to one another.
4. Whether a name is a good one for a queue or a topic is not decided here but where it is used.

An *address* names a place where something can be sent to, in one word that all dialects understand:
a topic, ``$queue/NAME`` or ``$stream/NAME``, as MQTT clients write it. ``reply-to`` is stored so.
"""

import re
from collections.abc import Callable
from typing import Final, Literal, NoReturn

import msgspec

from ...broker.topic import QUEUE_PREFIX
from .dialects import Dialect

__all__ = [
    "COMPOSITE_TARGETS_MAX",
    "TEMPORARY_QUEUE_PREFIX",
    "TEMPORARY_TOPIC_PREFIX",
    "Queue",
    "Queues",
    "ReplyQueue",
    "ReplyTopic",
    "Role",
    "Stream",
    "Target",
    "TempQueue",
    "TempTopic",
    "Topic",
    "address",
    "parse",
    "show",
    "target_at",
]

COMPOSITE_TARGETS_MAX: Final = 32

# Names that the broker gives to temporary queues and topics; what follows nobody can guess.
TEMPORARY_QUEUE_PREFIX: Final = "temp-queue."
TEMPORARY_TOPIC_PREFIX: Final = "temp-topic/"

STREAM_PREFIX: Final = "$stream/"
_DIRECT: Final = "amq.direct/"
_FANOUT: Final = "amq.fanout"

Role = Literal["send", "subscribe", "reply-to"]


class Queue(msgspec.Struct, frozen=True):
    """A queue; ``filter`` are the topics it is bound to; ``existing``: it is not declared."""

    name: str
    filter: str = ""
    existing: bool = False


class Queues(msgspec.Struct, frozen=True):
    """All queues whose names match a filter, read as topics: ``queuewatch.py``."""

    filter: str


class Topic(msgspec.Struct, frozen=True):
    """A topic, or in a SUBSCRIBE a filter."""

    name: str


class Stream(msgspec.Struct, frozen=True):
    """A stream."""

    name: str


class TempQueue(msgspec.Struct, frozen=True):
    """The connection's own temporary queue, by the name that the client gave it."""

    name: str


class TempTopic(msgspec.Struct, frozen=True):
    """The connection's own temporary topic, by the name that the client gave it."""

    name: str


class ReplyQueue(msgspec.Struct, frozen=True):
    """A temporary queue, by the broker's name."""

    name: str


class ReplyTopic(msgspec.Struct, frozen=True):
    """A temporary topic, by the broker's name."""

    name: str


Target = Queue | Queues | Topic | Stream | TempQueue | TempTopic | ReplyQueue | ReplyTopic


def parse(destination: str, dialect: Dialect, role: Role) -> list[Target]:
    """What a destination names: one target, or several different ones of a composite.

    Raises:
        Refused: it is no destination, or none for this role, in the dialect's words.
    """
    if not dialect.composites or "," not in destination:
        return [_parse_one(destination.strip(" "), dialect, role)]
    parts = destination.split(",", COMPOSITE_TARGETS_MAX)
    if len(parts) > COMPOSITE_TARGETS_MAX:
        raise dialect.invalid(destination[:60], f"it names at most {COMPOSITE_TARGETS_MAX}")
    if role == "reply-to":
        raise dialect.invalid(destination, "an answer goes to one destination")
    targets: dict[Target, None] = {}
    prefix = ""
    for part in parts:
        one = part.strip(" ")
        if not one.startswith("/"):
            one = prefix + one
        prefix = next((each for each in _KINDS if one.startswith(each)), "")
        targets[_parse_one(one, dialect, role)] = None
    return list(targets)


def _parse_one(destination: str, dialect: Dialect, role: Role) -> Target:
    for prefix, read in _KINDS.items():
        if destination.startswith(prefix):
            rest = destination[len(prefix) :]
            if not rest:
                raise dialect.invalid(destination, f"a name comes after {prefix}")
            return read(_Reading(destination, rest, dialect, role))
    raise dialect.unknown(destination)


class _Reading(msgspec.Struct, frozen=True):
    """A destination that is read: all of it, and what stands after its prefix."""

    destination: str
    rest: str
    dialect: Dialect
    role: Role

    def filter_of(self, text: str) -> str:
        """The topic, or in a SUBSCRIBE the filter, that a text names."""
        wildcards = self.dialect.wildcards
        written = text.replace(".", "/").split("/")
        levels = [wildcards.get(level) or _unescape(level) for level in written]
        # Two for many words in a row say what one says, which is all that a filter may have.
        pairs = zip(levels, ["", *levels], strict=False)
        levels = [level for level, before in pairs if not level == before == "#"]
        name = "/".join(levels)
        if "#" in name or "+" in name:
            if self.role != "subscribe":
                self.refuse("it holds wildcards, which are for SUBSCRIBE")
            if any(len(level) > 1 and ("+" in level or "#" in level) for level in levels):
                self.refuse("a wildcard stands for a whole word")
        if name.startswith("$") and not (
            self.role == "subscribe" and name.startswith("$SYS/")  # what the broker tells of itself
        ):
            self.refuse("topics that begin with $ are the broker's own; see /queue/ and /stream/")
        return name

    def refuse(self, why: str) -> NoReturn:
        """Raise the dialect's error."""
        raise self.dialect.invalid(self.destination, why)


# --- one function for each prefix ---

# With virtual topics: who consumes, and the topic. Consumers have names, not wildcards.
_VIRTUAL: Final = re.compile(r"(Consumer\.[^.*>#+]+\.)(VirtualTopic\..+)", re.DOTALL)
_WORDS: Final = re.compile(r"([./])")  # cuts a topic, and keeps what is between its words
# What stands for a wildcard in the name of a queue, which cannot hold one itself.
_IN_NAMES: Final = {"+": "%2A", "#": "%3E"}


def _queue(reading: _Reading) -> Target:
    wildcards = reading.dialect.wildcards
    virtual = _VIRTUAL.fullmatch(reading.rest) if reading.dialect.virtual_topics else None
    if virtual is not None:
        filter = reading.filter_of(virtual[2])
        words = _WORDS.split(virtual[2])
        names = [_IN_NAMES[wildcards[w]] if w in wildcards else _unescape(w) for w in words]
        return Queue(_unescape(virtual[1]) + "".join(names), filter)
    words = _WORDS.split(reading.rest) if reading.dialect.queue_wildcards else []
    if any(word in wildcards for word in words):
        return Queues(reading.filter_of(reading.rest).replace(".", "/"))
    return Queue(_unescape(reading.rest))


def _existing_queue(reading: _Reading) -> Target:
    return Queue(_unescape(reading.rest), existing=True)


def _topic(reading: _Reading) -> Target:
    return Topic(reading.filter_of(reading.rest))


def _stream(reading: _Reading) -> Target:
    return Stream(_unescape(reading.rest))


def _exchange(reading: _Reading) -> Target:
    exchange, _, key = reading.rest.partition("/")
    if exchange == _FANOUT:
        return Topic(_FANOUT)
    if exchange not in ("amq.topic", "amq.direct"):
        reading.refuse("the exchanges are amq.topic, amq.direct and amq.fanout")
    if not key:
        reading.refuse(f"a key comes after /exchange/{exchange}/")
    if exchange == "amq.topic":
        return Topic(reading.filter_of(key))
    if "#" in key or "+" in key:
        reading.refuse("a key of amq.direct holds no # and no +")
    return Topic(_DIRECT + _unescape(key))


def _temporary(reading: _Reading, make: Callable[[str], Target]) -> Target:
    if reading.dialect.temporary_only_in_reply_to and reading.role != "reply-to":
        reading.refuse("temporary queues are for reply-to, their messages come without SUBSCRIBE")
    return make(_unescape(reading.rest))


def _temp_queue(reading: _Reading) -> Target:
    return _temporary(reading, TempQueue)


def _temp_topic(reading: _Reading) -> Target:
    return _temporary(reading, TempTopic)


def _reply_queue(reading: _Reading) -> Target:
    if reading.role == "subscribe":
        reading.refuse("only the connection that made it gets its messages")
    return ReplyQueue(TEMPORARY_QUEUE_PREFIX + _unescape(reading.rest))


def _reply_topic(reading: _Reading) -> Target:
    if reading.role == "subscribe":
        reading.refuse("only the connection that made it gets its messages")
    return ReplyTopic(TEMPORARY_TOPIC_PREFIX + _unescape(reading.rest))


_KINDS: Final[dict[str, Callable[[_Reading], Target]]] = {
    "/queue/": _queue,
    "/topic/": _topic,
    "/stream/": _stream,
    "/temp-queue/": _temp_queue,
    "/temp-topic/": _temp_topic,
    "/remote-temp-queue/": _reply_queue,
    "/remote-temp-topic/": _reply_topic,
    "/reply-queue/": _reply_queue,
    "/exchange/": _exchange,
    "/amq/queue/": _existing_queue,
}


# --- back ---


def show(target: Target, dialect: Dialect) -> str:
    """A destination that names the target, which may be a topic but not a filter."""
    match target:
        case Queue(name=name) if _goes_on(name, TEMPORARY_QUEUE_PREFIX):
            return _remote(dialect.reply_queue_prefix, name, TEMPORARY_QUEUE_PREFIX)
        case Queue(name=name, existing=True):
            return "/amq/queue/" + _escape(name)
        case Queue(name=name):
            return "/queue/" + _queue_shown(name, dialect)
        case Queues(filter=filter):
            back = {"+": "*", "#": ">"}
            words = (back.get(word) or _escape(word, _IN_LEVELS) for word in filter.split("/"))
            return "/queue/" + ".".join(words)
        case Topic(name=name):
            return _topic_shown(name, dialect)
        case Stream(name=name):
            return "/stream/" + _escape(name)
        case TempQueue(name=name):
            return "/temp-queue/" + _escape(name)
        case TempTopic(name=name):
            return "/temp-topic/" + _escape(name)
        case ReplyQueue(name=name):
            return _remote(dialect.reply_queue_prefix, name, TEMPORARY_QUEUE_PREFIX)
        case ReplyTopic(name=name):
            return _remote("/remote-temp-topic/", name, TEMPORARY_TOPIC_PREFIX)


def _goes_on(name: str, prefix: str) -> bool:
    return name.startswith(prefix) and name != prefix


def _remote(prefix: str, name: str, common: str) -> str:
    return prefix + _escape(name.removeprefix(common))


def _queue_shown(name: str, dialect: Dialect) -> str:
    if not dialect.virtual_topics:
        return _escape(name)
    virtual = _VIRTUAL.fullmatch(name)
    if virtual is None:
        return "".join(_escape(word, _IN_WORDS) for word in _WORDS.split(name))
    back = {"%2A": "*", "%3E": ">"}
    words = [back.get(word) or _escape(word, _IN_WORDS) for word in _WORDS.split(virtual[2])]
    return _escape(virtual[1]) + "".join(words)


def _topic_shown(name: str, dialect: Dialect) -> str:
    if _goes_on(name, TEMPORARY_TOPIC_PREFIX):
        return _remote("/remote-temp-topic/", name, TEMPORARY_TOPIC_PREFIX)
    if dialect.exchanges_shown:
        if name == _FANOUT:
            return "/exchange/" + _FANOUT
        if _goes_on(name, _DIRECT):
            return "/exchange/" + _DIRECT + _escape(name.removeprefix(_DIRECT))
    return "/topic/" + ".".join(_escape(level, _IN_LEVELS) for level in name.split("/"))


# --- addresses ---


def address(target: Target) -> str:
    """The target in one word, for all dialects.

    The connection's own temporary ones have none before they have a name of the broker's, and
    several have none in common.
    """
    match target:
        case Queue(name=name) | ReplyQueue(name=name):
            return QUEUE_PREFIX + name
        case Stream(name=name):
            return STREAM_PREFIX + name
        case Topic(name=name) | ReplyTopic(name=name):
            return name
        case TempQueue() | TempTopic() | Queues():
            raise ValueError("it has no name that others know")


def target_at(address: str) -> Queue | Stream | Topic:
    """The target of an address."""
    if address.startswith(QUEUE_PREFIX):
        return Queue(address.removeprefix(QUEUE_PREFIX))
    if address.startswith(STREAM_PREFIX):
        return Stream(address.removeprefix(STREAM_PREFIX))
    return Topic(address)


# --- characters that would mean something else ---

_ESCAPED: Final = re.compile("%(?:2[05ACEF]|3E)", re.IGNORECASE)
_ESCAPES: Final = {character: f"%{ord(character):02X}" for character in " %*,./>"}
_PLAIN: Final = {escape: character for character, escape in _ESCAPES.items()}
# A blank only at an end, where it would be cut off.
_IN_NAMES_SHOWN: Final = re.compile(r"[%,]|^ | $")
_IN_WORDS: Final = re.compile(r"[%,]|^ | $|^[*>]$")
_IN_LEVELS: Final = re.compile(r"[%,.]|^ | $|^[*>]$")


def _escape(text: str, special: re.Pattern[str] = _IN_NAMES_SHOWN) -> str:
    return special.sub(lambda found: _ESCAPES[found[0]], text)


def _unescape(text: str) -> str:
    if "%" not in text:
        return text
    return _ESCAPED.sub(lambda found: _PLAIN[found[0].upper()], text)
