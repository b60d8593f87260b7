"""Sockets are served by one loop that waits for none of them."""

import socket
import threading

import pytest

from braidmq.benchmarks.drivers.driver import Refused
from braidmq.benchmarks.stream_exchange import Link, Loop, open_socket


class Echo:
    """Sends a request, and takes as many bytes for the answer."""

    corrupt = 0

    def __init__(self, size):
        self.size = size

    def request(self):
        return bytes(self.size)

    def feed(self, data):
        if len(data) < self.size:
            return 0, b""
        del data[: self.size]
        return 1, b""


@pytest.fixture
def port():
    server = socket.create_server(("127.0.0.1", 0))

    def serve():
        while True:
            try:
                sock, _ = server.accept()
            except OSError:
                return
            threading.Thread(target=echo, args=(sock,), daemon=True).start()

    def echo(sock):
        with sock:
            while data := sock.recv(65536):
                if data.startswith(b"bye"):
                    return
                sock.sendall(data)

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def test_requests_larger_than_any_buffer_come_back(port):
    answered = []
    links = [Link(open_socket("127.0.0.1", port), Echo(size)) for size in (1, 20_000_000)]
    loop = Loop(links, lambda link, records: answered.append(link))
    try:
        loop.start()
        while len(answered) < 2:
            loop.turn(1)
        loop.start(links[:1])
        while len(answered) < 3:
            loop.turn(1)
    finally:
        loop.close()
    assert answered[2] is links[0] and links[0].asked_ns > links[1].asked_ns


def test_a_connection_that_ends_is_told(port):
    loop = Loop([Link(open_socket("127.0.0.1", port), Echo(1))], lambda link, records: None)
    try:
        loop.send(loop._links[next(iter(loop._links))], b"bye")
        with pytest.raises(Refused, match="closed"):
            while True:
                loop.turn(1)
    finally:
        loop.close()
