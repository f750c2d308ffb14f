//! The catalog's ops on larger inputs.
//!
//! Knows samples and how their shapes grow. Must not know what is checked.

#![allow(dead_code, unreachable_pub, reason = "tests take what they need of it")]

use std::collections::BTreeMap;

use ascend_tensor::{
    DType, OpInfo, Result, Sample, SampleInput, Shape, Tensor, catalog, dispatch, manual_seed,
    no_grad,
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
pub fn run(sample: &Sample, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
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

pub fn gradients(sample: &Sample, inputs: &[Tensor]) -> Result<Vec<Tensor>> {
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

/// In which ways the inputs of a sample are enlarged.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Ways {
    /// In the first that the op takes.
    First,
    /// In all that it takes.
    All,
}

/// Calls `check` with the enlarged inputs of every sample; returns how many ops were met and which were left out.
pub fn for_all(
    ways: Ways,
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
                        if ways == Ways::First {
                            break;
                        }
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
