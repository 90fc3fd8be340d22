-- Version 6. The bank's clock, written with each commit, so that a start can judge the wall clock by it.
-- trusted: the moment, in milliseconds since 1970-01-01 UTC. boot: which boot of the machine it was, as
-- the kernel names it; boottime: milliseconds since that boot, CLOCK_BOOTTIME. ahead: the wall clock
-- less boottime, as believed. guard 0: none; 1: jumped; 2: behind at a start; 3: too far apart at a
-- start to tell which is right, and trusted is what the store says, which may be wrong. corrections: those believed within the last hour, `boottime:milliseconds` with commas between.
CREATE TABLE clock (
    one         INTEGER PRIMARY KEY CHECK (one = 1),
    trusted     INTEGER NOT NULL,
    boot        TEXT    NOT NULL,
    boottime    INTEGER NOT NULL,
    ahead       INTEGER NOT NULL,
    guard       INTEGER NOT NULL CHECK (guard BETWEEN 0 AND 3),
    corrections TEXT    NOT NULL
) STRICT;

-- A store from before begins with its newest stamps. They are those of the last rows, not the
-- greatest of all: one from a clock that was once ahead must not rule for ever.
INSERT INTO clock
    SELECT 1, max(at), '', 0, 0, 0, '' FROM (
        SELECT (SELECT at FROM entry ORDER BY id DESC LIMIT 1) AS at UNION ALL
        SELECT (SELECT at FROM request ORDER BY id DESC LIMIT 1) UNION ALL
        SELECT (SELECT at FROM audit ORDER BY id DESC LIMIT 1))
    HAVING max(at) IS NOT NULL;
