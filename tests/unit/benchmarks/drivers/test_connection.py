"""Clients reach their broker, and what goes wrong on the way is told."""

import socket
import ssl
import sys
import threading
from typing import Any

import pytest
import trustme

from braidmq.benchmarks.drivers.connection import (
    ADDRESSES,
    address,
    ask,
    converse,
    hang_up,
    login,
    new_socket,
    open_socket,
    say_first,
)
from braidmq.benchmarks.drivers.driver import Refused, Wiring


@pytest.fixture
def server():
    with socket.create_server(("127.0.0.1", 0), backlog=256) as listening:
        yield listening


def wiring_to(server, **more):
    return Wiring(url=f"mqtt://127.0.0.1:{server.getsockname()[1]}", **more)


def test_a_url_is_taken_apart():
    url = "mqtt://me%40home:a%2Fb@127.0.0.1:1883"
    assert address(url) == ("127.0.0.1", 1883)
    assert login(url) == ("me@home", "a/b")
    assert login("mqtt://[::1]:1883") == ("", "")
    assert address("mqtt://[::1]:1883") == ("::1", 1883)
    for wrong in ("mqtt://127.0.0.1", "mqtt://:1883", "x"):
        with pytest.raises(ValueError, match="host and a port"):
            address(wrong)


def test_small_messages_leave_at_once(server):
    with open_socket(wiring_to(server)) as sock:
        assert sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)
        assert sock.gettimeout()


@pytest.mark.skipif(sys.platform != "linux", reason="all of 127/8 is loopback only on Linux")
def test_clients_come_from_many_addresses_and_each_from_its_own(server):
    def source(client_id):
        with open_socket(wiring_to(server, client_id=client_id)) as sock:
            return sock.getsockname()[0]

    assert len({source(f"client-{number}") for number in range(150)}) == ADDRESSES
    assert source("client-7") == source("client-7")
    assert source("") == "127.0.0.1"


def test_an_answer_is_waited_for(server):
    with open_socket(wiring_to(server)) as sock, server.accept()[0] as other:
        pieces = iter([b"wor", b"ld"])

        def is_whole(answer):
            if len(answer) < 5:
                other.sendall(next(pieces))
            return answer == b"world"

        assert ask(sock, b"hello", is_whole) == b"world"
        assert other.recv(100) == b"hello"
        other.sendall(b"no")
        other.shutdown(socket.SHUT_WR)
        with pytest.raises(Refused, match="closed after b'no'"):
            ask(sock, b"", lambda answer: False)


def test_a_client_converses_until_it_is_done(server):
    class Polite:
        """Answers each of two words."""

        def __init__(self, sock):
            self.socket, self.out, self.heard = sock, bytearray(b"hello"), b""

        def feed(self, data):
            self.heard += data
            self.out += b"and " + data

        def close(self):
            self.socket.close()

    client = Polite(open_socket(wiring_to(server)))
    with server.accept()[0] as other:
        other.sendall(b"you")
        converse(client, lambda: client.heard == b"you")
        assert other.recv(12, socket.MSG_WAITALL) == b"helloand you"
        assert client.socket.gettimeout() == 0 and not client.out
        other.shutdown(socket.SHUT_WR)
        with pytest.raises(Refused, match="closed the connection"):
            converse(client, lambda: False)
    assert client.socket.fileno() == -1


def test_silence_does_not_last(server):
    with open_socket(wiring_to(server)) as sock:
        sock.settimeout(0.001)
        with pytest.raises(TimeoutError):
            ask(sock, b"hello", lambda answer: False)


def test_what_a_client_says_first_is_sent_before_anybody_has_it(server):
    class Speaker:
        def __init__(self, sock):
            self.socket = sock
            self.out = bytearray(b"hello" * 100_000)

    with open_socket(wiring_to(server)) as sock, server.accept()[0] as other:
        thread = threading.Thread(target=lambda: other.recv(500_000, socket.MSG_WAITALL))
        thread.start()
        client: Any = Speaker(sock)
        say_first(client)
        thread.join()
        assert not client.out and sock.gettimeout() == 0


def test_nobody_listens():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        wiring = wiring_to(gone)
    with pytest.raises(ConnectionRefusedError):
        open_socket(wiring)
    new_socket(wiring).close()


def test_hanging_up_says_goodbye_and_never_raises(server):
    sock = open_socket(wiring_to(server))
    other = server.accept()[0]
    sock.setblocking(False)
    hang_up(sock, b"bye")
    assert other.recv(100) == b"bye" and other.recv(100) == b""
    other.close()
    hang_up(sock, b"bye")
    assert sock.fileno() == -1


@pytest.mark.parametrize("said", [b"more, and goodbye", b"more, and go"])
def test_the_answer_to_a_goodbye_is_waited_for(server, said):
    sock = open_socket(wiring_to(server))
    with server.accept()[0] as other:
        other.sendall(said)
        other.shutdown(socket.SHUT_WR)
        hang_up(sock, b"bye", b"goodbye")
        assert other.recv(100) == b"bye" and other.recv(100) == b""


def test_tls_is_spoken_with_who_is_vouched_for(server, tmp_path):
    authority, stranger = trustme.CA(), trustme.CA()
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("127.0.0.1").configure_cert(context)
    for name, each in (("ours", authority), ("other", stranger)):
        each.cert_pem.write_to_path(str(tmp_path / name))

    def serve():
        for _ in range(2):
            try:
                with context.wrap_socket(server.accept()[0], server_side=True) as sock:
                    sock.sendall(sock.recv(100))
            except ssl.SSLError:
                pass

    thread = threading.Thread(target=serve)
    thread.start()
    with open_socket(wiring_to(server, tls_ca=str(tmp_path / "ours"))) as sock:
        assert ask(sock, b"hello", lambda answer: len(answer) == 5) == b"hello"
    with pytest.raises(ssl.SSLCertVerificationError):
        open_socket(wiring_to(server, tls_ca=str(tmp_path / "other")))
    thread.join()
