"""Fixtures for the whole suite, and the rule that in CI a skip is a failure."""

import os

import pytest
from hypothesis import settings

os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before any test imports onnxruntime, which reports home otherwise

settings.register_profile("house", deadline=None)  # the machines are noisy: a slow example is no failure
settings.load_profile("house")


@pytest.hookimpl(hookwrapper=True)
def pytest_runtest_makereport(item: pytest.Item, call: pytest.CallInfo[None]):
    """In CI every tool is installed, so a test that skips has not proved anything: it fails."""
    outcome = yield
    report = outcome.get_result()
    if report.skipped and not hasattr(report, "wasxfail") and os.environ.get("CI") == "true":
        report.outcome = "failed"
        report.longrepr = f"skipped in CI: {report.longrepr}"
