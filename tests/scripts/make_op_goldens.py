"""Make tests/golden/ops.json and ops.safetensors: what each graph operator must compute.

Takes: the folder to write to (default tests/golden).
Gives: small cases of every operator, computed by torch and numpy in float64 and rounded once.
Never: reads the compiler; its operators are spelled out here a second time.
"""

import json
import pathlib
import sys

import numpy
import torch
from safetensors.torch import save_file

from op_cases import Cases
from op_cases_attention import attention_gradients
from op_cases_movement import movement
from op_cases_network import network
from op_cases_pointwise import pointwise


def main():
    folder = pathlib.Path(sys.argv[1] if len(sys.argv) > 1 else "tests/golden")
    torch.set_num_threads(1)
    cases = Cases()
    pointwise(cases)
    network(cases)
    attention_gradients(cases)
    movement(cases)
    made = f"tests/scripts/make_op_goldens.py, torch {torch.__version__}, numpy {numpy.__version__}"
    rows = ",\n".join(json.dumps(row) for row in cases.rows)
    header = json.dumps({"made_by": made})[:-1]
    (folder / "ops.json").write_text(f'{header}, "cases": [\n{rows}\n]}}\n')
    save_file(cases.tensors, folder / "ops.safetensors")
    print(f"{len(cases.rows)} cases of {len(cases.counts)} operators")


if __name__ == "__main__":
    main()
