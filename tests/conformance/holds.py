"""Authorize, capture, release, expiry and the late capture."""

import time

from .harness import code, frame, group, holds_true, key, parallel, same, until

# ---------------------------------------------------------------- in time

holds = group("holds")


def replayed(first, again):
    same(again, {**first, "id": again["id"], "replayed": True}, "replay")


def opened(b, amount=1_000, **options):
    """A session with an open hold of its account."""
    c = b.session(**options)
    return c, c.do("authorize", amount=amount)["hold"]


@holds.check("a partial capture posts what was captured and frees the rest")
def _(b):
    c, hold = opened(b)
    answer = c.do("capture", hold=hold, amount=400)
    same((answer["balance"], answer["available"]), (99_600, 99_600), "balance, available")
    same([(e["kind"], e["amount"]) for e in c.history(limit=1)], [("withdrawal", -400)], "entry")


@holds.check("a capture over its hold is 30, and the hold stays open")
def _(b):
    c, hold = opened(b)
    code(c.call("capture", hold=hold, amount=1_001, key=key()), 30)
    same(c.do("balance")["available"], 99_000, "available")
    c.do("capture", hold=hold, amount=1_000)


@holds.check("captured already: another capture or a release with another key is 35")
def _(b):
    c, hold = opened(b)
    c.do("capture", hold=hold, amount=400)
    code(c.call("capture", hold=hold, amount=400, key=key()), 35)
    code(c.call("capture", hold=hold, amount=600, key=key()), 35)
    code(c.call("release", hold=hold, key=key()), 35)
    same(c.do("balance")["balance"], 99_600, "balance")


@holds.check("released already: a capture or another release with another key is 35")
def _(b):
    c, hold = opened(b)
    c.do("release", hold=hold)
    code(c.call("capture", hold=hold, amount=400, key=key()), 35)
    code(c.call("release", hold=hold, key=key()), 35)
    same(c.do("balance")["available"], 100_000, "available")


@holds.check("another terminal's hold is 35 for capture and release, also where that terminal is logged in to the hold's account")
def _(b):
    c, hold = opened(b)
    c.do("logout")
    other = b.session(c.account, "terminal-2")
    code(other.call("capture", hold=hold, amount=1_000, key=key()), 35)
    code(other.call("release", hold=hold, key=key()), 35)
    code(b.connect("terminal-2").call("capture", hold=hold, amount=1_000, key=key()), 35)
    same(other.do("balance")["available"], 99_000, "available")
    b.connect().do("capture", hold=hold, amount=1_000)


@holds.check("logging out does not end a hold, nor does the loss of the connection")
def _(b):
    c, _ = opened(b)
    c.do("logout")
    same(code(c.login(c.account))["available"], 99_000, "available")
    c.reset()
    holds_true(b.can_log_in(c.account), "the account free", "in use")
    same(b.session(c.account).do("balance")["available"], 99_000, "available")


@holds.check("capture and release without a login, on the same connection: served, without balances")
def _(b):
    c, hold = opened(b)
    second = c.do("authorize", amount=50)["hold"]
    c.do("logout")
    same(set(c.do("capture", hold=hold, amount=400)), {"id", "code", "entry"}, "members")
    same(set(c.do("release", hold=second)), {"id", "code"}, "members")
    same(code(c.login(c.account))["balance"], 99_600, "balance")


@holds.check("capture and release on another connection of the same terminal: served, without balances")
def _(b):
    c, hold = opened(b)
    second = c.do("authorize", amount=50)["hold"]
    d = b.connect()
    same(set(d.do("capture", hold=hold, amount=400)), {"id", "code", "entry"}, "members")
    same(set(d.do("release", hold=second)), {"id", "code"}, "members")
    same(c.do("balance")["available"], 99_600, "available")


