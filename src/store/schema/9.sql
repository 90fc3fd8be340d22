-- Version 9. How many holds of an account or of a terminal are open is counted for each new one, and those
-- of an account that are due are found by their time, however many are open.
DROP INDEX hold_open;
CREATE INDEX hold_open ON hold (account, expires_at) WHERE state = 0;
CREATE INDEX hold_of_terminal ON hold (terminal, expires_at) WHERE state = 0;
