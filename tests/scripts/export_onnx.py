#!/usr/bin/env python3
"""Export a diffusers pipeline to ONNX in the layout that optimum writes, and check it.

Takes: MODEL_DIR, a diffusers pipeline directory, or one that holds only some of `unet/`, `vae/`,
`text_encoder/`.
Gives: OUT_DIR with `unet/model.onnx`, `text_encoder/model.onnx`, `vae_decoder/model.onnx`,
`vae_encoder/model.onnx` (those whose component is there), each beside its `config.json`, and copies
of `model_index.json`, `scheduler/`, `tokenizer/`. Prints how far onnxruntime is from torch at the
traced shapes and at others; exit code 1 when further than the tolerance.
Never: downloads, converts or optimises anything.

| graph | inputs | outputs |
|---|---|---|
| unet | sample [B,4,H,W], timestep, encoder_hidden_states [B,T,D], then where the config asks for them timestep_cond [B,C], text_embeds [B,E], time_ids [B,6] | out_sample |
| text_encoder | input_ids [B,T] | last_hidden_state, pooler_output |
| vae_decoder | latent_sample [B,4,h,w], already divided by the scaling factor | sample |
| vae_encoder | sample [B,3,H,W] | latent_parameters (mean, log-variance) |

Batch, height, width and the token count are dynamic axes.
Needs: requirements-dev.txt.
Example: python3 tests/scripts/export_onnx.py examples/tiny-model out --exporter torchscript --opset 17
"""  # noqa: E501 (a table row is one line)

import argparse
import dataclasses
import itertools
import logging
import pathlib
import shutil
import sys
import tempfile
import warnings
from collections.abc import Callable

import numpy as np
import onnx
import onnxruntime
import torch
import transformers
from diffusers import AutoencoderKL, UNet2DConditionModel
from diffusers.models.attention_processor import AttnProcessor
from transformers import CLIPTextModel

SEED = 0
# Largest |onnxruntime - torch| allowed, as a share of the output's largest magnitude. f16 holds 11
# bits, and the two libraries round after different operators.
TOLERANCE = {torch.float32: 2e-5, torch.float16: 2e-2}
# The SDXL UNet's size conditioning: original height and width, crop top and left, target size.
TIME_IDS = 6


@dataclasses.dataclass
class Graph:
    """One graph to export: the module, its named example inputs at a size, its dynamic axes."""

    name: str
    module: torch.nn.Module
    inputs: Callable[[int], dict[str, torch.Tensor]]
    outputs: list[str]
    axes: dict[str, dict[int, str]]
    config_from: pathlib.Path


class Unet(torch.nn.Module):
    """UNet2DConditionModel with optimum's positional inputs."""

    def __init__(self, unet: UNet2DConditionModel, extra: list[str]):
        """`extra` names the inputs that follow encoder_hidden_states."""
        super().__init__()
        self.unet, self.extra = unet, extra

    def forward(self, sample, timestep, encoder_hidden_states, *extra):
        """Gives the predicted noise, velocity or sample."""
        given = dict(zip(self.extra, extra, strict=True))
        added = {key: given[key] for key in ("text_embeds", "time_ids") if key in given}
        return self.unet(
            sample,
            timestep,
            encoder_hidden_states,
            timestep_cond=given.get("timestep_cond"),
            added_cond_kwargs=added or None,
            return_dict=False,
        )[0]


class TextEncoder(torch.nn.Module):
    """CLIPTextModel from ids alone."""

    def __init__(self, model: CLIPTextModel):
        """Keeps the model."""
        super().__init__()
        self.model = model

    def forward(self, input_ids):
        """Gives the states after the final norm, and the state at the end token."""
        out = self.model(input_ids=input_ids)
        return out.last_hidden_state, out.pooler_output


class VaeDecoder(torch.nn.Module):
    """AutoencoderKL.decode."""

    def __init__(self, vae: AutoencoderKL):
        """Keeps the autoencoder."""
        super().__init__()
        self.vae = vae

    def forward(self, latent_sample):
        """Gives the picture, about -1 to 1."""
        return self.vae.decode(latent_sample, return_dict=False)[0]


