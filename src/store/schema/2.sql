-- Version 2. A number has two budgets of tries: its home's (the terminal of the last good log-in when
-- the first try was counted) and that of all others, each with the moment of its own last try.
-- Tries that were counted under one budget stay in one, the others', and no terminal is their home:
-- a number that was locked stays locked, and known and unknown ones go on alike.
CREATE TABLE try_2 (
    number        TEXT PRIMARY KEY,
    home_terminal TEXT,
    home          INTEGER NOT NULL CHECK (home >= 0),
    home_at       INTEGER NOT NULL,
    other         INTEGER NOT NULL CHECK (other >= 0),
    other_at      INTEGER NOT NULL,
    expires_at    INTEGER
) STRICT, WITHOUT ROWID;
INSERT INTO try_2 (number, home_terminal, home, home_at, other, other_at, expires_at)
    SELECT number, NULL, 0, last_at, home + other, last_at, expires_at FROM try;
DROP TABLE try;
ALTER TABLE try_2 RENAME TO try;
CREATE INDEX try_expiry ON try (expires_at) WHERE expires_at IS NOT NULL;

-- `bank` gets `stand_in_key`: 64 hex digits, made at random with this version, never shown. It says
-- which account an unknown number borrows home and hashing cost from.
