"""Log-in, tries, PINs, locks, and how a session ends."""

import signal
import statistics
import time

from .harness import Account, Closed, Mismatch, code, frame, group, holds_true, key, parallel, same, whole

ONE_DAY = 86_400_000
NEW_PIN, OTHER_PIN = "830517", "740296"

# ---------------------------------------------------------------- log-in

login = group("login", pin={"lock_ms": ONE_DAY})


def refusal_bytes(b, account, pin):
    """A log-in's answer, byte for byte but for the id (which is the same in all)."""
    c = b.connect()
    answer = code(c.raw({"id": 7, "op": "login", "account": account, "pin": pin}), 20)
    same(answer["id"], 7, "id")
    return c.last_payload


@login.check("an unknown account, a wrong PIN and a closed account get the same answer 20, byte for byte")
def _(b):
    real, closed = b.fresh(), b.empty()
    b.operator("account", "close", closed.name)
    wrong = refusal_bytes(b, real.name, "0009")
    same(refusal_bytes(b, "qq-99999", "0009"), wrong, "answer for an unknown account")
    same(refusal_bytes(b, closed.name, closed.pin), wrong, "answer for a closed account, right PIN")
    same(refusal_bytes(b, closed.name, "0009"), wrong, "answer for a closed account, wrong PIN")


@login.check("20, then the right PIN on the same connection: served")
def _(b):
    me, c = b.fresh(), b.connect()
    code(c.login(me, "0009"), 20)
    code(c.call("ping"))
    code(c.login(me))


@login.check("after three of code 20 on one connection, for three accounts, it is closed with close_notify")
def _(b):
    c = b.connect()
    for n in range(3):
        code(c.call("login", account=f"qa-{n:05}", pin="0009"), 20)
    c.expect_close()


@login.check("three of code 20 with other requests between them close the connection all the same")
def _(b):
    c = b.connect()
    for n in range(3):
        code(c.call("ping"))
        code(c.call("login", account=f"qb-{n:05}", pin="0009"), 20)
    c.expect_close()


@login.check("account names are case-insensitive: capitals log in to the same account")
def _(b):
    me, c = b.fresh(), b.connect()
    code(c.call("login", account=me.name.upper(), pin=me.pin))
    c.do("deposit", amount=5)
    mixed = me.name[0].upper() + me.name[1:]
    code(b.connect().call("login", account=mixed, pin=me.pin), 21)
    c.do("logout")
    same(b.session(me).do("balance")["balance"], me.cents + 5, "balance")


@login.check("an account in use at another terminal or another connection is 21, the connection stays open, and works once it is free")
def _(b):
    me = b.fresh()
    first = b.session(me)
    others = [b.connect("terminal-2"), b.connect("terminal-1")]
    for other in others:
        code(other.login(me), 21)
        code(other.call("ping"))
        code(other.call("balance"), 23)
    code(first.call("balance"))
    first.do("logout")
    code(others[0].login(me))
    code(others[1].login(me), 21)


@login.check("21 only after a right PIN: a wrong one for an account in use is 20")
def _(b):
    first = b.session()
    code(b.connect().login(first.account, "0009"), 20)
    code(first.call("balance"))


@login.check("many answers of 21 close nothing: the connection stays open")
def _(b):
    first, other = b.session(), b.connect()
    for _ in range(6):
        code(other.login(first.account), 21)
    code(other.call("ping"))


@login.check("another customer may log in on the same connection after the first logged out, and sees only their own account")
def _(b):
    c, two = b.session(), b.fresh()
    c.do("deposit", amount=5)
    c.do("logout")
    same(code(c.login(two))["balance"], two.cents, "balance")
    same([e["kind"] for e in c.history()], ["opening"], "kinds")


