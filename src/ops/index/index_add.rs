//! `index_add`: slices added at the places that an index names.

use super::index_select::one_dim;
use super::{Negative, host_indices, on_device};
use crate::cpu::gather::{Paths, in_lanes, scatter};
use crate::ops::prelude::*;

/// Settings of [`Tensor::index_add`]. Made from `()` for an `alpha` of 1, or from a number.
#[derive(Debug, Clone, Copy, PartialEq)]
#[must_use]
pub struct IndexAddOptions {
    alpha: Scalar,
}

impl Default for IndexAddOptions {
    fn default() -> Self {
        IndexAddOptions {
            alpha: Scalar::Int(1),
        }
    }
}

impl IndexAddOptions {
    /// `alpha` is 1.
    pub fn new() -> Self {
        IndexAddOptions::default()
    }

    /// The factor of the source.
    pub fn alpha(mut self, alpha: impl Into<Scalar>) -> Self {
        self.alpha = alpha.into();
        self
    }
}

impl From<()> for IndexAddOptions {
    fn from((): ()) -> Self {
        IndexAddOptions::new()
    }
}

#[derive(Debug, Clone, Copy)]
struct IndexAdd {
    dim: i64,
    alpha: Scalar,
}

impl Tensor {
    /// This tensor with `alpha` times the slices of `source` added at the places along a dim that an index names; a place
    /// named several times gets them all.
    ///
    /// Shapes: `[.., n, ..]`, an index `[k]`, a source `[.., k, ..]`. Dtypes: all; the index `i64` or `i32`.
    /// PyTorch: `torch.index_add`. NPU: `aclnnIndexAdd`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 1, 1]);
    /// let y = x.index_add(0, &Tensor::new([2i64, 0, 2]), &Tensor::new([5i32, 6, 7]), ())?;
    /// assert_eq!(y.to_vec::<i32>()?, [7, 1, 13]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis`, `Index`, `Shape` and `DType` as [`Tensor::index_select`], and if the source does not fit.
    pub fn index_add(
        &self,
        dim: i64,
        index: &Tensor,
        source: &Tensor,
        options: impl Into<IndexAddOptions>,
    ) -> Result<Tensor> {
        if self.rank() == 0 {
            return self
                .reshape([1])?
                .index_add(dim, index, &source.reshape([1])?, options)?
                .reshape(());
        }
        run_one(
            &IndexAdd {
                dim,
                alpha: options.into().alpha,
            },
            &[self, index, source],
        )
    }
}

/// The dim of an op that writes slices, after checking that index and source fit: `x` is [self, index, source].
pub(super) fn slices_fit(op: &'static str, dim: i64, x: &[Meta]) -> Result<usize> {
    let dim = x[0].shape.axis(op, dim)?;
    let count = one_dim(op, &x[1])?;
    if x[2].dtype != x[0].dtype {
        return Err(Error::dtype(
            op,
            format!("a source of {} for a tensor of {}", x[2].dtype, x[0].dtype),
            "equal dtypes",
        ));
    }
    if x[2].shape != x[0].shape.with(dim, count) {
        let got = format!(
            "a source of {} and {count} indices for a tensor of {}",
            x[2].shape, x[0].shape
        );
        return Err(Error::shape(
            op,
            got,
            "one slice of the source for each index",
        ));
    }
    Ok(dim)
}

impl Op for IndexAdd {
    fn name(&self) -> &'static str {
        "index_add"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        slices_fit(self.name(), self.dim, x)?;
        if self.alpha.dtype().category() > x[0].dtype.category() {
            return Err(Error::dtype(
                self.name(),
                format!("a float alpha for {}", x[0].dtype),
                "an integer alpha",
            ));
        }
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        let index = host_indices(
            self.name(),
            &x[1],
            x[0].shape().size(dim),
            Negative::Refused,
        )?;
        let paths = Paths::of(&Layout::contiguous(*x[0].shape())).with_indices(
            self.name(),
            dim,
            index.iter().map(|index| *index as usize),
        )?;
        map::copy(&x[0], &mut y[0]);
        with_lane!(x[0].dtype(), T => {
            let alpha = T::from_scalar(self.alpha);
            let one = self.alpha.is_one();
            in_lanes::<T>(self.name(), &mut y[0], |target| match one {
                true => scatter(&x[2], &paths, target, |old, x| old.plus(x)),
                false => scatter(&x[2], &paths, target, |old, x| old.plus(alpha.times(x))),
            })?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dim = x[0].shape().axis(self.name(), self.dim)?;
        on_device(cx, &x[1], x[0].shape().size(dim), Negative::Refused)?;
        if x[2].elements() == 0 {
            aclnn::inplace_copy(cx, &y[0], &x[0])?;
            return Ok(Counts::EXACT);
        }
        aclnn::index_add(
            cx,
            &x[0],
            dim as i64,
            &x[1],
            &x[2],
            AclScalar::of(self.alpha, x[0].dtype()),
            &y[0],
        )?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let slices = || {
            let slices = dy.index_select(self.dim, cx.input(1)?)?;
            if self.alpha.is_one() {
                Ok(slices)
            } else {
                slices.mul(self.alpha)
            }
        };
        Ok(smallvec![
            cx.want(0, || Ok(dy.clone()))?,
            None,
            cx.want(2, slices)?
        ])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "index_add",
    family: "index",
    kernels: &["aclnnIndexAdd"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([2, 3, 4], -2.0, 2.0),
        SampleInput::typed([5], DType::I64, 0.0, 2.9),
        SampleInput::new([2, 5, 4], -2.0, 2.0),
    ];
    vec![Sample {
        op: Box::new(IndexAdd {
            dim: 1,
            alpha: Scalar::Int(2),
        }),
        inputs,
        dtypes: NUMBERS,
    }]
}
