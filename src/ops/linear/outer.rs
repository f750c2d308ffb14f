//! `outer`: all products of two vectors' elements.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Outer;

impl Tensor {
    /// All products of two vectors' elements: `z[i, j] = x[i] * y[j]`; the dtypes promote.
    ///
    /// Shapes: `[m] x [n] -> [m, n]`. Dtypes: all. PyTorch: `torch.outer`. NPU: `aclnnMul`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let z = Tensor::new([1i32, 2]).outer(&Tensor::new([3i32, 4, 5]))?;
    /// assert_eq!(z.to_vec::<i32>()?, [3, 4, 5, 6, 8, 10]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if one of them is not a vector.
    pub fn outer(&self, other: &Tensor) -> Result<Tensor> {
        run_one(&Outer, &[self, other])
    }
}

fn layouts(x: &Layout, y: &Layout) -> Result<[Layout; 2]> {
    let shape = Shape::from([x.elements(), y.elements()]);
    Ok([
        x.unsqueeze(1).expand("outer", &shape)?,
        y.unsqueeze(0).expand("outer", &shape)?,
    ])
}

impl Op for Outer {
    fn name(&self) -> &'static str {
        "outer"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let ([rows], [columns]) = (x[0].shape.dims(), x[1].shape.dims()) else {
            return Err(Error::shape(
                "outer",
                format!("{} and {}", x[0].shape, x[1].shape),
                "two vectors",
            ));
        };
        let dtype = result_type(x, &[]);
        plan.cast(0, dtype);
        plan.cast(1, dtype);
        plan.output(Shape::from([*rows, *columns]), dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let [a, b] = layouts(x[0].layout(), x[1].layout())?;
        let (a, b) = (x[0].with_layout(a), x[1].with_layout(b));
        with_lane!(y[0].dtype(), T => map::map2::<T, T, T>(&a, &b, &mut y[0], |x, y| x.times(y)));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let (a, b) = (
            x[0].with_layout(x[0].layout().unsqueeze(1)),
            x[1].with_layout(x[1].layout().unsqueeze(0)),
        );
        aclnn::mul(cx, &a, &b, &y[0])?;
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dz = cx.gradient()?;
        Ok(smallvec![
            cx.want(0, || dz.matmul(cx.input(1)?))?,
            cx.want(1, || cx.input(0)?.matmul(dz))?
        ])
    }

    fn cast(&self) -> CastRule {
        CastRule::Widest
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "outer",
    family: "linear",
    kernels: &["aclnnMul"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([3], -2.0, 2.0),
        SampleInput::new([4], -2.0, 2.0),
    ];
    vec![Sample {
        op: Box::new(Outer),
        inputs,
        dtypes: DType::ALL,
    }]
}