class VaeEncoder(torch.nn.Module):
    """AutoencoderKL.encode up to the posterior's parameters."""

    def __init__(self, vae: AutoencoderKL):
        """Keeps the autoencoder."""
        super().__init__()
        self.vae = vae

    def forward(self, sample):
        """Gives mean and log-variance, one after the other on the channel axis."""
        return self.vae.encode(sample, return_dict=False)[0].parameters


def normal(dtype: torch.dtype, *shape: int) -> torch.Tensor:
    """Unit normal values."""
    return torch.randn(shape).to(dtype)


def unet_graph(folder: pathlib.Path, options: argparse.Namespace, dtype: torch.dtype) -> Graph:
    """The denoising network; extra inputs follow from its config."""
    unet = UNet2DConditionModel.from_pretrained(folder, torch_dtype=dtype).eval()
    if options.attention == "plain":
        unet.set_attn_processor(AttnProcessor())
    config = unet.config
    extra: dict[str, int] = {}
    if config.time_cond_proj_dim:
        extra["timestep_cond"] = config.time_cond_proj_dim
    if config.addition_embed_type == "text_time":
        time_width = TIME_IDS * config.addition_time_embed_dim
        extra["text_embeds"] = config.projection_class_embeddings_input_dim - time_width
        extra["time_ids"] = TIME_IDS

    def inputs(size: int) -> dict[str, torch.Tensor]:
        batch = size + 1
        factor = 2 ** (len(config.block_out_channels) - 1)
        timestep = {
            "scalar": torch.tensor(981.0).to(dtype),
            "int64": torch.tensor([981]),
            "batch": torch.arange(batch).to(dtype) * 7 + 300,
        }[options.timestep]
        given = {
            "sample": normal(
                dtype, batch, config.in_channels, factor * (3 + size), factor * (4 + size)
            ),
            "timestep": timestep,
            "encoder_hidden_states": normal(dtype, batch, 77, config.cross_attention_dim),
        }
        return given | {key: normal(dtype, batch, width) for key, width in extra.items()}

    axes = {
        "sample": {0: "batch", 2: "height", 3: "width"},
        "timestep": {0: "batch"} if options.timestep == "batch" else {},
        "encoder_hidden_states": {0: "batch", 1: "tokens"},
        **{key: {0: "batch"} for key in extra},
        "out_sample": {0: "batch", 2: "height", 3: "width"},
    }
    return Graph("unet", Unet(unet, list(extra)), inputs, ["out_sample"], axes, folder)


def text_graph(folder: pathlib.Path, options: argparse.Namespace, dtype: torch.dtype) -> Graph:
    """The CLIP text tower."""
    implementation = "sdpa" if options.attention == "sdpa" else "eager"
    model = CLIPTextModel.from_pretrained(folder, dtype=dtype, attn_implementation=implementation)
    ids_dtype = torch.int32 if options.ids == "int32" else torch.int64

    def inputs(size: int) -> dict[str, torch.Tensor]:
        # Fewer tokens than 77 too: some exporters write the position table's length down.
        tokens = model.config.max_position_embeddings - 5 * abs(size - 1)
        return {
            "input_ids": torch.randint(model.config.vocab_size, (size + 1, tokens)).to(ids_dtype)
        }

    axes = {
        "input_ids": {0: "batch", 1: "tokens"},
        "last_hidden_state": {0: "batch", 1: "tokens"},
        "pooler_output": {0: "batch"},
    }
    outputs = ["last_hidden_state", "pooler_output"]
    return Graph("text_encoder", TextEncoder(model.eval()), inputs, outputs, axes, folder)


