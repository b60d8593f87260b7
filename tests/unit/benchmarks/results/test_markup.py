"""Text cannot become markup."""

import html
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.results.markup import Markup, element, joined


class Reader(HTMLParser):
    def __init__(self):
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""

    def handle_starttag(self, tag, attrs):
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data):
        self.text += data


@given(st.text(), st.text())
def test_any_text_comes_back_as_text(inside, value):
    reader = Reader()
    reader.feed(element("p", inside, title=value))
    reader.close()
    assert reader.tags == [("p", {"title": html.unescape(html.escape(value))})]
    assert reader.text.replace("\r\n", "\n") == inside.replace("\r\n", "\n")


def test_children():
    row = element("tr", element("td", "<"), ["a", None, [element("td")]], None, "b")
    assert row == "<tr><td>&lt;</td>a<td></td>b</tr>"
    assert joined(["<", Markup("<br>")]) == "&lt;<br>"


def test_attributes():
    assert element("br") == "<br>"
    assert (
        element("x", class_="a", text_anchor="end", x=1.23456789, y=2, viewBox="0 0 1 1")
        == '<x class="a" text-anchor="end" x="1.2346" y="2" viewBox="0 0 1 1"></x>'
    )
    assert element("x", hidden=True, open=False, id=None) == "<x hidden></x>"
    assert element("x", title='"<&>"') == '<x title="&quot;&lt;&amp;&gt;&quot;"></x>'
