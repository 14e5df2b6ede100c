"""Who gets in, as whom, and how soon they are shut out again."""

import asyncio
import statistics
import time
from datetime import UTC, datetime, timedelta

import pytest

from fhir.outcome import Refusal
from hub import accounts, identity
from hub.db import Database
from hub.identity import ENGINE, SESSION_COOKIE, Actor, authenticate, fingerprint
from hub.roles import ROLES

PASSWORD = "a long enough passphrase"
NOW = datetime(2026, 11, 21, 12, tzinfo=UTC)


async def account(database: Database, username: str, role: str = "clinician", **more: object) -> str:
    async with database.transaction() as tx:
        return await accounts.create_account(
            tx, username, PASSWORD, "Ann Example", role, more.pop("reference", f"Practitioner/{username}"),
            ("Organization/hub-1",), "hub-1", **more,
        )  # fmt: skip  # type: ignore[arg-type]


async def sign_in(database: Database, username: str, password: str = PASSWORD, **more: object) -> accounts.SignedIn:
    return await accounts.sign_in(database, username, password, **{"hours": 12, "demonstration": False, **more})  # type: ignore[arg-type]


async def by_cookie(database: Database, secret: str) -> Actor:
    return await authenticate({}, {SESSION_COOKIE: secret}, database)


async def by_bearer(database: Database, secret: str) -> Actor:
    return await authenticate({"authorization": f"Bearer {secret}"}, {}, database)


async def device(database: Database, ident: str) -> None:
    async with database.transaction() as tx:
        await tx.pg.execute(
            "INSERT INTO device (id, name, status, sandbox) VALUES (%s, 'Scales', 'active', false)"
            " ON CONFLICT DO NOTHING", (ident,),
        )  # fmt: skip


async def refused(database: Database, headers: dict[str, str], cookies: dict[str, str] | None = None) -> Refusal:
    with pytest.raises(Refusal) as caught:
        await authenticate(headers, cookies or {}, database)
    assert caught.value.status == 401
    assert "Bearer" in caught.value.headers["WWW-Authenticate"]
    return caught.value


class TestNobody:
    @pytest.mark.parametrize(
        "authorization",
        ["", "Bearer", "Bearer ", "Bearer x", "Basic YTpi", "Bearer cht_", "Bearer chd_" + "a" * 43, "Bearer \udcff"],
    )
    async def test_a_credential_that_is_none_is_401_with_a_challenge(
        self, database: Database, authorization: str
    ) -> None:
        refusal = await refused(database, {"authorization": authorization})
        assert refusal.issues[0].code == "login"

    async def test_no_credential_at_all(self, database: Database) -> None:
        await refused(database, {})

    async def test_a_guessed_cookie(self, database: Database) -> None:
        await refused(database, {}, {SESSION_COOKIE: "guess"})

    async def test_a_bad_bearer_token_is_not_saved_by_a_good_cookie(self, database: Database) -> None:
        await account(database, "both")
        signed = await sign_in(database, "both")
        await refused(database, {"authorization": "Bearer wrong"}, {SESSION_COOKIE: signed.secret})


