"""Processes only: the core, its workers, and the wire between them."""
