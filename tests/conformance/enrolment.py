"""Terminals that enrol themselves: `enroll/1`."""

import base64
import functools
import hashlib
import itertools
import json
import os
import re
import shutil
import signal
import ssl
import subprocess
import time
from dataclasses import dataclass

from .harness import Client, Closed, Mismatch, Skip, code, frame, group, holds_true, parallel, same, until, whole
from .transport import answered_11, crafted, cut_short, ends_within, never_served, refused_in_handshake

ENROLL = "enroll/1"
CODE = r"[0-9A-HJKMNP-TV-Z]{5}(?:-[0-9A-HJKMNP-TV-Z]{5}){3}"
NEVER_GIVEN = "00000-00000-00000-00000"
LIFE = 3 * 86_400_000  # of a certificate, in ms
ROOM = {"max_connections": 200, "max_connections_per_ip": 200}
MANY = {"attempts_per_minute_per_ip": 1_000_000, "attempts_per_minute": 1_000_000}

# ---------------------------------------------------------------- keys, requests, certificates


def openssl(*args, data=None, fault=Skip) -> bytes:
    """What openssl prints; where it fails that is `fault`: its own (Skip) or the server's (Mismatch)."""
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    done = subprocess.run(["openssl", *args], input=data, capture_output=True, timeout=30)
    if done.returncode != 0:
        raise fault(f"openssl {args[0]} fails: {done.stderr.decode('utf-8', 'replace')[-200:]}")
    return done.stdout


NUMBERS = itertools.count()


class Key:
    """A terminal's key in a file, and requests for a certificate of it."""

    def __init__(self, b, *options):
        self.path = os.path.join(b.dir, f"own-{next(NUMBERS)}.key")
        made = options or ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
        openssl("genpkey", *made, "-out", self.path)

    def request(self, *options, subject="/CN=whoever") -> bytes:
        return openssl("req", "-new", "-key", self.path, "-subj", subject, "-outform", "DER", *options)

    def public(self) -> bytes:
        """SubjectPublicKeyInfo."""
        return openssl("pkey", "-in", self.path, "-pubout", "-outform", "DER")


def base(der: bytes) -> str:
    return base64.b64encode(der).decode()


@dataclass
class Facts:
    """What a certificate says, by openssl's word."""

    subject: str
    names: list
    usages: list
    constraints: str
    key_usage: str
    serial: int
    begins: float
    ends: float
    public: bytes


def facts(der: bytes) -> Facts:
    shown = ("-subject", "-serial", "-startdate", "-enddate", "-ext", "subjectAltName,extendedKeyUsage,basicConstraints,keyUsage", "-pubkey")
    text = openssl("x509", "-inform", "DER", "-noout", "-nameopt", "RFC2253", *shown, data=der, fault=Mismatch).decode()
    line = lambda name: re.search(rf"^{name}=(.*)$", text, re.M)[1]  # noqa: E731

    def extension(title):
        found = re.search(rf"^X509v3 {title}:.*\n +(.*)$", text, re.M)
        return found[1] if found else ""

    return Facts(
        subject=line("subject"),
        names=[n for n in extension("Subject Alternative Name").split(", ") if n],
        usages=[n for n in extension("Extended Key Usage").split(", ") if n],
        constraints=extension("Basic Constraints"),
        key_usage=extension("Key Usage"),
        serial=int(line("serial"), 16),
        begins=ssl.cert_time_to_seconds(line("notBefore")),
        ends=ssl.cert_time_to_seconds(line("notAfter")),
        public=ssl.PEM_cert_to_DER_cert(
            re.search(r"-----BEGIN PUBLIC KEY-----[^-]+-----END PUBLIC KEY-----", text)[0].replace("PUBLIC KEY", "CERTIFICATE")
        ),
    )


@dataclass
class Card:
    """What a terminal has that enrolled: its certificate, the authority's, and its key."""

    b: object
    name: str
    key: Key
    chain: list

    def __post_init__(self):
        self.path = os.path.join(self.b.dir, f"own-{next(NUMBERS)}.pem")
        with open(self.path, "w", encoding="ascii") as out:
            out.writelines(ssl.DER_cert_to_PEM_cert(der) for der in self.chain)

    @property
    def serial(self) -> int:
        return facts(self.chain[0]).serial

    def context(self, alpn="atm/1") -> ssl.SSLContext:
        return self.b.context(None, alpn=(alpn,), cert=self.path, key_file=self.key.path)

    def bank(self) -> Client:
        """A connection to the bank with this certificate."""
        return Client(self.b, context=self.context())

    def door(self) -> Client:
        """A connection to enrolment with this certificate."""
        return Client(self.b, context=self.context(ENROLL))


# ---------------------------------------------------------------- a terminal that enrols


@dataclass
class Invitation:
    """What the staff give out: the code, and the hash of the CA's key."""

    code: str
    ca_sha256: str


def invite(b, name) -> Invitation:
    text = b.operator("terminal", "invite", name)
    return Invitation(re.search(CODE, text)[0], re.search(r"\b[0-9a-f]{64}\b", text)[0])


def door(b, **options) -> Client:
    """A connection to enrolment, without a certificate."""
    return Client(b, context=b.context(None, alpn=(ENROLL,)), **options)


def chain_of(answer) -> list:
    """The certificates in an answer: two, each in padded base64."""
    code(answer)
    given = answer["certificate"]
    holds_true(len(given) == 2 and all(isinstance(text, str) for text in given), "two certificates", given)
    chain = [base64.b64decode(text, validate=True) for text in given]
    same([base(der) for der in chain], given, "base64 of the certificates")
    return chain


def redeem(b, invited: Invitation, request: bytes, **options) -> dict:
    return door(b, **options).call("enroll", code=invited.code, csr=base(request))


def enrolled(b, name, key=None) -> Card:
    key = key or Key(b)
    return Card(b, name, key, chain_of(redeem(b, invite(b, name), key.request())))


def renewed(card: Card, key=None) -> Card:
    key = key or Key(card.b)
    return Card(card.b, card.name, key, chain_of(card.door().call("renew", csr=base(key.request()))))


@functools.cache
def spare(b):
    """A code and a good signing request that no check of this bank but the last uses up."""
    return invite(b, "spare-1"), base(Key(b).request())


def wrong_code(b) -> dict:
    return {"id": 7, "op": "enroll", "code": NEVER_GIVEN, "csr": spare(b)[1]}


def refusal(c, **message) -> bytes:
    """An answer 20, byte for byte; the id is the same in all."""
    answer = code(c.raw({"id": 7, **message}), 20)
    same(answer["id"], 7, "id")
    return c.last_payload


def refused_code(b, text, request) -> bytes:
    return refusal(door(b), op="enroll", code=text, csr=base(request))


def served(card: Card, b):
    """A customer is served at this terminal, and the bank calls it by its name."""
    c = card.bank()
    code(c.login())
    c.do("deposit", amount=5)
    same(c.history(limit=1)[0].get("terminal"), card.name, "terminal in history")
    return c


def not_heard(b, context):
    """The handshake of enrolment fails, or the connection ends before any message (TLS 1.3 tells the client late)."""
    try:
        answer = Client(b, context=context).raw({"id": 7, "op": "renew", "csr": base(b"\x30\x00")})
    except (ssl.SSLError, OSError, Closed):
        return
    raise Mismatch(f"expected no answer, got {answer!r}")


