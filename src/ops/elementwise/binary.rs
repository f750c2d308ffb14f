//! The form of ops with two operands that broadcast, each a tensor or a number, and one output.
//!
//! Knows their dtype rules, the road from method to kernel, and where the gradients go. Must not know any single op.

use std::fmt::Debug;

use super::unary::wider;
use crate::mode;
use crate::ops::prelude::*;

/// Which dtypes a binary op takes, and what it gives. The operands are cast to the dtype that they promote to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Rule {
    /// Any; the result has the promoted dtype.
    Any,
    /// Any that promote to a number.
    Numbers,
    /// Any; integers and bools count as `f32`.
    Float,
    /// Any that promote to a float.
    FloatOnly,
    /// Any; the result is bool.
    Truth,
    /// Integers and bools.
    Integers,
    /// Integers.
    IntegersOnly,
}

impl Rule {
    /// The dtype to compute in and the result's.
    fn apply(self, op: &'static str, dtype: DType) -> Result<(DType, DType)> {
        let refused = |want: &str| Err(Error::dtype(op, dtype, want));
        match self {
            Rule::Float => Ok((dtype.to_float(), dtype.to_float())),
            Rule::Truth => Ok((dtype, DType::Bool)),
            Rule::Numbers if dtype == DType::Bool => refused("numbers"),
            Rule::FloatOnly if !dtype.is_float() => refused("floats"),
            Rule::Integers if dtype.is_float() => refused("integers or bools"),
            Rule::IntegersOnly if !dtype.is_int() => refused("integers"),
            _ => Ok((dtype, dtype)),
        }
    }
}

/// An operand of an NPU kernel.
#[derive(Clone, Copy)]
pub(crate) enum Side<'a> {
    /// A tensor.
    Tensor(&'a Dev<'a>),
    /// A number.
    Scalar(AclScalar),
}

/// What a binary op says of itself.
pub(crate) trait Binary: Debug + Clone + Copy + Send + Sync + 'static {
    /// The op's name.
    const NAME: &'static str;
    /// The dtypes.
    const RULE: Rule;
    /// What `backward` reads.
    const SAVES: Saves = Saves::INPUTS;
    /// Whether there is a gradient.
    const GRADIENT: Gradient = Gradient::Backward;

    /// Refuses attributes and scalars outside their domain; `dtype` is the one that the op computes in.
    fn check(&self, _left: Option<Scalar>, _right: Option<Scalar>, _dtype: DType) -> Result<()> {
        Ok(())
    }

    /// Runs on the host; the operands have one dtype and broadcast to the output's shape, as the drivers of `map` let them.
    fn cpu(&self, x: &Host<'_>, y: &Host<'_>, z: &mut HostMut<'_>) -> Result<()>;

    /// Runs on the host with a number on the right, where that can be done better; false if it was not.
    fn cpu_scalar(&self, _x: &Host<'_>, _y: Scalar, _z: &mut HostMut<'_>) -> bool {
        false
    }

    /// Queues the op's kernel on the NPU.
    fn ascend(&self, cx: &Launch, x: Side<'_>, y: Side<'_>, z: &Dev<'_>) -> Result<()>;

    /// The meaning in simpler ops; by default the op itself in a wider dtype.
    fn compose(&self, x: &Tensor, y: &Tensor) -> Result<Tensor> {
        let op = Combine {
            op: *self,
            left: None,
            right: None,
        };
        let wide = wider(Self::NAME, x)?;
        let (_, result) = Self::RULE.apply(Self::NAME, x.dtype())?;
        run_one(&op, &[&x.to_dtype(wide)?, &y.to_dtype(wide)?])?.to_dtype(result)
    }

    /// The gradients of the operands.
    fn backward(&self, pair: &Pair<'_>) -> Result<Grads> {
        Err(Error::NoGradient { op: pair.cx.op })
    }
}

/// A binary op as an [`Op`]; an operand that is a number is not among the inputs.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Combine<B> {
    /// The op.
    pub op: B,
    /// The number on the left.
    pub left: Option<Scalar>,
    /// The number on the right.
    pub right: Option<Scalar>,
}

