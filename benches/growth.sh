#!/usr/bin/env bash
# How cost grows with accounts, entries, terminals, revoked certificates, idle connections and cores:
#   benches/growth.sh [RUNS] [SECONDS] [FOLDER]       5 runs of 6 seconds, into target/growth
# Writes FOLDER/growth.csv, one line for each measurement; benches/figures.py makes tables and plots of it. Needs 10 GB of
# disk. ACCOUNTS, ENTRIES, TERMINALS, REVOKED, IDLE and CORES, lists of sizes, say how far it goes. Nothing else should run on the machine
# meanwhile.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${1:-5} seconds=${2:-6}
folder=$(mkdir -p "${3:-target/growth}" && cd "${3:-target/growth}" && pwd)
figures=$folder/growth.csv

cargo build --release --example load
# Last, so that it is the product: what measures has features of its own.
cargo build --release --bins
load=target/release/examples/load
server=$PWD/target/release/bank_server
echo "run,what,size,unit,value,p99_us" > "$figures"
record() { echo "$run,$1,$2,$3,$4" | tee -a "$figures"; }
fields() {
    python3 -c 'import json, sys
found = json.loads(sys.stdin.readlines()[-1])
print(*[("" if found.get(name) is None else found[name]) for name in sys.argv[1:]], sep=",")' "$@"
}
run_load() { "$load" --seconds "$seconds" --json --quiet --skip-verify "$@" 2> "$folder/load.log"; }

for accounts in ${ACCOUNTS:-1000 100000 1000000 10000000}; do
    bank=$folder/accounts
    rm -rf "$bank"
    for run in $(seq "$runs"); do
        found=$(run_load --terminals 64 --folder "$bank" --accounts "$accounts")
        record "money by accounts" "$accounts" "a second" "$(fields per_second p99_us <<< "$found")"
        record "start by accounts" "$accounts" ms "$(fields start_ms <<< "$found"),"
    done
    rm -rf "$bank"
done

bank=$folder/entries
rm -rf "$bank"
entries=0
for target in ${ENTRIES:-100000 1000000 10000000}; do
    while [ "$entries" -lt "$target" ]; do
        # So long that about as many come as are missing.
        span=$(((target - entries) / 120000 + 1))
        "$load" --terminals 256 --depth 8 --accounts 1000 --seconds "$span" --warm-up 0 --folder "$bank" --json --quiet --skip-verify \
            > /dev/null 2> "$folder/load.log"
        entries=$(python3 -c 'import sqlite3, sys
print(sqlite3.connect(sys.argv[1]).execute("SELECT coalesce(max(id), 0) FROM entry").fetchone()[0])' "$bank/data/bank.db")
    done
    for run in $(seq "$runs"); do
        found=$(run_load --terminals 64 --accounts 1000 --folder "$bank" --mix history)
        record "history by entries" "$target" "a second" "$(fields per_second p99_us <<< "$found")"
        record "start by entries" "$target" ms "$(fields start_ms <<< "$found"),"
        began=$(date +%s%N)
        lines=$(cd "$bank" && "$server" --config bank.toml statement aa-00003 --format csv 2> /dev/null | wc -l)
        record "statement by entries" "$target" "us a line" "$((($(date +%s%N) - began) / 1000 / lines)),"
    done
    for run in $(seq "$runs"); do
        found=$(run_load --terminals 64 --accounts 1000 --folder "$bank")
        record "money by entries" "$target" "a second" "$(fields per_second p99_us <<< "$found")"
        record "bytes for each operation by entries" "$target" bytes "$(fields bytes_per_operation <<< "$found"),"
    done
done
rm -rf "$bank"

for terminals in ${TERMINALS:-10 100 1000 9000}; do
    for run in $(seq "$runs"); do
        found=$(run_load --terminals "$terminals")
        record "money by terminals" "$terminals" "a second" "$(fields per_second p99_us <<< "$found")"
    done
done

bank=$folder/revoked
for revoked in ${REVOKED:-10 1000 100000 1000000}; do
    rm -rf "$bank"
    run_load --terminals 0 --handshakes 1 --folder "$bank" > /dev/null
    # The register is what lists are made of.
    awk -v count="$revoked" 'BEGIN { for (i = 0; i < count; i++) printf "6a%030x,till-%d,2026-01-01T00:00:00Z\n", i, i % 1000 }' \
        >> "$bank/certs/revoked.csv"
    target/release/gen-certs renew --out "$bank/certs" > /dev/null
    for run in $(seq "$runs"); do
        found=$(run_load --terminals 0 --handshakes 16 --folder "$bank")
        record "handshakes by revoked certificates" "$revoked" "a second" "$(fields handshakes_per_second handshake_p99_us <<< "$found")"
        record "start by revoked certificates" "$revoked" ms "$(fields start_ms <<< "$found"),"
    done
done
rm -rf "$bank"

for count in ${IDLE:-10 1000 5000 10000 15000}; do
    for run in $(seq "$runs"); do
        # No terminal may have more than half of all connections.
        found=$(run_load --terminals 0 --idle "$count" --logins 1 --certificates 8)
        record "memory of an idle connection" "$count" KiB "$(fields idle_kib <<< "$found"),"
        record "processor for idle connections" "$count" percent "$(fields idle_percent <<< "$found"),"
        record "log-ins among idle connections" "$count" "a second" "$(fields logins_per_second login_p99_us <<< "$found")"
    done
done

for cores in ${CORES:-1 2}; do
    for run in $(seq "$runs"); do
        found=$(taskset --cpu-list "0-$((cores - 1))" "$load" --terminals 64 --seconds "$seconds" --json --quiet --skip-verify 2> "$folder/load.log")
        record "money by cores" "$cores" "a second" "$(fields per_second p99_us <<< "$found")"
    done
done
