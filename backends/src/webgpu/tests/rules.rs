//! What the rules of commands refuse, and in which words.

use compiler::DType;
use compiler::region::RegionId;
use compiler::target::Limits;
use compiler::value::extents::Extents;

use super::super::WGSL;
use super::{arena, commands, constant, floats, kernel, page, port};
use crate::gpu::commands::{
    ALIGNMENT, Argument, Binding, Commands, Hosted, Launch, Pool, Port, Requirements, StoredAs,
};
use crate::gpu::validate::{requirements, validate};

/// Breaks good commands and holds the message against what is wanted.
fn check(break_it: impl FnOnce(&mut Commands), message: &str) {
    let mut broken = commands();
    break_it(&mut broken);
    let found = validate(broken, &WGSL)
        .map(|_| ())
        .map_err(|e| e.to_string());
    assert_eq!(found, Err(message.to_owned()));
}

/// Good commands whose first kernel has another text with no bindings.
fn with_text(commands: &mut Commands, wgsl: &str) {
    commands.kernels[0] = kernel("increment", wgsl, &[]);
    commands.launches[0].arguments.clear();
}

/// A kernel of so many invocations with so many bytes of memory of its workgroup.
fn sized(invocations: u32, floats: u32) -> String {
    format!(
        "var<workgroup> tile: array<f32, {floats}>;\n\
         @compute @workgroup_size({invocations})\n\
         fn main() {{ tile[0] = 1.0; }}\n"
    )
}

#[test]
fn good_commands_need_what_they_use() {
    let needed = requirements(&commands(), &WGSL).expect("good commands");
    let wanted = Requirements {
        limits: Limits {
            alignment: ALIGNMENT,
            binding_bytes_max: 24,
            buffer_bytes_max: 768,
            buffers_max: 3,
            shared_bytes_max: 0,
            invocations_max: 64,
            groups_max: 1,
            warp: 0,
        },
        shader_f16: false,
    };
    assert_eq!(needed, wanted);
    assert!(validate(commands(), &WGSL).is_ok());
    let exactly = Commands {
        requirements: needed,
        ..commands()
    };
    assert!(validate(exactly, &WGSL).is_ok());
}

#[test]
fn indices_and_windows() {
    check(
        |c| c.launches[1].kernel = 2,
        "launch 1 of r1 names kernel 2 of 2 (W1)",
    );
    check(
        |c| c.inputs[0].window.buffer = 1,
        "\"x\" of the inputs has the window of bytes 0 to 24 of slab 1, which does not exist (W1)",
    );
    check(
        |c| c.outputs[0].window.offset = 130,
        "\"y\" of the results has the window of bytes 130 to 154 of slab 0, wanted whole words \
         within its 768 bytes (W2)",
    );
    check(
        |c| c.launches[0].arguments[1].offset = 128,
        "argument 1 of kernel \"increment\" of r0 has the window of bytes 128 to 152 of slab 0, \
         wanted one from a multiple of 256 (W2)",
    );
    check(
        |c| c.launches[0].arguments[1].offset = u64::MAX - 255,
        "argument 1 of kernel \"increment\" of r0 has the window of bytes 18446744073709551360 to \
         18446744073709551384 of slab 0, wanted whole words within its 768 bytes (W2)",
    );
    check(
        |c| c.uploads[0].window = page(512, 12),
        "weight \"scale\" has the window of bytes 512 to 524 of page 0, wanted whole words \
         within its 512 bytes (W2)",
    );
    check(
        |c| {
            c.hosted.push(Hosted {
                region: RegionId(9),
                before: 3,
                reads: Vec::new(),
                stores: Vec::new(),
            });
        },
        "r9 of the host comes after 3 launches of 2 (W1)",
    );
    check(
        |c| c.weights.push(6),
        "a buffer of 6 bytes is none of whole words (W2)",
    );
}