WAYS = {
    "log-out": lambda c: c.do("logout"),
    "close_notify and FIN": lambda c: c.leave(),
    "FIN without close_notify": lambda c: c.drop(),
    "RST": lambda c: c.reset(),
    "FIN in the midst of a frame": lambda c: (c.send_bytes(frame({"id": 1, "op": "balance"})[:9]), c.drop()),
    "RST in the midst of a frame": lambda c: (c.send_bytes(b"\0\0"), c.reset()),
}
for title, leave in WAYS.items():

    @login.check(f"{title} ends the session and frees the account at once")
    def _(b, leave=leave):
        for _ in range(3):
            c = b.session()
            leave(c)
            holds_true(b.can_log_in(c.account, seconds=1.0), "the account free within 1 s", "in use")


@login.check("a request sent just before the client is lost leaves the account free and the books whole")
def _(b):
    for _ in range(10):
        c = b.session()
        c.send_bytes(b"".join(frame(c.make("deposit", amount=1, key=key())) for _ in range(5)))
        c.reset()
        holds_true(b.can_log_in(c.account, seconds=2.0), "the account free", "in use")


# ---------------------------------------------------------------- tries

tries = group("tries", pin={"tries": 3, "lock_ms": ONE_DAY})


@tries.check("the try that reaches the limit still gets 20; after it, 22 with retry_after_ms of at most lock_ms, for a wrong and the right PIN alike")
def _(b):
    me = b.fresh()
    code(b.wrong(me, 3), 20)
    c = b.connect()
    for pin in ("0009", me.pin, "0008"):
        answer = code(c.login(me, pin), 22)
        holds_true(whole(answer.get("retry_after_ms")) and ONE_DAY - 60_000 < answer["retry_after_ms"] <= ONE_DAY, "retry_after_ms of about a day", answer)
    code(c.call("ping"))


@tries.check("22 closes nothing: ten of them leave the connection open")
def _(b):
    me = b.fresh()
    b.wrong(me, 3)
    c = b.connect()
    for _ in range(10):
        code(c.login(me), 22)
    code(c.login())


@tries.check("retry_after_ms grows less while the lock lasts, and tries under the lock do not lengthen it")
def _(b):
    me, c = b.fresh(), b.connect()
    b.wrong(me, 3)
    first = code(c.login(me), 22)["retry_after_ms"]
    time.sleep(0.05)
    second = code(c.login(me), 22)["retry_after_ms"]
    holds_true(second < first, f"less than {first}", second)


@tries.check("an unknown number counts and locks like a real one")
def _(b):
    nobody = Account("qc-00001", "0009")
    code(b.wrong(nobody, 3), 20)
    answer = code(b.connect().login(nobody), 22)
    holds_true(whole(answer.get("retry_after_ms")), "retry_after_ms", answer)


@tries.check("a closed account counts and locks like a real one")
def _(b):
    closed = b.empty()
    b.operator("account", "close", closed.name)
    c, d = b.connect(), b.connect()
    for client in (c, c, d):
        code(client.login(closed), 20)
    code(d.login(closed), 22)


@tries.check("tries count over connections, terminals and the case of letters")
def _(b):
    me = b.fresh()
    code(b.connect().login(me, "0009"), 20)
    code(b.connect("terminal-2").login(me, "0009"), 20)
    code(b.connect().call("login", account=me.name.upper(), pin="0009"), 20)
    code(b.connect("terminal-2").login(me), 22)


@tries.check("an account that never logged in has one count for all terminals")
def _(b):
    me = b.fresh()
    for terminal in ("terminal-1", "terminal-2", "terminal-1"):
        code(b.connect(terminal).login(me, "0009"), 20)
    for terminal in ("terminal-1", "terminal-2"):
        code(b.connect(terminal).login(me), 22)


def at_home(b, terminal="terminal-1"):
    """An account whose last good log-in was at that terminal."""
    me = b.fresh()
    c = b.connect(terminal)
    code(c.login(me))
    c.do("logout")
    return me


@tries.check("wrong PINs at other terminals do not lock the customer out at the terminal of their last good log-in")
def _(b):
    me = at_home(b)
    for wanted in (20, 20, 20, 22):
        code(b.connect("terminal-2").login(me, "0009"), wanted)
    code(b.connect("terminal-2").login(me), 22)
    code(b.wrong(me, 2), 20)
    c = b.connect()
    code(c.login(me))
    c.do("logout")


