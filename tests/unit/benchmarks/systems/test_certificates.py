"""A certificate that its authority vouches for; none where there is nothing to make it with."""

import ssl

from braidmq.benchmarks.systems import certificates
from braidmq.benchmarks.systems.certificates import issue


def test_it_can_be_used(tmp_path):
    found = issue(str(tmp_path))
    assert found is not None
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(found.certificate, found.key)
    context.load_verify_locations(found.authority)


def test_without_trustme_there_is_none(tmp_path, monkeypatch):
    monkeypatch.setattr(certificates, "find_spec", lambda name: None)
    assert issue(str(tmp_path)) is None and not list(tmp_path.iterdir())
