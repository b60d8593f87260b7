"""Certificates of a listener, those of its clients, and new ones while it is open."""

import ssl
from pathlib import Path
from typing import Any

import msgspec
import pytest
import trustme

from braidmq.broker.config import ConfigInvalid, Listener
from braidmq.protocols.tls import ListenerTls


def certify(folder: Path, authority: trustme.CA, *names: str, **more: Any) -> Listener:
    issued = authority.issue_cert(*names)
    issued.private_key_pem.write_to_path(str(folder / "key"))
    (folder / "cert").write_bytes(b"".join(pem.bytes() for pem in issued.cert_chain_pems))
    return Listener(
        url="braids://127.0.0.1:0",
        tls_certificate=str(folder / "cert"),
        tls_key=str(folder / "key"),
        **more,
    )


def trusting(authority: trustme.CA, own: trustme.LeafCert | None = None) -> ssl.SSLContext:
    client = ssl.create_default_context()
    authority.configure_trust(client)
    if own is not None:
        own.configure_cert(client)
    return client


class Handshake:
    """A handshake in memory. Raises SSLError when it fails."""

    def __init__(self, server: ssl.SSLContext, client: ssl.SSLContext, name: str) -> None:
        to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
        self.client = client.wrap_bio(to_client, to_server, server_hostname=name)
        self.server = server.wrap_bio(to_server, to_client, server_side=True)
        for _ in range(10):
            for end in (self.client, self.server):
                try:
                    end.do_handshake()
                except ssl.SSLWantReadError:
                    continue
        self.server.write(b"x")
        assert self.client.read(1) == b"x"

    def names(self) -> set[str]:
        certificate: Any = self.client.getpeercert()
        return {value for _, value in certificate["subjectAltName"]}


@pytest.mark.parametrize("name", ["127.0.0.1", "one.example"])
def test_new_connections_get_the_new_certificate(tmp_path, name):
    """With a server name in the handshake, and without one, as for an address."""
    authority = trustme.CA()
    client = trusting(authority)
    tls = ListenerTls(certify(tmp_path, authority, name))
    assert Handshake(tls.context, client, name).names() == {name}
    certify(tmp_path, authority, name, "new.example")
    assert Handshake(tls.context, client, name).names() == {name}
    tls.replace(tls.prepared())
    assert Handshake(tls.context, client, name).names() == {name, "new.example"}


def test_certificates_that_cannot_be_used(tmp_path):
    listener = certify(tmp_path, trustme.CA(), "one.example")
    (tmp_path / "key").write_text("no key")
    with pytest.raises(ConfigInvalid, match="cannot be used"):
        ListenerTls(listener)
    with pytest.raises(ConfigInvalid, match="No such file"):
        ListenerTls(msgspec.structs.replace(listener, tls_key=str(tmp_path / "missing")))


def test_old_versions_are_not_spoken(tmp_path):
    authority = trustme.CA()
    tls = ListenerTls(certify(tmp_path, authority, "one.example"))
    assert tls.context.minimum_version is ssl.TLSVersion.TLSv1_2
    client = trusting(authority)
    client.maximum_version = ssl.TLSVersion.TLSv1_2
    assert Handshake(tls.context, client, "one.example").server.version() == "TLSv1.2"


class Clients:
    """Authorities of clients, and a server that trusts the first of them."""

    def __init__(self, folder: Path, tls_client: str) -> None:
        self.ours, self.theirs, self.others = trustme.CA(), trustme.CA(), trustme.CA()
        self.ca = folder / "ca"
        self.theirs.cert_pem.write_to_path(str(self.ca))
        self.tls = ListenerTls(
            certify(
                folder, self.ours, "a.example", tls_client_ca=str(self.ca), tls_client=tls_client
            )
        )

    def connect(self, authority: trustme.CA | None, version: ssl.TLSVersion) -> Any:
        """What the server knows of a client with a certificate of ``authority``."""
        own = authority.issue_cert("client.example", common_name="ada") if authority else None
        client = trusting(self.ours, own)
        client.maximum_version = version
        return Handshake(self.tls.context, client, "a.example").server.getpeercert()


VERSIONS = pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])


@VERSIONS
def test_a_certificate_that_is_required(tmp_path, version):
    clients = Clients(tmp_path, "required")
    subject = clients.connect(clients.theirs, version)["subject"]
    assert (("commonName", "ada"),) in subject
    for authority in (None, clients.others):
        with pytest.raises(ssl.SSLError):
            clients.connect(authority, version)


@VERSIONS
def test_a_certificate_that_is_optional(tmp_path, version):
    clients = Clients(tmp_path, "optional")
    assert clients.connect(clients.theirs, version)["subject"]
    assert not clients.connect(None, version)
    with pytest.raises(ssl.SSLError):
        clients.connect(clients.others, version)


@VERSIONS
def test_whom_to_trust_can_be_replaced(tmp_path, version):
    clients = Clients(tmp_path, "required")
    clients.others.cert_pem.write_to_path(str(clients.ca))
    clients.tls.replace(clients.tls.prepared())
    assert clients.connect(clients.others, version)
    with pytest.raises(ssl.SSLError):
        clients.connect(clients.theirs, version)


def test_authorities_that_cannot_be_used(tmp_path):
    clients = Clients(tmp_path, "required")
    for content in ("no certificate", None):
        if content is None:
            clients.ca.unlink()
        else:
            clients.ca.write_text(content)
        with pytest.raises(ConfigInvalid, match="tls_client_ca"):
            clients.tls.prepared()