@holds.check("capture and release while another customer is logged in: served, without balances, and that customer's account is untouched")
def _(b):
    c, hold = opened(b)
    owner, second = c.account, c.do("authorize", amount=50)["hold"]
    c.do("logout")
    code(c.login())
    same(set(c.do("capture", hold=hold, amount=400)), {"id", "code", "entry"}, "members")
    same(set(c.do("release", hold=second)), {"id", "code"}, "members")
    same(c.do("balance")["balance"], c.account.cents, "the other's balance")
    c.do("logout")
    same(code(c.login(owner))["balance"], 99_600, "balance")


@holds.check("capture replays: the first answer again, on another connection too; the money moves once")
def _(b):
    c, hold = opened(b)
    k = key()
    first = c.do("capture", hold=hold, amount=400, key=k)
    replayed(first, c.do("capture", hold=hold, amount=400, key=k))
    c.do("deposit", amount=5)
    replayed(first, c.do("capture", hold=hold, amount=400, key=k))
    other = b.connect().do("capture", hold=hold, amount=400, key=k)
    same((other["entry"], other["replayed"]), (first["entry"], True), "entry, replayed")
    same(c.do("balance")["balance"], 99_605, "balance")


@holds.check("release replays, with the balances of the first answer")
def _(b):
    c, hold = opened(b)
    k = key()
    first = c.do("release", hold=hold, key=k)
    c.do("deposit", amount=5)
    replayed(first, c.do("release", hold=hold, key=k))


@holds.check("the key of a capture or release with another request is 33, once its hold is closed too")
def _(b):
    c, hold = opened(b)
    second = c.do("authorize", amount=50)["hold"]
    k, r = key(), key()
    c.do("capture", hold=hold, amount=400, key=k)
    code(c.call("capture", hold=hold, amount=401, key=k), 33)
    code(c.call("capture", hold=second, amount=40, key=k), 33)
    code(c.call("release", hold=second, key=k), 33)
    code(c.call("deposit", amount=400, key=k), 33)
    c.do("release", hold=second, key=r)
    code(c.call("capture", hold=second, amount=50, key=r), (33, 35))


@holds.check("33 comes before 30: a capture over its hold under a used key is 33")
def _(b):
    c, hold = opened(b)
    k = key()
    c.do("deposit", amount=5, key=k)
    code(c.call("capture", hold=hold, amount=5_000, key=k), 33)
    code(c.call("capture", hold=hold, amount=0, key=k), 33)


@holds.check("35 comes before 30 and 33: an unknown hold with an amount of 0, or under a used key, is 35")
def _(b):
    c = b.session()
    k = key()
    c.do("deposit", amount=5, key=k)
    code(c.call("capture", hold="none", amount=0, key=key()), 35)
    code(c.call("capture", hold="none", amount=5, key=k), 35)
    code(c.call("release", hold="none", key=k), 35)


@holds.check("10 comes before 35: a malformed capture of an unknown hold is 10")
def _(b):
    c = b.connect()
    code(c.call("capture", hold="none", amount="1", key=key()), 10)
    code(c.call("capture", hold="none", amount=1, key=key()), 35)
    code(c.call("release", hold="none", key=key()), 35)


@holds.check("keys of capture and release are scoped to the hold's account, not to the customer who is logged in")
def _(b):
    c, hold = opened(b)
    owner, taken, used = c.account, key(), key()
    c.do("deposit", amount=5, key=used)
    c.do("logout")
    code(c.login())
    c.do("deposit", amount=7, key=taken)
    code(c.call("capture", hold=hold, amount=400, key=used), 33)
    answer = c.do("capture", hold=hold, amount=400, key=taken)
    holds_true("replayed" not in answer, "a first answer", answer)
    replayed_one = c.do("deposit", amount=7, key=taken)
    same(replayed_one["replayed"], True, "replayed")
    c.do("logout")
    same(code(c.login(owner))["balance"], 99_605, "balance")


@holds.check("authorize replays: the same hold and balances, expires_in_ms what is left now; no second hold")
def _(b):
    c, k = b.session(), key()
    first = c.do("authorize", amount=1_000, key=k)
    time.sleep(0.05)
    again = c.do("authorize", amount=1_000, key=k)
    holds_true(0 < again["expires_in_ms"] < first["expires_in_ms"], f"less than {first['expires_in_ms']}", again)
    replayed({**first, "expires_in_ms": again["expires_in_ms"]}, again)
    same(c.do("balance")["available"], 99_000, "available")


