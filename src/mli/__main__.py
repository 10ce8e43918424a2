"""``python -m mli``, and where the command ``mli`` begins."""

import sys


def run() -> None:
    """Run the command line; Ctrl-C is no traceback, however early it comes."""
    try:
        from mli.cli.main import main

        main()
    except KeyboardInterrupt:
        sys.exit(130)


if __name__ == "__main__":
    run()
