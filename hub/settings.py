"""Settings: one field each, read from `CAREHUB_*`. A test fails until docs/configuration.md names every field."""

import os
import secrets
from functools import lru_cache
from ipaddress import ip_network
from pathlib import Path

from pydantic import Field, SecretStr, field_validator
from pydantic_settings import BaseSettings, SettingsConfigDict

SHORTEST_SECRET = 32  # characters; below that a signature can be guessed


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CAREHUB_", frozen=True)

    database_url: str | None = Field(
        default=None, description="PostgreSQL 15+ to use; without it the embedded one is started."
    )
    data_dir: Path = Field(
        default=Path(".carehub"), description="Where the embedded PostgreSQL and the secret key are kept."
    )
    base_url: str | None = Field(
        default=None, description="Public address without a trailing slash, when behind a proxy."
    )
    trusted_proxies: str | None = Field(
        default=None,
        description="Networks of proxies whose Forwarded headers are believed, comma-separated: 10.0.0.0/8.",
    )
    secret: SecretStr | None = Field(
        default=None, description="Signs paging cursors; made and kept in data_dir when absent."
    )
    demonstration: bool = Field(
        default=False, description="Allow demonstration accounts and show the band that says so."
    )
    session_hours: int = Field(default=12, ge=1, description="How long a sign-in lasts.")
    pool_size: int = Field(
        default=10, ge=2, description="Database connections per process for writing, and as many for reading."
    )
    statement_timeout_ms: int = Field(
        default=15_000, ge=100, description="A statement that runs longer is cancelled (503 too-costly)."
    )
    max_body_bytes: int = Field(
        default=16 * 1024 * 1024, ge=1024, description="Largest request body, after decompression."
    )
    max_page_size: int = Field(default=1000, ge=1, description="Largest _count of a search.")
    subscription_targets: str | None = Field(
        default=None, description="Hosts that notifications may be sent to, comma-separated: ehr.example.org, *.nhs.uk."
    )
    subscription_http: bool = Field(default=False, description="Allow notifications to http:// targets, unencrypted.")
    subscription_networks: str | None = Field(
        default=None, description="Private networks that notifications may go to, comma-separated: 10.1.0.0/16."
    )

    @field_validator("database_url")
    @classmethod
    def _libpq(cls, value: str | None) -> str | None:
        if value is not None and value.startswith("postgres://"):
            value = value.replace("postgres://", "postgresql://", 1)
        if value is not None and not value.startswith("postgresql://"):
            raise ValueError("must begin with postgresql://")
        return value

    @field_validator("subscription_networks", "trusted_proxies")
    @classmethod
    def _networks(cls, value: str | None) -> str | None:
        for one in (value or "").split(","):
            if one.strip():
                ip_network(one.strip())
        return value

    @field_validator("base_url")
    @classmethod
    def _address(cls, value: str | None) -> str | None:
        if value is not None and not value.startswith(("http://", "https://")):
            raise ValueError("must begin with http:// or https://")
        return None if value is None else value.rstrip("/")


@lru_cache
def settings() -> Settings:
    return Settings()


def signing_secret(settings: Settings) -> bytes:
    """The key that signs: the one given, or one made at the first call and kept in `data_dir/secret`, so that a restart
    invalidates nothing. Every process of one installation gets the same."""
    if settings.secret is not None:
        return settings.secret.get_secret_value().encode()
    path = settings.data_dir / "secret"
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"secret.{os.getpid()}")
    unfinished.touch(mode=0o600)
    unfinished.write_text(secrets.token_hex(32))
    try:
        # A link appears whole or not at all, and never over another process's: the first one wins.
        os.link(unfinished, path)
    except FileExistsError:
        pass
    finally:
        unfinished.unlink()
    return path.read_bytes()


def secret_problem(settings: Settings) -> str | None:
    """Why this installation's secret is not fit for real patients; None when it is."""
    if settings.secret is None:
        if settings.database_url is None:
            return None
        return (
            "CAREHUB_SECRET is not set, and processes that share a database must share it: "
            "set it to the output of `openssl rand -hex 32`."
        )
    value = settings.secret.get_secret_value()
    if len(value) < SHORTEST_SECRET or len(set(value)) < 10:
        return (
            f"CAREHUB_SECRET is a placeholder or shorter than {SHORTEST_SECRET} characters: "
            "set it to the output of `openssl rand -hex 32`."
        )
    return None
