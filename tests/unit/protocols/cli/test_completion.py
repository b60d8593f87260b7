"""braidmq completion, and that a shell gets completions from it."""

import pytest


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_scripts(offline, shell):
    script = offline.ok("completion", shell)
    assert "_BRAIDMQ_COMPLETE" in script and "braidmq" in script
    assert offline.json("completion", shell)["script"].strip() == script.strip()


def test_another_shell(offline):
    assert "'bash', 'zsh', 'fish'" in offline.fails(2, "completion", "csh")


@pytest.mark.parametrize(
    ("words", "position", "expected"),
    [("braidmq se", "1", "send"), ("braidmq queue re", "2", "redrive")],
)
def test_what_the_script_asks_is_answered(offline, words, position, expected):
    env = {"_BRAIDMQ_COMPLETE": "bash_complete", "COMP_WORDS": words, "COMP_CWORD": position}
    assert f"plain,{expected}" in offline.ok(**env)
