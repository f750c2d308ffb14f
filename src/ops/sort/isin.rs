//! `isin`: whether elements occur in another tensor.

use crate::cpu::dense::lanes;
use crate::cpu::order::wide_key;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct IsIn;

impl Tensor {
    /// Whether each element occurs in `test`; NaN does not. For the opposite, [`Tensor::logical_not`] of it.
    ///
    /// Shapes: that of this tensor. Dtypes: all, promoted -> `bool`. PyTorch: `torch.isin`. NPU: `aclnnSort`,
    /// `aclnnSearchSorted`, `aclnnIndexSelect`, `aclnnEqTensor`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let found = Tensor::new([1i32, 2, 3]).isin(&Tensor::new([3i32, 1]))?;
    /// assert_eq!(found.to_vec::<bool>()?, [true, false, true]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn isin(&self, test: &Tensor) -> Result<Tensor> {
        run_one(&IsIn, &[self, &test.reshape([test.elements()])?])
    }
}

impl Op for IsIn {
    fn name(&self) -> &'static str {
        "isin"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = result_type(x, &[]);
        plan.cast(0, dtype);
        plan.cast(1, dtype);
        plan.output(x[0].shape, DType::Bool);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        with_lane!(x[0].dtype(), T => {
            let mut known = lanes::<T>(self.name(), &x[1])?;
            known.retain(|x| !x.is_nan());
            known.sort_unstable_by_key(|x| wide_key(*x));
            map::map1::<T, bool>(&x[0], &mut y[0], |x| !x.is_nan() && known.binary_search_by_key(&wide_key(x), |own| wide_key(*own)).is_ok());
        });
        Ok(Counts::EXACT)
    }

    /// The nearest element of the sorted list, compared.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let count = x[1].elements();
        if count == 0 || x[0].elements() == 0 {
            return Ok(smallvec![Tensor::zeros(
                *x[0].shape(),
                DType::Bool,
                x[0].device()
            )?]);
        }
        let dtype = if x[0].dtype() == DType::Bool {
            DType::I32
        } else {
            x[0].dtype()
        };
        let elements = x[0].to_dtype(dtype)?.reshape([x[0].elements()])?;
        let (sorted, _) = x[1].to_dtype(dtype)?.sort(())?;
        let last = Tensor::full_of((), count as i64 - 1, DType::I64, x[0].device())?;
        let nearest =
            sorted.index_select(0, &sorted.searchsorted(&elements, ())?.minimum(&last)?)?;
        Ok(smallvec![nearest.eq(&elements)?.reshape(*x[0].shape())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "isin",
    family: "sort",
    kernels: &[
        "aclnnSort",
        "aclnnSearchSorted",
        "aclnnIndexSelect",
        "aclnnEqTensor",
    ],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::typed([3, 5], DType::I64, -4.0, 4.0),
        SampleInput::typed([4], DType::I32, -4.0, 4.0),
    ];
    vec![Sample {
        op: Box::new(IsIn),
        inputs,
        dtypes: &[DType::I64],
    }]
}
