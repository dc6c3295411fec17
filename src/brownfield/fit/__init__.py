"""Make a model fit the machine: build candidates, measure them, choose, and say what is missing when none fits.

>>> from brownfield.fit import Rows, Wanted, search
"""

from brownfield.fit.accuracy import Accuracy
from brownfield.fit.advice import Advice, Option
from brownfield.fit.candidates import Candidate, Recipe, Session
from brownfield.fit.choose import Choice, Noise, Row, Shortfall, Verdict, Wanted, choose
from brownfield.fit.found import Fit, Machine
from brownfield.fit.measure import CURVE_ROWS, Timing
from brownfield.fit.on import judge_probe, pack_probe
from brownfield.fit.rows import Rows
from brownfield.fit.scaling import Scaling, ThreadPoint
from brownfield.fit.search import search
from brownfield.fit.slices import SliceAccuracy
from brownfield.fit.source import Imported, Source, SourceRefused, export_example, import_model
from brownfield.fit.upgrade import with_advice

__all__ = [
    "CURVE_ROWS",
    "Accuracy",
    "Advice",
    "Candidate",
    "Choice",
    "Fit",
    "Imported",
    "Machine",
    "Noise",
    "Option",
    "Recipe",
    "Row",
    "Rows",
    "Scaling",
    "Session",
    "Shortfall",
    "SliceAccuracy",
    "Source",
    "SourceRefused",
    "ThreadPoint",
    "Timing",
    "Verdict",
    "Wanted",
    "choose",
    "export_example",
    "import_model",
    "judge_probe",
    "pack_probe",
    "search",
    "with_advice",
]
