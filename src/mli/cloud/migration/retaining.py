"""The template of an old stack, changed so that nothing goes when the stack does.

Deleting a stack whose resource has a handler of its own calls that handler, and the accelerator's deletes the thing.
A resource with ``DeletionPolicy: Retain`` is passed over. CloudFormation takes such a change only together with
another one, so a resource that is nothing is added.
"""

from __future__ import annotations

import json
from typing import Any

HANDLE = "MliRetains"
_KEPT = {"DeletionPolicy": "Retain", "UpdateReplacePolicy": "Retain"}


def retaining(text: str) -> bytes:
    """The same template in JSON; only these two policies of each resource differ, and one resource more.

    Args:
        text: JSON that was parsed before, with ``Resources``.
    """
    template: dict[str, Any] = json.loads(text)
    resources = {name: {**item, **_KEPT} for name, item in template["Resources"].items() if isinstance(item, dict)}
    template["Resources"] = {**resources, HANDLE: {"Type": "AWS::CloudFormation::WaitConditionHandle"}}
    return (json.dumps(template, ensure_ascii=False, separators=(",", ":")) + "\n").encode()
