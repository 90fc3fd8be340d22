"""Amounts, funds, limits, keys and transfers."""

import json

from .harness import Account, Skip, code, frame, group, holds_true, key, same

MAX_AMOUNT = 10**12
MAX_BALANCE = 10**15

# ---------------------------------------------------------------- amounts

RICH = Account("ri-00001", "5926", MAX_BALANCE - 100)
amounts = group("amounts", accounts=(RICH,))


def raw_amount(c, op, number, **fields):
    rest = json.dumps({"id": c.make(op)["id"], "op": op, "key": key(), **fields})[1:-1]
    return c.raw(f'{{{rest},"amount":{number}}}'.encode())


OPS = {"deposit": {}, "withdraw": {}, "transfer": {"to": "zz-99999"}, "authorize": {}}
for op, fields in OPS.items():

    @amounts.check(f"{op}: 0, -1, 10^12+1, 2^63-1, -2^63 are 30; 2^63 and -2^63-1 are 10; nothing moves")
    def _(b, op=op, fields=fields):
        c = b.session()
        for number in (0, -1, MAX_AMOUNT + 1, 2**63 - 1, -(2**63)):
            code(raw_amount(c, op, number, **fields), 30)
        for number in (2**63, -(2**63) - 1):
            code(raw_amount(c, op, number, **fields), 10)
            code(c.call("ping"))
        same(c.do("balance")["available"], c.account.cents, "available")


@amounts.check("capture: 0, -1, 10^12+1, 2^63-1 are 30; 2^63 is 10; over the hold is 30; the hold stays open")
def _(b):
    c = b.session()
    hold = c.do("authorize", amount=100)["hold"]
    for number in (0, -1, 101, MAX_AMOUNT + 1, 2**63 - 1):
        code(raw_amount(c, "capture", number, hold=hold), 30)
    code(raw_amount(c, "capture", 2**63, hold=hold), 10)
    c.do("capture", hold=hold, amount=100)


@amounts.check("amounts of 1 and of 10^12 are served: deposit, authorize, capture, withdraw, transfer")
def _(b):
    one, two, three, other = b.session(), b.session(), b.session(), b.fresh()
    for c in (one, two, three):
        c.do("deposit", amount=MAX_AMOUNT)
    one.do("withdraw", amount=MAX_AMOUNT)
    two.do("capture", hold=two.do("authorize", amount=MAX_AMOUNT)["hold"], amount=MAX_AMOUNT)
    three.do("transfer", to=other.name, amount=MAX_AMOUNT)
    for c in (one, two, three):
        same(c.do("balance")["balance"], c.account.cents, "balance")
    three.do("deposit", amount=1)
    three.do("withdraw", amount=1)
    three.do("transfer", to=other.name, amount=1)
    same(three.do("capture", hold=three.do("authorize", amount=1)["hold"], amount=1)["balance"], three.account.cents - 2, "balance")


@amounts.check("30 where a deposit would take the own balance past 10^15; to 10^15 itself it is served")
def _(b):
    c = b.session(RICH)
    code(c.call("deposit", amount=101, key=key()), 30)
    same(c.do("deposit", amount=100)["balance"], MAX_BALANCE, "balance")
    code(c.call("deposit", amount=1, key=key()), 30)
    c.do("withdraw", amount=1)
    c.do("deposit", amount=1)


@amounts.check("34 where the counterparty cannot take the amount (past 10^15); nothing moves")
def _(b):
    c = b.session()
    rich = b.connect()
    have = code(rich.login(RICH))["balance"]
    code(c.call("transfer", to=RICH.name, amount=MAX_BALANCE - have + 1, key=key()), 34)
    same(c.do("balance")["balance"], c.account.cents, "balance")
    same(rich.do("balance")["balance"], have, "the other's balance")


# ---------------------------------------------------------------- funds and refusals

funds = group("funds")


@funds.check("31: one cent more than available, for withdraw, transfer and authorize; nothing moves; all of it is served")
def _(b):
    c, other = b.session(), b.fresh()
    over = c.account.cents + 1
    for op, fields in (("withdraw", {}), ("transfer", {"to": other.name}), ("authorize", {})):
        code(c.call(op, amount=over, key=key(), **fields), 31)
    same(c.do("balance")["available"], c.account.cents, "available")
    same(c.do("withdraw", amount=over - 1)["balance"], 0, "balance")
    code(c.call("withdraw", amount=1, key=key()), 31)


@funds.check("available is the balance less open holds, and bounds withdraw, transfer and authorize")
def _(b):
    c, other = b.session(), b.fresh()
    c.do("authorize", amount=60_000)
    answer = c.do("authorize", amount=30_000)
    same((answer["balance"], answer["available"]), (100_000, 10_000), "balance, available")
    for op, fields in (("withdraw", {}), ("transfer", {"to": other.name}), ("authorize", {})):
        code(c.call(op, amount=10_001, key=key(), **fields), 31)
    answer = c.do("withdraw", amount=10_000)
    same((answer["balance"], answer["available"]), (90_000, 0), "balance, available")


