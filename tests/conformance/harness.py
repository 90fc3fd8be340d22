"""What the checks stand on: a bank of their own, a client of the protocol, and the report."""

import concurrent.futures
import contextlib
import json
import os
import re
import select
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import tempfile
import threading
import time
import traceback
import uuid
from dataclasses import dataclass, field

TIMEOUT = 10.0  # seconds that any one socket operation may take
ALPN = "atm/1"
MAX_SERVER_FRAME = 65_536
OWN_ACCORD = {40, 41, 42, 52}  # codes a message with a null id may have of the server's own accord
OPEN_CENTS = 100_000  # what each account of the pool has at the start
GOOD_PINS = ("830517", "59274", "740296", "61853")  # neither a row, a repeat nor a date

# ---------------------------------------------------------------- verdicts


class Mismatch(AssertionError):
    """Something else came than the contract says."""


class Skip(Exception):
    """This check cannot be made here (a tool or a command is missing)."""


class Closed(Exception):
    """The server closed the connection; `clean` where close_notify came first."""

    def __init__(self, clean: bool, why: str):
        super().__init__(why)
        self.clean = clean


def same(got, expected, what="value"):
    if got != expected or isinstance(got, bool) != isinstance(expected, bool):
        raise Mismatch(f"{what}: expected {expected!r}, got {got!r}")
    return got


def holds_true(condition, expected, got):
    if not condition:
        raise Mismatch(f"expected {expected}, got {got!r}")


def code(answer, expected=0):
    """The answer, where its code is `expected` (a number or several)."""
    wanted = expected if isinstance(expected, (set, tuple)) else (expected,)
    if answer.get("code") not in wanted:
        raise Mismatch(f"expected code {' or '.join(map(str, sorted(wanted)))}, got {answer!r}")
    return answer


def whole(value) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def key() -> str:
    return str(uuid.uuid4())


def until(probe, seconds=2.0, step=0.02):
    """The first true result of `probe`, or its last result when the time is over."""
    end = time.monotonic() + seconds
    while True:
        result = probe()
        if result or time.monotonic() > end:
            return result
        time.sleep(step)


def parallel(jobs):
    """Runs all jobs in threads that start together; their results in order."""
    barrier = threading.Barrier(len(jobs))

    def one(job):
        barrier.wait(TIMEOUT)
        return job()

    with concurrent.futures.ThreadPoolExecutor(len(jobs)) as pool:
        return [f.result(60) for f in [pool.submit(one, job) for job in jobs]]


# ---------------------------------------------------------------- shapes of answers

MONEY = {"balance": int, "available": int}
SHAPES = {  # op: (members there must be, members there may be), besides id and code
    "ping": ({"time": str}, {}),
    "login": ({"session": dict, "currency": str, "time": str, **MONEY}, {"must_change_pin": bool}),
    "balance": ({"currency": str, **MONEY}, {}),
    "deposit": ({"entry": int, **MONEY}, {"replayed": bool}),
    "withdraw": ({"entry": int, **MONEY}, {"replayed": bool}),
    "transfer": ({"entry": int, **MONEY}, {"replayed": bool}),
    "authorize": ({"hold": str, "expires_in_ms": int, **MONEY}, {"replayed": bool}),
    "capture": ({"entry": int}, {"late": bool, "replayed": bool, **MONEY}),
    "release": ({}, {"replayed": bool, **MONEY}),
    "history": ({"entries": list}, {}),
    "change_pin": ({}, {}),
    "logout": ({}, {}),
    "enroll": ({"certificate": list}, {}),  # of `enroll/1`, as the next
    "renew": ({"certificate": list}, {}),
}
ENTRY = ({"entry": int, "at": str, "kind": str, "amount": int, "balance": int}, {"terminal": (str, type(None)), "counterparty": (str, type(None))})
KINDS = {"opening", "deposit", "withdrawal", "late_withdrawal", "transfer_out", "transfer_in", "adjustment"}
REFUSAL = {  # code: (members there must be, members there may be), besides id, code and message
    22: ({}, {"retry_after_ms": int}),
    32: ({"limit": int, "remaining": int}, {}),
    40: ({}, {"retry_after_ms": int}),
    50: ({"reference": (str, int)}, {}),
}
CODES = {0, 10, 11, 12, 20, 21, 22, 23, 24, 25, 30, 31, 32, 33, 34, 35, 36, 40, 41, 42, 50, 51, 52}


