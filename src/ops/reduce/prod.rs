//! `prod`: the product of elements over a dim, or over all.

use super::ReduceOptions;
use crate::cpu::lane::Lane;
use crate::cpu::reduce::{Fold, fold};
use crate::ops::prelude::*;

/// The dim of [`Tensor::prod`] (none: all), whether it stays with size 1, and the dtype to compute in.
///
/// Made from `()`, from the dim alone, or built up.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct ProdOptions {
    dim: Option<i64>,
    keep: bool,
    dtype: Option<DType>,
}

impl ProdOptions {
    /// Over all dims.
    pub fn new() -> Self {
        ProdOptions::default()
    }

    /// Over this dim.
    pub fn dim(mut self, dim: i64) -> Self {
        self.dim = Some(dim);
        self
    }

    /// Keeps the reduced dims with size 1.
    pub fn keepdim(mut self) -> Self {
        self.keep = true;
        self
    }

    /// Casts the input to this dtype first.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = Some(dtype);
        self
    }

    fn reduce(&self) -> ReduceOptions {
        let options = self.dim.map_or(ReduceOptions::new(), ReduceOptions::from);
        if self.keep {
            options.keepdim()
        } else {
            options
        }
    }
}

impl From<()> for ProdOptions {
    fn from((): ()) -> Self {
        ProdOptions::new()
    }
}

impl From<i64> for ProdOptions {
    fn from(dim: i64) -> Self {
        ProdOptions::new().dim(dim)
    }
}

#[derive(Debug, Clone, Copy)]
struct Prod {
    options: ProdOptions,
}

impl Tensor {
    /// The product over a dim or over all; integers and bools give `i64`, the product of nothing is 1.
    ///
    /// The gradient of an element is the product of the others, zeros among them or not.
    /// Shapes: the reduced dims go, or stay with size 1 (`keepdim`). Dtypes: all. PyTorch: `torch.prod`. NPU: `aclnnProd`,
    /// `aclnnProdDim`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]);
    /// assert_eq!(x.prod(())?.item::<i64>()?, 24);
    /// assert_eq!(x.prod(1)?.to_vec::<i64>()?, [2, 12]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Axis` for a dim out of range.
    pub fn prod(&self, options: impl Into<ProdOptions>) -> Result<Tensor> {
        run_one(
            &Prod {
                options: options.into(),
            },
            &[self],
        )
    }
}

/// Multiplies floats in double precision and integers wrapping.
struct Product<T>(std::marker::PhantomData<fn(T)>);

impl<T: Lane> Fold for Product<T> {
    type In = T;
    type State = (f64, i64);
    type Out = T;

    fn start(&self) -> (f64, i64) {
        (1.0, 1)
    }

    #[inline(always)]
    fn step(&self, state: (f64, i64), x: T) -> (f64, i64) {
        if T::IS_FLOAT {
            (state.0 * x.to_f64(), 1)
        } else {
            (1.0, state.1.wrapping_mul(x.to_i64()))
        }
    }

    #[inline(always)]
    fn join(&self, first: (f64, i64), second: (f64, i64)) -> (f64, i64) {
        (first.0 * second.0, first.1.wrapping_mul(second.1))
    }

    fn finish(&self, state: (f64, i64), _count: usize) -> T {
        if T::IS_FLOAT {
            T::from_f64(state.0)
        } else {
            T::from_i64(state.1)
        }
    }
}

impl Op for Prod {
    fn name(&self) -> &'static str {
        "prod"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let own = if x[0].dtype.is_float() {
            x[0].dtype
        } else {
            DType::I64
        };
        let dtype = self.options.dtype.unwrap_or(own);
        plan.cast(0, dtype);
        plan.output(self.options.reduce().result("prod", &x[0].shape)?, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mask = self.options.reduce().mask("prod", x[0].shape())?;
        with_lane!(y[0].dtype(), T => fold(&Product::<T>(std::marker::PhantomData), &x[0], &mask, &mut y[0]));
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let dtype = y[0].dtype();
        if x[0].elements() == 0 {
            aclnn::inplace_one(cx, &y[0])?;
            return Ok(Counts::EXACT);
        }
        match self.options.dim {
            Some(dim) => aclnn::prod_dim(cx, &x[0], dim, self.options.keep, dtype, &y[0])?,
            None => aclnn::prod(
                cx,
                &x[0],
                dtype,
                &y[0].with_layout(Layout::contiguous(()).with_offset(y[0].layout().offset())),
            )?,
        }
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    /// Without zeros `dy y / x`; with one zero only that element has a gradient; with two none has.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, options) = (cx.input(0)?, self.options.reduce());
        let dy = cx.gradient()?.reshape(options.kept("prod", x.shape())?)?;
        let keep = ProdOptions {
            keep: true,
            ..self.options
        };
        let zero = x.eq(0i64)?;
        let others = zero.where_cond(1.0, x)?;
        let product = others.prod(keep)?;
        let zeros = zero.sum(options.keeping())?;
        let alone = zero
            .logical_and(&zeros.eq(1i64)?)?
            .where_cond(&product, 0.0)?;
        let share = zeros.eq(0i64)?.where_cond(&product.div(&others)?, &alone)?;
        Ok(smallvec![Some(dy.mul(&share)?)])
    }

    fn cast(&self) -> CastRule {
        CastRule::Full
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "prod",
    family: "reduce",
    kernels: &["aclnnProd", "aclnnProdDim"],
    samples,
};

fn samples() -> Vec<Sample> {
    let prod = |options| Sample {
        op: Box::new(Prod { options }),
        inputs: vec![SampleInput::new([2, 3, 4], -2.0, 2.0)],
        dtypes: DType::ALL,
    };
    vec![
        prod(().into()),
        prod(1.into()),
        prod(ProdOptions::new().dim(-1).keepdim()),
    ]
}
