//! `repeat` and `tile`: the tensor several times along dims.

use crate::cpu::gather::{Paths, gather};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Repeat {
    repeats: Shape,
}

impl Tensor {
    /// The tensor so many times along each dim; more counts than dims make new leading dims.
    ///
    /// Dtypes: all. PyTorch: `Tensor.repeat`. NPU: `aclnnRepeat`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 2]);
    /// assert_eq!(x.repeat([2])?.to_vec::<i32>()?, [1, 2, 1, 2]);
    /// assert_eq!(x.repeat([3, 1])?.dims(), [3, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for fewer counts than dims, or more than eight.
    pub fn repeat(&self, repeats: impl Into<Shape>) -> Result<Tensor> {
        run_one(
            &Repeat {
                repeats: repeats.into(),
            },
            &[self],
        )
    }

    /// As [`Tensor::repeat`], where missing leading counts are 1.
    ///
    /// Dtypes: all. PyTorch: `torch.tile`. NPU: `aclnnRepeat`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([[1i32, 2]]).tile([2])?.to_vec::<i32>()?, [1, 2, 1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for more than eight counts.
    pub fn tile(&self, dims: impl Into<Shape>) -> Result<Tensor> {
        let dims = dims.into();
        dims.check("tile")?;
        let ones = std::iter::repeat_n(1, self.rank().saturating_sub(dims.rank()));
        self.repeat(ones.chain(dims.dims().iter().copied()).collect::<Shape>())
    }
}

impl Repeat {
    /// The input's shape with leading ones, and the result's.
    fn shapes(&self, x: &Shape) -> Result<(Shape, Shape)> {
        self.repeats.check(self.name())?;
        let Some(lead) = self.repeats.rank().checked_sub(x.rank()) else {
            return Err(Error::shape(
                self.name(),
                format!("{} counts for {x}", self.repeats.rank()),
                "at least one count for each dim",
            ));
        };
        let from: Shape = std::iter::repeat_n(1, lead)
            .chain(x.dims().iter().copied())
            .collect();
        let to: Shape = from
            .dims()
            .iter()
            .zip(self.repeats.dims())
            .map(|(size, count)| size.saturating_mul(*count))
            .collect();
        to.check(self.name())?;
        Ok((from, to))
    }
}

impl Op for Repeat {
    fn name(&self) -> &'static str {
        "repeat"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(self.shapes(&x[0].shape)?.1, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let (from, to) = self.shapes(x[0].shape())?;
        if y[0].elements() == 0 {
            // A dim may be of any size beside an empty one: no table of it.
            return Ok(Counts::EXACT);
        }
        let lifted = x[0].layout().expand(self.name(), &from)?;
        let turn = |paths: Paths, dim: usize| {
            paths.with_indices(
                self.name(),
                dim,
                (0..to.size(dim)).map(|index| index % from.size(dim).max(1)),
            )
        };
        let paths = (0..to.rank())
            .filter(|dim| to.size(*dim) != from.size(*dim))
            .try_fold(Paths::of(&lifted), turn)?;
        gather(&x[0], &paths, 0, &mut y[0]);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let repeats: Vec<i64> = self
            .repeats
            .dims()
            .iter()
            .map(|count| *count as i64)
            .collect();
        if repeats.is_empty() {
            aclnn::inplace_copy(cx, &y[0], &x[0])?
        } else {
            aclnn::repeat(cx, &x[0], &repeats, &y[0])?
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    /// Dim by dim, the sum over the copies.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let shape = cx.meta(0)?.shape;
        let (from, to) = self.shapes(&shape)?;
        let mut dx = cx.gradient()?.clone();
        for (dim, count) in self
            .repeats
            .dims()
            .iter()
            .enumerate()
            .filter(|(_, count)| **count != 1)
        {
            let before: usize = from.dims()[..dim].iter().product();
            let after: usize = to.dims()[dim + 1..].iter().product();
            dx = dx
                .reshape([before, *count, from.size(dim) * after])?
                .sum(1)?;
        }
        Ok(smallvec![Some(dx.reshape(shape)?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "repeat",
    family: "view",
    kernels: &["aclnnRepeat"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(Repeat {
        repeats: Shape::from([2, 1, 3]),
    });
    vec![Sample {
        op,
        inputs: vec![SampleInput::new([2, 3], -2.0, 2.0)],
        dtypes: DType::ALL,
    }]
}
