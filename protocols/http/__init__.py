"""HTTP/1.1 on one shared port, and WebSocket as a carrier of other dialects' sessions.

httptools, of the extra ``server``, is imported here and nowhere else: import this package only
when there is something to serve.
"""

__all__: list[str] = []
