"""Users by certificate: one name from one place, or nobody."""

import ssl

import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.certificates import (
    CERTIFICATE_NAMES,
    CertificateName,
    user_of_certificate,
)
from braidmq.broker.errors import Unauthenticated


def handshake(client: ssl.SSLContext, server: ssl.SSLContext) -> dict:
    """What a server gets to see of the client's certificate, without a socket."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ours = server.wrap_bio(to_server, to_client, server_side=True)
    theirs = client.wrap_bio(to_client, to_server, server_hostname="broker.test")
    waiting = [theirs, ours]
    for _ in range(20):
        for side in list(waiting):
            try:
                side.do_handshake()
                waiting.remove(side)
            except ssl.SSLWantReadError:
                pass
    assert not waiting
    found = ours.getpeercert()
    assert found is not None
    return dict(found)


def presented(*identities: str, common_name: str | None = None) -> dict:
    authority = trustme.CA()
    server = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    server.verify_mode = ssl.CERT_REQUIRED
    authority.configure_trust(server)
    authority.issue_cert("broker.test").configure_cert(server)
    client = ssl.create_default_context()
    authority.configure_trust(client)
    authority.issue_cert(*identities, common_name=common_name).configure_cert(client)
    return handshake(client, server)


def test_a_real_certificate_names_its_user() -> None:
    certificate = presented("dev-1.example", "ada@example.com", common_name="Ada Lovelace")
    assert user_of_certificate(certificate) == "Ada Lovelace"
    assert user_of_certificate(certificate, "cn") == "Ada Lovelace"
    assert user_of_certificate(certificate, "san-dns") == "dev-1.example"
    assert user_of_certificate(certificate, "san-email") == "ada@example.com"
    with pytest.raises(Unauthenticated, match=r"no name where the user is read \(san-uri\)"):
        user_of_certificate(certificate, "san-uri")


def test_an_uri_is_taken_whole(tmp_path) -> None:
    # trustme makes none with an URI, and none with two common names.
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name(
        [x509.NameAttribute(NameOID.COMMON_NAME, name) for name in ("one", "two")]
        + [x509.NameAttribute(NameOID.ORGANIZATION_NAME, "three")]
    )
    authority = trustme.CA()
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    made = (
        x509.CertificateBuilder(issuer.subject, subject, key.public_key(), 7)
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(
            x509.SubjectAlternativeName([x509.UniformResourceIdentifier("spiffe://x/device/7")]),
            critical=False,
        )
        .sign(key, hashes.SHA256())
    )
    path = tmp_path / "certificate.pem"
    path.write_bytes(made.public_bytes(Encoding.PEM))
    certificate = ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]
    assert user_of_certificate(certificate, "san-uri") == "spiffe://x/device/7"
    with pytest.raises(Unauthenticated, match=r"several names where the user is read \(cn\)"):
        user_of_certificate(certificate)


def with_name(*names: str) -> dict:
    return {"subject": tuple((("commonName", name),) for name in names)}


@pytest.mark.parametrize("name", ["$system", "$anonymous", "a\x00b", "a\n", "x" * 257, ""])
def test_a_name_that_no_user_can_have_is_nobody(name: str) -> None:
    with pytest.raises(Unauthenticated, match="cannot be a user's"):
        user_of_certificate(with_name(name))


@pytest.mark.parametrize("where", CERTIFICATE_NAMES)
def test_without_a_name_there_it_is_nobody(where: CertificateName) -> None:
    other = "san-dns" if where != "san-dns" else "cn"
    full: dict[str, dict] = {
        "cn": {"subject": ((("commonName", "a"),),)},
        "san-dns": {"subjectAltName": (("DNS", "a"),)},
        "san-uri": {"subjectAltName": (("URI", "a"),)},
        "san-email": {"subjectAltName": (("email", "a"),)},
    }
    assert user_of_certificate(full[where], where) == "a"
    for certificate in ({}, {"subject": (), "subjectAltName": ()}, full[other]):
        with pytest.raises(Unauthenticated, match="no name"):
            user_of_certificate(certificate, where)


@given(st.lists(st.text(max_size=3), max_size=3), st.sampled_from(CERTIFICATE_NAMES))
def test_a_name_is_taken_as_it_is_or_not_at_all(names: list[str], where: CertificateName) -> None:
    kinds = {"san-dns": "DNS", "san-uri": "URI", "san-email": "email"}
    alternative = tuple((kinds[where], name) for name in names) if where != "cn" else ()
    certificate = with_name(*names) if where == "cn" else {"subjectAltName": alternative}
    try:
        user = user_of_certificate(certificate, where)
    except Unauthenticated:
        return
    assert names == [user]
