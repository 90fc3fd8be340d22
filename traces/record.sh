#!/usr/bin/env bash
# Records the traces in this folder from real runs: a server process, terminals in processes of their own.
# Every step says what it expects; the script fails where something else is answered.
#
#   traces/record.sh [FOLDER]      FOLDER is where the traces go, made where it is missing (default: this one)
#   BIN_DIR=target/release ...     where the binaries are (default: target/debug)
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
out="${1:-traces}"
mkdir -p "$out"
out="$(realpath "$out")"
bin="$(realpath "${BIN_DIR:-target/debug}")"
work="$(mktemp -d)"
declare -A pids=() feeds=()
server="" port=""

finish() {
    for name in "${!pids[@]}"; do kill -KILL "${pids[$name]}" 2>/dev/null || true; done
    [ -z "$server" ] || kill -KILL "$server" 2>/dev/null || true
    wait 2>/dev/null || true
    rm -rf "$work"
}
trap finish EXIT

# --- what is recorded ------------------------------------------------------------------------------

note() { # column, text
    printf '%s\t%s\t%s\n' "$(date -u +%H:%M:%S.%3N)" "$1" "$2" >> "$work/events"
}

# Follows a stream into a column; the server's own time stamps are left to ours.
follow() { # column
    local line
    while IFS= read -r line; do note "$1" "$(sed -E 's/^[0-9T:.-]+Z +//' <<< "$line")"; done
}

fail() {
    echo "record.sh: $scenario: $1" >&2
    cat "$work/events" >&2
    exit 1
}

begin() { # scenario, title, what to look for
    scenario="$1" title="$2" about="$3"
    : > "$work/events"
    rm -rf "$work/bank" && mkdir "$work/bank"
}

# Two columns: the server's log on the left, everybody else on the right.
end() {
    {
        printf '%s\n\n' "$title"
        fold -s -w 110 <<< "$about"
        printf '\n%-12s  %-84s  %s\n' "time (UTC)" "server log" "terminals, operator and the script's own acts"
        sort -s -k1,1 "$work/events" | while IFS=$'\t' read -r time column text; do
            if [ "$column" = server ]; then
                fold -s -w 84 <<< "$text" | while IFS= read -r part; do
                    printf '%-12s  %s\n' "$time" "$part"; time=""
                done
            else
                printf '%-12s  %-84s  %s\n' "$time" "" "[$column] $text"
            fi
        done
    } | sed -E "s#$work#.#g; s/ +\$//" > "$out/$scenario.txt"
    echo "recorded $scenario"
}

# --- who acts --------------------------------------------------------------------------------------

make_bank() { # further lines of configuration
    (
        cd "$work/bank"
        "$bin/gen-certs" --terminal terminal-1 --terminal terminal-2 > /dev/null
        printf '%s\n' '[server]' 'listen = "127.0.0.1:0"' '[pin]' 'memory_kib = 1024' "$@" > bank.toml
        cp "$OLDPWD/config/accounts.txt" .
        "$bin/bank_server" --config bank.toml import accounts.txt 2> /dev/null
    ) | follow operator
}

start_server() {
    note script "starts the server"
    : > "$work/stdout"
    ( close_feeds; cd "$work/bank" && exec "$bin/bank_server" --config bank.toml run > "$work/stdout" 2> >(follow server) ) &
    server=$!
    for _ in $(seq 200); do
        port="$(sed -n 's/^listening on .*:\([0-9]*\)$/\1/p' "$work/stdout")"
        [ -n "$port" ] && return
        sleep 0.05
    done
    fail "the server did not start"
}

# A child must not keep another terminal's input open, or that one would never see its end.
close_feeds() { local fd; for fd in "${feeds[@]}"; do exec {fd}>&-; done; }

stop_server() { # signal
    note script "ends the server with SIG$1"
    kill "-$1" "$server"
    wait "$server" 2>/dev/null || true
    server=""
    sleep 0.2
}

terminal() { # name of the window, name of the terminal
    mkfifo "$work/$1.in"
    : > "$work/$1.out"
    ( close_feeds; cd "$work/bank" && exec "$bin/atm_client" --server "localhost:$port" --cert "certs/terminals/$2.pem" \
        --key "certs/terminals/$2.key" --journal "$work/journal" --script - < "$work/$1.in" >> "$work/$1.out" 2>&1 ) &
    pids[$1]=$!
    exec {feed}> "$work/$1.in"
    feeds[$1]=$feed
    note "$1" "(starts as $2, a process of its own)"
}

