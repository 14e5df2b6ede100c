"""The transaction is the only place that commits."""

from sqlalchemy import text

from hub.db import Database, Tx


async def test_both_faces_share_one_transaction(tx: Tx) -> None:
    await tx.sql.execute(text("CREATE TEMPORARY TABLE seen (n integer) ON COMMIT DROP"))
    await tx.sql.execute(text("INSERT INTO seen VALUES (7)"))
    row = await (await tx.pg.execute("SELECT n FROM seen")).fetchone()
    assert row == (7,)


async def test_a_block_that_raises_leaves_nothing(database: Database) -> None:
    class Stop(Exception):
        pass

    try:
        async with database.transaction() as tx:
            await tx.pg.execute("INSERT INTO access VALUES ('Practitioner/a', 'p', 'CareTeam/c', 'team', NULL)")
            raise Stop
    except Stop:
        pass
    async with database.transaction() as tx:
        row = await (await tx.pg.execute("SELECT count(*) FROM access")).fetchone()
    assert row == (0,)


async def test_a_block_that_ends_is_there_for_others(database: Database) -> None:
    async with database.transaction() as tx:
        await tx.pg.execute("INSERT INTO access VALUES ('Practitioner/b', 'p', 'CareTeam/c', 'team', NULL)")
    async with database.transaction() as tx:
        row = await (await tx.pg.execute("SELECT count(*) FROM access WHERE subject = 'Practitioner/b'")).fetchone()
    assert row == (1,)
