-- author_id: the person a key was made for; what is said with it is said by them. Empty for a key of a program.
-- Twice, for a cluster's local table and the distributed one over it; elsewhere the second changes nothing.
ALTER TABLE {db}.keys{local} {on_cluster} ADD COLUMN IF NOT EXISTS author_id String DEFAULT '';

ALTER TABLE {db}.keys {on_cluster} ADD COLUMN IF NOT EXISTS author_id String DEFAULT '';
