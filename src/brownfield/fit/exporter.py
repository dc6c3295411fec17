"""Turns a PyTorch model into ONNX in a confined process of its own; the one file of ours that imports torch.

Started as ``python -I -B exporter.py OPTIONS`` (JSON) by :mod:`brownfield.fit.source`. It may read the folder of the
program and the rows, and may write nothing, start nothing and connect to nothing: what it makes leaves by stdout, as
arrays. Objects are never unpickled: weights come as safetensors, or by PyTorch's loader for tensors alone.
"""

import importlib.util
import inspect
import io
import json
import os
import sys
import tempfile
import traceback
import warnings
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from types import ModuleType

__all__ = ["main"]


def main(argument: str) -> int:
    """Make what the options ask for, and give it as arrays on stdout."""
    options = json.loads(argument)
    answer = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what a program prints must not reach the parent's ear
    sys.path.append(options["root"])
    from brownfield.confinement import SandboxPolicy, apply, readable_by_default

    apply(SandboxPolicy(), [*readable_by_default(), options["folder"], options["rows"]], options["memory_mib"])
    tempfile.tempdir = os.environ["TORCHINDUCTOR_CACHE_DIR"] = sys.prefix  # it asks for a folder and never writes
    warnings.simplefilter("ignore")
    import numpy as np

    try:
        arrays = _make(options)
    except _Unfit as error:
        arrays = {"refused": np.frombuffer(str(error).encode(), dtype=np.uint8)}
    except MemoryError:
        arrays = {"refused": np.frombuffer(b"it needs more memory than it may have", dtype=np.uint8)}
    except Exception as error:  # noqa: BLE001 (whatever a program of others raises is told in one line)
        arrays = {"refused": np.frombuffer(_told(error, options).encode(), dtype=np.uint8)}
    whole = io.BytesIO()
    np.savez(whole, allow_pickle=False, **arrays)
    answer.write(whole.getvalue())
    answer.close()
    return 0


class _Unfit(Exception):
    """The program is not what was declared."""


def _told(error: Exception, options: dict[str, Any]) -> str:
    """Type of an error and its place in the program: its text might hold a record's value."""
    frames = traceback.extract_tb(error.__traceback__)
    own = [frame for frame in frames if Path(frame.filename).is_relative_to(options["folder"])]
    place = f" at {Path(own[-1].filename).name}:{own[-1].lineno}" if own else ""
    if isinstance(error, SyntaxError) and error.filename and error.lineno:
        place = f" at {Path(error.filename).name}:{error.lineno}"
    return f"{type(error).__name__}{place}"


def _make(options: dict[str, Any]) -> dict[str, Any]:
    import numpy as np

    with np.load(options["rows"], allow_pickle=False) as stored:
        rows = {name.partition(".")[2]: stored[name] for name in stored.files if name.startswith("x.")}
        labels = stored["y"] if "y" in stored.files else None
        tried = {name.partition(".")[2]: stored[name] for name in stored.files if name.startswith("t.")}
    arrays: dict[str, Any] = {}
    if not options["inputs"]:
        tried, options = _by_example(options)
        arrays |= {f"model/example.{name}": array for name, array in tried.items()}
    made = _models(options, rows, labels)
    if options["kind"] == "module" and not options["weights"] and _is_drawn(made["model"], options):
        arrays["model/drawn"] = np.ones(1, dtype=np.uint8)
    for name, model in made.items():
        if isinstance(model, bytes):
            arrays[f"{name}/given"] = np.frombuffer(model, dtype=np.uint8)
        else:
            arrays |= {f"{name}/{key}": value for key, value in _exported(model, options, tried).items()}
    return arrays


