"""Carrying a session over a transport: writes, pauses, deadlines, the end."""

# ruff: noqa: ASYNC110  - these tests wait for what others do

import asyncio
import socket

import pytest

from braidmq.protocols import connection as carrying
from braidmq.protocols.connection import Connection, is_loopback


class Session:
    """A session that does what the test says."""

    def __init__(self, host, now_ms):
        self.host = host
        self.begun_ms = now_ms
        self.finished = False
        self.reading = True
        self.backlog = False
        self.answering = False
        self.out = bytearray()
        self.got = bytearray()
        self.proceeded = 0
        self.lost = 0
        self.slow = False
        self.deadline = None
        self.ticks = []

    def receive_data(self, data, now_ms):
        self.got += data

    def receive_eof(self, now_ms):
        self.finished = True

    def proceed(self, now_ms):
        self.proceeded += 1
        self.backlog = self.proceeded < 3

    def data_to_send(self, now_ms):
        out, self.out = self.out, bytearray()
        return out

    def next_deadline(self):
        return self.deadline

    def tick(self, now_ms):
        self.ticks.append(now_ms)
        self.deadline = None

    def pause_writing(self):
        self.slow = True

    def resume_writing(self):
        self.slow = False

    def shut_down(self, now_ms):
        self.out += b"bye"
        self.finished = True

    def connection_lost(self, now_ms):
        self.lost += 1