@holds.check("authorize replays with expires_in_ms 0 once the hold is captured or released, and the balances of the first answer")
def _(b):
    for end in ("capture", "release"):
        c, k = b.session(), key()
        first = c.do("authorize", amount=1_000, key=k)
        c.do(end, hold=first["hold"], **({"amount": 400} if end == "capture" else {}))
        again = c.do("authorize", amount=1_000, key=k)
        replayed({**first, "expires_in_ms": 0}, again)


@holds.check("authorize and its capture, pipelined with other requests, are answered in order")
def _(b):
    c, hold = opened(b)
    requests = [c.make("capture", hold=hold, amount=400, key=key()), c.make("balance"), c.make("release", hold=hold, key=key()), c.make("ping")]
    c.send_bytes(b"".join(frame(r) for r in requests))
    answers = [c.recv() for _ in requests]
    same([(a["id"], a["code"]) for a in answers], list(zip([r["id"] for r in requests], [0, 0, 35, 0])), "ids and codes")


@holds.check("a hold and its capture outlive a restart of the server; the capture replays after it")
def _(b):
    c, hold = opened(b)
    same(b.restart(), 0, "exit code")
    k = key()
    first = b.connect().do("capture", hold=hold, amount=400, key=k)
    b.restart()
    replayed(first, b.connect().do("capture", hold=hold, amount=400, key=k))
    same(b.session(c.account).do("balance")["balance"], 99_600, "balance")


@holds.check("a hold can be captured though the operator locked its account, which ended the session")
def _(b):
    c, hold = opened(b)
    b.operator("account", "lock", c.account.name)
    c.expect_event(42)
    same(set(c.do("capture", hold=hold, amount=400)), {"id", "code", "entry"}, "members")


@holds.check("an account with an open hold cannot be closed")
def _(b):
    c, _ = opened(b)
    holds_true(b.try_operator("account", "close", c.account.name).returncode != 0, "a refusal to close", 0)


# ---------------------------------------------------------------- races

race = group("many at once: holds", alone=True)


@race.check("two captures of one hold with different keys at once: one is served, the other is 35; the money moves once")
def _(b):
    for _ in range(15):
        c, hold = opened(b)
        clients = [b.connect() for _ in range(2)]
        codes = sorted(a["code"] for a in parallel([lambda d=d: d.call("capture", hold=hold, amount=400, key=key()) for d in clients]))
        same(codes, [0, 35], "codes")
        same(c.do("balance")["balance"], 99_600, "balance")
        b.hang_up()


@race.check("a capture and a release of one hold at once: one is served, the other is 35")
def _(b):
    for _ in range(15):
        c, hold = opened(b)
        one, two = b.connect(), b.connect()
        got = parallel([lambda: one.call("capture", hold=hold, amount=400, key=key()), lambda: two.call("release", hold=hold, key=key())])
        same(sorted(a["code"] for a in got), [0, 35], "codes")
        same(c.do("balance")["available"], 99_600 if got[0]["code"] == 0 else 100_000, "available")
        b.hang_up()


@race.check("the same capture with the same key on 20 connections at once: one entry, 19 replays of it")
def _(b):
    for _ in range(5):
        c, hold = opened(b)
        k = key()
        got = parallel([lambda d=d: code(d.call("capture", hold=hold, amount=400, key=k)) for d in [b.connect() for _ in range(20)]])
        same(len({a["entry"] for a in got}), 1, "entries")
        same(sum("replayed" not in a for a in got), 1, "first answers")
        same(c.do("balance")["balance"], 99_600, "balance")
        b.hang_up()


@race.check("one key for captures of 10 holds of one account at once: one is served, nine are 33")
def _(b):
    c, k = b.session(), key()
    made = [c.do("authorize", amount=100)["hold"] for _ in range(10)]
    clients = [b.connect() for _ in made]
    codes = sorted(a["code"] for a in parallel([lambda d=d, h=h: d.call("capture", hold=h, amount=100, key=k) for d, h in zip(clients, made)]))
    same(codes, [0] + [33] * 9, "codes")
    same(c.do("balance")["balance"], 99_900, "balance")


