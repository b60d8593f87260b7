"""A certificate for a broker on loopback, where trustme is installed to make one."""

from importlib.util import find_spec
from pathlib import Path

import msgspec

__all__ = ["Certificate", "issue"]


class Certificate(msgspec.Struct, frozen=True):
    """Files in PEM."""

    authority: str
    certificate: str
    key: str


def issue(directory: str) -> Certificate | None:
    """Write one for 127.0.0.1 into a directory; None when trustme is not there."""
    if find_spec("trustme") is None:
        return None
    import trustme

    authority = trustme.CA()
    issued = authority.issue_cert("127.0.0.1")
    names = ("authority.pem", "certificate.pem", "key.pem")
    found = Certificate(*(str(Path(directory, name)) for name in names))
    authority.cert_pem.write_to_path(found.authority)
    issued.private_key_pem.write_to_path(found.key)
    for number, pem in enumerate(issued.cert_chain_pems):
        pem.write_to_path(found.certificate, append=number > 0)
    return found
