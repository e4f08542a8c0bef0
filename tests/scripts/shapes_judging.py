"""Draws pictures for the captions of the shapes experiment, and judges them.

Takes: `draw`: a pipeline directory, a folder of captions, and arguments for `splamc sample`;
`judge`: the judge's ONNX file, a folder of real pictures, and folders of drawn ones.
Gives: `draw`: a folder with a picture and its caption for each caption, picture i from seed + i;
`judge`: a row of JSON per folder: the share of pictures in which everything that the caption says
is right, and the share for each thing where it is said; the Frechet distance to the real pictures
and, with `--teacher`, to those of a folder, and the mean difference from the picture of the same
name there (root mean square, of values in [-1, 1]).
`table`: a table of such rows in Markdown, students of several seeds as their mean, with the lowest
and the highest.
Never: trains anything.

    python tests/scripts/shapes_judging.py draw run/ema CAPTIONS OUT --count 256 -- --steps 4
    python tests/scripts/shapes_judging.py judge judge.onnx REAL OUT... --teacher OUT-ddim50
    python tests/scripts/shapes_judging.py table figures.jsonl
"""

import argparse
import json
import pathlib
import re
import subprocess
import sys
import tempfile

import numpy
import onnxruntime
from PIL import Image

# Columns of the judge's logits, and the words that captions have for each.
SHAPES = ["circle", "square", "triangle", "cross"]
COLOURS = ["red", "green", "blue", "yellow", "purple", "orange"]
SIZES = ["small", "large"]
POSITIONS = ["top left", "top right", "bottom left", "bottom right", "middle"]
WIDTHS = {"shape": 4, "colour": 6, "background": 6, "size": 2, "position": 5}


def said(caption: str) -> dict[str, int]:
    """Returns what a caption says, by the judge's heads."""
    words = caption.split()
    shape = next(n for n, word in enumerate(words) if word in SHAPES)
    found = {
        "shape": SHAPES.index(words[shape]),
        "colour": COLOURS.index(words[shape - 1]),
        "background": COLOURS.index(words[words.index("background") - 1]),
    }
    if size := [word for word in words if word in SIZES]:
        found["size"] = SIZES.index(size[0])
    if position := re.search("|".join(POSITIONS), caption):
        found["position"] = POSITIONS.index(position[0])
    return found


def draw(arguments: argparse.Namespace) -> None:
    files = sorted(arguments.captions.glob("*.txt"))[: arguments.count]
    arguments.out.mkdir(parents=True, exist_ok=True)
    for first in range(0, len(files), arguments.batch):
        chosen = files[first : first + arguments.batch]
        if all((arguments.out / file.with_suffix(".png").name).exists() for file in chosen):
            continue
        prompts = [word for file in chosen for word in ("-p", file.read_text().strip())]
        with tempfile.TemporaryDirectory(dir=arguments.out) as scratch:
            command = [arguments.splamc, "sample", arguments.model, *prompts]
            command += ["-b", str(len(chosen)), "-s", str(arguments.seed + first)]
            command += ["-o", f"{scratch}/p.png", *arguments.options]
            subprocess.run(list(map(str, command)), check=True, stdout=subprocess.DEVNULL)
            for index, file in enumerate(chosen):
                name = "p.png" if len(chosen) == 1 else f"p-{index}.png"
                (arguments.out / file.name).write_text(file.read_text())
                target = arguments.out / file.with_suffix(".png").name
                (pathlib.Path(scratch) / name).rename(target)


def pictures(folder: pathlib.Path, limit: int | None = None) -> dict[str, numpy.ndarray]:
    """Returns pictures by name, [3, 64, 64] in [-1, 1]."""
    files = sorted(folder.glob("*.png"))[:limit]
    return {
        file.stem: numpy.asarray(Image.open(file).convert("RGB"), numpy.float32).transpose(2, 0, 1)
        / 127.5
        - 1
        for file in files
    }


def seen(session: onnxruntime.InferenceSession, shown: dict) -> tuple[numpy.ndarray, numpy.ndarray]:
    """Returns features and logits of pictures."""
    stacked = numpy.stack(list(shown.values()))
    batches = numpy.split(stacked, range(256, len(stacked), 256))
    parts = [session.run(None, {"pictures": batch}) for batch in batches]
    features, logits = zip(*parts)
    return numpy.concatenate(features).astype(numpy.float64), numpy.concatenate(logits)


def root(matrix: numpy.ndarray) -> numpy.ndarray:
    values, vectors = numpy.linalg.eigh(matrix)
    return (vectors * numpy.sqrt(values.clip(0))) @ vectors.T