# ---------------------------------------------------------------- transport

enrol = group("enrolment", terminals=("terminal-1", "till-9"), enroll={"enabled": "on", "certificate_ms": LIFE, **ROOM, **MANY})


@enrol.check("enroll/1 alone is served over TLS 1.3, whatever other names are offered with it")
def _(b):
    for names in ((ENROLL,), ("x", ENROLL), (ENROLL, "atm/2")):
        c = Client(b, context=b.context(None, alpn=names))
        same((c.sock.version(), c.sock.selected_alpn_protocol()), ("TLSv1.3", ENROLL), "TLS version, ALPN")
        code(c.raw({"id": 7, "op": "nonsense"}), 12)


@enrol.check("enroll/1 beside atm/1, in either order, is atm/1: with a certificate served, without one not")
def _(b):
    for names in ((ENROLL, "atm/1"), ("atm/1", ENROLL)):
        c = Client(b, context=b.context("terminal-1", alpn=names))
        same(c.sock.selected_alpn_protocol(), "atm/1", "ALPN")
        code(c.call("ping"))
        never_served(b, b.context(None, alpn=names))


@enrol.check("a client that offers TLS 1.2 at most, another name, or none, is not served beside it")
def _(b):
    old = b.context(None, alpn=(ENROLL,))
    old.minimum_version = old.maximum_version = ssl.TLSVersion.TLSv1_2
    refused_in_handshake(b, old)
    refused_in_handshake(b, b.context(None, alpn=("enroll/2",)))
    not_heard(b, b.context(None, alpn=()))


@enrol.check("atm/1 still wants a certificate")
def _(b):
    never_served(b, b.context(None))


@enrol.check("no session is resumed")
def _(b):
    c = door(b)
    code(c.raw({"id": 7, "op": "nonsense"}), 12)
    holds_true(c.sock.session is None or not c.sock.session.has_ticket, "no ticket", "one")


@enrol.check("the chain shows the CA whose key has the hash told with the code, and with it as the only CA the server is verified")
def _(b):
    told = invite(b, "hash-1")
    port = f"{b.address[0]}:{b.address[1]}"
    shown = openssl("s_client", "-connect", port, "-alpn", ENROLL, "-tls1_3", "-showcerts", data=b"").decode("utf-8", "replace")
    chain = re.findall(r"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----", shown)
    found = [pem for pem in chain if hashlib.sha256(facts(ssl.PEM_cert_to_DER_cert(pem)).public).hexdigest() == told.ca_sha256]
    same(len(found), 1, "certificates of the chain with that key")
    ca = os.path.join(b.dir, "found.pem")
    with open(ca, "w", encoding="ascii") as out:
        out.write(found[0] + "\n")
    about = facts(ssl.PEM_cert_to_DER_cert(found[0]))
    holds_true(about.constraints.startswith("CA:TRUE") and about.begins <= time.time() < about.ends, "an authority in force", about)
    openssl("verify", "-x509_strict", "-check_ss_sig", "-CAfile", ca, ca, fault=Mismatch)
    key = Key(b)
    for name in ("localhost", "127.0.0.1"):
        context = b.context(None, alpn=(ENROLL,), ca=ca)
        context.verify_flags |= ssl.VERIFY_X509_STRICT
        c = Client(b, context=context, server_name=name)
        chain_of(c.call("enroll", code=told.code, csr=base(key.request())))


# ---------------------------------------------------------------- the certificate


@enrol.check("a code gives a certificate for the request's key, and a customer logs in with it on atm/1")
def _(b):
    key = Key(b)
    card = enrolled(b, "new-1", key)
    same(facts(card.chain[0]).public, key.public(), "public key")
    served(card, b)


ASKED = {
    "another terminal's name, as subject and as URI": ("/CN=terminal-1", "subjectAltName=URI:urn:atm:terminal:terminal-1"),
    "two names, addresses and a server's name": ("/O=x/CN=a/CN=b", "subjectAltName=URI:urn:atm:terminal:one,URI:urn:atm:terminal:two,DNS:localhost,IP:127.0.0.1"),
    "to be a server": ("/CN=localhost", "extendedKeyUsage=serverAuth"),
    "to be an authority": ("/CN=authority", "basicConstraints=critical,CA:TRUE"),
    "to sign certificates": ("/CN=authority", "keyUsage=critical,keyCertSign,cRLSign"),
    "nothing, with an empty subject": ("/", None),
}
for at, (title, (subject, wish)) in enumerate(ASKED.items()):

    @enrol.check(f"a request that asks for {title}: the certificate has the invited name, and is a client's")
    def _(b, name=f"asked-{at}", subject=subject, wish=wish):
        request = Key(b).request(*(("-addext", wish) if wish else ()), subject=subject)
        about = facts(chain_of(redeem(b, invite(b, name), request))[0])
        same(about.subject, f"CN={name}", "subject")
        same(about.names, [f"URI:urn:atm:terminal:{name}"], "subject alternative names")
        same(about.usages, ["TLS Web Client Authentication"], "extended key usage")
        same((about.constraints, about.key_usage), ("CA:FALSE", "Digital Signature"), "basic constraints, key usage")


@enrol.check("names of 32 letters and of digits and hyphens can be invited; `anonymous`, capitals, 33 letters and none cannot")
def _(b):
    for name in ("b" * 32, "0-8"):
        served(enrolled(b, name), b)
    for name in ("anonymous", "Terminal-1", "terminal_1", "a" * 33, ""):
        holds_true(b.try_operator("terminal", "invite", name).returncode != 0, f"no code for {name!r}", "one")


@enrol.check("the certificate begins an hour before now and holds for certificate_ms; serial numbers differ")
def _(b):
    begun = time.time()
    cards = [enrolled(b, f"life-{n}") for n in range(3)]
    for about in (facts(card.chain[0]) for card in cards):
        holds_true(3590 <= begun - about.begins <= 3610, "a beginning an hour before it was issued", begun - about.begins)
        life = about.ends - begun
        holds_true(abs(life - LIFE / 1000) < 10, f"an end in about {LIFE / 1000} s", life)
    holds_true(len({card.serial for card in cards}) == 3, "three serial numbers", [card.serial for card in cards])


@enrol.check("the second certificate is an authority's, under the CA, for clients alone, with none below it; openssl verifies the chain, with both revocation lists")
def _(b):
    card = enrolled(b, "chain-1")
    about = facts(card.chain[1])
    same(about.usages, ["TLS Web Client Authentication"], "extended key usage")
    same(re.sub(r"\s", "", about.constraints), "CA:TRUE,pathlen:0", "basic constraints")
    verify(b, card)


def verify(b, card, fine=True):
    """What openssl says to the chain, strictly, with both lists."""
    if not shutil.which("openssl"):
        raise Skip("openssl is not installed")
    leaf, issuing, lists = (os.path.join(b.dir, f"own-{next(NUMBERS)}.pem") for _ in range(3))
    for path, der in ((leaf, card.chain[0]), (issuing, card.chain[1])):
        with open(path, "w", encoding="ascii") as out:
            out.write(ssl.DER_cert_to_PEM_cert(der))
    with open(lists, "w", encoding="ascii") as out:
        for name in ("crl.pem", "issuing-crl.pem"):
            with open(os.path.join(b.certs, name), encoding="ascii") as text:
                out.write(text.read() + "\n")
    done = subprocess.run(
        ["openssl", "verify", "-x509_strict", "-purpose", "sslclient", "-crl_check_all", "-CRLfile", lists,
         "-CAfile", os.path.join(b.certs, "ca.pem"), "-untrusted", issuing, leaf],
        capture_output=True, text=True, timeout=30,
    )  # fmt: skip
    if fine:
        same((done.returncode, done.stderr), (0, ""), "openssl verify")
    else:
        holds_true(done.returncode != 0 and "revoked" in done.stderr, "revoked", done)


