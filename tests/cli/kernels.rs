//! Kernels of graphics processors through the command: in the interpreter, which checks every
//! access, and on an adapter where there is one, against the processor.

use std::path::{Path, PathBuf};

use safetensors::tensor::TensorView;
use safetensors::{Dtype, serialize_to_file};

use crate::support::{compare_floats, golden, scratch, splamc};

/// Runs the command; gives whether it found what it needs.
fn run(arguments: &[&str]) -> Result<(), String> {
    let output = splamc().args(arguments).output().expect("the command runs");
    match output.status.success() {
        true => Ok(()),
        false => Err(String::from_utf8_lossy(&output.stderr).into_owned()),
    }
}

/// The kernels of whole pipelines at 8×8 latents, like Stable Diffusion 1, 2 and XL: none races,
/// leaves its buffers or loads what is undefined, and they compute what the processor does.
#[test]
fn the_kernels_of_pipelines_run_in_the_interpreter() {
    let folder = scratch("interpreter");
    // Guidance multiplies what was rounded: the processor in bf16 is off by 5e-2 with it, too.
    for (kind, model, guidance) in [
        ("sd1", "pipeline/model", "7.5"),
        ("sd2", "sd21/model", "1"),
        ("sdxl", "sdxl/model", "1"),
    ] {
        let model = golden(model).display().to_string();
        let sample = |name: &str, options: &[&str]| {
            let [picture, latents] =
                ["png", "st"].map(|kind| folder.join(format!("{name}.{kind}")));
            let (picture, latents) = (picture.display().to_string(), latents.display().to_string());
            let size = ["-W", "64", "-H", "64", "--steps", "1"];
            let size = [&size[..], &["--cfg-scale", guidance]].concat();
            let files = ["-o", &picture, "--latents-out", &latents];
            let fixed = ["sample", &model, "-p", "a"];
            run(&[&fixed[..], &size, &files, options].concat()).expect(name);
            PathBuf::from(latents)
        };
        let wanted = sample(&format!("{kind}-cpu"), &["--exact"]);
        // 16-bit values between kernels lose some 1e-3 each.
        for (target, dtype, tolerance) in [
            ("wgsl", "f32", 1e-4),
            ("wgsl", "f16", 2e-2),
            ("cuda", "f32", 1e-4),
            ("cuda:sm_80", "f16", 2e-2),
            ("cuda", "bf16", 2e-2),
        ] {
            let options = ["--target", target, "--dtype", dtype];
            let options = [&options[..], &["--adapter", "interpreter"]].concat();
            let found = sample(&format!("{kind}-{target}-{dtype}"), &options);
            let place = format!("{kind} {target} {dtype}");
            compare_floats(&place, &found, &wanted, tolerance);
        }
    }
}

/// ONNX graphs through `run`: integers on the host, the rest in kernels; and in 16 bits.
#[test]
fn onnx_graphs_run_on_an_adapter() {
    let folder = scratch("onnx_on_adapter");
    let ids: Vec<u8> = (0..77i64).flat_map(|id| (id % 40).to_le_bytes()).collect();
    let short: Vec<u8> = (0..77i32).flat_map(|id| (id % 40).to_le_bytes()).collect();
    let noise = (0..1024).map(|i: u32| ((i * 7919 % 613) as f32 / 306.0) - 1.0);
    let noise: Vec<u8> = noise.flat_map(f32::to_le_bytes).collect();
    let latents = (Dtype::F32, vec![1, 4, 16, 16], &noise);
    let rows = [
        (
            "onnx_dynamo",
            "text_encoder",
            "input_ids",
            (Dtype::I64, vec![1, 77], &ids),
        ),
        (
            "onnx_torchscript",
            "text_encoder",
            "input_ids",
            (Dtype::I32, vec![1, 77], &short),
        ),
        (
            "onnx_dynamo",
            "vae_decoder",
            "latent_sample",
            latents.clone(),
        ),
        ("onnx_torchscript", "vae_decoder", "latent_sample", latents),
    ];
    for (model, component, input, (dtype, shape, bytes)) in rows {
        let place = format!("{model} {component}");
        let view = TensorView::new(dtype, shape, bytes).expect("a tensor");
        let inputs = folder.join("inputs.st");
        serialize_to_file([(input, view)], None, &inputs).expect("a file");
        let (model, inputs) = (
            golden(model).display().to_string(),
            inputs.display().to_string(),
        );
        let execute = |name: &str, options: &[&str]| {
            let out = folder.join(name).display().to_string();
            let fixed = ["run", &model, "--component", component];
            let files = ["--inputs", &inputs, "--outputs", &out];
            run(&[&fixed[..], &files, options].concat()).map(|()| folder.join(name))
        };
        let wanted = execute("cpu.st", &[]).unwrap_or_else(|error| panic!("{place}: {error}"));
        // 16-bit values between operators lose some 1e-3 each, in bf16 eight times as much.
        for (dtype, tolerance) in [("f16", 2e-2), ("bf16", 1e-1)] {
            let found = execute("half.st", &["--dtype", dtype]);
            let found = found.unwrap_or_else(|error| panic!("{place} {dtype}: {error}"));
            compare_floats(&format!("{place} {dtype}"), &found, &wanted, tolerance);
        }
        for (dtype, tolerance) in [("f32", 1e-3), ("f16", 2e-2)] {
            match execute("adapter.st", &["--target", "wgsl", "--dtype", dtype]) {
                Ok(found) => {
                    compare_floats(&format!("{place} {dtype}"), &found, &wanted, tolerance)
                }
                Err(error) if error.contains("found no WebGPU adapter") => {}
                Err(error) => panic!("{place} {dtype}: {error}"),
            }
        }
    }
}

