//! PTX: texts do what their kernels do, and what is not of ours is refused.

use compiler::kernel::{BufferContents, Kernel, Scalar, interpret, parse};
use compiler::program::Executable;
use half::{bf16, f16};
use software_cuda::{Memory, Text};

use super::{PTX, emit, text};
use crate::gpu::commands::Binding;
use crate::gpu::compile::compile;

/// Workgroups of each kernel that are executed along each axis: others do the same elsewhere.
const GROUPS_MAX: u32 = 2;

/// Compares each kernel of a program, as the interpreter executes it, with its text, as another
/// executor does.
pub(crate) fn check_texts(program: &Executable) {
    let compiled = compile(program, &PTX.requirements(false), &PTX).expect("it compiles");
    let texts = &compiled.commands.commands().kernels;
    for (kernel, printed) in compiled.kernels.iter().zip(texts) {
        check_text(kernel, &printed.text);
    }
}

fn check_text(kernel: &Kernel, printed: &str) {
    let mut kernel = kernel.clone();
    kernel.grid = kernel.grid.map(|groups| groups.min(GROUPS_MAX));
    let words: Vec<Vec<u32>> = kernel.buffers.iter().enumerate().map(words).collect();
    let contents = words.iter().cloned().map(BufferContents::from_words);
    let mut contents: Vec<BufferContents> = contents.collect();
    interpret(&kernel, &mut contents, None).unwrap_or_else(|fault| panic!("{kernel}{fault}"));
    let bytes = |(words, buffer): (&Vec<u32>, &compiler::kernel::Buffer)| {
        let each = bytes_of_lane(buffer.element.scalar);
        let lanes = words
            .iter()
            .flat_map(|word| word.to_le_bytes()[..each].to_vec());
        lanes.collect()
    };
    let mut memory = Memory::default();
    let given = words.iter().zip(&kernel.buffers).map(bytes);
    let addresses: Vec<u64> = given.map(|bytes| memory.reserve(bytes)).collect();
    Text::read(printed).run(kernel.grid, &addresses, &mut memory);
    for ((buffer, wanted), address) in kernel.buffers.iter().zip(&contents).zip(addresses) {
        let scalar = buffer.element.scalar;
        let found = memory.free(address).expect("it was reserved");
        let found = found.chunks(bytes_of_lane(scalar)).map(|bytes| {
            let mut word = [0; 4];
            word[..bytes.len()].copy_from_slice(bytes);
            u32::from_le_bytes(word)
        });
        let found: Vec<u32> = found.collect();
        if let Some(difference) = difference(scalar, &found, wanted.words()) {
            panic!("{printed}{kernel}{}: {difference}", buffer.name);
        }
    }
}

fn bytes_of_lane(scalar: Scalar) -> usize {
    match scalar {
        Scalar::F16 => 2,
        Scalar::Bool | Scalar::I32 | Scalar::U32 | Scalar::F32 => 4,
    }
}

/// Words that look random for the lanes of a buffer: floats in [-2, 2), integers of 0 and 1, and
/// halves in pairs.
fn words((seed, buffer): (usize, &compiler::kernel::Buffer)) -> Vec<u32> {
    let lanes = buffer.elements as usize * usize::from(buffer.element.lanes);
    let float = |lane: usize| {
        let mixed = (lane as u64 + 1 + ((seed as u64) << 32)).wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let bits = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40;
        (bits as f64 / f64::from(1 << 22) - 2.0) as f32
    };
    let half = |lane: usize| u32::from(f16::from_f32(float(lane)).to_bits());
    let word = |lane: usize| match buffer.element.scalar {
        Scalar::F32 => float(lane).to_bits(),
        Scalar::F16 => half(lane),
        Scalar::U32 => half(2 * lane) | half(2 * lane + 1) << 16,
        Scalar::I32 | Scalar::Bool => (float(lane) > 0.0).into(),
    };
    (0..lanes).map(word).collect()
}

/// The numbers of a word.
type Reading = fn(u32) -> Vec<f32>;

