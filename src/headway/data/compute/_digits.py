"""Sums of numbers without any rounding, whatever their order.

Every number is written in digits of 32 bits at fixed places: the digit at place p counts multiples of 2**(32 * p).
Running totals of digits are integers, so the sum over a range is a difference of two totals and loses nothing, where
the same difference of floats would. It is also the same for the same values in whatever company they were read, which
is what lets a value be recomputed later to the last bit.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

_MASK = np.uint64(0xFFFFFFFF)
_32 = np.uint64(32)
Digits = np.ndarray  # int64 [queries, places], least place first


@dataclass(frozen=True, slots=True)
class Scaled:
    """Numbers ``sign * mantissa * 2**exponent``; int64, uint64, int64."""

    sign: np.ndarray
    mantissa: np.ndarray
    exponent: np.ndarray

    @classmethod
    def of(cls, numbers: np.ndarray) -> Scaled:
        """Finite numbers exactly; others as zero. Floats come with the least mantissa that will do."""
        if numbers.dtype.kind in "iub":
            wide = numbers if numbers.dtype == np.uint64 else numbers.astype(np.int64)
            sign = np.where(wide < 0, -1, 1)
            return cls(sign, np.abs(wide).view(np.uint64), np.zeros(len(wide), dtype=np.int64))
        finite = np.where(np.isfinite(numbers), numbers, 0.0)
        fraction, exponent = np.frexp(np.abs(finite))
        mantissa = np.ldexp(fraction, 53).astype(np.uint64)
        zeros = np.bitwise_count((mantissa & -mantissa) - np.uint64(1)).astype(np.int64)
        empty = mantissa == 0
        zeros[empty] = 0
        shifted = np.where(empty, 0, exponent.astype(np.int64) - 53 + zeros)
        return cls(np.where(finite < 0, -1, 1), mantissa >> zeros.astype(np.uint64), shifted)

    def low_place(self) -> int:
        """The lowest place any of the numbers has a digit at; 0 if none has."""
        some = self.mantissa != 0
        return int((self.exponent[some] >> 5).min()) if some.any() else 0

    def high_place(self, least: int) -> int:
        """The highest place any of the numbers begins at, but at least ``least``."""
        return int((self.exponent[self.mantissa != 0] >> 5).max(initial=least))


class Totals:
    """Running totals of digits, the lowest of them at ``place``; ``between`` gives the sums over ranges."""

    def __init__(self, parts: list[Scaled], place: int) -> None:
        digits = sum_of_digits(parts, place)
        self.place = place
        self._running = np.zeros((digits.shape[0] + 1, digits.shape[1]), dtype=np.int64)
        np.cumsum(digits, axis=0, out=self._running[1:])

    def between(self, lo: np.ndarray, hi: np.ndarray) -> Digits:
        """The digits of the sum over each ``[lo, hi)``; not carried, so any int64."""
        return self._running.take(hi, axis=0) - self._running.take(lo, axis=0)


def sum_of_digits(parts: list[Scaled], place: int) -> Digits:
    """One row of digits per number: that of ``parts[0][i] + parts[1][i] + …``, the lowest at ``place``."""
    size = len(parts[0].mantissa)
    top = max(part.high_place(place) for part in parts) - place + 3
    digits = np.zeros((size, top), dtype=np.int64)
    for part in parts:
        at = np.where(part.mantissa == 0, 0, (part.exponent >> 5) - place) + np.arange(size) * top
        shift = (part.exponent & 31).astype(np.uint64)
        low = (part.mantissa & _MASK) << shift
        high = ((part.mantissa >> _32) << shift) + (low >> _32)
        for offset, digit in enumerate((low & _MASK, high & _MASK, high >> _32)):
            digits.ravel()[at + offset] += part.sign * digit.astype(np.int64)
    used = np.flatnonzero(digits.any(axis=0))
    return np.ascontiguousarray(digits[:, : used[-1] + 1 if len(used) else 1])


def squares(numbers: Scaled) -> list[Scaled]:
    """Parts whose sum is each number's square."""
    low, high = numbers.mantissa & _MASK, numbers.mantissa >> _32
    plus, exponent = np.ones_like(numbers.sign), numbers.exponent * 2
    return [
        Scaled(plus, low * low, exponent),
        Scaled(plus, low * high, exponent + 33),
        Scaled(plus, high * high, exponent + 64),
    ]


