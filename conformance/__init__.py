"""Does mli agree with MXNet? Networks and operators run by both, and compared: ``python -m conformance``."""
