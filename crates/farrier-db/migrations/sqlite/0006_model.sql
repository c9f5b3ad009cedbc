-- What machines of one model have in common is kept once. A row from before has its inventory in its document, until
-- it is stored again.
CREATE TABLE model (
    id  INTEGER NOT NULL PRIMARY KEY,
    doc TEXT    NOT NULL UNIQUE               -- an inventory without what is one machine's alone
) STRICT;

ALTER TABLE machine ADD COLUMN model INTEGER REFERENCES model (id);
ALTER TABLE machine ADD COLUMN marks TEXT;    -- what the model leaves out
CREATE INDEX machine_by_model ON machine (model) WHERE model IS NOT NULL;

-- The last machine of a model takes it along.
CREATE TRIGGER model_after_change AFTER UPDATE OF model ON machine
WHEN old.model IS NOT NULL AND old.model IS NOT new.model
BEGIN
    DELETE FROM model WHERE id = old.model AND NOT EXISTS (SELECT 1 FROM machine WHERE model = old.model);
END;
CREATE TRIGGER model_after_end AFTER DELETE ON machine WHEN old.model IS NOT NULL
BEGIN
    DELETE FROM model WHERE id = old.model AND NOT EXISTS (SELECT 1 FROM machine WHERE model = old.model);
END;