@enrol.check("two messages on one connection, sent at once, are answered in order; nothing more is")
def _(b):
    csr, pair = base(Key(b).request()), [invite(b, name).code for name in ("pair-1", "pair-2")]
    c = door(b)
    first, second, third = (c.make("enroll", code=told, csr=csr) for told in (NEVER_GIVEN, *pair))
    c.send_bytes(frame(first) + frame(second) + frame(third))
    answers = [c.recv(), c.recv()]
    same([(a["id"], a["code"]) for a in answers], [(first["id"], 20), (second["id"], 0)], "ids and codes in order")
    c.expect_close()
    code(door(b).call("enroll", code=third["code"], csr=third["csr"]))


@enrol.check("after its second answer the server closes, by close_notify")
def _(b):
    csr = base(Key(b).request())
    c = door(b)
    for _ in range(2):
        code(c.call("enroll", code=NEVER_GIVEN, csr=csr), 20)
    c.expect_close()


@enrol.check("a frame in pieces, one of 4,096 bytes, and an id of 2^53-1 are served")
def _(b):
    told = invite(b, "piece-1")
    text = json.dumps({"id": 2**53 - 1, "op": "enroll", "code": told.code, "csr": base(Key(b).request())}).encode()
    data = frame(text + b" " * (4096 - len(text)))
    c = door(b)
    for cut in (2, 4, 100, 4096):
        c.send_bytes(data[:cut])
        data = data[cut:]
    answer = c.recv()
    chain_of(answer)
    same(answer["id"], 2**53 - 1, "id")


# ---------------------------------------------------------------- a code serves once


@enrol.check("a wrong, a used, a taken-back, a replaced code and a disabled terminal's: the same answer 20, byte for byte, and no certificate")
def _(b):
    request = Key(b).request()
    wrong = refused_code(b, NEVER_GIVEN, request)
    used = invite(b, "used-1")
    chain_of(redeem(b, used, Key(b).request()))
    same(refused_code(b, used.code, request), wrong, "answer to a used code with another key")
    back = invite(b, "back-1")
    b.operator("terminal", "uninvite", "back-1")
    same(refused_code(b, back.code, request), wrong, "answer to a code taken back")
    older, newer = invite(b, "newer-1"), invite(b, "newer-1")
    same(refused_code(b, older.code, request), wrong, "answer to a code that a newer one replaced")
    out = invite(b, "out-1")
    b.operator("terminal", "disable", "out-1")
    same(refused_code(b, out.code, request), wrong, "answer to the code of a disabled terminal")
    chain_of(redeem(b, newer, request))


@enrol.check("one character of an open code changed: 20, and the code still serves")
def _(b):
    told, request = invite(b, "near-1"), Key(b).request()
    for at in (0, 8, 22):
        other = told.code[:at] + ("0" if told.code[at] != "0" else "1") + told.code[at + 1 :]
        refused_code(b, other, request)
    chain_of(redeem(b, told, request))


@enrol.check("the same code with the same key gets the same certificate again: by the same request, by another of that key, from another address")
def _(b):
    told, key = invite(b, "again-1"), Key(b)
    request = key.request()
    first = chain_of(redeem(b, told, request))
    for other in (request, key.request(), key.request("-addext", "subjectAltName=DNS:x", subject="/CN=else")):
        same(chain_of(redeem(b, told, other)), first, "certificates")
    same(chain_of(redeem(b, told, request, source="127.0.0.2")), first, "certificates")
    refused_code(b, told.code, Key(b).request())
    same(chain_of(redeem(b, told, request)), first, "certificates after another key was refused")


@enrol.check("a new code for a name voids the used one: its own key gets 20 too; the certificate stays good")
def _(b):
    told, key = invite(b, "anew-1"), Key(b)
    card = Card(b, "anew-1", key, chain_of(redeem(b, told, key.request())))
    invite(b, "anew-1")
    refused_code(b, told.code, key.request())
    served(card, b)


@enrol.check("a used code cannot be taken back and goes on giving its key its certificate, until that is revoked: then 20")
def _(b):
    told, key = invite(b, "gone-2"), Key(b)
    first = chain_of(redeem(b, told, key.request()))
    holds_true(b.try_operator("terminal", "uninvite", "gone-2").returncode != 0, "no open code to take back", "one")
    same(chain_of(redeem(b, told, key.request())), first, "certificates")
    b.operator("terminal", "revoke", "gone-2")
    refused_code(b, told.code, key.request())


@enrol.check("`terminal revoke` voids the terminal's open code: 20, as for a wrong one, byte for byte")
def _(b):
    request = Key(b).request()
    enrolled(b, "gone-3")
    told = invite(b, "gone-3")
    b.operator("terminal", "revoke", "gone-3")
    same(refused_code(b, told.code, request), refused_code(b, NEVER_GIVEN, request), "answer to an open code of a revoked terminal")


@enrol.check("a lost answer and a restart of the server: the same certificate again, and an open code still serves")
def _(b):
    told, other, key = invite(b, "lost-1"), invite(b, "lost-2"), Key(b)
    first = chain_of(redeem(b, told, key.request()))
    same(b.restart(), 0, "exit code")
    same(chain_of(redeem(b, told, key.request())), first, "certificates")
    served(Card(b, "lost-1", key, first), b)
    chain_of(redeem(b, other, key.request()))


@enrol.check("fifty at once with one code and a key each: one gets a certificate, the others 20")
def _(b):
    told, requests = invite(b, "crowd-1"), [Key(b).request() for _ in range(50)]
    clients = [door(b) for _ in requests]
    jobs = [lambda c=c, r=r: c.call("enroll", code=told.code, csr=base(r)) for c, r in zip(clients, requests)]
    answers = parallel(jobs)
    same(sorted(a["code"] for a in answers), [0] + [20] * 49, "codes")
    won = [n for n, a in enumerate(answers) if a["code"] == 0][0]
    key = openssl("req", "-inform", "DER", "-noout", "-pubkey", data=requests[won]).decode()
    same(facts(chain_of(answers[won])[0]).public, openssl("pkey", "-pubin", "-outform", "DER", data=key.encode()), "public key")


@enrol.check("twenty at once with one code and one key never get two different certificates")
def _(b):
    told, request = invite(b, "twins-1"), Key(b).request()
    clients = [door(b) for _ in range(20)]
    answers = parallel([lambda c=c: c.call("enroll", code=told.code, csr=base(request)) for c in clients])
    given = {tuple(a["certificate"]) for a in answers if code(a, (0, 20))["code"] == 0}
    same(len(given), 1, "different certificates")


# ---------------------------------------------------------------- signing requests that are none


def broken_signature(b) -> bytes:
    request = Key(b).request()
    return request[:-1] + bytes([request[-1] ^ 1])


def anothers_key(b) -> bytes:
    """A request whose public key was exchanged for another after it was signed."""
    one, other = Key(b), Key(b)
    request, mine, theirs = one.request(), one.public(), other.public()
    holds_true(mine in request and len(mine) == len(theirs), "the key in the request", request)
    return request.replace(mine, theirs)