#[test]
fn arguments() {
    check(
        |c| c.launches[0].arguments.truncate(1),
        "kernel \"increment\" of r0 is given [ReadWrite], wanted [ReadWrite, ReadWrite] (W3)",
    );
    check(
        |c| c.launches[1].arguments[0] = arena(0, 12),
        "kernel \"scale\" of r1 is given [ReadWrite, ReadWrite, ReadWrite], wanted [Read, \
         ReadWrite, ReadWrite] (W3)",
    );
    check(
        |c| c.launches[0].arguments = vec![arena(256, 24), arena(0, 260)],
        "kernel \"increment\" of r0 is given bytes 0 to 260 of slab 0 and bytes 256 to 280 of slab \
         0, which overlap (W4)",
    );
    check(
        |c| c.launches[1].arguments[0].bytes = 0,
        "argument 0 of kernel \"scale\" of r1 has 0 bytes, its text wants 4 (W5)",
    );
}

#[test]
fn texts() {
    check(
        |c| {
            with_text(
                c,
                "@compute @workgroup_size(1)\nfn main() {\n    let a: f32 = 1u;\n}",
            )
        },
        "kernel \"increment\" of r0 (the test's increment): naga refuses line 3 `let a: f32 = \
         1u;`: the type of `a` is expected to be `f32`, but got `u32` (W5)",
    );
    check(
        |c| with_text(c, "enable f16;\n@compute @workgroup_size(1)\nfn main() {}"),
        "kernel \"increment\" of r0 (the test's increment): naga refuses line 1 `enable f16;`: the \
         `f16` extension is not supported in the current environment (W5)",
    );
    check(
        |c| with_text(c, "@compute @workgroup_size(1)\nfn other() {}"),
        "kernel \"increment\" of r0 (the test's increment): found entry points [\"other\"], wanted \
         one compute shader \"main\" (W5)",
    );
    check(
        |c| with_text(c, "@compute @workgroup_size(8, 8)\nfn main() {}"),
        "kernel \"increment\" of r0 (the test's increment): found a workgroup of [8, 8, 1], wanted \
         a known size along the first axis alone (W5)",
    );
    check(
        |c| {
            let text = "@group(0) @binding(0) var<uniform> u: vec4<f32>;\n\
                        @compute @workgroup_size(1)\nfn main() { let a = u; }";
            with_text(c, text);
        },
        "kernel \"increment\" of r0 (the test's increment): the variable \"u\" is not a \
         storage buffer of group 0 or workgroup memory (W5)",
    );
    check(
        |c| c.kernels[0].text = c.kernels[0].text.replace("binding(1)", "binding(2)"),
        "kernel \"increment\" of r0 (the test's increment): found bindings [0, 2], wanted one of \
         each number from 0 (W5)",
    );
    check(
        |c| c.kernels[1].bindings[0] = Binding::ReadWrite,
        "kernel \"scale\" of r1 declares [ReadWrite, ReadWrite, ReadWrite], its text [Read, \
         ReadWrite, ReadWrite] (W5)",
    );
}

#[test]
fn limits() {
    check(
        |c| with_text(c, &sized(512, 1)),
        "kernel \"increment\" of r0 needs more than is required: \
         maxComputeInvocationsPerWorkgroup is 256, wanted 512 (W6)",
    );
    check(
        |c| with_text(c, &sized(64, 4097)),
        "kernel \"increment\" of r0 needs more than is required: maxComputeWorkgroupStorageSize \
         is 16384, wanted 16400 (W6)",
    );
    check(
        |c| c.requirements.limits.buffers_max = 2,
        "kernel \"scale\" of r1 needs more than is required: maxStorageBuffersPerShaderStage is \
         2, wanted 3 (W6)",
    );
    check(
        |c| c.launches[0].grid[1] = 65_536,
        "kernel \"increment\" of r0 needs more than is required: \
         maxComputeWorkgroupsPerDimension is 65535, wanted 65536 (W6)",
    );
    check(
        |c| c.requirements.limits.binding_bytes_max = 20,
        "kernel \"increment\" of r0 needs more than is required: maxStorageBufferBindingSize is \
         20, wanted 24 (W6)",
    );
    check(
        |c| c.arena.push(1 << 40),
        "a buffer needs more than is required: maxBufferSize is 268435456, wanted 1099511627776 \
         (W6)",
    );
}

