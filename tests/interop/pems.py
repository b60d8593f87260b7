"""Certificates for a test: an authority of its own, and what it has issued, as files."""

from pathlib import Path
from typing import Any

import trustme

__all__ = ["Pems"]


class Pems:
    """An authority (`ca`), the server's certificate (`cert`, `key`), and others on demand."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.authority = trustme.CA()
        self.ca = str(folder / "ca")
        self.authority.cert_pem.write_to_path(self.ca)
        self.cert, self.key = self.issue("server", "127.0.0.1")

    def issue(self, name: str, *names: str, **more: Any) -> tuple[str, str]:
        """A certificate and its key, for these hosts or addresses."""
        issued = self.authority.issue_cert(*names, **more)
        cert, key = str(self.folder / name), str(self.folder / f"{name}.key")
        issued.private_key_pem.write_to_path(key)
        for number, pem in enumerate(issued.cert_chain_pems):
            pem.write_to_path(cert, append=number > 0)
        return cert, key

    def client(self, common_name: str) -> tuple[str, str]:
        """The certificate and the key of a client of this name; RSA, as ruby-stomp wants it."""
        kind = trustme.KeyType.RSA
        return self.issue(common_name, "client.example", common_name=common_name, key_type=kind)
