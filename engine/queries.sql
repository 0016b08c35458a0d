-- Every statement of the store, by name. Parameters are psycopg's %(name)s.

-- name: append
SELECT ledger.append(%(epoch)s, %(events)s::jsonb) AS added

-- name: prove
SELECT ledger.prove(%(epoch)s, %(instance)s, %(seq)s, %(digest)s, %(state)s) AS now,
       (SELECT coalesce(max(seq), 0) FROM ledger.event) AS head,
       (SELECT system_identifier::text FROM pg_control_system()) AS system,
       CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline,
       (SELECT jsonb_object_agg(key, value) FROM ledger.control) AS control,
       (SELECT ledger_level FROM ledger.identity) AS level,
       (SELECT jsonb_agg(c ORDER BY id) FROM (SELECT * FROM ledger.command WHERE id > %(noted)s ORDER BY id LIMIT 20) c) AS commands

-- name: claim
SELECT ledger.claim(%(expected)s, %(at_least)s, %(term)s::jsonb) AS epoch

-- name: fence_holds
SELECT ledger.fence_holds(%(other)s) AS holds

-- name: epoch
SELECT epoch, name, instance FROM ledger.epoch

-- name: pulse
SELECT e.epoch, e.name, e.instance, p.epoch AS proof_epoch, p.beat, p.seq AS proof_seq, p.digest, p.state,
       (SELECT coalesce(max(seq), 0) FROM ledger.event) AS head, clock_timestamp() AS now,
       (SELECT seq FROM ledger.projection) AS projected,
       (SELECT etcd_cluster_id FROM ledger.term ORDER BY epoch DESC LIMIT 1) AS etcd_cluster_id,
       (SELECT system_identifier::text FROM pg_control_system()) AS system,
       CASE WHEN pg_is_in_recovery() THEN '' ELSE left(pg_walfile_name(pg_current_wal_lsn()), 8) END AS timeline,
       (SELECT jsonb_object_agg(key, value) FROM ledger.control) AS control,
       (SELECT ledger_level FROM ledger.identity) AS level
  FROM ledger.epoch e, ledger.proof p

-- name: events_after
SELECT seq, epoch, event_type, payload, "timestamp", order_id, user_id, correlation_id, event_id
  FROM ledger.event WHERE seq > %(after)s ORDER BY seq LIMIT %(limit)s

-- name: orders_of_archived_parts
-- their first event is no longer in the log: what is known of them is in the tables
SELECT o.* FROM ledger.orders o
 WHERE o.id = ANY(%(ids)s::text[])
   AND NOT EXISTS (SELECT FROM ledger.event e WHERE e.order_id = o.id
                    AND e.event_type IN ('order_accepted', 'order_external', 'order_restored'))

-- name: body_is
-- R37: what a key keeps of its body, when the event that had it was archived; NULL: the order never had one (R19)
SELECT body_md5 = md5((%(body)s::jsonb)::text) AS same FROM ledger.order_key WHERE order_id = %(id)s

-- name: events_of_orders
SELECT seq, epoch, event_type, payload, "timestamp", order_id, user_id, correlation_id, event_id
  FROM ledger.event WHERE order_id = ANY(%(ids)s::text[]) ORDER BY seq

-- name: executions_of_orders
SELECT * FROM ledger.executions WHERE order_id = ANY(%(ids)s::text[])

-- name: executions_named
SELECT x.* FROM jsonb_to_recordset(%(keys)s::jsonb) AS k (account text, root text) JOIN ledger.executions x USING (account, root)

-- name: orders_of_perm_ids
SELECT id, perm_id FROM ledger.orders WHERE perm_id = ANY(%(perm_ids)s::bigint[])

-- name: loose_executions_of_perm_id
SELECT * FROM ledger.executions WHERE perm_id = %(perm_id)s AND order_id IS NULL

