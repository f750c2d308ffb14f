//! `lerp`: a point on the line from one operand to another.

use crate::cpu::real::Real;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Lerp {
    weight: Option<Scalar>,
}

impl Tensor {
    /// `self + weight (end - self)`, from the nearer end where the weight is 1/2 or more.
    ///
    /// Shapes: all that broadcast. Dtypes: floats, all the same. PyTorch: `torch.lerp`. NPU: `aclnnLerp`, `aclnnLerps`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([0.0f32, 10.0]);
    /// assert_eq!(x.lerp(&Tensor::new([4.0f32, 20.0]), 0.25)?.to_vec::<f32>()?, [1.0, 12.5]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` if the dtypes differ or are no floats, `Broadcast` if the shapes do not fit, `Device` if the tensors are on two
    /// devices.
    pub fn lerp<'a>(&self, end: &Tensor, weight: impl Into<Operand<'a>>) -> Result<Tensor> {
        match weight.into() {
            Operand::Tensor(weight) => run_one(&Lerp { weight: None }, &[self, end, weight]),
            Operand::Scalar(weight) => run_one(
                &Lerp {
                    weight: Some(weight),
                },
                &[self, end],
            ),
        }
    }
}

#[inline(always)]
fn at<T: Real>(x: T, end: T, weight: T) -> T {
    let way = end.minus(x);
    let (near, far) = (
        x.plus(weight.times(way)),
        end.minus(way.times(T::ONE.minus(weight))),
    );
    if weight.absolute() < T::from_f64(0.5) {
        near
    } else {
        far
    }
}

impl Op for Lerp {
    fn name(&self) -> &'static str {
        "lerp"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = x[0].dtype;
        if let Some(other) = x.iter().find(|other| other.dtype != dtype) {
            return Err(Error::dtype(
                "lerp",
                format!("{dtype} and {}", other.dtype),
                "one dtype",
            ));
        }
        if !dtype.is_float() {
            return Err(Error::dtype("lerp", dtype, "floats"));
        }
        super::plan_as("lerp", x, dtype, dtype, plan)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        let (start, end) = (x[0].broadcast(&shape), x[1].broadcast(&shape));
        with_float!(x[0].dtype(), T => match (self.weight, x.get(2)) {
            (None, Some(weight)) => map::map3::<T, T, T, T>(&start, &end, &weight.broadcast(&shape), &mut y[0], at),
            (weight, _) => {
                let weight = T::from_scalar(weight.unwrap_or(Scalar::Int(0)));
                map::map2::<T, T, T>(&start, &end, &mut y[0], |x, end| at(x, end, weight));
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        match self.weight {
            Some(weight) => {
                aclnn::lerps(cx, &x[0], &x[1], AclScalar::of(weight, y[0].dtype()), &y[0])?
            }
            None => aclnn::lerp(cx, &x[0], &x[1], &x[2], &y[0])?,
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (dtype, wide) = (x[0].dtype(), x[0].dtype().compute());
        let (start, end) = (x[0].to_dtype(wide)?, x[1].to_dtype(wide)?);
        let weight = match self.weight {
            Some(weight) => Tensor::full_of((), weight, wide, start.device())?,
            None => x[2].to_dtype(wide)?,
        };
        let way = end.sub(&start)?;
        let (near, far) = (
            start.add(&way.mul(&weight)?)?,
            end.sub(&way.mul(&weight.neg()?.add(1i64)?)?)?,
        );
        Ok(smallvec![
            weight
                .abs()?
                .lt(0.5)?
                .where_cond(&near, &far)?
                .to_dtype(dtype)?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        if let Some(weight) = self.weight {
            let weight = weight.to_f64();
            // Summed over broadcast dims before it is rounded by the factor: halves would lose what products cancel.
            let part = |index: usize, factor: f64| {
                let shape = cx.meta(index)?.shape;
                cx.want(index, || dy.sum_to("lerp", &shape)?.mul(factor))
            };
            return Ok(smallvec![part(0, 1.0 - weight)?, part(1, weight)?]);
        }
        let weight = cx.input(2)?;
        Ok(smallvec![
            cx.want(0, || dy.mul(&weight.neg()?.add(1i64)?))?,
            cx.want(1, || dy.mul(weight))?,
            cx.want(2, || dy.mul(&cx.input(1)?.sub(cx.input(0)?)?))?
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
    name: "lerp",
    family: "elementwise",
    kernels: &["aclnnLerp", "aclnnLerps"],
    samples,
};

fn samples() -> Vec<Sample> {
    let pair = || {
        vec![
            SampleInput::new([3, 4], -2.0, 2.0),
            SampleInput::new([4], -2.0, 2.0),
        ]
    };
    let triple = || {
        pair()
            .into_iter()
            .chain([SampleInput::new([3, 1], 0.0, 1.0)])
            .collect()
    };
    vec![
        Sample {
            op: Box::new(Lerp {
                weight: Some(Scalar::Float(0.3)),
            }),
            inputs: pair(),
            dtypes: FLOATS,
        },
        Sample {
            op: Box::new(Lerp { weight: None }),
            inputs: triple(),
            dtypes: FLOATS,
        },
    ]
}
