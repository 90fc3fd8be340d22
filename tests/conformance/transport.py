"""TLS, certificates and frames."""

import os
import shutil
import signal
import socket
import ssl
import struct
import subprocess
import time

from .harness import Client, Closed, Mismatch, Skip, code, frame, group, holds_true, key, pong, same, until


def refused_in_handshake(bank, context):
    """The client's side of the handshake fails."""
    try:
        client = Client(bank, context=context)
    except (ssl.SSLError, OSError):
        return
    client.drop()
    raise Mismatch("expected a handshake that fails, got one that finished")


def never_served(bank, context):
    """The handshake fails, or the connection ends before any message (TLS 1.3 tells the client late)."""
    try:
        client = Client(bank, context=context)
        client.send("ping")
        answer = client.recv()
    except (ssl.SSLError, OSError, Closed):
        return
    raise Mismatch(f"expected no service, got {answer!r}")


def served(client):
    code(client.call("ping"))
    return client


# ---------------------------------------------------------------- TLS

tls = group("transport", terminals=("terminal-1", "terminal-2", "a" * 32, "0-9"))


@tls.check("TLS 1.3 with the ALPN atm/1 is served, and the server's certificate holds under the bank's CA")
def _(b):
    c = served(b.connect())
    same(c.sock.version(), "TLSv1.3", "TLS version")
    same(c.sock.selected_alpn_protocol(), "atm/1", "ALPN")


@tls.check("a strict verifier (X509_STRICT) accepts the server's certificate, by name and by address")
def _(b):
    context = b.context("terminal-1", alpn=("atm/1", "x"))
    context.verify_flags |= ssl.VERIFY_X509_STRICT
    for name in ("localhost", "127.0.0.1"):
        served(Client(b, context=context, server_name=name))


@tls.check("a client that offers TLS 1.2 at most is refused in the handshake")
def _(b):
    context = b.context("terminal-1", alpn=("atm/1", "x"))
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    refused_in_handshake(b, context)


@tls.check("there is no plaintext port: a frame without TLS gets no message, and the connection ends")
def _(b):
    with socket.create_connection(b.address, 10) as s:
        s.sendall(frame({"id": 1, "op": "ping"}))
        data = b""
        try:
            while more := s.recv(4096):
                data += more
        except ConnectionError:
            pass
    holds_true(b'"code"' not in data, "no answer in plaintext", data)


@tls.check("another ALPN name is refused in the handshake")
def _(b):
    refused_in_handshake(b, b.context("terminal-1", alpn=("atm/2",)))
    refused_in_handshake(b, b.context("terminal-1", alpn=("http/1.1", "h2")))


@tls.check("enroll/1 is off by default: refused in the handshake")
def _(b):
    refused_in_handshake(b, b.context("terminal-1", alpn=("enroll/1",)))
    refused_in_handshake(b, b.context(None, alpn=("enroll/1",)))


@tls.check("of several ALPN names atm/1 is chosen")
def _(b):
    c = served(Client(b, context=b.context("terminal-1", alpn=("atm/2", "atm/1"))))
    same(c.sock.selected_alpn_protocol(), "atm/1", "ALPN")


@tls.check("without ALPN the connection ends before any message is read")
def _(b):
    never_served(b, b.context("terminal-1", alpn=()))


@tls.check("without a client certificate, where one is required, there is no service")
def _(b):
    never_served(b, b.context(None))


@tls.check("no session is resumed")
def _(b):
    context = b.context("terminal-1", alpn=("atm/1", "x"))
    first = served(Client(b, context=context))
    session = first.sock.session
    first.drop()
    if session is None or not session.has_ticket:
        return
    tcp = socket.create_connection(b.address, 10)
    second = context.wrap_socket(tcp, server_hostname="localhost", session=session)
    try:
        same(second.session_reused, False, "session reused")
    finally:
        second.close()


@tls.check("terminal names of 1 to 32 of a-z 0-9 - are served (32 letters, digits and a hyphen)")
def _(b):
    for name in ("a" * 32, "0-9"):
        c = b.session(terminal=name)
        c.do("deposit", amount=1)
        same(c.history(limit=1)[0].get("terminal"), name, "terminal in history")


@tls.check("one terminal may hold many connections")
def _(b):
    clients = [b.connect() for _ in range(20)]
    for c in clients:
        served(c)


