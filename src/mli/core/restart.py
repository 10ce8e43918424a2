"""When to start a failed worker again."""

from __future__ import annotations

import random

FIRST_DELAY_S = 1.0
LONGEST_DELAY_S = 60.0
BROKEN_AFTER = 3


class RestartPolicy:
    """Backoff from 1 to 60 s with jitter; after three failures without progress the pipeline is broken."""

    def __init__(self, jitter: random.Random | None = None) -> None:
        self._jitter = jitter or random.Random()
        self.failures = 0

    @property
    def broken(self) -> bool:
        """Whether it failed three times in a row without a result in between."""
        return self.failures >= BROKEN_AFTER

    def progressed(self) -> None:
        """The worker brought a result."""
        self.failures = 0

    def failed(self) -> float:
        """Count a failure.

        Returns:
            Seconds to wait before the next start.
        """
        self.failures += 1
        delay = min(LONGEST_DELAY_S, FIRST_DELAY_S * 2.0 ** (self.failures - 1))
        return delay * self._jitter.uniform(0.75, 1.25) if delay < LONGEST_DELAY_S else LONGEST_DELAY_S
