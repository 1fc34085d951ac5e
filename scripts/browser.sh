# Sourced by test.sh: a real Chromium and the fonts that pages and drawings need.
# shellcheck shell=bash

# Prints a Chromium that runs (a distribution's stub for another package manager does not).
find_chromium() {
    local candidate
    for candidate in "${DIFFUSCOPE_CHROMIUM:-}" chromium chromium-browser google-chrome google-chrome-stable \
        "/Applications/Google Chrome.app/Contents/MacOS/Google Chrome" "$(playwright_chromium)"; do
        if [ -n "$candidate" ] && "$candidate" --version >/dev/null 2>&1; then
            command -v "$candidate"
            return
        fi
    done
    return 1
}

playwright_chromium() {
    "$root/.venv/bin/python" - <<'PYTHON' 2>/dev/null || true
from playwright.sync_api import sync_playwright

with sync_playwright() as playwright:
    print(playwright.chromium.executable_path)
PYTHON
}

may_use_apt() { [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; }

has_package() { dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed; }

install_packages() {
    printf 'Installing %s ...\n' "$*" >&2
    DEBIAN_FRONTEND=noninteractive apt-get update -qq >&2 &&
        DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends "$@" >&2
}

# Exports DIFFUSCOPE_CHROMIUM; fails when there is no browser and none can be had.
prepare_system() {
    local package missing=()
    if may_use_apt; then
        for package in fonts-thai-tlwg fonts-noto-color-emoji; do
            has_package "$package" || missing+=("$package")
        done
        find_chromium >/dev/null || missing+=(chromium)
        if [ ${#missing[@]} -gt 0 ]; then
            install_packages "${missing[@]}" || printf 'apt-get could not install all of: %s\n' "${missing[*]}" >&2
        fi
    fi
    if ! find_chromium >/dev/null; then
        "$root/.venv/bin/playwright" install chromium >&2 || true
    fi
    DIFFUSCOPE_CHROMIUM="$(find_chromium)" ||
        fail "The browser tests need Chromium and none could be installed; install it, or set DIFFUSCOPE_CHROMIUM to its path."
    export DIFFUSCOPE_CHROMIUM
}
