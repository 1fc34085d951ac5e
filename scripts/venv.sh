# Sourced by webui.sh and test.sh with $root set: makes .venv as pyproject.toml and constraints.txt say, once.
# shellcheck shell=bash

fail() {
    printf '%s\n' "$1" >&2
    exit 1
}

# Prints a Python 3.11+ that can make environments. The version that constraints.txt was made with goes first; a
# candidate counts only when it runs, since version managers leave stubs on the PATH for versions not installed.
find_python() {
    local candidate too_old="" without_venv=""
    for candidate in python3.11 python3.12 python3.13 python3 python; do
        if ! "$candidate" -c '' >/dev/null 2>&1; then
            continue
        elif ! "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1; then
            too_old="$("$candidate" --version 2>&1)"
        elif ! "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
            without_venv="$candidate"
        else
            printf '%s\n' "$candidate"
            return
        fi
    done
    if [ -n "$without_venv" ]; then
        fail "$without_venv cannot make virtual environments; install its venv package (Debian, Ubuntu: apt install python3-venv) and start again."
    elif [ -n "$too_old" ]; then
        fail "Diffuscope needs Python 3.11 or newer and only $too_old was found; install a newer one and start again."
    fi
    fail "Diffuscope needs Python 3.11 or newer and found none; install it and start again."
}

# What an installation depends on. The folder is part of it: an environment does not survive being moved.
fingerprint() {
    { printf '%s\n' "$root"; cat "$root/pyproject.toml" "$root/constraints.txt"; } | cksum
}

installed() { # installed NAME: whether the stamp of that kind of installation is there and still true
    local stamp="$root/.venv/.installed-$1"
    [ -x "$root/.venv/bin/python" ] && [ -f "$stamp" ] && [ "$(cat "$stamp")" = "$(fingerprint)" ]
}

# prepare_venv serve|test: does nothing, and needs no network, when the environment is as it should be.
prepare_venv() {
    local kind="$1" python unfinished="$root/.venv/.unfinished"
    if installed "$kind"; then
        return
    fi
    [ -w "$root" ] || fail "Cannot write to $root; give yourself write permission there or clone it elsewhere."
    if [ -e "$unfinished" ] || ! "$root/.venv/bin/python" -m pip --version >/dev/null 2>&1; then
        python="$(find_python)"
        printf 'Making %s with %s ...\n' "$root/.venv" "$python" >&2
        rm -rf "$root/.venv"
        "$python" -m venv "$root/.venv" || fail "Could not make $root/.venv; see the lines above."
    fi
    : >"$unfinished" # a stop from here on leaves packages half unpacked: the next start makes .venv again
    printf 'Installing Diffuscope (once; this downloads a few hundred megabytes) ...\n' >&2
    local what="$root"
    [ "$kind" = test ] && what="$root[test]"
    "$root/.venv/bin/python" -m pip install --disable-pip-version-check --no-input \
        --constraint "$root/constraints.txt" --editable "$what" >&2 ||
        fail "The installation did not finish; the lines above say why (is there a network connection?)."
    fingerprint >"$root/.venv/.installed-serve"
    [ "$kind" = test ] && fingerprint >"$root/.venv/.installed-test"
    rm -f "$unfinished"
}
