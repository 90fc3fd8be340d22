-- Version 5. A posting names its account's posting before it, and an account its last, so that no
-- index by account has a page of its own touched for each posting. Rows of entries and of kept
-- answers are appended; what a commit touches hardly grows with the number of accounts.
ALTER TABLE account ADD COLUMN last_entry INTEGER NOT NULL DEFAULT 0;
ALTER TABLE account ADD COLUMN postings INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN debit_previous INTEGER NOT NULL DEFAULT 0;
ALTER TABLE entry ADD COLUMN credit_previous INTEGER NOT NULL DEFAULT 0;

DROP TRIGGER entry_is_never_changed;
UPDATE entry SET
    debit_previous = max(
        coalesce((SELECT max(id) FROM entry AS past WHERE past.debit = entry.debit AND past.id < entry.id), 0),
        coalesce((SELECT max(id) FROM entry AS past WHERE past.credit = entry.debit AND past.id < entry.id), 0)),
    credit_previous = max(
        coalesce((SELECT max(id) FROM entry AS past WHERE past.debit = entry.credit AND past.id < entry.id), 0),
        coalesce((SELECT max(id) FROM entry AS past WHERE past.credit = entry.credit AND past.id < entry.id), 0));
CREATE TRIGGER entry_is_never_changed BEFORE UPDATE ON entry
BEGIN SELECT RAISE(ABORT, 'journal entries are immutable'); END;
UPDATE account SET
    last_entry = max(
        coalesce((SELECT max(id) FROM entry WHERE debit = account.id), 0),
        coalesce((SELECT max(id) FROM entry WHERE credit = account.id), 0)),
    postings =
        (SELECT count(*) FROM entry WHERE debit = account.id) +
        (SELECT count(*) FROM entry WHERE credit = account.id);

-- Each account's 64th posting, 128th, and so on: where a search within its postings begins.
CREATE TABLE posting_mark (
    account INTEGER NOT NULL REFERENCES account (id),
    entry   INTEGER NOT NULL REFERENCES entry (id),
    PRIMARY KEY (account, entry)
) STRICT, WITHOUT ROWID;
INSERT INTO posting_mark (account, entry)
    SELECT account, id FROM (
        SELECT account, id, row_number() OVER (PARTITION BY account ORDER BY id) AS place FROM (
            SELECT debit AS account, id FROM entry UNION ALL SELECT credit, id FROM entry))
    WHERE place % 64 = 0;
DROP INDEX entry_debit;
DROP INDEX entry_credit;

-- A key that is a UUID, written as RFC 9562 has it in lower case, is kept as its 16 bytes: which text
-- they stood for is certain. Any other key is kept as text.
CREATE TABLE request_5 (
    id          INTEGER PRIMARY KEY,
    key         ANY     NOT NULL CHECK (typeof(key) = 'text' OR (typeof(key) = 'blob' AND length(key) = 16)),
    account     INTEGER NOT NULL REFERENCES account (id),
    fingerprint BLOB    NOT NULL CHECK (length(fingerprint) = 16),
    at          INTEGER NOT NULL,
    entry       INTEGER,
    hold        INTEGER,
    late        INTEGER NOT NULL DEFAULT 0 CHECK (late IN (0, 1)),
    balance     INTEGER NOT NULL,
    available   INTEGER NOT NULL
) STRICT;
INSERT INTO request_5
    SELECT id,
        CASE WHEN length(key) = 36 AND substr(key, 9, 1) || substr(key, 14, 1) || substr(key, 19, 1)
                || substr(key, 24, 1) = '----' AND length(replace(key, '-', '')) = 32
                AND replace(key, '-', '') NOT GLOB '*[^0-9a-f]*'
            THEN unhex(replace(key, '-', '')) ELSE key END,
        account, fingerprint, at, entry, hold, late, balance, available
    FROM request;
DROP TABLE request;
ALTER TABLE request_5 RENAME TO request;
CREATE UNIQUE INDEX request_key ON request (key, account);
