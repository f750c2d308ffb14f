//! Every op of the catalog on larger inputs, shared out to threads: the same bits whatever their number, and no more memory than
//! inputs, outputs and the stated workspace.
//!
//! An op whose attributes fit only its small samples is left out, and counted. `ASCEND_TENSOR_ENLARGED_ONLY` takes a
//! comma-separated list of ops.

use std::collections::BTreeMap;
use std::sync::Mutex;

use ascend_tensor::{
    CpuOptions, DType, Device, OpInfo, Result, Sample, SampleInput, Shape, Tensor, catalog,
    cpu_memory, dispatch, manual_seed, no_grad, reset_cpu_memory_peak, trim_cpu_memory,
};

/// The fewest elements of the largest input: several pieces of work for each thread.
const ELEMENTS: usize = 70_000;

/// Values of an input, the same in every run.
fn values(input: &SampleInput, shape: Shape, dtype: DType) -> Result<Tensor> {
    let dtype = input.dtype.unwrap_or(dtype);
    let mut state = 42u64;
    let mut next = || {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 40) as f32 / (1u64 << 24) as f32
    };
    let low = match dtype {
        DType::U8 => input.low.max(0.0),
        _ => input.low,
    } as f32;
    let span = input.high as f32 - low;
    let values: Vec<f32> = (0..shape.elements())
        .map(|_| {
            let value = low + span * next();
            if dtype.is_float() {
                value
            } else {
                value.floor()
            }
        })
        .collect();
    Tensor::from_vec(values, shape)?.to_dtype(dtype)
}

/// Ways to enlarge the shapes of a sample's inputs: by the first input's or all first dims, by all dims of one size, by every dim.
fn enlarged(sample: &Sample) -> Vec<Vec<Shape>> {
    let shapes: Vec<Shape> = sample.inputs.iter().map(|input| input.shape).collect();
    let Some(largest) = shapes
        .iter()
        .map(Shape::elements)
        .max()
        .filter(|most| *most > 0)
    else {
        return Vec::new();
    };
    let rank = shapes.iter().map(Shape::rank).max().unwrap_or(0);
    let factor = ELEMENTS.div_ceil(largest);
    let with = |change: &dyn Fn(&Shape, usize, usize) -> usize| -> Vec<Shape> {
        let one = |shape: &Shape| {
            let dims = shape.dims().iter().enumerate();
            dims.map(|(dim, size)| change(shape, dim, *size)).collect()
        };
        shapes.iter().map(one).collect()
    };
    // A batch of the first input alone makes the fewest elements; other ways may multiply each other.
    let mut first = shapes.clone();
    if let Some(shape) = first.first_mut().filter(|shape| shape.rank() > 0) {
        let mut dims = shape.dims().to_vec();
        dims[0] *= ELEMENTS.div_ceil(shape.elements().max(1));
        *shape = Shape::from(dims);
    }
    let mut ways = vec![
        first,
        with(&|shape, dim, size| {
            let first = dim == 0 && shape.rank() == rank && size > 1;
            if first { size * factor } else { size }
        }),
        with(&|_, dim, size| if dim == 0 { size * factor } else { size }),
    ];
    let mut sizes: Vec<usize> = shapes
        .iter()
        .flat_map(|shape| shape.dims().to_vec())
        .collect();
    sizes.sort_unstable();
    sizes.dedup();
    for own in sizes.into_iter().filter(|size| *size > 1) {
        ways.push(with(&|_, _, size| {
            if size == own { size * factor } else { size }
        }));
    }
    let root = (factor as f64).powf(1.0 / rank.max(1) as f64).ceil() as usize;
    ways.push(with(&|_, _, size| {
        if size > 1 { size * root } else { size }
    }));
    ways
}

