//! `scatter`: elements written along a dim, at the places that an index names.

use super::gather::{index_fits, lifted};
use super::{Negative, host_indices, on_device};
use crate::cpu::gather::{in_lanes, scatter_along};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Scatter {
    dim: i64,
    value: Option<Scalar>,
}

impl Tensor {
    /// This tensor with elements replaced along a dim: for dim 0, `out[index[i][j]][j] = source[i][j]`, or a number in all
    /// those places. Of a place named twice, the last.
    ///
    /// Shapes: the index has as many dims, none larger but `dim`; the source is at least as large as the index, whose corner
    /// is used. Dtypes: all, the source's equal to this tensor's; the index `i64` or `i32`. PyTorch: `torch.scatter`.
    /// NPU: `aclnnScatter`, `aclnnScatterValue`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[0i32, 0], [0, 0]]);
    /// let index = Tensor::new([[1i64], [0]]);
    /// assert_eq!(x.scatter(1, &index, &Tensor::new([[5i32], [6]]))?.to_vec::<i32>()?, [0, 5, 6, 0]);
    /// assert_eq!(x.scatter(1, &index, 7)?.to_vec::<i32>()?, [0, 7, 7, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`Tensor::gather`]; `Shape` or `DType` if the source does not fit.
    pub fn scatter<'a>(
        &self,
        dim: i64,
        index: &Tensor,
        source: impl Into<Operand<'a>>,
    ) -> Result<Tensor> {
        let source = source.into();
        if self.rank() == 0 || index.rank() == 0 {
            let (x, at) = (lifted(self)?, lifted(index)?);
            let y = match source {
                Operand::Tensor(source) => x.scatter(dim, &at, &lifted(source)?)?,
                Operand::Scalar(value) => x.scatter(dim, &at, value)?,
            };
            return y.reshape(*self.shape());
        }
        let op = Scatter {
            dim,
            value: source.scalar(),
        };
        match source.tensor() {
            Some(source) => run_one(&op, &[self, index, source]),
            None => run_one(&op, &[self, index]),
        }
    }
}

/// The dim, after checking that index and source fit a tensor: `x` is [self, index, source?].
pub(super) fn source_fits(op: &'static str, dim: i64, x: &[Meta]) -> Result<usize> {
    let at = index_fits(op, dim, &x[0], &x[1])?;
    let Some(source) = x.get(2) else {
        return Ok(at);
    };
    if source.dtype != x[0].dtype {
        return Err(Error::dtype(
            op,
            format!(
                "a source of {} for a tensor of {}",
                source.dtype, x[0].dtype
            ),
            "equal dtypes",
        ));
    }
    let smaller = |dim: usize| source.shape.size(dim) < x[1].shape.size(dim);
    if !x[1].shape.is_empty()
        && (source.shape.rank() != x[1].shape.rank() || (0..x[1].shape.rank()).any(smaller))
    {
        let got = format!(
            "a source of {} for an index of {}",
            source.shape, x[1].shape
        );
        return Err(Error::shape(op, got, "a source that is at least as large"));
    }
    Ok(at)
}

/// The part of a source that an index of this shape uses.
pub(super) fn corner(source: &Layout, shape: &Shape) -> Layout {
    let cut = |layout: Layout, (dim, size): (usize, &usize)| layout.slice(dim, 0, *size, 1);
    if shape.rank() == source.shape().rank() {
        shape.dims().iter().enumerate().fold(*source, cut)
    } else {
        *source
    }
}

/// The gradient of a source: that of the places its elements went to; zeros beyond the index's corner.
pub(super) fn source_gradient(cx: &GradCx<'_>, gathered: Tensor) -> Result<Tensor> {
    let shape = cx.meta(2)?.shape;
    if *gathered.shape() == shape {
        return Ok(gathered);
    }
    let corner = corner(&Layout::contiguous(shape), gathered.shape());
    if gathered.elements() == 0 {
        Tensor::zeros(shape, gathered.dtype(), gathered.device())
    } else {
        gathered.place(shape, corner)
    }
}

impl Op for Scatter {
    fn name(&self) -> &'static str {
        "scatter"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        source_fits(self.name(), self.dim, x)?;
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *x[0].shape();
        let dim = shape.axis(self.name(), self.dim)?;
        let index = host_indices(self.name(), &x[1], shape.size(dim), Negative::Refused)?;
        map::copy(&x[0], &mut y[0]);
        with_lane!(x[0].dtype(), T => {
            let value = T::from_scalar(self.value.unwrap_or(Scalar::Int(0)));
            let source = match x.get(2) {
                Some(source) => source.with_layout(corner(source.layout(), x[1].shape())),
                None => Host::splat(&value, x[1].shape()),
            };
            in_lanes::<T>(self.name(), &mut y[0], |target| scatter_along(&source, dim, &index, (target, &shape), |_, x| x))?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        on_device(cx, &x[1], x[0].shape().size(dim), Negative::Refused)?;
        if x[1].elements() == 0 {
            aclnn::inplace_copy(cx, &y[0], &x[0])?;
            return Ok(Counts::EXACT);
        }
        match x.get(2) {
            Some(source) => {
                let source = source.with_layout(corner(source.layout(), x[1].shape()));
                aclnn::scatter(cx, &x[0], dim as i64, &x[1], &source, 0, &y[0])?;
            }
            None => {
                let value = AclScalar::of(self.value.unwrap_or(Scalar::Int(0)), x[0].dtype());
                aclnn::scatter_value(cx, &x[0], dim as i64, &x[1], value, 0, &y[0])?;
            }
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, index) = (cx.gradient()?, cx.input(1)?);
        let mut grads: Grads = smallvec![cx.want(0, || dy.scatter(self.dim, index, 0i64))?, None];
        if cx.len() > 2 {
            grads.push(cx.want(2, || source_gradient(cx, dy.gather(self.dim, index)?))?);
        }
        Ok(grads)
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "scatter",
    family: "index",
    kernels: &["aclnnScatter", "aclnnScatterValue"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = || {
        vec![
            SampleInput::new([2, 3, 4], -2.0, 2.0),
            SampleInput::typed([2, 1, 3], DType::I64, 0.0, 2.9),
        ]
    };
    let source = inputs()
        .into_iter()
        .chain([SampleInput::new([2, 1, 4], -2.0, 2.0)])
        .collect();
    vec![
        Sample {
            op: Box::new(Scatter {
                dim: 1,
                value: None,
            }),
            inputs: source,
            dtypes: DType::ALL,
        },
        Sample {
            op: Box::new(Scatter {
                dim: 1,
                value: Some(1i64.into()),
            }),
            inputs: inputs(),
            dtypes: DType::ALL,
        },
    ]
}
