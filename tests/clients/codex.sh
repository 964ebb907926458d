#!/usr/bin/env bash
# Codex CLI: one turn, and a second that goes on with it.
set -u
export CODEX_HOME=$PWD/codex-home
mkdir -p "$CODEX_HOME" project && cd project
cat > "$CODEX_HOME/config.toml" <<TOML
model = "gpt-5"
model_provider = "gateway"
[model_providers.gateway]
name = "gateway"
base_url = "$GATEWAY_URL/openai/v1"
env_key = "GATEWAY_KEY"
wire_api = "responses"
request_max_retries = 0
stream_max_retries = 0
TOML
failed=0
ask() {
  timeout 60 codex exec "$@" < /dev/null > ../codex.out 2> ../codex.err
  grep -q 'Hello from' ../codex.out || { failed=$((failed + 1)); echo "  codex: $1: $(grep -iE 'error|status' ../codex.err | head -n 2)"; }
}
ask --skip-git-repo-check 'Hello'
ask --skip-git-repo-check resume --last 'And again'
echo "codex: $((2 - failed)) of 2"
[ "$failed" = 0 ]
