-- R14: a gateway that has changed is an operator's matter too; what is not confirmed yet stands beside the wishes.
ALTER TABLE ledger.control DROP CONSTRAINT control_key_check;
ALTER TABLE ledger.control ADD CONSTRAINT control_key_check CHECK (key IN ('paused', 'halted', 'new_gateway'));
