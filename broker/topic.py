"""Names of topics and filters: which are allowed, and which filter matches which topic.

A topic is levels of text with ``/`` between them; a level may be empty. In a filter a whole level
may be ``+``, any one level, or ``#``, any number of levels and also none: ``a/#`` matches ``a`` as
well. Names are compared as they are, never normalized [MQTT-4.7.3-4].

The ids are those of MQTT 5.0, and the rules are the same for every dialect, but for one: MQTT has
``#`` only at the end, and refuses others before they come here. What the standard leaves to the
server, control characters and non-characters, is refused here, so that a name can be written into
a log, a terminal or a URL.

Everything here runs over what a stranger sent: no recursion, no splitting before the levels have
been counted. :func:`matches` says what is right; ``router.py`` and ``topictree.py`` are fast, and
tested against it.
"""

import re

from .errors import InvalidArgument

__all__ = [
    "ADVISORY_PREFIX",
    "QUEUE_PREFIX",
    "check_filter",
    "check_topic",
    "has_wildcards",
    "is_reserved",
    "matches",
    "may_be_reserved",
    "parse_shared",
]

SHARED_PREFIX = "$share/"
ADVISORY_PREFIX = "ActiveMQ/Advisory/"  # what the broker says under ActiveMQ's names: advising.py
_ADVISORY_LEVELS = ADVISORY_PREFIX.split("/")
QUEUE_PREFIX = "$queue/"  # then the name of a queue, for dialects that only know topics

# Control characters, surrogates, and what Unicode calls non-characters: U+FDD0 to U+FDEF and the
# last two code points of each of the 17 planes.
_FORBIDDEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\ud800-\udfff\ufdd0-\ufdef"
    + "".join(chr(plane << 16 | last) for plane in range(17) for last in (0xFFFE, 0xFFFF))
    + "]"
)


def check_topic(topic: str, bytes_max: int, levels_max: int) -> None:
    """Raise :class:`InvalidArgument` unless ``topic`` is one that can be published to.

    It has 1 to ``bytes_max`` bytes of UTF-8 and at most ``levels_max`` levels, without wildcards.
    """
    _check_text("topic", topic, bytes_max, levels_max)
    # [MQTT-4.7.0-1]
    if "+" in topic or "#" in topic:
        raise InvalidArgument("a topic holds no wildcards: + and # are for filters")


def check_filter(filter: str, bytes_max: int, levels_max: int) -> None:
    """Raise :class:`InvalidArgument` unless ``filter`` is one that can be subscribed to.

    The limits are those of :func:`check_topic`. A shared filter is checked as a whole, before
    :func:`parse_shared` takes it apart.
    """
    _check_text("filter", filter, bytes_max, levels_max)
    _check_wildcards(filter)


def _check_text(kind: str, text: str, bytes_max: int, levels_max: int) -> None:
    size = len(text)
    if not (text.isascii() and text.isprintable()) and size <= bytes_max:
        # [MQTT-1.5.4-1] [MQTT-1.5.4-2] [MQTT-4.7.3-2]
        found = _FORBIDDEN.search(text)
        if found:
            raise InvalidArgument(
                f"a {kind} holds no control characters, surrogates or non-characters:"
                f" U+{ord(found[0]):04X} at {found.start()}"
            )
        size = len(text.encode())
    # [MQTT-4.7.3-1] [MQTT-4.7.3-3]
    if not 0 < size <= bytes_max:
        some = "none" if not size else "more"
        raise InvalidArgument(f"a {kind} has 1 to {bytes_max} bytes of UTF-8, this has {some}")
    separators = text.count("/")
    if separators >= levels_max:
        levels = separators + 1
        raise InvalidArgument(f"a {kind} has at most {levels_max} levels, this has {levels}")


def has_wildcards(filter: str) -> bool:
    """Whether a filter can match any topic but the one it spells."""
    return "+" in filter or "#" in filter


def _check_wildcards(filter: str) -> None:
    if not has_wildcards(filter):
        return
    levels = filter.split("/")
    # [MQTT-4.7.1-1]
    if "#" in filter and any("#" in level and level != "#" for level in levels):
        raise InvalidArgument("# stands for whole levels of a filter: a/#")
    if "#/#" in filter:
        raise InvalidArgument("#/# says no more than #, which stands for any number of levels")
    # [MQTT-4.7.1-2]
    if "+" in filter and any("+" in level and level != "+" for level in levels):
        raise InvalidArgument("+ stands for one whole level of a filter: a/+/b")


def is_reserved(topic: str) -> bool:
    """Whether a topic is the broker's own: clients may subscribe to it, if anything.

    It is hidden from filters that begin with a wildcard, and cannot be bound.
    """
    return topic.startswith(("$", ADVISORY_PREFIX))


def may_be_reserved(filter: str) -> bool:
    """Whether some topic that is the broker's own matches the filter."""
    root, *below = filter.split("/", 2)
    if root != _ADVISORY_LEVELS[0]:
        return filter.startswith("$")
    return bool(below) and below[0] in (_ADVISORY_LEVELS[1], "+", "#")


def parse_shared(filter: str) -> tuple[str, str] | None:
    """Take ``$share/GROUP/FILTER`` apart, into (group, filter); None if it is not shared.

    Give it what :func:`check_filter` let through. Raises :class:`InvalidArgument` when there is no
    group, or it holds a wildcard, or nothing that can be subscribed to comes after it.
    """
    if not filter.startswith(SHARED_PREFIX):
        return None
    _, group, *after = filter.split("/", 2)
    # [MQTT-4.8.2-1] [MQTT-4.8.2-2]
    if not group or has_wildcards(group):
        raise InvalidArgument("a shared filter is $share/GROUP/FILTER, with no wildcard in GROUP")
    if not after or not after[0]:
        raise InvalidArgument("a shared filter is $share/GROUP/FILTER: the filter is missing")
    if after[0].startswith(SHARED_PREFIX):
        raise InvalidArgument("a filter can be shared only once")
    _check_wildcards(after[0])
    return group, after[0]


def matches(filter: str, topic: str) -> bool:
    """Whether a valid filter matches a valid topic: MQTT 5.0, section 4.7, and ``#`` anywhere.

    The first place where what follows a ``#`` fits is as good as any later one, so only the last
    ``#`` ever takes more levels: the time is that of filter times topic at most.
    """
    # [MQTT-4.7.2-1]
    if topic.startswith("$") and filter.startswith(("+", "#")):
        return False
    wanted = filter.split("/")
    levels = topic.split("/")
    want = at = 0
    after = -1  # what follows the last # that was met,
    since = 0  # and the level from which that was looked for
    while at < len(levels):
        level = wanted[want] if want < len(wanted) else None
        if level == "#":
            want = after = want + 1
            if after == len(wanted):
                return True
            since = at
        elif level == "+" or level == levels[at]:
            want += 1
            at += 1
        elif after >= 0:
            want = after
            at = since = since + 1
        else:
            return False
    return wanted[want:] in ([], ["#"])  # also when the topic has ended: a/# matches a
