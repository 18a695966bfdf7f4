-- Places of the target in the retry topic that are complete whatever its committed position says, as JSON: [[first, behind the last], ...].
ALTER TABLE cursors ADD COLUMN places TEXT;
