#!/usr/bin/env python3
"""Make tests/golden/evaluate: features, and the distances that other programs compute of them.

Takes: the folder to write to (default tests/golden/evaluate).
Gives: features.safetensors (f32 [samples, features]) and distances.json: for pairs of sets the
Fréchet distance by scipy's matrix root, as pytorch-fid computes it, and by torch-fidelity's
eigenvalues; and the kernel distance by torch-fidelity, with the subsets of numpy's generator.
statistics.npz and statistics_compressed.npz hold mean and covariance of the first set as pytorch-fid
writes them. features.onnx is a small network of Inception's operators with random weights; `pictures`
of distances.json is the Fréchet distance of the first and the last four of examples/pictures in its
features, by onnxruntime, with clean-fid's resizing.
Never: reads the compiler.

Needs: requirements-dev.txt, onnxruntime, scipy and torch-fidelity.
"""

import importlib.metadata
import json
import pathlib
import sys

import numpy
import onnx
import onnxruntime
import scipy.linalg
import torch
import transformers
from onnx import TensorProto, helper, numpy_helper
from PIL import Image
from safetensors.numpy import save_file
from torch_fidelity import metric_fid, metric_kid

SEED = 5150
WIDTH = 24
SIDE = 16
TOKENIZER = pathlib.Path(__file__).resolve().parents[2] / "examples/tiny-model/tokenizer"
PICTURES = pathlib.Path(__file__).resolve().parents[2] / "examples/pictures"
SUBSETS = 12
SUBSET_SIZE = 40
SUBSET_SEED = 2020


def features() -> dict[str, numpy.ndarray]:
    """Sets of features: correlated, shifted, fewer samples than features, and without any spread."""
    draw = numpy.random.default_rng(SEED)
    mixing = draw.normal(size=(WIDTH, WIDTH)) / 4
    others = draw.normal(size=(WIDTH, WIDTH)) / 4
    sets = {
        "a": draw.normal(size=(200, WIDTH)) @ mixing + 3,
        "b": numpy.abs(draw.normal(size=(150, WIDTH)) @ others) + 2.8,
        "few": draw.normal(size=(10, WIDTH)) @ mixing + 3,
        "fewer": draw.normal(size=(5, WIDTH)) @ others + 3,
        "constant": numpy.ones((4, WIDTH)),
    }
    # One feature that never changes, as dead units of networks are.
    sets["b"][:, 7] = 0
    return {name: values.astype(numpy.float32) for name, values in sets.items()}


def statistics(values: numpy.ndarray) -> dict[str, numpy.ndarray]:
    values = values.astype(numpy.float64)
    return {"mu": values.mean(axis=0), "sigma": numpy.cov(values, rowvar=False)}


def by_root(one: dict, two: dict) -> float:
    """pytorch-fid's formula, without what it adds to singular covariances."""
    difference = one["mu"] - two["mu"]
    root = scipy.linalg.sqrtm(one["sigma"] @ two["sigma"])
    traces = numpy.trace(one["sigma"]) + numpy.trace(two["sigma"])
    return float(difference @ difference + traces - 2 * numpy.trace(root).real)


def kernel(one: numpy.ndarray, two: numpy.ndarray) -> dict[str, float]:
    settings = {"kid_kernel": "poly", "kid_kernel_poly_degree": 3, "kid_kernel_poly_gamma": None}
    settings |= {"kid_kernel_poly_coef0": 1, "kid_subsets": SUBSETS, "rng_seed": SUBSET_SEED}
    settings |= {"kid_subset_size": SUBSET_SIZE, "verbose": False}
    tensors = [torch.from_numpy(values.astype(numpy.float64)) for values in (one, two)]
    found = metric_kid.kid_features_to_metric(*tensors, **settings)
    return {"mean": found[metric_kid.KEY_METRIC_KID_MEAN], "deviation": found[metric_kid.KEY_METRIC_KID_STD]}


