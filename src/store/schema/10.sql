-- Version 10. An account's captured holds are found without a look at those of all others: mending the business
-- days that a wrong clock has turned counts their use anew, account by account.
CREATE INDEX hold_captured ON hold (account, authorized_at) WHERE state = 1;
