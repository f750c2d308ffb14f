//! `nonzero`: the coordinates of the elements that are not zero.

use std::cell::Cell;

use crate::ascend::aclnn::Told;
use crate::cpu::alloc::workspace;
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct Nonzero;

impl Tensor {
    /// The coordinates of the elements that are not zero (NaN is not), in row-major order.
    ///
    /// Shapes: `[..]` of `d` dims -> `[n, d]`. Dtypes: all -> `i64`. PyTorch: `torch.nonzero`. NPU: `aclnnNonzero`; waits for the
    /// kernel to learn `n`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[0i32, 5], [6, 0]]);
    /// assert_eq!(x.nonzero()?.to_vec::<i64>()?, [0, 1, 1, 0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// Memory and device errors only.
    pub fn nonzero(&self) -> Result<Tensor> {
        if self.elements() == 0 || self.rank() == 0 {
            let count = self
                .reshape([self.elements()])?
                .to_dtype(DType::Bool)?
                .to_vec::<bool>()?
                .iter()
                .filter(|set| **set)
                .count();
            return Tensor::zeros([count, self.rank()], DType::I64, self.device());
        }
        run_one(&Nonzero, &[self])
    }
}

impl Op for Nonzero {
    fn name(&self) -> &'static str {
        "nonzero"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output_at_most(
            Shape::from([x[0].shape.elements(), x[0].shape.rank()]),
            DType::I64,
            0,
        );
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let shape = *x[0].shape();
        let mut set = workspace(self.name(), false, shape.elements())?;
        if let Some(mut set) = HostMut::from_slice(&mut set, &shape) {
            map::copy(&x[0], &mut set);
        }
        let Some(rows) = y[0].as_mut_slice::<i64>() else {
            return Ok(Counts::of(0));
        };
        let strides = Layout::contiguous(shape);
        let mut count = 0;
        let mut slots = rows.chunks_exact_mut(shape.rank().max(1));
        for (position, _) in set.iter().enumerate().filter(|(_, set)| **set) {
            let Some(slot) = slots.next() else { break };
            let mut rest = position;
            for (slot, stride) in slot.iter_mut().zip(strides.strides()) {
                *slot = (rest / stride.max(&1)) as i64;
                rest %= stride.max(&1);
            }
            count += 1;
        }
        Ok(Counts::of(count))
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].elements() == 0 {
            return Ok(Counts::of(0));
        }
        let told = Cell::new(*y[0].shape());
        aclnn::nonzero(
            cx,
            &x[0],
            Told {
                dev: &y[0],
                shape: &told,
            },
        )?;
        Ok(Counts::of(told.get().size(0)))
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "nonzero",
    family: "index",
    kernels: &["aclnnNonzero"],
    samples,
};

fn samples() -> Vec<Sample> {
    vec![Sample {
        op: Box::new(Nonzero),
        inputs: vec![SampleInput::new([3, 4], -1.0, 1.9)],
        dtypes: DType::ALL,
    }]
}
