-- The ledger: an append-only event log that refuses a writer under an old epoch, and the tables that people query.
--
-- SQLSTATEs of our own:  PA001 the writer's epoch is not the present one      PA002 the epoch moved since it was read
--                        PA003 a hole in the log                              PA004 the log is append-only
--                        PA005 the place in the log holds other events
-- (The schema itself is made by `engine.migrate`, because Alembic's version table lives in it.)

-- What this database belongs to; written by `adapter migrate`, compared at every start (R14).
CREATE TABLE ledger.identity (
    only_row     boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    cluster      text NOT NULL,
    gateway_id   text NOT NULL,
    client_id    integer NOT NULL CHECK (client_id > 0),
    ledger_level integer NOT NULL,
    created_at   timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- Fence 2 (R10). Writers hold `write_gate` ROW EXCLUSIVE for their transaction, a claim takes it EXCLUSIVE: so it waits for
-- the transactions in flight, and none of them can commit after it. The gate is an empty table of its own, because a lock on
-- one that autovacuum works on costs deadlock_timeout.
CREATE TABLE ledger.write_gate (nothing boolean);

CREATE TABLE ledger.epoch (
    only_row   boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch      bigint NOT NULL,
    name       text,
    instance   text,
    claimed_at timestamptz
);
INSERT INTO ledger.epoch (epoch) VALUES (0);

-- One row per term: who led, why, and what each phase of taking over cost (milliseconds).
CREATE TABLE ledger.term (
    epoch             bigint PRIMARY KEY,
    kind              text NOT NULL CHECK (kind IN ('start', 'failover', 'switchover')),
    reason            text NOT NULL,
    from_name         text,
    to_name           text NOT NULL,
    instance          text NOT NULL,
    url               text NOT NULL,
    version           text NOT NULL,
    at                timestamptz NOT NULL DEFAULT clock_timestamp(),
    system_identifier text NOT NULL,
    timeline          text NOT NULL,
    etcd_cluster_id   text,
    seq               bigint NOT NULL,
    digest            text,
    detect_ms         double precision,
    acquire_ms        double precision,
    claim_ms          double precision,
    fence_ms          double precision,
    connect_ms        double precision,
    reconcile_ms      double precision,
    first_order_ms    double precision,
    total_ms          double precision,
    repaired          integer,
    held              integer
);

-- R12: the leader shows every 250 ms that it can still commit under its epoch; the standby reads it, and compares digests.
CREATE TABLE ledger.proof (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    epoch    bigint NOT NULL,
    instance text,
    beat     bigint NOT NULL DEFAULT 0,
    seq      bigint NOT NULL DEFAULT 0,
    digest   text NOT NULL DEFAULT '0',
    state    text NOT NULL DEFAULT '',
    at       timestamptz NOT NULL DEFAULT clock_timestamp()
);
INSERT INTO ledger.proof (epoch) VALUES (0);

CREATE TABLE ledger.event (
    seq            bigint PRIMARY KEY CHECK (seq > 0),
    epoch          bigint NOT NULL,
    event_id       uuid NOT NULL UNIQUE,
    event_type     text NOT NULL,
    correlation_id text,
    order_id       text,
    user_id        text,
    "timestamp"    timestamptz NOT NULL,
    payload        jsonb NOT NULL,
    created_at     timestamptz NOT NULL DEFAULT clock_timestamp()
);
CREATE INDEX event_correlation ON ledger.event (correlation_id) WHERE correlation_id IS NOT NULL;
CREATE INDEX event_order ON ledger.event (order_id) WHERE order_id IS NOT NULL;
CREATE INDEX event_type ON ledger.event (event_type, seq);
CREATE INDEX event_time ON ledger.event ("timestamp");

-- The database guards the state machine too: a key is used once, for ever (R37), an execution is booked once (R27).
CREATE TABLE ledger.order_key (
    order_id        text PRIMARY KEY,
    user_id         text,
    client_order_id text,
    UNIQUE (user_id, client_order_id)
);
CREATE TABLE ledger.execution_key (
    account  text NOT NULL,
    root     text NOT NULL,
    revision integer NOT NULL,
    PRIMARY KEY (account, root, revision)
);

-- What people query: the fold's present state, written behind the log by the leader; `projection.seq` says how far.
CREATE TABLE ledger.orders (
    id text PRIMARY KEY, client_order_id text, user_id text, state text NOT NULL, reason text, account text, symbol text NOT NULL,
    sec_type text, exchange text, currency text, con_id bigint, side text NOT NULL, quantity numeric NOT NULL,
    filled numeric NOT NULL, average_price numeric, order_type text NOT NULL, limit_price numeric, stop_price numeric, tif text,
    perm_id bigint, broker_order_id bigint, session bigint, cancel_requested boolean NOT NULL, revision integer NOT NULL,
    external boolean NOT NULL, epoch bigint NOT NULL, seq bigint NOT NULL, correlation_id text, sent_at timestamptz,
    acknowledged_at timestamptz, valid_until timestamptz, created_at timestamptz NOT NULL, updated_at timestamptz NOT NULL
);
CREATE INDEX orders_state ON ledger.orders (state) WHERE state IN ('QUEUED', 'SENDING', 'WORKING', 'IN_DOUBT');
CREATE INDEX orders_symbol ON ledger.orders (symbol, seq);
CREATE TABLE ledger.executions (
    account text NOT NULL, root text NOT NULL, exec_id text NOT NULL, revision integer NOT NULL, order_id text, con_id bigint,
    symbol text NOT NULL, side text NOT NULL, quantity numeric NOT NULL, price numeric NOT NULL, exchange text, perm_id bigint,
    at timestamptz NOT NULL, seq bigint NOT NULL, commission numeric, commission_currency text, realized_pnl numeric,
    PRIMARY KEY (account, root)
);
CREATE TABLE ledger.positions (
    account text NOT NULL, con_id bigint NOT NULL, symbol text NOT NULL, quantity numeric NOT NULL, average_cost numeric NOT NULL,
    PRIMARY KEY (account, con_id)
);
CREATE TABLE ledger.breaks (
    id text PRIMARY KEY, kind text NOT NULL, symbol text NOT NULL, account text, order_id text, ours jsonb NOT NULL,
    broker jsonb NOT NULL, holds boolean NOT NULL, opened_at timestamptz NOT NULL, resolved_at timestamptz, resolution text
);
CREATE TABLE ledger.projection (
    only_row boolean PRIMARY KEY DEFAULT true CHECK (only_row),
    seq      bigint NOT NULL DEFAULT 0
);
INSERT INTO ledger.projection DEFAULT VALUES;

-- Operators' wishes (R29, R34): unfenced, because they must be writable without a leader; the leader reads them with each proof.
CREATE TABLE ledger.control (
    key   text PRIMARY KEY CHECK (key IN ('paused', 'halted')),
    value jsonb NOT NULL,
    by    text NOT NULL,
    at    timestamptz NOT NULL DEFAULT clock_timestamp()
);

-- R10: no code path, old version or psql session writes as a stale leader.
CREATE FUNCTION ledger.fence() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    named   text := nullif(current_setting('adapter.epoch', true), '');
    present bigint;
BEGIN
    LOCK TABLE ledger.write_gate IN ROW EXCLUSIVE MODE;
    SELECT epoch INTO present FROM ledger.epoch FOR SHARE;
    IF named IS NULL OR named <> present::text THEN
        RAISE EXCEPTION 'fenced: this writer names epoch %, the present one is %', coalesce(named, 'none'), present
            USING ERRCODE = 'PA001', HINT = 'Another replica leads. A transaction names its epoch by set_config(''adapter.epoch'', ...).';
    END IF;
    RETURN NULL;
END $$;

-- R21: seq is dense and in commit order. `seq <= head` is left to the unique index: a repeat after a lost answer (R20) must
-- find its row, and BEFORE triggers run ahead of ON CONFLICT.
CREATE FUNCTION ledger.event_in_place() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    head bigint;
BEGIN
    SELECT coalesce(max(seq), 0) INTO head FROM ledger.event;
    IF NEW.seq > head + 1 THEN
        RAISE EXCEPTION 'event % would leave a hole after %', NEW.seq, head USING ERRCODE = 'PA003';
    END IF;
    IF NEW.epoch::text <> current_setting('adapter.epoch') THEN
        RAISE EXCEPTION 'event % carries epoch %, its transaction names %', NEW.seq, NEW.epoch, current_setting('adapter.epoch')
            USING ERRCODE = 'PA001';
    END IF;
    NEW.created_at := clock_timestamp();
    RETURN NEW;
END $$;

CREATE FUNCTION ledger.event_is_forever() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
    RAISE EXCEPTION 'the event log is append-only' USING ERRCODE = 'PA004';
END $$;

CREATE FUNCTION ledger.take_keys() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
BEGIN
    IF NEW.event_type = 'execution' THEN
        INSERT INTO ledger.execution_key VALUES (NEW.payload ->> 'account', NEW.payload ->> 'root', (NEW.payload ->> 'revision')::integer);
    ELSE
        INSERT INTO ledger.order_key VALUES (NEW.order_id, NEW.user_id, NEW.payload ->> 'client_order_id');
    END IF;
    RETURN NULL;
END $$;

DO $$
DECLARE
    guarded text;
BEGIN
    FOREACH guarded IN ARRAY ARRAY['term', 'proof', 'event', 'order_key', 'execution_key', 'orders', 'executions', 'positions',
                                   'breaks', 'projection'] LOOP
        EXECUTE format('CREATE TRIGGER a_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ledger.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence()', guarded);
        EXECUTE format('ALTER TABLE ledger.%I ENABLE ALWAYS TRIGGER a_fence', guarded);
    END LOOP;
END $$;
CREATE TRIGGER in_place BEFORE INSERT ON ledger.event FOR EACH ROW EXECUTE FUNCTION ledger.event_in_place();
CREATE TRIGGER forever BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.event
    FOR EACH STATEMENT EXECUTE FUNCTION ledger.event_is_forever();
CREATE TRIGGER keys AFTER INSERT ON ledger.event FOR EACH ROW
    WHEN (NEW.event_type IN ('order_accepted', 'order_external', 'order_restored', 'execution'))
    EXECUTE FUNCTION ledger.take_keys();
ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER in_place;
ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER forever;
ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER keys;

-- R10, R31: claim the next epoch, compare-and-set on the one that was read before campaigning, above `p_at_least`. Waits at most
-- 200 ms for transactions in flight (R11: the caller then ends the backends of older epochs and tries again).
CREATE FUNCTION ledger.claim(p_expected bigint, p_at_least bigint, p_term jsonb) RETURNS bigint
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
DECLARE
    claimed bigint;
BEGIN
    PERFORM set_config('lock_timeout', '200ms', true);
    LOCK TABLE ledger.write_gate IN EXCLUSIVE MODE;
    UPDATE ledger.epoch
       SET epoch = greatest(epoch, p_at_least) + 1, name = p_term ->> 'to_name', instance = p_term ->> 'instance',
           claimed_at = clock_timestamp()
     WHERE epoch = p_expected RETURNING epoch INTO claimed;
    IF NOT FOUND THEN
        RAISE EXCEPTION 'the epoch is no longer %', p_expected USING ERRCODE = 'PA002';
    END IF;
    PERFORM set_config('adapter.epoch', claimed::text, true);
    INSERT INTO ledger.term (epoch, kind, reason, from_name, to_name, instance, url, version, etcd_cluster_id,
                             system_identifier, timeline, seq)
    SELECT claimed, p_term ->> 'kind', p_term ->> 'reason', p_term ->> 'from_name', p_term ->> 'to_name', p_term ->> 'instance',
           p_term ->> 'url', p_term ->> 'version', p_term ->> 'etcd_cluster_id',
           (SELECT system_identifier::text FROM pg_control_system()), left(pg_walfile_name(pg_current_wal_lsn()), 8),
           (SELECT coalesce(max(seq), 0) FROM ledger.event);
    UPDATE ledger.proof SET epoch = claimed, instance = p_term ->> 'instance', beat = beat + 1, at = clock_timestamp();
    RETURN claimed;
END $$;

-- R10: every new leader proves the fence: a write under another epoch, in a savepoint, must fail with our SQLSTATE.
CREATE FUNCTION ledger.fence_holds(p_other bigint) RETURNS boolean LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('adapter.epoch', p_other::text, true);
    UPDATE ledger.proof SET beat = beat;
    RAISE EXCEPTION 'not fenced' USING ERRCODE = 'PA000';
EXCEPTION
    WHEN SQLSTATE 'PA001' THEN RETURN true;
    WHEN SQLSTATE 'PA000' THEN RETURN false;
END $$;

-- The one way into the log: one statement, one transaction, one round trip (R11). Answers how many rows are new: all of them, or
-- none when this is a repeat after a lost answer (R20).
CREATE FUNCTION ledger.append(p_epoch bigint, p_events jsonb) RETURNS integer LANGUAGE plpgsql AS $$
DECLARE
    wanted integer := jsonb_array_length(p_events);
    added  integer;
    found  integer;
BEGIN
    PERFORM set_config('adapter.epoch', p_epoch::text, true);
    INSERT INTO ledger.event (seq, epoch, event_id, event_type, correlation_id, order_id, user_id, "timestamp", payload)
    SELECT e.seq, p_epoch, e.event_id, e.event_type, e.correlation_id, e.order_id, e.user_id, e."timestamp", e.payload
      FROM jsonb_to_recordset(p_events) AS e (seq bigint, event_id uuid, event_type text, correlation_id text, order_id text,
                                              user_id text, "timestamp" timestamptz, payload jsonb)
     ORDER BY e.seq
        ON CONFLICT (seq) DO NOTHING;
    GET DIAGNOSTICS added = ROW_COUNT;
    IF added < wanted THEN
        SELECT count(*) INTO found
          FROM ledger.event JOIN jsonb_to_recordset(p_events) AS e (seq bigint, event_id uuid) USING (seq, event_id);
        IF added > 0 OR found < wanted THEN
            RAISE EXCEPTION 'the place in the log holds other events' USING ERRCODE = 'PA005';
        END IF;
    END IF;
    PERFORM pg_notify('ledger', ((p_events -> -1) ->> 'seq'));
    RETURN added;
END $$;

-- R12: prove the epoch. A function, because the fence (a statement trigger) fires before a query's own set_config would run.
CREATE FUNCTION ledger.prove(p_epoch bigint, p_instance text, p_seq bigint, p_digest text, p_state text)
    RETURNS timestamptz LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('adapter.epoch', p_epoch::text, true);
    UPDATE ledger.proof
       SET epoch = p_epoch, instance = p_instance, beat = beat + 1, seq = p_seq, digest = p_digest, state = p_state,
           at = clock_timestamp();
    RETURN clock_timestamp();
END $$;

-- What each phase of the takeover cost, noted as it becomes known.
CREATE FUNCTION ledger.note_phases(p_epoch bigint, p jsonb) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('adapter.epoch', p_epoch::text, true);
    UPDATE ledger.term t
       SET detect_ms = coalesce(n.detect_ms, t.detect_ms), acquire_ms = coalesce(n.acquire_ms, t.acquire_ms),
           claim_ms = coalesce(n.claim_ms, t.claim_ms), fence_ms = coalesce(n.fence_ms, t.fence_ms),
           connect_ms = coalesce(n.connect_ms, t.connect_ms), reconcile_ms = coalesce(n.reconcile_ms, t.reconcile_ms),
           first_order_ms = coalesce(n.first_order_ms, t.first_order_ms), total_ms = coalesce(n.total_ms, t.total_ms),
           repaired = coalesce(n.repaired, t.repaired), held = coalesce(n.held, t.held), digest = coalesce(n.digest, t.digest)
      FROM jsonb_populate_record(NULL::ledger.term, p) AS n
     WHERE t.epoch = p_epoch;
END $$;

-- Write the fold's present state of the entities that changed, behind the log.
CREATE FUNCTION ledger.project(p_epoch bigint, p_rows jsonb, p_seq bigint) RETURNS void LANGUAGE plpgsql AS $$
BEGIN
    PERFORM set_config('adapter.epoch', p_epoch::text, true);
    DELETE FROM ledger.orders o USING jsonb_populate_recordset(NULL::ledger.orders, p_rows -> 'orders') n WHERE o.id = n.id;
    INSERT INTO ledger.orders SELECT * FROM jsonb_populate_recordset(NULL::ledger.orders, p_rows -> 'orders');
    DELETE FROM ledger.executions o USING jsonb_populate_recordset(NULL::ledger.executions, p_rows -> 'executions') n
     WHERE o.account = n.account AND o.root = n.root;
    INSERT INTO ledger.executions SELECT * FROM jsonb_populate_recordset(NULL::ledger.executions, p_rows -> 'executions');
    DELETE FROM ledger.positions o USING jsonb_populate_recordset(NULL::ledger.positions, p_rows -> 'positions') n
     WHERE o.account = n.account AND o.con_id = n.con_id;
    INSERT INTO ledger.positions SELECT * FROM jsonb_populate_recordset(NULL::ledger.positions, p_rows -> 'positions');
    DELETE FROM ledger.breaks o USING jsonb_populate_recordset(NULL::ledger.breaks, p_rows -> 'breaks') n WHERE o.id = n.id;
    INSERT INTO ledger.breaks SELECT * FROM jsonb_populate_recordset(NULL::ledger.breaks, p_rows -> 'breaks');
    UPDATE ledger.projection SET seq = p_seq;
END $$;
