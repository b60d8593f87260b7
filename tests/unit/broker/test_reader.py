"""Reading back: from memory at once, else later; a link lays its headers over the message's."""

from braidmq.broker.limits import Limits
from braidmq.broker.message import pack_headers, unpack_headers
from braidmq.broker.reader import Reader
from braidmq.storage.errors import Corrupt, StorageError
from braidmq.storage.log import Extent, FetchCallback
from braidmq.storage.record import encode_link, encode_message


class Shelf:
    """A log of single records; those in ``cold`` have to be fetched, and are not kept."""

    def __init__(self) -> None:
        self.records: dict[int, bytes] = {}
        self.cold: set[int] = set()
        self.asked: list[tuple[int, FetchCallback, object]] = []

    def put(self, lsn: int, *parts: bytes, cold: bool = False) -> None:
        self.records[lsn] = b"".join(parts)
        if cold:
            self.cold.add(lsn)

    def get(self, lsn: int) -> Extent | None:
        if lsn in self.cold or lsn not in self.records:
            return None
        return self.extent(lsn)

    def extent(self, lsn: int) -> Extent:
        record = self.records[lsn]
        return Extent(lsn, lsn + len(record), record)

    def fetch(self, lsn: int, callback: FetchCallback, argument: object) -> None:
        self.asked.append((lsn, callback, argument))

    def answer(self) -> int:
        """Answer the oldest question; which record it was about."""
        lsn, callback, argument = self.asked.pop(0)
        if lsn in self.records:
            callback(argument, self.extent(lsn), None)
        else:
            callback(argument, None, Corrupt(lsn, "not there"))
        return lsn


class Desk:
    """A reader on a shelf."""

    def __init__(self) -> None:
        self.shelf = Shelf()
        self.loaded: list[StorageError | None] = []
        self.reader = Reader(self.shelf, self.loaded.append)  # type: ignore[arg-type]


def packed(**headers: str) -> bytes:
    return pack_headers(dict(headers), Limits())


def message(body: bytes, attributes: bytes = b"", expire_ms: int = 0) -> tuple[bytes, bytes]:
    return encode_message(((1, 1),), 50, attributes, body, expire_ms=expire_ms)


def test_message_in_memory_is_read_at_once():
    desk = Desk()
    desk.shelf.put(100, *message(b"a", packed(k="v"), expire_ms=900))
    found = desk.reader.read(100)
    assert found is not None and not desk.reader.loading
    assert (found.body, found.expire_ms, found.time_ms, found.id) == (b"a", 900, 50, 100)


def test_message_on_disk_comes_later():
    desk = Desk()
    desk.shelf.put(100, *message(b"a"), cold=True)
    assert desk.reader.read(100) is None and desk.reader.loading
    desk.shelf.answer()
    assert desk.loaded == [None] and not desk.reader.loading
    found = desk.reader.read(100)
    assert found is not None and found.body == b"a"


def test_link_lays_its_headers_over_and_ends_the_time_to_live():
    desk = Desk()
    desk.shelf.put(100, *message(b"a", packed(k="v", both="old"), expire_ms=900))
    link = encode_link(1, 1, 2, 1, 100, 700, 0, packed(both="new", why="x"))
    desk.shelf.put(500, link)
    found = desk.reader.read(100, 500)
    assert found is not None and found.expire_ms == 0
    assert unpack_headers(found.attributes) == {"k": "v", "both": "new", "why": "x"}


def test_retention_counts_from_when_the_message_came_there():
    desk = Desk()
    desk.shelf.put(100, *message(b"a", expire_ms=900))
    desk.shelf.put(500, encode_link(1, 1, 2, 1, 100, 700, 0, b""))
    ends = [desk.reader.read(100, link, retention) for link, retention in ((0, 80), (0, 10_000))]
    assert [found.expire_ms for found in ends if found is not None] == [130, 900]
    linked = desk.reader.read(100, 500, 80)
    assert linked is not None and linked.expire_ms == 780


def test_message_and_link_are_both_fetched_once_though_nothing_is_cached():
    desk = Desk()
    desk.shelf.put(100, *message(b"a"), cold=True)
    desk.shelf.put(500, encode_link(1, 1, 2, 1, 100, 700, 0, packed(why="x")), cold=True)
    asked = []
    while (found := desk.reader.read(100, 500)) is None:
        asked.append(desk.shelf.answer())
        assert len(asked) < 5
    assert asked == [100, 500] and found.body == b"a"


def test_error_is_told_and_the_reader_can_go_on():
    desk = Desk()
    assert desk.reader.read(100) is None
    desk.shelf.answer()
    assert isinstance(desk.loaded[0], Corrupt) and not desk.reader.loading
    desk.shelf.put(200, *message(b"b"))
    assert desk.reader.read(200) is not None


def test_resting_reader_holds_no_memory_but_for_what_is_on_its_way():
    desk = Desk()
    desk.shelf.put(100, *message(b"a"), cold=True)
    desk.reader.read(100)
    desk.reader.rest()
    desk.shelf.answer()
    assert desk.reader.read(100) is not None
    desk.reader.rest()
    assert desk.reader.read(100) is None


def test_time_is_told_only_when_it_is_at_hand():
    desk = Desk()
    desk.shelf.put(100, *message(b"a"))
    desk.shelf.put(200, *message(b"b"), cold=True)
    assert (desk.reader.time_ms(100), desk.reader.time_ms(200)) == (50, 0)
    found = desk.reader.peek(100)
    assert found is not None and found.body == b"a" and desk.reader.peek(200) is None
    assert not desk.shelf.asked


def test_record_of_another_kind_is_damage():
    for lsn, link_lsn in ((200, 0), (100, 100)):
        desk = Desk()
        desk.shelf.put(100, *message(b"a"))
        desk.shelf.put(200, encode_link(1, 1, 2, 1, 100, 60, 0, packed(a="b")))
        assert desk.reader.read(lsn, link_lsn) is None and desk.reader.loading
        desk.shelf.answer()
        (error,) = desk.loaded
        assert isinstance(error, Corrupt) and error.lsn == (link_lsn or lsn)
        assert not desk.reader.loading
    assert desk.reader.time_ms(200) == 0


def test_what_is_at_hand_is_told_and_nothing_is_fetched():
    shelf = Shelf()
    shelf.put(100, *encode_message([(1, 1)], 5, b"", b"here", 0, 0))
    shelf.put(200, *encode_message([(1, 2)], 5, b"", b"cold", 0, 0), cold=True)
    shelf.put(900, encode_link(0, 0, 1, 3, 100, 5, 0, b""))
    reader = Reader(shelf, lambda error: None)  # type: ignore[arg-type]
    message = reader.at_hand(100)
    assert message is not None and (message.id, message.body) == (100, b"here")
    assert reader.at_hand(200) is reader.at_hand(900) is None
    assert not shelf.asked and not reader.loading