def of_size(b, size) -> bytes:
    """A request of exactly so many bytes, by an extension that nobody reads."""
    key, room = Key(b), size - 400
    for _ in range(100):
        request = key.request("-addext", f"1.3.6.1.4.1.99999.1=ASN1:UTF8String:{'x' * room}")
        if len(request) == size:
            return request
        if abs(len(request) - size) > 3:  # the signature's length varies
            room += size - len(request)
    raise Skip(f"no request of {size} bytes in 100 tries")


def long_length(b) -> bytes:
    """A request whose outer length takes a byte more than it needs: BER, not DER."""
    request = Key(b).request()
    holds_true(request[:2] == b"\x30\x81", "a length of one byte after the first", request)
    return b"\x30\x82\x00" + request[2:]


def fourth_element(b) -> bytes:
    """A request with a NULL after its signature, within the outer sequence."""
    request = Key(b).request()
    holds_true(request[:2] == b"\x30\x81" and request[2] < 254, "a length of one byte after the first", request)
    return b"\x30\x81" + bytes([request[2] + 2]) + request[3:] + b"\x05\x00"


ECDSA = bytes.fromhex("300a06082a8648ce3d040302")


def with_null(b) -> bytes:
    """A request whose algorithm has NULL for parameters, where there should be none."""
    request = Key(b).request()
    holds_true(request[:2] == b"\x30\x81" and request[2] < 254 and ECDSA in request, "ecdsa-with-SHA256", request)
    null = b"\x30\x0c" + ECDSA[2:] + b"\x05\x00"
    return b"\x30\x81" + bytes([request[2] + 2]) + request[3:].replace(ECDSA, null)


def version_1(b) -> bytes:
    """A request of a version that there is not, truly signed."""
    key = Key(b)
    request = key.request()
    info = request[3 : request.index(ECDSA)]
    holds_true(b"\x02\x01\x00" in info[:6], "version 0", info)
    info = info.replace(b"\x02\x01\x00", b"\x02\x01\x01", 1)
    signature = b"\x00" + openssl("dgst", "-sha256", "-sign", key.path, data=info)
    rest = info + ECDSA + b"\x03" + bytes([len(signature)]) + signature
    return b"\x30\x81" + bytes([len(rest)]) + rest


EC = ("-algorithm", "EC", "-pkeyopt")
BAD_REQUESTS = {
    "that is empty": lambda b: b"",
    "of bytes that are no DER": lambda b: b"no request at all",
    "that is an empty sequence": lambda b: b"\x30\x00",
    "cut off": lambda b: Key(b).request()[:-1],
    "with a byte after it": lambda b: Key(b).request() + b"\0",
    "whose outer length is not in its shortest form": long_length,
    "with a fourth element after the signature": fourth_element,
    "with NULL for the parameters of its algorithm": with_null,
    "of version 1": version_1,
    "of an RSA key": lambda b: Key(b, "-algorithm", "RSA", "-pkeyopt", "rsa_keygen_bits:2048").request(),
    "of an Ed25519 key": lambda b: Key(b, "-algorithm", "ED25519").request(),
    "of a P-384 key": lambda b: Key(b, *EC, "ec_paramgen_curve:P-384").request("-sha256"),
    "of a secp256k1 key": lambda b: Key(b, *EC, "ec_paramgen_curve:secp256k1").request(),
    "of a P-256 key with explicit parameters": lambda b: Key(b, *EC, "ec_paramgen_curve:P-256", "-pkeyopt", "ec_param_enc:explicit").request(),
    "signed with SHA-384": lambda b: Key(b).request("-sha384"),
    "with a broken signature": broken_signature,
    "with another's key": anothers_key,
    "of 2,049 bytes": lambda b: of_size(b, 2049),
    "that is a certificate": lambda b: ssl.PEM_cert_to_DER_cert(openssl("req", "-x509", "-key", Key(b).path, "-subj", "/CN=x").decode()),
}


def refused_10(b, payload, ids=(7, None)):
    """Answered with 10; the connection stays open and in step."""
    c = door(b)
    answer = c.raw(payload)
    if answer["code"] == 0:
        spare.cache_clear()  # used up, against the rule; the checks that follow have another
    code(answer, 10)
    holds_true(answer["id"] in ids, f"an id of {' or '.join(map(str, ids))}", answer)
    answer = code(c.raw({"id": 8, "op": "renew", "csr": spare(b)[1]}), 23)
    same(answer["id"], 8, "id")


for title, make in BAD_REQUESTS.items():

    @enrol.check(f"a signing request {title}: 10 with its id, and the connection stays open")
    def _(b, make=make):
        refused_10(b, {"id": 7, "op": "enroll", "code": spare(b)[0].code, "csr": base(make(b))}, ids=(7,))


@enrol.check("a signing request with a compressed point is refused (10); its key uncompressed is served")
def _(b):
    key = Key(b)
    small = openssl("ec", "-in", key.path, "-conv_form", "compressed")
    path = key.path + ".compressed"
    with open(path, "wb") as out:
        out.write(small)
    request = openssl("req", "-new", "-key", path, "-subj", "/CN=x", "-outform", "DER")
    if len(request) > len(key.request()) - 28:
        raise Skip("openssl does not compress the point")
    c, told = door(b), invite(b, "point-1")
    code(c.call("enroll", code=told.code, csr=base(request)), 10)
    chain_of(c.call("enroll", code=told.code, csr=base(key.request())))


@enrol.check("a signing request of exactly 2,048 bytes is served")
def _(b):
    chain_of(redeem(b, invite(b, "large-1"), of_size(b, 2048)))


@functools.cache
def odd_request(b) -> str:
    """A good request whose base64 has padding and both odd characters, so that each change below is one."""
    key = Key(b)
    for _ in range(200):
        text = base(key.request())
        if text.endswith("=") and "+" in text and "/" in text:
            return text
    raise Skip("no such request in 200 tries")


BASE64 = {
    "without its padding": lambda t: t.rstrip("="),
    "with padding too much": lambda t: t + "=",
    "with a line feed": lambda t: t[:64] + "\n" + t[64:],
    "with a space at its end": lambda t: t + " ",
    "in the alphabet for URLs": lambda t: t.replace("+", "-").replace("/", "_"),
    "in hexadecimal": lambda t: base64.b64decode(t).hex(),
    "with a character that is none": lambda t: "!" + t[1:],
    "as PEM": lambda t: f"-----BEGIN CERTIFICATE REQUEST-----\n{t}\n-----END CERTIFICATE REQUEST-----\n",
}
for title, change in BASE64.items():

    @enrol.check(f"a signing request {title}: 10 with its id, and the connection stays open")
    def _(b, change=change):
        refused_10(b, {"id": 7, "op": "enroll", "code": spare(b)[0].code, "csr": change(odd_request(b))}, ids=(7,))


# ---------------------------------------------------------------- messages

CODES = {
    "in lower case": str.lower,
    "without hyphens": lambda t: t.replace("-", ""),
    "with spaces for hyphens": lambda t: t.replace("-", " "),
    "with a space after it": lambda t: t + " ",
    "with O": lambda t: "O" + t[1:],
    "with I": lambda t: "I" + t[1:],
    "with L": lambda t: "L" + t[1:],
    "with U": lambda t: "U" + t[1:],
    "of three groups": lambda t: t[:17],
    "of five groups": lambda t: t + "-00000",
    "that is empty": lambda t: "",
    "that is a number": lambda t: 7,
    "that is null": lambda t: None,
    "with a digit that is not ASCII": lambda t: "\u0664" + t[1:],
}


