-- Reading the source. {source}, {stored}, {match_source}, {stored_of_key}, {text} and {wanted} are composed per pipeline.
-- Aliases such as `row_` avoid conflicts with the user's names. OFFSET 0 makes Postgres render the text only once.

-- part: row_by_key
-- The text of the row with a key.
SELECT ({text})::text AS text FROM {source} WHERE {match_source} AND {wanted} OFFSET 0

-- part: row_here
-- The text of the row that the statement is at.
SELECT ({text})::text AS text WHERE {wanted} OFFSET 0

-- part: now
-- The text and fingerprint of a row, or nothing if it is deleted, not wanted or blank. All statements share this part, so
-- that their fingerprints are the same. A text over the limit isn't fetched, and isn't searched for blanks, which would fail
-- beyond 256 MB; its fingerprint is computed from its length. A text that begins with a visible ASCII character isn't searched
-- either: that takes longer than the hash of a short text.
SELECT rendered.octets,
       CASE WHEN rendered.octets <= %(text_limit)s THEN rendered.text END AS text,
       CASE WHEN rendered.octets <= %(text_limit)s
            THEN sha256(%(spec)s::bytea || convert_to(rendered.text, 'UTF8'))
            ELSE sha256(%(spec)s::bytea || convert_to('too large: ' || rendered.octets, 'UTF8')) END AS fingerprint
FROM (SELECT row_.text, octet_length(row_.text) AS octets FROM ({row}) AS row_ OFFSET 0) AS rendered
WHERE rendered.octets > %(text_limit)s
   OR rendered.text COLLATE "C" >= '!' AND rendered.text COLLATE "C" < chr(127) OR rendered.text ~ '\S'

-- name: read
-- The text and fingerprint of claimed rows, and the stored fingerprint. They are NULL for a deleted, unwanted or blank row. Once
-- the texts exceed `bytes`, further rows have no text, and are left to another batch. `number` is the key's place in the list.
SELECT pgvector_sync_key.number, now_.octets, now_.fingerprint,
       CASE WHEN coalesce(sum(octet_length(now_.text)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                 < %(bytes)s THEN now_.text END AS text,
       stored_.fingerprint AS stored_fingerprint
FROM unnest(%(keys)s::jsonb[]) WITH ORDINALITY AS pgvector_sync_key (key, number)
LEFT JOIN LATERAL ({now}) AS now_ ON true
LEFT JOIN LATERAL (SELECT pgvector_sync_stored.fingerprint FROM {stored}
                   WHERE {stored_of_key} AND pgvector_sync_stored.chunk_no = 0 OFFSET 0) AS stored_ ON true;

-- name: texts
-- The text and fingerprint of the rows that should have a vector. Doesn't read the target, which may not exist yet.
SELECT now_.text, now_.fingerprint FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
CROSS JOIN LATERAL ({now}) AS now_;

-- name: look
-- The current fingerprints, without texts, and the last chunk that is stored, read again after the work rows are locked. `number`
-- is the key's place in the list.
SELECT pgvector_sync_key.number, now_.fingerprint, stored_.fingerprint AS stored_fingerprint, stored_.last_chunk
FROM unnest(%(keys)s::jsonb[]) WITH ORDINALITY AS pgvector_sync_key (key, number)
LEFT JOIN LATERAL ({now}) AS now_ ON true
LEFT JOIN LATERAL (SELECT (array_agg(pgvector_sync_stored.fingerprint) FILTER (WHERE pgvector_sync_stored.chunk_no = 0))[1] AS fingerprint,
                          max(pgvector_sync_stored.chunk_no) AS last_chunk
                   FROM {stored} WHERE {stored_of_key}) AS stored_ ON true;

-- name: page
-- The next page of keys after the watermark, in key order, each with whether its row meets all conditions. It returns the
-- other keys too, so that a rarely true condition doesn't make the statement run longer.
SELECT {key_json} AS key, ({filter}) IS TRUE AS matches FROM {source} WHERE {after} ORDER BY {key_columns} LIMIT %(limit)s;

-- name: matching
-- The keys of a list whose row meets all conditions, or doesn't exist, so that its vectors must be removed.
SELECT pgvector_sync_key.key FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE NOT EXISTS (SELECT FROM {source} WHERE {match_source} AND ({filter}) IS NOT TRUE OFFSET 0);

-- part: is_stale
-- A condition of `page`: the vectors aren't those of the row's current text.
(SELECT now_.fingerprint FROM ({now_here}) AS now_) IS DISTINCT FROM
    (SELECT pgvector_sync_stored.fingerprint FROM {stored}
     WHERE {stored_of_row} AND pgvector_sync_stored.chunk_no = 0)

-- part: is_older
-- A condition of `page`: not embedded since the run was requested, so that two runs don't pay for the same text.
NOT EXISTS (SELECT FROM {stored} WHERE {stored_of_row}
            AND pgvector_sync_stored.chunk_no = 0 AND pgvector_sync_stored.embedded_at >= %(since)s)

-- part: is_concerned
-- A condition of `page`: the row is wanted, or it was, and has vectors or work left.
(({wanted}) IS TRUE
 OR EXISTS (SELECT FROM {stored} WHERE {stored_of_row})
 OR EXISTS (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = %(pipeline_id)s AND w.key = {key_json}))