def vae_graphs(
    folder: pathlib.Path, options: argparse.Namespace, dtype: torch.dtype
) -> list[Graph]:
    """The two halves of the autoencoder."""
    vae = AutoencoderKL.from_pretrained(folder, torch_dtype=dtype).eval()
    if options.attention == "plain":
        vae.set_attn_processor(AttnProcessor())
    config = vae.config
    factor = 2 ** (len(config.block_out_channels) - 1)
    names = {0: "batch", 2: "height", 3: "width"}

    def latents(size: int) -> dict[str, torch.Tensor]:
        return {
            "latent_sample": normal(dtype, size + 1, config.latent_channels, 4 + size, 5 + size)
        }

    def images(size: int) -> dict[str, torch.Tensor]:
        height, width = factor * (2 + size), factor * (3 + size)
        return {"sample": normal(dtype, size + 1, config.in_channels, height, width)}

    latent_names = {0: "batch", 2: "latent_height", 3: "latent_width"}
    decoder_axes = {"latent_sample": latent_names, "sample": names}
    encoder_axes = {"sample": names, "latent_parameters": latent_names}
    return [
        Graph("vae_decoder", VaeDecoder(vae), latents, ["sample"], decoder_axes, folder),
        Graph("vae_encoder", VaeEncoder(vae), images, ["latent_parameters"], encoder_axes, folder),
    ]


def export(graph: Graph, path: pathlib.Path, options: argparse.Namespace) -> None:
    """Writes one graph, by the exporter and the opset that the options name."""
    example = graph.inputs(1)
    common = {
        "input_names": list(example),
        "output_names": graph.outputs,
        "opset_version": options.opset,
    }
    arguments = tuple(example.values())
    if options.exporter == "torchscript":
        axes = {key: names for key, names in graph.axes.items() if names}
        torch.onnx.export(graph.module, arguments, str(path), dynamic_axes=axes, dynamo=False, **common)
        return
    shapes = [
        {axis: torch.export.Dim.DYNAMIC for axis in graph.axes[key]} or None for key in example
    ]
    if len(shapes) > 3:
        # Unet.forward takes the inputs past the third as one tuple.
        shapes = [*shapes[:3], tuple(shapes[3:])]
    program = torch.onnx.export(
        graph.module, arguments, dynamic_shapes=tuple(shapes), dynamo=True, verbose=False, **common
    )
    for value in [*program.model.graph.inputs, *program.model.graph.outputs]:
        dims = [graph.axes.get(value.name, {}).get(i, dim) for i, dim in enumerate(value.shape)]
        value.shape = type(value.shape)(dims)
    program.save(path, external_data=options.external_data)


def drop_notes(path: pathlib.Path) -> None:
    """Drops what the exporter notes about its own machine: stack traces, file names, docs."""
    model = onnx.load(path, load_external_data=False)
    for owner in [model, model.graph, *model.functions]:
        owner.ClearField("metadata_props")
        owner.ClearField("doc_string")
    graph = model.graph
    bodies = [graph.node, graph.input, graph.output, graph.value_info, graph.initializer]
    bodies += [function.node for function in model.functions]
    for item in itertools.chain(*bodies):
        item.ClearField("metadata_props")
        item.ClearField("doc_string")
    path.write_bytes(model.SerializeToString(deterministic=True))


def move_weights_out(path: pathlib.Path) -> None:
    """Moves the initialisers of 100 bytes and more to `model.onnx_data`, as optimum does."""
    model = onnx.load(path)
    onnx.save_model(
        model,
        path,
        save_as_external_data=True,
        all_tensors_to_one_file=True,
        location=f"{path.name}_data",
        size_threshold=100,
    )


def worst_share(graph: Graph, path: pathlib.Path) -> float:
    """Largest difference of onnxruntime to torch over sizes 1 (traced), 0 and 2, as a share."""
    session = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])
    worst = 0.0
    for size in (1, 0, 2):
        example = graph.inputs(size)
        with torch.no_grad():
            want = graph.module(*example.values())
        want = [w.float().numpy() for w in (want if isinstance(want, tuple) else (want,))]
        taken = {value.name for value in session.get_inputs()}
        given = {key: value.numpy() for key, value in example.items() if key in taken}
        got = session.run(graph.outputs, given)
        for g, w in zip(got, want, strict=True):
            difference = np.abs(g.astype(np.float64) - w).max() / np.abs(w).max()
            worst = max(worst, float(difference) if np.isfinite(difference) else np.inf)
    return worst


