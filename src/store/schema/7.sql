-- Version 7. Rows that say who may get in, and on what terms, are covered: an account's number,
-- status, limits, PIN's hash and home, and whether a terminal is disabled. Each change appends a
-- record of the row, chained by its hash to the record before. mac: HMAC-SHA-256 over the record's
-- number, its revision and the row, under a key made of that pepper; the newest record of a row is the
-- row's. A terminal without a record is enabled. No record is ever changed or removed.
CREATE TABLE row_record (
    id       INTEGER PRIMARY KEY CHECK (id > 0),
    account  INTEGER REFERENCES account (id),
    terminal INTEGER REFERENCES terminal (id),
    revision INTEGER NOT NULL CHECK (revision > 0),
    pepper   TEXT    NOT NULL,
    mac      BLOB    NOT NULL CHECK (length(mac) = 32),
    hash     BLOB    NOT NULL CHECK (length(hash) = 32),
    CHECK ((account IS NULL) <> (terminal IS NULL))
) STRICT;
CREATE INDEX row_record_account ON row_record (account, id) WHERE account IS NOT NULL;
CREATE INDEX row_record_terminal ON row_record (terminal, id) WHERE terminal IS NOT NULL;

-- How many records there are, and the last one's hash: a log whose end was cut off does not fit it.
CREATE TABLE row_record_head (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    count INTEGER NOT NULL,
    hash  BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO row_record_head (one, count, hash) VALUES (1, 0, zeroblob(32));

CREATE TRIGGER row_record_is_never_changed BEFORE UPDATE ON row_record
BEGIN SELECT RAISE(ABORT, 'records of rows are immutable'); END;
CREATE TRIGGER row_record_is_never_removed BEFORE DELETE ON row_record
BEGIN SELECT RAISE(ABORT, 'records of rows are immutable'); END;
CREATE TRIGGER row_record_is_only_appended BEFORE INSERT ON row_record
WHEN NEW.id IS NOT (SELECT count + 1 FROM row_record_head)
BEGIN SELECT RAISE(ABORT, 'records of rows are only appended'); END;
CREATE TRIGGER row_record_head_only_grows BEFORE UPDATE ON row_record_head
WHEN NEW.count <> OLD.count + 1 OR NEW.hash IS NOT (SELECT hash FROM row_record WHERE id = NEW.count)
BEGIN SELECT RAISE(ABORT, 'the head of the records of rows only grows'); END;
CREATE TRIGGER row_record_head_is_never_removed BEFORE DELETE ON row_record_head
BEGIN SELECT RAISE(ABORT, 'the head of the records of rows only grows'); END;

-- Rows that stood before get their records with this version, by the program: only it has the pepper.
