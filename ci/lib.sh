# Shared by the scripts in this folder: messages, checks and where things are kept.
# shellcheck shell=bash

ci_dir=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
repo_dir=$(dirname "$ci_dir")

# Everything that outlives a checkout: built images, and the run records of the harness.
cache_dir=${SHIFTCHECK_CACHE:-${XDG_CACHE_HOME:-$HOME/.cache}/shiftcheck}

# As .cargo/config.toml has it, for crates outside of this folder.
export MALLOC_CONF=${MALLOC_CONF:-thp:always,metadata_thp:auto}

say()  { printf '%s %s\n' "$(date +%H:%M:%S)" "$*" >&2; }
fail() { # fail MESSAGE [HINT]
  printf 'error: %s\n' "$1" >&2
  [ $# -lt 2 ] || printf '\nhint: %s\n' "$2" >&2
  exit 3
}

# need TOOL HINT: the tool is on PATH, or the script ends with what to install.
need() { command -v "$1" >/dev/null 2>&1 || fail "\`$1\` is not on the PATH" "$2"; }

engine_answers() { docker version --format '{{.Server.Version}}' >/dev/null 2>&1; }

# as_root COMMAND...: runs it as root, by sudo where that is needed.
as_root() {
  if [ "$(id -u)" = 0 ]; then "$@"
  elif command -v sudo >/dev/null 2>&1; then sudo -n "$@"
  else return 1
  fi
}

# debian_install PACKAGE...: installs those that are missing.
debian_install() {
  local missing=()
  for package in "$@"; do
    [[ $(dpkg-query -W -f '${Status}' "$package" 2>/dev/null) == *'ok installed'* ]] || missing+=("$package")
  done
  [ ${#missing[@]} -gt 0 ] || return 0
  command -v apt-get >/dev/null 2>&1 ||
    fail "missing: ${missing[*]}; and this is not a Debian system" "install them, then run this again"
  say "installing ${missing[*]}"
  local log; log=$(mktemp)
  if ! { as_root apt-get update && as_root env DEBIAN_FRONTEND=noninteractive \
         apt-get install -y --no-install-recommends "${missing[@]}"; } >"$log" 2>&1; then
    tail -n 5 "$log" >&2; rm -f "$log"
    fail "could not install ${missing[*]}" "install them by hand (root is needed), then run this again"
  fi
  rm -f "$log"
}
