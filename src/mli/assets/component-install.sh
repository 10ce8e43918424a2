#!/bin/sh
# Install mli from the wheels beside this script, without a network:
#
#     install.sh FOLDER [PYTHON]
#
# FOLDER/bin/mli is the command then. A second run changes nothing; one that was interrupted is made anew. Without
# PYTHON, the system's python3 is taken where it fits, else the newest that does.
set -eu

if [ $# -lt 1 ] || [ $# -gt 2 ]; then
    echo "usage: install.sh FOLDER [PYTHON]" >&2
    exit 2
fi
here=$(CDPATH='' cd -- "$(dirname -- "$0")" && pwd -P)
folder=$1
if [ $# -eq 2 ]; then set -- "$2"; else set -- python3 python3.13 python3.12 python3.11; fi
for python in "$@"; do
    if "$python" -I "$here/install.py" --fits 2>/dev/null; then
        exec "$python" -I "$here/install.py" "$folder"
    fi
done
echo "mli cannot be installed: no Python is here that it was made for" >&2
echo "  expected: one of" "$(cd "$here" && echo requirements-*)" "(CPython with its venv module, 64 bits)" >&2
echo "  found:    $(uname -m), $(python3 --version 2>&1 || true)" >&2
echo "  to fix:   apt install python3, dnf install python3.11, or an artifact that was made for more" >&2
exit 1
