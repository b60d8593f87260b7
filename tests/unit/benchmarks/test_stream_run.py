"""Runs over sockets, against a broker that answers by the book: nothing is lost unseen."""

import socket
import threading

import msgspec
import pytest

from braidmq.benchmarks.stream_cycle import Checker, StreamCycle
from braidmq.benchmarks.stream_exchange import Link
from braidmq.benchmarks.stream_plan import StreamPlan
from braidmq.benchmarks.stream_run import carry_out, preload

PLAN = StreamPlan(size=32, batch=10, seconds=0.1, warmup=0.02, patience=30.0, records=1_000)
CYCLE = StreamCycle(32, 10, 1)


class Line:
    """An exchange of a line for each request; a reader checks what the driver says it read."""

    def __init__(self, driver, count, go_on):
        self.driver, self.count, self.go_on = driver, count, go_on
        self.checker = Checker(CYCLE, ordered=False)

    @property
    def corrupt(self):
        return self.checker.corrupt

    def request(self):
        return b"?\n"

    def feed(self, data):
        lines = data.count(b"\n")
        data.clear()
        records = lines * self.count
        self.driver.moved(self, records)
        return records, self.request() * lines if self.go_on else b""


class Book:
    """A driver whose broker keeps a count; ``loses`` some."""

    def __init__(self, loses=0, port=0):
        self.there = -loses
        self.port = port
        self.read = 0

    def link(self, count, go_on):
        return Link(socket.create_connection(("127.0.0.1", self.port)), Line(self, count, go_on))

    def prepare(self):
        pass

    def moved(self, line, records):
        if not line.go_on:
            self.there += records

    def appender(self, batch):
        return self.link(batch, False)

    def publisher(self):
        return self.link(3, False)

    def replayer(self):
        return self.link(10, True)

    def follower(self):
        return self.link(1, True)

    def member(self, number):
        return self.link(10, True)

    def stored(self):
        return self.there


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
            try:
                while data := sock.recv(65536):
                    sock.sendall(data)
            except OSError:
                return

    threading.Thread(target=serve, daemon=True).start()
    yield server.getsockname()[1]
    server.shutdown(socket.SHUT_RDWR)
    server.close()


def planned(**changes):
    return msgspec.structs.replace(PLAN, **changes)


@pytest.mark.parametrize("shape", ["append", "fanout"])
def test_what_was_confirmed_is_there(port, shape):
    side = carry_out(planned(shape=shape, producers=3), Book(port=port))
    assert side.records > 0 and side.seconds > 0 and side.lost == 0
    assert side.confirmed >= side.records and side.latency
    assert carry_out(planned(shape=shape), Book(loses=7, port=port)).lost == 7


def test_replay_and_group(port):
    assert carry_out(planned(shape="replay"), Book(port=port)).records > 0
    side = carry_out(planned(shape="group"), Book(port=port))
    assert side.records >= 1_000 and side.lost == 0


class Stuck(Book):
    """Its members get one answer each."""

    def member(self, number):
        return self.link(10, False)


def test_a_group_that_gets_stuck_says_what_is_missing(port):
    driver = Stuck(port=port)
    assert carry_out(planned(shape="group", members=2, patience=0.2), driver).lost == 980


def test_a_tail_is_timed_from_when_a_record_was_due(port):
    driver = Book(port=port)
    side = carry_out(planned(shape="tail", rate=500), driver)
    assert side.lost <= 0 and side.latency and side.lag


def test_preload_appends_so_many(port):
    driver = Book(port=port)
    preload(planned(records=2_000), driver)
    assert driver.there == 2_000
