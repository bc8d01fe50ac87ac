#!/bin/sh
# Make a virtual environment and install this package into it, editable.
#   scripts/setup_venv.sh FOLDER PYTHON EXTRAS [REQUIREMENT]
# such as .venv python3 ros,cpu,world,demo; a requirement is installed before the package, so that
# pip does not choose another version of it.
set -eu
folder=$1 python=$2 extras=$3 requirement=${4:-}

fail() {
    echo "$@" >&2
    exit 1
}

command -v "$python" >/dev/null ||
    fail "There is no $python here. Install Python 3.10 to 3.13 (sudo apt install python3)," \
        "or name one: make PYTHON=/path/to/python3"
"$python" -c 'import sys; sys.exit(sys.version_info < (3, 10))' ||
    fail "$python is $("$python" --version 2>&1); depth_node needs Python 3.10 or newer." \
        "Name another: make PYTHON=python3.12"
if ! [ -x "$folder/bin/pip" ]; then
    "$python" -c 'import venv, ensurepip' 2>/dev/null ||
        fail "Python cannot make virtual environments here. Install: sudo apt install python3-venv"
    echo "Making $folder with $("$python" --version)"
    "$python" -m venv "$folder"
fi
echo "Installing depth_node[$extras] into $folder (the first time this loads a few hundred MB)"
# pip's wish for a newer pip and the like is noise here; its errors are not.
export PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_ROOT_USER_ACTION=ignore
[ -z "$requirement" ] || "$folder/bin/pip" install --quiet "$requirement"
"$folder/bin/pip" install --quiet --editable ".[$extras]"