def reworded(change):
    """A message made of a good one, as text."""
    return lambda good: change(json.dumps(good)).encode()


def altered(**members):
    return lambda good: json.dumps({k: v for k, v in {**good, **members}.items() if v is not ...}).encode()


MALFORMED = {
    **{f"a code {title}": (lambda good, f=f: json.dumps({**good, "code": f(good["code"])}).encode()) for title, f in CODES.items()},
    "a byte-order mark": lambda good: b"\xef\xbb\xbf" + json.dumps(good).encode(),
    "bytes that are not UTF-8": lambda good: json.dumps(good).encode()[:-1] + b',"\xff":1}',
    "an object that is not ended": reworded(lambda t: t[:-1]),
    "a comma too many": reworded(lambda t: t[:-1] + ",}"),
    "something after the object": reworded(lambda t: t + "{}"),
    "an array about it": reworded(lambda t: f"[{t}]"),
    "an unknown member": altered(name="terminal-1"),
    "the code twice": reworded(lambda t: t[:-1] + ',"code":"' + NEVER_GIVEN + '"}'),
    "the code twice, once by escapes": reworded(lambda t: t[:-1] + ',"\\u0063ode":"' + NEVER_GIVEN + '"}'),
    "the op twice": reworded(lambda t: t[:-1] + ',"op":"enroll"}'),
    "no csr": altered(csr=...),
    "no code": altered(code=...),
    "a csr that is null": altered(csr=None),
    "a csr in an array": lambda good: json.dumps({**good, "csr": [good["csr"]]}).encode(),
    "no op": altered(op=...),
    "an op that is a number": altered(op=1),
    "no id": altered(id=...),
    "an id of null": altered(id=None),
    "an id that is a string": altered(id="7"),
    "an id of -1": altered(id=-1),
    "an id of 2^53": altered(id=2**53),
    "an id of 7.0": reworded(lambda t: t.replace('"id": 7', '"id": 7.0')),
}
for title, change in MALFORMED.items():

    @enrol.check(f"{title}: malformed (10), and the connection stays open")
    def _(b, change=change):
        told, csr = spare(b)
        refused_10(b, change({"id": 7, "op": "enroll", "code": told.code, "csr": csr}))


@enrol.check("the code in all the messages that were refused with 10 is not used up, not by another key either")
def _(b):
    told, _ = spare(b)
    chain_of(redeem(b, told, Key(b).request()))
    spare.cache_clear()


@enrol.check("white space, another order, escapes and -0 make no difference")
def _(b):
    told, csr = invite(b, "space-1"), base(Key(b).request())
    escaped = "".join(f"\\u{ord(c):04x}" for c in told.code)
    text = f' \t\r\n{{ "csr" : "{csr.replace("/", chr(92) + "/")}" ,"\\u0063ode":"{escaped}","o\\u0070":"enr\\u006fll" , "id":-0 }}\n'
    answer = door(b).raw(text.encode())
    chain_of(answer)
    same(answer["id"], 0, "id")


@enrol.check("every op of atm/1, and any other, is unknown here (12), with its id, whatever its members; with a certificate too")
def _(b):
    me, card = b.fresh(), enrolled(b, "ops-1")
    for n, message in enumerate((
        {"op": "login", "account": me.name, "pin": me.pin},
        {"op": "ping"},
        {"op": "balance"},
        {"op": "deposit", "amount": 1, "key": "0" * 16},
        {"op": "capture", "hold": "x", "amount": 1, "key": "0" * 16},
        {"op": "history"},
        {"op": "change_pin", "pin": me.pin, "new_pin": "830517"},
        {"op": "logout"},
        {"op": "Enroll", "code": NEVER_GIVEN, "csr": "MAA="},
        {"op": "nonsense", "with": [[1]]},
    )):  # fmt: skip
        c = card.door() if n % 2 else door(b)
        same(code(c.raw({"id": 7, **message}), 12)["id"], 7, "id")
        code(c.raw({"id": 8, "op": "renew", "csr": spare(b)[1]}), 0 if n % 2 else 23)
    code(b.connect().login(me))


@enrol.check("the ops of enrolment are unknown on atm/1 (12), with the certificate that could renew and logged in too, and use no code up")
def _(b):
    told, card, csr = invite(b, "wrong-door-1"), enrolled(b, "ops-2"), base(Key(b).request())
    for c in (b.connect(), b.session(), card.bank()):
        code(c.call("enroll", code=told.code, csr=csr), 12)
        code(c.call("ping"))
        code(c.call("renew", csr=csr), 12)
        code(c.call("ping"))
    chain_of(redeem(b, told, Key(b).request()))


EMPTY_OR_LARGE = {"of length 0": b"\0\0\0\0", "of 4,097 bytes": b"\0\0\x10\x01", "of 16,384 bytes": b"\0\0\x40\0", "of 2^32-1 bytes": b"\xff\xff\xff\xff"}
for title, header in EMPTY_OR_LARGE.items():

    @enrol.check(f"a frame {title} is answered with 11 from its header alone, with a null id, and the connection closed; with a certificate too")
    def _(b, header=header):
        answered_11(door(b), header)
        answered_11(enrolled(b, "frames-1").door(), header)


@enrol.check("what leaves in the midst of a frame, or right after the handshake, harms nothing")
def _(b):
    told, request = invite(b, "leave-1"), Key(b).request()
    data = frame({"id": 1, "op": "enroll", "code": told.code, "csr": base(request)})
    for leave in (Client.drop, Client.reset):
        for part in (b"", data[:2], data[:40], data[:-1]):
            c = door(b)
            c.send_bytes(part)
            leave(c)
    door(b).leave()
    chain_of(redeem(b, told, request))


# ---------------------------------------------------------------- to renew


@enrol.check("renew gives a certificate of the same name, another serial number, for the new key; it serves, and so does the old one")
def _(b):
    card, key = enrolled(b, "renew-1"), Key(b)
    fresh = renewed(card, key)
    about = facts(fresh.chain[0])
    same(about.public, key.public(), "public key")
    same((about.subject, about.names, about.usages), ("CN=renew-1", ["URI:urn:atm:terminal:renew-1"], ["TLS Web Client Authentication"]), "names and usage")
    holds_true(about.serial != card.serial, "another serial number", about.serial)
    holds_true(abs(about.ends - time.time() - LIFE / 1000) < 10, "a whole life", about.ends - time.time())
    for one in (fresh, card):
        served(one, b)
    verify(b, fresh)
    served(renewed(fresh), b)


@enrol.check("renewing, what the request asks for is ignored")
def _(b):
    card = enrolled(b, "renew-2")
    csr = Key(b).request("-addext", "subjectAltName=URI:urn:atm:terminal:terminal-1", subject="/CN=terminal-1")
    about = facts(chain_of(card.door().call("renew", csr=base(csr)))[0])
    same((about.subject, about.names), ("CN=renew-2", ["URI:urn:atm:terminal:renew-2"]), "names")


