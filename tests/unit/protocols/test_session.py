"""The contract of sessions, held against the sessions that there are."""

import inspect

from braidmq.protocols.native.session import NativeSession
from braidmq.protocols.session import Session
from tests.broker_harness import Harness

NAMES = [name for name in vars(Session) if not name.startswith("_")]


def test_the_native_session_has_every_method_of_the_contract():
    assert {"receive_data", "data_to_send", "next_deadline", "tick"} <= set(NAMES)
    for name in NAMES:
        theirs, ours = getattr(Session, name), getattr(NativeSession, name)
        if inspect.isfunction(theirs):
            assert list(inspect.signature(ours).parameters) == list(
                inspect.signature(theirs).parameters
            ), name


def test_a_session_begins_unfinished():
    class Host:
        loopback = True

        def wake(self) -> None:
            raise AssertionError("nothing happened yet")

    harness = Harness()
    session = NativeSession(harness.core, Host(), harness.clock.ms)  # type: ignore[arg-type]
    assert not session.finished and session.reading and not session.backlog
