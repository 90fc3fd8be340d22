"""What is inside a frame: JSON, members, their forms, and what each op answers."""

import datetime
import json
import re
import time

from .harness import Mismatch, code, frame, group, holds_true, key, members, pong, same, whole

# ---------------------------------------------------------------- malformed messages

text = group("messages")

NULL, ECHO, EITHER = "null", "echo", "either"  # the id of the refusal, where the sent one is 7


def refused_10(c, payload, id_rule=EITHER, codes=10):
    """Refused as malformed; the connection stays open and in step."""
    answer = code(c.raw(payload), codes)
    allowed = {NULL: (None,), ECHO: (7,), EITHER: (None, 7)}[id_rule]
    holds_true(answer["id"] in allowed, f"an id of {' or '.join(map(str, allowed))}", answer)
    pong(c.raw({"id": 8, "op": "ping"}), 8)


NOT_JSON = {
    "a byte-order mark": (b'\xef\xbb\xbf{"id":7,"op":"ping"}', EITHER),
    "UTF-16": ('{"id":7,"op":"ping"}'.encode("utf-16-le"), NULL),
    "only white space": (b"   ", NULL),
    "a zero byte": (b"\0", NULL),
    "no JSON at all": (b"ping", NULL),
    "an object that is not ended": (b'{"id":7,"op":"ping"', EITHER),
    "an empty object": (b"{}", NULL),
    "an array at the top": (b'[{"id":7,"op":"ping"}]', NULL),
    "an empty array at the top": (b"[]", NULL),
    "a string at the top": (b'"ping"', NULL),
    "a number at the top": (b"7", NULL),
    "null at the top": (b"null", NULL),
    "true at the top": (b"true", NULL),
    "trailing garbage": (b'{"id":7,"op":"ping"}x', EITHER),
    "two objects in one frame": (b'{"id":7,"op":"ping"}{"id":9,"op":"ping"}', EITHER),
    "a zero byte after the object": (b'{"id":7,"op":"ping"}\0', EITHER),
    "a trailing comma": (b'{"id":7,"op":"ping",}', EITHER),
    "a comment": (b'{"id":7,/* */"op":"ping"}', EITHER),
    "single quotes": (b"{'id':7,'op':'ping'}", EITHER),
    "a member name without quotes": (b'{id:7,"op":"ping"}', EITHER),
    "invalid UTF-8 in a string": (b'{"id":7,"op":"ping\xff"}', EITHER),
    "an overlong UTF-8 form": (b'{"id":7,"op":"\xc0\xb0ping"}', EITHER),
    "an encoded surrogate (CESU)": (b'{"id":7,"op":"\xed\xa0\x80"}', EITHER),
    "invalid UTF-8 in white space": (b'{"id":7,"op":"ping"}\xa0', EITHER),
    "a no-break space between members": ('{"id":7,\u00a0"op":"ping"}'.encode(), EITHER),
    "a form feed between members": (b'{"id":7,\x0c"op":"ping"}', EITHER),
    "a raw line feed in a string": (b'{"id":7,"op":"pi\nng"}', EITHER),
    "an unknown escape": (b'{"id":7,"op":"\\ping"}', EITHER),
    "a short \\u escape": (b'{"id":7,"op":"\\u007"}', EITHER),
    "NaN": (b'{"id":NaN,"op":"ping"}', NULL),
    "a depth of 5": (b'{"id":7,"op":"ping","x":[[[[1]]]]}', EITHER),
    "a depth of 2,000": (b'{"id":7,"op":"ping","x":' + b"[" * 2000 + b"]" * 2000 + b"}", EITHER),
    "4,000 brackets that are not closed": (b"[" * 4000, NULL),
    "the id twice": (b'{"id":7,"id":7,"op":"ping"}', EITHER),
    "the op twice": (b'{"id":7,"op":"ping","op":"ping"}', EITHER),
    "a member twice, once by escapes": (b'{"id":7,"\\u006fp":"ping","op":"ping"}', EITHER),
    "an unknown member twice": (b'{"id":7,"op":"ping","x":1,"x":1}', EITHER),
    "an unknown member": (b'{"id":7,"op":"ping","x":1}', ECHO),
    "a member name in capitals": (b'{"id":7,"Op":"ping"}', EITHER),
    "a member name that is a lone surrogate": (b'{"id":7,"op":"ping","\\ud800":1}', EITHER),
    "an empty member name": (b'{"id":7,"op":"ping","":1}', ECHO),
    "no op": (b'{"id":7}', ECHO),
    "no id": (b'{"op":"ping"}', NULL),
    "an op that is null": (b'{"id":7,"op":null}', ECHO),
    "an op that is a number": (b'{"id":7,"op":1}', ECHO),
    "an op that is an array": (b'{"id":7,"op":["ping"]}', ECHO),
    "an id of null": (b'{"id":null,"op":"ping"}', NULL),
    "an id that is a string": (b'{"id":"7","op":"ping"}', NULL),
    "an id that is true": (b'{"id":true,"op":"ping"}', NULL),
    "an id of -1": (b'{"id":-1,"op":"ping"}', NULL),
    "an id of 2^53": (b'{"id":9007199254740992,"op":"ping"}', NULL),
    "an id of 2^64+7": (b'{"id":18446744073709551623,"op":"ping"}', NULL),
    "an id of 300 digits": (b'{"id":' + b"9" * 300 + b',"op":"ping"}', NULL),
    "an id of 7.0": (b'{"id":7.0,"op":"ping"}', NULL),
    "an id of 7e0": (b'{"id":7e0,"op":"ping"}', NULL),
    "an id of 7E0": (b'{"id":7E0,"op":"ping"}', NULL),
    "an id of 07": (b'{"id":07,"op":"ping"}', EITHER),
    "an id of +7": (b'{"id":+7,"op":"ping"}', EITHER),
    "an id of 0x7": (b'{"id":0x7,"op":"ping"}', EITHER),
}
for title, (payload, rule) in NOT_JSON.items():

    @text.check(f"{title}: malformed (10), with {'a null id' if rule == NULL else 'its id' if rule == ECHO else 'its id or null'}, and the connection stays open")
    def _(b, payload=payload, rule=rule):
        refused_10(b.connect(), payload, rule)


