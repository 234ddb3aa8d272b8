"""Run by alembic: migrates the tables of users on the connection that ``backup_scp.accounts.connection`` hands over."""

from alembic import context

from backup_scp.accounts.accounts_tables import METADATA, VERSION_TABLE

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    version_table=VERSION_TABLE,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
