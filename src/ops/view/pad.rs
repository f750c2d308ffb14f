//! `pad`: elements added at, or cut off, the ends of dims.

use super::pad_inside::{self, PadInside};
use crate::cpu::gather::{NOWHERE, Paths, bits_of, gather};
use crate::ops::prelude::*;

/// What [`Tensor::pad`] adds. Made from `()` for zeros, or from a number.
#[derive(Debug, Clone, Copy, PartialEq)]
#[non_exhaustive]
pub enum PadMode {
    /// A number, cast to the tensor's dtype.
    Constant(Scalar),
    /// The elements mirrored at the edge, which is not repeated.
    Reflect,
    /// The edge element.
    Replicate,
    /// The elements of the other end.
    Circular,
}

impl From<()> for PadMode {
    fn from((): ()) -> Self {
        PadMode::Constant(Scalar::Int(0))
    }
}

impl From<f64> for PadMode {
    fn from(value: f64) -> Self {
        PadMode::Constant(value.into())
    }
}

impl From<i64> for PadMode {
    fn from(value: i64) -> Self {
        PadMode::Constant(value.into())
    }
}

#[derive(Debug, Clone)]
struct Pad {
    /// Pairs for the last dim, the dim before, ...
    pad: Vec<i64>,
    value: Scalar,
}

impl Tensor {
    /// Adds elements at both ends of dims: `pad` is `[left, right]` for the last dim, then for the dim before, and so on. With
    /// a constant, negative counts cut off.
    ///
    /// Dtypes: all. PyTorch: `torch.nn.functional.pad`. NPU: `aclnnConstantPadNd`; for the other modes
    /// `aclnnReflectionPad1d`, `aclnnReplicationPad1d`, `aclnnCircularPad2d`, their forms of more dims and gradients.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::view::PadMode};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2, 3]]);
    /// assert_eq!(x.pad(&[1, -1], ())?.to_vec::<i32>()?, [0, 1, 2]);
    /// assert_eq!(x.pad(&[2, 1], PadMode::Reflect)?.to_vec::<i32>()?, [3, 2, 1, 2, 3, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for an odd number of counts, `Shape` for more than the tensor has dims, for a dim cut below nothing, and where
    /// a mode cannot fill that much or does not take that many dims.
    pub fn pad(&self, pad: &[i64], mode: impl Into<PadMode>) -> Result<Tensor> {
        match mode.into() {
            PadMode::Constant(value) => run_one(
                &Pad {
                    pad: pad.to_vec(),
                    value,
                },
                &[self],
            ),
            mode => run_one(
                &PadInside {
                    pad: pad.to_vec(),
                    mode,
                },
                &[self],
            ),
        }
    }
}

/// The shape after padding.
pub(super) fn padded(op: &'static str, x: &Shape, pad: &[i64]) -> Result<Shape> {
    if !pad.len().is_multiple_of(2) {
        return Err(Error::option(
            op,
            "pad",
            format!("got {} counts, wanted pairs", pad.len()),
        ));
    }
    if pad.len() / 2 > x.rank() {
        return Err(Error::shape(
            op,
            format!("{} pairs for a tensor of {x}", pad.len() / 2),
            "at most one pair for each dim",
        ));
    }
    let mut shape = *x;
    for (pair, dim) in pad.chunks_exact(2).zip((0..x.rank()).rev()) {
        let size = (x.size(dim) as i64)
            .saturating_add(pair[0])
            .saturating_add(pair[1]);
        let size = usize::try_from(size).map_err(|_| {
            Error::shape(
                op,
                format!("{pair:?} for a dim of {}", x.size(dim)),
                "a size of at least 0",
            )
        })?;
        shape = shape.with(dim, size);
    }
    shape.check(op)?;
    Ok(shape)
}

impl Op for Pad {
    fn name(&self) -> &'static str {
        "pad"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(padded(self.name(), &x[0].shape, &self.pad)?, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        if y[0].elements() == 0 {
            // A dim may be of any size beside an empty one: no table of it.
            return Ok(Counts::EXACT);
        }
        let mut paths = Paths::of(x[0].layout());
        for (pair, dim) in self.pad.chunks_exact(2).zip((0..x[0].shape().rank()).rev()) {
            let size = x[0].shape().size(dim);
            let place = |index: usize| {
                usize::try_from((index as i64).wrapping_sub(pair[0]))
                    .ok()
                    .filter(|place| *place < size)
                    .unwrap_or(NOWHERE)
            };
            if pair[0] != 0 || pair[1] != 0 {
                paths =
                    paths.with_indices(self.name(), dim, (0..y[0].shape().size(dim)).map(place))?;
            }
        }
        gather(&x[0], &paths, bits_of(self.value, x[0].dtype()), &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let value = AclScalar::of(self.value, x[0].dtype());
        if self.pad.is_empty() {
            aclnn::inplace_copy(cx, &y[0], &x[0])?;
        } else if x[0].elements() == 0 {
            aclnn::inplace_fill_scalar(cx, &y[0], value)?;
        } else {
            aclnn::constant_pad_nd(cx, &x[0], &self.pad, value, &y[0])?;
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let back: Vec<i64> = self
            .pad
            .iter()
            .map(|count| count.saturating_neg())
            .collect();
        Ok(smallvec![Some(cx.gradient()?.pad(&back, ())?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "pad",
    family: "view",
    kernels: pad_inside::KERNELS,
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(Pad {
        pad: vec![1, 2, -1, 0],
        value: Scalar::Int(1),
    });
    let mut samples = vec![Sample {
        op,
        inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
        dtypes: DType::ALL,
    }];
    samples.extend(pad_inside::samples());
    samples
}
