"""Runs: SENDs that differ in their receipts and bodies only, and ACKs, one behind the other.

A client that sends quickly writes the same headers over and over, and one that consumes quickly
acknowledges message after message. What such frames have in common is read once: a shape is learnt
from a SEND that was read as any other, and the frames that follow are cut by comparing with it. So
a frame of a run has no text, no headers and no object of its own.

Whatever is not exactly as the shape says, down to the order of the headers, is no part of a run.
The frame is then read as any other: there is one place only that says what is wrong with one.
"""

import re
from collections.abc import Callable
from typing import Final

__all__ = [
    "RECEIPT_BYTES_MAX",
    "RUN_FRAMES_MAX",
    "SendShape",
    "match_acks",
    "names_in",
    "receipts_for",
]

RECEIPT_BYTES_MAX: Final = 128  # frames with longer ones are read as any other
RUN_FRAMES_MAX: Final = 256

# Nothing that any version would trim, unescape or escape: so a receipt goes back as it came.
_RECEIPT: Final = rb"([!-9;-\[\]-~]{1,%d})" % RECEIPT_BYTES_MAX
_LENGTH: Final = rb"([0-9]{1,9})"
_find_variable = re.compile(
    rb"(?<=\n)(?:receipt:%b|content-length:%b)(?=\n)" % (_RECEIPT, _LENGTH)
).finditer
_UNCERTAIN: Final = re.compile(rb"\r|\n[ \t]|[ \t]:")  # what 1.0 trims may be another name
_NAMES: Final = re.compile(rb"(?<=\n)(receipt|content-length):").findall

match_acks = re.compile(rb"(?:ACK\nid:[0-9]{1,9}-[0-9]{1,18}\n\n\0){2,%d}" % RUN_FRAMES_MAX).match
names_in = re.compile(rb":([0-9]+)-([0-9]+)").findall  # of what match_acks has found


class SendShape:
    """What the SENDs of a run have in common: everything but receipt, length and body.

    Attributes:
        begin: how each of them begins.
        match: finds the headers of one, with the empty line.
        receipt, length: the groups of a match that are these; 0: it asks for no receipt.
    """

    __slots__ = ("begin", "length", "match", "receipt")

    def __init__(
        self,
        begin: bytes,
        match: "Callable[[bytes, int], re.Match[bytes] | None]",
        receipt: int,
        length: int,
    ) -> None:
        self.begin = begin
        self.match = match
        self.receipt = receipt
        self.length = length

    @staticmethod
    def learn(head: bytes) -> "SendShape | None":
        """The shape of a SEND that was taken; ``head`` is all before its empty line.

        None if its headers are such that they could be misread.
        """
        head += b"\n"
        names = _NAMES(head)
        variable = list(_find_variable(head))
        if (
            names.count(b"content-length") != 1
            or len(names) != len(set(names))
            or len(variable) != len(names)
            or _UNCERTAIN.search(head)
        ):
            return None
        pattern, at, groups = b"", 0, {b"receipt": 0}
        for number, each in enumerate(variable, 1):
            name, _, _ = each[0].partition(b":")
            value_at = each.start() + len(name) + 1
            groups[name] = number
            pattern += re.escape(head[at:value_at])
            pattern += _RECEIPT if name == b"receipt" else _LENGTH
            at = each.end()
        pattern += re.escape(head[at:] + b"\n")
        begin = head[: variable[0].start()]
        match = re.compile(pattern).match
        return SendShape(begin, match, groups[b"receipt"], groups[b"content-length"])


def receipts_for(ids: list[bytes]) -> bytes:
    """The RECEIPTs of a run."""
    begin, end = b"RECEIPT\nreceipt-id:", b"\n\n\0\n"
    return begin + (end + begin).join(ids) + end
