"""The command line as a person or a script meets it: real processes, exit codes, streams."""

import json
import re
import shlex
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from brownfield.cli.output import print_table, printable, progress, show_error
from brownfield.errors import DeclarationError

EXAMPLE = Path(__file__).parents[2] / "examples" / "retail"
BUNDLE = EXAMPLE / "integrations" / "store-recommendations" / "bundles" / "store-recommender"


def brownfield(*arguments: object) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "brownfield", *map(str, arguments)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.full
def test_a_new_workspace_passes_its_own_check(tmp_path: Path) -> None:
    """What ``init`` writes passes ``check``: exit code 0, the result on standard output."""
    begun = brownfield("init", tmp_path / "shop")
    checked = brownfield("check", tmp_path / "shop", "--json")
    assert begun.returncode == 0, begun.stderr
    assert checked.returncode == 0, checked.stdout
    assert json.loads(checked.stdout)["passed"] is True


@pytest.mark.full
def test_the_next_step_can_be_pasted(tmp_path: Path) -> None:
    """The command that ``init`` names works as it stands, also for a folder with a blank in its name."""
    begun = brownfield("init", tmp_path / "my shop")
    (line,) = [line for line in begun.stdout.splitlines() if line.startswith("Next: brownfield check ")]
    assert shlex.split(line)[3] == str(tmp_path / "my shop")


@pytest.mark.full
def test_init_does_not_overwrite_a_workspace(tmp_path: Path) -> None:
    """A second ``init`` in the same folder is refused with exit code 2 and changes nothing."""
    brownfield("init", tmp_path / "shop")
    before = {path: path.read_bytes() for path in (tmp_path / "shop").rglob("*") if path.is_file()}
    again = brownfield("init", tmp_path / "shop")
    assert again.returncode == 2
    assert "Traceback" not in again.stderr
    assert before == {path: path.read_bytes() for path in (tmp_path / "shop").rglob("*") if path.is_file()}


@pytest.mark.full
def test_b66_a_typing_error_in_a_declaration_is_exit_code_2_with_the_nearest_key(tmp_path: Path) -> None:
    """B-66: ``falback`` is named with file, line and the key that was meant."""
    brownfield("init", tmp_path / "shop")
    (declaration,) = (tmp_path / "shop" / "integrations").glob("*/integration.yaml")
    declaration.write_text(declaration.read_text().replace("fallback:", "falback:"))
    checked = brownfield("check", tmp_path / "shop")
    assert checked.returncode == 2
    assert re.search(r"integration\.yaml:\d+", checked.stdout)
    assert "falback" in checked.stdout
    assert "fallback" in checked.stdout.replace("falback", "")


@pytest.mark.full
def test_the_schema_for_editors_is_a_json_schema() -> None:
    """``check --schema`` prints JSON Schema that knows the keys of the declaration."""
    printed = brownfield("check", "--schema")
    assert printed.returncode == 0, printed.stderr
    assert "fallback" in json.dumps(json.loads(printed.stdout))


@pytest.mark.full
def test_a_sound_bundle_is_examined_and_probed() -> None:
    """``bundle --probe`` verifies the shipped bundle and runs its golden records in a child process."""
    examined = brownfield("bundle", BUNDLE, "--probe", "--json")
    assert examined.returncode == 0, examined.stderr
    told = json.loads(examined.stdout)
    manifest = json.loads((BUNDLE / "manifest.json").read_text())
    assert (told["name"], told["version"]) == (manifest["name"], manifest["version"])
    assert told["probe"]["largest_difference"] < 1e-4


@pytest.mark.full
def test_b62_a_changed_bundle_is_a_finding(tmp_path: Path) -> None:
    """B-62: one changed byte of the model is exit code 1, named by its rule, without a traceback."""
    copy = tmp_path / "bundle"
    copy.mkdir()
    for file in BUNDLE.iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    model = bytearray((copy / "model.onnx").read_bytes())
    model[-1] ^= 1
    (copy / "model.onnx").write_bytes(model)
    examined = brownfield("bundle", copy, "--json")
    assert examined.returncode == 1
    assert json.loads(examined.stderr)["error"]["code"] == "BF-ERR-BUNDLE"


@pytest.mark.full
def test_doctor_backs_up_and_restores(tmp_path: Path) -> None:
    """``doctor --backup`` then ``--restore`` brings a changed declaration back."""
    shop = tmp_path / "shop"
    brownfield("init", shop)
    original = (shop / "brownfield.yaml").read_text()
    backed = brownfield("doctor", shop, "--backup", tmp_path / "backup.zip")
    (shop / "brownfield.yaml").write_text(original + "# changed\n")
    restored = brownfield("doctor", shop, "--restore", tmp_path / "backup.zip")
    assert (backed.returncode, restored.returncode) == (0, 0), backed.stderr + restored.stderr
    assert (shop / "brownfield.yaml").read_text() == original


