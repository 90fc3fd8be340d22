-- Version 8. Rows that no chain and no MAC covers have a sum of their columns, so that a bit that
-- flips on the disk is named and not answered with. It is no proof against whoever writes the file.
-- The program fills in the sums of rows that stood before.
ALTER TABLE request ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE hold ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE try ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE reason ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE certificate ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE invitation ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
ALTER TABLE bank ADD COLUMN sum INTEGER NOT NULL DEFAULT 0;
