"""Why rows of a table cannot be used: each keeps the first reason that is found."""

from __future__ import annotations

import pandas as pd


def mark(problems: pd.Series, wrong: pd.Series, reason: str) -> None:
    """Write a reason into ``problems`` for the rows that are ``wrong`` and have none yet."""
    problems[wrong & (problems == "")] = reason
