"""What became of every message, over all processes of a run.

Each set of consumers has to have got each message of each producer, but for those that were refused
or never answered: those may have come or not. What several processes of a set saw is put together;
what two of them saw came twice.
"""

from collections.abc import Iterable, Sequence
from typing import Final
from zlib import decompress, error

from ..integrity import Integrity
from .task import AccountReport, Report, Seen

__all__ = ["settle"]

_PRODUCER_MESSAGES_MAX: Final = 1 << 32


def settle(
    receivers: Sequence[Report], senders: Iterable[Report], sets: Sequence[int]
) -> Integrity:
    """Compare what was sent with what came out, for each of the sets that get everything."""
    accounts = {each.producer: each for report in senders for each in report.accounts}
    found = Integrity(
        sent=sum(account.sent for account in accounts.values()),
        confirmed=sum(account.confirmed for account in accounts.values()),
        received=sum(report.received_all for report in receivers),
        duplicate=sum(report.duplicate for report in receivers),
        reordered=sum(report.reordered for report in receivers),
        corrupt=sum(report.corrupt for report in receivers),
    )
    for number in sorted({*sets, *(number for report in receivers for number in report.seen)}):
        parts = [report.seen[number] for report in receivers if number in report.seen]
        producers = set().union(*parts) if parts else set()
        for producer in sorted(producers | set(accounts)):
            some = [part[producer] for part in parts if producer in part]
            account = accounts.get(producer, AccountReport(producer=producer))
            seen = _union(some, found)
            found.corrupt += seen.count(1, account.sent)  # nobody sent those
            if number in sets:
                found.lost += _missing(seen, account)
            else:
                found.corrupt += seen.count(1, 0, account.sent)  # not meant for these
    return found


def _union(parts: Sequence[Seen], found: Integrity) -> bytearray:
    """A byte for each sequence, 1 where it came; what came in several parts is a duplicate."""
    union = bytearray()
    for part in parts:
        seen = b"\1" * min(part.below, _PRODUCER_MESSAGES_MAX) + _unpacked(part.beyond)
        if not union:
            union += seen
            continue
        longest = max(len(union), len(seen))
        ours = int.from_bytes(union.ljust(longest, b"\0"))
        theirs = int.from_bytes(seen.ljust(longest, b"\0"))
        found.duplicate += (ours & theirs).bit_count()
        union[:] = (ours | theirs).to_bytes(longest)
    return union


def _unpacked(beyond: bytes) -> bytes:
    try:
        return decompress(beyond) if beyond else b""
    except error as broken:
        raise ValueError(f"a load process told nonsense: {broken}") from broken


def _missing(seen: bytearray, account: AccountReport) -> int:
    """How many are neither there nor unsure."""
    there = seen[: account.sent].ljust(account.sent, b"\0")
    for first, last in account.unsure:
        count = min(last + 1, account.sent) - first
        if count > 0:
            there[first : first + count] = b"\1" * count
    return account.sent - there.count(1)
