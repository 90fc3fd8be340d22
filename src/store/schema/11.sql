-- Version 11. Which hold an entry captured is found by the entry: what it withdrew counts upon its hold's day.
-- Captures are appended here, in the order of entries.
CREATE INDEX hold_entry ON hold (entry) WHERE state = 1;
