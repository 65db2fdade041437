# Sourced by the commands beside it: one virtual environment in .venv with this checkout installed in it.
#
#   MIXPRIV_PYTHON   the Python to use; default: python3.11, else another that the server's wheel supports
#   MIXPRIV_VENV     where the environment is made; default: .venv in the checkout
# shellcheck shell=bash
set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd -P)
venv=${MIXPRIV_VENV:-$root/.venv}
[[ $venv == /* ]] || venv=$PWD/$venv
unset PYTHONPATH PYTHONHOME
export PYTHONNOUSERSITE=1 PIP_DISABLE_PIP_VERSION_CHECK=1 PIP_NO_INPUT=1

say() { printf 'mixpriv: %s\n' "$*"; }

fail() {
    printf 'mixpriv: error: %s\n' "$*" >&2
    exit 1
}

# Run a command that nobody wants to watch; its last lines are shown if it fails.
quietly() {
    local what=$1 log
    shift
    log=$(mktemp)
    if ! "$@" >"$log" 2>&1; then
        tail -n 15 "$log" >&2
        rm -f "$log"
        fail "$what failed, see above"
    fi
    rm -f "$log"
}

# ensure_environment EXTRAS [REQUIREMENT ...]: the environment exists and holds this checkout with the extras, compiled
# from the present sources.
ensure_environment() {
    local extras=$1 key
    shift
    find_python
    key="$(sources_digest) $root"
    if ! "$venv/bin/python" -c '' 2>/dev/null; then
        say "making a virtual environment in $venv"
        [[ ! -e $venv || -f $venv/pyvenv.cfg ]] || fail "$venv exists and is no virtual environment"
        rm -rf "$venv"
        quietly "making a virtual environment with $python" "$python" -m venv "$venv"
    fi
    if [[ $(head -n 1 "$venv/.mixpriv" 2>/dev/null) != "$key" ]]; then
        printf '%s\n' "$key" >"$venv/.mixpriv.new"
    elif grep -qxF -e "$extras" "$venv/.mixpriv"; then
        return
    else
        cp "$venv/.mixpriv" "$venv/.mixpriv.new"
    fi
    say "installing into it (some minutes the first time): $extras"
    (cd "$root" && quietly "pip install" "$venv/bin/python" -m pip install --quiet --editable ".[$extras]" "$@")
    printf '%s\n' "$extras" >>"$venv/.mixpriv.new"
    mv "$venv/.mixpriv.new" "$venv/.mixpriv"
}

# What, when it changes, calls for another installation.
sources_digest() {
    (
        cd "$root"
        find pyproject.toml setup.py CMakeLists.txt cmake mixpriv/__init__.py csrc -type f -print0 |
            LC_ALL=C sort -z | xargs -0 sha256sum | sha256sum | cut -d ' ' -f 1
    )
}

# Sets `python`: the first of the candidates that lacks nothing, else the first that apt-get can complete.
find_python() {
    local candidate first="" packages
    if [[ $(uname -sm) != "Linux x86_64" ]]; then
        fail "the server runs on Linux x86-64 only; elsewhere 'pip install .' gives the client alone, see docs/server.md"
    fi
    local candidates=(python3.11 python3.12 python3.10 python3)
    [[ -z ${MIXPRIV_PYTHON:-} ]] || candidates=("$MIXPRIV_PYTHON")
    for candidate in "${candidates[@]}"; do
        supported "$candidate" || continue
        first=${first:-$candidate}
        python=$candidate
        [[ -n $(missing_packages "$python") ]] || return 0
    done
    if [[ -z $first ]]; then
        fail "found no Python 3.10, 3.11 or 3.12 as ${candidates[*]}, which the server needs; name one in MIXPRIV_PYTHON"
    fi
    packages=$(missing_packages "$first")
    python=$first
    install_packages "$packages"
    [[ -z $(missing_packages "$python") ]] || fail "$python still lacks $(missing_packages "$python")"
}

supported() {
    "$1" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null
}

# The Debian packages, if any, without which this Python can make no environment, compile nothing or run no server.
missing_packages() {
    { command -v "${CXX:-c++}" || command -v g++ || command -v clang++; } >/dev/null || echo g++
    "$1" - <<'PYTHON'
import importlib.util
import sys
import sysconfig
from pathlib import Path

version = f"{sys.version_info.major}.{sys.version_info.minor}"
if importlib.util.find_spec("ensurepip") is None:
    print(f"python{version}-venv")
folders = [sysconfig.get_config_var("LIBDIR") or "/usr/lib", f"{sys.base_prefix}/lib", "/usr/lib/x86_64-linux-gnu"]
library = any(Path(folder, f"libpython{version}.so.1.0").is_file() for folder in folders)
if not library or not Path(sysconfig.get_path("include"), "Python.h").is_file():
    print(f"python{version}-dev")
PYTHON
}

# install_packages NAMES: with root's rights; without them, one line that says what to do.
install_packages() {
    local -a names
    read -ra names <<<"${1//$'\n'/ }"
    if ! command -v apt-get >/dev/null; then
        fail "install what Debian calls ${names[*]}, then run this again"
    elif [[ $(id -u) != 0 ]]; then
        fail "run 'sudo apt-get install ${names[*]}', then this again"
    fi
    say "installing Debian packages: ${names[*]}"
    quietly "apt-get update" apt-get -qq update
    quietly "apt-get install" env DEBIAN_FRONTEND=noninteractive \
        apt-get -qq install --no-install-recommends "${names[@]}"
}
