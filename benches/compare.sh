#!/usr/bin/env bash
# The bank beside what a user would pick instead, and beside the ceilings of its parts, in turn on one machine:
#   benches/compare.sh [RUNS] [SECONDS] [FOLDER]      5 runs of 8 seconds, into target/compare
# PARTS (money, network, logins; all by default) says what is measured. Writes FOLDER/figures.csv, one line for each measurement; benches/figures.py makes table and plots of it. Needs
# PostgreSQL's server and pgbench, and python3. Nothing else should run on the machine meanwhile.
set -euo pipefail
# Numbers have points.
export LC_ALL=C
cd "$(dirname "${BASH_SOURCE[0]}")/.."
runs=${1:-5} seconds=${2:-8}
folder=$(mkdir -p "${3:-target/compare}" && cd "${3:-target/compare}" && pwd)
figures=$folder/figures.csv
cluster=$folder/postgres-$$

ceilings=$(cargo build --release --example load --bench ceilings --message-format json-render-diagnostics \
    | sed -n 's/.*"executable":"\([^"]*\/ceilings-[^"]*\)".*/\1/p')
# Last, so that it is the product: what measures has features of its own.
cargo build --release --bins
load=target/release/examples/load

echo "run,who,what,clients,depth,per_second,p50_us,p99_us,server_us,bytes_per_operation,orders_a_commit" > "$figures"
record() { echo "$run,$*" | tr ' ' ',' | tee -a "$figures"; }

fields() { # names of fields of an object on stdin, in the order to be printed
    python3 -c 'import json, sys
found = json.loads(sys.stdin.readlines()[-1])
print(*[("" if found.get(name) is None else found[name]) for name in sys.argv[1:]], sep=",")' "$@"
}
bank() { # what, clients, depth, further arguments of the load tool
    local what=$1 clients=$2 depth=$3; shift 3
    local found
    found=$("$load" --terminals "$clients" --depth "$depth" --seconds "$seconds" --json --quiet "$@" 2> "$folder/load.log" \
        | fields per_second p50_us p99_us server_us bytes_per_operation orders_a_commit)
    orders=$(printf %.0f "${found##*,}")
    record bank "$what" "$clients" "$depth" "$found"
}
login() { # what, further arguments of the load tool
    local what=$1; shift
    local found
    found=$("$load" --logins 16 --seconds "$seconds" --json --quiet "$@" \
        2> "$folder/load.log" | tee "$folder/logins.json" | fields logins_per_second login_p50_us login_p99_us)
    record bank "$what" 16 1 "$found"
}
ceiling() { # what, clients, depth, arguments of the bench
    local what=$1 clients=$2 depth=$3; shift 3
    record ceiling "$what" "$clients" "$depth" "$("$ceilings" --seconds "$seconds" "$@" 2> /dev/null \
        | fields per_second p50_us p99_us server_us bytes_per_operation batch)"
}
rows() { # what, clients, depth, orders a commit, kind of keys
    ceiling "$1" "$2" "$3" --part sqlite --batch "$4" --keys "$5" --accounts $(($2 + 1)) --terminals "$2"
}
inside() { # customers, depth: the bank without a network, and the plain loop with as many in a commit
    ceiling inside "$1" "$2" --part inside --connections "$1" --depth "$2" --accounts $(($1 + 1))
    rows sqlite-inside "$1" "$2" "$(tail -1 "$figures" | awk -F, '{ printf "%.0f", $NF }')" ordered
}
pgbench() { # what, clients, further arguments
    local what=$1 clients=$2; shift 2
    record postgresql "$what" "$clients" 1 "$(benches/peers/postgres run "$cluster" "$clients" "$seconds" "$@")"
}

money() {
    ceiling disk 1 1 --part disk
    for clients in 1 8 64 256; do
        pgbench tpcb "$clients"
        bank money "$clients" 1
        # As many in a commit as really were, and as many as can be.
        rows sqlite "$clients" 1 "$orders" ordered
        [ "$clients" = 1 ] || { rows sqlite-most "$clients" 1 "$clients" ordered; inside "$clients" 1; }
    done
    for clients in 64 256; do
        pgbench simple-update "$clients" --builtin=simple-update
        bank money-random-keys "$clients" 1 --keys random
        rows sqlite-random-keys "$clients" 1 "$orders" random
    done
    bank money 256 8
    rows sqlite 256 8 "$orders" ordered
    rows sqlite-most 256 8 1024 ordered
    inside 256 8
}
network() {
    ceiling echo 64 1 --part echo --connections 64 --depth 1
    bank balance 64 1 --mix balance
    ceiling echo 256 1 --part echo --connections 256 --depth 1
    ceiling echo 256 8 --part echo --connections 256 --depth 8
    ceiling handshakes 16 1 --part handshakes --at-once 16
    record bank handshakes 16 1 "$("$load" --terminals 0 --seconds "$seconds" --skip-verify --json --quiet \
        --handshakes 16 2> "$folder/load.log" | fields handshakes_per_second handshake_p50_us handshake_p99_us)"
}
logins() { # by 16 terminals, with the shipped cost: alone, and beside customers at a fifth of the rate at 64 terminals
    local shipped=(--set pin.memory_kib=19456 --set pin.iterations=2) rate
    ceiling argon2 "$(nproc)" 1 --part argon2 --threads "$(nproc)"
    login logins --terminals 0 "${shipped[@]}"
    rate=$("$load" --seconds "$seconds" --json --quiet --skip-verify 2> "$folder/load.log" | fields per_second | awk '{ print int($1 / 5) }')
    bank money-at-a-fifth 64 1 --rate "$rate" "${shipped[@]}"
    # What full cores alone do to the same customers: hashing that has nothing to do with the bank.
    chrt --idle 0 "$ceilings" --seconds 600 --part argon2 --threads "$(nproc)" > /dev/null 2>&1 &
    local hashing=$!
    bank money-at-a-fifth-beside-argon2 64 1 --rate "$rate" "${shipped[@]}"
    # Fails where nothing hashed.
    kill "$hashing"
    wait "$hashing" || true
    login logins-beside-customers --terminals 64 --rate "$rate" "${shipped[@]}"
    record bank money-at-a-fifth-beside-logins 64 1 "$(fields per_second p50_us p99_us server_us bytes_per_operation orders_a_commit < "$folder/logins.json")"
}

if [[ " ${PARTS:-money network logins} " = *" money "* ]]; then
    trap 'benches/peers/postgres stop "$cluster" && rm -rf "$cluster" "$cluster.log"' EXIT
    chmod o+x "$folder"
    benches/peers/postgres start "$cluster" 64
fi
for run in $(seq "$runs"); do
    for part in ${PARTS:-money network logins}; do
        "$part"
    done
done