FINE = {
    "white space around the object and within": b' \t\r\n{ "id" : 7 ,\n"op"\t:\r"ping" } \r\n',
    "an id of 0": b'{"id":0,"op":"ping"}',
    "an id of 2^53-1": b'{"id":9007199254740991,"op":"ping"}',
    "an id used before": b'{"id":1,"op":"ping"}',
    "the op before the id": b'{"op":"ping","id":7}',
    "member names in escapes": b'{"\\u0069d":7,"o\\u0070":"ping"}',
    "an op in escapes": b'{"id":7,"op":"\\u0070in\\u0067"}',
}
for title, payload in FINE.items():

    @text.check(f"{title}: served, and the id echoed")
    def _(b, payload=payload):
        pong(b.connect().raw(payload), json.loads(payload)["id"])


@text.check("an unknown op is answered with 12 and its id, and the connection stays open")
def _(b):
    c = b.connect()
    for op in ("nonsense", "PING", "ping ", ""):
        answer = code(c.raw({"id": 7, "op": op}), 12)
        same(answer["id"], 7, "id")
        same(c.raw({"id": 8, "op": "ping"})["code"], 0, "code of a ping afterwards")


@text.check("an unknown op after login is 12 as well")
def _(b):
    c = b.session()
    code(c.call("nonsense"), 12)
    code(c.call("balance"))


@text.check("three of 10 in a row: each answered, then the connection closed with close_notify")
def _(b):
    c = b.connect()
    for _ in range(3):
        code(c.raw(b"{}"), 10)
    c.expect_close()


@text.check("10, 12, 10 in a row close the connection as well, and so do three of 12")
def _(b):
    for kinds in ((10, 12, 10), (12, 12, 12)):
        c = b.connect()
        for kind in kinds:
            code(c.raw(b"{}" if kind == 10 else {"id": 1, "op": "nonsense"}), kind)
        c.expect_close()


@text.check("two malformed, one good, two malformed: the connection stays open")
def _(b):
    c = b.connect()
    for _ in range(3):
        code(c.raw(b"{}"), 10)
        code(c.raw({"id": 1, "op": "nonsense"}), 12)
        code(c.call("ping"))


@text.check("three malformed in a row after login close the connection and free the account")
def _(b):
    c = b.session()
    for _ in range(3):
        code(c.raw(b"[]"), 10)
    c.expect_close()
    holds_true(b.can_log_in(c.account), "the account free", "in use")


