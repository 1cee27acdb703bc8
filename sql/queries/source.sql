-- Reading a user's row. {source}, {stored}, {match_source}, {stored_of_key}, {text} and {wanted} are composed per
-- pipeline; the odd alias keeps clear of the user's names. OFFSET 0 renders the text once.

-- part: row_by_key
-- The text of the row with a key.
SELECT ({text})::text AS text FROM {source} WHERE {match_source} AND {wanted} OFFSET 0

-- part: row_here
-- The text of the row that the statement is at.
SELECT ({text})::text AS text WHERE {wanted} OFFSET 0

-- part: now
-- So that all of them mean the same fingerprint: text and fingerprint of a row, or nothing where it
-- is gone, not wanted or blank. A text over the limit is not fetched, nor searched for blanks, which fails beyond
-- 256 MB; its fingerprint is made from its length alone.
SELECT rendered.octets,
       CASE WHEN rendered.octets <= %(text_limit)s THEN rendered.text END AS text,
       CASE WHEN rendered.octets <= %(text_limit)s
            THEN sha256(%(spec)s::bytea || convert_to(rendered.text, 'UTF8'))
            ELSE sha256(%(spec)s::bytea || convert_to('too large: ' || rendered.octets, 'UTF8')) END AS fingerprint
FROM (SELECT row_.text, octet_length(row_.text) AS octets FROM ({row}) AS row_ OFFSET 0) AS rendered
WHERE rendered.octets > %(text_limit)s OR rendered.text ~ '\S'

-- name: read
-- Text and fingerprint of the claimed rows, and what is stored. No row, `where` not true or a blank text: NULL. Of texts
-- that have more than `bytes` together the rest comes without text: another batch takes them.
SELECT pgvector_sync_key.key, now_.octets, now_.fingerprint,
       CASE WHEN coalesce(sum(octet_length(now_.text)) OVER (ROWS BETWEEN UNBOUNDED PRECEDING AND 1 PRECEDING), 0)
                 < %(bytes)s THEN now_.text END AS text,
       pgvector_sync_stored.fingerprint AS stored_fingerprint
FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
LEFT JOIN LATERAL ({now}) AS now_ ON true
LEFT JOIN {stored} ON {stored_of_key} AND pgvector_sync_stored.chunk_no = 0;

-- name: texts
-- Text and fingerprint of the rows that should have a vector, before there is a target.
SELECT now_.text, now_.fingerprint FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
CROSS JOIN LATERAL ({now}) AS now_;

-- name: look
-- The same without the text: the fingerprint as it is now, for the look after the work rows are locked.
SELECT pgvector_sync_key.key, now_.fingerprint, pgvector_sync_stored.fingerprint AS stored_fingerprint
FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
LEFT JOIN LATERAL ({now}) AS now_ ON true
LEFT JOIN {stored} ON {stored_of_key} AND pgvector_sync_stored.chunk_no = 0;

-- name: page
-- The next page of keys after the watermark, in the source's own key order, and which of them are asked for. All of
-- them come, so that a condition that is rarely true makes no statement longer.
SELECT {key_json} AS key, ({filter}) IS TRUE AS asked FROM {source} WHERE {after} ORDER BY {key_columns} LIMIT %(limit)s;

-- name: asked
-- Which keys of a list have a row that meets all conditions, or none: its vectors have to go.
SELECT pgvector_sync_key.key FROM unnest(%(keys)s::jsonb[]) AS pgvector_sync_key (key)
WHERE NOT EXISTS (SELECT FROM {source} WHERE {match_source} AND ({filter}) IS NOT TRUE OFFSET 0);

-- part: is_stale
-- A part of `page`: the row and its vectors don't belong together.
(SELECT now_.fingerprint FROM ({now_here}) AS now_) IS DISTINCT FROM
    (SELECT pgvector_sync_stored.fingerprint FROM {stored}
     WHERE {stored_of_row} AND pgvector_sync_stored.chunk_no = 0)

-- part: is_older
-- A part of `page`: not embedded since the run was asked for, so that two runs don't pay for the same.
NOT EXISTS (SELECT FROM {stored} WHERE {stored_of_row}
            AND pgvector_sync_stored.chunk_no = 0 AND pgvector_sync_stored.embedded_at >= %(since)s)

-- part: is_concerned
-- A part of `page`: the row is wanted, or something of it is left from when it was.
(({wanted}) IS TRUE
 OR EXISTS (SELECT FROM {stored} WHERE {stored_of_row})
 OR EXISTS (SELECT FROM pgvector_sync.work w WHERE w.pipeline_id = %(pipeline_id)s AND w.key = {key_json}))