@funds.check("30 comes before 31 and 34: the lowest code")
def _(b):
    c = b.session()
    code(c.call("withdraw", amount=MAX_AMOUNT + 1, key=key()), 30)
    code(c.call("transfer", to="zz-99999", amount=0, key=key()), 30)
    code(c.call("transfer", to=c.account.name, amount=0, key=key()), 30)


@funds.check("31 comes before 34: more than there is, to nobody, is 31")
def _(b):
    code(b.session().call("transfer", to="zz-99999", amount=10**11, key=key()), 31)


@funds.check("34: an unknown counterparty, the same account (in capitals too), a closed one; nothing moves")
def _(b):
    c, closed = b.session(), b.empty()
    b.operator("account", "close", closed.name)
    for to in ("zz-99999", c.account.name, c.account.name.upper(), closed.name):
        code(c.call("transfer", to=to, amount=1, key=key()), 34)
    same(c.do("balance")["balance"], c.account.cents, "balance")
    same(len(c.history()), 1, "entries")


@funds.check("after five of 34 in a session each further transfer is 40, a good one too; other ops are served; the next session transfers again")
def _(b):
    c, other = b.session(), b.fresh()
    for n in range(5):
        code(c.call("transfer", to=f"zz-9999{n}", amount=1, key=key()), 34)
        code(c.call("balance"))
    for to in (other.name, "zz-99999", other.name):
        code(c.call("transfer", to=to, amount=1, key=key()), 40)
    c.do("deposit", amount=1)
    c.do("logout")
    code(c.login(c.account))
    c.do("transfer", to=other.name, amount=1)


@funds.check("four of 34, a good transfer, one more of 34: then 40 (the five need not be in a row)")
def _(b):
    c, other = b.session(), b.fresh()
    for _ in range(4):
        code(c.call("transfer", to="zz-99999", amount=1, key=key()), 34)
    c.do("transfer", to=other.name, amount=1)
    code(c.call("transfer", to="zz-99999", amount=1, key=key()), 34)
    code(c.call("transfer", to=other.name, amount=1, key=key()), 40)


@funds.check("a transfer reaches an account whose customer is logged in, and one that the operator locked or wrong tries locked")
def _(b):
    c, logged_in, locked, tried = b.session(), b.session(), b.fresh(), b.fresh()
    b.operator("account", "lock", locked.name)
    b.wrong(tried, 3)
    for account in (logged_in.account, locked, tried):
        c.do("transfer", to=account.name, amount=5)
    same(logged_in.do("balance")["balance"], 100_005, "balance")


@funds.check("an account with money cannot be closed; emptied it can, and then answers 20")
def _(b):
    c = b.session()
    done = b.try_operator("account", "close", c.account.name)
    holds_true(done.returncode != 0, "a refusal to close", done.returncode)
    c.do("withdraw", amount=c.account.cents)
    c.do("logout")
    b.operator("account", "close", c.account.name)
    code(c.login(c.account), 20)


# ---------------------------------------------------------------- another currency

currency = group("another currency")
EURO = Account("eu-00001", "5926", 5_000)


@currency.check("34 for a counterparty in another currency, in both directions")
def _(b):
    b.stop()
    b.write_config(accounts={"currency": "EUR"})
    try:
        b.import_accounts([EURO])
    except AssertionError as why:
        raise Skip(f"no second currency in one store: {str(why)[-160:]}") from None
    finally:
        b.write_config()
        b.start()
    euro = b.connect()
    if code(euro.login(EURO))["currency"] != "EUR":
        raise Skip("the account imported under another currency has the first one")
    dollar = b.session()
    code(dollar.call("transfer", to=EURO.name, amount=1, key=key()), 34)
    code(euro.call("transfer", to=dollar.account.name, amount=1, key=key()), 34)


# ---------------------------------------------------------------- limits

limits = group("limits")
limits.config["accounts"] = {"withdrawal_limit": 10_000, "daily_withdrawal_limit": 15_000}


def over(answer, limit, remaining=None):
    """32 with the limit that refused, and what remains of it."""
    same(code(answer, 32).get("limit"), limit, "limit")
    if remaining is not None:
        same(answer.get("remaining"), remaining, "remaining")


