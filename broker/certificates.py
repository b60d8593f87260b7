"""The user that a client's certificate names, for listeners that ask for one (mutual TLS).

The handshake has verified the certificate: that it was signed by an authority of the listener, and
that the peer has its key. Here is only read whom it names. The rules:

1. The name is taken from one place, which the operator chose, and from nowhere else.
2. It is taken as it is: no pattern, no part of it, no change of case.
3. No name there, or several, is nobody. So is one that no user can have.
"""

from collections.abc import Mapping
from typing import Any, Literal, TypeAlias, get_args

from .access import USER_NAME_CHARACTERS_MAX
from .errors import Unauthenticated

__all__ = ["CERTIFICATE_NAMES", "CertificateName", "user_of_certificate"]

# The subject's common name, or one kind of its alternative names (RFC 5280 section 4.2.1.6).
CertificateName: TypeAlias = Literal["cn", "san-dns", "san-uri", "san-email"]
CERTIFICATE_NAMES: tuple[CertificateName, ...] = get_args(CertificateName)

_KINDS = {"san-dns": "DNS", "san-uri": "URI", "san-email": "email"}


def user_of_certificate(certificate: Mapping[str, Any], where: CertificateName = "cn") -> str:
    """The user's name in a certificate as ``ssl.SSLSocket.getpeercert()`` returns it.

    Raises:
        Unauthenticated: there is no such name, or more than one, or it cannot be a user's.
    """
    names = _names(certificate, where)
    if len(names) != 1:
        found = "several names" if names else "no name"
        raise Unauthenticated(f"the certificate has {found} where the user is read ({where})")
    name = names[0]
    if not 0 < len(name) <= USER_NAME_CHARACTERS_MAX or not name.isprintable() or name[0] == "$":
        raise Unauthenticated(f"the certificate's name ({where}) cannot be a user's")
    return name


def _names(certificate: Mapping[str, Any], where: CertificateName) -> list[str]:
    if where == "cn":
        found = [pair for part in certificate.get("subject", ()) for pair in part]
        return [value for kind, value in found if kind == "commonName"]
    wanted = _KINDS[where]
    return [value for kind, value in certificate.get("subjectAltName", ()) if kind == wanted]