/// The outputs of a call on fresh copies of its inputs, and the gradients of all float inputs.
fn run(sample: &Sample, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    manual_seed(7);
    let copies: Vec<Tensor> = inputs.iter().map(Tensor::copy).collect::<Result<_>>()?;
    let views: Vec<&Tensor> = copies.iter().collect();
    let mut results = no_grad(|| dispatch::run(sample.op.as_ref(), &views))?.into_vec();
    if sample.op.writes() == ascend_tensor::Writes::NOTHING {
        results.extend(gradients(sample, inputs).unwrap_or_default());
    } else {
        results.extend(copies);
    }
    Ok(results)
}

fn gradients(sample: &Sample, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
    manual_seed(7);
    let leaf = |x: &Tensor| match x.dtype().is_float() {
        true => x.detach().requires_grad(),
        false => Ok(x.clone()),
    };
    let leaves: Vec<Tensor> = inputs.iter().map(leaf).collect::<Result<_>>()?;
    let views: Vec<&Tensor> = leaves.iter().collect();
    let outputs = dispatch::run(sample.op.as_ref(), &views)?.into_vec();
    let Some(output) = outputs.iter().find(|output| output.is_tracked()) else {
        return Ok(Vec::new());
    };
    let gradients = output.square()?.sum(())?.backward()?;
    Ok(leaves
        .iter()
        .filter_map(|leaf| gradients.get(leaf).cloned())
        .collect())
}

fn bytes(x: &Tensor) -> Result<Vec<u64>> {
    if x.dtype() == DType::I64 {
        return Ok(x
            .to_vec::<i64>()?
            .into_iter()
            .map(i64::cast_unsigned)
            .collect());
    }
    let values = x.to_f64_vec()?;
    Ok(values
        .into_iter()
        .map(|value| if value.is_nan() { 1 } else { value.to_bits() })
        .collect())
}

fn bits(results: &[Tensor]) -> Result<Vec<Vec<u64>>> {
    results.iter().map(bytes).collect()
}

/// The settings are the process's: one test at a time.
static ONE: Mutex<()> = Mutex::new(());

/// The dtypes that have kernels of their own.
fn dtypes(sample: &Sample) -> Vec<DType> {
    let wanted = [DType::F32, DType::BF16];
    let mut found: Vec<DType> = wanted
        .into_iter()
        .filter(|dtype| sample.dtypes.contains(dtype))
        .collect();
    if found.is_empty() {
        found.extend(sample.dtypes.first());
    }
    found
}

/// Whether only some ops were asked for.
fn is_partial() -> bool {
    std::env::var_os("ASCEND_TENSOR_ENLARGED_ONLY").is_some()
}

/// Calls `check` with the enlarged inputs of every sample; returns how many ops were met and which were left out.
fn for_all(
    mut check: impl FnMut(&OpInfo, &Sample, DType, &[Tensor]),
) -> (usize, Vec<&'static str>) {
    let only = std::env::var("ASCEND_TENSOR_ENLARGED_ONLY").unwrap_or_default();
    let wanted = |name: &str| only.is_empty() || only.split(',').any(|own| own == name);
    let mut met: BTreeMap<&'static str, usize> = BTreeMap::new();
    for op in catalog().filter(|op| wanted(op.name)) {
        met.entry(op.name).or_default();
        for sample in (op.samples)() {
            for dtype in dtypes(&sample) {
                for shapes in enlarged(&sample) {
                    if shapes.iter().any(|shape| shape.elements() > 20 * ELEMENTS) {
                        continue;
                    }
                    let made = sample.inputs.iter().zip(shapes);
                    let inputs: Result<Vec<Tensor>> = made
                        .map(|(input, shape)| values(input, shape, dtype))
                        .collect();
                    let Ok(inputs) = inputs else { continue };
                    let start = std::time::Instant::now();
                    if run(&sample, &inputs).is_ok() {
                        let time = start.elapsed();
                        if time.as_millis() > 400 {
                            println!("slow: {} {dtype} {time:?}", op.name);
                        }
                        check(op, &sample, dtype, &inputs);
                        *met.entry(op.name).or_default() += 1;
                        break;
                    }
                }
            }
        }
    }
    let left: Vec<&str> = met
        .iter()
        .filter_map(|(name, count)| (*count == 0).then_some(*name))
        .collect();
    (met.len() - left.len(), left)
}

