"""Settings: one field each, read from `CAREHUB_*`. A test fails until docs/configuration.md names every field."""

from functools import lru_cache
from pathlib import Path

from pydantic import Field, SecretStr
from pydantic_settings import BaseSettings, SettingsConfigDict


class Settings(BaseSettings):
    model_config = SettingsConfigDict(env_prefix="CAREHUB_", frozen=True)

    database_url: str | None = Field(None, description="PostgreSQL 15+ to use; without it the embedded one is started.")
    data_dir: Path = Field(Path(".carehub"), description="Where the embedded PostgreSQL and the secret key are kept.")
    base_url: str | None = Field(None, description="Public address without a trailing slash, when behind a proxy.")
    secret: SecretStr | None = Field(None, description="Signs paging cursors; made and kept in data_dir when absent.")
    demonstration: bool = Field(False, description="Allow demonstration accounts and show the band that says so.")
    session_hours: int = Field(12, description="How long a sign-in lasts.")
    pool_size: int = Field(10, description="Database connections per process.")
    statement_timeout_ms: int = Field(15_000, description="A statement that runs longer is cancelled (503 too-costly).")
    max_body_bytes: int = Field(16 * 1024 * 1024, description="Largest request body, after decompression.")
    max_page_size: int = Field(1000, description="Largest _count of a search.")


@lru_cache
def settings() -> Settings:
    return Settings()
