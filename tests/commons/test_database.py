"""Schema and transactions, on SQLite and on Postgres."""

from alembic.config import Config
from sqlalchemy import inspect

from alembic import command
from budsim.commons.database import ALEMBIC_INI, Database
from budsim.simulator.storage.tables import Base

TABLES = {"deliveries", "events", "findings", "runs", "plans", "node_groups"}


def test_migrations_go_up_and_down(database_url: str):
    """Up makes every table, down removes them all, up again works."""
    database = Database(database_url)
    config = Config(str(ALEMBIC_INI))
    config.attributes["engine"] = database.engine
    command.upgrade(config, "head")
    assert set(inspect(database.engine).get_table_names()) == TABLES | {"alembic_version"}
    command.downgrade(config, "base")
    assert set(inspect(database.engine).get_table_names()) == {"alembic_version"}
    command.upgrade(config, "head")
    database.check()
    database.close()


def test_migrated_schema_is_what_the_tables_say(database_url: str):
    """Nothing is left for a new revision to change."""
    database = Database(database_url)
    database.migrate()
    config = Config(str(ALEMBIC_INI))
    config.attributes["engine"] = database.engine
    command.check(config)
    database.close()


def test_every_constraint_has_a_conventional_name():
    """Migrations can name what they change on every database."""
    names = [
        constraint.name
        for table in Base.metadata.tables.values()
        for constraint in table.constraints
    ]
    assert all(str(name).split("_")[0] in {"pk", "fk", "uq", "ck"} for name in names)
