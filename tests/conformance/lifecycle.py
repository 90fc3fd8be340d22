"""Rates, a full server, drain, crash and start again."""

import os
import signal
import socket
import time

from .harness import Client, Closed, Mismatch, code, frame, group, holds_true, key, same, until, whole

# ---------------------------------------------------------------- rates

rate = group("request rate", limits={"requests_per_second": 5, "request_burst": 10})


def burst(c, count):
    c.send_bytes(b"".join(frame({"id": n, "op": "ping"}) for n in range(count)))
    return [c.recv() for _ in range(count)]


@rate.check("the burst is served, then 40 with retry_after_ms; after that time a request is served again")
def _(b):
    c = b.connect()
    answers = burst(c, 30)
    codes = [a["code"] for a in answers]
    same(codes[:10], [0] * 10, "codes of the burst")
    holds_true(set(codes[10:]) <= {0, 40} and codes.count(40) >= 10, "40 beyond the burst", codes)
    refused = [a for a in answers if a["code"] == 40]
    holds_true(all(whole(a.get("retry_after_ms")) and 0 < a["retry_after_ms"] <= 60_000 for a in refused), "retry_after_ms", refused[0])
    time.sleep(max(a["retry_after_ms"] for a in refused) / 1000 + 0.25)
    code(c.raw({"id": 99, "op": "ping"}))


@rate.check("40 keeps the connection open, and the order of the answers")
def _(b):
    c = b.connect()
    answers = burst(c, 25)
    same([n for n, a in enumerate(answers) if a["id"] not in (n, None)], [], "answers out of order")
    time.sleep(1.2)
    code(c.raw({"id": 99, "op": "ping"}))


@rate.check("40 comes before 10 and 12: over the rate a malformed message is 40")
def _(b):
    c = b.connect()
    burst(c, 11)
    c.send_bytes(frame(b"{}") * 8 + frame({"id": 1, "op": "nonsense"}) * 8)
    codes = [c.recv()["code"] for _ in range(16)]
    holds_true(codes.count(40) >= 12, "40 but for what the rate gave back meanwhile", codes)


@rate.check("a request refused with 40 is not done, and leaves its key free")
def _(b):
    c, k = b.session(), key()
    burst(c, 12)
    answer = c.raw({"id": 1, "op": "deposit", "amount": 5, "key": k})
    if answer["code"] == 0:
        raise Mismatch("expected code 40 right after the burst, got 0")
    code(answer, 40)
    time.sleep(1)
    answer = code(c.raw({"id": 2, "op": "deposit", "amount": 5, "key": k}))
    same((answer["balance"], "replayed" in answer), (c.account.cents + 5, False), "balance, replayed")


@rate.check("the rate is counted a connection: another of the same terminal is served")
def _(b):
    burst(b.connect(), 20)
    code(b.connect().call("ping"))


@rate.check("after 1,000 of code 40 within 10 s the connection is closed")
def _(b):
    c, seen = b.connect(), 0
    try:
        for n in range(14):
            c.send_bytes(b"".join(frame({"id": i, "op": "ping"}) for i in range(100)))
            for _ in range(100):
                seen += c.recv()["code"] == 40
    except (Closed, OSError):
        pass
    else:
        raise Mismatch(f"expected the end of the connection, got {seen} of code 40 and no end")
    holds_true(990 <= seen <= 1_010, "an end after 1,000 of code 40", seen)


logins = group("log-in rate", limits={"logins_per_minute_per_terminal": 6})


@logins.check("over logins_per_minute_per_terminal a log-in is 40 with retry_after_ms, also for another account; another terminal is served")
def _(b):
    c, codes = b.connect(), []
    for _ in range(16):
        answer = c.login()
        codes.append(answer["code"])
        if answer["code"] != 0:
            break
        c.do("logout")
    same(codes[-1], 40, f"the last code of {codes}")
    holds_true(len(codes) > 6, "six log-ins served first", codes)
    holds_true(whole(answer.get("retry_after_ms")) and answer["retry_after_ms"] > 0, "retry_after_ms", answer)
    code(c.call("ping"))
    code(b.connect().login(), 40)
    code(b.connect("terminal-2").login())