class TestSessions:
    async def test_a_session_is_the_account(self, database: Database) -> None:
        await account(database, "ann")
        signed = await sign_in(database, "  ANN ")
        actor = await by_cookie(database, signed.secret)
        assert actor == signed.actor
        assert (actor.kind, actor.role, actor.reference, actor.hub_id) == (
            "user", "clinician", "Practitioner/ann", "hub-1",
        )  # fmt: skip
        assert actor.subjects == ("Practitioner/ann", "Organization/hub-1")
        assert actor.csrf

    async def test_the_secret_is_not_in_the_database(self, database: Database) -> None:
        await account(database, "hashed")
        signed = await sign_in(database, "hashed")
        async with database.transaction() as tx:
            rows = await (await tx.pg.execute("SELECT session::text, account::text FROM session, account")).fetchall()
        assert not any(signed.secret in text or PASSWORD in text for row in rows for text in row)

    async def test_session_fixation_the_planted_session_is_ended_at_sign_in(self, database: Database) -> None:
        await account(database, "mallory")
        await account(database, "victim")
        planted = await sign_in(database, "mallory")
        signed = await sign_in(database, "victim", previous=planted.secret)
        assert signed.secret != planted.secret
        await refused(database, {}, {SESSION_COOKIE: planted.secret})
        assert (await by_cookie(database, signed.secret)).reference == "Practitioner/victim"

    async def test_every_sign_in_has_its_own_secret_and_csrf_token(self, database: Database) -> None:
        await account(database, "twice")
        one, two = await sign_in(database, "twice"), await sign_in(database, "twice")
        assert one.secret != two.secret
        assert one.actor.csrf != two.actor.csrf

    async def test_sign_out_ends_this_session_at_once_and_no_other(self, database: Database) -> None:
        await account(database, "leaves")
        one, two = await sign_in(database, "leaves"), await sign_in(database, "leaves")
        await by_cookie(database, one.secret)
        await accounts.sign_out(database, one.actor, one.secret)
        await refused(database, {}, {SESSION_COOKIE: one.secret})
        assert await by_cookie(database, two.secret) == two.actor

    async def test_an_expired_session_is_refused(self, database: Database) -> None:
        await account(database, "old")
        signed = await sign_in(database, "old", now=datetime.now(UTC) - timedelta(hours=13))
        await refused(database, {}, {SESSION_COOKIE: signed.secret})

    async def test_closing_the_account_ends_sessions_and_tokens(self, database: Database) -> None:
        await account(database, "gone")
        signed = await sign_in(database, "gone")
        async with database.transaction() as tx:
            token = await accounts.issue_token(tx, "gone", "script")
            await accounts.close_account(tx, "gone")
        await refused(database, {}, {SESSION_COOKIE: signed.secret})
        await refused(database, {"authorization": f"Bearer {token}"})
        with pytest.raises(Refusal):
            await sign_in(database, "gone")

    def test_the_cookie_is_out_of_reach_of_scripts_and_other_sites(self) -> None:
        cookie = accounts.cookie("secret", 12, secure=True)
        assert (cookie["httponly"], cookie["samesite"], cookie["secure"], cookie["path"]) == (True, "lax", True, "/")

    async def test_a_person_is_never_given_the_sight_of_an_organisation(self, database: Database) -> None:
        await account(database, "pat", "patient", reference="Patient/pat")
        actor = (await sign_in(database, "pat")).actor
        assert (actor.kind, actor.subjects) == ("patient", ("Patient/pat",))


