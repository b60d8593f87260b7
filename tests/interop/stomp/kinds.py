"""Every client of STOMP that the tests run with: a library, a version, a transport."""

from .facade import Kind
from .remote_clients import RubyClient, StompjsClient, no_ruby, no_stompjs
from .stomper_client import StomperClient
from .stompman_client import StompmanClient
from .stomppy_client import StomppyClient

__all__ = ["KINDS", "REFERENCE", "here"]

TEXT_ONLY = frozenset({"transacted-acks", "unasked", "tell-refusal"})
V10 = TEXT_ONLY | {"sends-bytes", "reads-bytes"}
V11 = V10 | {"nack", "beats", "escapes"}
STOMPPY = frozenset({"receipts", "exact"})
# It does not show the ERROR that answers a CONNECT.
STOMPMAN = V11 - {"transacted-acks", "unasked", "tell-refusal"}
AS_TEXT = {"sends-bytes"}  # what cannot be sent when all frames of WebSocket are text


def _stompjs(version: str, transport: str = "") -> Kind:
    can = V10 if version == "1.0" else V11
    return Kind(
        f"stompjs-v{version.replace('.', '')}{transport and '-'}{transport}",
        StompjsClient,
        version,
        websocket=bool(transport),
        binary=transport == "binary",
        # Of the escapes in 1.1 it does not know.
        can=can | {"tls"} if version == "1.2" else can - {"escapes"},
        missing=no_stompjs,
    )


KINDS = [
    Kind("stomppy-v10", StomppyClient, "1.0", can=V10 | {"receipts"}),
    Kind("stomppy-v11", StomppyClient, "1.1", can=V11 | STOMPPY),
    Kind("stomppy-v12", StomppyClient, "1.2", can=V11 | STOMPPY | {"tls"}),
    Kind("stomppy-v12-text", StomppyClient, "1.2", websocket=True, can=(V11 | STOMPPY) - AS_TEXT),
    Kind(
        "stomppy-v12-binary", StomppyClient, "1.2", websocket=True, binary=True, can=V11 | STOMPPY
    ),
    Kind("stomper-v10", StomperClient, "1.0", can=TEXT_ONLY),
    Kind("stomper-v11", StomperClient, "1.1", can=TEXT_ONLY | {"nack"}),
    Kind("stompman-v12", StompmanClient, "1.2", can=STOMPMAN),
    Kind("stompman-v12-text", StompmanClient, "1.2", websocket=True, can=STOMPMAN - AS_TEXT),
    *(_stompjs(version, how) for how in ("", "text") for version in ("1.0", "1.1", "1.2")),
    _stompjs("1.2", "binary"),
    Kind("ruby-v10", RubyClient, "1.0", can=V10 | {"receipts"}, missing=no_ruby),
    Kind("ruby-v11", RubyClient, "1.1", can=V11 | {"receipts"}, missing=no_ruby),
    Kind("ruby-v12", RubyClient, "1.2", can=V11 | {"receipts", "tls"}, missing=no_ruby),
    Kind("ruby-v12-crlf", RubyClient, "1.2", can=V11 | {"receipts", "crlf"}, missing=no_ruby),
]
REFERENCE = KINDS[2]


def here() -> list[Kind]:
    """Those that can run here."""
    return [kind for kind in KINDS if not kind.missing()]