@enrol.check("renew without a certificate is 23, and the connection stays open")
def _(b):
    csr, told = base(Key(b).request()), invite(b, "bare-1")
    c = door(b)
    same(code(c.call("renew", csr=csr), 23)["id"], 1, "id")
    chain_of(c.call("enroll", code=told.code, csr=csr))


@enrol.check("renew with a signing request that is none, or with a member too many, is 10; then it is served on the same connection")
def _(b):
    card, csr = enrolled(b, "renew-3"), base(Key(b).request())
    for message in ({"csr": base(broken_signature(b))}, {"csr": "?"}, {}, {"csr": csr, "code": NEVER_GIVEN}):
        c = card.door()
        code(c.raw({"id": 7, "op": "renew", **message}), 10)
        chain_of(c.call("renew", csr=csr))


@enrol.check("the certificate of a terminal that did not enrol renews nothing: 20, as for a wrong code, byte for byte; it serves on")
def _(b):
    csr = base(Key(b).request())
    wrong = refused_code(b, NEVER_GIVEN, Key(b).request())
    c = Client(b, context=b.context("terminal-1", alpn=(ENROLL,)))
    same(refusal(c, op="renew", csr=csr), wrong, "answer to a certificate that is not on record")
    b.session().do("balance")


@enrol.check("a code serves beside a certificate that is shown, for the invited name")
def _(b):
    told, card = invite(b, "second-1"), enrolled(b, "first-1")
    about = facts(chain_of(card.door().call("enroll", code=told.code, csr=base(Key(b).request())))[0])
    same(about.names, ["URI:urn:atm:terminal:second-1"], "subject alternative names")


UNFIT = {
    "under another CA": ("URI:urn:atm:terminal:odd", {"own_ca": True}),
    "of a server": ("URI:urn:atm:terminal:odd", {"extendedKeyUsage": "serverAuth"}),
    "with two terminal names": ("URI:urn:atm:terminal:one,URI:urn:atm:terminal:two", {}),
    "without a terminal name": ("DNS:terminal-1", {}),
}
for title, (names, changes) in UNFIT.items():

    @enrol.check(f"a certificate {title} is not let in to enrolment")
    def _(b, names=names, changes=changes):
        context = crafted(b, names, **changes)
        context.set_alpn_protocols([ENROLL])
        not_heard(b, context)


@enrol.check("a certificate of the CA that is on its revocation list is not let in to enrolment")
def _(b):
    context = b.context("till-9", alpn=(ENROLL,))
    code(Client(b, context=context).raw(wrong_code(b)), 20)
    b.must(b.certs_bin, "revoke", "till-9", "--out", b.certs)
    b.process.send_signal(signal.SIGHUP)

    def out():
        try:
            Client(b, context=context).raw(wrong_code(b))
        except (ssl.SSLError, OSError, Closed):
            return True

    holds_true(until(out, 6), "no answer within 5 s", "one")
    not_heard(b, context)


@enrol.check("a certificate that names an enrolled terminal's certificate as its authority is let in nowhere")
def _(b):
    card, key = enrolled(b, "parent-1"), Key(b)
    rules = os.path.join(b.dir, f"own-{next(NUMBERS)}.ext")
    with open(rules, "w", encoding="ascii") as out:
        out.write("extendedKeyUsage=clientAuth\nsubjectAltName=URI:urn:atm:terminal:child-1\n")
    leaf = openssl("x509", "-req", "-inform", "DER", "-CA", card.path, "-CAkey", card.key.path, "-set_serial", "7",
                   "-days", "1", "-extfile", rules, "-outform", "DER", data=key.request())  # fmt: skip
    child = Card(b, "child-1", key, [leaf, *card.chain])
    not_heard(b, child.context(ENROLL))
    never_served(b, child.context())


def let_in(card) -> bool:
    try:
        return card.bank().call("ping")["code"] == 0
    except (Closed, OSError):
        return False


@enrol.check("a disabled terminal: its certificate does not serve; renew on a connection that was open is 20, as for a wrong code, byte for byte; enabled again, both are served")
def _(b):
    card, csr = enrolled(b, "off-1"), base(Key(b).request())
    c, waiting = served(card, b), card.door()
    wrong = refused_code(b, NEVER_GIVEN, Key(b).request())
    b.operator("terminal", "disable", "off-1")
    ends_within(c, 5)
    never_served(b, card.context())
    same(refusal(waiting, op="renew", csr=csr), wrong, "answer to a disabled terminal")
    b.operator("terminal", "enable", "off-1")
    holds_true(until(lambda: let_in(card), 3), "service after `terminal enable`", "none")
    chain_of(card.door().call("renew", csr=csr))


@enrol.check("a new connection with the certificate of a disabled terminal is closed with close_notify before any message is read, also one with another terminal's code, which still serves")
def _(b):
    card, csr, told = enrolled(b, "off-2"), base(Key(b).request()), invite(b, "on-2")
    b.operator("terminal", "disable", "off-2")
    card.door().expect_close()
    for message in ({"op": "renew", "csr": csr}, {"op": "enroll", "code": told.code, "csr": csr}):
        c = card.door()
        try:
            c.send_bytes(frame(json.dumps({"id": 7, **message}).encode()))
        except OSError:
            continue  # closed already
        c.expect_close(clean=False)
    chain_of(redeem(b, told, Key(b).request()))


@enrol.check("the code of a terminal that was disabled, refused with 20, serves when it is enabled again; so does a used one with its own key")
def _(b):
    key, used, told = Key(b), invite(b, "off-3"), invite(b, "off-4")
    first = chain_of(redeem(b, used, key.request()))
    for name, invited in (("off-3", used), ("off-4", told)):
        b.operator("terminal", "disable", name)
        refused_code(b, invited.code, key.request())
        b.operator("terminal", "enable", name)
    same(chain_of(redeem(b, used, key.request())), first, "certificates")
    chain_of(redeem(b, told, key.request()))


@enrol.check("renew with the key of the certificate it renews is served, with another serial number")
def _(b):
    card = enrolled(b, "same-key-1")
    about = facts(renewed(card, card.key).chain[0])
    same(about.public, card.key.public(), "public key")
    holds_true(about.serial != card.serial, "another serial number", about.serial)


@enrol.check("renew with the same key gets the same certificate again, by another request, after a restart too, more often than a terminal may have certificates; another key gets another")
def _(b):
    card, key = enrolled(b, "again-1"), Key(b)
    first = renewed(card, key)
    for _ in range(CERTIFICATES_MAX):
        same(renewed(card, key).chain, first.chain, "certificates")
    same(b.restart(), 0, "exit code")
    same(renewed(card, key).chain, first.chain, "certificates")
    other = renewed(card)
    holds_true(other.serial != first.serial, "another serial number", other.serial)
    same(renewed(card, key).chain, first.chain, "certificates")
    next_one = renewed(first, key)
    holds_true(next_one.serial not in (card.serial, first.serial, other.serial), "a new serial number", next_one.serial)
    served(next_one, b)


@enrol.check("a renewal's key gets nothing that was revoked: after a new code, a new certificate; revoked ones do not count")
def _(b):
    card, key = greedy(b, "again-2"), Key(b)
    b.operator("terminal", "revoke", "again-2")
    card = enrolled(b, "again-2")
    first = renewed(card, key)
    b.operator("terminal", "revoke", "again-2")
    second = renewed(enrolled(b, "again-2"), key)
    holds_true(second.serial != first.serial, "another serial number", second.serial)
    served(second, b)


