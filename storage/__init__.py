"""Records, frames and files: the log everything else stands on."""

__all__: list[str] = []