records = group("records of TLS", limits={"records_per_second": 100, "record_burst": 34})


@records.check("requests in many records are read later: all are answered, in order, and the connection stays open")
def _(b):
    c, began = b.connect(), time.monotonic()
    asked = b"".join(frame({"id": n, "op": "ping"}) for n in range(10))
    for octet in asked:
        c.send_bytes(bytes([octet]))
    same([c.recv()["id"] for _ in range(10)], list(range(10)), "answers' ids")
    took, least = time.monotonic() - began, (len(asked) - 34 - 32) / 100
    holds_true(took >= least, f"{len(asked)} records to take {least} s or longer", took)
    code(c.call("ping"))


# ---------------------------------------------------------------- a heartbeat

heart = group("heartbeat", server={"peer_timeout_ms": 1_500})


@heart.check("three pings in a session and then silence end it and the connection; two promise nothing, and a ping more puts it off")
def _(b):
    silent, living, quiet = b.session(), b.session(), b.session()
    for c, pings in ((silent, 3), (living, 3), (quiet, 2)):
        for _ in range(pings):
            code(c.call("ping"))
    for _ in range(6):
        time.sleep(0.5)
        code(living.call("ping"))
    silent.expect_close()
    until(lambda: b.can_log_in(silent.account))
    code(quiet.call("balance"))
    code(living.call("balance"))


# ---------------------------------------------------------------- a full server

full = group("a full server", server={"max_connections": 5, "max_connections_per_ip": 3})


@full.check("over the connections of one address TCP is closed before TLS; over all connections 41 comes after the handshake, with a null id and close_notify; room is given back at once")
def _(b):
    mine = [b.connect() for _ in range(3)]
    for c in mine:
        code(c.call("ping"))
    try:
        b.connect().call("ping")
    except (Closed, OSError):
        pass
    else:
        raise Mismatch("expected no handshake for a fourth connection of one address, got service")
    others = [b.connect(source="127.0.0.2") for _ in range(2)]
    for c in others:
        code(c.call("ping"))
    extra = b.connect(source="127.0.0.3")
    extra.expect_event(41)
    extra.expect_close()
    others[0].leave()

    def room():
        try:
            return b.connect(source="127.0.0.3").call("ping")["code"] == 0
        except (Closed, OSError, Mismatch):
            return False

    holds_true(until(room, 3), "service after one connection left", "none in 3 s")
    code(mine[0].call("ping"))


# ---------------------------------------------------------------- drain

drain = group("drain")


@drain.check("SIGTERM: every connection, logged in or not, gets 52 with a null id and close_notify; exit 0; no new connection")
def _(b):
    clients = [b.connect(), b.session(), b.session(terminal="terminal-2")]
    code(clients[0].call("ping"))
    b.process.send_signal(signal.SIGTERM)
    for c in clients:
        c.expect_event(52)
        c.expect_close()
    same(b.stop(), 0, "exit code")
    try:
        socket.create_connection(b.address, 2).close()
    except OSError:
        pass
    else:
        raise Mismatch("expected no listener after the end, got one")
    b.start()


@drain.check("SIGINT drains and exits 0 as well")
def _(b):
    c = b.session()
    b.process.send_signal(signal.SIGINT)
    c.expect_event(52)
    c.expect_close()
    same(b.stop(signal.SIGINT), 0, "exit code")
    b.start()


@drain.check("what was answered 0 before the drain is on disk, and sessions do not outlive it")
def _(b):
    c, k = b.session(), key()
    first = c.do("deposit", amount=5, key=k)
    same(b.restart(), 0, "exit code")
    d = b.session(c.account)
    same(d.do("balance")["balance"], first["balance"], "balance")
    same(d.do("deposit", amount=5, key=k)["replayed"], True, "replayed")


