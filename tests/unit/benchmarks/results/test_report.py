"""The page as text; tests/e2e/test_report_page.py looks at it with a browser."""

import base64
import hashlib
import re

from braidmq.benchmarks.integrity import Integrity
from braidmq.benchmarks.results.report import html_report, write_report
from braidmq.benchmarks.results.result import Result
from tests.bench_results import a_result, a_run


def facts(page):
    items = re.findall(r"<li[^>]*><b>([^<]*)</b><span>([^<]*)</span>", page)
    return {words: count for count, words in items}


def test_what_is_on_the_page():
    page = html_report(
        {
            "file": a_result(
                a_run(per_second=4_000),
                a_run("mosquitto", per_second=1_000),
                missing={"amqtt": "not installed"},
            )
        }
    )
    assert page.startswith("<!DOCTYPE html>")
    for words in (
        "<title>e2e: braidmq, mosquitto</title>",
        "left out</strong> amqtt: not installed",
        "<b>4.00</b><small> (4.00-4.00)",
        "braidmq bench peers --quick",
        "durability: synced",
        "a processor, 2 cores",
        "38% of a core",
    ):
        assert words in page
    assert facts(page) == {
        "messages checked": "20,000",
        "lost": "0",
        "corrupt": "0",
        "runs": "2",
        "broke a promise": "0",
        "not to be believed": "0",
    }


def test_what_is_wrong_is_at_the_top_and_in_the_table():
    page = html_report(
        {
            "file": a_result(
                a_run(integrity=Integrity(received=10, lost=2, corrupt=1), problems=["2 lost"]),
                a_run("mosquitto", invalid=["busy"]),
            )
        }
    )
    found = facts(page)
    assert (found["lost"], found["corrupt"]) == ("2", "1")
    assert (found["broke a promise"], found["not to be believed"]) == ("1", "1")
    assert '<th scope="row" class="broken">braidmq ✖</th>' in page
    assert '<th scope="row" class="doubted">mosquitto ⚠</th>' in page
    assert '<td class="broken">2</td>' in page


def test_a_loss_that_breaks_no_promise_is_no_failure():
    page = html_report({"file": a_result(a_run(integrity=Integrity(received=10, lost=2)))})
    assert '<li class="doubt"><b>2</b><span>lost' in page
    assert 'class="broken"' not in page


def test_all_scenarios_are_counted():
    runs = [a_run(f"system {at}", scenario=f"scenario {at}") for at in range(12)]
    page = html_report({"file": a_result(*runs, missing={f"peer {at}": "" for at in range(12)})})
    assert "<title>12 scenarios: " in page and "system 11" in page and "peer 11" in page


def test_the_policy_allows_our_script_alone():
    page = html_report({"file": a_result(a_run())})
    [script] = re.findall(r"<script>(.*?)</script>", page, re.DOTALL)
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    [policy] = re.findall(r'Content-Security-Policy" content="([^"]*)"', page)
    assert "default-src &#x27;none&#x27;" in policy
    assert f"script-src &#x27;sha256-{digest}&#x27;;" in policy
    assert "http://" not in page and "https://" not in page


def test_a_sweep_is_one_part_and_other_knobs_are_several():
    page = html_report({"f": a_result(*(a_run(knobs={"size": size}) for size in ("1", "10")))})
    assert re.findall(r'href="#(part-\d+)">([^<]*)', page) == [("part-0", "e2e")]
    page = html_report({"f": a_result(*(a_run(knobs={"kind": kind}) for kind in ("a", "b")))})
    assert re.findall(r'href="#(part-\d+)">([^<]*)', page) == [
        ("part-0", "e2e kind=a"),
        ("part-1", "e2e kind=b"),
    ]
    assert all(f'id="part-{at}"' in page for at in (0, 1))


def test_several_files():
    page = html_report({"one": a_result(a_run()), "two": a_result(a_run())})
    assert "braidmq (one)" in page and "braidmq (two)" in page
    assert page.count("Systems and their settings") == 2


def test_nothing_ran(tmp_path):
    path = tmp_path / "report.html"
    empty: Result = a_result()
    write_report({"file": empty}, path)
    assert "<title>no runs</title>" in path.read_text()
