"""The sandboxed child: one job over bytes that nobody has checked. ``python -m mli.core.sandbox_child FD PARENT``.

The request comes on standard input; notes and one answer go out on the descriptor FD, a line of JSON each.
"""

from __future__ import annotations

import errno
import importlib
import json
import logging
import os
import sys
import threading
import traceback
import typing
from collections.abc import Callable
from typing import Any, BinaryIO

from mli import errors
from mli.core.confinement import die_with_parent, limit_resources, refuse_system_calls
from mli.errors import MliError
from mli.frozen_json import from_json, to_json

_CHUNK_BYTES = 65_536


def main() -> None:
    """Serve one job and end."""
    die_with_parent(int(sys.argv[2]))
    request = json.loads(_first_line())
    limit_resources(**request["limits"])
    no_network = refuse_system_calls()
    threading.Thread(target=_end_with_input, daemon=True).start()
    logging.basicConfig(level=logging.INFO, format="%(levelname)s %(name)s: %(message)s")
    with os.fdopen(int(sys.argv[1]), "wb") as out:
        _send(out, {"no_network": no_network})
        _send(out, _answer(request, lambda text: _send(out, {"note": text})))
    os._exit(0)  # libraries that tidy up could only fail now


def _answer(request: dict[str, Any], note: Callable[[str], None]) -> dict[str, Any]:
    try:
        module, name = request["job"].split(":")
        job = getattr(importlib.import_module(module), name)
        kind = typing.get_type_hints(job)["request"]
        return {"result": to_json(job(from_json(kind, request["request"]), note))}
    except MliError as error:
        return {"error": _known_kind(error), "fields": error.to_json()}
    except MemoryError:
        return {"out_of": "memory"}
    except OSError as error:
        if error.errno == errno.EFBIG:
            return {"out_of": "file_size"}
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            return {"out_of": "disk"}
        return _crash(error)
    except Exception as error:  # noqa: BLE001 - the edge of this process; the parent says what it means
        return _crash(error)


def _crash(error: Exception) -> dict[str, Any]:
    traceback.print_exc()
    return {"crash": f"{type(error).__name__}: {error}"}


def _known_kind(error: MliError) -> str:
    """The nearest class that the parent knows too."""
    return next(kind.__name__ for kind in type(error).__mro__ if kind.__module__ == errors.__name__)


def _send(out: BinaryIO, message: dict[str, Any]) -> None:
    out.write(json.dumps(message).encode() + b"\n")
    out.flush()


def _first_line() -> bytes:
    """The request; standard input stays open as long as the parent lives."""
    data = b""
    while not data.endswith(b"\n"):
        more = os.read(0, _CHUNK_BYTES)
        if not more:
            sys.exit(1)
        data += more
    return data


def _end_with_input() -> None:
    """Where the system does not end a child with its parent, the end of its input does."""
    while os.read(0, _CHUNK_BYTES):
        pass
    os._exit(1)


if __name__ == "__main__":
    main()
