"""``python -m mli``, and where the command ``mli`` begins."""

import os
import sys


def run() -> None:
    """Run the command line; Ctrl-C is no traceback, however early it comes."""
    try:
        _open_standard_streams()
        # Before onnxruntime is imported, wherever that is: it would report to its maker.
        os.environ["ORT_DISABLE_TELEMETRY"] = "1"
        from mli.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


def _open_standard_streams() -> None:
    """Closed standard descriptors go nowhere; otherwise the next file opened would get their number."""
    for descriptor, name, mode in ((0, "stdin", "r"), (1, "stdout", "w"), (2, "stderr", "w")):
        try:
            os.fstat(descriptor)
        except OSError:
            os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, open(descriptor, mode, closefd=False))  # noqa: SIM115 - as long as the process


if __name__ == "__main__":
    run()
