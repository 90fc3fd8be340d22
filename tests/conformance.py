#!/usr/bin/env python3
"""Conformance client for the bank-terminal protocol, version 1 (ALPN `atm/1`), and enrolment (`enroll/1`).

It was written from the wire contract and the command page alone, shares no code with the
server, and needs nothing but Python 3.11 (`openssl`, where present, makes keys and odd certificates; enrolment is skipped without it).

    cargo build --workspace
    python3 tests/conformance.py --bin-dir target/debug            # everything
    python3 tests/conformance.py --bin-dir target/debug --list     # the names
    python3 tests/conformance.py --bin-dir target/debug --only "late capture|frames:"

Each group of checks gets a bank of its own in a temporary folder: fresh certificates,
configuration, accounts and store, a server on a free port, ended by SIGTERM at the end.
One line a check, `N passed, N failed` at the end, exit 1 where anything failed.
"""

import argparse
import os
import sys

sys.dont_write_bytecode = True
sys.path.insert(0, os.path.dirname(os.path.abspath(__file__)))

# The folder `conformance/` beside this file: what runs the checks, then the checks.
from conformance import harness  # noqa: E402
from conformance import transport, messages, sessions, money, holds, lifecycle, enrolment  # noqa: E402,F401


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--bin-dir", default="target/debug", help="where bank_server and gen-certs are")
    parser.add_argument("--only", metavar="PATTERN", help="a regular expression over `group: name`")
    parser.add_argument("--list", action="store_true", help="names the checks and ends")
    parser.add_argument("--jobs", type=int, default=4, help="groups that run side by side")
    parser.add_argument("--keep", action="store_true", help="keeps the temporary folders")
    args = parser.parse_args()
    return harness.run(args)


if __name__ == "__main__":
    sys.exit(main())