/// Where numbers differ by more than some units in the last place of the largest: functions are
/// computed by other formulas.
fn difference(scalar: Scalar, found: &[u32], wanted: &[u32]) -> Option<String> {
    let readings: &[(Reading, f32)] = match scalar {
        Scalar::F32 => &[(|word| vec![f32::from_bits(word)], 2e-5)],
        Scalar::F16 => &[(|word| vec![f16::from_bits(word as u16).to_f32()], 2e-3)],
        // Pairs of either type of 16 bits.
        Scalar::U32 => &[
            (
                |word| {
                    halves(word)
                        .map(|bits| f16::from_bits(bits).to_f32())
                        .to_vec()
                },
                2e-3,
            ),
            (
                |word| {
                    halves(word)
                        .map(|bits| bf16::from_bits(bits).to_f32())
                        .to_vec()
                },
                1.6e-2,
            ),
        ],
        Scalar::I32 | Scalar::Bool => &[(|word| vec![word.cast_signed() as f32], 0.0)],
    };
    let mut first = None;
    for (read, tolerance) in readings {
        let [found, wanted] = [found, wanted].map(|words| words.iter().flat_map(|w| read(*w)));
        let finite = wanted.clone().filter(|x| x.is_finite());
        let most = finite.fold(0.0, |most: f32, x| most.max(x.abs()));
        let close = |a: f32, b: f32| {
            a.to_bits() == b.to_bits()
                || a.is_nan() && b.is_nan()
                || (a - b).abs() <= tolerance * most
        };
        let differs = found
            .zip(wanted)
            .enumerate()
            .find(|(_, (a, b))| !close(*a, *b));
        let (place, (found, wanted)) = differs?;
        first = first.or(Some(format!(
            "number {place} is {found}, wanted {wanted} of {most}"
        )));
    }
    first
}

fn halves(word: u32) -> [u16; 2] {
    [word as u16, (word >> 16) as u16]
}

const COPY: &str = "kernel copy invocations 4 grid 2 1 1 {
  buffer $0 x: f32x4[8]
  buffer $1 y: f32x4[8] written
  shared @0 tile: f32x4[4]
  %0: i32 = local
  %1: i32 = group 0
  %2: i32 = 4
  %3: i32 = mul %1, %2
  %4: i32 = add %0, %3
  %5: f32x4 = load $0[%4]
  store @0[%0] = %5
  barrier
  %6: f32x4 = load @0[%0]
  %7: f32 = extract %6, 0
  %8: f32x4 = splat %7
  store $1[%4] = %8
}
";

fn copy() -> String {
    let kernel = parse(COPY).expect("a kernel");
    emit::emit(&kernel, &[Binding::Read, Binding::ReadWrite])
}