def _by_example(options: dict[str, Any]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Give the example's inputs, and the options with their names and those of the outputs."""
    import numpy as np

    file = Path(options["file"])
    program = _program(file)
    tried = {str(name): np.asarray(array) for name, array in _called(program, "example", file)().items()}
    outputs = getattr(program, "OUTPUTS", ("output",))
    return tried, {**options, "inputs": list(tried), "outputs": [str(name) for name in outputs]}


def _models(options: dict[str, Any], rows: dict[str, Any], labels: Any) -> dict[str, Any]:
    """Models by name; the one that is to be fitted is called ``model``."""
    import numpy as np

    np.random.seed(options["seed"] % 2**32)  # noqa: NPY002 (programs of others draw from it)
    file = Path(options["file"])
    if options["kind"] == "torchscript":
        import torch

        return {"model": torch.jit.load(str(file), map_location="cpu").eval()}
    program = _program(file)
    if "torch" in sys.modules:  # a program without it is not made to wait for it
        sys.modules["torch"].manual_seed(options["seed"])
    if options["kind"] == "module":
        model = _called(program, "build", file)()
        if options["weights"]:
            model.load_state_dict(_weights(options["weights"]))
        return {"model": model.eval()}
    given = _called(program, "train", file)(rows, labels)
    models = given if isinstance(given, dict) else {"model": given}
    if "model" not in models:
        raise _Unfit("train() gave several models and none called model")
    return {str(name): _one(model) for name, model in models.items()}


def _is_drawn(model: Any, options: dict[str, Any]) -> bool:
    """Whether a module has other weights when it is built once more from another seed: nobody has trained them."""
    import torch

    file = Path(options["file"])
    try:
        torch.manual_seed(options["seed"] + 1)
        again = _called(_program(file), "build", file)().state_dict()
    except Exception:  # noqa: BLE001 (what was built once is taken; this is for a warning alone)
        return False
    return any(name not in again or not torch.equal(value, again[name]) for name, value in model.state_dict().items())


def _one(model: Any) -> Any:
    if isinstance(model, bytes):
        return model
    if hasattr(model, "SerializeToString"):
        return model.SerializeToString()
    if hasattr(model, "eval") and hasattr(model, "forward"):
        return model.eval()
    raise _Unfit("train() gave neither a PyTorch module nor ONNX")


def _program(file: Path) -> "ModuleType":
    sys.path.insert(0, str(file.parent))
    spec = importlib.util.spec_from_file_location("declared_program", file)
    if spec is None or spec.loader is None:
        raise _Unfit("it is no Python file")
    program = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(program)
    return program


def _called(program: "ModuleType", name: str, file: Path) -> Any:
    function = getattr(program, name, None)
    if not callable(function):
        raise _Unfit(f"{file.name} has no function {name}(); a class that answers is named {file.name}:CLASS")
    return function


def _weights(file: str) -> Any:
    if file.endswith(".safetensors"):
        from safetensors.torch import load_file

        return load_file(file)
    import torch

    return torch.load(file, map_location="cpu", weights_only=True)


def _exported(model: Any, options: dict[str, Any], tried: dict[str, Any]) -> dict[str, Any]:
    """ONNX by exporter, why an exporter failed, and the module's own answers to a few rows."""
    import numpy as np
    import torch

    names = _ordered(model, options["inputs"])
    inputs = tuple(torch.from_numpy(np.ascontiguousarray(tried[name])) for name in names)
    if not options["batched"]:
        inputs = tuple(tensor[0] for tensor in inputs)
    with torch.no_grad():
        answers = _outputs(model(*inputs), options["outputs"])
    arrays = {f"answer.{name}": array for name, array in answers.items()}
    for exporter in options["exporters"]:
        try:
            made = (_dynamo if exporter == "dynamo" else _classic)(model, inputs, names, options)
            arrays[exporter] = np.frombuffer(made, dtype=np.uint8)
        except Exception as error:  # noqa: BLE001 (the other exporter may do)
            lines = str(error).strip().splitlines()[:1]
            text = f"{type(error).__name__}: {''.join(lines)[:160]}"
            arrays[f"failed.{exporter}"] = np.frombuffer(text.encode(), dtype=np.uint8)
    return arrays


def _ordered(model: Any, names: list[str]) -> list[str]:
    """List the inputs in the order in which the module takes them, where it names them alike."""
    try:
        taken = list(inspect.signature(model.forward).parameters)
    except (TypeError, ValueError):
        return names
    return [name for name in taken if name in names] if set(names) <= set(taken) else names


def _outputs(given: Any, names: list[str]) -> dict[str, Any]:
    tensors = list(given) if isinstance(given, tuple | list) else [given]
    if len(tensors) != len(names) or not all(hasattr(tensor, "detach") for tensor in tensors):
        raise _Unfit(f"the module gives other than {len(names)} tensors")
    return dict(zip(names, (tensor.detach().numpy() for tensor in tensors), strict=True))


def _dynamo(model: Any, inputs: tuple[Any, ...], names: list[str], options: dict[str, Any]) -> bytes:
    import torch

    rows = torch.export.Dim("n")
    shapes = tuple({0: rows} for _ in inputs) if options["batched"] else None
    program = torch.onnx.export(
        model, inputs, input_names=names, output_names=options["outputs"], dynamic_shapes=shapes, dynamo=True,
        verbose=False,
    )  # fmt: skip
    return bytes(program.model_proto.SerializeToString())


def _classic(model: Any, inputs: tuple[Any, ...], names: list[str], options: dict[str, Any]) -> bytes:
    import torch

    axes = {name: {0: "n"} for name in [*names, *options["outputs"]]} if options["batched"] else None
    whole = io.BytesIO()
    torch.onnx.export(
        model, inputs, whole, input_names=names, output_names=options["outputs"], dynamic_axes=axes, dynamo=False
    )
    return whole.getvalue()


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
