-- Whose code a statement of ours would run. Superusers and the roles that may create in our schema, including its owner, are
-- trusted: they decide what a worker runs anyway. Another role could replace anything that it owns at any time.

-- part: trusts
-- Whether a role is trusted.
(has_schema_privilege({role}, 'pgvector_sync', 'CREATE')
 OR {role} = (SELECT n.nspowner FROM pg_catalog.pg_namespace n WHERE n.nspname = 'pgvector_sync'))

-- name: lock
-- Locks the source as the read does, so that no column's type can change after the check. Parsing is enough for that: it needs
-- no grant, and doesn't plan, which would evaluate index expressions. The partitions are locked by a separate statement: the
-- check that follows must see what was committed while it waited.
PREPARE {prepared} AS SELECT FROM {source};
DEALLOCATE {prepared};
SELECT count(*) FROM pg_partition_tree({source_name}::regclass);

-- name: closer
-- Whether `strangers` is needed: for a type that isn't built in, an expression in an index or statistics, partitions, or a target
-- that isn't ours. For most tables this is the only check, before every read and every slice of a write.
SELECT source_.relkind <> 'r' OR source_.relhassubclass
    OR EXISTS (SELECT FROM pg_catalog.pg_attribute a WHERE a.attrelid = source_.oid AND a.attname = ANY ({read_columns}::name[])
               AND a.atttypid >= 16384 AND NOT a.attisdropped)
    OR EXISTS (SELECT FROM pg_catalog.pg_cast k WHERE k.castsource = source_.reltype)
    OR EXISTS (SELECT FROM pg_catalog.pg_index i WHERE i.indrelid = source_.oid
               AND (i.indexprs IS NOT NULL OR i.indpred IS NOT NULL))
    OR EXISTS (SELECT FROM pg_catalog.pg_statistic_ext e WHERE e.stxrelid = source_.oid AND e.stxexprs IS NOT NULL)
    OR EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace m ON m.oid = c.relnamespace
               WHERE m.nspname = {target_schema} AND c.relname = {target_table}
               AND (c.relkind <> 'r' OR NOT {trusts_target})) AS closer
FROM pg_catalog.pg_class source_ JOIN pg_catalog.pg_namespace n ON n.oid = source_.relnamespace
WHERE n.nspname = {source_schema} AND source_.relname = {source_table};

-- name: own_target
-- Whether the target is still our table, or doesn't exist.
SELECT NOT EXISTS (SELECT FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace m ON m.oid = c.relnamespace
                   WHERE m.nspname = {target_schema} AND c.relname = {target_table}
                   AND (c.relkind <> 'r' OR NOT {trusts_target})) AS own;

-- part: inside
-- A part of `strangers`: the types of which a type `t` is composed.
SELECT t.typelem UNION ALL SELECT t.typbasetype
UNION ALL SELECT a.atttypid FROM pg_catalog.pg_attribute a
          WHERE a.attrelid = t.typrelid AND a.attnum > 0 AND NOT a.attisdropped
UNION ALL SELECT g.rngsubtype FROM pg_catalog.pg_range g WHERE g.rngtypid = t.oid

