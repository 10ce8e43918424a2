"""Files as MXNet of 2015 to 2017 wrote them, byte by byte. MXNet 1.9.1 reads all of them, but writes none."""

import json
import struct
from pathlib import Path
from typing import Any

import numpy as np

from conformance.oracle.arrays import Array

LIST_MAGIC = 0x112
V1_MAGIC = 0xF993FAC8
FLAGS = {"float32": 0, "float64": 1, "float16": 2, "uint8": 3, "int32": 4}


def write_params(path: Path, arrays: dict[str, Array], version: str) -> None:
    """Arrays by ``arg:`` or ``aux:`` name; ``version`` is ``raw`` (2015: the axes' count first) or ``v1``."""
    parts = [struct.pack("<QQQ", LIST_MAGIC, 0, len(arrays))]
    for array in arrays.values():
        if version == "v1":
            parts.append(struct.pack("<II", V1_MAGIC, array.ndim) + struct.pack(f"<{array.ndim}q", *array.shape))
        else:
            parts.append(struct.pack(f"<I{array.ndim}I", array.ndim, *array.shape))
        cpu, first = 1, 0
        parts.append(struct.pack("<iii", cpu, first, FLAGS[array.dtype.name]) + np.ascontiguousarray(array).tobytes())
    parts.append(struct.pack("<Q", len(arrays)))
    for name in arrays:
        parts.append(struct.pack("<Q", len(name)) + name.encode())
    path.write_bytes(b"".join(parts))


def write_symbol(path: Path, symbol: Any, version: str) -> None:
    """``version`` is ``0.8`` (``param``, inputs of two numbers, no auxiliary states) or ``0.9`` (``attr``)."""
    graph = json.loads(symbol.tojson())
    path.write_text(json.dumps(_as_08(graph, symbol) if version == "0.8" else _as_09(graph), indent=2))


def _as_08(graph: dict[str, Any], symbol: Any) -> dict[str, Any]:
    states = set(symbol.list_auxiliary_states())
    kept = [index for index, node in enumerate(graph["nodes"]) if node["name"] not in states]
    place = {old: new for new, old in enumerate(kept)}
    nodes = []
    for old in kept:
        node = graph["nodes"][old]
        inputs = [[place[item[0]], item[1]] for item in node["inputs"] if item[0] in place]
        param = dict(node.get("attrs", {})) if node["op"] != "null" else {}
        nodes.append(
            {"op": node["op"], "param": param, "name": node["name"], "inputs": inputs, "backward_source_id": -1}
        )
    arguments = [index for index, node in enumerate(nodes) if node["op"] == "null"]
    return {"nodes": nodes, "arg_nodes": arguments, "heads": [[place[item[0]], item[1]] for item in graph["heads"]]}


def _as_09(graph: dict[str, Any]) -> dict[str, Any]:
    for node in graph["nodes"]:
        attrs = node.pop("attrs", None)
        if attrs:
            node["attr"] = attrs
    graph["attrs"] = {"mxnet_version": ["int", 905]}
    return graph
