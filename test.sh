#!/usr/bin/env bash
# Checks everything: lint, types, then unit, integration and browser tests. It installs what it needs.
# With arguments it runs only pytest with these: ./test.sh tests/test_cli.py -k steps
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
. "$root/scripts/venv.sh"
. "$root/scripts/browser.sh"
prepare_venv test
prepare_system
cd "$root"
bin="$root/.venv/bin"

if [ $# -gt 0 ]; then
    exec "$bin/python" -m pytest "$@"
fi

# All of it runs, so that one run shows all there is to put right; pytest's summary stays the last line.
status=0
"$bin/ruff" check . || status=1
"$bin/ruff" format --check . || status=1
"$bin/mypy" || status=1
[ "$status" = 0 ] || printf 'Lint or types failed: see above.\n'
"$bin/python" -m pytest -n "${DIFFUSCOPE_TEST_WORKERS:-2}" || status=1
exit "$status"
