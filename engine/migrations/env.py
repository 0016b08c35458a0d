"""Alembic's entry: runs the steps on the connection that `engine.migrate` opened, in one transaction (R22)."""

from alembic import context

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    version_table="schema_version",
    version_table_schema="ledger",
    transaction_per_migration=False,
)
with context.begin_transaction():
    context.run_migrations()