@enrol.check("after `terminal revoke` open connections end, no certificate of that terminal is let in or renewed, others are; a new code lets it in again")
def _(b):
    other, card = enrolled(b, "kept-1"), enrolled(b, "gone-1")
    cards = [card, renewed(card)]
    banks, waiting = [served(one, b) for one in cards], card.door()
    b.operator("terminal", "revoke", "gone-1")
    for c in banks:
        ends_within(c, 5)
    try:
        code(waiting.call("renew", csr=base(Key(b).request())), 20)
    except (Closed, OSError):
        pass  # ended with the others
    for one in cards:
        never_served(b, one.context())
        not_heard(b, one.context(ENROLL))
        verify(b, one, fine=False)
    same(b.restart(), 0, "exit code")
    for one in cards:
        never_served(b, one.context())
        not_heard(b, one.context(ENROLL))
    served(other, b)
    chain_of(other.door().call("renew", csr=base(Key(b).request())))
    served(enrolled(b, "gone-1"), b)


CERTIFICATES_MAX = 16


def greedy(b, name) -> Card:
    """A terminal that renewed until it was told to wait: it has as many certificates as renewing gives."""
    card = enrolled(b, name)
    for n in range(CERTIFICATES_MAX):
        c = card.door() if n % 2 == 0 else c
        answer = c.call("renew", csr=base(Key(b).request()))
        if answer["code"] != 0:
            code(answer, 40)
            waits = answer.get("retry_after_ms")
            holds_true(whole(waits) and 0 < waits <= LIFE, f"retry_after_ms of at most {LIFE}", answer)
            same(n + 1, CERTIFICATES_MAX, "certificates of one terminal")
            return card
    raise Mismatch(f"expected code 40, got {CERTIFICATES_MAX + 1} certificates of one terminal")


@enrol.check("renewing again and again ends with 40 and retry_after_ms, until one of the certificates ends; the terminal serves on, and another is served")
def _(b):
    served(greedy(b, "greedy-1"), b)
    renewed(enrolled(b, "modest-1"))


@enrol.check("the code of a terminal that has as many certificates as renewing gives is served: staff gave it")
def _(b):
    greedy(b, "greedy-2")
    card = enrolled(b, "greedy-2")
    served(card, b)
    code(card.door().call("renew", csr=spare(b)[1]), 40)


@enrol.check("switched off and SIGHUP: enroll/1 is refused in the handshake, and who enrolled is not let in; switched on again, both are")
def _(b):
    card = enrolled(b, "switch-1")
    served(card, b)
    try:
        b.write_config(enroll={"enabled": "off"})
        b.process.send_signal(signal.SIGHUP)

        def closed():
            try:
                door(b).drop()
            except (ssl.SSLError, OSError):
                return True

        holds_true(until(closed, 5), "a refused handshake", "one that finished")
        never_served(b, card.context())
        b.session().do("balance")
    finally:
        b.write_config(enroll={"enabled": "on"})
        b.process.send_signal(signal.SIGHUP)

    def opened():
        try:
            return door(b)
        except (ssl.SSLError, OSError):
            return None

    holds_true(until(opened, 5), "a handshake", "none")
    served(card, b)


@enrol.check("a server that goes down tells an enrolment connection 52, with a null id, and closes")
def _(b):
    csr = base(Key(b).request())
    c = door(b)
    code(c.call("enroll", code=NEVER_GIVEN, csr=csr), 20)
    try:
        same(b.stop(), 0, "exit code")
        c.expect_event(52)
        c.expect_close()
    finally:
        b.start()


# ---------------------------------------------------------------- times

timed = group(
    "enrolment: times",
    terminals=("terminal-1",),
    server={"frame_timeout_ms": 1500},
    enroll={"enabled": "on", "certificate_ms": 2000, "code_ms": 1500, **ROOM, **MANY},
)


@timed.check("a code that is over gets 20 as a wrong one, byte for byte; a certificate that ended serves and renews no more")
def _(b):
    keys = [Key(b) for _ in range(2)]
    requests = [key.request() for key in keys]
    over = invite(b, "late-1")
    card = Card(b, "short-1", keys[0], chain_of(redeem(b, invite(b, "short-1"), requests[0])))
    code(card.bank().call("ping"))
    about = facts(card.chain[0])
    holds_true(about.ends - time.time() <= 2.5, "an end within 2 s", about.ends - time.time())
    time.sleep(max(1.6, about.ends + 1.2 - time.time()))
    wrong = refused_code(b, NEVER_GIVEN, requests[1])
    same(refused_code(b, over.code, requests[1]), wrong, "answer to a code that is over")
    never_served(b, card.context())
    not_heard(b, card.context(ENROLL))


@timed.check("a frame not complete in time closes the connection without an answer")
def _(b):
    cut_short(door(b), frame({"id": 1, "op": "enroll"})[:-1])


@timed.check("without a certificate the first message must be whole 3 s after the handshake")
def _(b):
    begun = time.monotonic()
    silent, slow = door(b), door(b)
    time.sleep(max(0.0, begun + 2 - time.monotonic()))
    slow.send_bytes(frame({"id": 1, "op": "enroll"})[:-1])
    for c in (silent, slow):
        c.expect_close(timeout=4)
        took = time.monotonic() - begun
        holds_true(2.5 <= took <= 5, "an end after about 3 s", f"{took:.2f} s")


@timed.check("a connection ends 10 s after its handshake: with a certificate and silent, after a message, or with one it is at")
def _(b):
    csr = base(Key(b).request())
    begun = time.monotonic()
    silent, slow = (Client(b, context=b.context("terminal-1", alpn=(ENROLL,))) for _ in range(2))
    busy = door(b)
    code(busy.call("enroll", code=NEVER_GIVEN, csr=csr), 20)
    for c in (silent, busy, slow):
        c.silent(0.01)
    time.sleep(max(0.0, begun + 8.8 - time.monotonic()))
    slow.send_bytes(frame({"id": 1, "op": "enroll"})[:-1])
    for c in (silent, busy, slow):
        c.expect_close(timeout=4)
        took = time.monotonic() - begun
        holds_true(9 <= took <= 12, "an end after about 10 s", f"{took:.2f} s")


# ---------------------------------------------------------------- client_auth = "off"

unasked = group("enrolment: client_auth off", tls={"client_auth": "off"}, enroll={"enabled": "on", **ROOM, **MANY})


@unasked.check("where atm/1 asks for no certificate, enroll/1 still does: a code gives one, and that renews")
def _(b):
    card = enrolled(b, "off-1")
    code(card.door().call("renew", csr=base(Key(b).request())))
    code(door(b).call("renew", csr=base(Key(b).request())), 23)
    code(Client(b, context=b.context(None)).login())


# ---------------------------------------------------------------- rates

by_address = group("enrolment: tries of an address", terminals=("terminal-1",), enroll={"enabled": "on", **ROOM, "attempts_per_minute_per_ip": 6, "attempts_per_minute": 1_000_000})


def asked(b, source, message=None) -> dict:
    """One message on a connection of its own, a wrong code where none is named."""
    return door(b, source=source).raw(message or wrong_code(b))


def waits(answer) -> dict:
    code(answer, 40)
    holds_true(whole(answer.get("retry_after_ms")) and 0 < answer["retry_after_ms"] <= 60_000, "retry_after_ms of at most a minute", answer)
    return answer