for op in ("withdraw", "authorize"):

    @limits.check(f"{op}: over the limit of a single withdrawal is 32 with that limit; at the limit it is served; then the day's, with what remains")
    def _(b, op=op):
        c = b.session()
        over(c.call(op, amount=10_001, key=key()), 10_000)
        c.do(op, amount=10_000)
        over(c.call(op, amount=5_001, key=key()), 15_000, 5_000)
        c.do(op, amount=5_000)
        over(c.call(op, amount=1, key=key()), 15_000, 0)


@limits.check("over both, the limit of a single withdrawal is the one that refuses")
def _(b):
    c = b.session()
    c.do("withdraw", amount=9_000)
    over(c.call("withdraw", amount=10_001, key=key()), 10_000)
    over(c.call("authorize", amount=10_001, key=key()), 10_000)


@limits.check("31 comes before 32: over funds and over a limit is 31; 30 before both")
def _(b):
    c = b.session()
    code(c.call("withdraw", amount=c.account.cents + 1, key=key()), 31)
    code(c.call("withdraw", amount=0, key=key()), 30)


@limits.check("open holds count for the day, with their amount")
def _(b):
    c = b.session()
    c.do("authorize", amount=8_000)
    over(c.call("withdraw", amount=7_001, key=key()), 15_000, 7_000)
    over(c.call("authorize", amount=7_001, key=key()), 15_000, 7_000)


@limits.check("a captured hold counts with what was captured: the rest is free again")
def _(b):
    c = b.session()
    c.do("capture", hold=c.do("authorize", amount=10_000)["hold"], amount=4_000)
    c.do("withdraw", amount=10_000)
    over(c.call("withdraw", amount=1_001, key=key()), 15_000, 1_000)


@limits.check("a released hold counts nothing")
def _(b):
    c = b.session()
    c.do("release", hold=c.do("authorize", amount=10_000)["hold"])
    c.do("withdraw", amount=10_000)
    over(c.call("withdraw", amount=5_001, key=key()), 15_000, 5_000)


@limits.check("transfers and deposits count nothing and have no such limit")
def _(b):
    c, other = b.session(), b.fresh()
    c.do("transfer", to=other.name, amount=50_000)
    c.do("deposit", amount=40_000)
    c.do("withdraw", amount=10_000)
    over(c.call("withdraw", amount=5_001, key=key()), 15_000, 5_000)


@limits.check("a replayed withdrawal and a refused one count nothing")
def _(b):
    c, k = b.session(), key()
    c.do("withdraw", amount=9_000, key=k)
    for _ in range(3):
        same(c.do("withdraw", amount=9_000, key=k)["replayed"], True, "replayed")
        over(c.call("withdraw", amount=6_001, key=key()), 15_000, 6_000)
    c.do("withdraw", amount=6_000)


@limits.check("a capture is not refused for limits, where others used up the day meanwhile")
def _(b):
    c = b.session()
    hold = c.do("authorize", amount=10_000)["hold"]
    c.do("withdraw", amount=5_000)
    over(c.call("withdraw", amount=1, key=key()), 15_000, 0)
    c.do("capture", hold=hold, amount=10_000)


@limits.check("the day's limit holds over log-out, terminals and a restart of the server")
def _(b):
    c = b.session()
    c.do("withdraw", amount=10_000)
    c.do("logout")
    over(b.session(c.account, "terminal-2").call("withdraw", amount=5_001, key=key()), 15_000, 5_000)
    b.restart()
    over(b.session(c.account).call("withdraw", amount=5_001, key=key()), 15_000, 5_000)


# ---------------------------------------------------------------- keys

keys = group("keys")


def replay_of(first, again):
    """The first answer again, with replayed true (ids apart)."""
    holds_true("replayed" not in first, "no `replayed` in the first answer", first)
    wanted = {**first, "id": again["id"], "replayed": True}
    same(again, wanted, "replay")


KEYED = {"deposit": {}, "withdraw": {}, "transfer": {"to": None}}


def fields_of(b, op):
    return {"to": b.fresh().name} if op == "transfer" else {}


for op in KEYED:

    @keys.check(f"{op}: the same key with the same request gives the first answer again, replayed true, and moves no money")
    def _(b, op=op):
        c, k, fields = b.session(), key(), fields_of(b, op)
        first = c.do(op, amount=300, key=k, **fields)
        for _ in range(3):
            replay_of(first, c.do(op, amount=300, key=k, **fields))
        same(c.do("balance")["balance"], first["balance"], "balance")
        same(len(c.history()), 2, "entries")

    @keys.check(f"{op}: a replay gives the balances of the first answer, not those of now")
    def _(b, op=op):
        c, k, fields = b.session(), key(), fields_of(b, op)
        first = c.do(op, amount=300, key=k, **fields)
        c.do("deposit", amount=5_000)
        c.do("authorize", amount=70)
        replay_of(first, c.do(op, amount=300, key=k, **fields))

    @keys.check(f"{op}: the replay is the same on another connection, at another terminal, and after a restart")
    def _(b, op=op):
        c, k, fields = b.session(), key(), fields_of(b, op)
        first = c.do(op, amount=300, key=k, **fields)
        c.drop()
        holds_true(b.can_log_in(c.account), "the account free", "in use")
        d = b.session(c.account, "terminal-2")
        replay_of(first, d.do(op, amount=300, key=k, **fields))
        same(b.restart(), 0, "exit code")
        replay_of(first, b.session(c.account).do(op, amount=300, key=k, **fields))