def graphs_of(options: argparse.Namespace, dtype: torch.dtype) -> list[Graph]:
    """The graphs of the components that the model directory holds."""
    model = options.model_dir
    graphs = []
    if (model / "unet").is_dir():
        graphs.append(unet_graph(model / "unet", options, dtype))
    if (model / "text_encoder").is_dir():
        graphs.append(text_graph(model / "text_encoder", options, dtype))
    if (model / "vae").is_dir():
        graphs.extend(vae_graphs(model / "vae", options, dtype))
    return graphs


def export_all(options: argparse.Namespace, dtype: torch.dtype, out: pathlib.Path) -> bool:
    """Exports and checks every graph below `out`; says whether one is too far from torch."""
    far = False
    for graph in graphs_of(options, dtype):
        folder = out / graph.name
        folder.mkdir()
        path = folder / "model.onnx"
        with torch.no_grad():
            export(graph, path, options)
        if options.external_data and options.exporter == "torchscript":
            move_weights_out(path)
        if not options.keep_notes:
            drop_notes(path)
        shutil.copyfile(graph.config_from / "config.json", folder / "config.json")
        worst = worst_share(graph, path)
        far |= worst > TOLERANCE[dtype]
        files = sum(file.stat().st_size for file in folder.iterdir())
        nodes = len(onnx.load(path, load_external_data=False).graph.node)
        print(f"{graph.name}: {nodes} nodes, {files} bytes, onnxruntime off torch by {worst:.1e}")
    return far


def copy_rest(source: pathlib.Path, out: pathlib.Path) -> None:
    """Copies what a pipeline needs beside its graphs."""
    if (source / "model_index.json").is_file():
        shutil.copyfile(source / "model_index.json", out / "model_index.json")
    for name in ("scheduler", "tokenizer"):
        if (source / name).is_dir():
            shutil.copytree(source / name, out / name, copy_function=shutil.copyfile)


def parse_arguments() -> argparse.Namespace:
    """Reads the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("model_dir", type=pathlib.Path)
    parser.add_argument("out_dir", type=pathlib.Path, help="is replaced when all graphs are done")
    parser.add_argument("--exporter", choices=["torchscript", "dynamo"], required=True)
    parser.add_argument("--opset", type=int, required=True)
    parser.add_argument("--fp16", action="store_true", help="half-precision weights and inputs")
    parser.add_argument("--external-data", action="store_true", help="weights in a file beside")
    parser.add_argument(
        "--timestep",
        choices=["scalar", "int64", "batch"],
        default="scalar",
        help="float [] as optimum writes today, i64 [1] as it once did, or float [B]",
    )
    parser.add_argument("--ids", choices=["int32", "int64"], default="int32")
    parser.add_argument(
        "--attention",
        choices=["sdpa", "plain"],
        default="sdpa",
        help="how torch spells attention: one fused call, or matmul, softmax, matmul"
        " (which TorchScript needs for a text encoder in f16)",
    )
    parser.add_argument(
        "--keep-notes", action="store_true", help="keep the exporter's stack traces and docs"
    )
    return parser.parse_args()


def main() -> int:
    """Exports every graph, checks it, and puts the folder in place."""
    options = parse_arguments()
    torch.manual_seed(SEED)
    # Both exporters report, at length, what does not matter once onnxruntime agrees with torch.
    warnings.simplefilter("ignore")
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    transformers.utils.logging.disable_progress_bar()
    dtype = torch.float16 if options.fp16 else torch.float32
    options.out_dir.parent.mkdir(parents=True, exist_ok=True)
    beside = pathlib.Path(tempfile.mkdtemp(prefix="export-", dir=options.out_dir.parent))
    try:
        far = export_all(options, dtype, beside)
    except BaseException:
        shutil.rmtree(beside)
        raise
    if far:
        print(f"further than {TOLERANCE[dtype]:.0e}: see {beside}", file=sys.stderr)
        return 1
    copy_rest(options.model_dir, beside)
    beside.chmod(0o755)
    shutil.rmtree(options.out_dir, ignore_errors=True)
    beside.rename(options.out_dir)
    return 0


if __name__ == "__main__":
    sys.exit(main())
