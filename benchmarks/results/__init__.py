"""What a run found: the file it is kept in, and how it is shown and compared."""

__all__: list[str] = []