-- name: orders_page
-- what only few orders have stands in their first event, and nowhere else
SELECT o.*, (SELECT e.payload -> 'extra' FROM ledger.event e WHERE e.order_id = o.id ORDER BY e.seq LIMIT 1) AS extra
  FROM ledger.orders o
 WHERE seq > %(after)s AND seq <= %(last)s AND state IN ('FILLED', 'CANCELLED', 'REJECTED', 'EXPIRED')
   AND (%(state)s::text IS NULL OR state = %(state)s) AND (%(symbol)s::text IS NULL OR symbol = %(symbol)s)
   AND (%(client_order_id)s::text IS NULL OR client_order_id = %(client_order_id)s)
 ORDER BY seq LIMIT %(limit)s

-- name: executions_page
SELECT x.*, o.client_order_id
  FROM ledger.executions x LEFT JOIN ledger.orders o ON o.id = x.order_id
 WHERE x.seq > %(after)s AND x.seq <= %(last)s ORDER BY x.seq LIMIT %(limit)s

-- name: end_older_writers
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid <> pg_backend_pid() AND datname = current_database() AND usename = current_user
   AND application_name LIKE 'adapter-writer:%%' AND split_part(application_name, ':', 2)::bigint <= %(epoch)s

-- name: end_rebuild
SELECT ledger.end_rebuild() AS ended

-- name: end_backend
-- by way of the view: asked for a process that is gone, the function itself would warn, and a warning is an unknown outcome (R20)
-- and only while it is ours: a server that was started again gives its numbers out anew
SELECT pg_terminate_backend(pid) FROM pg_stat_activity
 WHERE pid = %(pid)s AND pid <> pg_backend_pid() AND usename = current_user
   AND application_name = current_setting('application_name')

-- name: note_phases
SELECT ledger.note_phases(%(epoch)s, %(phases)s::jsonb)

-- name: history
SELECT epoch, kind, reason, from_name, to_name, at, detect_ms, acquire_ms, claim_ms, fence_ms, connect_ms, reconcile_ms,
       first_order_ms, total_ms, repaired, held
  FROM ledger.term ORDER BY epoch DESC LIMIT %(limit)s

-- name: last_term
SELECT epoch, to_name, instance, url, seq, digest, system_identifier, timeline, etcd_cluster_id
  FROM ledger.term ORDER BY epoch DESC LIMIT 1

-- name: identity
SELECT cluster, gateway_id, client_id, ledger_level FROM ledger.identity

-- name: who_am_i
SELECT current_user AS me, (SELECT pg_get_userbyid(relowner) FROM pg_class WHERE oid = 'ledger.event'::regclass) AS owner,
       pg_has_role(current_user, (SELECT relowner FROM pg_class WHERE oid = 'ledger.event'::regclass), 'MEMBER') AS is_owner,
       current_setting('fsync') AS fsync, current_setting('synchronous_commit') AS synchronous_commit,
       current_setting('synchronous_standby_names') AS synchronous_standby_names, pg_is_in_recovery() AS in_recovery

-- name: schema_floor
SELECT version_num FROM ledger.alembic_version

-- name: schema_applied
SELECT version_num FROM ledger.schema_version

-- name: schema_is_there
SELECT to_regclass('ledger.alembic_version') IS NOT NULL AS there, to_regclass('ledger.schema_version') IS NOT NULL AS in_pairs

-- name: project
SELECT ledger.project(%(epoch)s, %(rows)s::jsonb, %(seq)s)

-- name: projected
SELECT seq FROM ledger.projection

-- name: tag
SELECT set_config('application_name', %(name)s, false)

-- name: wish
INSERT INTO ledger.control (key, value, by) VALUES (%(key)s, %(value)s::jsonb, %(by)s)
    ON CONFLICT (key) DO UPDATE SET value = excluded.value, by = excluded.by, at = clock_timestamp()

-- name: wish_no_more
DELETE FROM ledger.control WHERE key = %(key)s

