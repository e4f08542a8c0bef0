//! Decoding in tiles: what is refused, and who is told of it.

use std::path::Path;
use std::process::Command;

use crate::support::{copy, golden, scratch};
use crate::{Case, answer, check, whole};

/// Compiles the model for 32 x 16 pixels as `m.splam`, its decoder for all of them.
fn untiled(folder: &Path) {
    let line = "compile model --target cpu -W 32 -H 16 -o m.splam";
    assert_eq!(answer(folder, line), "exit 0\n\n");
}

/// The same with a decoder of 2 x 1 latents.
fn tiled(folder: &Path) {
    let line = "compile model --target cpu -W 32 -H 16 -o m.splam --vae-tile-size 2x1";
    assert_eq!(answer(folder, line), "exit 0\n\n");
}

#[rustfmt::skip]
const CASES: [Case; 11] = [
    ("tiles of nothing", whole, "sample model -p x --vae-tile-size 0"),
    ("tiles without a height", whole, "sample model -p x --vae-tile-size 64x"),
    ("tiles that lie on one another", whole, "sample model -p x --vae-tile-overlap 1"),
    ("an overlap that is no number", whole, "compile model --target cpu --vae-tile-overlap nan"),
    ("tiles of a network that has none", whole, "compile model --target cpu --component unet --vae-tiling"),
    ("tiles of a decoder of whole pictures", untiled, "sample m.splam -p x --steps 1 --vae-tile-size 2"),
    ("a tile that is the whole picture", untiled, "sample m.splam -p x --steps 1 --vae-tiling"),
    ("other tiles than compiled", tiled, "sample m.splam -p x --steps 1 --vae-tile-size 1x2"),
    ("another size in tiles", tiled, "sample m.splam -p x --steps 1 -W 64"),
    ("another overlap than compiled", tiled, "sample m.splam -p x --steps 1 --vae-tile-overlap 0.5"),
    ("a decoder of tiles, inspected", tiled, "inspect m.splam --component vae_decoder"),
];

#[test]
fn tiles_that_do_not_fit_are_refused() {
    check("tiling", &CASES);
}

/// Samples in an address space of so many megabytes; gives standard error.
fn limited(folder: &Path, megabytes: usize, options: &str) -> String {
    let kilobytes = megabytes * 1000;
    let binary = env!("CARGO_BIN_EXE_splamc");
    let line = format!("ulimit -v {kilobytes} && {binary} sample model -p x --threads 1 {options}");
    let mut shell = Command::new("sh");
    let output = shell.args(["-c", &line]).current_dir(folder).output();
    let output = output.expect("a shell");
    assert_eq!(output.status.code(), Some(1), "{options}");
    String::from_utf8(output.stderr).expect("messages are UTF-8")
}

#[test]
#[cfg(target_os = "linux")]
fn a_decoder_that_needs_too_much_memory_is_told_of_tiles() {
    let folder = scratch("cli-tiling-memory");
    copy(&golden("sd21/model"), &folder.join("model"));
    for (options, wanted) in [
        (
            "-W 4096 -H 4096",
            "--vae-tiling decodes the picture in tiles",
        ),
        (
            "-W 4096 -H 4096 --vae-tile-size 1024",
            "choose smaller tiles (--vae-tile-size)",
        ),
    ] {
        let told = limited(&folder, 1000, options);
        assert!(told.contains("model: vae_decoder needs "), "{told}");
        assert!(told.contains(wanted), "{told}");
    }
}