@tls.check("the server answers a client's close_notify with its own")
def _(b):
    c = served(b.connect())
    c.leave()


GOOD_EXT = {
    "basicConstraints": "critical,CA:FALSE",
    "keyUsage": "critical,digitalSignature",
    "extendedKeyUsage": "clientAuth",
    "subjectKeyIdentifier": "hash",
    "authorityKeyIdentifier": "keyid",
}


def crafted(bank, san, own_ca=False, **changes):
    """A context with a certificate made by openssl, under the bank's CA or one of the same name that is not."""
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    base = os.path.join(bank.dir, f"odd-{time.monotonic_ns()}")
    run = lambda *args: subprocess.run(["openssl", *args], capture_output=True, text=True, timeout=30, check=True)  # noqa: E731
    new_key = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes")
    ca, ca_key = os.path.join(bank.certs, "ca.pem"), os.path.join(bank.certs, "ca.key")
    try:
        if own_ca:
            ca, ca_key = base + ".ca.pem", base + ".ca.key"
            run("req", "-x509", *new_key, "-keyout", ca_key, "-out", ca, "-subj", "/CN=another CA", "-days", "2")
        run("req", "-new", *new_key, "-keyout", base + ".key", "-out", base + ".csr", "-subj", "/CN=odd")
        extensions = {**GOOD_EXT, **({"subjectAltName": san} if san else {}), **changes}
        with open(base + ".ext", "w", encoding="ascii") as out:
            out.writelines(f"{k}={v}\n" for k, v in extensions.items() if v)
        run("x509", "-req", "-in", base + ".csr", "-CA", ca, "-CAkey", ca_key, "-set_serial", str(time.time_ns()),
            "-days", "2", "-extfile", base + ".ext", "-out", base + ".pem")  # fmt: skip
    except subprocess.CalledProcessError as error:
        raise Skip(f"openssl cannot make it: {error.stderr[-200:]}") from None
    return bank.context(None, cert=base + ".pem", key_file=base + ".key")


@tls.check("other subject alternative names beside the one terminal name are ignored")
def _(b):
    san = "DNS:atm.example,URI:urn:atm:terminal:branch-7,URI:https://example.org/x,IP:192.0.2.1"
    c = Client(b, context=crafted(b, san))
    code(c.login())
    c.do("deposit", amount=1)
    same(c.history(limit=1)[0].get("terminal"), "branch-7", "terminal in history")


ODD_CERTIFICATES = {
    "with two terminal names": ("URI:urn:atm:terminal:one,URI:urn:atm:terminal:two", {}),
    "with no subject alternative name": (None, {}),
    "whose only URI is another": ("URI:urn:atm:till:one", {}),
    "whose terminal name is only a DNS name": ("DNS:terminal-1", {}),
    "with a terminal name of 33 characters": ("URI:urn:atm:terminal:" + "a" * 33, {}),
    "with an empty terminal name": ("URI:urn:atm:terminal:", {}),
    "with capitals in the terminal name": ("URI:urn:atm:terminal:Terminal-1", {}),
    "with an underscore in the terminal name": ("URI:urn:atm:terminal:terminal_1", {}),
    "without extended key usage": ("URI:urn:atm:terminal:odd", {"extendedKeyUsage": None}),
    "with extended key usage serverAuth only": ("URI:urn:atm:terminal:odd", {"extendedKeyUsage": "serverAuth"}),
    "under another CA": ("URI:urn:atm:terminal:odd", {"own_ca": True}),
}
for title, (names, changes) in ODD_CERTIFICATES.items():

    @tls.check(f"a client certificate {title} is not served")
    def _(b, names=names, changes=changes):
        never_served(b, crafted(b, names, **changes))


@tls.check("the server's own certificate does not serve as a terminal's")
def _(b):
    never_served(b, b.context(None, cert=f"{b.certs}/server.pem", key_file=f"{b.certs}/server.key"))


# ---------------------------------------------------------------- frames

frames = group("frames", server={"frame_timeout_ms": 1500})


def padded(size: int, number=1) -> bytes:
    """A ping of exactly so many bytes (white space around the object is allowed)."""
    text = b'{"id":%d,"op":"ping"}' % number
    return text + b" " * (size - len(text))


def answered_11(c, data: bytes):
    c.send_bytes(data)
    answer = code(c.recv(), 11)
    same(answer.get("id"), None, "id of an answer to a frame that was not read")
    c.expect_close()