@tries.check("wrong PINs at the terminal of the last good log-in take none from other terminals, and a right PIN elsewhere makes that the home")
def _(b):
    me = at_home(b)
    b.wrong(me, 3)
    code(b.connect().login(me), 22)
    c = b.connect("terminal-2")
    code(c.login(me, "0009"), 20)
    code(c.login(me))
    c.do("logout")
    code(b.wrong(me, 3), 20)
    code(b.connect().login(me), 22)
    code(b.connect("terminal-2").login(me))


@tries.check("a right PIN forgets the tries of both counts")
def _(b):
    me = at_home(b)
    for _ in range(2):
        for wanted in (20, 20, 20):
            code(b.connect("terminal-2").login(me, "0009"), wanted)
        c = b.connect()
        code(c.login(me, "0009"), 20)
        code(c.login(me, "0009"), 20)
        code(c.login(me))
        c.do("logout")


@tries.check("22 tells the time of the count that is used up: the home's is longer where its last wrong PIN came later")
def _(b):
    me = at_home(b)
    for _ in range(3):
        code(b.connect("terminal-2").login(me, "0009"), 20)
    time.sleep(0.3)
    b.wrong(me, 3)
    one, other = b.connect(), b.connect("terminal-2")
    other_waits = code(other.login(me), 22)["retry_after_ms"]
    home_waits = code(one.login(me), 22)["retry_after_ms"]
    holds_true(home_waits > other_waits + 100, f"more than {other_waits} and 100", home_waits)


@tries.check("the right PIN forgets the count: two wrong, right, two wrong, right")
def _(b):
    me = b.fresh()
    for _ in range(3):
        code(b.wrong(me, 2), 20)
        c = b.session(me)
        c.do("logout")


@tries.check("a lock of one account leaves others alone, on the same connection too")
def _(b):
    me = b.fresh()
    b.wrong(me, 3)
    c = b.connect()
    code(c.login(me), 22)
    code(c.login())


@tries.check("a running session goes on when its account is locked by wrong tries elsewhere")
def _(b):
    c = b.session()
    code(b.wrong(c.account, 3), 20)
    code(b.connect().login(c.account), 22)
    code(c.call("balance"))
    c.do("withdraw", amount=5)
    c.do("logout")
    code(c.login(c.account), 22)


@tries.check("change_pin under the lock of wrong tries is 22: it counts as a log-in")
def _(b):
    c = b.session()
    code(b.wrong(c.account, 3), 20)
    answer = code(c.call("change_pin", pin=c.account.pin, new_pin=NEW_PIN), 22)
    holds_true(whole(answer.get("retry_after_ms")), "retry_after_ms", answer)


@tries.check("`account unlock` ends the lock of wrong tries, and the count begins anew")
def _(b):
    me = b.fresh()
    b.wrong(me, 3)
    code(b.connect().login(me), 22)
    b.operator("account", "unlock", me.name)
    code(b.wrong(me, 2), 20)
    code(b.connect().login(me))


@tries.check("a lock of wrong tries outlives a restart of the server")
def _(b):
    me = b.fresh()
    b.wrong(me, 3)
    same(b.restart(), 0, "exit code")
    code(b.connect().login(me), 22)


@tries.check("a count of two outlives a restart: the third wrong PIN locks")
def _(b):
    me = b.fresh()
    b.wrong(me, 2)
    b.restart()
    code(b.connect().login(me, "0009"), 20)
    code(b.connect().login(me), 22)


# -- the operator's lock


@tries.check("an account locked by the operator: 20 to a wrong PIN, 22 without retry_after_ms to the right one; unlocked, served")
def _(b):
    me = b.fresh()
    b.operator("account", "lock", me.name)
    c = b.connect()
    code(c.login(me, "0009"), 20)
    answer = code(c.login(me), 22)
    holds_true("retry_after_ms" not in answer, "no retry_after_ms", answer)
    code(c.call("ping"))
    b.operator("account", "unlock", me.name)
    code(c.login(me))