-- name: strangers
-- What belongs to untrusted roles: what the expressions use (all functions of a name, since an overload could match better),
-- casts of the types that are read, what the planner evaluates for indexes and statistics of the source, and the target, whose
-- owner could add a trigger. No row: nothing. {whole}: any column may be read, by the condition of a run for example.
WITH RECURSIVE source_ AS (
    SELECT c.oid, c.relkind::text AS kind, c.reltype FROM pg_catalog.pg_class c
    JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
    WHERE n.nspname = {source_schema} AND c.relname = {source_table}
), tree AS (
    SELECT source_.oid FROM source_
    UNION SELECT i.inhrelid FROM tree JOIN pg_catalog.pg_inherits i ON i.inhparent = tree.oid
), need AS (
    SELECT n ->> 0 AS kind, n ->> 1 AS schema, n ->> 2 AS name, n ->> 3 AS identity
    FROM jsonb_array_elements({needs}::jsonb) AS n
), type_ (oid) AS (
    SELECT a.atttypid FROM source_ JOIN pg_catalog.pg_attribute a ON a.attrelid = source_.oid
    WHERE (a.attname = ANY ({read_columns}::name[]) OR {whole} OR EXISTS (SELECT FROM need WHERE need.kind = 'row'))
      AND a.attnum > 0 AND NOT a.attisdropped AND a.atttypid >= 16384
    UNION
    SELECT to_regtype(need.identity)::oid FROM need WHERE need.kind = 'type'
    UNION
    SELECT part.oid FROM type_ JOIN pg_catalog.pg_type t ON t.oid = type_.oid AND t.oid >= 16384
    CROSS JOIN LATERAL ({inside}) AS part (oid)
    WHERE part.oid >= 16384
), foreign_type AS (
    SELECT t.oid, t.typtype, t.typowner FROM pg_catalog.pg_type t
    WHERE (t.oid IN (SELECT type_.oid FROM type_) OR t.oid IN (SELECT reltype FROM source_)) AND NOT {trusts_type}
), checked (oid) AS (
    -- types to which an expression converts, and the domains in them, whose checks run
    SELECT to_regtype(need.identity)::oid FROM need WHERE need.kind = 'type'
    UNION
    SELECT part.oid FROM checked JOIN pg_catalog.pg_type t ON t.oid = checked.oid AND t.oid >= 16384
    CROSS JOIN LATERAL ({inside}) AS part (oid)
    WHERE part.oid >= 16384
), called AS (
    SELECT p.oid, p.proowner, 'function' AS kind, NULL AS by FROM need
    JOIN pg_catalog.pg_namespace n ON n.nspname = need.schema
    JOIN pg_catalog.pg_proc p ON p.pronamespace = n.oid AND p.proname = need.name
    WHERE need.kind IN ('function', 'aggregate', 'procedure')
    UNION ALL
    SELECT p.oid, p.proowner, 'operator', need.identity FROM need
    JOIN pg_catalog.pg_operator o ON o.oid = to_regoperator(need.identity)
    JOIN pg_catalog.pg_proc p ON p.oid = o.oprcode WHERE need.kind = 'operator'
    UNION ALL
    SELECT p.oid, p.proowner, 'cast', k.castsource::regtype || ' AS ' || k.casttarget::regtype
    FROM foreign_type JOIN pg_catalog.pg_cast k ON foreign_type.oid IN (k.castsource, k.casttarget)
    JOIN pg_catalog.pg_proc p ON p.oid = k.castfunc
    UNION ALL
    SELECT p.oid, p.proowner, evaluated.kind, evaluated.by FROM (
        SELECT 'pg_catalog.pg_class'::regclass, i.indexrelid, i.indexrelid::regclass::text, 'index'
        FROM tree JOIN pg_catalog.pg_index i ON i.indrelid = tree.oid
        WHERE i.indexprs IS NOT NULL OR i.indpred IS NOT NULL
        UNION ALL
        SELECT 'pg_catalog.pg_statistic_ext'::regclass, e.oid, e.stxname::text, 'index'
        FROM tree JOIN pg_catalog.pg_statistic_ext e ON e.stxrelid = tree.oid WHERE e.stxexprs IS NOT NULL
        UNION ALL
        SELECT 'pg_catalog.pg_constraint'::regclass, k.oid, checked.oid::regtype::text, 'check'
        FROM checked JOIN pg_catalog.pg_constraint k ON k.contypid = checked.oid
        UNION ALL
        SELECT 'pg_catalog.pg_class'::regclass, tree.oid, tree.oid::regclass::text, 'index' FROM tree, source_
        WHERE source_.kind = 'p') AS evaluated (classid, objid, by, kind)
    JOIN pg_catalog.pg_depend d ON d.classid = evaluated.classid AND d.objid = evaluated.objid AND d.objsubid = 0
    LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
    JOIN pg_catalog.pg_proc p
        ON p.oid = CASE WHEN d.refclassid = 'pg_catalog.pg_proc'::regclass THEN d.refobjid ELSE o.oprcode END
)
SELECT called.kind, called.oid::regprocedure::text AS name, called.by, pg_get_userbyid(called.proowner)::text AS owner
FROM called WHERE NOT {trusts_function}
UNION ALL
SELECT 'gone', need.identity, need.kind, NULL FROM need
WHERE need.kind = 'operator' AND to_regoperator(need.identity) IS NULL OR need.kind = 'type' AND to_regtype(need.identity) IS NULL
UNION ALL
SELECT 'domain', foreign_type.oid::regtype::text, NULL, pg_get_userbyid(foreign_type.typowner)::text FROM foreign_type
WHERE foreign_type.oid IN (SELECT checked.oid FROM checked)
  AND EXISTS (SELECT FROM pg_catalog.pg_constraint k WHERE k.contypid = foreign_type.oid AND k.contype = 'c')
UNION ALL
SELECT 'source', {source_table}, source_.kind, NULL FROM source_ WHERE source_.kind NOT IN ('r', 'p')
UNION ALL
SELECT 'child', i.inhrelid::regclass::text, NULL, NULL FROM source_ JOIN pg_catalog.pg_inherits i ON i.inhparent = source_.oid
WHERE source_.kind <> 'p'
UNION ALL
SELECT 'target', c.relname::text, c.relkind::text, pg_get_userbyid(c.relowner)::text
FROM pg_catalog.pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace
WHERE n.nspname = {target_schema} AND c.relname = {target_table} AND (c.relkind NOT IN ('r', 'p') OR NOT {trusts_target})
ORDER BY 1, 2, 3;
