//! `where_cond`: elements of one operand or of another, by a condition.

use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Where {
    input: Option<Scalar>,
    other: Option<Scalar>,
}

impl Tensor {
    /// `input` where this bool tensor is true, else `other`; the result has the dtype that the two promote to.
    ///
    /// Shapes: all three broadcast. Dtypes: all. PyTorch: `torch.where`. NPU: `aclnnSWhere`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([1.0f32, -2.0]);
    /// assert_eq!(x.gt(0i64)?.where_cond(&x, 0i64)?.to_vec::<f32>()?, [1.0, 0.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` if this tensor is not bool, `Broadcast` if the shapes do not fit, `Device` if the tensors are on two devices.
    pub fn where_cond<'a, 'b>(
        &self,
        input: impl Into<Operand<'a>>,
        other: impl Into<Operand<'b>>,
    ) -> Result<Tensor> {
        let (input, other) = (input.into(), other.into());
        let op = Where {
            input: input.scalar(),
            other: other.scalar(),
        };
        match (input.tensor(), other.tensor()) {
            (Some(input), Some(other)) => run_one(&op, &[self, input, other]),
            (Some(one), None) | (None, Some(one)) => run_one(&op, &[self, one]),
            (None, None) => run_one(&op, &[self]),
        }
    }
}

impl Where {
    fn dtype(&self, x: &[Meta]) -> DType {
        let scalars: smallvec::SmallVec<[Scalar; 2]> =
            self.input.into_iter().chain(self.other).collect();
        result_type(x.get(1..).unwrap_or_default(), &scalars)
    }

    /// Where the other operand stands among the inputs, if it is a tensor.
    fn other_index(&self) -> usize {
        1 + usize::from(self.input.is_none())
    }
}

impl Op for Where {
    fn name(&self) -> &'static str {
        "where"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[0].dtype != DType::Bool {
            return Err(Error::dtype("where", x[0].dtype, "a bool condition"));
        }
        let dtype = self.dtype(x);
        for (index, _) in x
            .iter()
            .enumerate()
            .skip(1)
            .filter(|(_, input)| input.dtype != dtype)
        {
            plan.cast(index, dtype);
        }
        plan.output(broadcast("where", x)?, dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *y[0].shape();
        with_lane!(y[0].dtype(), T => {
            let lane = |value: Option<Scalar>| T::from_scalar(value.unwrap_or(Scalar::Int(0)));
            let (input, other) = (lane(self.input), lane(self.other));
            let side = |value: Option<Scalar>, index: usize| match (value, x.get(index)) {
                (None, Some(tensor)) => Some(tensor.broadcast(&shape)),
                _ => None,
            };
            let input = side(self.input, 1).unwrap_or_else(|| Host::splat(&input, &shape));
            let other = side(self.other, self.other_index()).unwrap_or_else(|| Host::splat(&other, &shape));
            let choose = |condition: bool, input: T, other: T| if condition { input } else { other };
            map::map3::<bool, T, T, T>(&x[0].broadcast(&shape), &input, &other, &mut y[0], choose);
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let [condition, input, other] = x else {
            return Err(Error::unsupported(
                "where",
                Device::Ascend(cx.device()),
                y[0].dtype(),
                "the kernel takes tensors only",
            ));
        };
        aclnn::s_where(cx, condition, input, other, &y[0])?;
        Ok(Counts::EXACT)
    }

    /// Numbers become tensors without dims; a dtype that the kernel lacks is widened.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let metas: Vec<Meta> = x.iter().map(Tensor::meta).collect();
        let (dtype, device) = (self.dtype(&metas), x[0].device());
        let fill = |value: Scalar| Tensor::full_of((), value, dtype, device);
        if self.input.is_some() || self.other.is_some() {
            let input = self.input.map_or_else(|| Ok(x[1].clone()), fill)?;
            let other = self
                .other
                .map_or_else(|| Ok(x[self.other_index()].clone()), fill)?;
            return Ok(smallvec![x[0].where_cond(&input, &other)?]);
        }
        let wide = crate::ops::elementwise::unary::wider("where", &x[1])?;
        Ok(smallvec![
            x[0].where_cond(&x[1].to_dtype(wide)?, &x[2].to_dtype(wide)?)?
                .to_dtype(dtype)?
        ])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(0)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (dy, condition) = (cx.gradient()?, cx.input(0)?);
        let mut grads: Grads = smallvec![None];
        if self.input.is_none() {
            grads.push(cx.want(1, || condition.where_cond(dy, 0i64))?);
        }
        if self.other.is_none() {
            grads.push(cx.want(self.other_index(), || condition.where_cond(0i64, dy))?);
        }
        Ok(grads)
    }

    fn cast(&self) -> CastRule {
        CastRule::Widest
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "where",
    family: "elementwise",
    kernels: &["aclnnSWhere"],
    samples,
};

fn samples() -> Vec<Sample> {
    let condition = || SampleInput::typed([3, 1], DType::Bool, 0.0, 1.0);
    let value = |shape: [usize; 2]| SampleInput::new(shape, -2.0, 2.0);
    let of = |input, other, inputs| Sample {
        op: Box::new(Where { input, other }),
        inputs,
        dtypes: DType::ALL,
    };
    vec![
        of(None, None, vec![condition(), value([3, 4]), value([1, 4])]),
        of(Some(Scalar::Int(1)), None, vec![condition(), value([3, 4])]),
        of(None, Some(Scalar::Int(0)), vec![condition(), value([3, 4])]),
    ]
}