@drain.check("requests under way at SIGTERM are answered 0 and done, or can be settled by their key; none twice")
def _(b):
    c = b.session()
    keys = [key() for _ in range(200)]
    c.send_bytes(b"".join(frame(c.make("deposit", amount=1, key=k)) for k in keys))
    b.process.send_signal(signal.SIGTERM)
    done = 0
    try:
        while True:
            answer = c.recv()
            if answer["id"] is not None:
                done += code(answer, (0, 52))["code"] == 0
    except Closed as end:
        holds_true(end.clean, "an end with close_notify", str(end))
    same(b.stop(), 0, "exit code")
    b.start()
    d = b.session(c.account)
    stands = d.do("balance")["balance"] - c.account.cents
    holds_true(done <= stands <= 200, f"at least the {done} that were answered", stands)
    replays = sum("replayed" in d.do("deposit", amount=1, key=k) for k in keys)
    same(replays, stands, "replays of the keys that took effect")
    same(d.do("balance")["balance"], c.account.cents + 200, "balance once every key is settled")


# ---------------------------------------------------------------- crash

crash = group("kill -9")


@crash.check("what was answered 0 is there after kill -9 of the server: balances, entries, holds, and the keys replay")
def _(b):
    c, other = b.session(), b.fresh()
    requests = [
        ("deposit", {"amount": 500, "key": key()}),
        ("withdraw", {"amount": 200, "key": key()}),
        ("transfer", {"to": other.name, "amount": 100, "key": key()}),
        ("authorize", {"amount": 50, "key": key()}),
    ]
    answers = [c.do(op, **fields) for op, fields in requests]
    b.restart(signal.SIGKILL)
    d = b.session(c.account)
    balance = d.do("balance")
    same((balance["balance"], balance["available"]), (100_200, 100_150), "balance, available")
    for (op, fields), first in zip(requests, answers):
        again = d.do(op, **fields)
        if op == "authorize":
            holds_true(again["expires_in_ms"] <= first["expires_in_ms"], "expires_in_ms of now", again)
            again = {**again, "expires_in_ms": first["expires_in_ms"]}
        same(again, {**first, "id": again["id"], "replayed": True}, f"replay of {op}")
    d.do("capture", hold=answers[3]["hold"], amount=50)
    same(len(d.history()), 5, "entries")


@crash.check("a started server has freed all accounts: one that was in use at kill -9 logs in at once")
def _(b):
    sessions = [b.session() for _ in range(5)]
    b.restart(signal.SIGKILL)
    for c in sessions:
        code(b.connect("terminal-2").login(c.account))


@crash.check("kill -9 in the midst of a stream of deposits, five times: nothing answered is lost, each key takes effect once, `verify` passes")
def _(b):
    c0 = b.session()
    me, expected = c0.account, c0.account.cents
    for turn in range(5):
        b.hang_up()
        c = b.connect()
        holds_true(until(lambda: c.login(me)["code"] == 0, 3), "the account free", "in use")
        keys = [key() for _ in range(300)]
        c.send_bytes(b"".join(frame(c.make("deposit", amount=1, key=k)) for k in keys))
        done = 0
        for _ in range(5 + 20 * turn):
            done += code(c.recv())["code"] == 0
        b.restart(signal.SIGKILL)
        d = b.session(me)
        stands = d.do("balance")["balance"] - expected
        holds_true(done <= stands <= 300, f"at least the {done} answered", stands)
        for k in keys:
            d.do("deposit", amount=1, key=k)
        expected += 300
        same(d.do("balance")["balance"], expected, "balance once every key is settled")
        b.operator("verify")


@crash.check("`statement` of an account that was served exits 0, in its three formats")
def _(b):
    c = b.session()
    c.do("deposit", amount=5)
    for form in ("table", "csv", "json"):
        holds_true(b.operator("statement", c.account.name, "--format", form).strip() != "", "a statement", "nothing")


@crash.check("the log masks account numbers and never shows a PIN that was sent")
def _(b):
    c = b.session()
    code(c.call("change_pin", pin=c.account.pin, new_pin="7402960518"))
    c.drop()
    nobody = Client(b)
    code(nobody.call("login", account="qg-31415", pin="926535897932"), 20)
    nobody.drop()
    time.sleep(0.2)
    with open(b.log, encoding="utf-8", errors="replace") as text:
        log = text.read()
    for secret in ("7402960518", "926535897932", "qg-31415", c.account.name):
        holds_true(secret not in log, "a log without PINs and whole account numbers", f"{secret[:4]}… in {os.path.basename(b.log)}")
