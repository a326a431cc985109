"""Random shares of a pause, so that replicas do not all act at once.

From a generator of our own: an application's seeded `random` must not be advanced by our threads.
"""

from __future__ import annotations

from collections.abc import Callable
from random import SystemRandom

between: Callable[[float, float], float] = SystemRandom().uniform
