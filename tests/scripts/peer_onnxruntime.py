#!/usr/bin/env python3
"""`splamc run`, answered by onnxruntime: a second opinion on any ONNX graph.

Takes: `run MODEL.onnx --inputs IN.safetensors --outputs OUT.safetensors`, as splamc does.
Gives: OUT.safetensors with one tensor per graph output, computed by onnxruntime on the CPU.
Never: anything splamc has to agree with bit for bit; onnxruntime is a peer, not the definition.

Needs: numpy, safetensors, onnxruntime.
Example, which checks the conformance driver itself:
  python3 tests/scripts/onnx_conformance.py --splamc python3 tests/scripts/peer_onnxruntime.py
"""

import argparse
import sys

import onnxruntime
from safetensors.numpy import load_file, save_file


def main() -> int:
    """Runs one graph once."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("command", choices=["run"])
    parser.add_argument("model")
    parser.add_argument("--inputs", required=True)
    parser.add_argument("--outputs", required=True)
    options = parser.parse_args()
    settings = onnxruntime.SessionOptions()
    settings.intra_op_num_threads = 1
    settings.log_severity_level = 4
    try:
        session = onnxruntime.InferenceSession(
            options.model, settings, providers=["CPUExecutionProvider"]
        )
        names = [output.name for output in session.get_outputs()]
        outputs = session.run(names, load_file(options.inputs))
    except Exception as error:  # onnxruntime's errors share no narrower base
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    save_file(dict(zip(names, outputs, strict=True)), options.outputs)
    return 0


if __name__ == "__main__":
    sys.exit(main())
