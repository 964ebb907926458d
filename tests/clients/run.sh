#!/usr/bin/env bash
# Drives the gateway with client libraries of others, against two simulated resources. See README.md.
#   tests/clients/run.sh [NAME …]      NAME: a script of this folder without its ending; all of them by default
# GATEWAY and BACKENDS name other binaries than the debug build's; CLIENTS_CACHE the folder that packages are installed into.
set -uo pipefail
here=$(cd "$(dirname "$0")" && pwd)
root=$(cd "$here/../.." && pwd)
target=${CARGO_TARGET_DIR:-$root/target}/debug
gateway=${GATEWAY:-$target/aoai-gateway}
backends=${BACKENDS:-$target/examples/simulated_backends}
cache=${CLIENTS_CACHE:-${CARGO_TARGET_DIR:-$root/target}/clients}
mkdir -p "$cache"

[ -x "$cache/python/bin/python" ] || python3 -m venv "$cache/python" || exit 1
if ! cmp -s "$here/requirements.txt" "$cache/requirements.txt"; then
  "$cache/python/bin/pip" install --quiet --disable-pip-version-check -r "$here/requirements.txt" || exit 1
  cp "$here/requirements.txt" "$cache/requirements.txt"
fi
if ! cmp -s "$here/package.json" "$cache/package.json"; then
  cp "$here/package.json" "$cache/package.json"
  (cd "$cache" && npm install --silent --no-audit --no-fund) || { rm "$cache/package.json"; exit 1; }
fi

work=$(mktemp -d)
mkfifo "$work/alive"
"$backends" < "$work/alive" > "$work/gateway.toml" &
pids=($!)
exec 3> "$work/alive"
trap 'exec 3>&-; kill "${pids[@]}" 2> /dev/null; rm -rf "$work"' EXIT
wait_for() { for _ in $(seq 100); do grep -q "$1" "$2" 2> /dev/null && return; sleep 0.1; done; echo "no '$1' in time" >&2; exit 1; }
wait_for backend_header "$work/gateway.toml"
"$gateway" --config "$work/gateway.toml" > "$work/stdout" 2> "$work/stderr" &
pids+=($!)
wait_for '^admin on' "$work/stdout"
GATEWAY_URL=$(sed -n 's/^listening on //p' "$work/stdout")
GATEWAY_KEY=$(sed -n 's/^key = "\(.*\)"/\1/p' "$work/gateway.toml")
export PYTHONWARNINGS=ignore GATEWAY="$gateway" GATEWAY_URL GATEWAY_KEY NODE_PATH="$cache/node_modules" PATH="$cache/node_modules/.bin:$PATH"
ln -sfn "$cache/node_modules" "$work/node_modules"

[ $# -gt 0 ] || set -- $(cd "$here" && ls *.py *.mjs *.sh | grep -vE "^(run.sh|check\.)" | sed 's/\.[a-z]*$//')
passed=0 failed=0
for name in "$@"; do
  case $(ls "$here/$name".*) in
    *.py) command=("$cache/python/bin/python" "$here/$name.py") ;;
    # Modules are resolved from where the script lies.
    *.mjs) cp "$here/$name.mjs" "$here/check.mjs" "$work/" && command=(node "$work/$name.mjs") ;;
    *.sh) command=(bash "$here/$name.sh") ;;
  esac
  if (cd "$work" && timeout 120 "${command[@]}"); then passed=$((passed + 1)); else failed=$((failed + 1)); echo "FAILED: $name"; fi
done
[ "$failed" = 0 ] || { echo "--- the gateway's log"; tail -n 30 "$work/stderr"; }
echo "$passed passed, $failed failed"
[ "$failed" = 0 ]
