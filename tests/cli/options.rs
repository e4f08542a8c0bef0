//! Options that cannot be meant: exit code 2 before any work.

use crate::edit::floats;
use crate::{Case, check, whole};

#[rustfmt::skip]
const CASES: [Case; 34] = [
    ("no pixels", whole, "sample model -p x -W 0"),
    ("pixels between latents", whole, "sample model -p x -W 7"),
    ("a height beyond every machine", whole, "sample model -p x -H 18446744073709551612"),
    ("more than a number", whole, "sample model -p x -H 99999999999999999999"),
    ("no pictures", whole, "sample model -p x -b 0"),
    ("pictures beyond every machine", whole, "sample model -p x -b 1000000000000"),
    ("pictures beyond every machine, compiled", whole, "compile model --target cpu -b 1000000000000"),
    ("pictures beyond every machine, inspected", whole, "inspect model -b 1000000000000"),
    ("no steps", whole, "sample model -p x --steps 0"),
    ("more steps than timesteps", whole, "sample model -p x --steps 100000"),
    ("no threads", whole, "sample model -p x --threads 0"),
    ("threads beyond every machine", whole, "sample model -p x --threads 4611686018427387904"),
    ("a scale that is no number", whole, "sample model -p x --cfg-scale nan"),
    ("an endless scale", whole, "sample model -p x --cfg-scale inf"),
    ("too much rescaling", whole, "sample model -p x --guidance-rescale 2"),
    ("negative rescaling", whole, "sample model -p x --guidance-rescale -1"),
    ("an unknown sampler", whole, "sample model -p x --sampler swim"),
    ("noise that the sampler does not draw", whole, "sample model -p x --sampler euler --eta 0.5"),
    ("more noise than there is", whole, "sample model -p x --sampler ddim --eta 1.5"),
    ("noise that is no number", whole, "sample model -p x --sampler ddim --eta nan"),
    ("two curves of noise levels", whole, "sample model -p x --sampler euler --karras --beta"),
    ("timesteps that rise", whole, "sample model -p x --sampler lcm --timesteps 9,99"),
    ("timesteps that a sampler does not take", whole, "sample model -p x --sampler ddim --timesteps 99,9"),
    ("timesteps that are not as many as steps", whole, "sample model -p x --sampler lcm --timesteps 99,9 --steps 4"),
    ("noise levels without an end", whole, "sample model -p x --sampler euler --sigmas 9,1"),
    ("noise levels and timesteps", whole, "sample model -p x --sampler euler --sigmas 9,0 --timesteps 9"),
    ("a spacing that the sampler lacks", whole, "sample model -p x --sampler perflow --spacing trailing"),
    ("noise levels that the sampler lacks", whole, "sample model -p x --sampler ddim --karras"),
    ("two prompts for three pictures", whole, "sample model -p x -p y -b 3"),
    ("three negative prompts for two pictures", whole, "sample model -p x -p y -n a -n b -n c"),
    ("no prompt", whole, "sample model"),
    ("an unknown component", whole, "inspect model --component graph"),
    ("a binding without a size", whole, "inspect model --bind batch=0"),
    ("a size other than the latents'", |f| {
        floats(f, "x.safetensors", "init_latents", &[1, 4, 8, 8], 0.5);
    }, "sample model -p x --latents-in x.safetensors -W 64"),
];

#[test]
fn options_that_cannot_be_meant_are_refused() {
    check("options", &CASES);
}
