"""The command line: ``braidmq``, its commands, and what they share."""

__all__ = ["main"]


def main() -> None:
    """Run the command line with this process's arguments, and exit."""
    from .app import app

    app.main()
