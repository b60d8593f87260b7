"""A STOMP broker by the book, in a thread, for tests of the load: it keeps nothing on disk.

It can be told to do what a broker must not: lose a message, deliver it twice, change it, forget a
receipt or an acknowledgement, or refuse everything.
"""

import contextlib
import re
import socket
import threading
from collections import deque

FAULTS = ("", "loses", "repeats", "changes", "forgets receipt", "forgets ack", "refuses")
_FRAME = re.compile(rb"\s*([A-Z]+)\n((?:[^\n]+\n)*)\n")


class StompStub:
    """``with StompStub() as broker: connect("127.0.0.1", broker.port)``."""

    def __init__(self, fault=""):
        assert fault in FAULTS
        self.fault = fault
        self.lock = threading.Lock()
        self.queues = {}  # name -> deque of (id, body) that nobody has
        self.readers = {}  # name -> [_Client, ...]
        self.count = 0
        self.listener = socket.create_server(("127.0.0.1", 0))
        self.port = self.listener.getsockname()[1]

    def __enter__(self):
        threading.Thread(target=self._accept, daemon=True).start()
        return self

    def __exit__(self, *_):
        self.listener.shutdown(socket.SHUT_RDWR)
        self.listener.close()

    def _accept(self):
        with contextlib.suppress(OSError):
            while True:
                sock, _ = self.listener.accept()
                threading.Thread(target=_Client(self, sock).serve, daemon=True).start()

    def send(self, queue, body):
        """Add a message; the fault strikes the thirtieth."""
        self.count += 1
        names = [b"%d" % self.count]
        if self.count == 30:
            if self.fault == "changes":
                body = body[:-1] + b"\n"
            names = {"loses": [], "repeats": [*names, b"again"]}.get(self.fault, names)
        waiting = self.queues.setdefault(queue, deque())
        waiting.extend([(name, body) for name in names])
        self.dispatch(queue)

    def dispatch(self, queue):
        """Hand messages out in turn, as far as prefetch goes."""
        waiting, readers = self.queues.setdefault(queue, deque()), self.readers.get(queue, [])
        while waiting and (able := [each for each in readers if len(each.held) < each.prefetch]):
            readers.remove(able[0])
            readers.append(able[0])
            able[0].deliver(*waiting.popleft())


class _Client:
    def __init__(self, broker, sock):
        self.broker = broker
        self.sock = sock
        self.queue = None
        self.prefetch = 0
        self.holds = True
        self.held = {}
        self.data = b""

    def serve(self):
        with self.sock, contextlib.suppress(OSError):
            while data := self.sock.recv(65536):
                self.data += data
                with self.broker.lock:
                    while frame := self.next_frame():
                        self.take(*frame)
        with self.broker.lock:
            self.leave()

    def next_frame(self):
        head = _FRAME.match(self.data)
        if head is None:
            return None
        headers = dict(line.split(b":", 1) for line in head[2].splitlines())
        length = headers.get(b"content-length")
        end = head.end() + int(length) if length else self.data.find(b"\0", head.end())
        if end < 0 or len(self.data) <= end:
            return None
        assert self.data[end] == 0
        body, self.data = self.data[head.end() : end], self.data[end + 1 :]
        return head[1], headers, body

    def take(self, command, headers, body):
        fault = self.broker.fault
        if fault == "refuses":
            self.sock.sendall(b"ERROR\nmessage:no room\n\nGo elsewhere.\0\n")
            self.sock.shutdown(socket.SHUT_WR)
            return
        if command == b"CONNECT":
            self.sock.sendall(b"CONNECTED\nversion:1.2\n\n\0\n")
        elif command == b"SUBSCRIBE":
            self.holds = {b"client-individual": True, b"auto": False}[headers[b"ack"]]
            self.queue, self.prefetch = headers[b"destination"], int(headers[b"prefetch-count"])
            self.broker.readers.setdefault(self.queue, []).append(self)
        elif command == b"SEND":
            assert headers[b"persistent"] == b"true"
            self.broker.send(headers[b"destination"], body)
        elif command == b"ACK":
            if fault == "forgets ack" and headers[b"id"] == b"30":
                self.broker.fault = ""
            else:
                del self.held[headers[b"id"]]
        if receipt := headers.get(b"receipt"):
            self.answer(receipt)
        if command == b"SUBSCRIBE" or command == b"ACK":
            self.broker.dispatch(self.queue)

    def answer(self, receipt):
        if self.broker.fault == "forgets receipt" and receipt == b"99":
            return
        self.sock.sendall(b"RECEIPT\nreceipt-id:%b\n\n\0\n" % receipt)

    def deliver(self, name, body):
        if self.holds:
            self.held[name] = body
        head = b"MESSAGE\nack:%b\nsubscription:0\nmessage-id:%b\n" % (name, name)
        self.sock.sendall(b"%bcontent-length:%d\n\n%b\0\n" % (head, len(body), body))

    def leave(self):
        if self.queue is not None:
            self.broker.readers[self.queue].remove(self)
            self.broker.queues[self.queue].extendleft(reversed(self.held.items()))
            self.broker.dispatch(self.queue)