@race.check("transfers round a ring of 10 accounts at once, both ways: all served, and no cent is made or lost")
def _(b):
    ring = [b.session() for _ in range(10)]

    def run(n):
        for turn in range(20):
            to = ring[(n + (1 if turn % 2 else -1)) % 10].account.name
            ring[n].do("transfer", to=to, amount=7 + n)

    parallel([lambda n=n: run(n) for n in range(10)])
    same(sum(c.do("balance")["balance"] for c in ring), 10 * 100_000, "sum of balances")


@race.check("20 customers pay all they have into one account at once: all served, the sum is right")
def _(b):
    target, payers = b.session(), [b.session() for _ in range(20)]
    parallel([lambda c=c: c.do("transfer", to=target.account.name, amount=c.account.cents) for c in payers])
    same(target.do("balance")["balance"], 21 * 100_000, "balance")


# ---------------------------------------------------------------- expiry

late = group("expiry and late capture")
late.config["accounts"] = {"hold_timeout_ms": 700, "withdrawal_limit": 80_000, "daily_withdrawal_limit": 100_000}


def expired(b, amount=1_000, **options):
    """A session with a hold of its account that has expired; the key it was made with."""
    c, k = b.session(**options), key()
    first = c.do("authorize", amount=amount, key=k)
    holds_true(0 < first["expires_in_ms"] <= 700, "expires_in_ms of 1 to 700", first)
    freed = until(lambda: c.do("balance")["available"] == c.account.cents, 4)
    holds_true(freed, "the money freed after hold_timeout_ms", "not freed in 4 s")
    return c, first, k


@late.check("a hold that is neither captured nor released expires about after hold_timeout_ms and frees its money")
def _(b):
    c, begun = b.session(), time.monotonic()
    c.do("authorize", amount=1_000)
    same(c.do("balance")["available"], 99_000, "available at first")
    holds_true(until(lambda: c.do("balance")["available"] == 100_000, 4), "the money freed", "not freed in 4 s")
    took = time.monotonic() - begun
    holds_true(0.6 <= took <= 2.5, "about 0.7 s", f"{took:.2f} s")
    same(len(c.history()), 1, "entries")


@late.check("authorize replays with expires_in_ms 0 once the hold has expired")
def _(b):
    c, first, k = expired(b)
    again = c.do("authorize", amount=1_000, key=k)
    replayed({**first, "expires_in_ms": 0}, again)


@late.check("a capture after expiry posts: late true, kind late_withdrawal, the balance after it; it replays with late")
def _(b):
    c, first, _ = expired(b)
    k = key()
    answer = c.do("capture", hold=first["hold"], amount=400, key=k)
    same({n: v for n, v in answer.items() if n not in ("id", "entry")}, {"code": 0, "late": True, "balance": 99_600, "available": 99_600}, "answer")
    entry = c.history(limit=1)[0]
    same((entry["entry"], entry["kind"], entry["amount"], entry["balance"]), (answer["entry"], "late_withdrawal", -400, 99_600), "entry")
    replayed(answer, c.do("capture", hold=first["hold"], amount=400, key=k))
    code(c.call("capture", hold=first["hold"], amount=400, key=key()), 35)


@late.check("a capture in time is not late")
def _(b):
    c = b.session()
    answer = c.do("capture", hold=c.do("authorize", amount=5)["hold"], amount=5)
    holds_true("late" not in answer, "no late", answer)


@late.check("a late capture may overdraw the account; after that withdraw, authorize and transfer are 31, a deposit is served")
def _(b):
    c, first, _ = expired(b, amount=20_000)
    other = b.fresh()
    c.do("transfer", to=other.name, amount=c.account.cents)
    answer = c.do("capture", hold=first["hold"], amount=20_000)
    same((answer["balance"], answer["available"], answer["late"]), (-20_000, -20_000, True), "balance, available, late")
    for op, fields in (("withdraw", {}), ("authorize", {}), ("transfer", {"to": other.name})):
        code(c.call(op, amount=1, key=key(), **fields), 31)
    same(c.history(limit=1)[0]["balance"], -20_000, "balance in history")
    same(c.do("deposit", amount=20_005)["balance"], 5, "balance")


