"""Every kind of source by its name in a deployment."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mli.config.settings import SourceSettings

if TYPE_CHECKING:
    from mli.pipeline.sources.source import Source


def open_source(settings: SourceSettings, position: str | None) -> Source:
    """Open the source of a pipeline where it stopped; ``position`` None is a fresh start."""
    if settings.kind == "images":
        from mli.pipeline.sources.images import ImagesSource

        return ImagesSource(settings, position)
    from mli.pipeline.sources.demo import DemoSource

    return DemoSource(settings, position)
