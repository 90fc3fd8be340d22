-- Terminals that enrol themselves. Moments in milliseconds since 1970-01-01 UTC.

-- Certificates that the issuing authority gave out. der: the whole certificate, so that a code's
-- own key can have it again; key: SHA-256 of its public key. No private key was ever here.
CREATE TABLE certificate (
    serial     TEXT    PRIMARY KEY,
    terminal   TEXT    NOT NULL,
    key        BLOB    NOT NULL CHECK (length(key) = 32),
    issued_at  INTEGER NOT NULL,
    ends_at    INTEGER NOT NULL,
    revoked_at INTEGER,
    der        BLOB    NOT NULL
) STRICT, WITHOUT ROWID;
CREATE INDEX certificate_terminal ON certificate (terminal, ends_at);
CREATE INDEX certificate_end ON certificate (ends_at);
CREATE INDEX certificate_revoked ON certificate (revoked_at) WHERE revoked_at IS NOT NULL;

-- One code for each terminal at most. code: its SHA-256. serial: the certificate it gave.
CREATE TABLE invitation (
    terminal   TEXT    PRIMARY KEY,
    code       BLOB    NOT NULL UNIQUE CHECK (length(code) = 32),
    made_at    INTEGER NOT NULL,
    expires_at INTEGER NOT NULL,
    used_at    INTEGER,
    serial     TEXT    REFERENCES certificate (serial),
    CHECK ((used_at IS NULL) = (serial IS NULL))
) STRICT, WITHOUT ROWID;
CREATE INDEX invitation_serial ON invitation (serial) WHERE serial IS NOT NULL;
