"""CONNECT, up to CONNACK: who the client is, which session it gets, and what both sides may do.

The order is: is the packet sound; does this listener take such a client; who is it (certificate,
SCRAM, password or JWT, nobody); may it use this client identifier and this will; then the session.
Nothing is told about the broker before the client is known.
"""

from typing import TYPE_CHECKING

from ...broker.access import Principal
from ...broker.errors import (
    BraidError,
    InvalidArgument,
    LimitExceeded,
    PermissionDenied,
    Unauthenticated,
    Unavailable,
)
from ...broker.passwords import ScramLogin
from ...broker.session import EXPIRY_NEVER_MS, PACKET_ID_SEQUENCED_MAX
from ...broker.topic import check_topic, is_reserved
from ...broker.willstore import WillMessage
from ...storage.log import Durability
from .headers import headers_from
from .packets import (
    V5,
    V31,
    V311,
    Auth,
    Connect,
    Malformed,
    Properties,
    Reason,
    Will,
    decode_connect,
    encode_auth,
    encode_connack,
    encode_properties,
    peek_level,
)

if TYPE_CHECKING:
    from .session import MqttSession

__all__ = ["SCRAM", "Connecting", "Exchange", "greet", "prove_again"]

SCRAM = "SCRAM-SHA-256"
_CLIENT_ID_V31_MAX = 23
_KEEP_ALIVE_GRACE = 1.5  # [MQTT-3.1.2-22]
_EXPIRY_NEVER = 0xFFFF_FFFF


class _Refused(Exception):
    """The client is not let in."""

    def __init__(self, reason: Reason, text: str) -> None:
        super().__init__(text)
        self.reason = reason


def _refusal(error: BraidError) -> _Refused:
    if isinstance(error, Unauthenticated):
        return _Refused(Reason.BAD_USER_NAME_OR_PASSWORD, str(error))
    if isinstance(error, PermissionDenied):
        return _Refused(Reason.NOT_AUTHORIZED, str(error))
    if isinstance(error, InvalidArgument):
        return _Refused(Reason.CLIENT_IDENTIFIER_NOT_VALID, str(error))
    if isinstance(error, LimitExceeded):
        return _Refused(Reason.QUOTA_EXCEEDED, str(error))
    if isinstance(error, Unavailable):
        return _Refused(Reason.SERVER_BUSY, str(error))
    return _Refused(Reason.SERVER_UNAVAILABLE, str(error))


class Exchange:
    """A SCRAM exchange, carried by AUTH packets.

    Attributes:
        who: who it is, once it is over. proof: what the client is told then.
    """

    __slots__ = ("_begun", "_challenged", "_login", "proof", "who")

    def __init__(self, login: ScramLogin) -> None:
        self._login = login
        self._begun = False
        self._challenged = False
        self.who: Principal | None = None
        self.proof = b""

    def begin(self, data: bytes) -> bytes:
        """The answer to the packet that asks for it, which may bring the first message."""
        self._begun = True
        return self.go_on(data, 0) if data else _auth(b"")

    def check(self, packet: Auth) -> None:
        """Raise Malformed for an AUTH that does not go on with it."""
        if packet.properties.authentication_method != SCRAM:
            # [MQTT-4.12.0-5]
            raise Malformed("the authentication method changed", Reason.PROTOCOL_ERROR)
        if packet.reason != Reason.CONTINUE_AUTHENTICATION:
            raise Malformed("the exchange is not over", Reason.PROTOCOL_ERROR)

    def go_on(self, data: bytes, now_ms: int) -> bytes:
        """The answer to the client's message; nothing when it is over. Raises Unauthenticated."""
        if not self._challenged:
            self._challenged = True
            return _auth(self._login.first(data))
        self.proof, self.who = self._login.final(data, now_ms / 1000)
        return b""

    def repeat(self, packet: Auth, user: str, now_ms: int) -> bytes:
        """The answer to an AUTH of a client that ``user`` opened by an exchange; "": it did not.

        Raises Unauthenticated, Malformed.
        """
        # [MQTT-4.12.1-1]
        if not user or packet.properties.authentication_method != SCRAM:
            raise Malformed("there is nothing to prove again", Reason.PROTOCOL_ERROR)
        data = packet.properties.authentication_data or b""
        if not self._begun:
            if packet.reason != Reason.RE_AUTHENTICATE:
                raise Malformed("there is no exchange to go on with", Reason.PROTOCOL_ERROR)
            return self.begin(data)
        self.check(packet)
        answer = self.go_on(data, now_ms)
        if self.who is None:
            return answer
        if self.who.name != user:
            raise Unauthenticated("the user cannot change")
        properties = Properties(authentication_method=SCRAM, authentication_data=self.proof)
        return encode_auth(Reason.SUCCESS, encode_properties(properties))


