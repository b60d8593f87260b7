"""Scenarios carried out: schedules, processes that make the load, and what became of messages."""

__all__: list[str] = []