@late.check("a late capture over its hold is 30; of another terminal 35; neither uses it up")
def _(b):
    c, first, _ = expired(b)
    code(c.call("capture", hold=first["hold"], amount=1_001, key=key()), 30)
    code(b.connect("terminal-2").call("capture", hold=first["hold"], amount=400, key=key()), 35)
    same(c.do("capture", hold=first["hold"], amount=400)["late"], True, "late")


@late.check("a late capture without a login, and while another customer is logged in: served, without balances")
def _(b):
    c, first, _ = expired(b)
    c.do("logout")
    answer = c.do("capture", hold=first["hold"], amount=400)
    same(set(answer), {"id", "code", "entry", "late"}, "members")
    d, second, _ = expired(b)
    d.do("logout")
    code(d.login())
    same(set(d.do("capture", hold=second["hold"], amount=400)), {"id", "code", "entry", "late"}, "members")


@late.check("a late capture is not refused for a lock by the operator, a lock by wrong tries, or an ended session")
def _(b):
    c, first, _ = expired(b)
    b.wrong(c.account, 3)
    b.operator("account", "lock", c.account.name)
    c.expect_event(42)
    same(c.do("capture", hold=first["hold"], amount=400)["late"], True, "late")


@late.check("an expired hold counts nothing for the day; a late capture counts, and is never refused for it")
def _(b):
    c, first, _ = expired(b, amount=30_000)
    c.do("deposit", amount=200_000)
    c.do("withdraw", amount=80_000)
    answer = code(c.call("withdraw", amount=20_001, key=key()), 32)
    same((answer["limit"], answer["remaining"]), (100_000, 20_000), "limit, remaining")
    c.do("withdraw", amount=10_000)
    same(c.do("capture", hold=first["hold"], amount=30_000)["late"], True, "late")
    answer = code(c.call("withdraw", amount=1, key=key()), 32)
    same(answer["limit"], 100_000, "limit")
    holds_true(answer["remaining"] <= 0, "nothing remaining", answer)


@late.check("a late capture counts for the day with what was captured")
def _(b):
    c, first, _ = expired(b, amount=30_000)
    c.do("deposit", amount=200_000)
    c.do("capture", hold=first["hold"], amount=25_000)
    answer = code(c.call("withdraw", amount=75_001, key=key()), 32)
    same((answer["limit"], answer["remaining"]), (100_000, 75_000), "limit, remaining")


@late.check("late captures of one hold with different keys at once: one is served, the others are 35")
def _(b):
    c, first, _ = expired(b)
    got = parallel([lambda d=d: d.call("capture", hold=first["hold"], amount=400, key=key()) for d in [b.connect() for _ in range(8)]])
    same(sorted(a["code"] for a in got), [0] + [35] * 7, "codes")
    same(c.do("balance")["balance"], 99_600, "balance")


@late.check("a hold expires over a restart of the server too, and its late capture still posts")
def _(b):
    c = b.session()
    hold = c.do("authorize", amount=1_000)["hold"]
    b.hang_up()
    same(b.stop(), 0, "exit code")
    time.sleep(0.8)
    b.start()
    d = b.session(c.account)
    holds_true(until(lambda: d.do("balance")["available"] == 100_000, 3), "the money freed", "not freed")
    same(d.do("capture", hold=hold, amount=400)["late"], True, "late")


@late.check("an account whose hold can still be captured late cannot be closed")
def _(b):
    c, first, _ = expired(b)
    other = b.fresh()
    c.do("transfer", to=other.name, amount=c.account.cents)
    c.do("logout")
    holds_true(b.try_operator("account", "close", c.account.name).returncode != 0, "a refusal to close", 0)
    same(c.do("capture", hold=first["hold"], amount=400)["late"], True, "late")