@tries.check("a running session ends (42) when the operator locks its account; after it no other begins")
def _(b):
    c = b.session()
    b.operator("account", "lock", c.account.name)
    c.expect_event(42)
    code(c.call("balance"), 23)
    holds_true("retry_after_ms" not in code(c.login(c.account), 22), "no retry_after_ms", "one")


@tries.check("a running session ends (42) when the operator sets its account's PIN; neither it nor the old PIN is good any more")
def _(b):
    c = b.session()
    b.operator("account", "set-pin", c.account.name)
    c.expect_event(42)
    code(c.call("deposit", amount=5, key=key()), 23)
    code(c.login(c.account), 20)


@tries.check("the wrong PIN for an operator-locked account is 20 with the bytes of any other wrong PIN")
def _(b):
    me, other = b.fresh(), b.fresh()
    b.operator("account", "lock", me.name)
    same(refusal_bytes(b, me.name, "0009"), refusal_bytes(b, other.name, "0009"), "answer")


# -- change_pin


@tries.check("change_pin: the new PIN works, the old no longer, and the session goes on")
def _(b):
    c = b.session()
    code(c.call("change_pin", pin=c.account.pin, new_pin=NEW_PIN))
    code(c.call("balance"))
    c.do("logout")
    code(c.login(c.account), 20)
    code(c.login(c.account, NEW_PIN))


@tries.check("change_pin takes 12 digits, and a log-in with them")
def _(b):
    c = b.session()
    code(c.call("change_pin", pin=c.account.pin, new_pin="830517926408"))
    c.do("logout")
    code(c.login(c.account, "830517926409"), 20)
    code(c.login(c.account, "830517926408"))


@tries.check("change_pin with a wrong PIN is 20, changes nothing, keeps the session, and the right PIN forgets the tries")
def _(b):
    c = b.session()
    code(c.call("change_pin", pin="0009", new_pin=NEW_PIN), 20)
    code(c.call("balance"))
    code(c.call("change_pin", pin=c.account.pin, new_pin=NEW_PIN))
    c.do("logout")
    code(b.wrong(c.account, 2), 20)
    code(b.connect().login(c.account, NEW_PIN))


@tries.check("a wrong PIN in change_pin counts as a try: with two more elsewhere the account is locked")
def _(b):
    c = b.session()
    code(c.call("change_pin", pin="0009", new_pin=NEW_PIN), 20)
    code(b.wrong(c.account, 2), 20)
    code(b.connect().login(c.account), 22)


def until_end(c, number):
    """Two messages in any order: the answer 20 to a request, and 42 with a null id."""
    got = [c.recv(), c.recv()]
    same(sorted((a["code"], a["id"]) for a in got), [(20, number), (42, None)], "answer and message")


@tries.check("the wrong change_pin that locks gets 20 and ends its session: 42 with a null id, then 23")
def _(b):
    c = b.session()
    code(b.wrong(c.account, 2), 20)
    until_end(c, c.send("change_pin", pin="0009", new_pin=NEW_PIN))
    code(c.call("balance"), 23)
    code(c.login(c.account), 22)


@tries.check("three wrong change_pin on one connection: the third gets 20, then the connection is closed")
def _(b):
    c = b.session()
    for _ in range(3):
        answer = c.call("change_pin", pin="0009", new_pin=NEW_PIN)
        code(answer, 20)
    c.expect_close(allow=(42,))
    code(b.connect().login(c.account), 22)


@tries.check("36: the old PIN again and a weak PIN (1111) are not acceptable, and nothing changes")
def _(b):
    c = b.session()
    for bad in (c.account.pin, "1111"):
        code(c.call("change_pin", pin=c.account.pin, new_pin=bad), 36)
    c.do("logout")
    code(c.login(c.account))


@tries.check("the lowest code: change_pin with a wrong PIN and a weak new one is 20, not 36")
def _(b):
    c = b.session()
    code(c.call("change_pin", pin="0009", new_pin="1111"), 20)


