"""To be written."""

from __future__ import annotations

from mli.models.mxnet.call import Table

OPERATORS: Table = {}
