#!/usr/bin/env bash
# Prints the first CPython of at least 3.11 that can make a virtual environment.
set -euo pipefail
probe='import importlib.util as u, sys, venv
pip = u.find_spec("ensurepip") or u.find_spec("pip")
sys.exit(not (pip and sys.implementation.name == "cpython" and sys.version_info >= (3, 11)))'
for candidate in "${PYTHON:-}" python3 python3.14 python3.13 python3.12 python3.11 \
    "${PYENV_ROOT:-$HOME/.pyenv}"/versions/3.1[1-9]*/bin/python3; do
    [ -n "$candidate" ] || continue
    path=$(command -v "$candidate" || true)
    if [ -n "$path" ] && "$path" -c "$probe" >/dev/null 2>&1; then
        echo "$path"
        exit 0
    fi
done
echo "no CPython >= 3.11 with venv and pip found (looked at python3, python3.11 to python3.14 and" >&2
echo "pyenv); install one (Debian: apt install python3 python3-venv) or set PYTHON=/path/to/python" >&2
exit 1