class Keeper:
    """A listener that counts."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.timer: asyncio.TimerHandle | None = None
        self.room = True
        self.joined = 0
        self.left = asyncio.Event()
        self.known = []
        self.connections = 1

    def now_ms(self):
        return int(self.loop.time() * 1000)

    def join(self, connection):
        self.joined += 1
        return self.room

    def leave(self, connection):
        self.set_deadline(connection, None)
        self.left.set()

    def authenticated(self, connection):
        self.known.append(connection)

    def authenticate(self, user, password, peer, callback):
        self.login = (user, password, peer, callback)
        self.checking = self.loop.create_future()
        return self.checking

    def scram(self, peer):
        return f"login of {peer}"

    def wake(self, connection):
        self.loop.call_soon(connection.look)

    def set_deadline(self, connection, at_ms):
        if self.timer is not None:
            self.timer.cancel()
            self.timer = None
        if at_ms is not None:
            seconds = max(0, at_ms - self.now_ms()) / 1000
            self.timer = self.loop.call_later(seconds, connection.tick)


class Pair:
    """A connection with a session, and the socket at its other end."""

    def __init__(self, keeper, connection, session, peer):
        self.keeper = keeper
        self.connection = connection
        self.session = session
        self.peer = peer

    async def read(self, size=65536):
        return await asyncio.get_running_loop().sock_recv(self.peer, size)

    async def write(self, data):
        await asyncio.get_running_loop().sock_sendall(self.peer, data)

    async def until(self, condition):
        async with asyncio.timeout(10):
            while not condition():
                await asyncio.sleep(0.001)


@pytest.fixture
async def make():
    pairs = []

    async def make(deadline_ms=None, room=True):
        keeper = Keeper()
        keeper.room = room
        sessions = []

        def factory(host, now_ms):
            sessions.append(Session(host, now_ms))
            if deadline_ms is not None:
                sessions[0].deadline = now_ms + deadline_ms
            return sessions[0]

        loop = asyncio.get_running_loop()
        server = await loop.create_server(lambda: Connection(keeper, factory), "127.0.0.1", 0)
        peer = socket.socket()
        peer.setblocking(False)
        await loop.sock_connect(peer, server.sockets[0].getsockname())
        async with asyncio.timeout(10):
            while not keeper.joined:
                await asyncio.sleep(0.001)
        server.close()
        pair = Pair(keeper, None, sessions[0] if sessions else None, peer)
        if sessions:
            pair.connection = sessions[0].host
        pairs.append(pair)
        return pair

    yield make
    for pair in pairs:
        pair.peer.close()
        if not pair.keeper.left.is_set():
            async with asyncio.timeout(10):
                await pair.keeper.left.wait()


def borrowed(pair):
    """The socket of the transport, where the connection has needed it."""
    return pair.connection._socket


class Socket:
    """A socket that remembers which options were set."""

    def __init__(self):
        self.options = []

    def setsockopt(self, *option):
        self.options.append(option)

    def detach(self):
        """See a socket."""


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="an option of Linux")
async def test_what_is_not_answered_at_once_is_acknowledged_at_once(make):
    pair = await make()
    seen = pair.connection._socket = Socket()
    await pair.write(b"one")
    await pair.until(lambda: pair.session.got == b"one")
    assert seen.options == [(socket.IPPROTO_TCP, socket.TCP_QUICKACK, 1)]
    pair.session.out += b"answer"
    await pair.write(b"two")
    assert await pair.read() == b"answer"
    await pair.write(b"three")
    await pair.until(lambda: pair.session.got == b"onetwothree")
    assert len(seen.options) == 2


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="an option of Linux")
async def test_the_socket_that_says_so_is_never_closed_by_it(make):
    pair = await make()
    assert borrowed(pair) is None, "most connections do without"
    await pair.write(b"one")
    await pair.until(lambda: borrowed(pair) is not None)
    own = borrowed(pair)
    assert own.fileno() == pair.connection._transport.get_extra_info("socket").fileno()
    pair.session.out += b"bye"
    pair.session.finished = True
    pair.connection.wake()
    assert await pair.read() == b"bye"
    pair.connection.abort()
    await pair.until(lambda: borrowed(pair) is None)
    assert own.fileno() == -1


@pytest.mark.skipif(not hasattr(socket, "TCP_QUICKACK"), reason="an option of Linux")
async def test_what_will_be_answered_soon_is_acknowledged_by_the_answer(make):
    pair = await make()
    seen = pair.connection._socket = Socket()
    pair.session.answering = True
    await pair.write(b"one")
    await pair.until(lambda: pair.session.got == b"one")
    assert seen.options == []


async def test_bytes_go_in_and_come_out(make):
    pair = await make()
    assert pair.connection.loopback and pair.connection.peer == "127.0.0.1"
    pair.session.out += b"answer"
    await pair.write(b"question")
    assert await pair.read() == b"answer"
    assert pair.session.got == b"question"


async def test_what_a_wake_produced_is_one_write(make):
    pair = await make()
    for part in (b"a", b"b", b"c"):
        pair.session.out += part
        pair.connection.wake()
    assert await pair.read() == b"abc"


async def test_a_session_that_wants_no_input_gets_none(make):
    pair = await make()
    pair.session.reading = False
    await pair.write(b"first")
    await pair.until(lambda: pair.session.got == b"first")
    await pair.write(b"second")
    await asyncio.sleep(0.02)
    assert pair.session.got == b"first"
    pair.session.reading = True
    pair.connection.wake()
    await pair.until(lambda: pair.session.got == b"firstsecond")


async def test_a_backlog_is_worked_off_over_several_turns(make):
    pair = await make()
    pair.session.backlog = True
    await pair.write(b"x")
    await pair.until(lambda: pair.session.proceeded == 3)


async def test_last_words_are_read_although_input_waits(make):
    pair = await make()
    pair.session.out += b"last words"
    pair.session.finished = True
    await pair.write(b"x" * 100_000)
    assert await pair.read() == b"last words"
    assert await pair.read() == b""
    assert pair.session.lost == 1


async def test_after_the_end_the_connection_is_cut_even_if_the_peer_stays(make, monkeypatch):
    monkeypatch.setattr(carrying, "LINGER_SECONDS", 0.01)
    pair = await make()
    pair.session.finished = True
    pair.connection.wake()
    await asyncio.wait_for(pair.keeper.left.wait(), 10)


async def test_the_peer_hanging_up_ends_the_session(make):
    pair = await make()
    pair.peer.shutdown(socket.SHUT_WR)
    await asyncio.wait_for(pair.keeper.left.wait(), 10)
    assert pair.session.finished and pair.session.lost == 1


async def test_a_reset_ends_the_session(make):
    pair = await make()
    pair.peer.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    pair.peer.close()
    await asyncio.wait_for(pair.keeper.left.wait(), 10)
    assert pair.session.lost == 1


async def test_deadlines_are_kept(make):
    pair = await make(deadline_ms=5)
    await pair.until(lambda: pair.session.ticks)
    assert pair.session.ticks[0] >= pair.session.begun_ms + 4


async def test_becoming_known_moves_the_deadline(make):
    pair = await make(deadline_ms=3_600_000)
    pair.session.deadline = pair.keeper.now_ms()
    pair.connection.authenticated()
    assert pair.keeper.known == [pair.connection]
    await pair.until(lambda: pair.session.ticks)


async def test_too_many_connections_are_cut_at_once(make):
    pair = await make(room=False)
    assert pair.session is None
    with pytest.raises(ConnectionError):
        if await pair.read() == b"":
            raise ConnectionError


async def test_a_peer_that_does_not_read_is_slow_and_then_cut(make, monkeypatch):
    monkeypatch.setattr(carrying, "STALLED_SECONDS", 0.02)
    pair = await make()
    pair.session.out += bytes(32 * 1024 * 1024)
    pair.connection.wake()
    await pair.until(lambda: pair.session.slow)
    await asyncio.wait_for(pair.keeper.left.wait(), 10)
    assert pair.session.lost == 1


async def test_a_peer_that_reads_again_is_not_slow_any_more(make):
    pair = await make()
    size = 16 * 1024 * 1024
    pair.session.out += bytes(size)
    pair.connection.wake()
    await pair.until(lambda: pair.session.slow)
    while size:
        size -= len(await pair.read(1 << 20))
    await pair.until(lambda: not pair.session.slow)


async def test_a_login_is_forgotten_with_the_connection(make):
    pair = await make()
    pair.connection.authenticate("ada", b"pw", lambda found: None)
    assert pair.keeper.login[:3] == ("ada", b"pw", "127.0.0.1")
    pair.connection.abort()
    await asyncio.wait_for(pair.keeper.left.wait(), 10)
    assert pair.keeper.checking.cancelled()


async def test_a_login_by_scram_is_begun_for_the_peer(make):
    pair = await make()
    assert pair.connection.scram() == "login of 127.0.0.1"


async def test_shutting_down_says_goodbye(make):
    pair = await make()
    pair.connection.shut_down()
    assert await pair.read() == b"bye"
    assert await pair.read() == b""


@pytest.mark.parametrize(
    ("address", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("::ffff:10.0.0.1", False),
        ("0.0.0.0", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("10.1.2.3", False),
        ("localhost", False),
        ("", False),
    ],
)
def test_what_counts_as_this_machine(address, expected):
    assert is_loopback(address) is expected


async def test_a_peer_that_reset_the_connection_before_the_last_words_harms_nobody():
    class Reset(asyncio.Transport):
        aborted = False

        def set_write_buffer_limits(self, high=None, low=None):
            pass

        def write(self, data):
            pass

        def is_closing(self):
            return False

        def can_write_eof(self):
            return True

        def write_eof(self):
            raise OSError(107, "Transport endpoint is not connected")

        def abort(self):
            self.aborted = True

    keeper, transport = Keeper(), Reset()
    connection = Connection(keeper, Session)
    connection.connection_made(transport)
    connection.eof_received()
    assert transport.aborted