@tries.check("a changed PIN outlives kill -9")
def _(b):
    c = b.session()
    code(c.call("change_pin", pin=c.account.pin, new_pin=NEW_PIN))
    b.restart(signal.SIGKILL)
    code(b.connect().login(c.account, NEW_PIN))


# -- the one-time PIN


def with_one_time(b):
    me = b.fresh()
    pin = b.one_time_pin(me)
    c = b.connect()
    answer = code(c.login(me, pin))
    same(answer.get("must_change_pin"), True, "must_change_pin")
    return c, pin


@tries.check("a one-time PIN logs in with must_change_pin true; the old PIN no longer works")
def _(b):
    c, pin = with_one_time(b)
    c.do("logout")
    code(c.login(c.account), 20)
    same(code(c.login(c.account, pin)).get("must_change_pin"), True, "must_change_pin again")


@tries.check("25: with a one-time PIN only ping, change_pin and logout are served, and everything else is 25")
def _(b):
    c, pin = with_one_time(b)
    k = key()
    for op, fields in (
        ("balance", {}),
        ("deposit", {"amount": 1, "key": k}),
        ("withdraw", {"amount": 1, "key": k}),
        ("transfer", {"to": "zz-99999", "amount": 1, "key": k}),
        ("authorize", {"amount": 1, "key": k}),
        ("history", {}),
    ):
        code(c.call(op, **fields), 25)
        code(c.call("ping"))
    code(c.call("change_pin", pin=pin, new_pin=NEW_PIN))
    same(c.do("balance")["balance"], c.account.cents, "balance")
    code(c.call("deposit", amount=1, key=k))


@tries.check("25 comes before 30, and 10 before 25")
def _(b):
    c, _ = with_one_time(b)
    code(c.call("deposit", amount=0, key=key()), 25)
    code(c.call("deposit", amount=1, key="short"), 10)


@tries.check("under 25 capture and release of this terminal's holds are served")
def _(b):
    one = b.session()
    holds = [one.do("authorize", amount=100)["hold"] for _ in range(2)]
    one.do("logout")
    c, _ = with_one_time(b)
    c.do("capture", hold=holds[0], amount=60)
    c.do("release", hold=holds[1])


@tries.check("the one-time PIN itself is not acceptable as the new one (36); once changed, it no longer works")
def _(b):
    c, pin = with_one_time(b)
    code(c.call("change_pin", pin=pin, new_pin=pin), 36)
    code(c.call("change_pin", pin=pin, new_pin=NEW_PIN))
    c.do("logout")
    code(c.login(c.account, pin), 20)
    holds_true("must_change_pin" not in code(c.login(c.account, NEW_PIN)), "no must_change_pin", "one")


# ---------------------------------------------------------------- short and endless locks

short = group("a short lock", pin={"tries": 3, "lock_ms": 1500})


@short.check("retry_after_ms is at most lock_ms, and when it is over the right PIN is served")
def _(b):
    me = b.fresh()
    b.wrong(me, 3)
    c = b.connect()
    wait = code(c.login(me), 22)["retry_after_ms"]
    holds_true(0 < wait <= 1500, "1 to 1500", wait)
    time.sleep(wait / 1000 + 0.05)
    code(c.login(me))


@short.check("when the lock is over the count begins anew: two wrong, then right")
def _(b):
    me = b.fresh()
    b.wrong(me, 3)
    time.sleep(1.6)
    code(b.wrong(me, 2), 20)
    code(b.connect().login(me))


@short.check("the count is forgotten lock_ms after the last wrong PIN, of an unknown number too")
def _(b):
    me, nobody = b.fresh(), Account("qd-00001", "0009")
    for account in (me, nobody):
        code(b.wrong(account, 2), 20)
    time.sleep(1.7)
    for account in (me, nobody):
        code(b.wrong(account, 2), 20)
    code(b.connect().login(me))
    code(b.wrong(nobody, 1), 20)
    code(b.connect().login(nobody), 22)