def frechet(a: numpy.ndarray, b: numpy.ndarray) -> float:
    """The Frechet distance of two sets of features (Heusel et al., 2017, equation 6)."""
    means = ((a.mean(0) - b.mean(0)) ** 2).sum()
    of_a, of_b = (numpy.cov(side, rowvar=False) for side in (a, b))
    half = root(of_a)
    mixed = numpy.linalg.eigvalsh(half @ of_b @ half).clip(0)
    return float(means + numpy.trace(of_a) + numpy.trace(of_b) - 2 * numpy.sqrt(mixed).sum())


def judge(arguments: argparse.Namespace) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(arguments.judge, options)
    real, _ = seen(session, pictures(arguments.real, arguments.limit))
    teacher = pictures(arguments.teacher) if arguments.teacher else {}
    of_teacher = seen(session, teacher)[0] if teacher else None
    for folder in arguments.folders:
        shown = pictures(folder)
        features, logits = seen(session, shown)
        edges = numpy.cumsum(list(WIDTHS.values()))
        answers = {
            head: part.argmax(1) for head, part in zip(WIDTHS, numpy.split(logits, edges, axis=1))
        }
        captions = [said((folder / f"{name}.txt").read_text()) for name in shown]
        hits = {
            head: [answers[head][n] == one[head] for n, one in enumerate(captions) if head in one]
            for head in WIDTHS
        }
        right = [
            all(answers[head][n] == value for head, value in one.items())
            for n, one in enumerate(captions)
        ]
        row = {"folder": folder.name, "pictures": len(shown), "right": float(numpy.mean(right))}
        row |= {head: float(numpy.mean(hit)) for head, hit in hits.items()}
        row["frechet"] = frechet(real, features)
        if teacher and folder != arguments.teacher:
            row["frechet_teacher"] = frechet(of_teacher, features)
            both = [name for name in shown if name in teacher]
            squares = [((shown[name] - teacher[name]) ** 2).mean() for name in both]
            row["paired"] = float(numpy.sqrt(squares).mean())
        print(json.dumps({k: round(v, 4) if isinstance(v, float) else v for k, v in row.items()}))


# Columns of a table: keys of rows, their heads, and digits behind the point.
COLUMNS = [
    ("right", "right", 3),
    ("paired", "paired error", 3),
    ("frechet", "FD to real", 1),
    ("frechet_teacher", "FD to teacher", 1),
]


def cell(values: list[float], digits: int) -> str:
    if not values:
        return "–"
    mean = f"{numpy.mean(values):.{digits}f}"
    if len(values) == 1:
        return mean
    return f"{mean} ({min(values):.{digits}f} to {max(values):.{digits}f})"


def table(arguments: argparse.Namespace) -> None:
    groups: dict[tuple[str, int], list[dict]] = {}
    for line in arguments.figures.read_text().splitlines():
        row = json.loads(line)
        # Students have a seed: `splad-0-4`; samplers of the teacher have none: `ddim-4`.
        name, steps = row["folder"].rsplit("-", 1)
        student, _, seed = name.rpartition("-")
        of_student = student and seed.isdigit()
        key = (student if of_student else f"teacher, {name}", int(steps))
        groups.setdefault(key, []).append(row)
    print("| | steps | seeds | " + " | ".join(head for _, head, _ in COLUMNS) + " |")
    print("|---" * (3 + len(COLUMNS)) + "|")
    for (name, steps), rows in sorted(groups.items(), key=lambda item: (item[0][0], -item[0][1])):
        cells = [
            cell([row[key] for row in rows if key in row], digits) for key, _, digits in COLUMNS
        ]
        print(f"| {name} | {steps} | {len(rows)} | " + " | ".join(cells) + " |")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    commands = parser.add_subparsers(required=True)
    drawing = commands.add_parser("draw")
    drawing.add_argument("model", type=pathlib.Path)
    drawing.add_argument("captions", type=pathlib.Path)
    drawing.add_argument("out", type=pathlib.Path)
    drawing.add_argument("--splamc", default="target/release/splamc")
    drawing.add_argument("--count", type=int, default=256)
    drawing.add_argument("--batch", type=int, default=64)
    drawing.add_argument("--seed", type=int, default=0)
    drawing.set_defaults(run=draw)
    judging = commands.add_parser("judge")
    judging.add_argument("judge", type=pathlib.Path)
    judging.add_argument("real", type=pathlib.Path)
    judging.add_argument("folders", type=pathlib.Path, nargs="+")
    judging.add_argument("--teacher", type=pathlib.Path)
    judging.add_argument("--limit", type=int, default=4000, help="how many real pictures to read")
    judging.set_defaults(run=judge)
    tabling = commands.add_parser("table")
    tabling.add_argument("figures", type=pathlib.Path)
    tabling.set_defaults(run=table)
    # What follows -- is for `splamc sample`.
    cut = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    arguments = parser.parse_args(sys.argv[1:cut])
    arguments.options = sys.argv[cut + 1 :]
    arguments.run(arguments)


if __name__ == "__main__":
    sys.exit(main())