-- name: timelines
SELECT epoch, timeline, seq FROM ledger.term

-- name: somebody_leads
-- whether an epoch was proven just now
SELECT at > clock_timestamp() - interval '3 seconds' AND beat > 0 AS led FROM ledger.proof

-- name: whoami
SELECT current_user AS me

-- name: command
SELECT ledger.give_command(%(command)s, %(key)s, %(value)s::jsonb, %(by)s, %(reason)s, %(remote)s, %(correlation_id)s,
                           %(details)s::jsonb)

-- name: audit_after
SELECT e.*, k.client_order_id FROM ledger.event e LEFT JOIN ledger.order_key k ON k.order_id = e.order_id
 WHERE e.seq > %(after)s AND (%(subject)s::text IS NULL OR e.user_id = %(subject)s)
   AND (%(order_id)s::text IS NULL OR e.order_id = %(order_id)s)
   AND (%(client_order_id)s::text IS NULL OR k.client_order_id = %(client_order_id)s)
   AND (%(kinds)s::text[] IS NULL OR e.event_type = ANY(%(kinds)s))
   AND (%(asks)s::text[] IS NULL OR e.event_type = ANY(%(asks)s) OR e.payload ? 'from')
   AND (%(since)s::timestamptz IS NULL OR e."timestamp" >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR e."timestamp" < %(until)s)
 ORDER BY e.seq LIMIT %(limit)s

-- name: audit_newest
SELECT e.*, k.client_order_id FROM ledger.event e LEFT JOIN ledger.order_key k ON k.order_id = e.order_id
 WHERE (%(subject)s::text IS NULL OR e.user_id = %(subject)s)
   AND (%(order_id)s::text IS NULL OR e.order_id = %(order_id)s)
   AND (%(client_order_id)s::text IS NULL OR k.client_order_id = %(client_order_id)s)
   AND (%(kinds)s::text[] IS NULL OR e.event_type = ANY(%(kinds)s))
   AND (%(asks)s::text[] IS NULL OR e.event_type = ANY(%(asks)s) OR e.payload ? 'from')
   AND (%(since)s::timestamptz IS NULL OR e."timestamp" >= %(since)s)
   AND (%(until)s::timestamptz IS NULL OR e."timestamp" < %(until)s)
 ORDER BY e.seq DESC LIMIT %(limit)s

-- name: log_parts
SELECT part, to_char(month, 'YYYY-MM') AS month, from_seq, last_seq, closed_at, archived_at, sha256, digest
  FROM ledger.log_part ORDER BY from_seq