#[test]
fn a_kernel_is_printed_line_by_line() {
    let wanted = "\
.version 7.0
.target sm_80
.address_size 64

.visible .entry main(
  .param .u64 .ptr .global .align 256 x_0, /* f32x4[8], 128 bytes, read */
  .param .u64 .ptr .global .align 256 y_1 /* f32x4[8], 128 bytes, read_write */
)
.reqntid 4, 1, 1 /* grid 2 1 1 */
{
  .shared .align 16 .b8 tile_shared0[64];
";
    assert!(copy().starts_with(wanted), "{}", copy());
}

#[test]
fn a_text_says_what_it_needs() {
    let read = text::read(&copy()).expect("a text of ours");
    assert_eq!(read.invocations, 4);
    assert_eq!(read.workgroup_bytes, 64);
    assert_eq!(
        read.bindings,
        [(Binding::Read, 128), (Binding::ReadWrite, 128)]
    );
}

#[test]
fn what_is_not_of_ours_is_refused() {
    let check = |from: &str, to: &str, wanted: &str| {
        let text = copy();
        assert!(text.contains(from), "{from} in {text}");
        let error = text::read(&text.replacen(from, to, 1)).expect_err(to);
        assert_eq!(error.to_string(), wanted);
    };
    check(
        ".target sm_80",
        ".target sm_90a",
        "line 2 is `.target sm_90a`; expected .target sm_80",
    );
    check(
        ".entry main(",
        ".entry other(",
        "line 5 is `.visible .entry other(`; expected the entry point",
    );
    check(
        "128 bytes, read ",
        "few bytes, read ",
        "line 6 is `.param .u64 .ptr .global .align 256 x_0, /* f32x4[8], few bytes, read */`; \
         expected a parameter or `)`",
    );
    check(
        "bar.sync 0;",
        "call.uni other;",
        "line 28 is `call.uni other;`; expected an instruction of a kernel",
    );
    check(
        "bar.sync 0;",
        ".extern .func other;",
        "line 28 is `.extern .func other;`; expected an instruction of a kernel",
    );
    check(
        "}\n",
        "}\n.visible .entry second(\n",
        "line 35 is `.visible .entry second(`; expected the end",
    );
    check("}\n", "", "the text ends; expected an instruction or `}`");
}

/// Swaps of carried values, a branch with results, lanes by number, truth values in every role, and
/// numbers on all ways between types.
#[test]
fn statements_and_expressions_do_what_the_kernel_does() {
    let bodies = [
        "%2: f32 = 1
  %3: i32 = 0
  %4: i32 = 5
  for %5 = %3 to %4 step 2 carry %6: f32 = %1 next %7 left %8, %7: f32 = %2 next %6 left %9 {
    %10: f32 = add %6, %7
  }
  %11: f32 = sub %8, %9",
        "%2: f32 = 0
  %3: bool = less %1, %2
  %4: bool = true
  %5: bool = false
  if %3 { %6: f32 = neg %1 } else { } gives %7: f32 = %6 else %2, %8: bool = %4 else %5
  %9: bool = select %8, %5, %4
  %10: bool = equal %9, %3
  %12: bool = or %10, %8
  %13: bool = and %12, %4
  %14: bool = not %13
  %15: f32 = convert %14
  %16: i32 = convert %9
  %17: f32 = convert %16
  %18: f32 = add %15, %17
  %11: f32 = add %18, %7",
        "%2: f32 = 3
  %3: f32 = mul %1, %2
  %4: f32x4 = compose %1, %2, %3, %1
  %5: i32 = 3
  %6: i32 = and %0, %5
  %7: f32 = extract_at %4, %6
  %8: f32x2 = compose %7, %3
  %9: u32 = pack %8
  %10: f32x2 = unpack %9
  %12: f16x2 = convert %10
  %13: f32x2 = convert %12
  %14: f32 = extract %13, 0
  %15: i32 = convert %14
  %16: f32 = convert %15
  %17: u32 = bits %1
  %18: u32 = 16
  %19: u32 = shift_right %17, %18
  %20: u32 = shift_left %19, %18
  %21: f32 = bits %20
  %22: f32 = extract %13, 1
  %23: f32 = add %16, %21
  %11: f32 = add %22, %23",
        "%2: f32 = abs %1
  %3: f32 = 100
  %4: f32 = mul %1, %3
  %5: f32 = sin %4
  %6: f32 = cos %4
  %7: f32 = exp %1
  %8: f32 = log %2
  %9: f32 = sqrt %2
  %10: f32 = inverse_sqrt %7
  %12: f32 = pow %2, %1
  %13: f32 = floor %4
  %14: f32 = ceil %4
  %15: f32 = round %4
  %16: f32 = trunc %4
  %17: f32 = add %5, %6
  %18: f32 = add %17, %8
  %19: f32 = add %18, %9
  %20: f32 = add %19, %10
  %21: f32 = add %20, %12
  %22: f32 = sub %13, %14
  %23: f32 = sub %15, %16
  %24: f32 = add %22, %23
  %11: f32 = add %21, %24",
        "%2: i32 = -7
  %3: i32 = mul %0, %2
  %4: i32 = 3
  %5: i32 = div %3, %4
  %6: i32 = rem %3, %4
  %7: i32 = min %5, %6
  %8: i32 = max %5, %6
  %9: i32 = 1
  %10: i32 = shift_right %3, %9
  %12: i32 = xor %10, %8
  %13: i32 = abs %3
  %14: i32 = neg %13
  %15: i32 = sub %12, %14
  %16: i32 = add %15, %7
  %11: f32 = convert %16",
    ];
    for body in bodies {
        let text = format!(
            "kernel k invocations 8 grid 1 1 1 {{
  buffer $0 x: f32[8]
  buffer $1 y: f32[8] written
  %0: i32 = local
  %1: f32 = load $0[%0]
  {body}
  store $1[%0] = %11
}}
"
        );
        let kernel = parse(&text).unwrap_or_else(|error| panic!("{text}{error}"));
        check_text(
            &kernel,
            &emit::emit(&kernel, &[Binding::Read, Binding::ReadWrite]),
        );
    }
}