@short.check("each wrong PIN puts the forgetting off: three wrong with 1 s between them lock")
def _(b):
    me = b.fresh()
    for wait in (1.0, 1.0, 0):
        code(b.wrong(me, 1), 20)
        time.sleep(wait)
    code(b.connect().login(me), 22)


endless = group("a lock without end", pin={"tries": 3, "lock_ms": 0})


@endless.check("where lock_ms is 0, 22 has no retry_after_ms, and `account unlock` ends the lock")
def _(b):
    me = b.fresh()
    code(b.wrong(me, 3), 20)
    c = b.connect()
    for pin in ("0009", me.pin):
        holds_true("retry_after_ms" not in code(c.login(me, pin), 22), "no retry_after_ms", "one")
    b.operator("account", "unlock", me.name)
    code(c.login(me))


# ---------------------------------------------------------------- one PIN on many accounts

sprays = group("sprays", limits={"spray_tries": 10}, pin={"tries": 3, "lock_ms": ONE_DAY}, alone=True)


@sprays.check("wrong PINs upon ten numbers from one terminal: before the tenth, 40 with retry_after_ms; another terminal is served, and no try is counted")
def _(b):
    me, looked_at = b.fresh(), 0
    for n in range(10):
        answer = b.connect().login(Account(f"qs-{n:05}", "0009"))
        if answer["code"] == 40:
            break
        code(answer, 20)
        looked_at += 1
    holds_true(looked_at < 10, "fewer than 10 looked at", looked_at)
    for pin in (me.pin, "0009", "0009", "0009"):
        answer = code(b.connect().login(me, pin), 40)
        holds_true(whole(answer.get("retry_after_ms")) and answer["retry_after_ms"] > 0, "retry_after_ms", answer)
    code(b.connect("terminal-2").login(me))


# ---------------------------------------------------------------- concurrency of log-ins

crowd = group("many at once: log-ins", pin={"tries": 3, "lock_ms": ONE_DAY}, alone=True)


@crowd.check("200 wrong PINs at once on 200 connections: at most 3 are looked at (20), the rest is 22")
def _(b):
    for name in (b.fresh().name, "qe-00001"):
        clients = [b.connect() for _ in range(200)]
        codes = [a["code"] for a in parallel([lambda c=c: c.call("login", account=name, pin="0009") for c in clients])]
        looked_at = codes.count(20)
        holds_true(looked_at <= 3 and looked_at + codes.count(22) == 200, "at most 3 of code 20 and 22 else", {n: codes.count(n) for n in set(codes)})
        b.hang_up()


@crowd.check("200 wrong PINs at once from two terminals, one of them the home: at most 3 of each are looked at, the rest is 22")
def _(b):
    me = at_home(b)
    clients = [(name, b.connect(name)) for name in ("terminal-1", "terminal-2") * 100]
    asked = [lambda name=name, c=c: (name, c.call("login", account=me.name, pin="0009")["code"]) for name, c in clients]
    codes = parallel(asked)
    for name in ("terminal-1", "terminal-2"):
        mine = [c for n, c in codes if n == name]
        looked_at = mine.count(20)
        holds_true(looked_at <= 3 and looked_at + mine.count(22) == 100, "at most 3 of code 20 and 22 else", sorted(mine))
    b.hang_up()


@crowd.check("40 log-ins at once to one account: exactly one is served, the others get 21")
def _(b):
    for _ in range(3):
        me, clients = b.fresh(), [b.connect() for _ in range(40)]
        codes = sorted(a["code"] for a in parallel([lambda c=c: c.login(me) for c in clients]))
        same(codes, [0] + [21] * 39, "codes")
        b.hang_up()


@crowd.check("100 customers log in, deposit and log out at once, each on their own account")
def _(b):
    def one(c):
        code(c.login())
        c.do("deposit", amount=1)
        c.do("logout")

    parallel([lambda c=c: one(c) for c in [b.connect() for _ in range(100)]])


# ---------------------------------------------------------------- time

idle = group("idle time-out", server={"idle_timeout_ms": 1500})