/// Runs a binary op on a tensor and another operand.
pub(crate) fn combine<B: Binary>(op: B, x: &Tensor, y: Operand<'_>) -> Result<Tensor> {
    match y {
        Operand::Tensor(y) => run_one(
            &Combine {
                op,
                left: None,
                right: None,
            },
            &[x, y],
        ),
        Operand::Scalar(y) => run_one(
            &Combine {
                op,
                left: None,
                right: Some(y),
            },
            &[x],
        ),
    }
}

/// Runs a binary op on a number and a tensor.
pub(crate) fn combine_scalar<B: Binary>(op: B, x: Scalar, y: &Tensor) -> Result<Tensor> {
    run_one(
        &Combine {
            op,
            left: Some(x),
            right: None,
        },
        &[y],
    )
}

impl<B: Binary> Combine<B> {
    fn scalars(&self) -> impl Iterator<Item = Scalar> {
        self.left.into_iter().chain(self.right)
    }

    /// A number as the lane `T`; comparisons see it rounded to the dtype of the tensor.
    fn lane<T: Number>(value: Option<Scalar>, dtype: DType) -> T {
        let value = value.unwrap_or(Scalar::Int(0));
        match (B::RULE, dtype) {
            (Rule::Truth, DType::F16) => T::from_f64(half::f16::from_f64(value.to_f64()).to_f64()),
            (Rule::Truth, DType::BF16) => {
                T::from_f64(half::bf16::from_f64(value.to_f64()).to_f64())
            }
            _ => T::from_scalar(value),
        }
    }
}

impl<B: Binary> Op for Combine<B> {
    fn name(&self) -> &'static str {
        B::NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let scalars: smallvec::SmallVec<[Scalar; 2]> = self.scalars().collect();
        let (compute, result) = B::RULE.apply(B::NAME, result_type(x, &scalars))?;
        self.op.check(self.left, self.right, compute)?;
        super::plan_as(B::NAME, x, compute, result, plan)
    }

    fn alike(&self, dtype: DType) -> Option<DType> {
        let tensors = self.left.is_none() && self.right.is_none();
        let (compute, result) = B::RULE.apply(B::NAME, dtype).ok()?;
        let fits = (tensors || dtype.is_float()) && compute == dtype;
        (fits && self.op.check(self.left, self.right, compute).is_ok()).then_some(result)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        let dtype = x[0].dtype();
        if let Some(scalar) = self.right
            && self.op.cpu_scalar(&x[0], scalar, &mut y[0])
        {
            return Ok(Counts::EXACT);
        }
        with_lane!(dtype, T => {
            let (left, right): (T, T) = (Self::lane(self.left, dtype), Self::lane(self.right, dtype));
            match (self.left, self.right) {
                (Some(_), _) => self.op.cpu(&Host::splat(&left, &shape), &x[0], &mut y[0])?,
                (_, Some(_)) => self.op.cpu(&x[0], &Host::splat(&right, &shape), &mut y[0])?,
                _ => self.op.cpu(&x[0], &x[1], &mut y[0])?,
            }
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let number = |value: Scalar| Side::Scalar(AclScalar::of(value, x[0].dtype()));
        let (left, right) = match (self.left, self.right) {
            (Some(left), _) => (number(left), Side::Tensor(&x[0])),
            (_, Some(right)) => (Side::Tensor(&x[0]), number(right)),
            _ => (Side::Tensor(&x[0]), Side::Tensor(&x[1])),
        };
        self.op.ascend(cx, left, right, &y[0])?;
        Ok(Counts::EXACT)
    }

    /// A number becomes a tensor without dims; two tensors go to the op's own composition. Without history: the gradient is
    /// the op's own, whoever computed the value.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (metas, scalars): (Vec<Meta>, Vec<Scalar>) = (
            x.iter().map(Tensor::meta).collect(),
            self.scalars().collect(),
        );
        let (compute, _) = B::RULE.apply(B::NAME, result_type(&metas, &scalars))?;
        let fill = |value: Scalar| Tensor::full_of((), value, compute, x[0].device());
        let tensors = Combine {
            op: self.op,
            left: None,
            right: None,
        };
        let result = mode::no_grad(|| match (self.left, self.right) {
            (Some(left), _) => run_one(&tensors, &[&fill(left)?, &x[0].to_dtype(compute)?]),
            (_, Some(right)) => run_one(&tensors, &[&x[0].to_dtype(compute)?, &fill(right)?]),
            _ => self
                .op
                .compose(&x[0].to_dtype(compute)?, &x[1].to_dtype(compute)?),
        });
        Ok(smallvec![result?])
    }

    fn gradient(&self) -> Gradient {
        B::GRADIENT
    }

    fn saves(&self) -> Saves {
        B::SAVES
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        self.op.backward(&Pair {
            cx,
            left: self.left,
            right: self.right,
        })
    }

    fn cast(&self) -> CastRule {
        CastRule::Widest
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// Both operands as tensors: for kernels that take no numbers.
pub(crate) fn tensors<'a>(
    op: &'static str,
    cx: &Launch,
    x: Side<'a>,
    y: Side<'a>,
) -> Result<(&'a Dev<'a>, &'a Dev<'a>)> {
    match (x, y) {
        (Side::Tensor(x), Side::Tensor(y)) => Ok((x, y)),
        (Side::Tensor(x), _) | (_, Side::Tensor(x)) => {
            Err(super::unary::no_kernel(op, cx.device(), x.dtype()))
        }
        _ => Err(super::unary::no_kernel(op, cx.device(), DType::F32)),
    }
}

