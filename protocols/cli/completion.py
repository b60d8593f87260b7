"""``braidmq completion``: the script that a shell sources."""

import click
from click.shell_completion import ShellComplete, get_completion_class

from .app import app
from .options import common, examples
from .output import Output

__all__ = ["completion"]

_HOW = {
    "bash": 'eval "$(braidmq completion bash)"',
    "zsh": 'eval "$(braidmq completion zsh)"',
    "fish": "braidmq completion fish | source",
}


@click.command(
    "completion",
    epilog=examples("""
        eval "$(braidmq completion bash)"
        braidmq completion fish > ~/.config/fish/completions/braidmq.fish
    """),
)
@click.argument("shell", type=click.Choice(list(_HOW)))
@common
def completion(output: Output, shell: str) -> None:
    """Print the completion script for a shell.

    Put the line of the example into your ~/.bashrc, or the like.
    """
    found = get_completion_class(shell)
    assert found is not None
    # The class's own source() runs the shell to look at its version; it need not be here.
    script = ShellComplete.source(found(app, {}, "braidmq", "_BRAIDMQ_COMPLETE"))
    output.document({"shell": shell, "script": script, "use": _HOW[shell]}, script)
