"""Synthetic people of an invented county, for demonstrations, tests and benchmarks; about nobody real."""
