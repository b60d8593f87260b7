"""braidmq context: add, ls, use, rm."""


def test_a_life_of_contexts(offline):
    assert "no contexts" in offline("context", "ls").stderr
    added = offline.json("context", "add", "one", "braid://one:1", "--user", "u")
    assert added == {"name": "one", "url": "braid://one:1", "current": True}
    assert not offline.json("context", "add", "two", "braid://two:2")["current"]
    assert offline.json("context", "add", "three", "braid://three", "--use")["current"]
    rows = offline.json("context", "ls")
    assert [row["name"] for row in rows if row["current"]] == ["three"]
    assert rows[0]["user"] == "u"
    offline.ok("context", "use", "two")
    listed = offline.ok("context", "ls")
    assert [line.split()[1] for line in listed.splitlines() if "*" in line] == ["two"]
    assert offline.json("context", "rm", "two", "--yes") == {"removed": "two"}
    assert not any(row["current"] for row in offline.json("context", "ls"))


def test_files_are_kept_as_absolute_paths(offline):
    offline.ok("context", "add", "a", "braids://a", "--password-file", "p", "--ca-file", "ca")
    [row] = offline.json("context", "ls")
    assert row["password_file"].endswith("/p") and row["password_file"].startswith("/")
    assert row["ca_file"].startswith("/")


def test_what_is_refused(offline):
    assert "stored in clear" in offline.fails(2, "context", "add", "a", "braid://u:p@host")
    assert "is not a URL" in offline.fails(2, "context", "add", "a", "host")
    assert "a name has letters" in offline.fails(2, "context", "add", " ", "braid://host")
    for command in ("use", "rm"):
        assert "no context 'x'" in offline.fails(3, "context", command, "x")
    offline.ok("context", "add", "a", "braid://a")
    assert "add --yes" in offline.fails(2, "context", "rm", "a")