def _auth(data: bytes) -> bytes:
    properties = Properties(authentication_method=SCRAM, authentication_data=data or None)
    return encode_auth(Reason.CONTINUE_AUTHENTICATION, encode_properties(properties))


def prove_again(
    session: "MqttSession", exchange: Exchange | None, user: str, packet: Auth, now_ms: int
) -> Exchange | None:
    """A client that is in proves again who it is: the exchange as it goes on; None: it is over."""
    if exchange is None:
        exchange = Exchange(session.host.scram())
    try:
        answer = exchange.repeat(packet, user, now_ms)
        if exchange.who is not None:
            session.who = session.core.access.for_client(exchange.who, session.who.client_id)
        session.out.send(answer)
    except BraidError as error:
        # [MQTT-4.12.1-2]
        session.fail(Reason.NOT_AUTHORIZED, str(error))
    return exchange if exchange.who is None else None


def greet(session: "MqttSession", flags: int, body: bytes) -> Connect:
    """Decode a CONNECT, and note what the client says of itself. Raises Malformed."""
    session.version = peek_level(body)
    if not session.version and len(body) > 6:
        # Answered in the form that the client most likely understands. Mosquitto's bridges set the
        # highest bit of the level, and go on without it when that is refused as 3.1.1 has it.
        session.version = V5 if body[:6] == b"\0\4MQTT" and body[6] & 0x7F >= V5 else V311
    options, out = session.options, session.out
    connect = decode_connect(flags, body, options.user_properties_max)
    properties = connect.properties
    out.window = options.in_flight_maximum
    if session.version == V5:
        session.explains = properties.request_problem_information != 0  # [MQTT-3.1.2-29]
        out.window = min(out.window, properties.receive_maximum or 65_535)
        out.alias_maximum = min(
            options.topic_alias_maximum_out, properties.topic_alias_maximum or 0
        )
        if properties.maximum_packet_size is not None:
            out.packet_bytes_max = properties.maximum_packet_size
    # Half of the identifiers are for messages of the session's queue, half for all others.
    out.window = min(out.window, PACKET_ID_SEQUENCED_MAX)
    return connect


