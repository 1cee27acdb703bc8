-- The relation with a target's name: its columns, what may refuse writes to it, and what it contains.

-- name: find
-- The relation, with everything that decides whether it can be our target.
SELECT c.oid, c.relkind::text AS kind, c.relpersistence = 't' AS temporary,
       obj_description(c.oid, 'pg_class') AS comment,
       ARRAY(SELECT a.attname::text
             FROM pg_catalog.pg_index i, unnest(i.indkey::int2[]) WITH ORDINALITY AS k (attnum, position)
             JOIN pg_catalog.pg_attribute a ON a.attnum = k.attnum
             WHERE i.indrelid = c.oid AND i.indisprimary AND a.attrelid = c.oid AND k.position <= i.indnkeyatts
             ORDER BY k.position) AS primary_key,
       EXISTS (SELECT FROM pg_catalog.pg_index i JOIN pg_catalog.pg_attribute a
                   ON a.attrelid = c.oid AND a.attnum = i.indkey[0]
               WHERE i.indrelid = c.oid AND i.indisvalid AND i.indpred IS NULL AND a.attname = 'fingerprint')
           AS fingerprint_indexed,
       ARRAY(SELECT a.attname::text FROM pg_catalog.pg_attribute a
             WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped AND a.attnotnull
               AND NOT a.atthasdef AND a.attidentity = '' ORDER BY a.attnum) AS required
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = %(schema)s AND c.relname = %(table)s;

-- name: demands
-- What a target requires that our writes don't meet (`certain`), or may not meet. No row if the table doesn't exist or has no
-- such requirement. It reads only the catalog.
WITH target_ AS (
    SELECT c.oid, array_append(%(key_columns)s::text[], 'chunk_no') AS identity,
           %(key_columns)s::text[] || %(own_columns)s::text[] AS ours
    FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = %(schema)s AND c.relname = %(table)s
), column_ AS (
    SELECT a.attnum, a.attname::text AS name, t.typname::text AS type, a.atttypmod, a.attgenerated,
           (a.attnotnull OR t.typnotnull) AND NOT a.atthasdef AND a.attidentity = '' AND t.typdefault IS NULL AS required
    FROM target_ JOIN pg_catalog.pg_attribute a ON a.attrelid = target_.oid AND a.attnum > 0 AND NOT a.attisdropped
    JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
), unique_ AS (
    SELECT i.indexrelid, i.indnkeyatts, i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate AS plain,
           ARRAY(SELECT column_.name FROM column_ WHERE column_.attnum = ANY (i.indkey::int2[])) AS names
    FROM target_ JOIN pg_catalog.pg_index i ON i.indrelid = target_.oid AND i.indisunique
)
SELECT 'column' AS kind, column_.name, column_.type AS detail, true AS certain
FROM target_, column_ WHERE column_.required AND column_.name <> ALL (target_.ours)
UNION ALL
SELECT 'missing', name, NULL, true
FROM target_, unnest(target_.ours) AS name WHERE name NOT IN (SELECT column_.name FROM column_)
UNION ALL
SELECT 'type', column_.name, column_.type || CASE WHEN column_.atttypmod > 0 THEN '(' || column_.atttypmod || ')' ELSE '' END, true
FROM target_, column_ WHERE column_.name = 'embedding'
 AND (column_.type <> %(vector_type)s OR column_.atttypmod NOT IN (-1, %(dimensions)s) OR column_.attgenerated <> '')
UNION ALL
SELECT 'identity', array_to_string(target_.identity, ', '), NULL, true
FROM target_ WHERE NOT EXISTS (SELECT FROM unique_ WHERE unique_.plain AND unique_.names <@ target_.identity
    AND target_.identity <@ unique_.names AND unique_.indnkeyatts = cardinality(target_.identity))
UNION ALL
SELECT 'unique', unique_.indexrelid::regclass::text, NULL, false
FROM target_, unique_ WHERE NOT (unique_.plain AND target_.identity <@ unique_.names)
UNION ALL
SELECT CASE k.contype WHEN 'c' THEN 'check' WHEN 'f' THEN 'foreign key' ELSE 'exclusion' END, k.conname::text, NULL, false
FROM target_ JOIN pg_catalog.pg_constraint k ON k.conrelid = target_.oid WHERE k.contype IN ('c', 'f', 'x')
UNION ALL
SELECT 'trigger', g.tgname::text, NULL, false
FROM target_ JOIN pg_catalog.pg_trigger g ON g.tgrelid = target_.oid WHERE NOT g.tgisinternal AND g.tgenabled <> 'D'
UNION ALL
SELECT 'rule', r.rulename::text, NULL, true
FROM target_ JOIN pg_catalog.pg_rewrite r ON r.ev_class = target_.oid AND r.ev_type IN ('2', '3', '4') AND r.ev_enabled <> 'D'
UNION ALL
SELECT 'grant', p.privilege, current_user::text, true
FROM target_, unnest('{SELECT,INSERT,UPDATE,DELETE}'::text[]) AS p (privilege)
WHERE NOT has_table_privilege(target_.oid, p.privilege)
ORDER BY 4 DESC, 1, 2;

-- name: vector_type
-- The type of a target's vectors. pgvector stores the dimensions as the type's modifier, -1 if there are none.
SELECT t.typname AS type, a.atttypmod AS dimensions
FROM pg_catalog.pg_attribute a JOIN pg_catalog.pg_type t ON t.oid = a.atttypid
WHERE a.attrelid = %(oid)s AND a.attname = 'embedding' AND NOT a.attisdropped;

-- name: indexes
-- The indexes of a target, with their method, the operator class of their first column, what they contain, and whether they are
-- being built.
SELECT n.nspname AS schema, c.relname AS name, am.amname AS method, o.opcname AS operator_class, i.indkey[0] = 0 AS over_expression,
       {contents} AS storage, i.indpred IS NOT NULL AS partial, i.indisvalid AND i.indisready AS valid,
       EXISTS (SELECT FROM pg_catalog.pg_stat_progress_create_index b WHERE b.index_relid = c.oid) AS building
FROM pg_catalog.pg_index i
JOIN pg_catalog.pg_class c ON c.oid = i.indexrelid JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
JOIN pg_catalog.pg_am am ON am.oid = c.relam
JOIN pg_catalog.pg_opclass o ON o.oid = i.indclass[0]
WHERE i.indrelid = %(oid)s ORDER BY c.relname;

-- name: filled
-- Whether a target contains any vector.
SELECT EXISTS (SELECT FROM {target}) AS filled;

-- name: count_orphans
-- The number of vectors without a row in the source, for a target small enough to be counted.
SELECT count(*) AS rows FROM {target} AS pgvector_sync_target
WHERE NOT EXISTS (SELECT FROM {source} AS pgvector_sync_source WHERE {same_key});