#[test]
fn states_and_copies() {
    let state = || Port {
        window: Argument {
            pool: Pool::States,
            ..arena(0, 24)
        },
        ..port("s", floats(6), 0)
    };
    let with = |change: fn(&mut Commands)| {
        move |c: &mut Commands| {
            c.states.push(state());
            c.copies.push((arena(512, 24), state().window));
            change(c);
        }
    };
    let mut good = commands();
    with(|_| {})(&mut good);
    assert!(validate(good, &WGSL).is_ok());
    check(
        with(|c| c.states[0].window.pool = Pool::Arena),
        "\"s\" of the states has the window of bytes 0 to 24 of slab 0, wanted its own buffer (W8)",
    );
    check(
        with(|c| c.inputs[0].window.pool = Pool::States),
        "\"x\" of the inputs has the window of bytes 0 to 24 of state 0, wanted one in the arena (W8)",
    );
    check(
        with(|c| c.copies[0].0.bytes = 20),
        "copy 0 has the window of bytes 0 to 24 of state 0, wanted as many bytes as are copied (W8)",
    );
    check(
        with(|c| c.copies[0].1 = page(0, 24)),
        "copy 0 has the window of bytes 0 to 24 of page 0, wanted one that may be written (W8)",
    );
    check(
        with(|c| c.copies.push(c.copies[0])),
        "copy 1 has the window of bytes 0 to 24 of state 0, wanted one that no other copy goes to \
         (W8)",
    );
}

#[test]
fn ports_and_uploads() {
    check(
        |c| c.outputs.push(c.outputs[0].clone()),
        "\"y\" is given twice among results (W7)",
    );
    check(
        |c| c.uploads.push(c.uploads[0].clone()),
        "weight \"scale\" is given twice among uploads (W7)",
    );
    check(
        |c| c.inputs[0].window.bytes = 20,
        "\"x\" of the inputs has 20 bytes, wanted 24 for f32 [6] stored as F32 (W7)",
    );
    check(
        |c| c.inputs[0].stored = StoredAs::I32,
        "\"x\" of the inputs has 24 bytes, wanted 24 for f32 [6] stored as I32 (W7)",
    );
    check(
        |c| {
            c.inputs[0].extents = Extents {
                dtype: DType::F32,
                shape: vec![usize::MAX, 8],
            }
        },
        "\"x\" of the inputs has 24 bytes, wanted 0 for f32 [18446744073709551615, 8] stored as \
         F32 (W7)",
    );
    check(
        |c| c.uploads[0].order = vec![0, 0],
        "weight \"scale\" orders axes as [0, 0], wanted each of 2 once (W7)",
    );
}

#[test]
fn constants_and_weights_are_told_apart() {
    let mut good = commands();
    good.uploads.push(good.uploads[0].clone());
    good.uploads[1].source = constant(7);
    assert!(validate(good, &WGSL).is_ok());
}

#[test]
fn sixteen_bit_floats_need_the_feature() {
    let mut half = commands();
    let text = "enable f16;\nvar<workgroup> tile: array<f16, 4>;\n\
                @compute @workgroup_size(1)\nfn main() { tile[0] = 1.0h; }";
    with_text(&mut half, text);
    let needed = requirements(&half, &WGSL).expect("good commands");
    assert!(needed.shader_f16);
    assert!(validate(half.clone(), &WGSL).is_err());
    half.requirements.shader_f16 = true;
    assert!(validate(half, &WGSL).is_ok());
}

#[test]
fn nothing_to_launch_is_nothing_wrong() {
    let mut idle = commands();
    idle.launches = vec![Launch {
        grid: [0, 1, 1],
        ..idle.launches[0].clone()
    }];
    assert!(validate(idle, &WGSL).is_ok());
}
