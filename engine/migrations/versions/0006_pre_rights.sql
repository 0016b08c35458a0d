-- A trigger's function needs no right of those whose statements fire it; whoever may call one may hang it on a table of his own,
-- and these three write as the owner: keys would be taken without an event (R37).
REVOKE ALL ON FUNCTION ledger.take_keys(), ledger.event_in_place(), ledger.fence(), ledger.event_is_forever() FROM PUBLIC;

-- R11: `adapter rebuild` writes the tables in one transaction of the owner's, which the adapter's role could not end. A claim may:
-- the transaction is undone whole, and the command can be given again. Nobody else of the owner's is touched.
CREATE FUNCTION ledger.end_rebuild() RETURNS bigint
    LANGUAGE sql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
    SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
     WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() AND a.usename = current_user
       AND a.application_name = 'adapter-ledger'
       AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.database = a.datid
                      AND l.relation = 'ledger.write_gate'::regclass)
$$;
REVOKE ALL ON FUNCTION ledger.end_rebuild() FROM PUBLIC;