@text.check("three malformed pipelined with a good request after them: that one is not served")
def _(b):
    c = b.session()
    k = key()
    c.send_bytes(frame(b"{}") * 3 + frame(c.make("deposit", amount=5, key=k)))
    for _ in range(3):
        code(c.recv(), 10)
    c.expect_close(clean=False)
    same(b.session(c.account).do("balance")["balance"], c.account.cents, "balance")


# ---------------------------------------------------------------- members of each op

forms = group("members")

GOOD = {  # a request of each op that is well formed
    "ping": {},
    "login": {"account": "zz-99999", "pin": "1234"},
    "balance": {},
    "deposit": {"amount": 1, "key": "k" * 16},
    "withdraw": {"amount": 1, "key": "k" * 16},
    "transfer": {"to": "zz-99999", "amount": 1, "key": "k" * 16},
    "authorize": {"amount": 1, "key": "k" * 16},
    "capture": {"hold": "none", "amount": 1, "key": "k" * 16},
    "release": {"hold": "none", "key": "k" * 16},
    "history": {"limit": 1, "before": 5},
    "change_pin": {"pin": "1234", "new_pin": "830517"},
    "logout": {},
}
OPTIONAL = {("history", "limit"), ("history", "before")}


def malformed(c, op, **fields):
    answer = code(c.call(op, **fields), 10)
    code(c.call("ping"))
    return answer


def in_each_state(b, op, *requests):
    """Malformed whether logged in or not (what is wrong with the message comes before 23 and 24)."""
    for c in (b.connect(), b.session()):
        for fields in requests:
            malformed(c, op, **fields)


for op, fields in GOOD.items():

    @forms.check(f"{op}: an unknown member is malformed, logged in or not")
    def _(b, op=op, fields=fields):
        in_each_state(b, op, {**fields, "extra": 1}, {**fields, "currency": "USD"})

    for name in fields:
        if (op, name) not in OPTIONAL:

            @forms.check(f"{op}: a missing `{name}` is malformed, logged in or not")
            def _(b, op=op, fields=fields, name=name):
                in_each_state(b, op, {k: v for k, v in fields.items() if k != name})

        @forms.check(f"{op}: a `{name}` of a wrong type is malformed (null, true, array, object, {'string' if whole(fields[name]) else 'number'})")
        def _(b, op=op, fields=fields, name=name):
            other = str(fields[name]) if whole(fields[name]) else 12345678
            in_each_state(b, op, *({**fields, name: v} for v in (None, True, [fields[name]], {}, other)))


BAD_ACCOUNTS = ["", "zz", "z-99999", "zzz-99999", "zz99999", "zz-9999", "zz-999999", "z9-99999", "zz-9999a", " zz-99999", "zz-99999 ", "zz-99999\n", "zz-99999\0", "zz_99999", "\u017fz-99999", "\u212az-99999", "zz-9999\u0665", "zz\u201199999", "zz-\uff11\uff12\uff13\uff14\uff15", "\u00e9z-99999"]
BAD_PINS = ["", "1", "123", "1" * 13, "1234567890123", "12a4", "1234 ", " 1234", "12.4", "-1234", "+1234", "1234\n", "1234\0", "\u0661\u0662\u0663\u0664", "\uff11\uff12\uff13\uff14"]
BAD_KEYS = ["", "k", "k" * 15, "k" * 65, "k" * 15 + "_", "k" * 15 + " ", "k" * 16 + "\n", "k" * 15 + "é", "k" * 15 + "\u212a", "k" * 15 + ".", "{" + "k" * 20 + "}"]
BAD_HOLDS = ["", "h" * 65, "h_1", "h 1", "h\n", "hé", "h.1", "h/1"]


@forms.check("login: an account outside 2ALPHA - 5DIGIT (ASCII) is malformed")
def _(b):
    c = b.connect()
    for account in BAD_ACCOUNTS:
        malformed(c, "login", account=account, pin="1234")


@forms.check("login: a pin outside 4 to 12 ASCII digits is malformed")
def _(b):
    c = b.connect()
    for pin in BAD_PINS:
        malformed(c, "login", account="zz-99999", pin=pin)


