"""What Care Hub reaches, each figure beside a ceiling taken in the same run on the same PostgreSQL: `make bench`."""