class TestPasswords:
    async def test_wrong_password_unknown_user_and_closed_account_read_the_same(self, database: Database) -> None:
        await account(database, "real")
        texts = set()
        for username, password in (("real", "wrong"), ("nobody", "wrong"), ("real", ""), ("real", "x" * 5000)):
            with pytest.raises(Refusal) as caught:
                await sign_in(database, username, password)
            assert caught.value.status == 401
            texts.add(caught.value.issues)
        assert len(texts) == 1

    async def test_an_unknown_user_costs_the_same_work(self, database: Database) -> None:
        await account(database, "timed")
        times: dict[str, list[float]] = {"timed": [], "unknown": []}
        for _ in range(4):
            for username, spent in times.items():
                start = time.perf_counter()
                with pytest.raises(Refusal):
                    await sign_in(database, username, "wrong")
                spent.append(time.perf_counter() - start)
        ratio = statistics.median(times["unknown"]) / statistics.median(times["timed"])
        assert 0.3 < ratio < 3

    async def test_guessing_locks_the_account_even_for_the_right_password_and_only_for_a_while(
        self, database: Database
    ) -> None:
        await account(database, "guessed")
        for _ in range(accounts.FAILURES_ALLOWED):
            with pytest.raises(Refusal):
                await sign_in(database, "guessed", "wrong", now=NOW)
        with pytest.raises(Refusal):
            await sign_in(database, "guessed", now=NOW + timedelta(minutes=14))
        assert await sign_in(database, "guessed", now=NOW + timedelta(minutes=16))

    async def test_guesses_at_the_same_time_are_all_counted(self, database: Database) -> None:
        await account(database, "flood")
        guesses = [sign_in(database, "flood", f"wrong {n}") for n in range(accounts.FAILURES_ALLOWED + 5)]
        results = await asyncio.gather(*guesses, return_exceptions=True)
        assert all(isinstance(result, Refusal) for result in results)
        with pytest.raises(Refusal):
            await sign_in(database, "flood")

    async def test_a_right_password_forgives_earlier_slips(self, database: Database) -> None:
        await account(database, "slips")
        for _ in range(3):
            for _ in range(accounts.FAILURES_ALLOWED - 1):
                with pytest.raises(Refusal):
                    await sign_in(database, "slips", "wrong")
            assert await sign_in(database, "slips")

    async def test_sign_ins_and_refusals_are_in_the_trail_without_what_was_typed(self, database: Database) -> None:
        await account(database, "trailed")
        await sign_in(database, "trailed")
        with pytest.raises(Refusal):
            await sign_in(database, "my secret typed as a username", "wrong")
        async with database.transaction() as tx:
            rows = await (
                await tx.pg.execute("SELECT actor, outcome, audit::text FROM audit WHERE action = 'sign-in'")
            ).fetchall()
        assert ("Practitioner/trailed", "ok") in {row[:2] for row in rows}
        assert ("unknown", "refused") in {row[:2] for row in rows}
        assert not any("typed as" in row[2] for row in rows)

    async def test_demonstration_accounts_sign_in_only_where_demonstration_is_allowed(self, database: Database) -> None:
        async with database.transaction() as tx:
            await accounts.create_account(tx, "demo", "demo", "D", "clinician", "Practitioner/d", demonstration=True)
        with pytest.raises(Refusal):
            await sign_in(database, "demo", "demo")
        assert await sign_in(database, "demo", "demo", demonstration=True)

    @pytest.mark.parametrize("role", ["device", "engine", "importer", "root", ""])
    async def test_no_account_acts_as_the_hub_itself(self, database: Database, role: str) -> None:
        with pytest.raises(Refusal) as caught:
            await account(database, "system", role)
        assert caught.value.status == 422

    async def test_short_passwords_and_taken_names_are_refused(self, database: Database) -> None:
        async with database.transaction() as tx:
            with pytest.raises(Refusal) as caught:
                await accounts.create_account(tx, "s", "short", "S", "clinician", "Practitioner/s")
        assert caught.value.status == 422
        await account(database, "taken")
        with pytest.raises(Refusal) as caught:
            await account(database, "TAKEN")
        assert caught.value.status == 409