def network() -> onnx.ModelProto:
    """Two branches, one of which pools, joined, and averaged: three features of pictures 0 to 1."""
    draw = numpy.random.default_rng(SEED)
    weights = {
        "conv": draw.normal(size=(4, 3, 3, 3)) / 3,
        "scale": draw.uniform(0.5, 1.5, 4),
        "shift": draw.normal(size=4) / 4,
        "mean": draw.normal(size=4) / 4,
        "variance": draw.uniform(0.5, 1.5, 4),
        "project": draw.normal(size=(7, 3)),
    }
    nodes = [
        helper.make_node("Conv", ["image", "conv"], ["a"], pads=[1, 1, 1, 1]),
        helper.make_node("BatchNormalization", ["a", "scale", "shift", "mean", "variance"], ["b"]),
        helper.make_node("Relu", ["b"], ["c"]),
        helper.make_node("MaxPool", ["c"], ["d"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("AveragePool", ["image"], ["e"], kernel_shape=[3, 3], strides=[2, 2]),
        helper.make_node("Concat", ["d", "e"], ["f"], axis=1),
        helper.make_node("GlobalAveragePool", ["f"], ["g"]),
        helper.make_node("Flatten", ["g"], ["h"]),
        helper.make_node("MatMul", ["h", "project"], ["features"]),
    ]
    stored = [numpy_helper.from_array(value.astype(numpy.float32), name) for name, value in weights.items()]
    image = helper.make_tensor_value_info("image", TensorProto.FLOAT, ["n", 3, SIDE, SIDE])
    outputs = [helper.make_tensor_value_info("features", TensorProto.FLOAT, ["n", 3])]
    graph = helper.make_graph(nodes, "features", [image], outputs, stored)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8)
    onnx.checker.check_model(model)
    return model


def features_of(model: onnx.ModelProto, names: range) -> numpy.ndarray:
    """onnxruntime's features of pictures, resized as clean-fid does."""
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    pictures = []
    for name in names:
        image = numpy.array(Image.open(PICTURES / f"{name}.png").convert("RGB")).astype(numpy.float32)
        channels = [Image.fromarray(channel) for channel in image.transpose(2, 0, 1)]
        resized = [numpy.array(channel.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) for channel in channels]
        pictures.append(numpy.stack(resized).clip(0, 255) / 255)
    return session.run(None, {"image": numpy.stack(pictures).astype(numpy.float32)})[0]


class TextHalf(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        pooled = self.model.text_model(input_ids=input_ids).pooler_output
        return self.model.text_projection(pooled)


class VisionHalf(torch.nn.Module):
    def __init__(self, model):
        super().__init__()
        self.model = model

    def forward(self, pixel_values):
        pooled = self.model.vision_model(pixel_values=pixel_values).pooler_output
        return self.model.visual_projection(pooled)


def clip(folder: pathlib.Path) -> list[float]:
    """Writes a tiny CLIP, and its halves as ONNX files; returns 100 times the cosines of the first four pictures."""
    torch.manual_seed(SEED)
    text = {"vocab_size": 49408, "hidden_size": 8, "intermediate_size": 16, "num_hidden_layers": 1}
    text |= {"num_attention_heads": 2, "projection_dim": 6}
    vision = {"hidden_size": 16, "intermediate_size": 32, "num_hidden_layers": 2, "num_attention_heads": 2}
    vision |= {"image_size": SIDE, "patch_size": 8, "projection_dim": 6}
    tokenizer = transformers.CLIPTokenizer.from_pretrained(TOKENIZER)
    text |= {"vocab_size": len(tokenizer), "eos_token_id": tokenizer.eos_token_id}
    config = transformers.CLIPConfig(text_config=text, vision_config=vision, projection_dim=6)
    config._attn_implementation = "eager"
    model = transformers.CLIPModel(config).eval()
    with torch.no_grad():
        for weights in model.parameters():
            weights.normal_(std=0.3)
    processor = transformers.CLIPImageProcessorPil(size={"shortest_edge": SIDE}, crop_size={"height": SIDE, "width": SIDE})
    pictures = [Image.open(PICTURES / f"{name}.png").convert("RGB") for name in range(4)]
    captions = [(PICTURES / f"{name}.txt").read_text().strip() for name in range(4)]
    pixels = processor(pictures, return_tensors="pt")["pixel_values"]
    ids = tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt")["input_ids"]
    halves = [
        ("text_model.onnx", TextHalf(model), ids[:1], "input_ids", "text_embeds"),
        ("vision_model.onnx", VisionHalf(model), pixels[:2], "pixel_values", "image_embeds"),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    model.save_pretrained(folder)
    (folder / "generation_config.json").unlink(missing_ok=True)
    for name, half, example, source, result in halves:
        axes = {source: {0: "n"}, result: {0: "n"}}
        names = {"input_names": [source], "output_names": [result], "dynamic_axes": axes}
        torch.onnx.export(half, (example,), folder / name, opset_version=17, dynamo=False, **names)
    with torch.no_grad():
        embeddings = [TextHalf(model)(ids), VisionHalf(model)(pixels)]
    scores = 100 * torch.nn.functional.cosine_similarity(*[own.double() for own in embeddings])
    return scores.tolist()


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden/evaluate")
    folder.mkdir(parents=True, exist_ok=True)
    sets = features()
    save_file(sets, folder / "features.safetensors")
    own = {name: statistics(values) for name, values in sets.items()}
    numpy.savez(folder / "statistics.npz", **own["a"])
    numpy.savez_compressed(folder / "statistics_compressed.npz", **own["a"])
    frechet = []
    for pair in ("a b", "b a", "a few", "few fewer", "fewer few", "b constant", "a a"):
        one, two = pair.split()
        found = metric_fid.fid_statistics_to_metric(own[one], own[two], False)
        row = {"sets": [one, two], "torch_fidelity": found[metric_fid.KEY_METRIC_FID]}
        # Of singular products scipy has no root that means anything.
        if pair in ("a b", "b a", "a a"):
            row["scipy"] = by_root(own[one], own[two])
        frechet.append(row)
    distances = {"frechet": frechet, "kernel": {"subsets": SUBSETS, "size": SUBSET_SIZE, "seed": SUBSET_SEED}}
    distances["kernel"] |= kernel(sets["a"], sets["b"])
    model = network()
    (folder / "features.onnx").write_bytes(model.SerializeToString())
    found = [statistics(features_of(model, names)) for names in (range(4), range(4, 8))]
    distances["pictures"] = {"fid": by_root(*found)}
    distances["clip"] = clip(folder / "clip")
    packages = ("numpy", "onnxruntime", "pillow", "scipy", "torch", "torch-fidelity", "transformers")
    versions = {name: importlib.metadata.version(name) for name in packages}
    distances["made_by"] = {"script": "tests/scripts/make_evaluate_goldens.py", "seed": SEED, "versions": versions}
    (folder / "distances.json").write_text(json.dumps(distances, indent=1) + "\n")


if __name__ == "__main__":
    main()
