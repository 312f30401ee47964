-- Why an instance is of no use though it runs, as its node last said; and since when.
ALTER TABLE instances ADD COLUMN impaired_code    TEXT;
ALTER TABLE instances ADD COLUMN impaired_message TEXT;
ALTER TABLE instances ADD COLUMN impaired_since   INTEGER;
