#!/usr/bin/env bash
# Installs Diffuscope into .venv on the first start, then serves the page. Flags: ./webui.sh --help
set -euo pipefail
root="$(cd -- "$(dirname -- "${BASH_SOURCE[0]}")" && pwd -P)"
. "$root/scripts/venv.sh"
prepare_venv serve
exec "$root/.venv/bin/diffuscope" serve "$@"
