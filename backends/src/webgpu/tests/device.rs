//! What a device makes of small programs. Each test runs on the adapter that this machine prefers,
//! software if there is nothing else, and says so where there is none.

use std::sync::Mutex;

use compiler::DType;
use compiler::region::RegionId;
use compiler::target::Limits;
use compiler::value::extents::Extents;
use compiler::value::tensor::{Tensor, Values};

use super::super::WGSL;
use super::super::device::{Choice, Device, DeviceError, Loaded, Options, adapters};
use super::{arena, commands, constant, floats, kernel, page, port};
use crate::gpu::commands::{
    Binding, Commands, Hosted, Launch, Port, Requirements, Source, StoredAs, Upload,
};
use crate::gpu::elements::{ElementsError, Layout, decode, encode};
use crate::gpu::executor::Machine;
use crate::gpu::validate::{requirements, validate};

/// A device for these requirements, if there is any adapter.
#[expect(clippy::print_stderr, reason = "a test that could not be made says so")]
fn open(requirements: &Requirements, profile: bool) -> Option<Device> {
    let options = Options {
        adapter: Choice::Best,
        profile,
    };
    match Device::open(&options, requirements) {
        Ok(device) => Some(device),
        Err(DeviceError::NoAdapter) => {
            eprintln!("skipped: no WebGPU adapter; Debian's mesa-vulkan-drivers has one");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The weights of [`commands`]: `[[1, 2, 3], [4, 5, 6]]`, stored in another type and order.
fn scale(source: &Source) -> Option<Tensor> {
    let values: Vec<f32> = (1..=6u8).map(f32::from).collect();
    (*source == Source::Weight("scale".to_owned())).then(|| Tensor::from_f32(&[2, 3], &values))
}

/// Inputs and results by their names.
impl Loaded {
    fn put(&self, input: &str, tensor: &Tensor) -> Result<(), DeviceError> {
        let port = named(&self.commands().inputs, input);
        let order: Vec<usize> = (0..port.extents.shape.len()).collect();
        let layout = Layout {
            extents: &port.extents,
            order: &order,
            stored: port.stored,
        };
        encode(tensor, layout, |offset, bytes| {
            self.write(&port.window, offset, bytes).map_err(Put::Device)
        })
        .map_err(|error| match error {
            Put::Device(error) => error,
            Put::Elements(error) => DeviceError::Elements {
                what: format!("input {input:?}"),
                error,
            },
        })
    }

    fn run(&self) -> Result<(), DeviceError> {
        self.launch(0..self.commands().launches.len())
    }

    fn get(&self, output: &str) -> Result<Tensor, DeviceError> {
        let port = named(&self.commands().outputs, output);
        let bytes = self.read(&port.window)?;
        Ok(decode(&bytes, &port.extents, port.stored).expect("whole elements"))
    }

    fn pass_on(&self, output: &str, to: &Loaded, input: &str) -> Result<(), DeviceError> {
        let from = named(&self.commands().outputs, output);
        let into = named(&to.commands().inputs, input);
        assert!(from.lies_as(into), "{from:?} and {into:?}");
        self.copy(&[(from.window, into.window)], to)
    }
}

/// What fails where a tensor is written.
enum Put {
    Device(DeviceError),
    Elements(ElementsError),
}

impl From<ElementsError> for Put {
    fn from(error: ElementsError) -> Put {
        Put::Elements(error)
    }
}

fn named<'a>(ports: &'a [Port], name: &str) -> &'a Port {
    let port = ports.iter().find(|port| port.name == name);
    port.expect("a port of that name")
}

fn load(device: &Device, commands: Commands) -> Result<Loaded, DeviceError> {
    let valid = validate(commands, &WGSL).expect("good commands");
    device.load(valid, &mut scale)
}

fn range(first: u8) -> Tensor {
    let values: Vec<f32> = (first..first + 6).map(f32::from).collect();
    Tensor::from_f32(&[6], &values)
}

/// What [`commands`] make of [`range`].
fn scaled(first: u8) -> Tensor {
    let order = [1.0, 4.0, 2.0, 5.0, 3.0, 6.0];
    let values: Vec<f32> = order
        .iter()
        .zip(first..)
        .map(|(scale, x)| (f32::from(x) + 1.0) * scale)
        .collect();
    Tensor::from_f32(&[6], &values)
}

#[test]
fn launches_are_done_in_order_as_often_as_asked() {
    let needed = requirements(&commands(), &WGSL).expect("good commands");
    let Some(device) = open(&needed, false) else {
        return;
    };
    let exactly = Commands {
        requirements: needed,
        ..commands()
    };
    let loaded = load(&device, exactly).expect("it loads");
    for first in [0, 10] {
        loaded.put("x", &range(first)).expect("it is written");
        loaded.run().expect("it runs");
        assert_eq!(loaded.get("y"), Ok(scaled(first)), "{first}");
    }
    loaded.run().expect("it runs again");
    assert_eq!(loaded.get("y"), Ok(scaled(10)), "inputs stay");
}

/// Whoever waits on a device may be given the answers of others.
#[test]
fn threads_share_a_device() {
    let Some(device) = open(&Requirements::DEFAULT, false) else {
        return;
    };
    std::thread::scope(|scope| {
        for first in 0..4 {
            let loaded = load(&device, commands()).expect("it loads");
            scope.spawn(move || {
                for _ in 0..100 {
                    loaded.put("x", &range(first)).expect("it is written");
                    loaded.run().expect("it runs");
                    assert_eq!(loaded.get("y"), Ok(scaled(first)), "{first}");
                }
            });
        }
    });
}

#[test]
fn many_launches_are_more_than_one_submission() {
    let Some(device) = open(&Requirements::DEFAULT, false) else {
        return;
    };
    let mut many = commands();
    let back = Launch {
        arguments: vec![arena(256, 24), arena(0, 24)],
        ..many.launches[0].clone()
    };
    let there = many.launches[0].clone();
    many.launches = (0..200)
        .map(|turn| match turn % 2 {
            0 => there.clone(),
            _ => back.clone(),
        })
        .collect();
    many.outputs = vec![port("y", floats(6), 0)];
    let loaded = load(&device, many).expect("it loads");
    loaded.put("x", &range(0)).expect("it is written");
    loaded.run().expect("it runs");
    assert_eq!(loaded.get("y"), Ok(range(200)));
}

#[test]
fn launches_begin_and_end_where_the_host_computes() {
    let Some(device) = open(&Requirements::DEFAULT, false) else {
        return;
    };
    let mut between = commands();
    between.hosted = vec![Hosted {
        region: RegionId(7),
        before: 1,
        reads: Vec::new(),
        stores: Vec::new(),
    }];
    let loaded = load(&device, between).expect("it loads");
    loaded.put("x", &range(0)).expect("it is written");
    loaded.launch(0..1).expect("it runs");
    let one = 1f32.to_le_bytes();
    assert_eq!(loaded.read(&arena(256, 4)), Ok(one.to_vec()));
    let middle = arena(256, 24);
    loaded.write(&middle, 20, &one).expect("it is written");
    loaded.launch(1..2).expect("it runs");
    let wanted = [1.0, 8.0, 6.0, 20.0, 15.0, 6.0];
    assert_eq!(loaded.get("y"), Ok(Tensor::from_f32(&[6], &wanted)));
    for (bad, offset) in [(arena(512, 260), 0), (page(512, 4), 0), (middle, 24)] {
        let error = loaded.write(&bad, offset, &one).expect_err("outside");
        assert_eq!(error, DeviceError::Window { window: bad });
    }
}

#[test]
fn a_result_becomes_an_input_on_the_device() {
    let Some(device) = open(&Requirements::DEFAULT, false) else {
        return;
    };
    let first = load(&device, commands()).expect("it loads");
    let second = load(&device, commands()).expect("it loads twice");
    first.put("x", &range(0)).expect("it is written");
    first.run().expect("it runs");
    first.pass_on("y", &first, "x").expect("within one slab");
    first
        .pass_on("y", &second, "x")
        .expect("to another program");
    first.run().expect("it runs");
    second.run().expect("it runs");
    let found = first.get("y").expect("a result");
    let twice = [2.0, 36.0, 14.0, 105.0, 48.0, 222.0];
    assert_eq!(found, Tensor::from_f32(&[6], &twice));
    assert_eq!(second.get("y"), Ok(found));

    let mut other = commands();
    other.inputs[0].extents.shape = vec![2, 3];
    assert!(
        !commands().outputs[0].lies_as(&other.inputs[0]),
        "another type"
    );
}

#[test]
fn integers_that_do_not_fit_are_named() {
    let Some(device) = open(&Requirements::DEFAULT, false) else {
        return;
    };
    let ids = Extents {
        dtype: DType::I64,
        shape: vec![3],
    };
    let mut echo = commands();
    echo.launches.clear();
    echo.inputs = vec![port("input_ids", ids.clone(), 0)];
    echo.outputs = vec![port("output_ids", ids, 0)];
    let loaded = load(&device, echo).expect("it loads");
    let good = Tensor::from_i64(&[3], &[-1, 0, i64::from(i32::MAX)]);
    loaded.put("input_ids", &good).expect("it fits");
    loaded.run().expect("nothing to do is done");
    assert_eq!(loaded.get("output_ids"), Ok(good));
    let bad = Tensor::from_i64(&[3], &[1, 2, 1 << 31]);
    let error = loaded.put("input_ids", &bad).expect_err("too large");
    let wanted = "input \"input_ids\": found 2147483648, wanted integers of 32 bits";
    assert_eq!(error.to_string(), wanted);
    let short = Tensor::from_i64(&[2], &[1, 2]);
    let error = loaded.put("input_ids", &short).expect_err("too short");
    let wanted = "input \"input_ids\": found i64 [2], wanted i64 [3]";
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn weights_that_are_missing_or_of_another_shape_are_named() {
    let Some(device) = open(&Requirements::DEFAULT, false) else {
        return;
    };
    let valid = validate(commands(), &WGSL).expect("good commands");
    let error = device
        .load(valid.clone(), &mut |_| None)
        .expect_err("no weight");
    assert_eq!(error.to_string(), "found no weight \"scale\"");
    let error = device
        .load(valid, &mut |_| Some(range(0)))
        .expect_err("another shape");
    let wanted = "weight \"scale\": found f32 [6], wanted f16 [2, 3]";
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn large_weights_arrive_whole() {
    let Some(device) = open(&Requirements::DEFAULT, false) else {
        return;
    };
    // Beyond what the driver holds at a time: 96 MiB in three pieces of memory.
    let (rows, columns) = (3, 8 << 20);
    let wgsl = "\
@group(0) @binding(0) var<storage, read> weight: array<f32>;
@group(0) @binding(1) var<storage, read_write> y: array<f32>;
@compute @workgroup_size(1)
fn main(@builtin(workgroup_id) at: vec3<u32>) {
    y[at.x] = weight[arrayLength(&weight) / 6u * (2u * at.x + 1u)];
}
";
    let bytes = (rows * columns * 4) as u64;
    let mut large = commands();
    large.kernels = vec![kernel("pick", wgsl, &[Binding::Read, Binding::ReadWrite])];
    large.launches = vec![Launch {
        kernel: 0,
        arguments: vec![page(0, bytes), arena(512, 12)],
        grid: [3, 1, 1],
        region: RegionId(0),
        flops: 6,
    }];
    large.weights = vec![bytes];
    large.uploads = vec![Upload {
        source: constant(3),
        extents: Extents {
            dtype: DType::F32,
            shape: vec![rows, columns],
        },
        order: vec![0, 1],
        window: page(0, bytes),
        stored: StoredAs::F32,
    }];
    large.outputs = vec![port("y", floats(3), 512)];
    let halves: Vec<f64> = (0..rows)
        .flat_map(|row| vec![row as f64; columns])
        .collect();
    let values = Values::Float(halves);
    let tensor = Tensor::from_values(DType::F16, &[rows, columns], &values);
    let valid = validate(large, &WGSL).expect("good commands");
    let loaded = device.load(valid, &mut |_| Some(tensor.clone()));
    let loaded = loaded.expect("it loads");
    loaded.run().expect("it runs");
    assert_eq!(
        loaded.get("y"),
        Ok(Tensor::from_f32(&[3], &[0.0, 1.0, 2.0]))
    );
}

#[test]
fn launches_are_timed() {
    let ticks = Mutex::new(0.0);
    let clock = || {
        let mut now = ticks.lock().expect("no other thread fails");
        *now += 0.25;
        *now
    };
    for profile in [true, false] {
        let Some(device) = open(&Requirements::DEFAULT, profile) else {
            return;
        };
        let loaded = load(&device, commands()).expect("it loads");
        let times = loaded.profile(&clock).expect("it runs");
        let regions: Vec<RegionId> = times.iter().map(|time| time.region).collect();
        assert_eq!(regions, [0, 1].map(RegionId));
        let by_host = !(profile && device.adapter().timestamp_query);
        for time in &times {
            assert!(
                time.seconds >= 0.0 && (time.seconds == 0.25 || !by_host),
                "{time:?}"
            );
        }
    }
}

#[test]
fn a_device_grants_what_was_asked_for_and_no_more() {
    let least = requirements(&commands(), &WGSL).expect("good commands");
    let Some(device) = open(&least, false) else {
        return;
    };
    let adapter = device.adapter().name.clone();
    let error = load(&device, commands()).expect_err("more than was asked for");
    let wanted = format!(
        "{adapter} is not enough for \"test\": maxStorageBufferBindingSize is 24, wanted \
         134217728"
    );
    assert_eq!(error.to_string(), wanted);
}

#[test]
fn what_no_adapter_grants_is_refused_before_anything_is_reserved() {
    let Some(adapter) = adapters().into_iter().min_by_key(|adapter| adapter.kind) else {
        return;
    };
    let options = Options {
        adapter: Choice::Best,
        profile: false,
    };
    let check = |limits: Limits, limit: &str, found: u64, wanted: u64| {
        let requirements = Requirements {
            limits,
            ..Requirements::DEFAULT
        };
        let error = Device::open(&options, &requirements).expect_err("too much");
        let wanted = format!(
            "{} is not enough for what is to run: {limit} is {found}, wanted {wanted}",
            adapter.name
        );
        assert_eq!(error.to_string(), wanted);
    };
    let (enough, granted) = (Limits::WEBGPU, adapter.grants.limits);
    check(
        Limits {
            buffer_bytes_max: 1 << 60,
            ..enough
        },
        "maxBufferSize",
        granted.buffer_bytes_max,
        1 << 60,
    );
    check(
        Limits {
            shared_bytes_max: 1 << 30,
            ..enough
        },
        "maxComputeWorkgroupStorageSize",
        granted.shared_bytes_max.into(),
        1 << 30,
    );
}

#[test]
fn a_lost_device_says_so_and_another_one_opens() {
    let Some(device) = open(&Requirements::DEFAULT, false) else {
        return;
    };
    let loaded = load(&device, commands()).expect("it loads");
    loaded.put("x", &range(0)).expect("it is written");
    loaded.run().expect("it runs");
    device.close();
    let wanted = format!("{} was lost: it was closed", device.adapter().name);
    let failures = [
        loaded.put("x", &range(0)).map(|_| ()),
        loaded.run(),
        loaded.get("y").map(|_| ()),
        loaded.pass_on("y", &loaded, "x"),
        loaded.profile(&|| 0.0).map(|_| ()),
        load(&device, commands()).map(|_| ()),
        device.finished(),
    ];
    for (call, failure) in failures.into_iter().enumerate() {
        let found = failure.map_err(|error| error.to_string());
        assert_eq!(found, Err(wanted.clone()), "call {call}");
    }
    let other = open(&Requirements::DEFAULT, false).expect("there was one before");
    let loaded = load(&other, commands()).expect("it loads");
    loaded.put("x", &range(0)).expect("it is written");
    loaded.run().expect("it runs");
    assert_eq!(loaded.get("y"), Ok(scaled(0)));
}

#[test]
fn adapters_are_numbered_and_can_be_named() {
    for adapter in adapters() {
        assert!(!adapter.name.is_empty());
        for text in [adapter.index.to_string(), adapter.name.clone()] {
            let options = Options {
                adapter: text.parse().expect("any text is a choice"),
                profile: false,
            };
            let device = Device::open(&options, &Requirements::NONE);
            let device = device.expect("what is listed opens");
            assert_eq!(device.adapter().name, adapter.name);
        }
    }
}