class Connecting:
    """The handshake of one client. It is dropped when the handshake is over."""

    __slots__ = (
        "_assigned",
        "_client_id",
        "_connect",
        "_exchange",
        "_server_keep_alive",
        "_session",
    )

    def __init__(self, session: "MqttSession", connect: Connect) -> None:
        self._session = session
        self._connect = connect
        self._client_id = connect.client_id
        self._assigned = False
        self._server_keep_alive: int | None = None
        self._exchange: Exchange | None = None

    def begin(self) -> None:
        """Handle CONNECT. The end comes by ``session.let_in`` or ``session.refuse``."""
        session = self._session
        try:
            self._check_options()
            self._choose_keep_alive()
            self._choose_client_id()
            self._check_will()
            self._authenticate()
        except _Refused as refused:
            session.refuse(refused.reason, str(refused))
        except BraidError as error:
            refusal = _refusal(error)
            session.refuse(refusal.reason, str(refusal))

    def _check_options(self) -> None:
        options = self._session.options
        if options.redirect == "use-another":
            raise _Refused(Reason.USE_ANOTHER_SERVER, "use another server")
        if options.redirect == "moved":
            raise _Refused(Reason.SERVER_MOVED, "the server has moved")

    def _choose_keep_alive(self) -> None:
        connect = self._connect
        seconds = connect.keep_alive
        if connect.level == V5:
            options = self._session.options
            most = options.keep_alive_seconds_max
            seconds = options.server_keep_alive_seconds or seconds
            if most and not 0 < seconds <= most:
                seconds = most
            if seconds != connect.keep_alive:
                self._server_keep_alive = seconds
        self._session.keep_alive_ms = int(seconds * 1000 * _KEEP_ALIVE_GRACE)

    def _choose_client_id(self) -> None:
        connect = self._connect
        session = self._session
        if not connect.client_id:
            # [MQTT-3.1.3-8] of 3.1.1; 3.1 has no clients without an identifier
            possible = connect.level == V5 or (connect.level == V311 and connect.clean_start)
            if not possible or not session.options.allow_zero_length_client_id:
                raise _Refused(Reason.CLIENT_IDENTIFIER_NOT_VALID, "a client identifier is needed")
            # [MQTT-3.1.3-6]
            self._client_id = session.server.new_id()
            self._assigned = True
        elif connect.level == V31 and len(connect.client_id) > _CLIENT_ID_V31_MAX:
            text = f"a client identifier of MQTT 3.1 has at most {_CLIENT_ID_V31_MAX} characters"
            raise _Refused(Reason.CLIENT_IDENTIFIER_NOT_VALID, text)
        session.core.clients.check_client_id(self._client_id)

    def _check_will(self) -> None:
        will = self._connect.will
        options = self._session.options
        if will is None:
            return
        # [MQTT-3.2.2-12], [MQTT-3.2.2-13]
        if will.qos > options.maximum_qos:
            text = f"QoS is at most {options.maximum_qos} here"
            raise _Refused(Reason.QOS_NOT_SUPPORTED, text)
        if will.retain and not options.retain_available:
            raise _Refused(Reason.RETAIN_NOT_SUPPORTED, "messages are not retained here")
        limits = self._session.limits
        try:
            check_topic(will.topic, limits.topic_bytes_max, limits.topic_levels_max)
        except InvalidArgument as error:
            raise _Refused(Reason.TOPIC_NAME_INVALID, str(error)) from None
        if is_reserved(will.topic):
            raise _Refused(Reason.NOT_AUTHORIZED, f"a will cannot go to {will.topic!r}")

    # Who is it? -------------------------------------------------------------------------------

    def _authenticate(self) -> None:
        connect = self._connect
        session = self._session
        host = session.host
        method = connect.properties.authentication_method
        if method is not None:
            self._begin_scram(method, connect.properties.authentication_data or b"")
        elif host.certificate_user:
            self._admit(session.core.access.principal(host.certificate_user))
        elif connect.username is not None or connect.password is not None:
            # [MQTT-3.1.4-2]
            session.wait_for_proof(exchange=False)
            host.authenticate(
                connect.username or "", connect.password or b"", self._on_authenticated
            )
        else:
            try:
                self._admit(session.core.access.anonymous(host.loopback))
            except Unauthenticated as error:
                raise _Refused(Reason.NOT_AUTHORIZED, str(error)) from None

    def _on_authenticated(self, who: Principal | BraidError) -> None:
        session = self._session
        if session.finished:
            return
        try:
            if isinstance(who, BraidError):
                raise _refusal(who)
            self._admit(who)
        except _Refused as refused:
            session.refuse(refused.reason, str(refused))
        except BraidError as error:
            refusal = _refusal(error)
            session.refuse(refusal.reason, str(refusal))
        session.wake()

    def _begin_scram(self, method: str, data: bytes) -> None:
        # [MQTT-4.12.0-1]
        if method != SCRAM:
            raise _Refused(Reason.BAD_AUTHENTICATION_METHOD, f"only {SCRAM} is known here")
        self._session.wait_for_proof(exchange=True)
        self._exchange = Exchange(self._session.host.scram())
        self._session.out.send(self._exchange.begin(data))

    def on_auth(self, packet: Auth, now_ms: int) -> None:
        """The client goes on with its exchange. [MQTT-4.12.0-3]"""
        exchange = self._exchange
        assert exchange is not None
        try:
            exchange.check(packet)
            answer = exchange.go_on(packet.properties.authentication_data or b"", now_ms)
            if exchange.who is None:
                self._session.out.send(answer)
            else:
                self._admit(exchange.who)
        except Unauthenticated as error:
            # [MQTT-4.12.0-4]
            self._session.refuse(Reason.NOT_AUTHORIZED, str(error))
        except BraidError as error:
            refusal = _refusal(error)
            self._session.refuse(refusal.reason, str(refusal))

    # Letting it in ----------------------------------------------------------------------------

    def _admit(self, who: Principal) -> None:
        connect = self._connect
        session = self._session
        who = session.core.access.for_client(who, self._client_id)
        will = connect.will
        if will is not None:
            # Checked again when it is published: rights may change.
            who.check("topic:Publish", will.topic)
        session.admit(who)
        core = session.core
        session.session, present = core.clients.open(
            who,
            self._client_id,
            session,
            connect.clean_start,
            self._expiry_ms(),
            core.now_ms,
            self._will_of(will) if will is not None else None,
        )
        # [MQTT-3.1.2-7]: a will is stored with the session, even with one that is not durable.
        if session.session.queue is None and will is None:
            session.let_in(self._connack(present))
        else:
            core.when_kept(Durability.SYNC, self._on_opened, present)

    def _on_opened(self, present: object, error: BraidError | None) -> None:
        session = self._session
        if session.finished:
            return
        if error is not None:
            refusal = _refusal(error)
            session.refuse(refusal.reason, str(refusal))
        else:
            session.let_in(self._connack(bool(present)))
        session.wake()

    def _will_of(self, will: Will) -> WillMessage:
        server = self._session.server
        headers = headers_from(will.properties) if will.properties is not None else {}
        topic = server.topic(will.topic.encode())
        expiry = will.properties.expiry_seconds if will.properties is not None else None
        return WillMessage(
            topic=will.topic,
            body=will.payload,
            attributes=server.attributes(topic, will.qos, will.retain, headers),
            qos=will.qos,
            retain=will.retain,
            lifetime_ms=max(expiry * 1000, 1) if expiry is not None else 0,
            delay_ms=will.delay_seconds * 1000,
        )

    def _expiry_ms(self) -> int:
        connect = self._connect
        options = self._session.options
        most = options.session_expiry_seconds_max
        if connect.level == V5:
            seconds = connect.properties.session_expiry_seconds or 0
        else:
            seconds = 0 if connect.clean_start else options.session_expiry_v3_seconds
        if seconds == _EXPIRY_NEVER and most == _EXPIRY_NEVER:
            return EXPIRY_NEVER_MS
        return min(seconds, most) * 1000

    @property
    def authenticated_by_exchange(self) -> str:
        """The user, if it came in by an exchange; only such a client may repeat it."""
        who = self._exchange.who if self._exchange is not None else None
        return who.name if who is not None else ""

    def _connack(self, present: bool) -> bytes:
        """The answer to a client that is let in."""
        connect = self._connect
        session = self._session
        assert session.session is not None
        if connect.level != V5:
            return encode_connack(connect.level, present, Reason.SUCCESS)
        options = session.options
        asked = connect.properties.session_expiry_seconds or 0
        granted = session.session.expiry_ms // 1000
        wants_response = connect.properties.request_response_information
        properties = Properties(
            session_expiry_seconds=granted if granted != asked else None,
            assigned_client_identifier=self._client_id if self._assigned else None,
            server_keep_alive_seconds=self._server_keep_alive,
            authentication_method=SCRAM if self._exchange is not None else None,
            authentication_data=self._exchange.proof if self._exchange is not None else None,
            receive_maximum=None if options.receive_maximum == 65_535 else options.receive_maximum,
            topic_alias_maximum=options.topic_alias_maximum or None,
            maximum_qos=options.maximum_qos if options.maximum_qos < 2 else None,
            retain_available=None if options.retain_available else 0,
            maximum_packet_size=options.maximum_packet_size_bytes,
            wildcard_subscription_available=None if options.wildcard_available else 0,
            subscription_identifier_available=(
                None if options.subscription_identifiers_available else 0
            ),
            shared_subscription_available=None if options.shared_available else 0,
            response_information=(options.response_information or None) if wants_response else None,
        )
        return encode_connack(V5, present, Reason.SUCCESS, encode_properties(properties))