def ended(c, begun, least=1.3, most=4.0):
    """42 comes once, about at the time-out; then 23, and the connection stays open."""
    c.expect_event(42)
    took = time.monotonic() - begun
    holds_true(least <= took <= most, f"42 after {least} to {most} s", f"{took:.2f} s")
    code(c.call("balance"), 23)
    code(c.call("ping"))


@idle.check("a customer silent for idle_timeout_ms is logged out: 42 with a null id, then 23; the connection stays open, the account is free")
def _(b):
    c = b.session()
    ended(c, time.monotonic())
    holds_true(b.can_log_in(c.account), "the account free", "in use")
    code(c.login(c.account))
    code(c.call("balance"))


@idle.check("42 is sent once")
def _(b):
    c = b.session()
    c.expect_event(42)
    c.silent(1.8)
    code(c.call("balance"), 23)
    code(c.call("balance"), 23)


def busy(c, request, seconds=6.0):
    """Sends `request` again and again until 42 comes; how long that took."""
    begun = time.monotonic()
    while time.monotonic() - begun < seconds:
        request()
        answer = c.recv()
        if answer["code"] == 42:
            c.recv()  # the answer to the request that crossed it
            return time.monotonic() - begun
        time.sleep(0.2)
    raise Mismatch(f"expected 42, got none in {seconds} s")


PUTS_NOT_OFF = {
    "pings": lambda c: c.send("ping"),
    "requests refused with 30": lambda c: c.send("deposit", amount=0, key=key()),
    "requests refused with 24": lambda c: c.send("login", account="zz-99999", pin="1234"),
}
for title, request in PUTS_NOT_OFF.items():

    @idle.check(f"{title} do not put off the idle time-out")
    def _(b, request=request):
        c = b.session()
        took = busy(c, lambda: request(c))
        holds_true(1.2 <= took <= 4, "42 after about 1.5 s", f"{took:.2f} s")


@idle.check("malformed messages (not three in a row) do not put off the idle time-out")
def _(b):
    c, turn = b.session(), iter(range(1000))
    took = busy(c, lambda: c.send_payload(b"{}") if next(turn) % 2 else c.send("ping"))
    holds_true(1.2 <= took <= 4, "42 after about 1.5 s", f"{took:.2f} s")


@idle.check("requests that are served put the idle time-out off")
def _(b):
    c, begun = b.session(), time.monotonic()
    while time.monotonic() - begun < 3:
        code(c.call("balance"))
        time.sleep(0.3)
    ended(c, time.monotonic() - 0.3)


@idle.check("a terminal with a certificate stays connected between customers")
def _(b):
    c = b.connect()
    c.silent(2.5)
    code(c.login())


long = group("session time-out", server={"session_timeout_ms": 2000, "idle_timeout_ms": 60_000})


@long.check("a session ends at session_timeout_ms however busy it is: 42 with a null id, then 23; the next login is served")
def _(b):
    c = b.session()
    took = busy(c, lambda: c.send("balance"))
    holds_true(1.8 <= took <= 4, "42 after about 2 s", f"{took:.2f} s")
    code(c.call("balance"), 23)
    code(c.login(c.account))


@long.check("max_timeout_ms in the answer to login is session_timeout_ms")
def _(b):
    same(code(b.connect().login())["session"], {"idle_timeout_ms": 60_000, "max_timeout_ms": 2000}, "session")


bank_ends = group("sessions ended by the bank")


@bank_ends.check("`sessions --end` ends the session: 42 with a null id, once, then 23; the connection stays open, the account is free")
def _(b):
    c, other = b.session(), b.session()
    b.operator("sessions", "--end", c.account.name)
    c.expect_event(42)
    c.silent(0.3)
    code(c.call("balance"), 23)
    code(b.session(c.account, "terminal-2").call("balance"))
    code(other.call("balance"))
    code(c.login())


silent = group("a silent terminal", server={"terminal_idle_timeout_ms": 1500})


