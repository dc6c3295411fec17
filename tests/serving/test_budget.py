"""What a workspace declares for its models, held against the machine."""

from dataclasses import replace

import pytest

from brownfield.errors import DeclarationError
from brownfield.host import read_host
from brownfield.integration import load_workspace
from brownfield.serving.budget import GATEWAY_MIB, OWN_MIB, check_budgets
from brownfield.workspace.check import check

HOST = replace(read_host(), affinity_cores=2, quota_cores=None, memory_mib=1000)


@pytest.fixture
def workspace(risk, tmp_path):
    """Makes a workspace of models by their constraints and whether each is kept loaded."""

    def make(*models, serving="{}"):
        for number, (constraints, keep) in enumerate(models):
            risk.declare(tmp_path, model_path=None)
            home = tmp_path / "integrations" / f"m{number}"
            (tmp_path / "integrations" / "risk").rename(home)
            (home / "integration.yaml").write_text(
                f"integration: m{number}\ncontract: contract.odcs.yaml\nconstraints: {constraints}\n"
                f"model: {{path: bundles/one, keep_loaded: {str(keep).lower()}}}\nfallback: {{deadline_ms: 50}}\n",
                encoding="utf-8",
            )
        (tmp_path / "brownfield.yaml").write_text(f"workspace: risk\nserving: {serving}\n", encoding="utf-8")
        return load_workspace(tmp_path)

    return make


@pytest.mark.parametrize("keep", [True, False], ids=["kept loaded", "on demand"])
@pytest.mark.parametrize(("memory_mib", "fits"), [(430, True), (460, False)])
def test_the_version_before_takes_memory_as_well(workspace, tmp_path, memory_mib, fits, keep):
    """Where a chain asks for it its process stays beside the model's, so both must fit; it takes no further core."""
    workspace((f"{{memory_mib: {memory_mib}, cpu_cores: 2}}", keep))
    declaration = tmp_path / "integrations" / "m0" / "integration.yaml"
    declaration.write_text(
        declaration.read_text().replace("deadline_ms: 50", "deadline_ms: 50, chain: [previous_version]")
    )
    spec = load_workspace(tmp_path)
    if fits or not keep:
        check_budgets(spec, HOST)
    else:
        with pytest.raises(DeclarationError, match=r"m0 460, m0 \(previous version\) 460"):
            check_budgets(spec, HOST)


@pytest.mark.parametrize(
    ("models", "serving", "host"),
    [
        pytest.param([("{cpu_cores: 1.5}", True), ("{cpu_cores: 0.5}", True)], "{}", {}, id="all of the cores"),
        pytest.param([("{}", True)] * 8, "{}", {}, id="nothing declared"),
        pytest.param(
            [("{cpu_cores: 1.1}", True), ("{cpu_cores: 1.8}", True), ("{cpu_cores: 0.1}", True)],
            "{}",
            {"affinity_cores": 3},
            id="all of the cores by tenths",
        ),
        pytest.param([("{cpu_cores: 2}", False)] * 8, "{}", {}, id="on demand, one at a time"),
        pytest.param([("{memory_mib: 880}", True)], "{}", {}, id="memory beside our own"),
        pytest.param([("{memory_mib: 800}", False)] * 4, "{}", {}, id="memory on demand"),
    ],
)
def test_what_fits_is_let_through(workspace, models, serving, host):
    """Undeclared is not reserved, and on demand counts as the largest."""
    check_budgets(workspace(*models, serving=serving), replace(HOST, **host))


@pytest.mark.parametrize(
    ("models", "serving", "host", "said"),
    [
        pytest.param(
            [("{cpu_cores: 2}", True), ("{cpu_cores: 0.5}", True)],
            "{}",
            {},
            r"there are 2 cores, got 2\.5 cores together \(m0 2, m1 0\.5\)",
            id="cores",
        ),
        pytest.param([("{cpu_cores: 2}", True)], "{}", {"quota_cores": 1.5}, "there are 1.5 cores", id="a quota"),
        pytest.param([("{cpu_cores: 2}", True)], "{cpu_cores: 1}", {}, r"1 \(serving.cpu_cores\)", id="declared cores"),
        pytest.param(
            [("{memory_mib: 600}", True), ("{memory_mib: 500}", False), ("{memory_mib: 90}", False)],
            "{}",
            {},
            r"1100 MiB together \(m0 600, m1 500\)",
            id="memory",
        ),
        pytest.param([("{memory_mib: 500}", True)], "{memory_mib: 512}", {}, "there are 512", id="declared memory"),
        pytest.param(
            [("{memory_mib: 850}", True)], "{gateways: 8}", {}, str(OWN_MIB + 8 * GATEWAY_MIB), id="many gateways"
        ),
    ],
)
def test_what_cannot_fit_is_refused_with_the_numbers(workspace, models, serving, host, said):
    """Who wants how much, and what there is."""
    with pytest.raises(DeclarationError, match=said):
        check_budgets(workspace(*models, serving=serving), replace(HOST, **host))


def test_the_check_refuses_it_too(workspace):
    """Before anything is served."""
    [finding] = [each for each in check(workspace(("{cpu_cores: 1000}", True)).folder).findings if "cores" in each.path]
    assert finding.level == "error"
    assert "1000 cores together" in finding.message
