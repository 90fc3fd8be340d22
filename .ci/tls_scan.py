"""Reads what TLS scanners found at the bank, and ends with 1 where it is not what it must be.

usage: tls_scan.py sslyze FILE | testssl FILE | probe PORT CA
"""

import json
import socket
import ssl
import struct
import sys

SUITES = {"TLS_AES_256_GCM_SHA384", "TLS_AES_128_GCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"}
CURVES = {"X25519", "secp256r1", "secp384r1"}
OLD_VERSIONS = ("ssl_2_0", "ssl_3_0", "tls_1_0", "tls_1_1", "tls_1_2")

# What testssl.sh does not like, and why it stands: each by its id.
TESTSSL_EXCEPTIONS = {
    "cert_revocation": "a private CA: terminals trust it alone and read no list; a stolen server key is met by "
    "a new CA (docs/OPERATIONS.md)",
    "OCSP_stapling": "the same",
    "DNS_CAArecord": "a private CA: no public one may issue, whatever the DNS says",
    "service": "says only that it is no HTTP",
}
# sslyze tries the trust stores of browsers too; only the bank's own CA counts.
OWN_STORE = "Supplied CA file"

faults = []
looked_at = 0


def must(holds, words):
    global looked_at
    looked_at += 1
    if not holds:
        faults.append(words)


def sslyze(path):
    with open(path, encoding="utf-8") as file:
        report = json.load(file)
    must(len(report["server_scan_results"]) == 1, "one server was scanned")
    scan = report["server_scan_results"][0]
    must(scan["scan_status"] == "COMPLETED", f"the scan was completed: {scan['scan_status']}")
    found = {}
    for name, part in scan["scan_result"].items():
        must(part["status"] in ("COMPLETED", "NOT_SCHEDULED"), f"{name} was completed: {part['status']}")
        found[name] = part["result"]
    for version in OLD_VERSIONS:
        accepted = found[f"{version}_cipher_suites"]["accepted_cipher_suites"]
        must(accepted == [], f"{version} is refused: {accepted}")
    accepted = found["tls_1_3_cipher_suites"]["accepted_cipher_suites"]
    names = {suite["cipher_suite"]["name"] for suite in accepted}
    must(names == SUITES, f"the suites of TLS 1.3 are {SUITES}: {names}")
    must(all(suite["ephemeral_key"] for suite in accepted), "every suite has forward secrecy")
    curves = {curve["name"] for curve in found["elliptic_curves"]["supported_curves"]}
    must(curves == CURVES, f"the curves are {CURVES}: {curves}")
    must(found["tls_compression"]["supports_compression"] is False, "nothing is compressed")
    must(found["session_renegotiation"]["client_renegotiations_success_count"] == 0, "nothing is renegotiated")
    must(not found["session_renegotiation"]["is_vulnerable_to_client_renegotiation_dos"], "no DoS by renegotiation")
    resumption = found["session_resumption"]
    for kind in ("session_id", "tls_ticket"):
        must(resumption[f"{kind}_successful_resumptions_count"] == 0, f"no session is resumed by {kind}")
        result = resumption[f"{kind}_resumption_result"]
        must(result in ("SERVER_IS_TLS_1_3_ONLY", "NOT_SUPPORTED"), f"{kind}: {result}")
    must(found["heartbleed"]["is_vulnerable_to_heartbleed"] is False, "not vulnerable to Heartbleed")
    must(found["openssl_ccs_injection"]["is_vulnerable_to_ccs_injection"] is False, "not vulnerable to CCS")
    must(found["robot"]["robot_result"].startswith("NOT_VULNERABLE"), "not vulnerable to ROBOT")
    must(found["tls_fallback_scsv"]["supports_fallback_scsv"] is True, "a fallback is refused")
    certificates(found["certificate_info"])


def certificates(info):
    must(len(info["certificate_deployments"]) == 1, "one certificate is shown")
    shown = info["certificate_deployments"][0]
    stores = {one["trust_store"]["name"]: one["was_validation_successful"] for one in shown["path_validation_results"]}
    must(stores.get(OWN_STORE) is True, f"the certificate holds under the bank's CA: {stores}")
    must(not any(good for name, good in stores.items() if name != OWN_STORE), "and under no public one")
    must(shown["received_chain_has_valid_order"], "the chain is in order")
    must(shown["verified_chain_has_sha1_signature"] is False, "no SHA-1")


def testssl(path):
    with open(path, encoding="utf-8") as file:
        findings = json.load(file)
    must(len(findings) > 80, f"the scan was completed: {len(findings)} findings")
    for finding in findings:
        known = finding["id"] in TESTSSL_EXCEPTIONS
        good = finding["severity"] in ("OK", "INFO")
        must(good or known, f"testssl.sh: {finding['severity']} {finding['id']}: {finding['finding']}")
    by_id = {finding["id"]: finding["finding"] for finding in findings}
    for version in ("SSLv2", "SSLv3", "TLS1", "TLS1_1", "TLS1_2"):
        must(by_id[version] == "not offered", f"{version} is refused: {by_id[version]}")
    must(by_id["TLS1_3"].startswith("offered"), f"TLS 1.3 is offered: {by_id['TLS1_3']}")
    must(set(by_id["PFS_ciphers"].split()) == SUITES, f"forward secrecy: {by_id['PFS_ciphers']}")
    for kind in ("sessionresumption_ticket", "sessionresumption_ID"):
        must("not supported" in by_id[kind] or "no resumption" in by_id[kind], f"{kind}: {by_id[kind]}")


def frame(payload):
    return struct.pack(">I", len(payload)) + payload


def probe(port, authority):
    """With the ALPN, up to an answer: no ticket comes, so nothing can be resumed or sent early."""
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["atm/1"])
    for _ in range(3):
        with socket.create_connection(("127.0.0.1", int(port)), 10) as tcp:
            with context.wrap_socket(tcp, server_hostname="localhost") as tls:
                tls.sendall(frame(b'{"id":1,"op":"ping"}'))
                must(tls.recv(4096).endswith(b'{"id":1,"code":0}'), "a ping is answered")
                must(tls.version() == "TLSv1.3", f"TLS 1.3: {tls.version()}")
                must(tls.selected_alpn_protocol() == "atm/1", "the ALPN is atm/1")
                must(tls.compression() is None, "nothing is compressed")
                must(tls.session is None or not tls.session.has_ticket, "no ticket, so no early data")
    context.set_alpn_protocols(["http/1.1", "h2"])
    try:
        with socket.create_connection(("127.0.0.1", int(port)), 10) as tcp:
            context.wrap_socket(tcp, server_hostname="localhost").close()
        must(False, "another ALPN is refused in the handshake")
    except ssl.SSLError as error:
        words = str(error).lower().replace("_", " ")
        must("no application protocol" in words, f"the alert is no_application_protocol: {error}")


def main():
    {"sslyze": sslyze, "testssl": testssl, "probe": probe}[sys.argv[1]](*sys.argv[2:])
    for fault in faults:
        print(f"FAULT: {sys.argv[1]}: {fault}")
    print(f"{sys.argv[1]}: {looked_at - len(faults)} passed, {len(faults)} failed")
    sys.exit(1 if faults else 0)


main()