@silent.check("a terminal silent for terminal_idle_timeout_ms between customers is closed, with close_notify")
def _(b):
    c, begun = b.connect(), time.monotonic()
    c.expect_close(allow=(42,))
    took = time.monotonic() - begun
    holds_true(1.3 <= took <= 4, "an end after about 1.5 s", f"{took:.2f} s")


@silent.check("ping keeps a terminal without a customer connected")
def _(b):
    c, begun = b.connect(), time.monotonic()
    while time.monotonic() - begun < 3.5:
        code(c.call("ping"))
        time.sleep(0.4)
    code(c.login())


# ---------------------------------------------------------------- without certificates

anonymous = group("without client certificates", tls={"client_auth": "off"}, server={"login_timeout_ms": 1500})


@anonymous.check("where client_auth is off a client without a certificate is served, and is called anonymous")
def _(b):
    c = b.session(terminal=None)
    c.do("deposit", amount=5)
    same(c.history(limit=1)[0].get("terminal"), "anonymous", "terminal")


def gone(c, keep_busy, least=1.2, most=4.5):
    begun = time.monotonic()
    if keep_busy:
        try:
            while time.monotonic() - begun < most:
                c.call("ping")
                time.sleep(0.1)
        except (Closed, OSError):
            pass
        else:
            raise Mismatch(f"expected the end of the connection, got {most} s of pings served")
    else:
        c.expect_close(allow=(42,))
    took = time.monotonic() - begun
    holds_true(least <= took <= most, "an end after about 1.5 s", f"{took:.2f} s")


@anonymous.check("without a certificate a connection must be logged in by login_timeout_ms, or it is closed with close_notify")
def _(b):
    gone(b.connect(None), keep_busy=False)


@anonymous.check("ping does not keep a connection without a certificate")
def _(b):
    gone(b.connect(None), keep_busy=True)


@anonymous.check("once logged in it stays past login_timeout_ms; after log-out the time runs again")
def _(b):
    c = b.session(terminal=None)
    c.silent(2.0)
    code(c.call("balance"))
    c.do("logout")
    gone(c, keep_busy=False)


@anonymous.check("after log-out another customer may log in within the time")
def _(b):
    c = b.session(terminal=None)
    c.do("logout")
    code(c.login())


@anonymous.check("anonymous must be logged in to the hold's account to capture or release (23 or 35), and then may, on another connection too")
def _(b):
    one = b.session(terminal=None)
    holds = [one.do("authorize", amount=100)["hold"] for _ in range(2)]
    stranger, nobody = b.session(terminal=None), b.connect(None)
    for c in (stranger, nobody):
        code(c.call("capture", hold=holds[0], amount=100, key=key()), (23, 35))
        code(c.call("release", hold=holds[0], key=key()), (23, 35))
    same(one.do("balance")["available"], one.account.cents - 200, "available")
    one.do("capture", hold=holds[0], amount=100)
    one.do("logout")
    again = b.session(one.account, None)
    again.do("release", hold=holds[1])
    same(again.do("balance")["available"], one.account.cents - 100, "available")


# ---------------------------------------------------------------- the same in time

clock = group("the same in time", pin={"memory_kib": 4096, "iterations": 2, "tries": 1000}, alone=True)


@clock.check("an unknown account, a wrong PIN and a closed account take the same time (medians within a factor of 1.5, or 10 ms)")
def _(b):
    closed = b.empty()
    b.operator("account", "close", closed.name)
    real, nobody = b.fresh(), Account("qf-00001", "0009")
    took = {"wrong PIN": [], "unknown": [], "closed": []}
    for _ in range(11):
        c = [b.connect() for _ in range(3)]
        for client, (name, account) in zip(c, (("wrong PIN", real), ("unknown", nobody), ("closed", closed))):
            begun = time.perf_counter()
            code(client.login(account, "0009"), 20)
            took[name].append(time.perf_counter() - begun)
    medians = {name: round(statistics.median(times) * 1000, 1) for name, times in took.items()}
    low, high = min(medians.values()), max(medians.values())
    holds_true(high <= max(low * 1.5, low + 10), "medians alike", medians)