class TestTokensAndKeys:
    async def test_a_token_acts_as_its_account_without_a_session(self, database: Database) -> None:
        await account(database, "script", "ehr-system")
        async with database.transaction() as tx:
            token = await accounts.issue_token(tx, "script", "nightly")
        actor = await by_bearer(database, token)
        assert (actor.kind, actor.role, actor.csrf) == ("system", "ehr-system", None)

    async def test_a_device_key_is_the_device_and_nothing_else(self, database: Database) -> None:
        await device(database, "d1")
        async with database.transaction() as tx:
            key = await accounts.issue_device_key(tx, "d1")
        actor = await by_bearer(database, key)
        assert actor == Actor("device", "d1", "Scales", "device", "Device/d1", ("Device/d1",))

    async def test_revoked_key_is_refused_within_two_seconds(self, database: Database) -> None:
        await device(database, "d2")
        async with database.transaction() as tx:
            key = await accounts.issue_device_key(tx, "d2")
        await by_bearer(database, key)
        async with database.transaction() as tx:
            assert await accounts.revoke_device_keys(tx, "d2") == 1
        assert identity.REMEMBERED <= 2
        await asyncio.sleep(identity.REMEMBERED + 0.05)
        await refused(database, {"authorization": f"Bearer {key}"})

    async def test_rotation_ends_the_old_key_and_overlap_keeps_it(self, database: Database) -> None:
        await device(database, "d3")
        async with database.transaction() as tx:
            old = await accounts.issue_device_key(tx, "d3")
            beside = await accounts.issue_device_key(tx, "d3", "spare")
        assert (await by_bearer(database, beside)).id == "d3"
        async with database.transaction() as tx:
            new = await accounts.rotate_device_key(tx, "d3")
        await refused(database, {"authorization": f"Bearer {old}"})
        assert (await by_bearer(database, new)).id == "d3"

    async def test_expired_token_is_refused(self, database: Database) -> None:
        await account(database, "expiring")
        async with database.transaction() as tx:
            token = await accounts.issue_token(tx, "expiring", "x", timedelta(seconds=-1))
        await refused(database, {"authorization": f"Bearer {token}"})

    async def test_a_key_cannot_be_guessed_from_what_the_database_or_the_lists_hold(self, database: Database) -> None:
        await device(database, "d4")
        async with database.transaction() as tx:
            key = await accounts.issue_device_key(tx, "d4", "kitchen")
            kept = await tx.pg.execute("SELECT credential::text FROM credential WHERE device_id = 'd4'")
            row = await kept.fetchone()
            (listed,) = await accounts.list_credentials(tx.pg, "d4")
        assert row is not None
        assert key not in row[0]
        assert key.removeprefix(identity.DEVICE_PREFIX) not in row[0]
        assert (listed.owner, listed.label, listed.revoked) == ("Device/d4", "kitchen", None)
        assert listed.id == fingerprint(key).hex()[:12]

    async def test_keys_have_256_random_bits(self) -> None:
        secrets = {identity.new_secret("chd_") for _ in range(100)}
        assert len(secrets) == 100
        assert all(len(secret) == 4 + 43 for secret in secrets)

    async def test_the_session_secret_is_no_bearer_token_and_a_token_no_cookie(self, database: Database) -> None:
        await account(database, "mixed")
        signed = await sign_in(database, "mixed")
        async with database.transaction() as tx:
            token = await accounts.issue_token(tx, "mixed", "x")
        await refused(database, {"authorization": f"Bearer {signed.secret}"})
        await refused(database, {}, {SESSION_COOKIE: token})

    async def test_revoking_one_credential_by_the_id_that_lists_show(self, database: Database) -> None:
        await account(database, "lists")
        async with database.transaction() as tx:
            token = await accounts.issue_token(tx, "lists", "x")
            assert await accounts.revoke(tx, fingerprint(token).hex()[:12]) == 1
            assert await accounts.revoke(tx, "%") == 0
            assert await accounts.revoke(tx, "") == 0
        await refused(database, {"authorization": f"Bearer {token}"})

    async def test_unknown_devices_and_accounts_get_no_keys(self, database: Database) -> None:
        async with database.transaction() as tx:
            with pytest.raises(Refusal):
                await accounts.issue_device_key(tx, "nowhere")
            with pytest.raises(Refusal):
                await accounts.issue_token(tx, "nobody", "x")

    async def test_many_requests_at_once_share_look_ups(self, database: Database) -> None:
        await device(database, "busy")
        async with database.transaction() as tx:
            key = await accounts.issue_device_key(tx, "busy")
        actors = await asyncio.gather(*(by_bearer(database, key) for _ in range(300)))
        assert {actor.id for actor in actors} == {"busy"}


class TestPermissions:
    def test_the_role_decides(self) -> None:
        assert ENGINE.can("flag.resolve")
        assert not ENGINE.can("export")

    def test_an_unknown_role_can_nothing(self) -> None:
        actor = Actor("user", "1", "X", "invented", "Practitioner/x", ("Practitioner/x",))
        assert not actor.can("flag.acknowledge")

    def test_a_permission_that_does_not_exist_is_an_error_not_a_no(self) -> None:
        with pytest.raises(KeyError):
            ENGINE.can("flag.acknowlege")

    def test_kinds_follow_roles(self) -> None:
        kinds = {role: identity.account_actor("1", "n", role, "X/1", [], None).kind for role in ROLES}
        assert {role for role, kind in kinds.items() if kind == "patient"} == {"patient", "carer"}
        assert kinds["ehr-system"] == "system"
        assert kinds["clinician"] == "user"