@forms.check("login: a lone surrogate escape in a string is malformed")
def _(b):
    c = b.connect()
    for member in (b'"account":"\\ud800z-99999","pin":"1234"', b'"account":"zz-99999","pin":"123\\udc00"'):
        code(c.raw(b'{"id":7,"op":"login",' + member + b"}"), 10)
        code(c.call("ping"))


@forms.check("login: strings in escapes are read as what they stand for")
def _(b):
    me, c = b.fresh(), b.connect()
    escaped = "".join(f"\\u{ord(ch):04X}" for ch in me.name)
    pin = "".join(f"\\u{ord(ch):04x}" for ch in me.pin)
    code(c.raw(f'{{"id":7,"op":"\\u006cogin","account":"{escaped}","pin":"{pin}"}}'.encode()))


@forms.check("a refused form is no try: ten malformed logins leave the account's tries as they were")
def _(b):
    me, c = b.fresh(), b.connect()
    for _ in range(10):
        malformed(c, "login", account=me.name, pin="12")
    code(c.login(me))


@forms.check("transfer: a `to` outside 2ALPHA - 5DIGIT is malformed")
def _(b):
    c = b.session()
    for to in BAD_ACCOUNTS:
        malformed(c, "transfer", to=to, amount=1, key=key())


@forms.check("change_pin: a `pin` or `new_pin` outside 4 to 12 ASCII digits is malformed")
def _(b):
    c = b.session()
    for pin in BAD_PINS:
        malformed(c, "change_pin", pin=pin, new_pin="830517")
        malformed(c, "change_pin", pin=c.account.pin, new_pin=pin)


for op in ("deposit", "withdraw", "transfer", "authorize", "capture", "release"):

    @forms.check(f"{op}: a `key` outside 16 to 64 of A-Z a-z 0-9 - is malformed")
    def _(b, op=op):
        c = b.session()
        for bad in BAD_KEYS:
            malformed(c, op, **{**GOOD[op], "key": bad})


@forms.check("keys of 16 and of 64 characters, with capitals and hyphens, are served")
def _(b):
    c = b.session()
    for good in ("K" * 16, "-" * 16, "0" * 64, "aZ09-" * 12 + "aZ0-"):
        code(c.call("deposit", amount=1, key=good))


@forms.check("keys that differ only in the case of letters are two keys")
def _(b):
    c = b.session()
    first = c.do("deposit", amount=1, key="k" * 16)
    second = c.do("deposit", amount=1, key="K" * 16)
    holds_true(second["entry"] != first["entry"] and "replayed" not in second, "two entries", second)


for op in ("capture", "release"):

    @forms.check(f"{op}: a `hold` outside 1 to 64 of A-Z a-z 0-9 - is malformed; within it, and unknown, 35")
    def _(b, op=op):
        c = b.session()
        for bad in BAD_HOLDS:
            malformed(c, op, **{**GOOD[op], "hold": bad})
        for unknown in ("h", "-", "H" * 64):
            code(c.call(op, **{**GOOD[op], "hold": unknown}), 35)


BAD_NUMBERS = ["1.0", "1.5", "1e3", "1E0", "1e-1", "0.0", "01", "+1", "1.", ".5", "1_000", "0x1", "Infinity", "9223372036854775808", "-9223372036854775809", "18446744073709551617", "9" * 400]

for op in ("deposit", "withdraw", "transfer", "authorize", "capture"):

    @forms.check(f"{op}: an `amount` with fraction or exponent, beyond 64 bits signed, or no JSON number is malformed")
    def _(b, op=op):
        c = b.session()
        rest = json.dumps({k: v for k, v in GOOD[op].items() if k != "amount"})[1:-1]
        for number in BAD_NUMBERS:
            answer = c.raw(f'{{"id":7,"op":"{op}",{rest},"amount":{number}}}'.encode())
            if answer["code"] != 10:
                raise Mismatch(f"amount {number[:30]}: expected code 10, got {answer!r}")
            code(c.call("ping"))


@forms.check("history: a `limit` out of 1 to 100, or with fraction or exponent, is malformed")
def _(b):
    c = b.session()
    for number in ("0", "101", "-1", "1.0", "1e1", "9223372036854775808", "4294967297"):
        code(c.raw(f'{{"id":7,"op":"history","limit":{number}}}'.encode()), 10)
        code(c.call("ping"))