def members(found: dict, must: dict, may: dict, what: str):
    """Exactly these members, of these types; a list of what is wrong."""
    wrong = [f"{what} lacks `{name}`" for name in must if name not in found]
    for name, value in found.items():
        wanted = must.get(name) or may.get(name)
        if wanted is None:
            wrong.append(f"{what} has `{name}`, which is not listed")
        elif not isinstance(value, wanted) or (isinstance(value, bool) and wanted is not bool):
            wrong.append(f"{what} has `{name}` of a wrong type: {value!r}")
        elif wanted is bool and value is not True:
            wrong.append(f"{what} has `{name}` that is not true where it is there: {value!r}")
    return wrong


def pong(answer: dict, number: int):
    """The answer to a ping of this id: nothing but id, code and the bank's time."""
    wrong = members({k: v for k, v in code(answer).items() if k not in ("id", "code")}, *SHAPES["ping"], "the answer to a ping")
    if wrong:
        raise Mismatch("; ".join(wrong))
    same(answer["id"], number, "the id of the answer")


def shape_faults(op: str, answer: dict):
    """What in an answer is not as the tables say."""
    number = answer.get("code")
    if not whole(number) or number not in CODES:
        return [f"no such code: {answer!r}"]
    rest = {k: v for k, v in answer.items() if k not in ("id", "code")}
    if "id" not in answer:
        return [f"no id: {answer!r}"]
    if number != 0:
        if not isinstance(rest.pop("message", ""), str):
            return [f"message is no text: {answer!r}"]
        return members(rest, *REFUSAL.get(number, ({}, {})), f"code {number} to {op}")
    wrong = members(rest, *SHAPES[op], f"answer to {op}") if op in SHAPES else []
    if op == "login" and isinstance(rest.get("session"), dict):
        wrong += members(rest["session"], {"idle_timeout_ms": int, "max_timeout_ms": int}, {}, "session")
    if ("balance" in rest) != ("available" in rest):
        wrong.append(f"balance without available, or the reverse: {answer!r}")
    for entry in rest.get("entries", []) if op == "history" else []:
        wrong += members(entry, *ENTRY, "history entry")
        if entry.get("kind") not in KINDS:
            wrong.append(f"no such kind: {entry!r}")
    return wrong


def strict_json(payload: bytes) -> dict:
    """A server's payload: UTF-8 without a mark, one object, no member twice, no fraction."""

    def object_of(pairs):
        if len({k for k, _ in pairs}) != len(pairs):
            raise Mismatch(f"a member twice in {payload!r}")
        return dict(pairs)

    def no_float(text):
        raise Mismatch(f"a number with a fraction or exponent in {payload!r}")

    try:
        value = json.loads(payload.decode("utf-8"), object_pairs_hook=object_of, parse_float=no_float, parse_constant=no_float)
    except ValueError as error:
        raise Mismatch(f"the answer is no JSON: {error}: {payload[:200]!r}") from None
    if not isinstance(value, dict):
        raise Mismatch(f"the answer is no object: {payload[:200]!r}")
    return value


# ---------------------------------------------------------------- the client


def frame(payload) -> bytes:
    if not isinstance(payload, (bytes, bytearray)):
        payload = json.dumps(payload, separators=(",", ":")).encode()
    return struct.pack(">I", len(payload)) + payload


