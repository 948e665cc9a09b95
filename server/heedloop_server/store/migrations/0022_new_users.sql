-- Whether an answer's user was new: on the UTC day of the user's first call. The first days are kept by a projection, so that nobody
-- looks for them among all calls.
ALTER TABLE {db}.spans{local} {on_cluster} ADD PROJECTION IF NOT EXISTS users (
    SELECT
        project_id,
        user_id,
        min(toDate(start_time, 'UTC'))
    GROUP BY
        project_id,
        user_id
);
ALTER TABLE {db}.spans{local} {on_cluster} MATERIALIZE PROJECTION users;

ALTER TABLE {db}.answer_cells{local} {on_cluster} ADD COLUMN IF NOT EXISTS cell_user Array(LowCardinality(String)) AFTER cell_answer_chars;
ALTER TABLE {db}.answer_cells {on_cluster} ADD COLUMN IF NOT EXISTS cell_user Array(LowCardinality(String)) AFTER cell_answer_chars;
-- rows without it are counted anew
TRUNCATE TABLE {db}.answer_cells{local} {on_cluster};
