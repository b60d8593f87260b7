"""What may be called: each kind of address that must not be, and what an allowlist opens."""

from ipaddress import ip_address

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.webhook_url import parse_webhook_url
from braidmq.protocols.webhooks.guard import ADDRESSES_MAX, Blocked, Guard

GLOBAL = ["8.8.8.8", "1.1.1.1", "100.63.255.255", "172.32.0.1", "2606:4700::1111", "2a00::1"]
DENIED = [
    "0.0.0.0",
    "0.1.2.3",
    "10.0.0.1",
    "100.64.0.1",
    "100.100.100.200",
    "127.0.0.1",
    "127.255.255.254",
    "168.63.129.16",
    "169.254.169.254",
    "169.254.170.2",
    "172.16.0.1",
    "172.31.255.255",
    "192.0.0.192",
    "192.0.2.1",
    "192.88.99.1",
    "192.168.1.1",
    "198.18.0.1",
    "198.51.100.1",
    "203.0.113.1",
    "224.0.0.1",
    "239.255.255.250",
    "240.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "::7f00:1",
    "::ffff:127.0.0.1",
    "::ffff:8.8.8.8",
    "64:ff9b::7f00:1",
    "64:ff9b::808:808",
    "64:ff9b:1::a00:1",
    "100::1",
    "2001::7f00:1",
    "2001:0:808:808:0:0:f7f7:f7f7",
    "2001:db8::1",
    "2002:7f00:1::",
    "2002:808:808::",
    "3fff::1",
    "5f00::1",
    "fc00::1",
    "fd00:ec2::254",
    "fd20:ce::254",
    "fe80::1",
    "fec0::1",
    "ff02::1",
    "4000::1",
]


@pytest.mark.parametrize("text", GLOBAL)
def test_global_addresses_may_be_called(text):
    assert Guard().check("a.example", 443, [text]) == [text]


@pytest.mark.parametrize("text", DENIED)
def test_all_others_may_not(text):
    guard = Guard()
    with pytest.raises(Blocked):
        guard.check("a.example", 443, [text])
    literal = f"[{text}]" if ":" in text else text
    with pytest.raises(InvalidArgument):
        guard.check_url(parse_webhook_url(f"https://{literal}/"))


def test_an_address_with_a_zone_may_not_be_called():
    for guard in (Guard(), Guard(["fe80::/10", "a.example"])):
        with pytest.raises(Blocked):
            guard.check("a.example", 443, ["fe80::1%eth0"])


@pytest.mark.parametrize("text", ["", "a.example", "1.2.3", "0x7f000001", "127.0.0.1 "])
def test_what_is_no_address_may_not_be_called(text):
    with pytest.raises(Blocked):
        Guard(["a.example"]).check("a.example", 443, [text])


def test_one_bad_address_refuses_the_host():
    with pytest.raises(Blocked, match=r"10\.0\.0\.1"):
        Guard().check("a.example", 443, ["8.8.8.8", "10.0.0.1"])


def test_a_host_without_addresses_or_with_too_many_is_refused():
    Guard().check("a.example", 443, ["8.8.8.8"] * ADDRESSES_MAX)
    for addresses in ([], ["8.8.8.8"] * (ADDRESSES_MAX + 1)):
        with pytest.raises(Blocked):
            Guard().check("a.example", 443, addresses)


@pytest.mark.parametrize("port", [80, 443, 8443])
def test_ports_of_the_web_may_be_called(port):
    assert Guard().check("a.example", port, ["8.8.8.8"])


@pytest.mark.parametrize("port", [22, 25, 6379, 8080, 65535])
def test_other_ports_may_not_unless_configured(port):
    with pytest.raises(Blocked):
        Guard(["a.example"]).check("a.example", port, ["8.8.8.8"])
    with pytest.raises(InvalidArgument):
        Guard().check_url(parse_webhook_url(f"http://a.example:{port}/"))
    assert Guard(ports=[port]).check("a.example", port, ["8.8.8.8"])


def test_networks_can_be_allowed():
    guard = Guard(["10.1.0.0/16", "127.0.0.1", "fd12::/16"])
    assert guard.check("a.example", 80, ["10.1.2.3", "127.0.0.1", "fd12::1"])
    for text in ("10.2.0.1", "127.0.0.2", "fd13::1"):
        with pytest.raises(Blocked):
            guard.check("a.example", 80, [text])


def test_hosts_can_be_allowed_by_name():
    guard = Guard(["Hooks.Internal"])
    assert guard.check("hooks.internal", 80, ["10.1.2.3", "127.0.0.1", "::1"])
    with pytest.raises(Blocked):
        guard.check("other.internal", 80, ["10.1.2.3"])


@pytest.mark.parametrize(
    "text", ["169.254.169.254", "100.100.100.200", "168.63.129.16", "fd00:ec2::254", "fe80::1"]
)
def test_a_name_does_not_allow_metadata_services_but_a_network_does(text):
    with pytest.raises(Blocked):
        Guard(["hooks.internal"]).check("hooks.internal", 80, [text])
    assert Guard([text]).check("hooks.internal", 80, [text])


def test_behind_nat64_the_address_inside_counts():
    guard = Guard(["64:ff9b::/96"])
    assert guard.check("a.example", 443, ["64:ff9b::808:808"])
    for text in ("64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b::a00:1"):
        with pytest.raises(Blocked):
            guard.check("a.example", 443, [text])


def test_an_allowed_ipv4_network_does_not_allow_its_other_spellings():
    with pytest.raises(Blocked):
        Guard(["127.0.0.0/8"]).check("a.example", 80, ["::ffff:127.0.0.1"])
    assert Guard(["127.0.0.0/8", "::ffff:0:0/96"]).check("a.example", 80, ["::ffff:127.0.0.1"])


@pytest.mark.parametrize("entry", ["", "10.0.0.1/8", "10.0.0.0/33", "a/b", "a:80", "é.example"])
def test_entries_that_are_none_are_refused(entry):
    with pytest.raises(InvalidArgument):
        Guard([entry])


@given(st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6)))
def test_whatever_is_allowed_is_global_by_python_too(address):
    if Guard().allows("a.example", ip_address(str(address))):
        assert not (address.is_private or address.is_multicast or address.is_loopback)
        assert not (address.is_reserved or address.is_link_local or address.is_unspecified)
