SELECT record
FROM feedback FINAL
WHERE project_id = {project:String}
  AND call_time >= {since:DateTime64(6,'UTC')}
  AND call_time < {until:DateTime64(6,'UTC')}
  AND NOT startsWith(environment, 'evaluation:') AND call_is_answer
  AND kind = 'comparison'
  AND (({judge:String} = '' AND author_kind != 'model') OR author_kind = {judge:String})
  AND ({comparison:String} = '' OR name = {comparison:String})
  AND ({queue:String} = '' OR queue_item IN (
        SELECT item_id
        FROM review_items
        WHERE project_id = {project:String} AND queue_id = {queue:String}
))
ORDER BY created_at DESC
LIMIT {limit:UInt32};
