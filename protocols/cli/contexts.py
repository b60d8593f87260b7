"""Named brokers, so that nobody types addresses: ``~/.config/braidmq/contexts.toml``, mode 0600.

A context holds where a broker is and as whom to go there; the password itself stays in a file of
its own. The file is replaced whole, by rename.
"""

import json
import os
import tempfile
import tomllib
from pathlib import Path

import msgspec

from .failures import CommandFailed

__all__ = ["CONTEXT_KEYS", "Context", "Contexts", "contexts_path", "load_contexts", "save_contexts"]

CONTEXT_KEYS = ("url", "user", "password_file", "ca_file")


class Context(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One broker."""

    url: str
    user: str = ""
    password_file: str = ""
    ca_file: str = ""


class Contexts(msgspec.Struct, forbid_unknown_fields=True):
    """All of them, and the one in use."""

    current: str = ""
    contexts: dict[str, Context] = {}

    def find(self, name: str) -> Context:
        """The context of that name. Raises CommandFailed."""
        if name not in self.contexts:
            known = ", ".join(self.contexts) or "none yet: braidmq context add makes one"
            raise CommandFailed(f"no context {name!r}", f"known: {known}", 3, "not-found")
        return self.contexts[name]


def contexts_path() -> Path:
    """Where the contexts are kept."""
    base = os.environ.get("XDG_CONFIG_HOME") or Path.home() / ".config"
    return Path(base) / "braidmq" / "contexts.toml"


def load_contexts() -> Contexts:
    """Read the file; without one there are no contexts."""
    path = contexts_path()
    try:
        return msgspec.convert(tomllib.loads(path.read_text()), Contexts)
    except FileNotFoundError:
        return Contexts()
    except (tomllib.TOMLDecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise CommandFailed(
            f"{path}: {error}", "repair it, or remove it", 78, "bad-config"
        ) from None


def save_contexts(contexts: Contexts) -> None:
    """Replace the file."""
    path = contexts_path()
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    lines = [f"current = {_quoted(contexts.current)}"]
    for name, context in sorted(contexts.contexts.items()):
        lines += ["", f"[contexts.{_quoted(name)}]"]
        values = [(key, getattr(context, key)) for key in CONTEXT_KEYS]
        lines += [f"{key} = {_quoted(value)}" for key, value in values if value]
    handle, temporary = tempfile.mkstemp(dir=path.parent)  # 0600
    try:
        with os.fdopen(handle, "w") as file:
            file.write("\n".join(lines) + "\n")
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise


def _quoted(text: str) -> str:
    """A basic string of TOML; JSON's escapes are among its own, but for DEL."""
    return json.dumps(text, ensure_ascii=False).replace("\x7f", "\\u007f")
