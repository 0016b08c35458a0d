-- What operators asked for, in the order in which they asked, for the audit. A wish can be written without a leader (R29), so this
-- is written beside it and not in the log; the leader notes it there (event operator_command) when its next proof reads it.
CREATE TABLE ledger.command (
    id             bigint PRIMARY KEY,
    command        text NOT NULL,
    by             text NOT NULL,
    reason         text NOT NULL,
    remote         text NOT NULL,
    correlation_id text NOT NULL,
    details        jsonb NOT NULL,
    at             timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- One transaction for the wish and for who wished it. The lock makes ids dense and in commit order: the leader reads on from the
-- last one that it noted, and an id that was given and committed later would be passed over for ever.
CREATE FUNCTION ledger.give_command(p_command text, p_key text, p_value jsonb, p_by text, p_reason text, p_remote text,
                                    p_correlation_id text, p_details jsonb) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    given bigint;
BEGIN
    LOCK TABLE ledger.command IN EXCLUSIVE MODE;
    INSERT INTO ledger.command (id, command, by, reason, remote, correlation_id, details)
    SELECT coalesce(max(id), 0) + 1, p_command, p_by, p_reason, p_remote, p_correlation_id, p_details FROM ledger.command
    RETURNING id INTO given;
    IF p_value IS NOT NULL THEN
        INSERT INTO ledger.control (key, value, by) VALUES (p_key, p_value, p_by)
            ON CONFLICT (key) DO UPDATE SET value = excluded.value, by = excluded.by, at = clock_timestamp();
    ELSIF p_key IS NOT NULL THEN
        DELETE FROM ledger.control WHERE key = p_key;
    END IF;
    RETURN given;
END $$;
