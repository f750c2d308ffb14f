//! Chains of views: what a tensor shows after them is what `ndarray` shows, and kernels see the same.
//!
//! Knows view ops and one kernel of each kind. Must not know conformance cases.

use ascend_tensor::ndarray::{ArrayD, Axis, IxDyn, Slice};
use ascend_tensor::{DType, Device, ReduceOptions, Result, SliceOptions, Tensor};
use proptest::test_runner::TestCaseError;

use crate::mutate::Choices;

/// One step, on both: the tensor and its counterpart.
fn step(choices: &mut Choices<'_>, x: Tensor, twin: ArrayD<f64>) -> Result<(Tensor, ArrayD<f64>)> {
    let rank = x.rank();
    if rank == 0 {
        return Ok((x.unsqueeze(0)?, twin.insert_axis(Axis(0))));
    }
    let dim = choices.below(rank);
    let size = x.dims()[dim];
    match choices.below(7) {
        0 => {
            let other = choices.below(rank);
            let mut twin = twin;
            twin.swap_axes(dim, other);
            Ok((x.transpose(dim as i64, other as i64)?, twin))
        }
        1 => {
            let start = choices.below(size + 1);
            let stop = start + choices.below(size - start + 1);
            let by = 1 + choices.below(3);
            let (first, last) = (start as isize, stop as isize);
            let twin = twin.slice_axis(Axis(dim), Slice::new(first, Some(last), by as isize));
            let options = SliceOptions::new().start(start as i64).end(stop as i64);
            let options = options.step(by as i64);
            Ok((x.slice(dim as i64, options)?, twin.to_owned()))
        }
        2 if rank < 5 => {
            let mut dims = x.dims().to_vec();
            dims.insert(0, 1 + choices.below(2));
            let wide = twin.broadcast(IxDyn(&dims)).map(|twin| twin.to_owned());
            Ok((x.expand(dims)?, wide.unwrap_or(twin)))
        }
        3 if size > 0 => {
            let at = choices.below(size);
            Ok((
                x.select(dim as i64, at as i64)?,
                twin.index_axis_move(Axis(dim), at),
            ))
        }
        4 if rank < 5 => Ok((x.unsqueeze(dim as i64)?, twin.insert_axis(Axis(dim)))),
        5 => {
            let mut twin = twin;
            twin.invert_axis(Axis(dim));
            Ok((x.flip([dim as i64])?, twin))
        }
        _ => {
            let last = x.elements() / size.max(1);
            let flat = if size == 0 {
                vec![0, 1]
            } else {
                vec![size, last]
            };
            let order: Vec<f64> = twin.iter().copied().collect();
            let shaped = ArrayD::from_shape_vec(IxDyn(&flat), order);
            Ok((x.reshape(flat)?, shaped.unwrap_or(twin)))
        }
    }
}

/// The tensor shows its twin's values, and ops on the view give what they give on a copy.
fn same(x: &Tensor, twin: &ArrayD<f64>) -> Result<std::result::Result<(), String>> {
    let values: Vec<f64> = twin.iter().copied().collect();
    let got = x.to_f64_vec()?;
    if x.dims() != twin.shape() || got != values {
        return Ok(Err(format!(
            "{:?} shows {got:?}, ndarray {values:?}",
            x.layout()
        )));
    }
    let copy = x.copy()?;
    let kernels: [fn(&Tensor) -> Result<Tensor>; 5] = [
        |x| x.add(x),
        |x| x.exp()?.mul(x),
        |x| x.sum(ReduceOptions::new().dim(-1)),
        |x| x.softmax(-1),
        |x| x.to_dtype(DType::I64),
    ];
    for (which, kernel) in kernels.iter().enumerate().filter(|_| x.rank() > 0) {
        let (view, plain) = (kernel(x)?.to_f64_vec()?, kernel(&copy)?.to_f64_vec()?);
        let close = |(a, b): (&f64, &f64)| {
            a == b || a.is_nan() && b.is_nan() || (a - b).abs() <= 1e-6 * (1.0 + b.abs())
        };
        if view.len() != plain.len() || !view.iter().zip(&plain).all(close) {
            return Ok(Err(format!(
                "kernel {which} of {:?}: {view:?}, of a copy {plain:?}",
                x.layout()
            )));
        }
    }
    Ok(Ok(()))
}

fn chains(device: Device, trials: u32) {
    let words = proptest::collection::vec(proptest::num::u64::ANY, 30);
    let tried = crate::runner(trials).run(&words, |words| {
        let told = |error: ascend_tensor::Error| TestCaseError::fail(error.to_string());
        let mut choices = Choices::new(&words);
        let dims: Vec<usize> = (0..choices.below(4))
            .map(|_| 1 + choices.below(4))
            .collect();
        let count = dims.iter().product::<usize>();
        let values: Vec<f64> = (0..count).map(|at| at as f64 / 4.0 - 2.0).collect();
        let dtype = [DType::F32, DType::F64, DType::F16][choices.below(3)];
        let mut x = Tensor::from_vec(values.clone(), dims.clone())
            .and_then(|x| x.to_dtype(dtype)?.to_device(device))
            .map_err(told)?;
        let mut twin = ArrayD::from_shape_vec(IxDyn(&dims), values)
            .map_err(|error| TestCaseError::fail(error.to_string()))?;
        for _ in 0..1 + choices.below(6) {
            (x, twin) = step(&mut choices, x, twin).map_err(told)?;
        }
        same(&x, &twin).map_err(told)?.map_err(TestCaseError::fail)
    });
    if let Err(error) = tried {
        panic!("{error}");
    }
}

#[test]
fn chains_of_views_mean_the_same_on_the_cpu() {
    chains(Device::Cpu, 2000);
}

#[test]
fn chains_of_views_mean_the_same_on_the_npu() {
    crate::emulator();
    chains(Device::ascend(0), 200);
}
