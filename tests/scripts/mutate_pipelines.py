#!/usr/bin/env python3
"""Change whole pipelines and the places of outputs at random, and check what `splamc` makes of them.

Takes: a built `splamc`, `examples/tiny-model`, and the ONNX graphs in `tests/golden`.
Prints: one line per misbehaving run, with the seed and number that repeat it, then counts by check;
exit code 1 when a run misbehaved.
Never: writes outside of its scratch folder, or touches the network.

Each run makes one of CHECKS. A check changes something that has to be understood, ignored, refused
with certain words, or to mean the same as another spelling, which the same `splamc` samples too.
The check `anything` combines changes of all kinds with outputs of all kinds, and asks only for
what always holds (`pipeline_run.Run.finish`, `pipeline_outputs.write_to`).

Each run is a function of (seed, number) alone: `--seed S --only N` repeats run N, but for the moment
at which another process acts. Needs Python only.
Example: python3 tests/scripts/mutate_pipelines.py --tries 300
"""

import argparse
import random
import shutil

import mutate
import pipeline_checks as checks
import pipeline_outputs as outputs
from pipeline_run import Misbehaved, Run

CHECKS = [
    outputs.anything,
    outputs.output,
    outputs.output_name,
    outputs.standard_output,
    outputs.failed_compile,
    outputs.changed_meanwhile,
    checks.two_schedulers,
    checks.class_of_config,
    checks.named_scheduler,
    checks.steps_by_hand,
    checks.noise_of_tcd,
    checks.added_token,
    checks.missing_token,
    checks.spare_key,
    checks.old_key,
    checks.node_order,
    checks.dtype_of_graph,
    checks.operator,
    checks.not_finite,
    checks.pointer,
    checks.cut_file,
    checks.other_network,
    checks.other_pipeline,
    checks.missing_blob,
    checks.unknown_scheduler,
    checks.options,
    checks.cache_entry,
    checks.drivers,
    checks.open_sizes,
    checks.target_alone,
]
OFTEN = 10  # How much more often than another check `anything` is made.


def run_number(number, arguments, scratch):
    """One run; returns its check, the complaint, and what to print."""
    rng = random.Random(f"{arguments.seed}-{number}")
    chosen = [check for check in CHECKS if arguments.check in (None, check.__name__)]
    check = rng.choices(chosen, [OFTEN if check is outputs.anything else 1 for check in chosen])[0]
    run, wrong = Run(rng, scratch / f"run-{number}", arguments), None
    try:
        check(run)
    except Misbehaved as complaint:
        wrong = f"{check.__name__}: {complaint}"
    closed = run.folder / "closed"
    if closed.exists():
        closed.chmod(0o755)
    if not (wrong and arguments.keep):
        shutil.rmtree(run.folder)
    return check.__name__, wrong, "\n    ".join([f"run {number}", *run.lines])


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tries", type=int, default=300)
    parser.add_argument("--check", choices=[check.__name__ for check in CHECKS], help="make this check alone")
    arguments = mutate.arguments(parser, seconds=60)

    def prepared(scratch):
        scratch.chmod(0o755)  # Some commands run as a user without rights.
        return lambda number: run_number(number, arguments, scratch)

    mutate.carry_out(arguments, arguments.tries, prepared)


if __name__ == "__main__":
    main()
