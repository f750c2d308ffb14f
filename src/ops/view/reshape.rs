//! `reshape`: the same elements in row-major order under another shape.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Reshape {
    shape: Shape,
}

impl Tensor {
    /// The same elements in row-major order under another shape: a view where the layout allows it, else a copy.
    ///
    /// Shapes: any with as many elements; see [`Tensor::reshape_infer`] for an extent to be inferred. Dtypes: all.
    /// PyTorch: `torch.reshape`. NPU: no kernel, or `aclnnInplaceCopy` where a copy is needed.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1i32, 2, 3, 4, 5, 6]);
    /// assert_eq!(x.reshape([2, 3])?.dims(), [2, 3]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the number of elements differs.
    pub fn reshape(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        run_one(
            &Reshape {
                shape: shape.into(),
            },
            &[self],
        )
    }

    /// As [`Tensor::reshape`], where one size may be -1: it is inferred from the others.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// assert_eq!(Tensor::new([1i32, 2, 3, 4, 5, 6]).reshape_infer(&[3, -1])?.dims(), [3, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the number of elements differs, `Option` for two inferred or a negative size.
    pub fn reshape_infer(&self, sizes: &[i64]) -> Result<Tensor> {
        self.reshape(infer_sizes("reshape", sizes, self.elements())?)
    }
}

/// The shape with its one size of -1 made such that there are `elements` elements.
pub(crate) fn infer_sizes(op: &'static str, sizes: &[i64], elements: usize) -> Result<Shape> {
    let bad = || {
        Error::option(
            op,
            "shape",
            format!("got {sizes:?}, wanted sizes that are not negative, but for one -1"),
        )
    };
    if sizes.iter().any(|size| *size < -1) || sizes.iter().filter(|size| **size == -1).count() > 1 {
        return Err(bad());
    }
    let known: Shape = sizes
        .iter()
        .filter_map(|size| usize::try_from(*size).ok())
        .collect();
    let misfit = || {
        Error::shape(
            op,
            format!("{elements} elements for {sizes:?}"),
            "a shape with as many elements",
        )
    };
    let rest = match known.elements() {
        0 if sizes.contains(&-1) => return Err(misfit()),
        0 => 0,
        known if elements.is_multiple_of(known) => elements / known,
        _ => return Err(misfit()),
    };
    Ok(sizes
        .iter()
        .map(|size| usize::try_from(*size).unwrap_or(rest))
        .collect())
}

impl Reshape {
    fn check(&self, from: &Shape) -> Result<()> {
        self.shape.check("reshape")?;
        if self.shape.elements() == from.elements() {
            return Ok(());
        }
        Err(Error::shape(
            "reshape",
            format!("a tensor of {from} for {}", self.shape),
            "a shape with as many elements",
        ))
    }
}

impl Op for Reshape {
    fn name(&self) -> &'static str {
        "reshape"
    }

    fn view(&self, x: &Layout) -> Result<Option<Layout>> {
        self.check(x.shape())?;
        Ok(x.reshape(&self.shape))
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        self.check(&x[0].shape)?;
        plan.output(self.shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        map::copy(
            &x[0],
            &mut y[0].with_layout(Layout::contiguous(*x[0].shape())),
        );
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        aclnn::inplace_copy(
            cx,
            &y[0].with_layout(Layout::contiguous(*x[0].shape())),
            &x[0],
        )?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(cx.gradient()?.reshape(cx.meta(0)?.shape)?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "reshape",
    family: "view",
    kernels: &["aclnnInplaceCopy"],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(Reshape {
        shape: Shape::from([2, 6]),
    });
    vec![Sample {
        op,
        inputs: vec![SampleInput::new([3, 4], -2.0, 2.0)],
        dtypes: DType::ALL,
    }]
}
