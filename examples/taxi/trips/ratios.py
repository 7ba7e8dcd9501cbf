"""Arithmetic that request functions share."""

import numpy as np


def ratio(a, b):
    """``a / b``, missing where ``b`` is missing or 0."""
    return np.where(b > 0, a / b, np.nan)
