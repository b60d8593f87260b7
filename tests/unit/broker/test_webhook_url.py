"""One spelling for each place; what readers of URLs disagree on is refused."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from braidmq.broker.errors import InvalidArgument
from braidmq.broker.webhook_url import URL_BYTES_MAX, WebhookUrl, parse_webhook_url


@pytest.mark.parametrize(
    ("url", "expected", "authority"),
    [
        ("https://a.example", ("https", "a.example", 443, "/"), "a.example"),
        ("http://a.example/x?y=1", ("http", "a.example", 80, "/x?y=1"), "a.example"),
        ("http://a.example?y=%20", ("http", "a.example", 80, "/?y=%20"), "a.example"),
        ("HTTPS://A.Example:8443/P", ("https", "a.example", 8443, "/P"), "a.example:8443"),
        ("https://192.0.2.7:443/", ("https", "192.0.2.7", 443, "/"), "192.0.2.7"),
        ("http://[2001:DB8::0:1]/", ("http", "2001:db8::1", 80, "/"), "[2001:db8::1]"),
        ("https://a.example/@b.example", ("https", "a.example", 443, "/@b.example"), "a.example"),
        ("https://my_host-1/", ("https", "my_host-1", 443, "/"), "my_host-1"),
        ("https://xn--bcher-kva.example", ("https", "xn--bcher-kva.example", 443, "/"), None),
    ],
)
def test_urls_are_taken_apart(url, expected, authority):
    found = parse_webhook_url(url)
    assert found == WebhookUrl(*expected)
    assert authority in (None, found.authority)


@pytest.mark.parametrize(
    "url",
    [
        "",
        "a.example",
        "//a.example/",
        "ftp://a.example/",
        "file:///etc/passwd",
        "gopher://a.example/",
        "https:a.example",
        "https:/a.example",
        "https:///a.example",
        "https://",
        "https://:443/",
        "https://a.example:/",
        "https://a.example:0/",
        "https://a.example:65536/",
        "https://a.example:http/",
        "https://user@a.example/",
        "https://user:secret@a.example/",
        "https://a.example@b.example/",
        "https://a.example\\@b.example/",
        "https://a.example/\\b",
        "https://a.example/#b",
        "https://a.example#@b.example/",
        "https://a.example /",
        " https://a.example/",
        "https://a.example/ x",
        "https://a.example/\r\nHost: b.example",
        "https://a.example/\x00",
        "https://a%2eexample/",
        "https://bücher.example/",
        "https://①.example/",
        "https://a。example/",
        "https://a..example/",
        "https://.a.example/",
        "https://a.example./",
        "https://-a.example/",
        "https://[::1/",
        "https://::1/",
        "https://[::1%25eth0]/",
        "https://[fe80::1%eth0]/",
        "https://[1.2.3.4]/",
        "https://2852039166/",
        "https://0xA9FEA9FE/",
        "https://0251.0376.0251.0376/",
        "https://127.1/",
        "https://1.2.3/",
        "https://1.2.3.4.5/",
        "https://01.2.3.4/",
        "https://1.2.3.256/",
        "https://1.2.3.4./",
        "https://a.example.0x7f/",
        "https://a.1/",
        "https://" + "a" * 64 + ".example/",
        "https://" + ".".join(["a" * 60] * 5) + "/",
        "https://a.example/" + "x" * URL_BYTES_MAX,
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(url):
    with pytest.raises(InvalidArgument) as refused:
        parse_webhook_url(url)
    assert "secret" not in str(refused.value)


def test_the_longest_url_is_taken():
    head = "https://a.example/"
    url = head + "x" * (URL_BYTES_MAX - len(head))
    assert len(parse_webhook_url(url).target) == URL_BYTES_MAX - len(head) + 1


@given(
    st.text(st.characters(codec="utf-8"), max_size=40),
    st.sampled_from(["", "http://", "https://a"]),
)
def test_whatever_is_taken_is_plain(text, head):
    try:
        found = parse_webhook_url(head + text)
    except InvalidArgument:
        return
    for part in (found.host, found.target, found.authority):
        assert part.isascii() and part.isprintable() and not set(part) & set(" \\#")
    assert "@" not in found.authority and found.target.startswith("/")
