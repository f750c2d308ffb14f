//! `expand`: the same elements broadcast to a larger shape, without a copy.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Expand {
    shape: Shape,
}

impl Tensor {
    /// A view broadcast to a shape: size-1 dims repeat, new dims lead.
    ///
    /// Dtypes: all. PyTorch: `Tensor.expand`. NPU: no kernel.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32], [2]]);
    /// assert_eq!(x.expand([2, 3])?.to_vec::<i32>()?, [1, 1, 1, 2, 2, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the tensor does not broadcast to the shape.
    pub fn expand(&self, shape: impl Into<Shape>) -> Result<Tensor> {
        run_one(
            &Expand {
                shape: shape.into(),
            },
            &[self],
        )
    }
}

impl Op for Expand {
    fn name(&self) -> &'static str {
        "expand"
    }

    fn view(&self, x: &Layout) -> Result<Option<Layout>> {
        x.expand("expand", &self.shape).map(Some)
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(self.shape, x[0].dtype);
        Ok(())
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    /// The tape sums over the broadcast dims.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok(smallvec![Some(cx.gradient()?.clone())])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "expand",
    family: "view",
    kernels: &[],
    samples,
};

fn samples() -> Vec<Sample> {
    let op = Box::new(Expand {
        shape: Shape::from([2, 3, 4]),
    });
    vec![Sample {
        op,
        inputs: vec![SampleInput::new([3, 1], -2.0, 2.0)],
        dtypes: DType::ALL,
    }]
}
