#!/usr/bin/env bash
# Where the server's processor time goes, as flame graphs:
#   benches/flames.sh [SECONDS] [FOLDER]              4 seconds each, into target/flames
# Needs perf (Debian's linux-perf), inferno (cargo install inferno), and python3. Depth is what a stack of 16 KiB shows; frames of under
# half a percent are left out.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
seconds=${1:-4}
folder=$(mkdir -p "${2:-target/flames}" && cd "${2:-target/flames}" && pwd)
samples=$(mktemp) asking=
trap 'rm -f "$samples"; [ -z "$asking" ] || kill "$asking" 2> /dev/null || true' EXIT
for tool in perf inferno-collapse-perf inferno-flamegraph; do
    command -v "$tool" > /dev/null || { echo "flames.sh: $tool is not here" >&2; exit 1; }
done

cargo build --release --example load
# Last, so that it is the product: what measures has features of its own.
cargo build --release --bins

still() { # a picture, without the script that makes it answer clicks
    python3 -c 'import re, sys
picture = re.sub("<script.*?</script>", "", sys.stdin.read(), flags=re.DOTALL)
print(re.sub(" onload=\"[^\"]*\"", "", picture))'
}
flame() { # name, title, arguments of the load tool
    local name=$1 title=$2 server; shift 2
    target/release/examples/load --seconds $((seconds + 6)) --json --quiet --skip-verify "$@" > "$folder/load.log" 2>&1 &
    asking=$!
    sleep 6
    server=$(pgrep -P "$asking" -x bank_server) || { cat "$folder/load.log" >&2; exit 1; }
    perf record --quiet --freq 499 --call-graph dwarf,16384 --output "$samples" --pid "$server" -- sleep "$seconds" > /dev/null
    wait "$asking"
    asking=
    perf script --no-inline --input "$samples" 2> /dev/null \
        | inferno-collapse-perf --all 2> /dev/null \
        | inferno-flamegraph --title "$title" --minwidth 0.5 | still > "$folder/flame-$name.svg"
}

flame money "bank_server: money, 64 terminals" --terminals 64
flame pipelined "bank_server: money, 256 terminals, 8 in flight each" --terminals 256 --depth 8
flame balance "bank_server: balance, 64 terminals" --terminals 64 --mix balance
flame handshakes "bank_server: handshakes, 16 at once" --terminals 0 --handshakes 16
