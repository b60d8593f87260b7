"""Webhooks: what waits in their queues is posted, by a client that is kept from the inside.

httpcore2, of the extra ``webhooks``, is imported in ``client.py`` and nowhere else.
"""

__all__: list[str] = []
