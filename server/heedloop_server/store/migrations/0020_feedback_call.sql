-- What the quality page needs of the judged call, copied to its feedback like `model` and the other columns of 0002, so that no
-- rate ever joins `spans`: the cost of a rate then grows with the ratings, not with the calls.
-- Two statements per column set: on a cluster the local table and the distributed one over it, else twice the same, harmlessly.
ALTER TABLE {db}.feedback{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS call_is_answer Bool DEFAULT true,
    ADD COLUMN IF NOT EXISTS call_status LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS call_tags Array(LowCardinality(String)) DEFAULT [],
    ADD COLUMN IF NOT EXISTS call_metadata Map(LowCardinality(String), String) DEFAULT map(),
    ADD COLUMN IF NOT EXISTS call_answer_chars UInt32 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS call_probability Float64 DEFAULT 1;

ALTER TABLE {db}.feedback {on_cluster}
    ADD COLUMN IF NOT EXISTS call_is_answer Bool DEFAULT true,
    ADD COLUMN IF NOT EXISTS call_status LowCardinality(String) DEFAULT '',
    ADD COLUMN IF NOT EXISTS call_tags Array(LowCardinality(String)) DEFAULT [],
    ADD COLUMN IF NOT EXISTS call_metadata Map(LowCardinality(String), String) DEFAULT map(),
    ADD COLUMN IF NOT EXISTS call_answer_chars UInt32 DEFAULT 0,
    ADD COLUMN IF NOT EXISTS call_probability Float64 DEFAULT 1;