def carried(digits: Digits) -> tuple[np.ndarray, Digits]:
    """Sign (-1 or 1) and the digits of the magnitude, all in ``[0, 2**32)``; two places more than came in."""
    spread = np.zeros((digits.shape[0], digits.shape[1] + 2), dtype=np.int64)
    spread[:, :-2] = digits
    _carry(spread)
    negative = spread[:, -1] < 0
    if negative.any():
        spread[negative] = 0
        spread[negative, :-2] = -digits[negative]
        _carry(spread)
    return np.where(negative, -1, 1), spread


def _carry(digits: Digits) -> None:
    for place in range(digits.shape[1] - 1):
        digits[:, place + 1] += digits[:, place] >> 32
        digits[:, place] &= 0xFFFFFFFF


def to_float(digits: Digits, place: int) -> np.ndarray:
    """The nearest double but for one unit in the last place; integers and single numbers come out exact."""
    sign, magnitude = carried(digits)
    value = np.zeros(len(digits))
    with np.errstate(over="ignore"):
        for column in reversed(range(magnitude.shape[1])):
            value += np.ldexp(magnitude[:, column].astype(np.float64), 32 * (column + place))
    return sign * value


def to_int(digits: Digits) -> tuple[np.ndarray, np.ndarray]:
    """The sum as int64, for digits from place 0 on; and where it does not fit."""
    sign, magnitude = carried(digits)
    size = magnitude[:, :2].astype(np.uint64)
    value = size[:, 0] if magnitude.shape[1] == 1 else size[:, 0] | (size[:, 1] << _32)
    limit = np.where(sign < 0, np.uint64(2**63), np.uint64(2**63 - 1))
    wrong = (value > limit) | magnitude[:, 2:].any(axis=1)
    return value.astype(np.int64) * sign, wrong


def deviation(count: np.ndarray, sums: Digits, place: int, squared: Digits) -> np.ndarray:
    """Sample deviation of ``count`` (> 1) numbers from their sum, and from that of their squares at ``2 * place``.

    ``count * squares - sum**2`` is worked out to the last digit before anything is rounded: equal numbers have
    deviation 0, and a large mean costs no accuracy.
    """
    scatter = _minus(_times(carried(squared)[1], count), _square(carried(sums)[1]))
    top = np.zeros(len(count), dtype=np.int64)
    for column in range(scatter.shape[1]):
        top[scatter[:, column] != 0] = column
    value = np.zeros(len(count))
    for step in range(3):
        at = np.maximum(top - step, 0)[:, None]
        digit = np.where(top >= step, np.take_along_axis(scatter, at, axis=1)[:, 0], 0)
        value += np.ldexp(digit.astype(np.float64), -32 * step)
    n = count.astype(np.float64)
    with np.errstate(over="ignore"):
        return np.ldexp(np.sqrt(value / (n * (n - 1))), 16 * (top + 2 * place))


def _times(digits: Digits, count: np.ndarray) -> Digits:
    product = np.zeros((digits.shape[0], digits.shape[1] + 2), dtype=np.int64)
    product[:, :-2] = digits * count[:, None]
    _carry(product)
    return product


def _square(digits: Digits) -> Digits:
    """The square of carried digits, by half digits: their products are small enough to be added up."""
    halves = np.empty((digits.shape[1] * 2, digits.shape[0]), dtype=np.int64)
    halves[0::2], halves[1::2] = (digits & 0xFFFF).T, (digits >> 16).T
    used = [place for place in range(len(halves)) if halves[place].any()]
    product = np.zeros((len(halves) * 2, digits.shape[0]), dtype=np.int64)
    for left in used:
        product[2 * left] += halves[left] * halves[left]
        for right in used[: used.index(left)]:
            product[left + right] += 2 * halves[left] * halves[right]
    for at in range(len(product) - 1):
        product[at + 1] += product[at] >> 16
        product[at] &= 0xFFFF
    return np.ascontiguousarray((product[0::2] | (product[1::2] << 16)).T)


def _minus(left: Digits, right: Digits) -> Digits:
    """``left - right``, which is not negative, carried."""
    width = max(left.shape[1], right.shape[1])
    result = np.zeros((left.shape[0], width + 1), dtype=np.int64)
    result[:, : left.shape[1]] += left
    result[:, : right.shape[1]] -= right
    _carry(result)
    return result