@forms.check("history: a `before` that is negative, beyond 64 bits, or with fraction or exponent is malformed")
def _(b):
    c = b.session()
    for number in ("-1", "1.0", "1e1", "18446744073709551617"):
        code(c.raw(f'{{"id":7,"op":"history","before":{number}}}'.encode()), 10)
        code(c.call("ping"))


for op, fields in GOOD.items():
    if op not in ("ping", "login", "capture", "release"):

        @forms.check(f"{op} without a login is answered with 23, and the connection stays open")
        def _(b, op=op, fields=fields):
            c = b.connect()
            code(c.call(op, **fields), 23)
            code(c.call("ping"))


@forms.check("23 comes before 30: an amount of 0 without a login is 23")
def _(b):
    c = b.connect()
    for op in ("deposit", "withdraw", "transfer", "authorize"):
        code(c.call(op, **{**GOOD[op], "amount": 0}), 23)


@forms.check("login while logged in is 24, also with a wrong PIN or an unknown account, and the session goes on")
def _(b):
    c = b.session()
    code(c.login(c.account), 24)
    code(c.call("login", account=c.account.name, pin="0009"), 24)
    code(c.call("login", account="zz-99999", pin="0009"), 24)
    code(c.call("balance"))


@forms.check("10 comes before 24: a malformed login while logged in is 10")
def _(b):
    malformed(b.session(), "login", account="zz-99999", pin="12")


# ---------------------------------------------------------------- answers, op by op

answers = group("answers", server={"idle_timeout_ms": 61_000, "session_timeout_ms": 901_000})


def exactly(answer, must, may=None):
    """The members of a done request: id, code and those named, of the right types."""
    wrong = members({k: v for k, v in code(answer).items() if k not in ("id", "code")}, must, may or {}, "the answer")
    if wrong:
        raise Mismatch("; ".join(wrong))
    return answer


MONEY = {"balance": int, "available": int}
ENTRY = {"entry": int, **MONEY}


