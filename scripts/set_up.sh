#!/bin/sh
# Makes .venv at the root of the repository: moodcast (editable) and all it needs, at the versions of constraints.txt.
# A second call does nothing, unless pyproject.toml or constraints.txt has changed. Where the repository was moved, .venv is made anew.
# PYTHON=... names the interpreter; without it the first one found that fits is taken.
set -eu
cd "$(dirname "$0")/.."

stamp=.venv/.moodcast-ready
wanted=$({ pwd; cat pyproject.toml constraints.txt; } | cksum)
if [ -x .venv/bin/python ] && [ "$(cat "$stamp" 2>/dev/null)" = "$wanted" ]; then
    exit 0
fi

here=$(pwd -P)/.venv
case $(grep '^command = ' .venv/pyvenv.cfg 2>/dev/null) in
'' | *" $here") moved= ;;
*) moved=yes ;; # its scripts begin with the place where it was made
esac

fits='import sys; sys.exit(not (3, 11) <= sys.version_info[:2] < (3, 14))'
if [ -L .venv ]; then # making it anew would empty what another place uses
    echo ".venv is a link to $(readlink .venv), which was not made for this folder and these versions; remove the link" >&2
    exit 1
fi
if [ "$moved" ] || ! .venv/bin/python -c "$fits" 2>/dev/null; then
    chosen=
    for name in ${PYTHON:-python3 python3.13 python3.12 python3.11 python}; do
        if "$name" -c "$fits" 2>/dev/null; then
            chosen=$name
            break
        fi
    done
    if [ -z "$chosen" ]; then
        found=$("${PYTHON:-python3}" --version 2>&1 || true)
        echo "moodcast needs Python 3.11, 3.12 or 3.13; ${PYTHON:-python3} answers: $found" >&2
        echo "Install one of them, or name it: make test PYTHON=/path/to/python3.12" >&2
        exit 1
    fi
    echo "Making .venv with $("$chosen" --version)"
    "$chosen" -m venv --clear .venv
fi

echo "Installing moodcast and its libraries into .venv (once; some minutes, about 6 GB)"
pip=".venv/bin/python -m pip --disable-pip-version-check"
# hatchling first and no build isolation, so that the builder is pinned as well.
$pip install --quiet --constraint constraints.txt hatchling
$pip install --quiet --constraint constraints.txt --no-build-isolation --editable '.[dev]'
printf '%s\n' "$wanted" >"$stamp"