# Types a line at a terminal and waits for its answer, which must match.
say() { # window, command, expected pattern
    local before answer
    before="$(wc -l < "$work/$1.out")"
    note "$1" "> $(sed -E 's/^(login [^ ]+) .*/\1 ****/; s/^(change-pin) .*/\1 **** ****/' <<< "$2")"
    printf '%s\n' "$2" >&"${feeds[$1]}"
    for _ in $(seq 500); do
        answer="$(tail -n "+$((before + 1))" "$work/$1.out")"
        [ -n "$answer" ] && break
        sleep 0.02
    done
    note "$1" "  ${answer//$'\n'/ / }"
    grep -qE "$3" <<< "$answer" || fail "'$2' was answered '$answer', not '$3'"
}

leave() { # window
    local feed="${feeds[$1]}"
    exec {feed}>&-
    wait "${pids[$1]}" 2>/dev/null || true
    note "$1" "(exits)"
    forget "$1"
}

kill_terminal() { # window
    note script "kill -9 of the process of [$1]"
    kill -KILL "${pids[$1]}"
    wait "${pids[$1]}" 2>/dev/null || true
    local feed="${feeds[$1]}"
    exec {feed}>&-
    forget "$1"
}

forget() { unset "pids[$1]" "feeds[$1]"; rm -f "$work/$1.in"; }

staff() { # arguments, expected pattern
    local answer
    note operator "\$ bank_server $1"
    # shellcheck disable=SC2086 # the arguments are words
    answer="$(cd "$work/bank" && "$bin/bank_server" --config bank.toml $1 2>&1)" || true
    while IFS= read -r line; do note operator "  $line"; done <<< "$answer"
    grep -qE "$2" <<< "$answer" || fail "'$1' was answered '$answer', not '$2'"
}

# Bytes that no terminal of ours would send, over real TLS.
rude() { # what they are, bytes for printf, expected pattern of the answer's bytes
    local answer
    note rude "> $1"
    : > "$work/rude"
    # The input stays open until the answer is there, however busy the machine is.
    { printf '%b' "$2"; for _ in $(seq 100); do [ -s "$work/rude" ] && break; sleep 0.1; done; sleep 0.2; } |
        timeout 20 openssl s_client -quiet -no_ign_eof -connect "localhost:$port" -alpn atm/1 \
            -CAfile "$work/bank/certs/ca.pem" -cert "$work/bank/certs/terminals/terminal-2.pem" \
            -key "$work/bank/certs/terminals/terminal-2.key" > "$work/rude" 2>/dev/null || true
    answer="$(tr -d '\000-\037' < "$work/rude" | sed -E 's/[^{]*(\{)/ \1/; s/\}[^{]+\{/} {/g')"
    note rude "  ${answer:-(closed without an answer)}"
    grep -qE "$3" <<< "$answer" || fail "'$1' was answered '$answer', not '$3'"
}

# --- the scenarios ---------------------------------------------------------------------------------

begin 1-two-terminals "Two terminals served at once, on two accounts" \
    "Two processes are logged in at the same time and take turns; each has its own account, and neither waits for the other to finish. The server's log shows both connections interleaved."
make_bank; start_server
terminal A terminal-1; terminal B terminal-2
say A 'login zz-99999 9999' '^ok'
say B 'login ac-12345 1324' '^ok'
say A 'deposit 100.00' '755\.35'
say B 'withdraw 24.32' '1000\.00'
say A 'transfer ac-12345 55.35' '700\.00'
say B 'balance' '1055\.35'
say A 'history 3' 'transfer_out'
say B 'logout' '^ok'; say A 'logout' '^ok'
leave A; leave B
staff verify 'the ledger is whole'
stop_server TERM; end

begin 2-busy-account "A second terminal is refused on a busy account, and served after log-out" \
    "Code 21 comes only after a right PIN; the moment the first customer logs out the account is free."
make_bank; start_server
terminal A terminal-1; terminal B terminal-2
say A 'login zz-99999 9999' '^ok'
say B 'login zz-99999 9999' 'refused 21'
say A 'deposit 1.00' '656\.35'
say B 'login zz-99999 9999' 'refused 21'
staff sessions 'zz-99999 +terminal-1'
say A 'logout' '^ok'
say B 'login zz-99999 9999' '^ok.*656\.35'
say A 'login zz-99999 9999' 'refused 21'
leave B
say A 'login zz-99999 9999' '^ok'
leave A; stop_server TERM; end

begin 3-killed-client "A client is killed in mid-session" \
    "The process of A dies by kill -9 while it is logged in. The server sees the connection's end and frees the account at once; what was acknowledged stays."
