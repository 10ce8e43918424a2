"""Runtimes that load a model and infer, one file a backend."""
