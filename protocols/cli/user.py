"""``braidmq user``: what the configuration needs to know of a user."""

import json
import sys

import click

from ...broker.access import User
from ...broker.passwords import hash_password
from .app import group
from .failures import CommandFailed
from .options import common, examples
from .output import Output

__all__ = ["user"]

user = group("Make users for the configuration.")


@user.command(
    "hash",
    epilog=examples("""
        braidmq user hash alice
        braidmq user hash alice < password.txt >> braidmq.toml
        openssl rand -base64 24 | tee password.txt | braidmq user hash app -q
        braidmq user hash sensor --kind scram-sha-256
    """),
)
@click.argument("name", default="alice")
@click.option(
    "--kind",
    type=click.Choice(["argon2id", "scram-sha-256"]),
    default=None,
    help="argon2id, if it is installed, unless said otherwise; scram-sha-256 for clients that log"
    " in by SCRAM (they still may by password).",
)
@common
def _hash(output: Output, name: str, kind: str | None) -> None:
    """Read a password, print its hash as a piece of TOML for the configuration.

    The password is asked for, or read from stdin, first line. With -q only the hash is printed.
    """
    try:
        User(name)
    except ValueError as error:
        raise CommandFailed(str(error), "choose another name", 2, "invalid-argument") from None
    password_hash = hash_password(_password(), kind=kind or "")
    if output.quiet and not output.as_json:
        output.document(None, password_hash)
        return
    toml = (
        f"[users.{json.dumps(name)}]\n"
        f'password_hash = "{password_hash}"\n'
        'rules = [{ effect = "allow", actions = ["queue:*"], names = ["*"] }]'
    )
    output.document({"name": name, "password_hash": password_hash, "toml": toml}, toml)
    output.note("put this into the configuration, and narrow the rules")


def _password() -> str:
    if sys.stdin.isatty():
        password: str = click.prompt(
            "Password", hide_input=True, confirmation_prompt="Once more", err=True
        )
    else:
        line = sys.stdin.buffer.readline().rstrip(b"\r\n")
        try:
            password = line.decode()
        except UnicodeDecodeError:
            raise CommandFailed("the password is not UTF-8", "", 2, "invalid-argument") from None
    if not password:
        raise CommandFailed("there is no password", "type one, or pipe it in", 2)
    return password
