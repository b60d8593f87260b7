"""Queues that are declared because a frame names them: with the dialect's settings, and bindings.

Whoever names a queue that is not there needs the right to declare it, and for the queue of a
virtual topic the right to bind it. A queue that is there stays as it is.
"""

from typing import TYPE_CHECKING

from ...broker.bindings import BindingSettings
from ...broker.bindingverbs import Target as BindingTarget
from ...broker.errors import NotFound
from ...broker.settings import settings_from
from .destinations import Queue

if TYPE_CHECKING:
    from .session import StompSession

__all__ = ["ensure_queue"]


def ensure_queue(
    session: "StompSession", target: Queue, headers: dict[str, str], now_ms: int
) -> bool:
    """See to it that the queue is there; whether it had to be declared.

    Raises NotFound when it is to exist already, else what declaring and binding raise.
    """
    core = session.core
    if target.name in core.queues:
        return False
    if target.existing:
        raise NotFound(f"there is no queue {target.name!r}")
    settings = settings_from(session.dialect.settings_for(target.name, headers))
    core.declare_queue(session.who, target.name, settings, now_ms)
    if target.filter:
        core.bind(
            session.who,
            target.filter,
            BindingTarget("queue", target.name),
            BindingSettings(),
            now_ms,
        )
    return True