@pytest.mark.full
def test_doctor_says_what_the_host_can_do(tmp_path: Path) -> None:
    """``doctor --json`` names the cores this process may use."""
    brownfield("init", tmp_path / "shop")
    examined = brownfield("doctor", tmp_path / "shop", "--json")
    assert examined.returncode == 0, examined.stderr
    assert "cores" in examined.stdout


@pytest.mark.parametrize(
    "arguments",
    [
        ("check", "--nonsense"),
        ("fly",),
        ("bundle",),
        ("serve", "--port", "99999"),
        ("demo", "--port", "-1"),
        ("init", "shop", "--model", "no-such.onnx"),
        ("init", "shop", "--file", "words.txt"),
        ("init", "shop", "--online"),
        ("init", "shop", "--layout", __file__),
        ("bundle", "no-such-bundle"),
        ("bundle", str(BUNDLE), "--online"),
        ("replay", "shop", "--min-age-h", "-1"),
    ],
    ids=" ".join,
)
def test_wrong_usage_is_exit_code_2(arguments: tuple[str, ...]) -> None:
    """Unknown options, verbs and missing arguments end with 2 and a hint, not with a traceback."""
    used = brownfield(*arguments)
    assert used.returncode == 2
    assert "Traceback" not in used.stderr
    assert not Path("shop").exists()


@pytest.mark.full
@pytest.mark.parametrize("verb", ["init", "demo"])
def test_a_folder_that_the_system_refuses_is_told_plainly(verb: str) -> None:
    """Where nothing can be written the message names the place and the system's reason: exit code 3, no traceback."""
    done = brownfield(verb, "/proc/nowhere")
    assert done.returncode == 3
    assert re.search(r"/proc/.*the system refused; got \w", done.stderr)
    assert "Traceback" not in done.stderr


@pytest.mark.full
def test_init_says_as_json_what_it_began(tmp_path: Path) -> None:
    """A script learns the folder and the name of the integration."""
    begun = brownfield("init", tmp_path / "shop", "--json")
    assert begun.returncode == 0, begun.stderr
    assert json.loads(begun.stdout) == {
        "batched": True,
        "folder": str(tmp_path / "shop"),
        "name": "shop",
        "warnings": [],
    }


@pytest.mark.full
@pytest.mark.parametrize("verb", ["check", "fit", "serve", "replay", "audit"])
def test_where_no_workspace_is_every_verb_says_so(verb: str, tmp_path: Path) -> None:
    """An empty folder, and a declaration in place of its folder, are told as such: exit code 2."""
    for folder, told in ((tmp_path, "brownfield init"), (tmp_path / "brownfield.yaml", "workspace")):
        done = brownfield(verb, folder)
        assert done.returncode == 2
        assert told in done.stdout + done.stderr
        (tmp_path / "brownfield.yaml").write_text("workspace: shop\n")


@pytest.mark.full
def test_a_source_that_is_not_there_has_nothing_to_list(tmp_path: Path) -> None:
    """A slip in the name of a source is told, where a row of noughts would say that all is well."""
    brownfield("init", tmp_path / "shop")
    pulled = brownfield("score", tmp_path / "shop", "--pull")
    assert "no source is declared" in pulled.stdout
    for options, told in (([], "none is declared"), (["--list"], "There is none.")):
        asked = brownfield("replay", tmp_path / "shop", "--source", "sale", *options)
        assert asked.returncode == 2
        assert told in asked.stderr


@pytest.mark.full
def test_help_names_values_where_there_are_some() -> None:
    """An option that takes no value is shown without one, and an argument in one pair of brackets at most."""
    for arguments in (["--help"], ["check", "--help"]):
        shown = brownfield(*arguments).stdout
        assert "--help" in shown
        assert "bool" not in shown
        assert "[[" not in shown


@pytest.mark.full
def test_audit_without_a_store_is_told_plainly(tmp_path: Path) -> None:
    """A workspace that never ran has no audit log, and the message says when it begins."""
    brownfield("init", tmp_path / "shop")
    asked = brownfield("audit", tmp_path / "shop")
    assert asked.returncode == 2
    assert "no store yet" in asked.stderr


@pytest.mark.full
@pytest.mark.parametrize(
    ("options", "told"),
    [
        (["--file", "here"], "give --model too"),
        (["--lock", "here"], "give --model too"),
        (["--weights", "here"], "give --model too"),
        (["--online"], "give --lock too"),
        (["--model", "here.onnx", "--weights", "here"], "--model FILE.py"),
        (["--model", "here.py:Class", "--wheels", "."], "give --lock too"),
    ],
)
def test_init_ignores_no_option(tmp_path: Path, options: list[str], told: str) -> None:
    """A model that was forgotten is told: files or a lock without one would be left out of a workspace that begins."""
    for name in ("here", "here.onnx", "here.py"):
        (tmp_path / name).touch()
    given = [str(tmp_path / each) if each.startswith(("here", ".")) else each for each in options]
    begun = brownfield("init", tmp_path / "shop", *given)
    assert begun.returncode == 2
    assert told in " ".join(begun.stderr.replace("│", "").split())
    assert not (tmp_path / "shop").exists()


