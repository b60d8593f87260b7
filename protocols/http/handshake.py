"""The opening handshake of WebSocket, RFC 6455 section 4: may it be, and what will be spoken.

No extension is negotiated, in particular no compression: a small frame of a stranger must not
become a large one in memory.
"""

import base64
import binascii
import hashlib
from collections.abc import Mapping

import msgspec

from ..session import SessionFactory
from .messages import Refused, Request, text_response, tokens

__all__ = ["Subprotocol", "WebSocketOffer", "accept", "is_upgrade"]

_GUID = "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"
_VERSION = "13"


class Subprotocol(msgspec.Struct, frozen=True):
    """A dialect that can be spoken over WebSocket.

    Attributes:
        factory: makes the session inside.
        takes_text: whether text frames are welcome beside binary ones, and answered with such.
        rank: of several that have one, the highest that a client asks for is taken.
    """

    factory: SessionFactory
    takes_text: bool = False
    rank: int = 0


class WebSocketOffer(msgspec.Struct, frozen=True):
    """What a path offers.

    Attributes:
        subprotocols: by the name that clients ask for.
        default: for clients that ask for none; without it they are refused.
    """

    subprotocols: Mapping[str, Subprotocol]
    default: Subprotocol | None = None


def is_upgrade(request: Request) -> bool:
    """Whether the client wants to go on with WebSocket."""
    upgrade = tokens(request.headers.get("upgrade", "").lower())
    connection = tokens(request.headers.get("connection", "").lower())
    # RFC 9110 7.8: an Upgrade in HTTP/1.0 MUST be ignored.
    return request.version == "1.1" and "websocket" in upgrade and "upgrade" in connection


def accept(request: Request, offer: WebSocketOffer) -> tuple[bytes, Subprotocol]:
    """The answer that opens the WebSocket, and what is spoken in it. Raises Refused."""
    headers = request.headers
    if request.method != "GET":
        raise Refused(text_response(405, "a WebSocket begins with GET", ("Allow", "GET")))
    if headers.get("sec-websocket-version") != _VERSION:
        # RFC 6455 4.4
        known = ("Sec-WebSocket-Version", _VERSION)
        upgrade = (("Upgrade", "websocket"), ("Connection", "Upgrade"))
        text = f"only version {_VERSION} of WebSocket is spoken here"
        raise Refused(text_response(426, text, known, *upgrade))
    key = headers.get("sec-websocket-key", "")
    if not _is_key(key):
        raise Refused(text_response(400, "Sec-WebSocket-Key is not 16 bytes in base64"))
    name, subprotocol = _choose(headers.get("sec-websocket-protocol", ""), offer)
    digest = hashlib.sha1(f"{key}{_GUID}".encode("ascii"), usedforsecurity=False).digest()
    lines = [
        "HTTP/1.1 101 Switching Protocols",
        "Upgrade: websocket",
        "Connection: Upgrade",
        f"Sec-WebSocket-Accept: {base64.b64encode(digest).decode('ascii')}",
        *([f"Sec-WebSocket-Protocol: {name}"] if name else []),
        "",
        "",
    ]
    return "\r\n".join(lines).encode("latin-1"), subprotocol


def _is_key(key: str) -> bool:
    try:
        return len(base64.b64decode(key, validate=True)) == 16
    except (ValueError, binascii.Error):
        return False


def _choose(asked: str, offer: WebSocketOffer) -> tuple[str, Subprotocol]:
    """The first of the client's list that is known, or what ranks above it. Raises Refused."""
    known = [name for name in tokens(asked) if name in offer.subprotocols]
    if known:
        ranked = [name for name in known if offer.subprotocols[name].rank]
        name = known[0]
        if name in ranked:
            name = max(ranked, key=lambda each: offer.subprotocols[each].rank)
        return name, offer.subprotocols[name]
    if asked or offer.default is None:
        # [MQTT-6.0.0-3] a client of MQTT asks for "mqtt", and [MQTT-6.0.0-4] is told so.
        names = ", ".join(offer.subprotocols)
        raise Refused(text_response(400, f"Sec-WebSocket-Protocol is one of: {names}"))
    return "", offer.default
