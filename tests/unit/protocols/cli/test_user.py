"""braidmq user hash."""

import tomllib

from braidmq.broker.config import file_layer, load
from braidmq.broker.passwords import verify


def test_the_toml_is_a_configuration(offline):
    toml = offline.ok("user", "hash", "al.ice", input="secret\r\nmore\n")
    [user] = load(file_layer("f", toml)).config.access_users()
    assert user.name == "al.ice" and verify(user.password_hash, "secret")
    assert "secret" not in toml


def test_only_the_hash_with_quiet_and_all_with_json(offline):
    assert verify(offline.ok("user", "hash", "-q", input="secret").strip(), "secret")
    fields = offline.json("user", "hash", "bob", input="secret")
    assert fields["name"] == "bob" and tomllib.loads(fields["toml"])["users"]["bob"]


def test_the_kind_of_hash_can_be_chosen(offline):
    for kind in ("argon2id", "scram-sha-256"):
        toml = offline.ok("user", "hash", "ada", "--kind", kind, input="secret")
        [user] = load(file_layer("f", toml)).config.access_users()
        assert user.password_hash.startswith(f"${kind}$") and verify(user.password_hash, "secret")
    assert "'md5' is not one of" in offline.fails(2, "user", "hash", "--kind", "md5", input="p")
    assert "for SCRAM" in offline.fails(2, "user", "hash", "--kind", "scram-sha-256", input="\x07")


def test_what_is_refused(offline):
    assert "there is no password" in offline.fails(2, "user", "hash", input="")
    assert "names that begin with '$'" in offline.fails(2, "user", "hash", "$x", input="p")
    assert "1 to 1024 bytes" in offline.fails(2, "user", "hash", input="p" * 2_000)
    result = offline("user", "hash", input=b"\xff\n")
    assert result.exit_code == 2 and "is not UTF-8" in result.stderr


def test_a_terminal_is_asked_twice(offline, monkeypatch):
    from braidmq.protocols.cli import user as module

    class Terminal:
        def isatty(self):
            return True

    asked = {}

    def prompt(text, **options):
        asked.update(options)
        return "secret"

    monkeypatch.setattr("sys.stdin", Terminal())
    monkeypatch.setattr("click.prompt", prompt)
    assert module._password() == "secret"
    assert asked["hide_input"] and asked["confirmation_prompt"] and asked["err"]
