//! `addmm`: a matrix product added to a tensor. The op behind `baddbmm` too.

use super::{Frame, KEEP};
use crate::cpu::gemm::products;
use crate::ops::prelude::*;

/// Settings of [`Tensor::addmm`] and [`Tensor::baddbmm`]: the factors of the sum's two parts.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct AddmmOptions {
    beta: Scalar,
    alpha: Scalar,
}

impl Default for AddmmOptions {
    fn default() -> Self {
        AddmmOptions {
            beta: Scalar::Int(1),
            alpha: Scalar::Int(1),
        }
    }
}

impl From<()> for AddmmOptions {
    fn from((): ()) -> Self {
        AddmmOptions::default()
    }
}

impl AddmmOptions {
    /// Both factors are 1.
    pub fn new() -> Self {
        AddmmOptions::default()
    }

    /// The factor of the tensor that the product is added to; with 0 its values do not count, NaN included.
    pub fn beta(mut self, beta: impl Into<Scalar>) -> Self {
        self.beta = beta.into();
        self
    }

    /// The factor of the product.
    pub fn alpha(mut self, alpha: impl Into<Scalar>) -> Self {
        self.alpha = alpha.into();
        self
    }
}

/// `beta * input + alpha * x y`, for matrices or for batches of them.
#[derive(Debug, Clone, Copy)]
pub(super) struct AddProduct {
    pub(super) batched: bool,
    pub(super) options: AddmmOptions,
}

impl Tensor {
    /// `beta * self + alpha * x y`, where this tensor broadcasts to the product's shape; rounded once.
    ///
    /// Shapes: `[m, n] + [m, k] x [k, n] -> [m, n]`. Dtypes: all but `bool`, equal ones; for integers the factors lose what
    /// is behind the point. PyTorch: `torch.addmm`.
    /// NPU: `aclnnAddmm`, `aclnnMm`.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::linear::AddmmOptions};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// let bias = Tensor::new([10.0f32, 20.0]);
    /// assert_eq!(bias.addmm(&x, &x, ())?.to_vec::<f32>()?, [17.0, 30.0, 25.0, 42.0]);
    /// let half = AddmmOptions::new().beta(0).alpha(0.5);
    /// assert_eq!(bias.addmm(&x, &x, half)?.to_vec::<f32>()?, [3.5, 5.0, 7.5, 11.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for factors that are not matrices that fit, or if this tensor does not broadcast; `DType` for unequal dtypes.
    pub fn addmm(
        &self,
        x: &Tensor,
        y: &Tensor,
        options: impl Into<AddmmOptions>,
    ) -> Result<Tensor> {
        run_one(
            &AddProduct {
                batched: false,
                options: options.into(),
            },
            &[self, x, y],
        )
    }
}

impl AddProduct {
    /// Both factors as numbers of a dtype: integers lose what is behind the point.
    fn factors(&self, dtype: DType) -> AddmmOptions {
        let whole = |factor: Scalar| match dtype.is_float() {
            true => factor,
            false => Scalar::Int(factor.to_i64()),
        };
        AddmmOptions {
            beta: whole(self.options.beta),
            alpha: whole(self.options.alpha),
        }
    }

    fn refuse(&self, cx: &Launch, dtype: DType, why: &'static str) -> Error {
        Error::unsupported(self.name(), Device::Ascend(cx.device()), dtype, why)
    }
}

impl Op for AddProduct {
    fn name(&self) -> &'static str {
        if self.batched { "baddbmm" } else { "addmm" }
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let (op, rank) = (self.name(), if self.batched { 3 } else { 2 });
        let dtype = super::same_dtype(op, x)?;
        let fit = x[1].shape.rank() == rank
            && x[2].shape.rank() == rank
            && (!self.batched || x[1].shape.size(0) == x[2].shape.size(0));
        if !fit {
            return Err(Error::shape(
                op,
                format!("{} and {}", x[1].shape, x[2].shape),
                format!("two tensors of {rank} dims that fit"),
            ));
        }
        let result = Frame::of(op, &x[1].shape, &x[2].shape, [false, false])?.result();
        Layout::contiguous(x[0].shape).expand(op, &result)?;
        plan.output(result, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let start = x[0].broadcast(y[0].shape());
        let AddmmOptions { alpha, beta } = self.factors(y[0].dtype());
        with_lane!(y[0].dtype(), T => {
            let start = if beta.is_zero() { None } else { Some((&start, T::from_scalar(beta))) };
            products::<T>(self.name(), &x[1], &x[2], &mut y[0], T::from_scalar(alpha), start)?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dtype = y[0].dtype();
        let AddmmOptions { alpha, beta } = self.factors(dtype);
        if x[1].elements() == 0 || x[2].elements() == 0 {
            return Err(self.refuse(cx, dtype, "the kernel takes no empty factors"));
        }
        let scalar = |value| AclScalar::of(value, dtype);
        if !beta.is_zero() {
            let run = if self.batched {
                aclnn::baddbmm
            } else {
                aclnn::addmm
            };
            run(
                cx,
                &x[0],
                &x[1],
                &x[2],
                scalar(beta),
                scalar(alpha),
                &y[0],
                KEEP,
            )?;
            return Ok(Counts::EXACT);
        }
        if self.batched {
            aclnn::batch_matmul(cx, &x[1], &x[2], &y[0], KEEP)?
        } else {
            aclnn::mm(cx, &x[1], &x[2], &y[0], KEEP)?
        };
        if !alpha.is_one() {
            aclnn::muls(cx, &y[0], scalar(alpha), &y[0])?;
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let AddmmOptions { alpha, beta } = self.factors(x[1].dtype());
        let product = x[1].matmul(&x[2])?.mul(alpha)?;
        if beta.is_zero() {
            return Ok(smallvec![product]);
        }
        Ok(smallvec![x[0].mul(beta)?.add(&product)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1).and_input(2)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, y, dz) = (cx.input(1)?, cx.input(2)?, cx.gradient()?);
        let times = |factor: Scalar, x: Tensor| {
            if factor.is_one() {
                Ok(x)
            } else {
                x.mul(factor)
            }
        };
        let scaled = |product| times(self.options.alpha, product);
        let flipped = super::matmul::Product::run;
        Ok(smallvec![
            cx.want(0, || times(self.options.beta, dz.clone()))?,
            cx.want(1, || scaled(flipped([false, true], dz, y)?))?,
            cx.want(2, || scaled(flipped([true, false], x, dz)?))?,
        ])
    }

    fn cast(&self) -> CastRule {
        CastRule::Lower
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "addmm",
    family: "linear",
    kernels: &["aclnnAddmm", "aclnnMm"],
    samples,
};

/// Samples with the shapes of the three inputs.
pub(super) fn samples_of(batched: bool, shapes: [&[usize]; 3]) -> Vec<Sample> {
    let inputs = || {
        shapes
            .iter()
            .map(|shape| SampleInput::new(*shape, -2.0, 2.0))
            .collect()
    };
    let sample = |options, dtypes| Sample {
        op: Box::new(AddProduct { batched, options }),
        inputs: inputs(),
        dtypes,
    };
    vec![
        sample(AddmmOptions::new(), NUMBERS),
        sample(AddmmOptions::new().beta(0.5).alpha(-1.5), FLOATS),
        sample(AddmmOptions::new().beta(0).alpha(2), NUMBERS),
    ]
}

fn samples() -> Vec<Sample> {
    samples_of(false, [&[2], &[3, 4], &[4, 2]])
}