def now_told(answer):
    """`time`: RFC 3339, UTC, milliseconds, and the clock of this machine, on which the bank runs."""
    told = answer["time"]
    holds_true(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", told), "a time in its form", told)
    moment = datetime.datetime.fromisoformat(told).timestamp()
    holds_true(abs(moment - time.time()) < 30, "the present time", told)


@answers.check("ping: exactly id, code and time")
def _(b):
    now_told(exactly(b.connect().call("ping"), {"time": str}))
    now_told(exactly(b.session().call("ping"), {"time": str}))


@answers.check("login: session (idle_timeout_ms, max_timeout_ms as configured), balance, available, currency, time; no must_change_pin where none is due")
def _(b):
    c = b.connect()
    answer = exactly(c.login(), {"session": dict, "currency": str, "time": str, **MONEY})
    now_told(answer)
    same(answer["session"], {"idle_timeout_ms": 61_000, "max_timeout_ms": 901_000}, "session")
    same((answer["balance"], answer["available"], answer["currency"]), (100_000, 100_000, "USD"), "balance, available, currency")


@answers.check("balance: balance, available, currency")
def _(b):
    answer = exactly(b.session().call("balance"), {"currency": str, **MONEY})
    same((answer["balance"], answer["available"], answer["currency"]), (100_000, 100_000, "USD"), "balance, available, currency")


@answers.check("deposit: entry (a positive integer), balance, available, after it")
def _(b):
    answer = exactly(b.session().call("deposit", amount=250, key=key()), ENTRY)
    same((answer["balance"], answer["available"]), (100_250, 100_250), "balance, available")
    holds_true(answer["entry"] >= 1, "a positive entry", answer)


@answers.check("withdraw: entry, balance, available, after it")
def _(b):
    answer = exactly(b.session().call("withdraw", amount=250, key=key()), ENTRY)
    same((answer["balance"], answer["available"]), (99_750, 99_750), "balance, available")


@answers.check("transfer: entry, balance, available, after it; the counterparty has the money at once")
def _(b):
    c, other = b.session(), b.session()
    answer = exactly(c.call("transfer", to=other.account.name, amount=250, key=key()), ENTRY)
    same((answer["balance"], answer["available"]), (99_750, 99_750), "balance, available")
    same(other.do("balance")["balance"], 100_250, "the other's balance")


@answers.check("authorize: hold (1 to 64 of A-Z a-z 0-9 -), expires_in_ms, the same balance, less available")
def _(b):
    answer = exactly(b.session().call("authorize", amount=250, key=key()), {"hold": str, "expires_in_ms": int, **MONEY})
    same((answer["balance"], answer["available"]), (100_000, 99_750), "balance, available")
    holds_true(re.fullmatch("[A-Za-z0-9-]{1,64}", answer["hold"]), "a hold in its form", answer["hold"])
    holds_true(110_000 < answer["expires_in_ms"] <= 120_000, "expires_in_ms of about 120,000, the default", answer["expires_in_ms"])


@answers.check("capture, logged in to the hold's account: entry, balance, available, and no late in time")
def _(b):
    c = b.session()
    hold = c.do("authorize", amount=250)["hold"]
    answer = exactly(c.call("capture", hold=hold, amount=250, key=key()), ENTRY)
    same((answer["balance"], answer["available"]), (99_750, 99_750), "balance, available")


@answers.check("release, logged in to the hold's account: balance, available")
def _(b):
    c = b.session()
    hold = c.do("authorize", amount=250)["hold"]
    answer = exactly(c.call("release", hold=hold, key=key()), MONEY)
    same((answer["balance"], answer["available"]), (100_000, 100_000), "balance, available")


@answers.check("history: entries, and nothing else")
def _(b):
    exactly(b.session().call("history"), {"entries": list})


@answers.check("change_pin: exactly id and code")
def _(b):
    c = b.session()
    exactly(c.call("change_pin", pin=c.account.pin, new_pin="830517"), {})


@answers.check("logout: exactly id and code; the connection stays open for another login")
def _(b):
    c = b.session()
    exactly(c.call("logout"), {})
    code(c.call("balance"), 23)
    code(c.call("logout"), 23)
    code(c.login())
    code(c.call("balance"))


@answers.check("a refusal carries id, code, and at most a message in words that is no internal detail")
def _(b):
    c = b.session()
    for op, fields, number in (
        ("deposit", {"amount": 0, "key": key()}, 30),
        ("withdraw", {"amount": 10**11, "key": key()}, 31),
        ("transfer", {"to": "zz-99999", "amount": 1, "key": key()}, 34),
        ("release", {"hold": "none", "key": key()}, 35),
        ("change_pin", {"pin": c.account.pin, "new_pin": c.account.pin}, 36),
    ):
        answer = code(c.call(op, **fields), number)
        holds_true(set(answer) <= {"id", "code", "message"}, "id, code and at most message", answer)
        hidden = re.search(r"sqlite|panick|\.rs\b|(/\w+){2}|select |insert ", answer.get("message", ""), re.I)
        holds_true(not hidden, "no internal detail", answer)


# ---------------------------------------------------------------- history

past = group("history", terminals=("terminal-1", "t" * 32))


@past.check("a new account has its opening entry, with its balance, and history without members is served")
def _(b):
    entries = b.session().history()
    same([(e["kind"], e["amount"], e["balance"]) for e in entries], [("opening", 100_000, 100_000)], "entries")


@past.check("kinds and signs: deposit, withdrawal, transfer_out, transfer_in, capture as withdrawal; newest first; each balance is the one after it")
def _(b):
    c, other = b.session(), b.session()
    c.do("deposit", amount=500)
    c.do("withdraw", amount=200)
    c.do("transfer", to=other.account.name, amount=100)
    other.do("transfer", to=c.account.name, amount=50)
    c.do("capture", hold=c.do("authorize", amount=40)["hold"], amount=30)
    entries = c.history()
    same(
        [(e["kind"], e["amount"], e["balance"]) for e in entries],
        [("withdrawal", -30, 100_220), ("transfer_in", 50, 100_250), ("transfer_out", -100, 100_200), ("withdrawal", -200, 100_300), ("deposit", 500, 100_500), ("opening", 100_000, 100_000)],
        "entries",
    )  # fmt: skip
    numbers = [e["entry"] for e in entries]
    holds_true(numbers == sorted(set(numbers), reverse=True) and numbers[-1] >= 1, "positive numbers that grow along the account", numbers)


@past.check("the entry's number in an answer is its number in history")
def _(b):
    c, other = b.session(), b.fresh()
    made = [c.do("deposit", amount=5)["entry"], c.do("withdraw", amount=5)["entry"], c.do("transfer", to=other.name, amount=5)["entry"]]
    made.append(c.do("capture", hold=c.do("authorize", amount=5)["hold"], amount=5)["entry"])
    same([e["entry"] for e in c.history(limit=4)], made[::-1], "entries")


@past.check("the counterparty of a transfer is shown in lower case, the terminal by its name")
def _(b):
    c, other = b.session(), b.session(terminal="t" * 32)
    c.do("transfer", to=other.account.name.upper(), amount=5)
    entry = c.history(limit=1)[0]
    same((entry.get("counterparty"), entry.get("terminal")), (other.account.name, "terminal-1"), "counterparty, terminal")
    same(other.history(limit=1)[0].get("counterparty"), c.account.name, "counterparty of the transfer_in")
    other.do("deposit", amount=5)
    entry = other.history(limit=1)[0]
    same(entry.get("terminal"), "t" * 32, "terminal")
    holds_true(not entry.get("counterparty"), "no counterparty in a deposit", entry)


@past.check("holds are no entries: neither authorize nor release shows in history")
def _(b):
    c = b.session()
    c.do("authorize", amount=5)
    c.do("release", hold=c.do("authorize", amount=5)["hold"])
    same([e["kind"] for e in c.history()], ["opening"], "kinds")


@past.check("`at` is RFC 3339 in UTC with milliseconds, now, and never goes back")
def _(b):
    c = b.session()
    c.do("deposit", amount=5)
    stamps = [e["at"] for e in c.history()]
    for stamp in stamps:
        holds_true(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}(Z|\+00:00)", stamp), "YYYY-MM-DDTHH:MM:SS.mmmZ", stamp)
    now = time.strftime("%Y-%m-%dT%H:%M", time.gmtime())
    before = time.strftime("%Y-%m-%dT%H:%M", time.gmtime(time.time() - 60))
    holds_true(stamps[0][:16] in (now, before), f"about {now} UTC", stamps[0])
    same(stamps, sorted(stamps, reverse=True), "stamps, newest first")


@past.check("limit: 10 by default, 1 to 100; before: only older entries, also of a number that does not exist; pages meet without gap")
def _(b):
    c = b.session()
    c.send_bytes(b"".join(frame(c.make("deposit", amount=n, key=key())) for n in range(1, 121)))
    made = [code(c.recv())["entry"] for _ in range(120)]
    newest = made[::-1]
    same([e["entry"] for e in c.history()], newest[:10], "the default page")
    same([e["entry"] for e in c.history(limit=1)], newest[:1], "limit 1")
    hundred = c.history(limit=100)
    same([e["entry"] for e in hundred], newest[:100], "limit 100")
    rest = c.history(limit=100, before=hundred[-1]["entry"])
    same([e["entry"] for e in rest][:-1], newest[100:], "the second page")
    same(rest[-1]["kind"], "opening", "the oldest entry's kind")
    same(c.history(before=rest[-1]["entry"]), [], "entries before the oldest")
    same([e["entry"] for e in c.history(before=newest[0] + 1000)], newest[:10], "entries before a number that does not exist yet")
    same([e["entry"] for e in c.history(before=newest[5], limit=3)], newest[6:9], "before is exclusive")
    everything = hundred + rest
    for newer, older in zip(everything, everything[1:]):
        same(newer["balance"] - newer["amount"], older["balance"], "the balance before an entry")


@past.check("an answer of 100 entries with long names fits a server's frame of 65,536 bytes")
def _(b):
    c, other = b.session(terminal="t" * 32), b.fresh()
    for _ in range(100):
        c.do("transfer", to=other.name, amount=1)
    same(len(c.history(limit=100)), 100, "entries")
    holds_true(len(c.last_payload) <= 65_536, "at most 65,536 bytes", len(c.last_payload))


@past.check("history shows the session's account alone")
def _(b):
    one, two = b.session(), b.session()
    one.do("deposit", amount=77)
    same([e["kind"] for e in two.history()], ["opening"], "kinds of the other account's entries")


@past.check("an operator's adjustment is an entry of kind adjustment")
def _(b):
    c = b.session()
    done = b.try_operator("account", "adjust", c.account.name, "5.00", "--reason", "conformance")
    same(done.returncode, 0, f"exit code of `account adjust` ({done.stderr[-200:].strip()})")
    entry = c.history(limit=1)[0]
    same((entry["kind"], entry["amount"], entry["balance"]), ("adjustment", 500, 100_500), "entry")
