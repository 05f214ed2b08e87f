#!/usr/bin/env bash
# Finds a Python that can run the control package and hands over to it; everything else is there.
set -euo pipefail

root=$(cd -- "$(dirname -- "$(readlink -f -- "${BASH_SOURCE[0]}")")" && pwd -P)

runs_control() {
  "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info < (3, 15))' 2>/dev/null
}

# Our own virtual environment first: it was made by a Python that passed, and asking costs time.
python=$root/.venv/bin/python
if [[ ! -x $python ]]; then
  python=
  for candidate in ${PYTHON:+"$PYTHON"} python3 python3.13 python3.12 python3.11 python3.14; do
    if runs_control "$candidate"; then
      python=$candidate
      break
    fi
  done
fi
if [[ -z $python ]]; then
  echo "error: no Python from 3.11 to 3.14 was found." >&2
  echo "  Install one (Debian, Ubuntu: sudo apt-get install python3 python3-venv; macOS: brew" >&2
  echo "  install python@3.13), or name one: PYTHON=/path/to/python3.12 ./control.sh ..." >&2
  exit 1
fi

# -P: the folder that the caller stands in is not searched for modules; -S: nor is what is
# installed, which saves the time to look for it.
PYTHONPATH=$root${PYTHONPATH:+:$PYTHONPATH} exec "$python" -P -S -m control "$@"