/// The texts of the kernels of an artifact, by name.
fn texts(artifact: &Path) -> Vec<(String, String)> {
    let files = std::fs::read_dir(artifact).expect("a folder");
    let mut paths = files.map(|file| file.expect("a file").path());
    let path = paths.find(|path| path.extension().is_some_and(|kind| kind == "ptx"));
    let all = std::fs::read_to_string(path.expect("a file of kernels")).expect("a text");
    let kernels = all.split("// kernel ").skip(1);
    let named = kernels.map(|kernel| kernel.split_once('\n').expect("a name and a text"));
    named
        .map(|(name, text)| (name.to_owned(), text.to_owned()))
        .collect()
}

/// An artifact for NVIDIA's graphics processors: its kernels are texts that anyone can read, and it
/// is sampled without a graphics processor. Each product of 16-bit factors uses tensor cores.
#[test]
fn an_artifact_for_cuda_holds_kernels_as_ptx() {
    let folder = scratch("cuda_artifact");
    let model = golden("pipeline/model").display().to_string();
    for dtype in ["f32", "f16", "bf16"] {
        let artifact = folder.join(format!("{dtype}.splam"));
        let path = artifact.display().to_string();
        let compile = [
            "compile", &model, "--target", "cuda", "--dtype", dtype, "-o", &path,
        ];
        run(&[&compile[..], &["-W", "64", "-H", "64"]].concat()).expect("it compiles");
        let texts = texts(&artifact);
        assert!(texts.len() > 50, "{} kernels", texts.len());
        for (name, text) in texts {
            assert!(
                text.starts_with("//") && text.contains(".target sm_80"),
                "{text}"
            );
            // All products of 16-bit numbers are those of tensor cores.
            let products = ["gemm", "small_gemm", "flash_forward"];
            let is_product = products.iter().any(|product| name.starts_with(product));
            if is_product || dtype == "f32" {
                let narrow = dtype != "f32";
                assert_eq!(text.contains("mma.sync"), narrow, "{name}: {text}");
                assert_eq!(text.contains("ldmatrix"), narrow, "{name}: {text}");
            }
        }
    }
    let artifact = folder.join("f16.splam").display().to_string();
    let picture = folder.join("out.png").display().to_string();
    let sample = [
        "sample", &artifact, "-p", "a", "--steps", "1", "-o", &picture,
    ];
    run(&[&sample[..], &["--adapter", "interpreter"]].concat()).expect("it samples");
    // Where there is a graphics processor it draws.
    if let Err(refused) = run(&sample) {
        assert!(
            refused.contains("--target cuda: ") && refused.contains("interpreter"),
            "{refused}"
        );
    }
    let shown = [
        "inspect",
        &artifact,
        "--component",
        "vae_decoder",
        "--stage",
        "code",
    ];
    run(&shown).expect("its kernels are shown");
    let refused = run(&[&shown[..5], &["kernel"]].concat()).expect_err("they are texts only");
    assert!(refused.contains("holds kernels as PTX"), "{refused}");
}
