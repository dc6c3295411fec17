"""Make a model fit the machine: build candidates, measure them, choose, and say what is missing when none fits.

>>> from brownfield.fit import Rows, Wanted, search
"""

from brownfield.fit.accuracy import Accuracy
from brownfield.fit.candidates import Candidate, Recipe, Session
from brownfield.fit.choose import Choice, Noise, Row, Shortfall, Verdict, Wanted, choose
from brownfield.fit.measure import Timing
from brownfield.fit.rows import Rows
from brownfield.fit.search import Fit, Machine, search

__all__ = [
    "Accuracy",
    "Candidate",
    "Choice",
    "Fit",
    "Machine",
    "Noise",
    "Recipe",
    "Row",
    "Rows",
    "Session",
    "Shortfall",
    "Timing",
    "Verdict",
    "Wanted",
    "choose",
    "search",
]
