"""Units of measurement that convert into each other by one factor and one offset: exact by definition, no guesses.

Money is no unit here: a rate of exchange is a value of a day. What is not listed converts only as declared.
"""

from collections.abc import Mapping
from fractions import Fraction

__all__ = ["UNITS", "linear"]

_TEMPERATURE = {"K": (Fraction(1), Fraction(0)), "degC": (Fraction(1), Fraction("273.15"))}
_TEMPERATURE["degF"] = (Fraction(5, 9), Fraction("459.67") * Fraction(5, 9))

_SCALES: Mapping[str, Mapping[str, str]] = {
    "length": {
        "m": "1", "mm": "0.001", "cm": "0.01", "dm": "0.1", "km": "1000", "in": "0.0254", "ft": "0.3048",
        "yd": "0.9144", "mi": "1609.344", "nmi": "1852",
    },
    "mass": {
        "kg": "1", "mg": "0.000001", "g": "0.001", "t": "1000", "lb": "0.45359237", "oz": "0.028349523125",
        "short_ton": "907.18474", "long_ton": "1016.0469088",
    },
    "volume": {
        "l": "1", "ml": "0.001", "cl": "0.01", "hl": "100", "m3": "1000", "us_gal": "3.785411784",
        "us_fl_oz": "0.0295735295625", "imp_gal": "4.54609", "bbl": "158.987294928",
    },
    "area": {"m2": "1", "cm2": "0.0001", "ha": "10000", "km2": "1000000", "ft2": "0.09290304", "acre": "4046.8564224"},
    "time": {"s": "1", "ms": "0.001", "us": "0.000001", "min": "60", "h": "3600", "d": "86400", "wk": "604800"},
    "speed": {"m/s": "1", "km/h": "5/18", "mph": "0.44704", "kn": "463/900"},
    "pressure": {"Pa": "1", "hPa": "100", "kPa": "1000", "mbar": "100", "bar": "100000"},
    "energy": {"J": "1", "kJ": "1000", "MJ": "1000000", "Wh": "3600", "kWh": "3600000", "cal": "4.184", "kcal": "4184"},
    "power": {"W": "1", "kW": "1000", "MW": "1000000"},
    "ratio": {"1": "1", "percent": "0.01", "permille": "0.001", "ppm": "0.000001"},
    "count": {"piece": "1", "dozen": "12", "gross": "144", "thousand": "1000"},
    "data": {"byte": "1", "kB": "1000", "MB": "1000000", "KiB": "1024", "MiB": "1048576", "GiB": "1073741824"},
}  # fmt: skip

UNITS: Mapping[str, tuple[str, Fraction, Fraction]] = {
    **{name: (kind, Fraction(factor), Fraction(0)) for kind, each in _SCALES.items() for name, factor in each.items()},
    **{name: ("temperature", *parts) for name, parts in _TEMPERATURE.items()},
}
"""Kind of quantity of each unit, with factor and offset to the first unit of its kind."""


def linear(source: str, target: str) -> tuple[float, float] | None:
    """Factor and offset that turn a value in one unit into a value in another.

    Parameters
    ----------
    source, target
        Names of :data:`UNITS`.

    Returns
    -------
    tuple or None
        ``(factor, offset)`` with ``target value = factor * source value + offset``; None when the two do not convert
        or one is not listed.

    Examples
    --------
    >>> linear("lb", "kg"), linear("degF", "degC"), linear("kg", "m")
    ((0.45359237, 0.0), (0.5555555555555556, -17.77777777777778), None)
    """
    if source not in UNITS or target not in UNITS:
        return None
    kind, factor, offset = UNITS[source]
    wanted, by, minus = UNITS[target]
    return (float(factor / by), float((offset - minus) / by)) if kind == wanted else None
