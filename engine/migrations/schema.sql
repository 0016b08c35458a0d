-- The whole schema, as all migrations applied give it. Generated: change it by a migration, then run `make schema`.
-- A test compares what it makes with what the migrations make, catalog by catalog. `adapter migrate` gives the adapter's role its
-- rights; they are not here, because the role's name is a setting.

CREATE SCHEMA ledger;

CREATE TABLE ledger.alembic_version (
    version_num character varying(32) NOT NULL
);
ALTER TABLE ledger.alembic_version ADD CONSTRAINT alembic_version_pkey PRIMARY KEY (version_num);

CREATE TABLE ledger.breaks (
    id text NOT NULL,
    kind text NOT NULL,
    symbol text NOT NULL,
    account text,
    order_id text,
    ours jsonb NOT NULL,
    broker jsonb NOT NULL,
    holds boolean NOT NULL,
    opened_at timestamp with time zone NOT NULL,
    resolved_at timestamp with time zone,
    resolution text
);
ALTER TABLE ledger.breaks ADD CONSTRAINT breaks_pkey PRIMARY KEY (id);

CREATE TABLE ledger.checkpoint (
    seq bigint NOT NULL,
    form text NOT NULL,
    digest_version integer NOT NULL,
    digest text NOT NULL,
    state bytea NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE ledger.checkpoint ADD CONSTRAINT checkpoint_pkey PRIMARY KEY (seq, form);
ALTER TABLE ledger.checkpoint ADD CONSTRAINT checkpoint_seq_check CHECK ((seq > 0));

CREATE TABLE ledger.command (
    id bigint NOT NULL,
    command text NOT NULL,
    by text NOT NULL,
    reason text NOT NULL,
    remote text NOT NULL,
    correlation_id text NOT NULL,
    details jsonb NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE ledger.command ADD CONSTRAINT command_pkey PRIMARY KEY (id);

CREATE TABLE ledger.control (
    key text NOT NULL,
    value jsonb NOT NULL,
    by text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE ledger.control ADD CONSTRAINT control_pkey PRIMARY KEY (key);
ALTER TABLE ledger.control ADD CONSTRAINT control_key_check CHECK ((key = ANY (ARRAY['paused'::text, 'halted'::text, 'new_gateway'::text])));

CREATE TABLE ledger.epoch (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    name text,
    instance text,
    claimed_at timestamp with time zone
);
ALTER TABLE ledger.epoch ADD CONSTRAINT epoch_pkey PRIMARY KEY (only_row);
ALTER TABLE ledger.epoch ADD CONSTRAINT epoch_only_row_check CHECK (only_row);

CREATE TABLE ledger.event (
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    correlation_id text,
    order_id text,
    user_id text,
    "timestamp" timestamp with time zone NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
) PARTITION BY RANGE (seq);
ALTER TABLE ledger.event ADD CONSTRAINT event_pkey PRIMARY KEY (seq);
ALTER TABLE ledger.event ADD CONSTRAINT event_seq_check CHECK ((seq > 0));
CREATE INDEX event_correlation ON ledger.event USING btree (correlation_id) WHERE (correlation_id IS NOT NULL);
CREATE INDEX event_order ON ledger.event USING btree (order_id) WHERE (order_id IS NOT NULL);
CREATE INDEX event_time ON ledger.event USING btree ("timestamp");
CREATE INDEX event_type ON ledger.event USING btree (event_type, seq);

CREATE TABLE ledger.execution_key (
    account text NOT NULL,
    root text NOT NULL,
    revision integer NOT NULL
);
ALTER TABLE ledger.execution_key ADD CONSTRAINT execution_key_pkey PRIMARY KEY (account, root, revision);

CREATE TABLE ledger.executions (
    account text NOT NULL,
    root text NOT NULL,
    exec_id text NOT NULL,
    revision integer NOT NULL,
    order_id text,
    con_id bigint,
    symbol text NOT NULL,
    side text NOT NULL,
    quantity numeric NOT NULL,
    price numeric NOT NULL,
    exchange text,
    perm_id bigint,
    at timestamp with time zone NOT NULL,
    seq bigint NOT NULL,
    commission numeric,
    commission_currency text,
    realized_pnl numeric
);
ALTER TABLE ledger.executions ADD CONSTRAINT executions_pkey PRIMARY KEY (account, root);
CREATE INDEX executions_order ON ledger.executions USING btree (order_id) WHERE (order_id IS NOT NULL);
CREATE INDEX executions_seq ON ledger.executions USING btree (seq);

CREATE TABLE ledger.identity (
    only_row boolean DEFAULT true NOT NULL,
    cluster text NOT NULL,
    gateway_id text NOT NULL,
    client_id integer NOT NULL,
    ledger_level integer NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE ledger.identity ADD CONSTRAINT identity_pkey PRIMARY KEY (only_row);
ALTER TABLE ledger.identity ADD CONSTRAINT identity_client_id_check CHECK ((client_id > 0));
ALTER TABLE ledger.identity ADD CONSTRAINT identity_only_row_check CHECK (only_row);

CREATE TABLE ledger.log_part (
    part text NOT NULL,
    month date NOT NULL,
    from_seq bigint NOT NULL,
    last_seq bigint,
    closed_at timestamp with time zone,
    archived_at timestamp with time zone,
    sha256 text,
    digest text
);
ALTER TABLE ledger.log_part ADD CONSTRAINT log_part_from_seq_key UNIQUE (from_seq);
ALTER TABLE ledger.log_part ADD CONSTRAINT log_part_pkey PRIMARY KEY (part);
ALTER TABLE ledger.log_part ADD CONSTRAINT log_part_month_check CHECK ((EXTRACT(day FROM month) = (1)::numeric));
CREATE UNIQUE INDEX one_open_part ON ledger.log_part USING btree ((true)) WHERE (last_seq IS NULL);

CREATE TABLE ledger.order_key (
    order_id text NOT NULL,
    user_id text,
    client_order_id text,
    body_md5 text
);
ALTER TABLE ledger.order_key ADD CONSTRAINT order_key_pkey PRIMARY KEY (order_id);
ALTER TABLE ledger.order_key ADD CONSTRAINT order_key_user_id_client_order_id_key UNIQUE (user_id, client_order_id);

CREATE TABLE ledger.orders (
    id text NOT NULL,
    client_order_id text,
    user_id text,
    state text NOT NULL,
    reason text,
    account text,
    symbol text NOT NULL,
    sec_type text,
    exchange text,
    currency text,
    con_id bigint,
    side text NOT NULL,
    quantity numeric NOT NULL,
    filled numeric NOT NULL,
    average_price numeric,
    order_type text NOT NULL,
    limit_price numeric,
    stop_price numeric,
    tif text,
    perm_id bigint,
    broker_order_id bigint,
    session bigint,
    cancel_requested boolean NOT NULL,
    revision integer NOT NULL,
    external boolean NOT NULL,
    epoch bigint NOT NULL,
    seq bigint NOT NULL,
    correlation_id text,
    sent_at timestamp with time zone,
    acknowledged_at timestamp with time zone,
    valid_until timestamp with time zone,
    created_at timestamp with time zone NOT NULL,
    updated_at timestamp with time zone NOT NULL
);
ALTER TABLE ledger.orders ADD CONSTRAINT orders_pkey PRIMARY KEY (id);
CREATE INDEX orders_client_order_id ON ledger.orders USING btree (client_order_id) WHERE (client_order_id IS NOT NULL);
CREATE INDEX orders_perm_id ON ledger.orders USING btree (perm_id) WHERE (perm_id IS NOT NULL);
CREATE INDEX orders_seq ON ledger.orders USING btree (seq);
CREATE INDEX orders_state ON ledger.orders USING btree (state) WHERE (state = ANY (ARRAY['QUEUED'::text, 'SENDING'::text, 'WORKING'::text, 'IN_DOUBT'::text]));
CREATE INDEX orders_symbol ON ledger.orders USING btree (symbol, seq);

CREATE TABLE ledger.positions (
    account text NOT NULL,
    con_id bigint NOT NULL,
    symbol text NOT NULL,
    quantity numeric NOT NULL,
    average_cost numeric NOT NULL
);
ALTER TABLE ledger.positions ADD CONSTRAINT positions_pkey PRIMARY KEY (account, con_id);

CREATE TABLE ledger.projection (
    only_row boolean DEFAULT true NOT NULL,
    seq bigint DEFAULT 0 NOT NULL
);
ALTER TABLE ledger.projection ADD CONSTRAINT projection_pkey PRIMARY KEY (only_row);
ALTER TABLE ledger.projection ADD CONSTRAINT projection_only_row_check CHECK (only_row);

CREATE TABLE ledger.proof (
    only_row boolean DEFAULT true NOT NULL,
    epoch bigint NOT NULL,
    instance text,
    beat bigint DEFAULT 0 NOT NULL,
    seq bigint DEFAULT 0 NOT NULL,
    digest text DEFAULT '0'::text NOT NULL,
    state text DEFAULT ''::text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE ledger.proof ADD CONSTRAINT proof_pkey PRIMARY KEY (only_row);
ALTER TABLE ledger.proof ADD CONSTRAINT proof_only_row_check CHECK (only_row);

CREATE TABLE ledger.schema_version (
    version_num character varying(32) NOT NULL
);
ALTER TABLE ledger.schema_version ADD CONSTRAINT schema_version_pkey PRIMARY KEY (version_num);

CREATE TABLE ledger.term (
    epoch bigint NOT NULL,
    kind text NOT NULL,
    reason text NOT NULL,
    from_name text,
    to_name text NOT NULL,
    instance text NOT NULL,
    url text NOT NULL,
    version text NOT NULL,
    at timestamp with time zone DEFAULT clock_timestamp() NOT NULL,
    system_identifier text NOT NULL,
    timeline text NOT NULL,
    etcd_cluster_id text,
    seq bigint NOT NULL,
    digest text,
    detect_ms double precision,
    acquire_ms double precision,
    claim_ms double precision,
    fence_ms double precision,
    connect_ms double precision,
    reconcile_ms double precision,
    first_order_ms double precision,
    total_ms double precision,
    repaired integer,
    held integer
);
ALTER TABLE ledger.term ADD CONSTRAINT term_pkey PRIMARY KEY (epoch);
ALTER TABLE ledger.term ADD CONSTRAINT term_kind_check CHECK ((kind = ANY (ARRAY['start'::text, 'failover'::text, 'switchover'::text])));

CREATE TABLE ledger.write_gate (
    nothing boolean
);

CREATE TABLE ledger.event_2001_01 (
    seq bigint NOT NULL,
    epoch bigint NOT NULL,
    event_id uuid NOT NULL,
    event_type text NOT NULL,
    correlation_id text,
    order_id text,
    user_id text,
    "timestamp" timestamp with time zone NOT NULL,
    payload jsonb NOT NULL,
    created_at timestamp with time zone DEFAULT clock_timestamp() NOT NULL
);
ALTER TABLE ledger.event_2001_01 ADD CONSTRAINT event_2001_01_event_id_key UNIQUE (event_id);
ALTER TABLE ledger.event_2001_01 ADD CONSTRAINT event_2001_01_pkey PRIMARY KEY (seq);
ALTER TABLE ledger.event_2001_01 ADD CONSTRAINT event_seq_check CHECK ((seq > 0));
CREATE INDEX event_2001_01_correlation ON ledger.event_2001_01 USING btree (correlation_id) WHERE (correlation_id IS NOT NULL);
CREATE INDEX event_2001_01_order ON ledger.event_2001_01 USING btree (order_id) WHERE (order_id IS NOT NULL);
CREATE INDEX event_2001_01_time ON ledger.event_2001_01 USING btree ("timestamp");
CREATE INDEX event_2001_01_type ON ledger.event_2001_01 USING btree (event_type, seq);

CREATE OR REPLACE FUNCTION ledger.always(p_part text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
DECLARE
    guard text;
BEGIN
    FOREACH guard IN ARRAY ARRAY['a_fence', 'forever', 'in_place', 'keys'] LOOP
        EXECUTE format('ALTER TABLE ledger.%I ENABLE ALWAYS TRIGGER %I', p_part, guard);
    END LOOP;
END $function$;
REVOKE ALL ON FUNCTION ledger.always(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.append(p_epoch bigint, p_events jsonb)
 RETURNS integer
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.claim(p_expected bigint, p_at_least bigint, p_term jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
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
END $function$;
REVOKE ALL ON FUNCTION ledger.claim(bigint,bigint,jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.close_part(p_epoch bigint, p_month date, p_most bigint)
 RETURNS text
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
DECLARE
    ending ledger.log_part;
    begins text;
    head   bigint;
BEGIN
    PERFORM set_config('adapter.epoch', p_epoch::text, true);
    UPDATE ledger.log_part SET part = part WHERE last_seq IS NULL RETURNING * INTO ending;  -- the fence looks at it, others wait
    SELECT max(seq) INTO head FROM ledger.event;
    IF ending.part IS NULL OR ending.month > p_month
       OR (ending.month = p_month AND coalesce(head, 0) - ending.from_seq + 1 < p_most) THEN
        RETURN NULL;
    END IF;
    SELECT to_char(p_month, '"event_"YYYY_MM') || CASE WHEN count(*) = 0 THEN '' ELSE '_' || count(*) + 1 END
      INTO begins FROM ledger.log_part WHERE month = p_month;
    PERFORM set_config('lock_timeout', '100ms', true);
    LOCK TABLE ONLY ledger.event IN ACCESS EXCLUSIVE MODE;
    EXECUTE format('SELECT max(seq) FROM ledger.%I', ending.part) INTO head;
    IF head IS NULL THEN
        EXECUTE format('ALTER TABLE ledger.%I RENAME TO %I', ending.part, begins);
        UPDATE ledger.log_part SET month = p_month, part = begins WHERE part = ending.part;
        RETURN NULL;
    END IF;
    EXECUTE format('ALTER TABLE ledger.event DETACH PARTITION ledger.%I', ending.part);
    EXECUTE format('ALTER TABLE ledger.event ATTACH PARTITION ledger.%I FOR VALUES FROM (%s) TO (%s)', ending.part,
                   ending.from_seq, head + 1);
    PERFORM ledger.always(ending.part);
    EXECUTE format('CREATE TABLE ledger.%I PARTITION OF ledger.event FOR VALUES FROM (%s) TO (MAXVALUE)', begins, head + 1);
    PERFORM ledger.guard_part(begins);
    UPDATE ledger.log_part SET last_seq = head, closed_at = clock_timestamp() WHERE part = ending.part;
    INSERT INTO ledger.log_part (part, month, from_seq) VALUES (begins, p_month, head + 1);
    RETURN ending.part;
END $function$;
REVOKE ALL ON FUNCTION ledger.close_part(bigint,date,bigint) FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.drop_part(p_epoch bigint, p_part text, p_sha256 text, p_digest text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
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
END $function$;
REVOKE ALL ON FUNCTION ledger.drop_part(bigint,text,text,text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.end_rebuild()
 RETURNS bigint
 LANGUAGE sql
 SECURITY DEFINER
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
    SELECT count(pg_terminate_backend(a.pid)) FROM pg_stat_activity a
     WHERE a.pid <> pg_backend_pid() AND a.datname = current_database() AND a.usename = current_user
       AND a.application_name = 'adapter-ledger'
       AND EXISTS (SELECT FROM pg_locks l WHERE l.pid = a.pid AND l.granted AND l.database = a.datid
                      AND l.relation = 'ledger.write_gate'::regclass)
$function$;
REVOKE ALL ON FUNCTION ledger.end_rebuild() FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.event_in_place()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
DECLARE
    head bigint;
BEGIN
    IF NEW.seq > 1 AND NOT EXISTS (SELECT FROM ledger.event WHERE seq = NEW.seq - 1) THEN
        SELECT coalesce(max(seq), 0) INTO head FROM ledger.event;
        IF NEW.seq > head + 1 THEN
            RAISE EXCEPTION 'event % would leave a hole after %', NEW.seq, head USING ERRCODE = 'PA003';
        END IF;
    END IF;
    IF NEW.epoch::text <> current_setting('adapter.epoch') THEN
        RAISE EXCEPTION 'event % carries epoch %, its transaction names %', NEW.seq, NEW.epoch, current_setting('adapter.epoch')
            USING ERRCODE = 'PA001';
    END IF;
    NEW.created_at := clock_timestamp();
    RETURN NEW;
END $function$;
REVOKE ALL ON FUNCTION ledger.event_in_place() FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.event_is_forever()
 RETURNS trigger
 LANGUAGE plpgsql
AS $function$
BEGIN
    RAISE EXCEPTION 'the event log is append-only' USING ERRCODE = 'PA004';
END $function$;
REVOKE ALL ON FUNCTION ledger.event_is_forever() FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.fence()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
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
END $function$;
REVOKE ALL ON FUNCTION ledger.fence() FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.fence_holds(p_other bigint)
 RETURNS boolean
 LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM set_config('adapter.epoch', p_other::text, true);
    UPDATE ledger.proof SET beat = beat;
    RAISE EXCEPTION 'not fenced' USING ERRCODE = 'PA000';
EXCEPTION
    WHEN SQLSTATE 'PA001' THEN RETURN true;
    WHEN SQLSTATE 'PA000' THEN RETURN false;
END $function$;

CREATE OR REPLACE FUNCTION ledger.give_command(p_command text, p_key text, p_value jsonb, p_by text, p_reason text, p_remote text, p_correlation_id text, p_details jsonb)
 RETURNS bigint
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
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
END $function$;
REVOKE ALL ON FUNCTION ledger.give_command(text,text,jsonb,text,text,text,text,jsonb) FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.guard_part(p_part text)
 RETURNS void
 LANGUAGE plpgsql
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
BEGIN
    EXECUTE format('CREATE TRIGGER a_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ledger.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence()', p_part);
    EXECUTE format('CREATE TRIGGER forever BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledger.event_is_forever()', p_part);
    EXECUTE format('ALTER TABLE ledger.%I ADD UNIQUE (event_id)', p_part);
    PERFORM ledger.always(p_part);
END $function$;
REVOKE ALL ON FUNCTION ledger.guard_part(text) FROM PUBLIC;

CREATE OR REPLACE FUNCTION ledger.note_phases(p_epoch bigint, p jsonb)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.project(p_epoch bigint, p_rows jsonb, p_seq bigint)
 RETURNS void
 LANGUAGE plpgsql
AS $function$
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
END $function$;

CREATE OR REPLACE FUNCTION ledger.prove(p_epoch bigint, p_instance text, p_seq bigint, p_digest text, p_state text)
 RETURNS timestamp with time zone
 LANGUAGE plpgsql
AS $function$
BEGIN
    PERFORM set_config('adapter.epoch', p_epoch::text, true);
    UPDATE ledger.proof
       SET epoch = p_epoch, instance = p_instance, beat = beat + 1, seq = p_seq, digest = p_digest, state = p_state,
           at = clock_timestamp();
    RETURN clock_timestamp();
END $function$;

CREATE OR REPLACE FUNCTION ledger.take_keys()
 RETURNS trigger
 LANGUAGE plpgsql
 SECURITY DEFINER
 SET search_path TO 'ledger', 'pg_temp'
AS $function$
BEGIN
    IF NEW.event_type = 'execution' THEN
        INSERT INTO ledger.execution_key VALUES (NEW.payload ->> 'account', NEW.payload ->> 'root', (NEW.payload ->> 'revision')::integer);
    ELSE
        INSERT INTO ledger.order_key (order_id, user_id, client_order_id, body_md5)
        VALUES (NEW.order_id, NEW.user_id, NEW.payload ->> 'client_order_id', md5(nullif(NEW.payload -> 'body', 'null')::text));
    END IF;
    RETURN NULL;
END $function$;
REVOKE ALL ON FUNCTION ledger.take_keys() FROM PUBLIC;

CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.event FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER forever BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.event FOR EACH STATEMENT EXECUTE FUNCTION ledger.event_is_forever();
CREATE TRIGGER in_place BEFORE INSERT ON ledger.event FOR EACH ROW EXECUTE FUNCTION ledger.event_in_place();
CREATE TRIGGER keys AFTER INSERT ON ledger.event FOR EACH ROW WHEN ((new.event_type = ANY (ARRAY['order_accepted'::text, 'order_external'::text, 'order_restored'::text, 'execution'::text]))) EXECUTE FUNCTION ledger.take_keys();

INSERT INTO ledger.schema_version (version_num) VALUES ('0009');
INSERT INTO ledger.alembic_version (version_num) VALUES ('0009');
INSERT INTO ledger.epoch (epoch) VALUES (0);
INSERT INTO ledger.proof (epoch, seq, digest, state) VALUES (0, 0, '0', '');
INSERT INTO ledger.projection (seq) VALUES (0);
INSERT INTO ledger.log_part (part, month, from_seq) VALUES ('event_2001_01', '2001-01-01', 1);

ALTER TABLE ledger.event ATTACH PARTITION ledger.event_2001_01 FOR VALUES FROM (MINVALUE) TO (MAXVALUE);
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.breaks FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.checkpoint FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.execution_key FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.executions FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.log_part FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.order_key FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.orders FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.positions FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.projection FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.proof FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.term FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER a_fence BEFORE INSERT OR DELETE OR UPDATE OR TRUNCATE ON ledger.event_2001_01 FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence();
CREATE TRIGGER forever BEFORE DELETE OR UPDATE OR TRUNCATE ON ledger.event_2001_01 FOR EACH STATEMENT EXECUTE FUNCTION ledger.event_is_forever();

ALTER TABLE ledger.breaks ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.checkpoint ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER forever;
ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER in_place;
ALTER TABLE ledger.event ENABLE ALWAYS TRIGGER keys;
ALTER TABLE ledger.execution_key ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.executions ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.log_part ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.order_key ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.orders ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.positions ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.projection ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.proof ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.term ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.event_2001_01 ENABLE ALWAYS TRIGGER a_fence;
ALTER TABLE ledger.event_2001_01 ENABLE ALWAYS TRIGGER forever;
ALTER TABLE ledger.event_2001_01 ENABLE ALWAYS TRIGGER in_place;
ALTER TABLE ledger.event_2001_01 ENABLE ALWAYS TRIGGER keys;
