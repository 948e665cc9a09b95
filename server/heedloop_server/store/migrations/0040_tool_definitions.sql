-- The tools that a call's request offered to the model, as JSON (heedloop.schema.ToolDefinition); empty where there were none.
-- Two statements: on a cluster the local table and the distributed one over it, else twice the same, harmlessly.
ALTER TABLE {db}.spans{local} {on_cluster}
    ADD COLUMN IF NOT EXISTS tool_definitions String DEFAULT '' CODEC(ZSTD(1)) AFTER output_messages;

ALTER TABLE {db}.spans {on_cluster}
    ADD COLUMN IF NOT EXISTS tool_definitions String DEFAULT '' CODEC(ZSTD(1)) AFTER output_messages;
