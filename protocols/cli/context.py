"""``braidmq context``: the commands around ``contexts.py``."""

from pathlib import Path

import click

from .app import group
from .contexts import Context, contexts_path, load_contexts, save_contexts
from .failures import CommandFailed
from .options import common, confirm, examples, yes_option
from .output import Output
from .target import Target

__all__ = ["context"]

context = group("Keep the addresses of brokers under names.")


@context.command("ls", epilog=examples("braidmq context ls --json"))
@common
def _ls(output: Output) -> None:
    """List the contexts; the one in use has a star."""
    contexts = load_contexts()
    rows = [
        {
            "name": name,
            "url": each.url,
            "user": each.user,
            "password_file": each.password_file,
            "ca_file": each.ca_file,
            "current": name == contexts.current,
        }
        for name, each in sorted(contexts.contexts.items())
    ]
    if not output.as_json:
        rows = [row | {"current": "*" if row["current"] else ""} for row in rows]
    output.rows(rows, ("current", "name", "url", "user", "password_file", "ca_file"))
    if not rows:
        output.note("no contexts; braidmq context add makes one")


@context.command(
    "add",
    epilog=examples("""
        braidmq context add local braid://127.0.0.1:7450
        braidmq context add shop braids://mq.shop.example:7450 --user ops --password-file ~/.mq
    """),
)
@click.argument("name")
@click.argument("url")
@click.option("--user", default="", help="Who you are there.")
@click.option("--password-file", default="", metavar="FILE", help="Holds your password.")
@click.option("--ca-file", default="", metavar="FILE", help="Signed the broker's certificate.")
@click.option("--use", "use_it", is_flag=True, help="Use it from now on.")
@common
def _add(
    output: Output, name: str, url: str, user: str, password_file: str, ca_file: str, use_it: bool
) -> None:
    """Save a broker's address under NAME. The first one is used at once."""
    if not name.isprintable() or not name.strip():
        raise click.BadParameter("a name has letters", param_hint="NAME")
    if "@" in url:
        raise CommandFailed(
            "the URL holds a user or a password, which would be stored in clear",
            "give --user and --password-file",
            2,
            "usage",
        )
    address = Target(url).address
    contexts = load_contexts()
    files = [str(Path(f).expanduser().absolute()) if f else "" for f in (password_file, ca_file)]
    contexts.contexts[name] = Context(address, user, *files)
    if use_it or not contexts.current:
        contexts.current = name
    save_contexts(contexts)
    output.document({"name": name, "url": address, "current": contexts.current == name})
    output.note(f"saved {name} in {contexts_path()}")


@context.command("use", epilog=examples("braidmq context use shop"))
@click.argument("name")
@common
def _use(output: Output, name: str) -> None:
    """Use a context from now on."""
    contexts = load_contexts()
    found = contexts.find(name)
    contexts.current = name
    save_contexts(contexts)
    output.document({"name": name, "url": found.url, "current": True})
    output.note(f"using {name}, {found.url}")


@context.command("rm", epilog=examples("braidmq context rm shop --yes"))
@click.argument("name")
@yes_option
@common
def _rm(output: Output, name: str, yes: bool) -> None:
    """Forget a context."""
    contexts = load_contexts()
    contexts.find(name)
    confirm(f"Forget {name}?", yes)
    del contexts.contexts[name]
    if contexts.current == name:
        contexts.current = ""
    save_contexts(contexts)
    output.document({"removed": name})
    output.note(f"forgot {name}")
