-- What has left the replicas' memory is read here: lists in order of their last change, one key, one order's executions, one permId.
CREATE INDEX orders_seq ON ledger.orders (seq);
CREATE INDEX orders_client_order_id ON ledger.orders (client_order_id) WHERE client_order_id IS NOT NULL;
CREATE INDEX orders_perm_id ON ledger.orders (perm_id) WHERE perm_id IS NOT NULL;
CREATE INDEX executions_seq ON ledger.executions (seq);
CREATE INDEX executions_order ON ledger.executions (order_id) WHERE order_id IS NOT NULL;
