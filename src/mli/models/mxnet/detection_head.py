"""The three heads of GluonCV's detectors as the one output that mli reads."""

from __future__ import annotations

from mli.models.mxnet.attributes import Attributes, ShapeProblem
from mli.models.mxnet.building import GraphBuilder, Tensor, shape_text
from mli.models.mxnet.call import Call

OUTPUT_NAME = "detections"


def join_heads(graph: GraphBuilder, ids: Tensor, scores: Tensor, boxes: Tensor, width: int, height: int) -> Tensor:
    """Rows (batch, n, 6) of class id, score, left, top, right, bottom; the box in parts of the input's size.

    Args:
        ids, scores: (batch, n, 1); an id of -1 holds nothing.
        boxes: (batch, n, 4), left, top, right, bottom in pixels of the input.
        width, height: of the input, pixels.

    Raises:
        ShapeProblem: the heads do not fit each other.
    """
    batch, count = scores.shape[:2]
    for what, head, size in (("ids", ids, 1), ("scores", scores, 1), ("boxes", boxes, 4)):
        if head.shape != (batch, count, size):
            wanted = f"(batch, n, {size}), of the same n as the scores"
            raise ShapeProblem(f"the output of {what}, {head.name}", expected=wanted, found=shape_text(head.shape))
    call = Call("join_heads", "", Attributes({}), (ids, scores, boxes), graph)
    first_node = len(graph.nodes)
    relative = call.elementwise("Div", boxes, call.constant([width, height, width, height]))
    rows = call.concat([ids, scores, relative], 2)
    name = graph.unique(OUTPUT_NAME)
    graph.rename({rows.name: name}, first_node)
    return Tensor(name, rows.shape, rows.dtype)