@frames.check("a frame of length 0 is answered with code 11 and the connection closed")
def _(b):
    answered_11(b.connect(), struct.pack(">I", 0))


@frames.check("a frame of length 0 after login is answered with code 11, the connection closed and the account freed")
def _(b):
    c = b.session()
    answered_11(c, struct.pack(">I", 0))
    holds_true(b.can_log_in(c.account), "the account free", "in use")


@frames.check("a frame of 4,096 bytes before login is served")
def _(b):
    same(b.connect().raw(padded(4096))["code"], 0, "code")


@frames.check("a frame of 4,097 bytes before login is answered with code 11 and the connection closed")
def _(b):
    answered_11(b.connect(), struct.pack(">I", 4097))


@frames.check("a frame of 16,384 bytes after login is served")
def _(b):
    same(b.session().raw(padded(16384))["code"], 0, "code")


@frames.check("a frame of 16,385 bytes after login is answered with code 11 and the connection closed")
def _(b):
    answered_11(b.session(), struct.pack(">I", 16385))


@frames.check("a length of 2^32-1 is answered with code 11 from its header alone, at once")
def _(b):
    for c in (b.connect(), b.session()):
        begun = time.monotonic()
        answered_11(c, b"\xff\xff\xff\xff")
        holds_true(time.monotonic() - begun < 1.2, "an answer at once", f"{time.monotonic() - begun:.2f} s")


@frames.check("the length is big endian: 256 little endian (65,536) is over the limit")
def _(b):
    answered_11(b.connect(), b"\x00\x01\x00\x00")


@frames.check("the answer 11 arrives also where the too large payload was sent with it")
def _(b):
    c = b.connect()
    c.send_bytes(frame(padded(4097)))
    code(c.recv(), 11)
    c.expect_close(clean=False)


@frames.check("answers to frames before an empty one arrive first, in order, then 11, then close_notify")
def _(b):
    c = b.connect()
    data = b"".join(frame({"id": n, "op": "ping"}) for n in (5, 6, 7)) + b"\0\0\0\0"
    c.send_bytes(data)
    same([c.recv()["id"] for _ in range(3)], [5, 6, 7], "ids in order")
    code(c.recv(), 11)
    c.expect_close()


def cut_short(c, data):
    """Closed by close_notify, without an answer, about at the frame time-out."""
    begun = time.monotonic()
    c.send_bytes(data)
    c.expect_close()
    took = time.monotonic() - begun
    holds_true(1.2 < took < 5, "an end after about 1.5 s", f"{took:.2f} s")


@frames.check("a frame not complete in time closes the connection without an answer, with close_notify")
def _(b):
    cut_short(b.connect(), frame({"id": 1, "op": "ping"})[:-1])


@frames.check("a header not complete in time closes the connection without an answer")
def _(b):
    cut_short(b.connect(), b"\0\0")


@frames.check("after login too a frame not complete in time closes without an answer, and frees the account")
def _(b):
    c = b.session()
    cut_short(c, frame({"id": 1, "op": "balance"})[:-1])
    holds_true(b.can_log_in(c.account), "the account free", "in use")


@frames.check("the frame time-out runs from the frame's first byte, however steadily bytes drip in")
def _(b):
    c = b.connect()
    data, begun = frame({"id": 1, "op": "ping"}), time.monotonic()
    try:
        for n in range(len(data)):
            c.send_bytes(data[n : n + 1])
            try:
                c.silent(0.25)
            except Mismatch:
                raise Mismatch("expected an end without an answer, got an answer") from None
            if time.monotonic() - begun > 5:
                raise Mismatch("expected an end after 1.5 s, got none in 5 s")
    except (Closed, OSError):
        holds_true(time.monotonic() - begun > 1.2, "an end not before 1.5 s", f"{time.monotonic() - begun:.2f} s")


@frames.check("silence between two frames is no slow frame")
def _(b):
    c = served(b.connect())
    c.silent(1.9)
    served(c)


@frames.check("a frame split in two at every byte is served")
def _(b):
    c = b.connect()
    for cut in range(1, len(frame({"id": 1, "op": "ping"}))):
        data = frame({"id": 1, "op": "ping"})
        c.send_bytes(data[:cut])
        c.send_bytes(data[cut:])
        pong(c.recv(), 1)


