# Sourced by the set-up scripts: says what is done, and installs Debian packages where that is allowed.

say() { printf '      %s\n' "$*" >&2; }

fail() {
    printf 'error: %s\n' "$*" >&2
    exit 1
}

may_install() { [ "$(id -u)" = 0 ] || sudo -n true 2>/dev/null; }

as_root() { if [ "$(id -u)" = 0 ]; then "$@"; else sudo -n "$@"; fi; }

# apt_update: fetches the package lists where that is allowed.
apt_update() { may_install && as_root apt-get update -q >/dev/null 2>&1 || true; }

# apt_install PACKAGE...: installs what is missing; as root, or by sudo where it asks for no password.
apt_install() {
    local missing=() package
    for package in "$@"; do
        dpkg-query -W -f='${Status}' "$package" 2>/dev/null | grep -q 'install ok installed' || missing+=("$package")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    command -v apt-get >/dev/null || fail "\`${missing[*]}\` missing and there is no apt-get here: install them with your system's package manager"
    may_install || fail "\`${missing[*]}\` missing: run \`sudo apt-get install ${missing[*]}\` and start again"
    say "installing ${missing[*]} (apt-get)"
    local log
    log=$(mktemp)
    install_packages() { as_root env DEBIAN_FRONTEND=noninteractive apt-get install -y -q --no-install-recommends "${missing[@]}" >>"$log" 2>&1; }
    # The package lists of a fresh machine are empty or old: one update, then once more.
    if ! install_packages; then
        as_root apt-get update -q >>"$log" 2>&1 || true
        install_packages || { tail -n 20 "$log" >&2; fail "apt-get could not install \`${missing[*]}\` (above: its last lines)"; }
    fi
    rm -f "$log"
}
