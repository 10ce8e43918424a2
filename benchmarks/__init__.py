"""How fast mli is, and how much memory it takes, beside a hand-written loop: ``python -m benchmarks``."""