class Client:
    """One connection of a terminal. Every wait has an end."""

    def __init__(self, bank, terminal="terminal-1", *, context=None, source=None, server_name="localhost"):
        self.bank, self.next_id, self.account, self.last_payload = bank, 1, None, b""
        self.ops = {}  # id -> op of requests under way, for the shapes of their answers
        tcp = socket.create_connection(bank.address, TIMEOUT, source_address=(source, 0) if source else None)
        try:
            tcp.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self.sock = (context or bank.context(terminal)).wrap_socket(
                tcp, server_hostname=server_name, suppress_ragged_eofs=False
            )
        except BaseException:
            tcp.close()
            raise
        bank.clients.append(self)

    # -- sending

    def send_bytes(self, data: bytes):
        self.sock.settimeout(TIMEOUT)
        self.sock.sendall(data)

    def send_payload(self, payload):
        self.send_bytes(frame(payload))

    def make(self, op, **fields) -> dict:
        number, self.next_id = self.next_id, self.next_id + 1
        self.ops[number] = op
        return {"id": number, "op": op, **fields}

    def send(self, op, **fields) -> int:
        request = self.make(op, **fields)
        self.send_payload(request)
        return request["id"]

    # -- receiving

    def _exactly(self, count: int, deadline: float) -> bytes:
        data = b""
        while len(data) < count:
            left = deadline - time.monotonic()
            if left <= 0:
                raise TimeoutError
            self.sock.settimeout(left)
            try:
                more = self.sock.recv(count - len(data))
            except ssl.SSLEOFError:
                raise Closed(False, "closed without close_notify") from None
            except ssl.SSLError as error:
                raise Closed(False, f"ended by TLS: {error.reason}") from None
            except TimeoutError:
                raise
            except OSError as error:
                raise Closed(False, f"ended: {error}") from None
            if not more:
                raise Closed(True, "closed with close_notify" + (" within a frame" if data else ""))
            data += more
        return data

    def recv(self, timeout=TIMEOUT) -> dict:
        """The next message of the server."""
        deadline = time.monotonic() + timeout
        try:
            (length,) = struct.unpack(">I", self._exactly(4, deadline))
            if not 1 <= length <= MAX_SERVER_FRAME:
                raise Mismatch(f"a server's frame has a length of 1 to {MAX_SERVER_FRAME}, got {length}")
            self.last_payload = self._exactly(length, deadline)
        except TimeoutError:
            raise Mismatch(f"expected a message, got silence for {timeout} s") from None
        answer = strict_json(self.last_payload)
        number = answer.get("id")
        if number is None and answer.get("code") not in OWN_ACCORD | {10, 11, 12}:
            self.bank.faults.append(f"a null id with this code: {answer!r}")
        self.bank.faults += shape_faults(self.ops.pop(number, "?"), answer)
        return answer

    def silent(self, seconds: float):
        """Nothing comes for so long, and the connection stays open."""
        try:
            data = self._exactly(1, time.monotonic() + seconds)
        except TimeoutError:
            return
        raise Mismatch(f"expected silence for {seconds} s, got data ({data!r}…)")

    def call(self, op, **fields) -> dict:
        """A request and its answer, which must have the request's id."""
        number = self.send(op, **fields)
        answer = self.recv()
        if answer.get("id") != number and not (answer.get("id") is None and answer.get("code") in (11, 40)):
            raise Mismatch(f"expected the answer to id {number} ({op}), got {answer!r}")
        return answer

    def raw(self, payload) -> dict:
        self.send_payload(payload)
        return self.recv()

    def expect_close(self, timeout=TIMEOUT, clean=True, allow=()):
        """The connection ends, by close_notify, with no message but those allowed before."""
        try:
            while True:
                answer = self.recv(timeout)
                if answer.get("code") not in allow:
                    raise Mismatch(f"expected the end of the connection, got {answer!r}")
        except Closed as end:
            if clean and not end.clean:
                raise Mismatch(f"expected an end with close_notify, got: {end}") from None

    def expect_event(self, number, timeout=TIMEOUT) -> dict:
        """A message of the server's own accord."""
        answer = self.recv(timeout)
        code(answer, number)
        same(answer.get("id"), None, "id of a message of the server's own accord")
        return answer

    # -- what a customer does

    def login(self, account=None, pin=None):
        account = account or self.bank.fresh()
        self.account = account
        return self.call("login", account=account.name, pin=pin or account.pin)

    def do(self, op, **fields) -> dict:
        """A request that must be served; keyed ops get a key where none is named."""
        if op in ("deposit", "withdraw", "transfer", "authorize", "capture", "release"):
            fields.setdefault("key", key())
        return code(self.call(op, **fields))

    def history(self, **fields):
        return self.do("history", **fields)["entries"]

    # -- ways to leave

    def leave(self):
        """close_notify, wait for the server's, then FIN."""
        self.sock.settimeout(TIMEOUT)
        self.sock.unwrap().close()

    def drop(self):
        """FIN without close_notify."""
        self.sock.close()

    def reset(self):
        """RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()


# ---------------------------------------------------------------- the bank


@dataclass(frozen=True)
class Account:
    name: str
    pin: str
    cents: int = OPEN_CENTS


@dataclass
class Group:
    """Checks that share one bank with one configuration."""

    name: str
    config: dict
    terminals: tuple = ("terminal-1", "terminal-2")
    accounts: tuple = ()
    alone: bool = False
    checks: list = field(default_factory=list)

    def check(self, name):
        def add(function):
            self.checks.append((name, function))
            return function

        return add


GROUPS: list[Group] = []


def group(name, *, terminals=("terminal-1", "terminal-2"), accounts=(), alone=False, **tables) -> Group:
    made = Group(name, tables, terminals, accounts, alone)
    GROUPS.append(made)
    return made


POOL = 400
EMPTY = 12


class Bank:
    """A folder with certificates, configuration and store, and the server over it."""

    def __init__(self, spec: Group, bin_dir: str, keep: bool):
        self.spec, self.keep = spec, keep
        self.server_bin = os.path.join(os.path.abspath(bin_dir), "bank_server")
        self.certs_bin = os.path.join(os.path.abspath(bin_dir), "gen-certs")
        self.dir = tempfile.mkdtemp(prefix="atm-conf-")
        self.certs = os.path.join(self.dir, "certs")
        self.config = os.path.join(self.dir, "bank.toml")
        self.log = os.path.join(self.dir, "server.log")
        self.process, self.address = None, None
        self.clients, self.faults, self.contexts = [], [], {}
        self.env = {k: v for k, v in os.environ.items() if not k.startswith("BANK__")}
        self.pool = iter([Account(f"cf-{n:05}", f"{7000 + n}") for n in range(1, POOL + 1)])
        self.empties = iter([Account(f"ze-{n:05}", f"{8100 + n}", 0) for n in range(1, EMPTY + 1)])

    # -- making it

    def command(self, binary, *args, timeout=60):
        return subprocess.run([binary, *args], env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=timeout)

    def must(self, binary, *args) -> str:
        done = self.command(binary, *args)
        if done.returncode != 0:
            raise Mismatch(f"{os.path.basename(binary)} {' '.join(args)}: expected exit 0, got {done.returncode}: {done.stderr[-600:]}")
        return done.stdout

    def operator(self, *args) -> str:
        """An operator command that must succeed; its stdout."""
        return self.must(self.server_bin, "--config", self.config, *args)

    def try_operator(self, *args):
        return self.command(self.server_bin, "--config", self.config, *args)

    def write_config(self, **changes):
        tables = {
            "server": {"listen": "127.0.0.1:0"},
            "tls": {"dir": self.certs},
            "store": {"url": f"sqlite:{self.dir}/data/bank.db"},
            "pin": {"memory_kib": 8, "iterations": 1, "parallelism": 1, "pepper_file": f"{self.certs}/pepper"},
            "limits": {
                "requests_per_second": 1_000_000,
                "request_burst": 1_000_000,
                "connections_per_second_per_ip": 100_000,
                "connection_burst_per_ip": 100_000,
                "logins_per_minute_per_terminal": 1_000_000,
                "spray_tries": 0,
            },
            "accounts": {"withdrawal_limit": 10**12, "daily_withdrawal_limit": 10**12},
        }
        for source in (self.spec.config, changes):
            for table, values in source.items():
                tables.setdefault(table, {}).update(values)
        with open(self.config, "w", encoding="utf-8") as out:
            for table, values in tables.items():
                out.write(f"[{table}]\n")
                out.writelines(f"{k} = {json.dumps(v)}\n" for k, v in values.items())
                out.write("\n")
        os.chmod(self.config, 0o600)

    def import_accounts(self, accounts):
        path = os.path.join(self.dir, "accounts.txt")
        with open(path, "w", encoding="utf-8") as out:
            out.write("# made by the conformance client\n")
            out.writelines(f"{a.name}, {a.pin}, {a.cents // 100}.{a.cents % 100:02}\n" for a in accounts)
        os.chmod(path, 0o600)
        self.operator("import", path)
        os.remove(path)

    def prepare(self):
        args = ["--out", self.certs]
        for name in self.spec.terminals:
            args += ["--terminal", name]
        self.must(self.certs_bin, *args)
        if "enroll" in self.spec.config:
            self.must(self.certs_bin, "issuing", "--out", self.certs)
        os.mkdir(os.path.join(self.dir, "data"), 0o700)
        self.write_config()
        self.import_accounts(
            [Account(f"cf-{n:05}", f"{7000 + n}") for n in range(1, POOL + 1)]
            + [Account(f"ze-{n:05}", f"{8100 + n}", 0) for n in range(1, EMPTY + 1)]
            + list(self.spec.accounts)
        )

    # -- running it

    def start(self):
        with open(self.log, "ab") as log:
            self.process = subprocess.Popen(
                [self.server_bin, "--config", self.config, "run"],
                env=self.env, cwd=self.dir, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=log,
            )  # fmt: skip
        line, end = b"", time.monotonic() + 30
        while not line.endswith(b"\n"):
            ready, _, _ = select.select([self.process.stdout], [], [], max(0, end - time.monotonic()))
            more = os.read(self.process.stdout.fileno(), 1) if ready else b""
            if not more:
                raise Mismatch(f"expected `listening on IP:PORT`, got {line!r}; the log ends: {self.log_tail()}")
            line += more
        found = re.fullmatch(r"listening on ([0-9.]+):([0-9]+)\n", line.decode("utf-8", "replace"))
        if not found:
            raise Mismatch(f"expected `listening on IP:PORT`, got {line!r}")
        self.address = (found[1], int(found[2]))

    def stop(self, how=signal.SIGTERM, timeout=20):
        """Ends our own server by its pid; its exit code."""
        if self.process is None:
            return None
        process, self.process = self.process, None
        if process.poll() is None:
            process.send_signal(how)
        try:
            result = process.wait(timeout)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(TIMEOUT)
            raise Mismatch(f"expected the server to end within {timeout} s of {how.name}") from None
        finally:
            process.stdout.close()
        return result

    def restart(self, how=signal.SIGTERM):
        self.hang_up()
        result = self.stop(how)
        self.start()
        return result

    def log_tail(self) -> str:
        with contextlib.suppress(OSError), open(self.log, encoding="utf-8", errors="replace") as text:
            return text.read()[-500:].strip()
        return ""

    def hang_up(self):
        for client in self.clients:
            with contextlib.suppress(OSError, ValueError):
                client.sock.close()
        self.clients.clear()

    def end(self):
        self.hang_up()
        with contextlib.suppress(Exception):
            self.stop()
        if not self.keep:
            shutil.rmtree(self.dir, ignore_errors=True)

    # -- using it

    def context(self, terminal="terminal-1", *, alpn=(ALPN,), cert=None, key_file=None, ca=None) -> ssl.SSLContext:
        """TLS as a terminal (None: without a certificate) would do it."""
        plain = alpn == (ALPN,) and cert is None and ca is None
        if plain and terminal in self.contexts:
            return self.contexts[terminal]
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.load_verify_locations(ca or os.path.join(self.certs, "ca.pem"))
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        if alpn:
            context.set_alpn_protocols(list(alpn))
        if cert:
            context.load_cert_chain(cert, key_file)
        elif terminal:
            base = os.path.join(self.certs, "terminals", terminal)
            context.load_cert_chain(base + ".pem", base + ".key")
        if plain:
            self.contexts[terminal] = context
        return context

    def fresh(self) -> Account:
        """An account that no check has used, with 1,000.00."""
        return next(self.pool)

    def empty(self) -> Account:
        return next(self.empties)

    def connect(self, terminal="terminal-1", **options) -> Client:
        return Client(self, terminal, **options)

    def session(self, account=None, terminal="terminal-1", **options) -> Client:
        """A connection on which a customer is logged in."""
        client = self.connect(terminal, **options)
        code(client.login(account))
        return client

    def can_log_in(self, account, pin=None, seconds=2.0):
        """Whether the account can be logged in within so long (the session is ended again)."""

        def probe():
            client = self.connect()
            served = client.login(account, pin)["code"] == 0
            if served:
                code(client.call("logout"))
            client.drop()
            return served

        return until(probe, seconds)

    def wrong(self, account, times):
        """So many wrong PINs, two a connection; the last answer."""
        answer = None
        for n in range(times):
            if n % 2 == 0:
                client = self.connect()
            answer = client.login(account, "0009")
        return answer

    def one_time_pin(self, account) -> str:
        """`account set-pin`: the one-time PIN, in JSON of an unknown schema or in words."""
        text = self.operator("account", "set-pin", account.name, "--json")

        def walk(value, name=""):
            if isinstance(value, dict):
                for k, v in value.items():
                    yield from walk(v, k)
            elif isinstance(value, list):
                for v in value:
                    yield from walk(v, name)
            elif "pin" in name.lower() and re.fullmatch(r"[0-9]{4,12}", str(value)):
                yield str(value)

        with contextlib.suppress(ValueError):
            for pin in walk(json.loads(text)):
                return pin
        text = re.sub(r"\d{4}-\d\d-\d\d\S*", "", text.replace(account.name, ""))
        found = re.search(r"(?<!\d)\d{4,12}(?!\d)", text)
        if not found:
            raise Skip(f"no PIN found in what set-pin printed ({len(text)} characters)")
        return found[0]


# ---------------------------------------------------------------- running and reporting


class Report:
    def __init__(self):
        self.lock, self.passed, self.failed, self.skipped = threading.Lock(), 0, 0, 0

    def line(self, verdict, name, detail=""):
        with self.lock:
            print(f"{verdict}  {name}" + (f"\n      {detail}" if detail else ""), flush=True)
            if verdict == "PASS":
                self.passed += 1
            elif verdict == "FAIL":
                self.failed += 1
            else:
                self.skipped += 1

    def judge(self, name, function, *args):
        try:
            function(*args)
        except Skip as why:
            self.line("SKIP", name, str(why))
        except (Mismatch, Closed, OSError, subprocess.SubprocessError) as fault:
            where = [f for f in traceback.extract_tb(fault.__traceback__) if not f.filename.endswith("harness.py")]
            place = f" ({os.path.basename(where[-1].filename)}:{where[-1].lineno})" if where else ""
            self.line("FAIL", name, f"{type(fault).__name__}: {fault}{place}")
        except Exception:  # a fault of the check itself is a failure too
            self.line("FAIL", name, traceback.format_exc().strip().replace("\n", "\n      "))
        else:
            self.line("PASS", name)


def run_group(spec: Group, chosen, args, report: Report):
    bank = Bank(spec, args.bin_dir, args.keep)
    try:
        try:
            bank.prepare()
            bank.start()
        except Exception as fault:
            for name, _ in chosen:
                report.line("FAIL", f"{spec.name}: {name}", f"the bank does not start: {type(fault).__name__}: {fault}")
            return
        for name, function in chosen:
            report.judge(f"{spec.name}: {name}", function, bank)
            bank.hang_up()

        def shapes():
            if bank.faults:
                raise Mismatch("; ".join(sorted(set(bank.faults))[:5]))

        def audit():
            bank.operator("verify")

        def leave():
            same(bank.stop(), 0, "exit code after SIGTERM")

        report.judge(f"{spec.name}: every answer seen has the members listed for it, and no other", shapes)
        report.judge(f"{spec.name}: the ledger passes `verify` afterwards", audit)
        report.judge(f"{spec.name}: the server exits 0 on SIGTERM", leave)
    finally:
        bank.end()


def run(args) -> int:
    begun = time.monotonic()
    wanted = re.compile(args.only or "", re.IGNORECASE)
    plan = [(g, [c for c in g.checks if wanted.search(f"{g.name}: {c[0]}")]) for g in GROUPS]
    plan = [(g, checks) for g, checks in plan if checks]
    if args.list:
        for g, checks in plan:
            print(*(f"{g.name}: {name}" for name, _ in checks), sep="\n")
        print(f"{sum(len(c) for _, c in plan)} checks, and 3 for each of the {len(plan)} groups")
        return 0
    report = Report()
    with concurrent.futures.ThreadPoolExecutor(max(1, args.jobs)) as pool:
        for done in [pool.submit(run_group, g, c, args, report) for g, c in plan if not g.alone]:
            done.result()
    for g, checks in plan:
        if g.alone:
            run_group(g, checks, args, report)
    print(f"{time.monotonic() - begun:.1f} s, {report.skipped} skipped")
    print(f"{report.passed} passed, {report.failed} failed")
    return 1 if report.failed or not report.passed else 0
