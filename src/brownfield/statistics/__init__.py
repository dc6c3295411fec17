"""Statistics on plain numpy: intervals that assume nothing of how the numbers are distributed. Pure."""

from brownfield.statistics.intervals import Interval, bootstrap_mean, proportion_interval, quantile_interval

__all__ = ["Interval", "bootstrap_mean", "proportion_interval", "quantile_interval"]
