"""Migrating gives exactly the tables that the code describes, quickly, on any PostgreSQL, and once."""

import threading
import time
from collections.abc import Callable

import psycopg

from hub import migrations
from hub.migrations import snapshot
from hub.tables import metadata

LONGEST_UPGRADE = 10.0  # seconds


def _empty(fresh_url: Callable[[], str]) -> str:
    """A database without a schema."""
    url = fresh_url()
    with psycopg.connect(url, autocommit=True) as connection:
        connection.execute("DROP SCHEMA public CASCADE")
        connection.execute("CREATE SCHEMA public")
    return url


class TestHead:
    def test_what_is_migrated_is_what_the_code_describes(self, fresh_url: Callable[[], str]) -> None:
        # When this fails, a table has changed: `make schema` writes the snapshot anew while nothing is released, and
        # afterwards the change is a revision of its own.
        # In PostgreSQL's own words: Alembic's comparison leaves out collations, conditions, partitions and comments.
        migrated, described = fresh_url(), _empty(fresh_url)
        with psycopg.connect(described, autocommit=True) as connection:
            connection.execute(snapshot.render().encode())
        assert _schema(migrated) == _schema(described)

    def test_every_table_is_there(self, fresh_url: Callable[[], str]) -> None:
        assert {f"table {name}" for name in metadata.tables} <= _schema(fresh_url())

    def test_there_is_one_head(self) -> None:
        assert migrations.head()


class TestUpgrade:
    def test_it_is_quick(self, fresh_url: Callable[[], str]) -> None:
        url = _empty(fresh_url)
        begun = time.perf_counter()
        migrations.upgrade(url)
        assert time.perf_counter() - begun < LONGEST_UPGRADE

    def test_it_says_where_a_database_is(self, fresh_url: Callable[[], str]) -> None:
        url = _empty(fresh_url)
        assert migrations.current(url) is None
        migrations.upgrade(url)
        assert migrations.current(url) == migrations.head()

    def test_processes_that_migrate_at_once_wait_for_one_another(self, fresh_url: Callable[[], str]) -> None:
        url, failures = _empty(fresh_url), list[BaseException]()

        def upgrade() -> None:
            try:
                migrations.upgrade(url)
            except BaseException as error:  # what a thread raises is lost otherwise
                failures.append(error)

        holder = psycopg.connect(url, autocommit=True)
        holder.execute("SELECT pg_advisory_lock(%s)", [migrations.LOCK])
        thread = threading.Thread(target=upgrade)
        thread.start()
        time.sleep(0.5)
        assert migrations.current(url) is None
        holder.close()
        thread.join(60)
        assert failures == []
        assert migrations.current(url) == migrations.head()

    def test_a_failure_leaves_the_database_as_it_was(self, fresh_url: Callable[[], str]) -> None:
        url = _empty(fresh_url)
        with psycopg.connect(url, autocommit=True) as connection:
            connection.execute("CREATE TABLE person (in_the_way integer)")
            try:
                migrations.upgrade(url)
                raised = False
            except psycopg.errors.DuplicateTable:
                raised = True
            assert raised
            rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'").fetchall()
        assert rows == [("person",)]
        assert migrations.current(url) is None

    def test_it_locks_few_enough_objects_for_a_server_with_the_usual_settings(
        self, fresh_url: Callable[[], str]
    ) -> None:
        url = _empty(fresh_url)
        with psycopg.connect(url) as connection:
            connection.execute(snapshot.SNAPSHOT.read_bytes())
            row = connection.execute("SELECT count(*) FROM pg_locks WHERE pid = pg_backend_pid()").fetchone()
            connection.rollback()
        assert row is not None
        # max_locks_per_transaction (64) x max_connections (100), of which others need some too.
        assert row[0] < 64 * 100 / 2


def _schema(url: str) -> set[str]:
    """Every table, column, index, sequence and partition bound of a database, a line each."""
    with psycopg.connect(url) as connection:
        rows = connection.execute(
            """
            WITH relation AS (
                SELECT oid, relname, relkind, relpartbound, relam FROM pg_class
                WHERE relnamespace = 'public'::regnamespace AND relname NOT LIKE 'alembic%'
            )
            SELECT CASE relkind WHEN 'S' THEN 'sequence ' ELSE 'table ' END || relname
            FROM relation WHERE relkind IN ('r', 'p', 'S')
            UNION ALL
            SELECT 'partition ' || relname || ' ' || pg_get_expr(relpartbound, oid)
            FROM relation WHERE relpartbound IS NOT NULL
            UNION ALL
            SELECT concat_ws(' ', 'column', relname, attname, format_type(atttypid, atttypmod),
                             attcollation::regcollation, attidentity, attnotnull, pg_get_expr(adbin, adrelid),
                             col_description(attrelid, attnum))
            FROM relation JOIN pg_attribute ON attrelid = oid AND attnum > 0 AND NOT attisdropped
            LEFT JOIN pg_attrdef ON adrelid = attrelid AND adnum = attnum
            WHERE relkind IN ('r', 'p')
            UNION ALL
            SELECT 'index ' || indexdef FROM pg_indexes WHERE schemaname = 'public' AND tablename NOT LIKE 'alembic%'
            """
        ).fetchall()
    return {line for (line,) in rows}
