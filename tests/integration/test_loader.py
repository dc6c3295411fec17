"""Loading a workspace: whole or not at all, nothing outside it, and what changed since."""

from pathlib import Path

import pytest

from brownfield.errors import DeclarationError
from brownfield.integration import loader
from brownfield.integration.loader import load_integration, load_workspace
from brownfield.integration.reader import each_error


def told(folder: Path) -> list[str]:
    with pytest.raises(DeclarationError) as refused:
        load_workspace(folder)
    return [str(error) for error in each_error(refused.value)]


def edit(file: Path, old: str, new: str) -> None:
    text = file.read_text()
    assert old in text
    file.write_text(text.replace(old, new))


def test_a_workspace_is_read_whole(workspace: Path) -> None:
    """Declaration, contract and files become one frozen value."""
    spec = load_workspace(workspace)
    one = spec.integrations["next-items"]
    assert (spec.name, list(spec.connections), list(spec.integrations)) == ("shop", ["pos", "drop"], ["next-items"])
    assert one.contract.reference == "next-items@1.0.0"
    assert one.folder == workspace / "integrations" / "next-items"
    assert one.file(one.fallback.chain[0].table).read_text().startswith("store_id")
    assert (one.model, one.features, one.owner) == (None, None, "merchandising")


def test_one_integration_alone(workspace: Path) -> None:
    """A single declaration is read without its workspace; names of connections are then not checked."""
    assert load_integration(workspace / "integrations/next-items/integration.yaml").name == "next-items"


@pytest.mark.parametrize(
    ("old", "new", "part"),
    [
        ("contract: contract.odcs.yaml", "contract: nix.yaml", "nix.yaml"),
        ("{table: popular.csv}", "{table: nix.csv}", "nix.csv"),
        ("layout: p.cpy", "layout: nix.cpy", "nix.cpy"),
        ("owner: merchandising", "features: nix.yaml", "nix.yaml"),
        ("connection: pos", "connection: poss", "Did you mean pos?"),
        (
            "connection: pos, table: sales",
            "connection: drop, table: sales",
            "path beside a connection of the kind folder",
        ),
    ],
)
def test_what_a_declaration_names_must_be_there(workspace: Path, old: str, new: str, part: str) -> None:
    """A file or connection that is not there is refused at the key that names it."""
    edit(workspace / "integrations/next-items/integration.yaml", old, new)
    found = told(workspace)
    assert [part in each for each in found] == [True]
    assert found[0].startswith("integrations/next-items/integration.yaml:")


@pytest.mark.parametrize("name", ["contract.odcs.yaml", "popular.csv", "p.cpy"])
def test_links_do_not_lead_out(workspace: Path, tmp_path_factory: pytest.TempPathFactory, name: str) -> None:
    """B-73: a link to a file outside the integration's folder is refused, whatever it holds."""
    outside = tmp_path_factory.mktemp("outside") / name
    file = workspace / "integrations/next-items" / name
    file.rename(outside)
    file.symlink_to(outside)
    assert ["a link that leads out of it" in each for each in told(workspace)] == [True]


