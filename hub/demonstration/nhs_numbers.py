"""NHS numbers of the range that the NHS keeps for tests: 999 000 0000 to 999 999 9999.

Check digit: weights 10 to 2 over the first nine digits, modulus 11 (NHS Data Dictionary).
"""

from collections.abc import Iterator

FIRST = 999_000_000
SIZE = 1_000_000
# Prime to SIZE, so that the walk meets every nine-digit stem once and neighbours look unalike.
STRIDE = 611_953


def check_digit(stem: int) -> int | None:
    """The tenth digit for nine, or None when the sum gives 10 and the stem makes no number."""
    total = 0
    for weight in range(2, 11):
        stem, digit = divmod(stem, 10)
        total += weight * digit
    check = 11 - total % 11
    return None if check == 10 else check % 11


def numbers(start: int = 0) -> Iterator[str]:
    """Every valid test number once, in a fixed walk that *start* shifts; about 909,000 of them."""
    for step in range(SIZE):
        stem = FIRST + (start + step * STRIDE) % SIZE
        check = check_digit(stem)
        # Ten equal digits pass the sum and are refused everywhere.
        if check is not None and not (stem == 999_999_999 and check == 9):
            yield f"{stem}{check}"
