-- The audit log: what happened, in order, each record chained by its hash to the one before it.
-- account is whole, in records of older versions masked. No record is ever changed or removed.
CREATE TABLE audit (
    id         INTEGER PRIMARY KEY CHECK (id > 0),
    at         INTEGER NOT NULL,
    event      TEXT    NOT NULL,
    outcome    TEXT    NOT NULL,
    account    TEXT,
    terminal   TEXT,
    connection INTEGER,
    actor      TEXT    NOT NULL,
    detail     TEXT    NOT NULL,
    hash       BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;

-- How many records there are, and the last one's hash: a log whose end was cut off does not fit it.
CREATE TABLE audit_head (
    one   INTEGER PRIMARY KEY CHECK (one = 1),
    count INTEGER NOT NULL,
    hash  BLOB    NOT NULL CHECK (length(hash) = 32)
) STRICT;
INSERT INTO audit_head (one, count, hash) VALUES (1, 0, zeroblob(32));

CREATE TRIGGER audit_is_never_changed BEFORE UPDATE ON audit
BEGIN SELECT RAISE(ABORT, 'audit records are immutable'); END;
CREATE TRIGGER audit_is_never_removed BEFORE DELETE ON audit
BEGIN SELECT RAISE(ABORT, 'audit records are immutable'); END;
CREATE TRIGGER audit_is_only_appended BEFORE INSERT ON audit
WHEN NEW.id IS NOT (SELECT count + 1 FROM audit_head)
BEGIN SELECT RAISE(ABORT, 'audit records are only appended'); END;
CREATE TRIGGER audit_head_only_grows BEFORE UPDATE ON audit_head
WHEN NEW.count <> OLD.count + 1 OR NEW.hash IS NOT (SELECT hash FROM audit WHERE id = NEW.count)
BEGIN SELECT RAISE(ABORT, 'the head of the audit log only grows'); END;
CREATE TRIGGER audit_head_is_never_removed BEFORE DELETE ON audit_head
BEGIN SELECT RAISE(ABORT, 'the head of the audit log only grows'); END;