#[test]
#[ignore = "minutes in a debug build; run it in release"]
fn results_do_not_depend_on_the_number_of_threads() -> Result<()> {
    let one = ONE.lock();
    let mut failed = Vec::new();
    let mut differ = |op: &OpInfo, sample: &Sample, dtype: DType, inputs: &[Tensor]| {
        let mut results = Vec::new();
        for threads in [1, 2, 3, 7] {
            let applied = CpuOptions::new().threads(threads).apply();
            let got = applied.and_then(|()| bits(&run(sample, inputs)?));
            match got {
                Ok(got) => results.push(got),
                Err(error) => failed.push(format!("{} {:?} {dtype}: {error}", op.name, sample.op)),
            }
        }
        if results.windows(2).any(|pair| pair[0] != pair[1]) {
            failed.push(format!("{} {:?} {dtype}", op.name, sample.op));
        }
    };
    let (met, left) = for_all(&mut differ);
    println!("{met} ops; not enlarged: {}", left.join(" "));
    drop(one);
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(met > 200 || is_partial(), "only {met} ops");
    Ok(())
}

#[test]
#[ignore = "minutes in a debug build; run it in release"]
fn ops_take_no_more_memory_than_stated() -> Result<()> {
    let one = ONE.lock();
    CpuOptions::new().threads(2).apply()?;
    let mut failed = Vec::new();
    let (met, _) = for_all(|op, sample, dtype, inputs| {
        let views: Vec<&Tensor> = inputs.iter().collect();
        trim_cpu_memory();
        manual_seed(7);
        let before = cpu_memory().in_use;
        reset_cpu_memory_peak();
        let outputs = no_grad(|| dispatch::run(sample.op.as_ref(), &views));
        let after = cpu_memory();
        let made = outputs.unwrap_or_default();
        let elements = |x: &Tensor| x.shape().elements();
        let all: usize = inputs.iter().chain(made.iter()).map(elements).sum();
        let workspace = after.peak - after.in_use.max(before);
        let most = stated(op.name) * all * size_of::<f32>() * 9 / 8 + (256 << 10);
        if workspace > most {
            let name = format!("{} {dtype} {:?}", op.name, sample.op);
            failed.push(format!(
                "{name}: {workspace} bytes for {all} elements, stated {most}"
            ));
        }
    });
    drop(one);
    println!("{met} ops");
    assert!(failed.is_empty(), "{failed:#?}");
    assert!(met > 200 || is_partial(), "only {met} ops");
    Ok(())
}

/// The workspace of an op in the documentation's table, as a multiple of its inputs and outputs.
fn stated(op: &str) -> usize {
    let table = include_str!("../src/docs/memory.md");
    let rows = table.lines().filter_map(|line| {
        let (times, ops) = line.strip_prefix("| ")?.split_once(" | ")?;
        let named = ops.split_whitespace().any(|name| name == op);
        times.parse::<usize>().ok().filter(|_| named)
    });
    rows.max().unwrap_or(0)
}

#[test]
fn the_cache_is_bounded_and_given_back() -> Result<()> {
    let one = ONE.lock();
    let limit = cpu_memory().limit;
    CpuOptions::new().cache_limit(3 << 20).apply()?;
    let held: Vec<Tensor> = (0..8)
        .map(|_| Tensor::zeros([1 << 18], DType::F32, Device::Cpu))
        .collect::<Result<_>>()?;
    let before = cpu_memory();
    assert!(before.in_use >= 8 << 20 && before.limit == 3 << 20);
    drop(held);
    let after = cpu_memory();
    assert!(after.cached > 0 && after.cached <= 3 << 20, "{after:?}");
    assert!(after.in_use <= before.in_use - (8 << 20), "{after:?}");
    trim_cpu_memory();
    assert_eq!(cpu_memory().cached, 0);
    CpuOptions::new().cache_limit(limit).apply()?;
    drop(one);
    Ok(())
}
