"""Text cannot become markup."""

import html
from html.parser import HTMLParser

from hypothesis import given
from hypothesis import strategies as st

from braidmq.benchmarks.results.markup import Markup, element, folded, joined, table


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


def test_a_table_names_its_rows_and_columns():
    row = '<tr><th scope="row">a</th><td>1</td><td>&lt;</td></tr>'
    assert table([("a", "1", "<")]) == f"<table><tbody>{row}</tbody></table>"
    head = '<thead><tr><th scope="col"></th><th scope="col">x</th></tr></thead>'
    assert table([], ["", "x"], "two") == f'<table class="two">{head}<tbody></tbody></table>'


def test_what_is_folded_can_be_scrolled_with_keys():
    assert folded("more", "<") == (
        '<details><summary>more</summary><div class="scroll" tabindex="0">&lt;</div></details>'
    )
