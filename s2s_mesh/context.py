"""Which request is being served here, as far as `service.inbound_user` asks.

Nothing reads this by itself: a user is carried only where somebody hands it on.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar

from .errors import NoUser
from .identity import EndUser


class Serving:
    """A request while it is served.

    Attributes:
        service: whose request it is; several services may live in one process and call each other there.
        user: of the request; None for none, and once the request is over.
    """

    __slots__ = ("service", "user")

    def __init__(self, service: object, user: EndUser | None) -> None:
        self.service: object = service
        self.user: EndUser | None = user


SERVING: ContextVar[Serving | None] = ContextVar("s2s_mesh.serving", default=None)


@contextmanager
def serving(service: object, user: EndUser | None) -> Iterator[None]:
    """While a request is served: what `inbound_user` finds, also in threads that copy the context.

    A task that outlives the request finds nobody: it holds the same `Serving`, which is emptied at the end.
    """
    here = Serving(service, user)
    before = SERVING.set(here)
    try:
        yield
    finally:
        here.user = None
        SERVING.reset(before)


def inbound_user(service: object) -> EndUser:
    """The user of the request of `service` that is served here.

    Raises:
        NoUser: no request is served here, or it carries none.
    """
    here = SERVING.get()
    if here is None or here.service is not service or here.user is None:
        raise NoUser(
            "no request that carries a user is served here; in tasks that outlive their request, use the "
            "EndUser that was handed to them"
        )
    return here.user
