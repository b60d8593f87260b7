"""The audit of STOMP: it notices each broken promise, and nothing else; its client reads frames."""

import pytest

from .audit import FAIL, INFO, INVOKE, OK
from .stomp_audit import ABORTED, DEAD, Move, Posting, StompJournal
from .stomp_wire import Frame, FrameReader, frame_bytes


class Story:
    """Tells a journal what happened, a step a call."""

    def __init__(self) -> None:
        self.journal = StompJournal()
        self.journal.run = 1
        self.journal.subscribed = True
        self.number = 0
        self.here = self.journal.began()

    def send(self, outcome: str = OK, place: str = "in") -> Posting:
        self.number += 1
        posting = self.journal.post(Posting(place, "p", self.number, 40))
        self.journal.posted(posting, outcome)
        return posting

    def move(self, *takes: Posting, outcome: str, buries: tuple[Posting, ...] = ()) -> Move:
        """A transaction that gives one message to b, and one to c."""
        move = self.journal.move(self.here)
        move.takes, move.buries = [*takes], [*buries]
        for place in ("b", "c"):
            posting = Posting(place, f"m/{move.id}", 1, 40, move)
            move.gives.append(self.journal.post(posting))
        if outcome == ABORTED:
            move.outcome = ABORTED
        else:
            self.journal.commit(move)
            if outcome != INVOKE:
                self.journal.committed(move, outcome)
        return move

    def come(self, posting: Posting, at: str = "", **but: str) -> None:
        frame = Frame("MESSAGE", posting.headers | but, posting.body)
        self.journal.delivered(at or posting.place, frame, self.here)

    def take(self, *postings: Posting) -> None:
        """They come, and are settled."""
        for posting in postings:
            self.come(posting)
            self.journal.settle([posting])(OK)

    def leave(self) -> None:
        """The connection goes, and another one comes."""
        self.journal.ended(self.here)
        self.here = self.journal.began()

    def restart(self) -> None:
        self.leave()
        self.journal.run += 1

    def found(self) -> set[str]:
        self.journal.emptied()
        return set(self.journal.found())


def test_a_clean_history_is_clean():
    story = Story()
    one, two, three, four = (story.send() for _ in range(4))
    for each in (one, two, three, four):
        story.come(each)
    done = story.move(one, outcome=OK)
    happened = story.move(two, outcome=INFO)
    story.move(three, outcome=INFO)  # did not
    story.move(four, outcome=ABORTED)
    lost = story.send(INFO)
    story.send(FAIL)
    story.restart()
    story.take(*done.gives, *happened.gives, three, four)
    story.take(lost)
    story.send(INFO)  # never came
    assert not story.found()
    assert story.journal.counts["recovered"] == 1


def test_lost():
    story = Story()
    story.send()
    assert story.found() == {"lost"}
    story = Story()
    move = story.move(outcome=OK)
    story.take(move.gives[0])
    assert story.found() == {"lost"}


def test_vanished():
    story = Story()
    story.come(story.send(INFO))
    story.restart()
    assert story.found() == {"vanished"}


def test_torn_when_a_part_is_given():
    story = Story()
    move = story.move(outcome=INFO)
    story.take(move.gives[0])
    assert story.found() == {"torn"}


@pytest.mark.parametrize("given_first", [True, False])
@pytest.mark.parametrize("buried", [True, False])
def test_torn_when_it_is_given_and_not_taken(given_first, buried):
    story = Story()
    one = story.send()
    story.come(one)
    taken = () if buried else (one,)
    move = story.move(*taken, buries=(one,) if buried else (), outcome=INFO)
    story.restart()
    for each in [*move.gives, one] if given_first else [one, *move.gives]:
        story.take(each)
    assert story.found() == {"torn"}


def test_torn_when_it_is_taken_and_not_given():
    story = Story()
    one = story.send()
    story.come(one)
    story.move(one, outcome=INFO)
    story.restart()
    assert story.found() == {"torn"}


def test_torn_when_what_came_again_is_confirmed_after_all():
    story = Story()
    one = story.send()
    story.come(one)
    move = story.move(one, outcome=INVOKE)
    story.leave()
    story.take(one)
    story.journal.committed(move, OK)
    story.take(*move.gives)
    assert story.found() == {"torn"}


def test_phantoms():
    for outcome in (ABORTED, FAIL):
        story = Story()
        story.come(story.move(outcome=outcome).gives[0])
        assert story.found() == {"phantom"}
    story = Story()
    story.come(story.send(FAIL))
    story.come(Posting("in", "nobody", 1, 40))
    assert story.found() == {"phantom"}
    assert story.journal.counts["phantom"] == 2


