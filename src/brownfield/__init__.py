"""Brownfield carries deep-learning models into systems that were never built for them."""

__version__ = "0.1.0"
