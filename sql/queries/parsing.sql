-- What an expression reads and needs, according to the catalog's entries for a view that is rolled back.

-- name: create_view
-- Makes Postgres parse text and `where` as written in the file. Both are in WHERE, where aggregates and set-returning
-- functions aren't allowed. The line breaks end trailing comments.
CREATE VIEW {view} AS SELECT ({given_text}
)::pg_catalog.text AS text FROM {source} WHERE ({given_text}
) IS NOT NULL AND ({given_where}
);

-- name: reads
-- What the view reads: columns of the source, other relations, and the parse tree for what dependencies don't show, such as
-- a relation that is read twice, and relations of the system catalog.
WITH rule AS (
    SELECT oid, ev_action::text AS tree FROM pg_catalog.pg_rewrite WHERE ev_class = %(view)s::regclass
), depends AS (
    SELECT d.refobjid AS relid, d.refobjsubid AS attnum FROM rule
    JOIN pg_catalog.pg_depend d ON d.classid = 'pg_rewrite'::regclass AND d.objid = rule.oid
         AND d.refclassid = 'pg_class'::regclass
), reads AS (
    SELECT (regexp_matches(tree, ':rtekind 0 :relid (\d+)', 'g'))[1]::oid AS relid FROM rule
)
SELECT ARRAY(SELECT DISTINCT a.attname::text FROM depends d
             JOIN pg_catalog.pg_attribute a ON a.attrelid = d.relid AND a.attnum = d.attnum
             WHERE d.relid = %(source_oid)s AND d.attnum > 0) AS columns,
       ARRAY(SELECT relid::regclass::text FROM (SELECT relid FROM depends UNION SELECT relid FROM reads) AS every
             WHERE relid NOT IN (%(source_oid)s, %(view)s::regclass) ORDER BY 1) AS others,
       (SELECT count(*) FROM reads WHERE relid = %(source_oid)s) AS own_reads,
       (SELECT tree FROM rule) AS tree;

-- name: volatile
-- Functions that are volatile, or stable but depend on the clock.
SELECT p.oid::regprocedure::text AS name FROM pg_catalog.pg_proc p
WHERE p.oid = ANY (%(oids)s::oid[])
  AND (p.provolatile = 'v' OR p.proname IN ('now', 'transaction_timestamp', 'statement_timestamp')
       OR p.oid = 'pg_catalog.age(timestamptz)'::regprocedure)
ORDER BY 1;

-- name: depends
-- What a view needs besides tables. Objects that are built into Postgres aren't among the dependencies.
SELECT DISTINCT i.type AS kind, coalesce(n.nspname, i.schema, '') AS schema, coalesce(p.proname, o.oprname, i.name, '') AS name,
       replace(i.identity, 'pg_catalog.', '') AS identity
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
    AND d.refclassid <> 'pg_catalog.pg_class'::regclass
CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.refclassid, d.refobjid, d.refobjsubid) AS i
LEFT JOIN pg_catalog.pg_proc p ON d.refclassid = 'pg_catalog.pg_proc'::regclass AND p.oid = d.refobjid
LEFT JOIN pg_catalog.pg_operator o ON d.refclassid = 'pg_catalog.pg_operator'::regclass AND o.oid = d.refobjid
LEFT JOIN pg_catalog.pg_namespace n ON n.oid = coalesce(p.pronamespace, o.oprnamespace)
WHERE r.ev_class = %(view)s::regclass ORDER BY 1, 4;

-- name: loose
-- Functions of a view that look names up when they run, and have no search_path of their own.
SELECT DISTINCT replace(i.identity, 'pg_catalog.', '') AS function
FROM pg_catalog.pg_rewrite r
JOIN pg_catalog.pg_depend d ON d.classid = 'pg_catalog.pg_rewrite'::regclass AND d.objid = r.oid
    AND d.refclassid = 'pg_catalog.pg_proc'::regclass
JOIN pg_catalog.pg_proc p ON p.oid = d.refobjid
JOIN pg_catalog.pg_language l ON l.oid = p.prolang AND l.lanname NOT IN ('internal', 'c')
CROSS JOIN LATERAL pg_catalog.pg_identify_object(d.refclassid, d.refobjid, 0) AS i
WHERE r.ev_class = %(view)s::regclass AND p.prosqlbody IS NULL
  AND NOT EXISTS (SELECT FROM unnest(p.proconfig) AS setting WHERE setting LIKE 'search_path=%%') ORDER BY 1;
