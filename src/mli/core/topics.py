"""The topics on which a thing is told what to run, and tells what it does."""

from __future__ import annotations


def deployment_topic(thing: str) -> str:
    """Retained: the deployment that is wanted."""
    return f"mli/deployments/{thing}"


def status_topic(thing: str) -> str:
    """Retained: birth, last will and summary."""
    return f"mli/status/{thing}"


def report_topic(thing: str) -> str:
    """Retained: how far the newest deployment is."""
    return f"mli/status/{thing}/deployment"
