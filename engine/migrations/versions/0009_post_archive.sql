-- After this step the oldest parts may leave the database, and then a version that folds the log from its first event cannot
-- start any more: so it is the second half of the pair, applied when both replicas run the version that reads checkpoints (R22).
-- (The body is compared by this sum, in jsonb's own form, when the event is gone.)
SELECT set_config('adapter.epoch', epoch::text, true) FROM ledger.epoch;
UPDATE ledger.order_key k SET body_md5 = md5(nullif(e.payload -> 'body', 'null')::text)
  FROM ledger.event e
 WHERE e.event_type = 'order_accepted' AND e.order_id = k.order_id AND k.body_md5 IS NULL;

-- Take a closed part out of the log. Its file has been read back, and a checkpoint stands beyond it; keys stay (R37). Parts go
-- oldest first, and the log never becomes empty: its last event is what the next one's number is counted from (R21).
CREATE FUNCTION ledger.drop_part(p_epoch bigint, p_part text, p_sha256 text, p_digest text) RETURNS void
    LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
DECLARE
    gone ledger.log_part;
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    PERFORM set_config('adapter.epoch', p_epoch::text, true);
    UPDATE ledger.log_part SET archived_at = clock_timestamp(), sha256 = p_sha256, digest = p_digest
     WHERE part = p_part AND last_seq IS NOT NULL AND archived_at IS NULL RETURNING * INTO gone;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'there is no closed part % in the log', p_part USING ERRCODE = 'PA006';
    END IF;
    IF EXISTS (SELECT FROM ledger.log_part WHERE from_seq < gone.from_seq AND archived_at IS NULL) THEN
        RAISE EXCEPTION 'an older part than % is in the log still', p_part USING ERRCODE = 'PA006';
    END IF;
    IF NOT EXISTS (SELECT FROM ledger.checkpoint WHERE seq >= gone.last_seq) THEN
        RAISE EXCEPTION 'no checkpoint stands at or beyond event %', gone.last_seq USING ERRCODE = 'PA006';
    END IF;
    IF NOT EXISTS (SELECT FROM ledger.event WHERE seq = gone.last_seq + 1) THEN
        RAISE EXCEPTION 'event % is the last one of the log', gone.last_seq USING ERRCODE = 'PA006';
    END IF;
    EXECUTE format('ALTER TABLE ledger.event DETACH PARTITION ledger.%I', gone.part);
    EXECUTE format('DROP TABLE ledger.%I', gone.part);
END $$;
REVOKE ALL ON FUNCTION ledger.drop_part(bigint, text, text, text) FROM PUBLIC;
