//! Products of groups of byte rows, gated and made bytes again in one step.
//!
//! Knows the kernel interface and blocked weights; it must not know streams, handles or device memory.

use super::grouped_matmul::Bounds;
use super::weight_format::{is_blocked, unblocked};
use crate::dtype::DType;
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{Array3, ArrayD, Axis, Ix2, Ix3, IxDyn};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnGroupedMatmulSwigluQuant", first as Prepare),
    ("aclnnGroupedMatmulSwigluQuantWeightNZ", first as Prepare),
    ("aclnnGroupedMatmulSwigluQuantV2", second as Prepare),
    ("aclnnGroupedMatmulSwigluQuantWeightNzV2", second as Prepare),
];

/// Everything that the forms have.
struct Gated {
    x: Tensor,
    weight: Tensor,
    weight_scale: Tensor,
    x_scale: Tensor,
    bounds: Bounds,
    out: Tensor,
    out_scale: Tensor,
}

fn first(call: &Call) -> Result<Work, Refusal> {
    for index in [2, 3] {
        if call.optional_tensor(index).is_some() {
            return Err(call.unsupported(format!(
                "weights of four bits (parameter {index}) have no kernel here"
            )));
        }
    }
    Gated {
        x: call.tensor(0)?,
        weight: call.tensor(1)?,
        weight_scale: call.tensor(4)?,
        x_scale: call.tensor(5)?,
        bounds: Bounds::Device(call.tensor(6)?, false),
        out: call.tensor(7)?,
        out_scale: call.tensor(8)?,
    }
    .work(call)
}

fn second(call: &Call) -> Result<Work, Refusal> {
    let one = |index: usize| -> Result<Tensor, Refusal> {
        match call.tensors(index)?.as_slice() {
            [tensor] => Ok(tensor.clone()),
            list => Err(call.unsupported(format!(
                "lists of {} weights have no kernel here",
                list.len()
            ))),
        }
    };
    let more = call.optional_tensors(3).unwrap_or_default();
    if more.iter().flatten().any(|tensor| !tensor.is_empty()) || call.optional_tensor(6).is_some() {
        return Err(call.unsupported("values of four bits have no kernel here"));
    }
    if call.optional_tensor(4).is_some() {
        return Err(call.invalid("bias is given, wanted none"));
    }
    let modes = [call.int(8)?, call.int(10)?];
    if modes != [0, 0] {
        return Err(call.unsupported(format!(
            "dequantMode and quantMode {modes:?} have no kernel here"
        )));
    }
    let counts = match call.int(11)? {
        0 => false,
        1 => true,
        kind => return Err(call.invalid(format!("groupListType is {kind}, wanted 0 or 1"))),
    };
    Gated {
        x: call.tensor(0)?,
        weight: one(1)?,
        weight_scale: one(2)?,
        x_scale: call.tensor(5)?,
        bounds: Bounds::Device(call.tensor(7)?, counts),
        out: call.tensor(13)?,
        out_scale: call.tensor(14)?,
    }
    .work(call)
}

/// The matrices of a weight: as they stand, in the five dims of their blocks, or blocked under the view of the matrices.
fn matrices(weight: &Tensor) -> Result<Array3<f32>, Fault> {
    let failed = |error: ndarray::ShapeError| Fault::exception(error.to_string());
    let &[experts, wide, high, rows, columns] = weight.shape() else {
        let plain: ArrayD<f32> = match weight.format() {
            29 => unblocked(weight),
            _ => weight.load(),
        };
        return plain.into_dimensionality::<Ix3>().map_err(failed);
    };
    let blocks = weight.load::<f32>().permuted_axes(IxDyn(&[0, 2, 3, 1, 4]));
    let values = blocks.iter().copied().collect();
    Array3::from_shape_vec((experts, high * rows, wide * columns), values).map_err(failed)
}

impl Gated {
    fn work(self, call: &Call) -> Result<Work, Refusal> {
        let dtypes = [self.x.dtype(), self.weight.dtype()];
        if dtypes != [DType::I8, DType::I8] {
            return Err(call.unsupported(format!("products of {dtypes:?} have no kernel here")));
        }
        let (experts, k, n) = match *self.weight.shape() {
            [experts, wide, high, 16, 32] => (experts, high * 16, wide * 32),
            [experts, k, n] if is_blocked(call, &self.weight)? => (experts, k, n),
            [experts, k, n] if !call.name().to_lowercase().contains("nz") => (experts, k, n),
            ref shape => {
                return Err(call.invalid(format!("weight has shape {shape:?}, wanted blocks")));
            }
        };
        let &[m, width] = self.x.shape() else {
            return Err(call.invalid(format!("x has shape {:?}, wanted 2 dims", self.x.shape())));
        };
        if width != k || n % 2 != 0 || n == 0 || self.bounds.count() != experts {
            return Err(call.invalid(format!(
                "x {m} by {width}, weights {experts} of {k} by {n}, {} groups",
                self.bounds.count()
            )));
        }
        call.expect_shape("weightScale", &self.weight_scale, &[experts, n])?;
        call.expect_shape("xScale", &self.x_scale, &[m])?;
        call.expect_shape("output", &self.out, &[m, n / 2])?;
        call.expect_shape("outputScale", &self.out_scale, &[m])?;
        let op = call.name();
        Ok(Work::new(move || self.run(op)))
    }

    /// Rows that no group has stay as they are.
    fn run(&self, op: &str) -> Result<(), Fault> {
        let weights = matrices(&self.weight)?.mapv(f64::from);
        let (m, half) = (self.x.shape()[0], self.out.shape()[1]);
        let x = self.x.load::<f64>().into_dimensionality::<Ix2>();
        let x = x.map_err(|error| Fault::exception(error.to_string()))?;
        let (x_scale, scale) = (
            self.x_scale.load_vec::<f32>(),
            self.weight_scale.load_vec::<f32>(),
        );
        let mut out = self.out.load_vec::<f32>();
        let mut out_scale = self.out_scale.load_vec::<f32>();
        for (expert, (start, end)) in self.bounds.spans(op, m)?.into_iter().enumerate() {
            let scale = &scale[expert * 2 * half..][..2 * half];
            let part = ndarray::s![start..end, ..];
            // Products of bytes are exact in f64.
            let products = x.slice(part).dot(&weights.index_axis(Axis(0), expert));
            for (row, product) in (start..end).zip(products.outer_iter()) {
                let value = |at: usize| product[at] as f32 * x_scale[row] * scale[at];
                let gated: Vec<f32> = (0..half)
                    .map(|at| {
                        let own = value(at);
                        own / (1.0 + (-own).exp()) * value(at + half)
                    })
                    .collect();
                let highest = gated.iter().fold(0f32, |most, value| most.max(value.abs()));
                out_scale[row] = highest / 127.0;
                for (target, value) in out[row * half..][..half].iter_mut().zip(gated) {
                    let rounded = (value / out_scale[row]).round_ties_even();
                    *target = if highest > 0.0 { rounded } else { 0.0 };
                }
            }
        }
        self.out.store_slice(&out)?;
        self.out_scale.store_slice(&out_scale)
    }
}
