-- The log in months: `ledger.event` partitioned by seq, so that PRIMARY KEY (seq) stays one for the whole log (R20, R21), and a
-- month that is over can be moved out whole. The boundary of a month is an event's number: the first one after it was closed. A
-- month of many events has several parts: closing one reads it once while writers wait, and that time is bounded by its size.
-- Both versions run on this: what a replica calls has the same names and answers as before (R22).

CREATE TABLE ledger.log_part (
    part        text PRIMARY KEY,
    month       date NOT NULL CHECK (extract(day FROM month) = 1),
    from_seq    bigint NOT NULL UNIQUE,
    last_seq    bigint,
    closed_at   timestamptz,
    archived_at timestamptz,
    sha256      text,
    digest      text
);
CREATE UNIQUE INDEX one_open_part ON ledger.log_part ((true)) WHERE last_seq IS NULL;

-- The book as it stood at an event, so that a replica need not fold the log from its beginning. Written by the owner alone.
CREATE TABLE ledger.checkpoint (
    seq            bigint NOT NULL CHECK (seq > 0),
    form           text NOT NULL,
    digest_version integer NOT NULL,
    digest         text NOT NULL,
    state          bytea NOT NULL,
    at             timestamptz NOT NULL DEFAULT clock_timestamp(),
    PRIMARY KEY (seq, form)
);

-- R37: a key is for ever, and so is what a retry is compared with, when the order's first event has been archived.
ALTER TABLE ledger.order_key ADD COLUMN body_md5 text;
CREATE OR REPLACE FUNCTION ledger.take_keys() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
BEGIN
    IF NEW.event_type = 'execution' THEN
        INSERT INTO ledger.execution_key VALUES (NEW.payload ->> 'account', NEW.payload ->> 'root', (NEW.payload ->> 'revision')::integer);
    ELSE
        INSERT INTO ledger.order_key (order_id, user_id, client_order_id, body_md5)
        VALUES (NEW.order_id, NEW.user_id, NEW.payload ->> 'client_order_id', md5(nullif(NEW.payload -> 'body', 'null')::text));
    END IF;
    RETURN NULL;
END $$;

-- A part's own guards: statement triggers do not pass from the log to its parts, and a direct insert is a write too (R10). The
-- row triggers are copies of the log's; a copy fires ALWAYS only when it is told to. `event_id` is unique within a part.
CREATE FUNCTION ledger.guard_part(p_part text) RETURNS void LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
BEGIN
    EXECUTE format('CREATE TRIGGER a_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ledger.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence()', p_part);
    EXECUTE format('CREATE TRIGGER forever BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.%I '
                   'FOR EACH STATEMENT EXECUTE FUNCTION ledger.event_is_forever()', p_part);
    EXECUTE format('ALTER TABLE ledger.%I ADD UNIQUE (event_id)', p_part);
    PERFORM ledger.always(p_part);
END $$;
CREATE FUNCTION ledger.always(p_part text) RETURNS void LANGUAGE plpgsql SET search_path = ledger, pg_temp AS $$
DECLARE
    guard text;
BEGIN
    FOREACH guard IN ARRAY ARRAY['a_fence', 'forever', 'in_place', 'keys'] LOOP
        EXECUTE format('ALTER TABLE ledger.%I ENABLE ALWAYS TRIGGER %I', p_part, guard);
    END LOOP;
END $$;

-- R21. Only the event before is looked for: one lookup in one part, however many there are.
CREATE OR REPLACE FUNCTION ledger.event_in_place() RETURNS trigger
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
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
END $$;

-- The rows there are become the first part, where they lie: nothing is copied. The log is locked until the commit, so nobody
-- meets it without its triggers.
DO $$
DECLARE
    this_month date := date_trunc('month', clock_timestamp() AT TIME ZONE 'UTC')::date;
    part       text := to_char(this_month, '"event_"YYYY_MM');
    guarded    text;
    one        record;
