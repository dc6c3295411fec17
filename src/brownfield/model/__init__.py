"""Bundles of models, and the processes in which they run."""
