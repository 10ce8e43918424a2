"""The simulated camera over a recycling belt; it knows what it drew."""

from __future__ import annotations

import time
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from mli.pipeline.sources.source import Capture, Reading

if TYPE_CHECKING:
    from mli.config.settings import SourceSettings
    from mli.types import Image


class DemoSource:
    """Renders frame after frame from a seed; ends after ``settings.frames``, if given.

    Each image is named after what was drawn, as a labelled data set would: ``glass-bottle-000123.png``.
    """

    def __init__(
        self, settings: SourceSettings, position: str | None, *, clock: Callable[[], float] = time.time
    ) -> None:
        # Imported here: the renderer is only needed where the simulated camera runs.
        from mli.pipeline.sources import belt

        self.finite = settings.frames is not None
        self._belt = belt
        self._frames = settings.frames
        self._seed = settings.seed
        self._index = int(position) + 1 if position is not None else 0
        self._clock = clock
        belt.render(self._seed, self._index)  # what the renderer makes once must not make the first frame late

    def read(self) -> Capture | Reading:
        if self._frames is not None and self._index >= self._frames:
            return Reading.END
        index = self._index
        self._index += 1
        label = self._belt.label_of(self._seed, index)
        name = f"{label.replace(' ', '-')}-{index:06d}.png"
        return Capture(name, self._clock(), str(index), partial(self._render, index), truth=label)

    def close(self) -> None:
        """Nothing to let go of."""

    def _render(self, index: int) -> Image:
        return self._belt.render(self._seed, index).image
