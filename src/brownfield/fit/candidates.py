"""The search space: which model files are made of one model, and in which sessions each of them is tried.

A candidate is a recipe (how the file is made) and a session (how the engine runs it). The order is that of
simplicity: where two are as good, the earlier one is taken.
"""

from collections.abc import Iterator, Sequence

import msgspec

__all__ = ["FP32", "ONNXRUNTIME", "OPENVINO", "Candidate", "Recipe", "Session", "engines", "recipes", "sessions"]

ONNXRUNTIME, OPENVINO = "onnxruntime", "openvino"

CONVOLUTIONS = ("Conv", "ConvTranspose")
MATRICES = ("MatMul", "Gemm")


class Recipe(msgspec.Struct, frozen=True, kw_only=True):
    """How a model file is made.

    Parameters
    ----------
    kind
        ``as_is`` the file itself; ``optimised`` opset raised, constants folded, redundant nodes removed; ``static``
        int8 with scales from calibration rows (QDQ, unsigned activations, signed weights by channel); ``dynamic``
        int8 weights with scales from each request; ``given`` a file that somebody brought.
    operators
        Operators that are quantised; empty for all that the quantiser knows.
    calibrator
        ``minmax``, ``percentile`` (99.99) or ``entropy``; static alone.
    reduce_range
        Weights of seven bits: for processors without VNNI, whose int8 products overflow.
    left_out
        Names of the nodes that stay in fp32; static alone.
    label, digest
        Of a given file: its name in the declaration, and the SHA-256 of its bytes.
    """

    kind: str
    operators: tuple[str, ...] = ()
    calibrator: str = ""
    reduce_range: bool = False
    left_out: tuple[str, ...] = ()
    label: str = ""
    digest: str = ""

    @property
    def quantised(self) -> bool:
        """Whether its arithmetic differs from the model's own."""
        return self.kind in ("static", "dynamic", "given")

    @property
    def name(self) -> str:
        """In words; tells any two recipes of a search apart.

        Examples
        --------
        >>> Recipe(kind="static", calibrator="minmax").name
        'static int8, minmax'
        """
        if self.kind == "given":
            return f"given {self.label}"
        if not self.quantised:
            return {"as_is": "fp32"}.get(self.kind, "fp32, optimised")
        operators = (" of " + " and ".join(self.operators),) if self.operators else ("",)
        kept = f"{len(self.left_out)} layer{'s' if len(self.left_out) > 1 else ''} in fp32" if self.left_out else ""
        parts = [f"{self.kind} int8{operators[0]}", self.calibrator, "7 bits" if self.reduce_range else "", kept]
        return ", ".join(part for part in parts if part)


FP32 = Recipe(kind="as_is")
"""The model as it came."""


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """How the engine runs a model file.

    Parameters
    ----------
    threads
        Within one operator, ``>= 1``.
    arena
        Whether the engine keeps memory for the next request; of onnxruntime alone.
    engine, precision
        ``onnxruntime`` in ``fp32``, or ``openvino`` in ``fp32`` or ``bf16``.
    """

    threads: int = 1
    arena: bool = True
    engine: str = ONNXRUNTIME
    precision: str = "fp32"

    @property
    def plain(self) -> bool:
        """Whether it is an engine's default."""
        return self.threads == 1 and self.arena

    @property
    def name(self) -> str:
        """In words; empty for the default.

        Examples
        --------
        >>> Session(threads=2, arena=False).name
        '2 threads, no arena'
        >>> Session(engine="openvino", precision="bf16").name
        'OpenVINO bf16'
        """
        engine = "" if self.engine == ONNXRUNTIME else f"OpenVINO {self.precision}"
        threads = f"{self.threads} threads" if self.threads > 1 else ""
        parts = (engine, threads, "" if self.arena else "no arena")
        return ", ".join(part for part in parts if part)


class Candidate(msgspec.Struct, frozen=True, kw_only=True):
    """A model file in a session."""

    recipe: Recipe = FP32
    session: Session = Session()

    @property
    def exact(self) -> bool:
        """Whether its arithmetic is the model's own: then its numbers must be as well."""
        return not self.recipe.quantised and self.session.precision == "fp32"

    @property
    def name(self) -> str:
        """In words, unique in a search.

        Examples
        --------
        >>> Candidate(session=Session(threads=2)).name
        'fp32, 2 threads'
        >>> Candidate(session=Session(engine="openvino", precision="bf16")).name
        'OpenVINO bf16'
        """
        other = self.recipe == FP32 and self.session.engine != ONNXRUNTIME  # its precision is in the session's name
        return ", ".join(part for part in ("" if other else self.recipe.name, self.session.name) if part)


def recipes(operators: Sequence[str], *, vnni: bool, calibrated: bool) -> Iterator[Recipe]:
    """Recipes that can pay for a graph, simplest first.

    Parameters
    ----------
    operators
        Types of the graph's nodes.
    vnni
        Whether the processor multiplies int8 without overflow in between.
    calibrated
        Whether there are rows to calibrate with and to judge by; without them nothing is quantised.

    Examples
    --------
    >>> [recipe.name for recipe in recipes(["Relu"], vnni=True, calibrated=True)]
    ['fp32', 'fp32, optimised']
    >>> [recipe.kind for recipe in recipes(["Gemm"], vnni=True, calibrated=True)]
    ['as_is', 'optimised', 'dynamic', 'static', 'static', 'static', 'static']
    """
    yield FP32
    yield Recipe(kind="optimised")
    matrices = any(operator in MATRICES for operator in operators)
    if not calibrated or not (matrices or any(operator in CONVOLUTIONS for operator in operators)):
        return
    if matrices:  # the engine has no fast integer convolution for dynamic scales: 2 to 13 times slower
        yield Recipe(kind="dynamic", operators=MATRICES, reduce_range=not vnni)
    for chosen in ((), (*CONVOLUTIONS[:1], *MATRICES)):
        for calibrator in ("minmax", "percentile", "entropy"):
            if not (chosen and calibrator != "minmax"):
                yield Recipe(kind="static", operators=chosen, calibrator=calibrator, reduce_range=not vnni)


def engines(*, calibrated: bool) -> Iterator[Session]:
    """Sessions of the other engine, which are tried with the file as it came.

    Examples
    --------
    >>> [session.name for session in engines(calibrated=True)]
    ['OpenVINO fp32', 'OpenVINO bf16']
    """
    yield Session(engine=OPENVINO)
    if calibrated:  # bf16 computes other numbers: without rows nobody can judge them
        yield Session(engine=OPENVINO, precision="bf16")


def sessions(cores: int, engine: str = ONNXRUNTIME, precision: str = "fp32") -> Iterator[Session]:
    """Sessions to try with an engine on a machine with so many usable cores, simplest first.

    Examples
    --------
    >>> [session.name for session in sessions(2)]
    ['', 'no arena', '2 threads']
    """
    plain = Session(engine=engine, precision=precision)
    yield plain
    if engine == ONNXRUNTIME:
        yield msgspec.structs.replace(plain, arena=False)
    threads = 2
    while threads <= cores:
        yield msgspec.structs.replace(plain, threads=threads)
        threads *= 2