BEGIN
    LOCK TABLE ledger.event IN ACCESS EXCLUSIVE MODE;
    DROP TRIGGER in_place ON ledger.event;
    DROP TRIGGER forever ON ledger.event;
    DROP TRIGGER keys ON ledger.event;
    DROP TRIGGER a_fence ON ledger.event;
    EXECUTE format('ALTER TABLE ledger.event RENAME TO %I', part);
    FOR one IN SELECT conname FROM pg_constraint WHERE conrelid = ('ledger.' || part)::regclass AND contype = 'u' LOOP
        EXECUTE format('ALTER TABLE ledger.%I DROP CONSTRAINT %I', part, one.conname);  -- the guards make it anew
    END LOOP;
    FOR one IN SELECT c.relname FROM pg_index i JOIN pg_class c ON c.oid = i.indexrelid WHERE i.indrelid = ('ledger.' || part)::regclass LOOP
        EXECUTE format('ALTER INDEX ledger.%I RENAME TO %I', one.relname, part || substr(one.relname, 6));
    END LOOP;
    CREATE TABLE ledger.event (
        seq            bigint PRIMARY KEY CONSTRAINT event_seq_check CHECK (seq > 0),
        epoch          bigint NOT NULL,
        event_id       uuid NOT NULL,
        event_type     text NOT NULL,
        correlation_id text,
        order_id       text,
        user_id        text,
        "timestamp"    timestamptz NOT NULL,
        payload        jsonb NOT NULL,
        created_at     timestamptz NOT NULL DEFAULT clock_timestamp()
    ) PARTITION BY RANGE (seq);
    CREATE INDEX event_correlation ON ledger.event (correlation_id) WHERE correlation_id IS NOT NULL;
    CREATE INDEX event_order ON ledger.event (order_id) WHERE order_id IS NOT NULL;
    CREATE INDEX event_type ON ledger.event (event_type, seq);
    CREATE INDEX event_time ON ledger.event ("timestamp");
    CREATE TRIGGER in_place BEFORE INSERT ON ledger.event FOR EACH ROW EXECUTE FUNCTION ledger.event_in_place();
    CREATE TRIGGER forever BEFORE UPDATE OR DELETE OR TRUNCATE ON ledger.event
        FOR EACH STATEMENT EXECUTE FUNCTION ledger.event_is_forever();
    CREATE TRIGGER keys AFTER INSERT ON ledger.event FOR EACH ROW
        WHEN (NEW.event_type IN ('order_accepted', 'order_external', 'order_restored', 'execution'))
        EXECUTE FUNCTION ledger.take_keys();
    FOREACH guarded IN ARRAY ARRAY['event', 'log_part', 'checkpoint'] LOOP
        EXECUTE format('CREATE TRIGGER a_fence BEFORE INSERT OR UPDATE OR DELETE OR TRUNCATE ON ledger.%I '
                       'FOR EACH STATEMENT EXECUTE FUNCTION ledger.fence()', guarded);
        EXECUTE format('ALTER TABLE ledger.%I ENABLE ALWAYS TRIGGER a_fence', guarded);
    END LOOP;
    EXECUTE format('ALTER TABLE ledger.event ATTACH PARTITION ledger.%I FOR VALUES FROM (MINVALUE) TO (MAXVALUE)', part);
    PERFORM ledger.guard_part(part);
    PERFORM ledger.always('event');
    PERFORM set_config('adapter.epoch', epoch::text, true) FROM ledger.epoch;
    INSERT INTO ledger.log_part (part, month, from_seq) VALUES (part, this_month, 1);
END $$;

-- Close the open part when `p_month` has begun after its own, or when it has `p_most` events, in one short transaction of the
-- owner's, fenced like every write. Answers the name of the part that was closed, or NULL when there was nothing to close. It waits
-- at most 100 ms for writers and readers of the log, and then fails with 55P03: they go first, the caller tries again.
CREATE FUNCTION ledger.close_part(p_epoch bigint, p_month date, p_most bigint) RETURNS text
    LANGUAGE plpgsql SECURITY DEFINER SET search_path = ledger, pg_temp AS $$
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
END $$;
REVOKE ALL ON FUNCTION ledger.close_part(bigint, date, bigint), ledger.guard_part(text), ledger.always(text) FROM PUBLIC;