-- name: close_part
SELECT ledger.close_part(%(epoch)s, date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC')::date, %(most)s) AS closed

-- name: drop_part
SELECT ledger.drop_part(%(epoch)s, %(part)s, %(sha256)s, %(digest)s)

-- name: log_rows
SELECT seq, epoch, event_id::text, event_type, correlation_id, order_id, user_id, "timestamp", payload, created_at
  FROM ledger.event WHERE seq > %(after)s AND seq <= %(last)s ORDER BY seq LIMIT %(limit)s

-- name: log_begins
SELECT coalesce(min(seq), 1) AS first FROM ledger.event

-- name: log_head
SELECT coalesce(max(seq), 0) AS head FROM ledger.event

-- name: last_checkpoint
-- the newest that this version can read, at or before an event, from which the log goes on
SELECT seq, digest, state FROM ledger.checkpoint
 WHERE form = %(form)s AND digest_version = %(digest_version)s AND seq <= %(at_most)s
   AND seq >= (SELECT coalesce(min(seq), 1) - 1 FROM ledger.event) ORDER BY seq DESC LIMIT 1

-- name: checkpoint_forms
SELECT form, digest_version, max(seq) AS seq FROM ledger.checkpoint GROUP BY form, digest_version

-- name: keep_checkpoint
-- the owner's; the fence looks at the epoch that the transaction names, so it is named by a statement before this one
INSERT INTO ledger.checkpoint (seq, form, digest_version, digest, state)
VALUES (%(seq)s, %(form)s, %(digest_version)s, %(digest)s, %(state)s)
    ON CONFLICT (seq, form) DO UPDATE SET digest_version = excluded.digest_version, digest = excluded.digest, state = excluded.state

-- name: forget_form
DELETE FROM ledger.checkpoint WHERE form = %(form)s AND digest_version = %(digest_version)s RETURNING seq

-- name: forget_checkpoints
DELETE FROM ledger.checkpoint c
 WHERE form = %(form)s AND seq < (SELECT min(seq) FROM (SELECT seq FROM ledger.checkpoint WHERE form = %(form)s
                                                         ORDER BY seq DESC LIMIT %(kept)s) AS newest)

-- name: name_epoch
SELECT set_config('adapter.epoch', %(epoch)s::text, false)

-- name: log_size
-- no event is counted one by one: their numbers are dense
SELECT (SELECT coalesce(sum(pg_total_relation_size(inhrelid)), 0)::bigint FROM pg_inherits
         WHERE inhparent = 'ledger.event'::regclass) AS log_bytes,
       (SELECT sum(pg_total_relation_size(oid))::bigint FROM pg_class
         WHERE relnamespace = 'ledger'::regnamespace AND relkind = 'r' AND NOT relispartition) AS other_bytes,
       log.head - log.first + 1 AS events, log.head, log.head - week.seq + 1 AS events_of_the_week,
       extract(epoch FROM now() - week."timestamp")::float8 AS seconds
  FROM (SELECT coalesce(max(seq), 0) AS head, coalesce(min(seq), 1) AS first FROM ledger.event) AS log
  LEFT JOIN (SELECT seq, "timestamp" FROM ledger.event WHERE "timestamp" > now() - interval '7 days'
              ORDER BY "timestamp" LIMIT 1) AS week ON true

-- name: begin_snapshot
BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY

-- name: begin
BEGIN

-- name: commit
COMMIT

-- name: rollback
ROLLBACK

-- name: end_me_when_idle
-- R11: whoever stands still in a transaction of this session is ended
SELECT set_config('idle_in_transaction_session_timeout', '1s', false)

-- name: hold_tables
-- in the order in which the projector writes them; nothing is written to them until the commit
LOCK TABLE ledger.orders, ledger.executions, ledger.positions, ledger.breaks, ledger.projection IN EXCLUSIVE MODE

-- name: empty_tables
WITH o AS (DELETE FROM ledger.orders), e AS (DELETE FROM ledger.executions), p AS (DELETE FROM ledger.positions)
DELETE FROM ledger.breaks

-- name: page_of_orders
SELECT * FROM ledger.orders WHERE id > %(after)s ORDER BY id LIMIT %(limit)s

-- name: page_of_executions
SELECT * FROM ledger.executions WHERE (account, root) > (%(account)s, %(root)s) ORDER BY account, root LIMIT %(limit)s

-- name: all_positions
SELECT * FROM ledger.positions

-- name: page_of_breaks
SELECT * FROM ledger.breaks WHERE id > %(after)s ORDER BY id LIMIT %(limit)s

-- name: page_of_order_keys
SELECT order_id, user_id, client_order_id FROM ledger.order_key WHERE order_id > %(after)s ORDER BY order_id LIMIT %(limit)s

-- name: page_of_execution_keys
SELECT account, root, revision FROM ledger.execution_key
 WHERE (account, root, revision) > (%(account)s, %(root)s, %(revision)s) ORDER BY account, root, revision LIMIT %(limit)s

-- name: checkpoints
SELECT seq, form, digest_version, digest, octet_length(state) AS bytes, at FROM ledger.checkpoint ORDER BY seq

-- name: proof
SELECT epoch, seq, digest FROM ledger.proof