@frames.check("a frame sent one byte a TLS record is served")
def _(b):
    c = b.session()
    for byte in frame(c.make("balance")):
        c.send_bytes(bytes([byte]))
    code(c.recv())


@frames.check("many frames in one TLS record are answered each, in order")
def _(b):
    c = b.connect()
    c.send_bytes(b"".join(frame({"id": n, "op": "ping"}) for n in range(400)))
    same([c.recv()["id"] for _ in range(400)], list(range(400)), "ids in order")


@frames.check("a record that ends within the next frame's header is served")
def _(b):
    c = b.connect()
    two = frame({"id": 1, "op": "ping"}) + frame({"id": 2, "op": "ping"})
    half = len(two) // 2
    for cut in (half - 1, half, half + 1, half + 2, half + 3, half + 4):
        c.send_bytes(two[:cut])
        time.sleep(0.01)
        c.send_bytes(two[cut:])
        same([c.recv()["id"], c.recv()["id"]], [1, 2], "ids in order")


@frames.check("pipelined requests of every kind are answered in their order, login and logout among them")
def _(b):
    c, me = b.connect(), b.fresh()
    wanted = [
        (c.make("ping"), 0),
        (c.make("balance"), 23),
        (c.make("login", account=me.name, pin=me.pin), 0),
        (c.make("deposit", amount=500, key=key()), 0),
        (c.make("nonsense"), 12),
        (c.make("withdraw", amount=200, key=key()), 0),
        (c.make("withdraw", amount=10**11, key=key()), 31),
        (c.make("balance"), 0),
        (c.make("history"), 0),
        (c.make("logout"), 0),
        (c.make("balance"), 23),
        (c.make("login", account=me.name, pin=me.pin), 0),
    ]
    c.send_bytes(b"".join(frame(request) for request, _ in wanted))
    answers = [c.recv() for _ in wanted]
    same([(a["id"], a["code"]) for a in answers], [(r["id"], n) for r, n in wanted], "ids and codes in order")
    same(answers[7]["balance"], me.cents + 300, "balance")


@frames.check("2,000 pipelined requests, sent before any answer is read, are all answered in order")
def _(b):
    c = b.connect()
    c.send_bytes(b"".join(frame({"id": n, "op": "ping"}) for n in range(2000)))
    for n in range(2000):
        pong(c.recv(), n)


small = group("frame limits by configuration", limits={"frame_before_login": 512, "frame_after_login": 1024})


@small.check("frame_before_login sets the limit before login")
def _(b):
    c = b.connect()
    same(c.raw(padded(512))["code"], 0, "code")
    answered_11(c, struct.pack(">I", 513))


@small.check("frame_after_login sets the limit after login")
def _(b):
    c = b.session()
    same(c.raw(padded(1024))["code"], 0, "code")
    answered_11(c, struct.pack(">I", 1025))


# ---------------------------------------------------------------- terminals by the operator

ops = group("terminals by the operator", terminals=("terminal-1", "terminal-2", "terminal-3"))


def ends_within(c, seconds):
    """The connection ends, whatever of the server's own accord comes before."""
    c.expect_close(timeout=seconds, clean=False, allow=(41, 42, 52))


@ops.check("a disabled terminal's connections end at once, no new one gets in, and enabling lets it in again")
def _(b):
    c, other = b.session(terminal="terminal-2"), b.session()
    b.operator("terminal", "disable", "terminal-2")
    ends_within(c, 5)
    never_served(b, b.context("terminal-2"))
    code(other.call("balance"))
    holds_true(b.can_log_in(c.account), "the account of the ended session free", "in use")
    b.operator("terminal", "enable", "terminal-2")
    holds_true(until(lambda: quietly_served(b, "terminal-2"), 3), "service after `terminal enable`", "none")


def quietly_served(b, terminal):
    try:
        served(b.connect(terminal))
    except (OSError, Closed):
        return False
    return True


@ops.check("a revoked terminal's open connections end within 5 s of SIGHUP, and no new one gets in")
def _(b):
    c, other = b.session(terminal="terminal-3"), b.session()
    b.must(b.certs_bin, "revoke", "terminal-3", "--out", b.certs)
    b.process.send_signal(signal.SIGHUP)
    ends_within(c, 6)
    never_served(b, b.context("terminal-3"))
    code(other.call("balance"))
    served(b.connect())