def test_a_bundle_is_not_linked_from_outside(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """B-73: the model's folder lies below the integration too, or is not there yet."""
    home = workspace / "integrations/next-items"
    edit(home / "integration.yaml", "owner:", "model: bundles/x\nowner:")
    assert load_workspace(workspace).integrations["next-items"].model.path == "bundles/x"
    (home / "bundles").symlink_to(tmp_path_factory.mktemp("outside"))
    assert ["a link that leads out of it" in each for each in told(workspace)] == [True]


def test_an_integration_is_not_linked_from_outside(workspace: Path, tmp_path_factory: pytest.TempPathFactory) -> None:
    """B-73: the folder of an integration is one of the workspace."""
    outside = tmp_path_factory.mktemp("outside") / "next-items"
    (workspace / "integrations/next-items").rename(outside)
    (workspace / "integrations/next-items").symlink_to(outside)
    assert ["a link that leads out of it" in each for each in told(workspace)] == [True]


def test_a_connection_leads_out_by_reference_alone(
    workspace: Path, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    """B-73: a place outside is declared as one, by reference; a link does not smuggle it in."""
    outside = tmp_path_factory.mktemp("outside")
    (workspace / "legacy/drop").rmdir()
    (workspace / "legacy/drop").symlink_to(outside)
    assert ["connections.drop.path" in each for each in told(workspace)] == [True]
    edit(workspace / "brownfield.yaml", "path: legacy/drop", "path: {env: BF_TEST_DROP}")
    monkeypatch.setenv("BF_TEST_DROP", str(outside))
    assert load_workspace(workspace).connections["drop"].location(workspace) == outside


def test_a_folder_is_no_file(workspace: Path) -> None:
    """A folder in the place of a file is refused."""
    (workspace / "integrations/next-items/popular.csv").unlink()
    (workspace / "integrations/next-items/popular.csv").mkdir()
    assert ["something else" in each for each in told(workspace)] == [True]


def test_there_are_no_includes(workspace: Path) -> None:
    """B-73: an include is an unknown key, so there are no cycles of them."""
    edit(workspace / "brownfield.yaml", "workspace: shop", "workspace: shop\ninclude: ../other.yaml")
    assert ["the unknown key include" in each for each in told(workspace)] == [True]


def test_every_mistake_of_every_file(workspace: Path, add) -> None:
    """Mistakes in several integrations and contracts are told together, each with its file."""
    edit(add("second") / "contract.odcs.yaml", "logicalType: string", "logicalType: strng")
    edit(workspace / "integrations/next-items/integration.yaml", "deadline_ms: 50", "deadline_ms: 5 s")
    files = [each.split(":")[0] for each in told(workspace)]
    assert files == ["integrations/next-items/integration.yaml", "integrations/second/contract.odcs.yaml"]


def test_a_name_is_given_once(workspace: Path, add) -> None:
    """Two integrations of one name are refused, and both files are named."""
    edit(add("second") / "integration.yaml", "integration: second", "integration: next-items")
    (found,) = told(workspace)
    assert "integrations/second/integration.yaml:1" in found
    assert "integrations/next-items/integration.yaml" in found


def test_no_workspace(tmp_path: Path) -> None:
    """A folder without a workspace says how to begin one."""
    assert told(tmp_path) == [
        f"{tmp_path / 'brownfield.yaml'}: expected a file, got no such file. Begin a workspace with brownfield init."
    ]


def test_too_many_integrations_are_refused_unread(workspace: Path, add, monkeypatch: pytest.MonkeyPatch) -> None:
    """B-73: beyond the bound nothing is read, so ten thousand cost no time."""
    monkeypatch.setattr(loader, "MAX_INTEGRATIONS", 2)
    (add("second") / "integration.yaml").write_text("not: read")
    (add("third") / "integration.yaml").write_text("not: read")
    assert told(workspace) == ["integrations: expected at most 2 integrations, got 3. Split the workspace."]


def test_changes_are_told_by_content(workspace: Path, add) -> None:
    """F-72: a reload knows which integrations differ, by the content of all their files, and nothing else."""
    before = load_workspace(workspace)
    again = load_workspace(workspace)
    assert again.changes_since(before) == ((), (), (), False)
    home = workspace / "integrations/next-items"
    edit(home / "popular.csv", "0.25", "0.75")
    add("second")
    after = load_workspace(workspace)
    assert after.changes_since(before) == (("second",), (), ("next-items",), False)
    assert before.changes_since(after) == ((), ("second",), ("next-items",), False)
    edit(workspace / "brownfield.yaml", "workspace: shop", "workspace: shop\nserving: {port: 9000}")
    assert load_workspace(workspace).changes_since(after).workspace


def test_a_broken_file_loads_nothing(workspace: Path, add) -> None:
    """F-72: one mistake anywhere and there is no new declaration at all: the running one stays."""
    before = load_workspace(workspace)
    (add("second") / "integration.yaml").write_text("integration: second\n")
    with pytest.raises(DeclarationError):
        load_workspace(workspace)
    assert list(before.integrations) == ["next-items"]