@pytest.mark.full
def test_init_deploy_takes_a_workspace_that_is_there(tmp_path: Path) -> None:
    """Who began without ``--deploy`` gets the files later; nothing else of the workspace is touched."""
    brownfield("init", tmp_path / "shop")
    before = (tmp_path / "shop" / "brownfield.yaml").read_bytes()
    done = brownfield("init", tmp_path / "shop", "--deploy")
    assert done.returncode == 0, done.stderr
    assert {path.name for path in (tmp_path / "shop" / "deploy").iterdir()} == {
        "Containerfile",
        "brownfield-shop.service",
    }
    assert (tmp_path / "shop" / "brownfield.yaml").read_bytes() == before
    assert brownfield("init", tmp_path / "shop", "--deploy", "--name", "other").returncode == 2


@pytest.mark.full
def test_init_deploy_writes_the_unit_and_the_container_file(tmp_path: Path) -> None:
    """``init --deploy`` writes both files, and they name this workspace's command."""
    done = brownfield("init", tmp_path / "shop", "--deploy")
    assert done.returncode == 0, done.stderr
    written = "".join(path.read_text() for path in (tmp_path / "shop" / "deploy").iterdir())
    assert "[Service]" in written
    assert "HEALTHCHECK" in written
    assert "serve" in written


def test_an_error_over_a_path_that_is_no_text_is_json_too(capsys: pytest.CaptureFixture[str]) -> None:
    """A script that named a folder in Latin-1 reads what is wrong, not a traceback."""
    show_error(DeclarationError("there is no such folder", where="k\udcfcche", got="\udcfc"), as_json=True)
    told = json.loads(capsys.readouterr().err)["error"]
    assert (told["where"], told["got"]) == ("k\\udcfcche", "\\udcfc")
    assert told["message"].startswith("k\\udcfcche: ")


def test_s20_control_characters_never_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    """S-20: escape sequences and direction marks in foreign text are printed as replacement characters."""
    show_error(DeclarationError("bad \x1b[31mname\u202e", where="a\x07.yaml"), as_json=False)
    shown = capsys.readouterr().err
    assert "\x1b" not in shown
    assert "\u202e" not in shown
    assert "\x07" not in shown
    assert printable("plain text: 100 %") == "plain text: 100 %"


@pytest.mark.parametrize("terminal", [True, False])
def test_a_table_is_whole_in_a_narrow_terminal(
    terminal: bool,  # noqa: FBT001 (a parameter of the test)
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Its last column follows below each row, broken between words; in a file every row is one line."""
    monkeypatch.setenv("COLUMNS", "30")
    monkeypatch.setattr(sys.stdout, "isatty", lambda: terminal)
    print_table(("candidate", "ms", "why"), [("fp32", "12.5", "slower than the limit that is declared")])
    lines = capsys.readouterr().out.splitlines()
    narrow = ["candidate   ms", "    why", "fp32      12.5", "    slower than the limit that", "    is declared"]
    wide = ["candidate    ms  why", "fp32       12.5  slower than the limit that is declared"]
    assert lines == (narrow if terminal else wide)


def test_work_of_unknown_length_ends_when_the_next_begins(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Bars that moved on for ever, beside ``0/?``, said that all steps of a search were under way at once."""
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    with progress(quiet=False) as show:
        show("first [bold]", 0, None)
        show("second", 2, 1234)
    drawn = capsys.readouterr().err
    assert "/?" not in drawn
    assert drawn.count("first") >= 2  # while it runs, and as done
    assert "first [bold]" in drawn
    assert "2/1,234" in drawn


WAITING = """
import signal, sys, tempfile, time
from brownfield import cli

def verb():
    with tempfile.TemporaryDirectory(dir=sys.argv[1]):
        print("there", flush=True)
        time.sleep(0.5 if signal.getsignal(signal.SIGHUP) is signal.SIG_IGN else 60)

cli.app = verb
cli.main()
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_verb_that_is_told_to_end_leaves_no_temporary_folder(tmp_path: Path, number: signal.Signals) -> None:
    """As a time limit, a service manager or a terminal that is closed end it."""
    command = ["env", "--default-signal", sys.executable, "-c", WAITING, str(tmp_path)]  # pytest may be under nohup
    verb = subprocess.Popen(command, stdout=subprocess.PIPE)
    assert verb.stdout is not None
    verb.stdout.readline()
    assert list(tmp_path.iterdir())
    verb.send_signal(number)
    assert verb.wait(30) == 128 + number
    verb.stdout.close()
    assert not list(tmp_path.iterdir())


def test_a_verb_under_nohup_goes_on(tmp_path: Path) -> None:
    """A signal that is ignored from outside stays so."""
    command = ["nohup", sys.executable, "-c", WAITING, str(tmp_path)]
    verb = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert verb.stdout is not None
    verb.stdout.readline()
    verb.send_signal(signal.SIGHUP)
    assert verb.wait(30) == 0
    verb.stdout.close()
