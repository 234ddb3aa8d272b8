"""Run by alembic: migrates on the connection that ``backup_scp.index.connection.migrate`` hands over."""

from alembic import context

from backup_scp.index.schema.tables import METADATA

connection = context.config.attributes["connection"]
context.configure(
    connection=connection,
    target_metadata=METADATA,
    render_as_batch=connection.dialect.name == "sqlite",
    transactional_ddl=True,
)
with context.begin_transaction():
    context.run_migrations()
