"""``python -m mli``."""

from mli.cli.main import main

if __name__ == "__main__":
    main()