def test_corrupt():
    for but in ({"empty": "not"}, {"place": "b"}):
        story = Story()
        story.come(story.send(INFO), **but)
        assert "corrupt" in story.found()
    story = Story()
    one = story.send(INFO)
    story.journal.delivered("in", Frame("MESSAGE", one.headers, one.body[:-1]), story.here)
    assert story.found() == {"corrupt"}


def test_duplicates_have_no_reason():
    story = Story()
    one = story.send()
    story.come(one)
    story.take(one)
    assert story.found() == {"duplicates"}
    story = Story()
    one = story.send()
    story.come(one)
    story.leave()
    story.take(one)
    assert not story.found()


def test_resurrected():
    story = Story()
    one = story.send()
    story.take(one)
    story.restart()
    story.come(one)
    assert "resurrected" in story.found()
    story.come(one)
    assert story.journal.counts["resurrected"] == 2, "also when all had been emptied"
    story = Story()
    one = story.send()
    story.come(one)
    move = story.move(one, outcome=OK)
    story.restart()
    story.take(*move.gives, one)
    assert "resurrected" in story.found()


def test_what_was_refused_comes_as_a_dead_letter_only():
    story = Story()
    one = story.send()
    story.come(one)
    story.journal.settle([one], gives_back=True)(OK)
    story.come(one, DEAD)
    story.journal.settle([one])(OK)
    assert not story.found()
    story = Story()
    one = story.send()
    story.come(one)
    story.journal.settle([one], gives_back=True)(OK)
    story.take(one)
    assert story.found() == {"resurrected"}


def test_what_was_given_back_comes_again():
    story = Story()
    one = story.send()
    story.come(one)
    story.journal.requeue(one)(OK)
    story.take(one)
    assert not story.found()
    story = Story()
    one = story.send()
    story.come(one)
    story.journal.requeue(one)(OK)
    story.restart()
    assert story.found() == {"vanished"}


@pytest.mark.parametrize("sent", ["1.0", "1.1", "1.2"])
@pytest.mark.parametrize("got", ["1.0", "1.1", "1.2"])
def test_headers_come_as_versions_can_write_them(sent, got):
    story = Story()
    one = story.send()
    one.version = sent
    data = frame_bytes("MESSAGE", one.headers_seen(got), one.body, version=got)
    (frame,) = FrameReader(got).feed(data)
    story.journal.delivered("in", frame, story.here, got)
    story.journal.settle([one])(OK)
    assert not story.found()


def test_misordered():
    story = Story()
    first, second = (story.move(outcome=OK) for _ in range(2))
    story.take(*second.gives, *first.gives)
    assert story.found() == {"misordered"}


def test_cut():
    story = Story()
    story.journal.ended(story.here, Frame("ERROR", {"message": "why not"}, b""))
    assert story.found() == {"cut"}
    story = Story()
    story.journal.ended(story.here, Frame("ERROR", {"message": "it is shutting down"}, b""))
    assert not story.found()


# The client ---------------------------------------------------------------------------------------


def test_frames_are_read_however_they_are_cut():
    headers = {"a:b\\c\n": "\r:\\n\\\\", "empty": ""}
    frames = [
        Frame("MESSAGE", {**headers, "content-length": "4"}, b"a\0\nb"),
        Frame("RECEIPT", {"receipt-id": "r:1"}, b""),
    ]
    data = b"\n\n" + frame_bytes("MESSAGE", headers, b"a\0\nb") + b"\n"
    data += frame_bytes("RECEIPT", {"receipt-id": "r:1"}) + b"\n"
    reader = FrameReader()
    assert [each for at in range(len(data)) for each in reader.feed(data[at : at + 1])] == frames
    assert FrameReader().feed(data) == frames


def test_versions_escape_differently():
    headers = {"a": "x:y\\z\n\r"}
    assert b"a:x\\cy\\\\z\\n\\r\n" in frame_bytes("SEND", headers)
    assert b"a:x\\cy\\\\z\\n\r\n" in frame_bytes("SEND", headers, version="1.1")
    assert b"a:x:y\\z\n" in frame_bytes("SEND", {"a": "x:y\\z"}, version="1.0")
    with pytest.raises(LookupError):
        FrameReader("1.1").feed(frame_bytes("MESSAGE", headers))
    (frame,) = FrameReader("1.0").feed(b"MESSAGE\na:x:y\\z\n\n\0")
    assert frame.headers == {"a": "x:y\\z"}


def test_what_is_no_stomp_is_noticed():
    for data in (b"X\na:\\t\n\n\0", b"X\nno colon\n\n\0", b"X\ncontent-length:1\n\nab\0"):
        with pytest.raises((ValueError, LookupError)):
            FrameReader().feed(data)