/// The operands as the gradient of a binary op sees them.
pub(crate) struct Pair<'a> {
    pub cx: &'a GradCx<'a>,
    left: Option<Scalar>,
    right: Option<Scalar>,
}

impl<'a> Pair<'a> {
    /// The gradient of the output.
    pub fn dz(&self) -> Result<&'a Tensor> {
        self.cx.gradient()
    }

    /// The output.
    pub fn z(&self) -> Result<&'a Tensor> {
        self.cx.output(0)
    }

    /// The left operand.
    pub fn x(&self) -> Result<Operand<'a>> {
        match self.left {
            Some(left) => Ok(Operand::Scalar(left)),
            None => self.cx.input(0).map(Operand::Tensor),
        }
    }

    /// The right operand.
    pub fn y(&self) -> Result<Operand<'a>> {
        match self.right {
            Some(right) => Ok(Operand::Scalar(right)),
            None => self.cx.input(self.right_index()).map(Operand::Tensor),
        }
    }

    /// The left operand as a tensor, filled with the number if it is one.
    pub fn x_tensor(&self) -> Result<Tensor> {
        self.filled(self.x()?)
    }

    /// The right operand as a tensor, filled with the number if it is one.
    pub fn y_tensor(&self) -> Result<Tensor> {
        self.filled(self.y()?)
    }

    fn filled(&self, operand: Operand<'a>) -> Result<Tensor> {
        match operand {
            Operand::Tensor(tensor) => Ok(tensor.clone()),
            Operand::Scalar(value) => {
                Tensor::full_of((), value, self.cx.meta(0)?.dtype, self.cx.device())
            }
        }
    }

    fn right_index(&self) -> usize {
        usize::from(self.left.is_none())
    }

    /// The gradients of the operands that are tensors and want one.
    pub fn grads(
        &self,
        dx: impl FnOnce() -> Result<Tensor>,
        dy: impl FnOnce() -> Result<Tensor>,
    ) -> Result<Grads> {
        let mut grads = Grads::new();
        if self.left.is_none() {
            grads.push(self.cx.want(0, dx)?);
        }
        if self.right.is_none() {
            grads.push(self.cx.want(self.right_index(), dy)?);
        }
        Ok(grads)
    }
}

/// Samples with two tensors of shapes `[3, 1]` and `[3, 4]`, and with a tensor and a number.
pub(crate) fn samples_of<B: Binary>(
    op: B,
    low: f64,
    high: f64,
    dtypes: &'static [DType],
) -> Vec<Sample> {
    let both = Combine {
        op,
        left: None,
        right: None,
    };
    let scalar = Combine {
        op,
        left: None,
        right: Some(Scalar::Int(2)),
    };
    vec![
        Sample {
            op: Box::new(both),
            inputs: vec![
                SampleInput::new([3, 1], low, high),
                SampleInput::new([3, 4], low, high),
            ],
            dtypes,
        },
        Sample {
            op: Box::new(scalar),
            inputs: vec![SampleInput::new([2, 5], low, high)],
            dtypes,
        },
    ]
}
