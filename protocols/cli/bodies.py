"""Where ``send`` and ``publish`` take bodies and headers from: arguments, files, stdin, lines."""

import base64
import binascii
import os
import sys
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import click

from ...broker.limits import Limits
from ...broker.message import CONTENT_TYPE, Headers, pack_headers
from .failures import CommandFailed

__all__ = ["body_in", "headers_in", "lines_read", "packed_headers", "read_body"]

_READ_BYTES = 256 * 1024
_CHUNKS_AHEAD = 4
_LINE_BYTES_MAX = 256 * 1024 * 1024


def packed_headers(headers: Sequence[str], content_type: str | None) -> bytes:
    """The header map that --header and --content-type describe, packed."""
    named: Headers = {}
    for header in headers:
        name, separator, value = header.partition("=")
        if not separator or not name:
            raise click.BadParameter(f"{header!r}: write NAME=VALUE", param_hint="--header")
        named[name] = value
    if content_type:
        named[CONTENT_TYPE] = content_type
    return pack_headers(named, Limits(headers_bytes_max=2**30))  # the broker's limits decide


def read_body(body: str | None, file: str | None) -> bytes:
    """The body of one message: BODY, what --file holds, or stdin."""
    if file is not None:
        if body is not None:
            raise click.UsageError("BODY and --file exclude each other")
        return Path(file).read_bytes()
    if body is None and sys.stdin.isatty():
        raise click.UsageError("there is no message: give BODY, --file, --lines, or pipe it in")
    if body is None or body == "-":
        return sys.stdin.buffer.read()
    return body.encode("utf-8", "surrogateescape")


def body_in(fields: dict[str, Any]) -> bytes:
    """The body in a line of JSON. Raises KeyError, TypeError, ValueError."""
    if "body_base64" in fields:
        try:
            return base64.b64decode(fields["body_base64"], validate=True)
        except binascii.Error as error:
            raise ValueError(f"body_base64: {error}") from None
    body = fields["body"]
    if not isinstance(body, str):
        raise TypeError("body is text; write bytes as body_base64")
    return body.encode()


def headers_in(fields: dict[str, Any]) -> Headers:
    """The headers in a line of JSON. Raises AttributeError, KeyError, TypeError, ValueError."""
    return {
        name: value if isinstance(value, str) else base64.b64decode(value["base64"])
        for name, value in fields.get("headers", {}).items()
    }


async def lines_read(source: BinaryIO) -> AsyncIterator[list[bytes]]:
    """Lines without their ends, as many as can be read without waiting; the last may have none."""
    rest: list[bytes] = []
    rest_bytes = 0
    async for chunk in _chunks_read(source):
        head, newline, tail = chunk.rpartition(b"\n")
        if newline:
            lines = b"".join([*rest, head]).split(b"\n")
            yield [line.removesuffix(b"\r") for line in lines]
            rest, rest_bytes = [], 0
        rest.append(tail)
        rest_bytes += len(tail)
        if rest_bytes > _LINE_BYTES_MAX:
            raise CommandFailed("a line is longer than 256 MiB: are these lines?", "", 2, "usage")
    if rest_bytes:
        yield [b"".join(rest)]


async def _chunks_read(source: BinaryIO) -> AsyncIterator[bytes]:
    """What can be read, as it comes.

    A thread of its own reads, past Python's buffers: it may be waiting for a terminal when the
    command ends, and must hold neither the event loop nor the interpreter then.
    """
    import asyncio
    import threading

    try:
        descriptor = source.fileno()
    except OSError:  # not a file of the system
        yield source.read()
        return
    loop = asyncio.get_running_loop()
    chunks: asyncio.Queue[bytes | OSError] = asyncio.Queue()
    room = threading.Semaphore(_CHUNKS_AHEAD)

    def pump() -> None:
        chunk: bytes | OSError = b"-"
        try:
            while chunk and not isinstance(chunk, OSError):
                room.acquire()
                try:
                    chunk = os.read(descriptor, _READ_BYTES)
                except OSError as error:
                    chunk = error
                loop.call_soon_threadsafe(chunks.put_nowait, chunk)
        except RuntimeError:  # the loop is closed: nobody wants it any more
            pass

    threading.Thread(target=pump, name="read-lines", daemon=True).start()
    while chunk := await chunks.get():
        if isinstance(chunk, OSError):
            raise chunk
        room.release()
        yield chunk
