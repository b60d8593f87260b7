"""The TLS of a listener, made of the files its configuration names; the files can be read again.

TLS is 1.2 or newer. A client's certificate is verified against ``tls_client_ca`` in the handshake;
whose name it bears is told by ``certificates.py``.
"""

import ssl

from ..broker.config import ConfigInvalid, Listener

__all__ = ["ListenerTls"]

_VERIFY = {
    "none": ssl.CERT_NONE,
    "optional": ssl.CERT_OPTIONAL,
    "required": ssl.CERT_REQUIRED,
}


class ListenerTls:
    """``context`` stays for as long as the listener is open; what stands behind it can be replaced.

    Raises:
        ConfigInvalid: a file is missing, or is not what it should be.
    """

    def __init__(self, listener: Listener) -> None:
        self._listener = listener
        self._current = self.prepared()
        self.context = self.prepared()
        self.context.sni_callback = self._choose  # also called when the client names no server

    def prepared(self) -> ssl.SSLContext:
        """A context with the files as they are now. Raises ConfigInvalid."""
        listener = self._listener
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_2
        try:
            context.load_cert_chain(listener.tls_certificate, listener.tls_key)
        except (OSError, ValueError) as error:  # SSLError is an OSError
            raise ConfigInvalid(
                [
                    f"{listener.url}: the certificate {listener.tls_certificate} with the key"
                    f" {listener.tls_key} cannot be used: {error}"
                ]
            ) from None
        if listener.tls_client_ca:
            try:
                context.load_verify_locations(listener.tls_client_ca)
            except (OSError, ValueError) as error:
                raise ConfigInvalid(
                    [f"{listener.url}: tls_client_ca {listener.tls_client_ca}: {error}"]
                ) from None
        if listener.tls_client != "none":
            context.verify_mode = _VERIFY[listener.tls_client]
            # A resumed session would bring back a certificate that nobody looks at any more.
            context.num_tickets = 0
            context.options |= ssl.OP_NO_TICKET
        return context

    def replace(self, context: ssl.SSLContext) -> None:
        """Use ``context``, made by :meth:`prepared`, for connections from now on."""
        self._current = context

    def _choose(self, connection: ssl.SSLObject, name: str | None, context: ssl.SSLContext) -> None:
        connection.context = self._current