make_bank; start_server
terminal A terminal-1; terminal B terminal-2
say A 'login zz-99999 9999' '^ok'
say A 'deposit 10.00' '665\.35'
kill_terminal A
say B 'login zz-99999 9999' '^ok.*665\.35'
say B 'logout' '^ok'
leave B
staff verify 'the ledger is whole'
stop_server TERM; end

begin 4-wrong-pins "Wrong PINs and lock-out" \
    "The third wrong PIN still gets 20, and the connection is closed; from then on no PIN is looked at, the right one neither, until staff unlock the account. An account that does not exist behaves alike."
make_bank; start_server
terminal A terminal-1
say A 'login zz-99999 1111' 'refused 20'
say A 'login zz-99999 2222' 'refused 20'
say A 'login zz-99999 3333' 'refused 20'
leave A; terminal A terminal-1
say A 'login zz-99999 9999' 'refused 22'
terminal B terminal-2
say B 'login zz-99999 9999' 'refused 22'
say B 'login ac-12345 1324' '^ok'
say B 'logout' '^ok'
staff 'account show zz-99999' 'locked out'
staff 'account unlock zz-99999' 'done'
say A 'login zz-99999 9999' '^ok'
say B 'login qq-00000 1111' 'refused 20'
say B 'login qq-00000 2222' 'refused 20'
leave B; terminal B terminal-2
say B 'login qq-00000 3333' 'refused 20'
say B 'login qq-00000 3333' 'refused 22'
leave A; leave B; stop_server TERM; end

begin 5-refusals "An overdraft, bad amounts, an unfriendly client" \
    "What cannot be done is refused by code and changes nothing. [rude] sends bytes that break the protocol: it is answered and closed, and A beside it is served all along."
make_bank; start_server
terminal A terminal-1
say A 'login zz-99999 9999' '^ok'
say A 'withdraw 655.36' 'refused 31'
say A 'deposit 0.00' 'refused'
say A 'deposit 10000000000.01' 'refused 30'
say A 'deposit 1.234' 'refused'
say A 'transfer zz-99999 1.00' 'refused 34'
say A 'transfer qq-00000 1.00' 'refused 34'
say A 'balance' '655\.35'
rude 'a frame of 4 GiB' '\xff\xff\xff\xff' '"code":11'
rude 'an empty frame' '\x00\x00\x00\x00' '"code":11'
rude 'three frames that are not JSON' '\x00\x00\x00\x02xx\x00\x00\x00\x02{}\x00\x00\x00\x02[]' '"code":10.*"code":10.*"code":10'
rude 'a deposit without a log-in' \
    '\x00\x00\x00\x45{"id":1,"op":"deposit","amount":100,"key":"0123456789abcdef-rude-01"}' '"code":23'
say A 'withdraw 55.35' '600\.00'
say A 'logout' '^ok'
leave A
staff verify 'the ledger is whole'
stop_server TERM; end

begin 6-sent-twice "A withdrawal sent twice is carried out once" \
    "The same request with the same key is answered again with the first answer; no money moves. Another request with that key gets 33. It holds after the server was killed and started again."
make_bank; start_server
terminal A terminal-1
say A 'login zz-99999 9999' '^ok'
say A 'withdraw 50.00 key=01990000-0000-7000-8000-000000000001' '605\.35'
say A 'withdraw 50.00 key=01990000-0000-7000-8000-000000000001' '605\.35.*replayed'
say A 'withdraw 60.00 key=01990000-0000-7000-8000-000000000001' 'refused 33'
say A 'balance' '605\.35'
leave A
stop_server KILL; start_server
terminal A terminal-1
say A 'login zz-99999 9999' '^ok.*605\.35'
say A 'withdraw 50.00 key=01990000-0000-7000-8000-000000000001' '605\.35.*replayed'
say A 'history 5' 'withdrawal'
leave A; stop_server TERM; end

begin 7-killed-server "The server is killed and started again: nothing is lost" \
    "Acknowledged money is on disk before its answer leaves. After kill -9 the ledger is whole, every acknowledged entry is there, and the account that was logged in is free."
make_bank; start_server
terminal A terminal-1
say A 'login zz-99999 9999' '^ok'
say A 'deposit 44.65' '700\.00'
say A 'authorize 100.00' '600\.00'
stop_server KILL
kill_terminal A
start_server
staff verify 'the ledger is whole'
terminal A terminal-1
say A 'login zz-99999 9999' '^ok.*700\.00'
say A 'history 2' 'deposit'
leave A
staff 'statement zz-99999' 'deposit'
stop_server TERM; end
