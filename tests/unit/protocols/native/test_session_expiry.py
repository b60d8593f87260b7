"""A connection whose user came with a token ends with the token."""

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
