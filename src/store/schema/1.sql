-- Version 1. Money is in minor units, moments in milliseconds since 1970-01-01 UTC.

-- What the bank is: currency, the pepper of its hashes, when the store was made.
CREATE TABLE bank (
    name  TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

-- kind 0: a customer's; 1: a terminal's cash (number `cash:NAME`); 2: `opening`; 3: `adjustment`.
-- status 0: open; 1: locked by staff; 2: closed.
-- day, day_used: the business day (days since 1970) that withdrawals were last made on, and what
-- they and its open or captured holds used of that day's limit.
CREATE TABLE account (
    id               INTEGER PRIMARY KEY,
    number           TEXT    NOT NULL UNIQUE,
    kind             INTEGER NOT NULL CHECK (kind BETWEEN 0 AND 3),
    status           INTEGER NOT NULL DEFAULT 0 CHECK (status BETWEEN 0 AND 2),
    currency         TEXT    NOT NULL,
    balance          INTEGER NOT NULL DEFAULT 0,
    held             INTEGER NOT NULL DEFAULT 0 CHECK (held >= 0),
    day              INTEGER NOT NULL DEFAULT 0,
    day_used         INTEGER NOT NULL DEFAULT 0 CHECK (day_used >= 0),
    withdrawal_limit INTEGER CHECK (withdrawal_limit >= 0),
    daily_limit      INTEGER CHECK (daily_limit >= 0),
    head             BLOB    NOT NULL CHECK (length(head) = 32),
    opened_at        INTEGER NOT NULL,
    CHECK (kind <> 0 OR balance <= 1000000000000000)
) STRICT;

CREATE TABLE credential (
    account     INTEGER PRIMARY KEY REFERENCES account (id),
    revision    INTEGER NOT NULL,
    memory_kib  INTEGER NOT NULL,
    iterations  INTEGER NOT NULL,
    parallelism INTEGER NOT NULL,
    pepper      TEXT    NOT NULL,
    salt        BLOB    NOT NULL CHECK (length(salt) = 16),
    digest      BLOB    NOT NULL CHECK (length(digest) = 32),
    must_change INTEGER NOT NULL CHECK (must_change IN (0, 1)),
    expires_at  INTEGER,
    demo        INTEGER NOT NULL CHECK (demo IN (0, 1)),
    home        TEXT
) STRICT;
CREATE INDEX credential_demo ON credential (demo) WHERE demo = 1;

-- Tries not followed by a right PIN, of known and unknown account numbers alike.
CREATE TABLE try (
    number     TEXT PRIMARY KEY,
    home       INTEGER NOT NULL,
    other      INTEGER NOT NULL,
    last_at    INTEGER NOT NULL,
    expires_at INTEGER
) STRICT, WITHOUT ROWID;
CREATE INDEX try_expiry ON try (expires_at) WHERE expires_at IS NOT NULL;

CREATE TABLE terminal (
    id       INTEGER PRIMARY KEY,
    name     TEXT    NOT NULL UNIQUE,
    cash     INTEGER NOT NULL UNIQUE REFERENCES account (id),
    disabled INTEGER NOT NULL DEFAULT 0 CHECK (disabled IN (0, 1))
) STRICT;

-- The journal. One row is a whole double entry: its two postings, debit and credit, carry the same
-- amount, so that every entry sums to zero by its form. Each side has the account's balance after
-- it and the hash that chains it to that account's posting before it.
CREATE TABLE entry (
    id             INTEGER PRIMARY KEY CHECK (id > 0),
    at             INTEGER NOT NULL,
    kind           INTEGER NOT NULL CHECK (kind BETWEEN 1 AND 6),
    terminal       INTEGER REFERENCES terminal (id),
    debit          INTEGER NOT NULL REFERENCES account (id),
    credit         INTEGER NOT NULL REFERENCES account (id),
    amount         INTEGER NOT NULL CHECK (amount > 0),
    debit_balance  INTEGER NOT NULL,
    credit_balance INTEGER NOT NULL,
    debit_hash     BLOB    NOT NULL CHECK (length(debit_hash) = 32),
    credit_hash    BLOB    NOT NULL CHECK (length(credit_hash) = 32),
    CHECK (debit <> credit)
) STRICT;
CREATE INDEX entry_debit ON entry (debit, id);
CREATE INDEX entry_credit ON entry (credit, id);
CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'journal entries are immutable'); END;
CREATE TRIGGER entry_is_never_removed BEFORE DELETE ON entry
BEGIN SELECT RAISE(ABORT, 'journal entries are immutable'); END;

-- Why staff made an adjustment, and who.
CREATE TABLE reason (
    entry INTEGER PRIMARY KEY REFERENCES entry (id),
    text  TEXT NOT NULL,
    actor TEXT NOT NULL
) STRICT;

-- state 0: open; 1: captured; 2: released; 3: expired. settled_by is the request's row.
CREATE TABLE hold (
    id            INTEGER PRIMARY KEY,
    name          TEXT    NOT NULL UNIQUE,
    account       INTEGER NOT NULL REFERENCES account (id),
    terminal      INTEGER NOT NULL REFERENCES terminal (id),
    amount        INTEGER NOT NULL CHECK (amount > 0),
    authorized_at INTEGER NOT NULL,
    expires_at    INTEGER NOT NULL,
    state         INTEGER NOT NULL DEFAULT 0 CHECK (state BETWEEN 0 AND 3),
    captured      INTEGER NOT NULL DEFAULT 0 CHECK (captured BETWEEN 0 AND amount),
    entry         INTEGER REFERENCES entry (id),
    settled_by    INTEGER
) STRICT;
CREATE INDEX hold_open ON hold (account) WHERE state = 0;
CREATE INDEX hold_due ON hold (expires_at) WHERE state = 0;
CREATE INDEX hold_expired ON hold (account, expires_at) WHERE state = 3;

-- Answers kept by key. Ordered by time as rows; the index is ordered by key first, so that keys
-- ordered by time are appended.
CREATE TABLE request (
    id          INTEGER PRIMARY KEY,
    key         TEXT    NOT NULL,
    account     INTEGER NOT NULL REFERENCES account (id),
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 16),
    at          INTEGER NOT NULL,
    entry       INTEGER,
    hold        INTEGER,
    late        INTEGER NOT NULL DEFAULT 0 CHECK (late IN (0, 1)),
    balance     INTEGER NOT NULL,
    available   INTEGER NOT NULL
) STRICT;
CREATE UNIQUE INDEX request_key ON request (key, account);
