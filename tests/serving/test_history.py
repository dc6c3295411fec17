"""What is entered of a start or a reload: who answers, and nobody else."""

from types import SimpleNamespace

import pytest

from brownfield.integration import load_workspace
from brownfield.serving.history import enter_history
from brownfield.serving.loading import Loaded

PROBE = SimpleNamespace(load_s=1.0, answer_s=0.1, peak_mib=20.0, largest_difference=0.0)


@pytest.mark.parametrize(("probe", "entered"), [(PROBE, "d"), (None, "")], ids=["admitted", "F-27 refused"])
def test_f27_a_bundle_that_its_probe_refused_is_not_entered_as_what_answers(risk, tmp_path, probe, entered):
    """F-27: the audit log names no bundle where the fallback answers alone."""
    risk.declare(tmp_path)
    found = []
    clerk = SimpleNamespace(enter=lambda *told: found.append(told))
    bundle = SimpleNamespace(digest="d", name="risk", version="2")
    loaded = Loaded("risk", bundle=bundle, probe=probe, reason="" if probe else "it differs from its record")
    enter_history(clerk, "workspace.served", load_workspace(tmp_path), {"risk": loaded})
    ((_, _, (one,)),) = found
    assert (one.digest, one.version, one.probe is not None) == (entered, "2" if entered else "", bool(entered))
