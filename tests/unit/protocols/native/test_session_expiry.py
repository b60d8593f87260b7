"""Users who come by something other than a password: a token, a certificate."""

import pytest

from braidmq.broker.access import Access, User
from braidmq.protocols.native import frames
from braidmq.protocols.native import session as native
from braidmq.protocols.native.operations import OPERATIONS
from tests.broker_harness import Harness


class Host:
    """A carrier that keeps what should be called after the login."""

    peer = "127.0.0.1"
    loopback = True
    tls = False
    certificate_user = ""
    connections = 1

    def wake(self):
        pass

    def authenticate(self, user, password, callback):
        self.callback = callback

    def scram(self):
        raise NotImplementedError

    def hurry(self):
        pass

    def authenticated(self):
        pass


def test_a_connection_ends_with_its_token():
    harness, host = Harness(), Host()
    now = harness.clock.ms
    session = native.NativeSession(harness.core, host, now)
    hello = bytearray()
    frames.append_frame(hello, (OPERATIONS["HELLO"], 5, 1, 1, "test", 30_000, "ada", b"token"))
    session.receive_data(bytes(hello), now)
    host.callback(Access([User("ada")]).principal("ada", expires_ms=now + 500))
    assert session.next_deadline() == now + 500
    session.tick(now + 499)
    assert not session.finished
    session.tick(now + 500)
    assert session.finished
    assert b"unauthenticated" in session.data_to_send(now + 500)


@pytest.mark.parametrize(("known", "refused"), [("ada", False), ("bob", True)])
def test_a_certificate_names_the_user_of_who_brings_no_password(known, refused):
    harness, host = Harness(), Host()
    harness.core.access.replace([User(known)])
    host.certificate_user = "ada"
    session = native.NativeSession(harness.core, host, harness.clock.ms)
    hello = bytearray()
    frames.append_frame(hello, (OPERATIONS["HELLO"], 5, 1, 1, "test", 30_000, "", b""))
    session.receive_data(bytes(hello), harness.clock.ms)
    assert session.finished is refused
    assert (b"braidmq" in session.data_to_send(harness.clock.ms)) is not refused


def test_only_those_whose_user_is_gone_are_cut_off_and_nobody_is_watched_for_ever():
    harness = Harness()
    harness.core.access.replace([User("ada"), User("bob")])
    watchers = len(harness.core.access._watchers)
    now = harness.clock.ms
    sessions = []
    for name in ("ada", "bob"):
        host = Host()
        host.certificate_user = name
        session = native.NativeSession(harness.core, host, now)
        hello = bytearray()
        frames.append_frame(hello, (OPERATIONS["HELLO"], 5, 1, 1, "test", 30_000, "", b""))
        session.receive_data(bytes(hello), now)
        sessions.append(session)
    ada, bob = sessions
    harness.core.access.replace([User("bob")])
    assert ada.finished and not bob.finished
    assert b"unauthenticated" in ada.data_to_send(now)
    for session in sessions:
        session.connection_lost(now)
    assert len(harness.core.access._watchers) == watchers
