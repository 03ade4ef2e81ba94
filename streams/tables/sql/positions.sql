-- Positions of the folds, and what a processor could not handle.

-- name: stored
SELECT topic, partition, next_offset FROM positions
WHERE cluster_id = :cluster_id AND consumer_group = :consumer_group;

-- name: begin
INSERT INTO positions (cluster_id, consumer_group, topic, partition, next_offset)
VALUES (:cluster_id, :consumer_group, :topic, :partition, :next_offset)
ON CONFLICT (cluster_id, consumer_group, topic, partition) DO NOTHING;

-- name: advance
UPDATE positions SET next_offset = :next_offset
WHERE cluster_id = :cluster_id AND consumer_group = :consumer_group AND topic = :topic
AND partition = :partition AND next_offset = :expected;

-- name: meet_cluster
INSERT INTO clusters (cluster_id, first_seen_ms) VALUES (:cluster_id, :now_ms)
ON CONFLICT (cluster_id) DO NOTHING;

-- name: bury
INSERT INTO dead_letters (
    processor, cluster_id, topic, partition, record_offset, key, key_text, value, headers, code,
    reason, created_ms)
VALUES (
    :processor, :cluster_id, :topic, :partition, :record_offset, :key, :key_text, :value, :headers,
    :code, :reason, :now_ms)
ON CONFLICT (processor, cluster_id, topic, partition, record_offset) DO NOTHING;

-- name: letters
SELECT id, processor, topic, partition, record_offset, key_text, code, reason, created_ms
FROM dead_letters WHERE id < :before ORDER BY id DESC LIMIT :most;

-- name: letter
SELECT * FROM dead_letters WHERE id = :id;

-- name: letter_counts
SELECT processor, count(*) AS letters FROM dead_letters GROUP BY processor;

-- name: stop_of
SELECT * FROM processor_stops WHERE processor = :processor;

-- name: stops
SELECT * FROM processor_stops ORDER BY processor;

-- name: stop
INSERT INTO processor_stops (processor, version, reason, stopped_ms)
VALUES (:processor, :version, :reason, :now_ms)
ON CONFLICT (processor) DO UPDATE SET
    version = :version, reason = :reason, stopped_ms = :now_ms;

-- name: resume
DELETE FROM processor_stops WHERE processor = :processor;

-- name: forget
DELETE FROM positions WHERE cluster_id = :cluster_id AND topic = :topic;