@keys.check("33: the same key with another amount, another counterparty or another op; nothing moves")
def _(b):
    c, k, one, two = b.session(), key(), b.fresh(), b.fresh()
    first = c.do("transfer", to=one.name, amount=300, key=k)
    for op, fields in (
        ("transfer", {"to": one.name, "amount": 301}),
        ("transfer", {"to": two.name, "amount": 300}),
        ("deposit", {"amount": 300}),
        ("withdraw", {"amount": 300}),
        ("authorize", {"amount": 300}),
    ):
        code(c.call(op, key=k, **fields), 33)
    replay_of(first, c.do("transfer", to=one.name, amount=300, key=k))
    same(c.do("balance")["balance"], first["balance"], "balance")


@keys.check("a used key comes before the lowest code: another request under it is 33, though its amount, funds or counterparty would be refused")
def _(b):
    c, k = b.session(), key()
    c.do("deposit", amount=300, key=k)
    code(c.call("deposit", amount=0, key=k), 33)
    code(c.call("withdraw", amount=10**11, key=k), 33)
    code(c.call("transfer", to="zz-99999", amount=300, key=k), 33)


@keys.check("a used key comes before the lowest code: a replay is served though it would be refused for funds now")
def _(b):
    c, k = b.session(), key()
    first = c.do("withdraw", amount=c.account.cents, key=k)
    replay_of(first, c.do("withdraw", amount=c.account.cents, key=k))


@keys.check("a replay is served though its counterparty was closed since")
def _(b):
    c, k, other = b.session(), key(), b.empty()
    first = c.do("transfer", to=other.name, amount=300, key=k)
    d = b.session(other)
    d.do("withdraw", amount=300)
    d.do("logout")
    b.operator("account", "close", other.name)
    replay_of(first, c.do("transfer", to=other.name, amount=300, key=k))


@keys.check("10 and 23 come before a used key")
def _(b):
    c, k = b.session(), key()
    c.do("deposit", amount=300, key=k)
    code(c.call("deposit", amount="300", key=k), 10)
    c.do("logout")
    code(c.call("deposit", amount=300, key=k), 23)


@keys.check("a refused request leaves its key free: 30, 31, 34, then the same key is served")
def _(b):
    c, k, other = b.session(), key(), b.fresh()
    code(c.call("withdraw", amount=0, key=k), 30)
    code(c.call("withdraw", amount=10**11, key=k), 31)
    code(c.call("transfer", to="zz-99999", amount=1, key=k), 34)
    code(c.call("capture", hold="none", amount=1, key=k), 35)
    first = c.do("transfer", to=other.name, amount=1, key=k)
    holds_true("replayed" not in first, "a first answer", first)


@keys.check("the same refused request is looked at anew: 31, money comes, then it is served")
def _(b):
    c, k = b.session(), key()
    code(c.call("withdraw", amount=c.account.cents + 5, key=k), 31)
    c.do("deposit", amount=5)
    same(c.do("withdraw", amount=c.account.cents + 5, key=k)["balance"], 0, "balance")


@keys.check("the same key on another account is another key")
def _(b):
    k, one, two = key(), b.session(), b.session()
    for n, c in enumerate((one, two)):
        answer = c.do("deposit", amount=300 + n, key=k)
        holds_true("replayed" not in answer, "a first answer", answer)
    same(two.do("balance")["balance"], two.account.cents + 301, "balance")


@keys.check("another id, another order of the members and other white space are the same request")
def _(b):
    c, k = b.session(), key()
    first = code(c.raw({"id": 101, "op": "deposit", "amount": 300, "key": k}))
    replay_of(first, code(c.raw(f' {{ "key" : "{k}",\n"amount":300, "op":"deposit", "id":102 }} '.encode())))
    same(c.do("balance")["balance"], c.account.cents + 300, "balance")


@keys.check("the same key twice in one write: done once, then replayed")
def _(b):
    c, k = b.session(), key()
    c.send_bytes(b"".join(frame({"id": n, "op": "withdraw", "amount": 300, "key": k}) for n in (1, 2, 3)))
    first, *rest = [code(c.recv()) for _ in range(3)]
    for again in rest:
        replay_of(first, again)
    same(c.do("balance")["balance"], c.account.cents - 300, "balance")