@by_address.check("after attempts_per_minute_per_ip messages of an address, 40 with retry_after_ms and its id; an open code is not used up and serves from another address")
def _(b):
    told, _ = invite(b, "tries-1"), spare(b)
    same([asked(b, "127.0.0.2")["code"] for _ in range(6)], [20] * 6, "codes")
    answer = waits(asked(b, "127.0.0.2", {"id": 7, "op": "enroll", "code": told.code, "csr": spare(b)[1]}))
    same(answer["id"], 7, "id")
    c = door(b, source="127.0.0.2")
    waits(c.call("enroll", code=told.code, csr=spare(b)[1]))
    waits(c.call("enroll", code=told.code, csr=spare(b)[1]))
    chain_of(asked(b, "127.0.0.3", {"id": 7, "op": "enroll", "code": told.code, "csr": spare(b)[1]}))


@by_address.check("messages that are malformed, unknown, or refused otherwise count like any other")
def _(b):
    told, key = invite(b, "tries-2"), Key(b)
    good = {"id": 7, "op": "enroll", "code": told.code, "csr": base(key.request())}
    for message, wanted in (
        (b"{}", 10),
        ({**good, "csr": "?"}, 10),
        ({"id": 7, "op": "ping"}, 12),
        ({"id": 7, "op": "renew", "csr": spare(b)[1]}, 23),
        (good, 0),
        (good, 0),
    ):
        code(asked(b, "127.0.0.4", message), wanted)
    waits(asked(b, "127.0.0.4", good))


@by_address.check("messages with a certificate count by terminal: the address's are not used up, nor another terminal's")
def _(b):
    key = Key(b)
    chains = [chain_of(asked(b, f"127.0.0.{n}", {"id": 7, "op": "enroll", "code": invite(b, f"rate-{n}").code, "csr": base(key.request())})) for n in (5, 6)]
    one, other = (Card(b, f"rate-{n}", key, chain) for n, chain in zip((5, 6), chains))

    def renew(card, source):
        return Client(b, context=card.context(ENROLL), source=source).call("renew", csr=spare(b)[1])

    same([renew(one, "127.0.0.7")["code"] for _ in range(6)], [0] * 6, "codes")
    waits(renew(one, "127.0.0.7"))
    waits(renew(one, "127.0.0.8"))
    chain_of(renew(other, "127.0.0.7"))
    code(asked(b, "127.0.0.7"), 20)


@by_address.check("an address over its rate goes on with customers on atm/1, and renews with its certificate")
def _(b):
    key = Key(b)
    told = invite(b, "tries-3")
    chain = chain_of(asked(b, "127.0.0.9", {"id": 7, "op": "enroll", "code": told.code, "csr": base(key.request())}))
    card = Card(b, "tries-3", key, chain)
    for _ in range(6):
        last = asked(b, "127.0.0.9")
    waits(last)
    code(b.connect(source="127.0.0.9").login())
    chain_of(Client(b, context=card.context(ENROLL), source="127.0.0.9").call("renew", csr=spare(b)[1]))


together = group("enrolment: tries of all together", terminals=("terminal-1",), enroll={"enabled": "on", **ROOM, "attempts_per_minute_per_ip": 1_000, "attempts_per_minute": 8})


@together.check("after attempts_per_minute messages of all addresses, 40 with retry_after_ms to every address without a certificate; who shows one renews, and no code is used up")
def _(b):
    key, told = Key(b), invite(b, "all-1")
    spent = invite(b, "all-2")
    card = Card(b, "all-2", key, chain_of(asked(b, "127.0.0.2", {"id": 7, "op": "enroll", "code": spent.code, "csr": base(key.request())})))
    chain_of(card.door().call("renew", csr=spare(b)[1]))
    same([asked(b, f"127.0.0.{n + 3}")["code"] for n in range(7)], [20] * 7, "codes")
    for n in (3, 100):
        waits(asked(b, f"127.0.0.{n}", {"id": 7, "op": "enroll", "code": told.code, "csr": spare(b)[1]}))
    chain_of(card.door().call("renew", csr=spare(b)[1]))
    same(b.restart(), 0, "exit code")
    chain_of(asked(b, "127.0.0.101", {"id": 7, "op": "enroll", "code": told.code, "csr": spare(b)[1]}))


# ---------------------------------------------------------------- places

ELEVEN_DAYS = 11 * 86_400_000
CROWD = 24
places = group(
    "enrolment: places",
    server={"max_connections": CROWD},
    enroll={"enabled": "on", "certificate_ms": ELEVEN_DAYS, "max_connections": 3, "max_connections_per_ip": 2, **MANY},
)


@places.check("a certificate never outlives the issuing authority")
def _(b):
    b.must(b.certs_bin, "issuing", "--force", "--days", "2", "--out", b.certs)
    b.restart()
    card = enrolled(b, "long-1")
    leaf, authority = (facts(der) for der in card.chain)
    holds_true(leaf.ends <= authority.ends < time.time() + 3 * 86_400, "an end not after the authority's", (leaf.ends, authority.ends))
    served(card, b)


def gives_way(c):
    """Told 41, with a null id, and closed: newer ones have its place."""
    c.expect_event(41)
    c.expect_close()


@places.check("of those that wait without a message, one over max_connections_per_ip puts out the oldest of its address, one over max_connections the oldest of all (41, closed); who was answered waits anew, and the bank is open meanwhile")
def _(b):
    wrong, csr = {"id": 7, "op": "enroll", "code": NEVER_GIVEN, "csr": spare(b)[1]}, spare(b)[1]
    first, second, third = (door(b, source="127.0.0.2") for _ in range(3))
    gives_way(first)
    code(second.raw(wrong), 20)
    other = door(b, source="127.0.0.3")
    code(b.connect(source="127.0.0.2").login())
    last = door(b, source="127.0.0.4")
    gives_way(third)
    for c in (second, other, last):
        code(c.raw(wrong), 20)
    code(door(b, source="127.0.0.2").call("renew", csr=csr), 23)


@places.check("who shows a certificate has places of its own: strangers that wait put none out, and it is served")
def _(b):
    csr = spare(b)[1]
    card = enrolled(b, "place-1")
    mine = [Client(b, context=card.context(ENROLL), source="127.0.0.2") for _ in range(2)]
    strangers = [door(b, source=f"127.0.0.{n + 2}") for n in range(4)]
    gives_way(strangers[0])
    for c in mine:
        chain_of(c.call("renew", csr=csr))
    newer = [Client(b, context=card.context(ENROLL), source="127.0.0.2") for _ in range(3)]
    gives_way(newer[0])
    for c in newer[1:]:
        chain_of(c.call("renew", csr=csr))


@places.check("one terminal has two places, from however many addresses it comes; another's is its own")
def _(b):
    csr = spare(b)[1]
    card, rogue = enrolled(b, "place-2"), enrolled(b, "place-3")
    mine = card.door()
    others = [Client(b, context=rogue.context(ENROLL), source=f"127.0.0.{n + 2}") for n in range(6)]
    for c in others[:4]:
        gives_way(c)
    for c in (mine, *others[4:]):
        chain_of(c.call("renew", csr=csr))


@places.check("a full server tells a terminal that enrols 41, with a null id, and closes")
def _(b):
    crowd = [b.connect() for _ in range(CROWD)]
    for c in crowd:
        code(c.call("ping"))
    c = door(b, source="127.0.0.2")
    c.expect_event(41)
    c.expect_close()
