//! `masked_select`: the elements where a mask is true.

use std::cell::Cell;

use crate::ascend::aclnn::Told;
use crate::cpu::alloc::room;
use crate::cpu::dense::lanes;
use crate::cpu::gather::{Path, Paths, gather};
use crate::ops::prelude::*;

#[derive(Debug, Clone, Copy)]
struct MaskedSelect;

impl Tensor {
    /// The elements, in row-major order, where a mask is true, after both are broadcast together.
    ///
    /// Shapes: any two that broadcast -> `[n]`. Dtypes: all; the mask `bool`. PyTorch: `torch.masked_select`.
    /// NPU: `aclnnMaskedSelect`; waits for the kernel to learn `n`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1i32, 2], [3, 4]]);
    /// assert_eq!(x.masked_select(&Tensor::new([false, true]))?.to_vec::<i32>()?, [2, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for a mask that is not `bool`, `Broadcast` if the shapes do not fit.
    pub fn masked_select(&self, mask: &Tensor) -> Result<Tensor> {
        let shape = self.shape().broadcast("masked_select", mask.shape())?;
        run_one(&MaskedSelect, &[&self.expand(shape)?, &mask.expand(shape)?])
    }
}

/// Refuses a mask that is not of truth values.
pub(super) fn wants_mask(op: &'static str, mask: &Meta) -> Result<()> {
    if mask.dtype == DType::Bool {
        Ok(())
    } else {
        Err(Error::dtype(
            op,
            format!("{} for a mask", mask.dtype),
            "bool",
        ))
    }
}

/// The row-major positions where a mask is true.
pub(super) fn positions(op: &'static str, mask: &Host<'_>) -> Result<Vec<usize>> {
    let all = lanes::<bool>(op, mask)?;
    let mut positions = room(op, all.iter().filter(|set| **set).count())?;
    let set = all.iter().enumerate().filter(|(_, set)| **set);
    positions.extend(set.map(|(position, _)| position));
    Ok(positions)
}

impl Op for MaskedSelect {
    fn name(&self) -> &'static str {
        "masked_select"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        wants_mask(self.name(), &x[1])?;
        plan.output_at_most(Shape::from([x[0].shape.elements()]), x[0].dtype, 0);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let mut offsets = positions(self.name(), &x[1])?;
        let count = offsets.len();
        if !x[0].layout().is_contiguous() {
            let layout = x[0].layout().with_offset(0);
            for position in &mut offsets {
                *position = crate::cpu::reduce::offset_at(&layout, *position);
            }
        }
        let paths = Paths {
            dims: smallvec![Path::Offsets(offsets)],
            base: x[0].layout().offset(),
        };
        let kept = y[0].layout().slice(0, 0, count, 1);
        gather(&x[0], &paths, 0, &mut y[0].with_layout(kept));
        Ok(Counts::of(count))
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].elements() == 0 {
            return Ok(Counts::of(0));
        }
        let told = Cell::new(*y[0].shape());
        aclnn::masked_select(
            cx,
            &x[0],
            &x[1],
            Told {
                dev: &y[0],
                shape: &told,
            },
        )?;
        Ok(Counts::of(told.get().size(0)))
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let zeros = Tensor::zeros(cx.meta(0)?.shape, dy.dtype(), dy.device())?;
        Ok(smallvec![
            cx.want(0, || zeros.masked_scatter(cx.input(1)?, dy))?
        ])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "masked_select",
    family: "index",
    kernels: &["aclnnMaskedSelect"],
    samples,
};

fn samples() -> Vec<Sample> {
    let inputs = vec![
        SampleInput::new([3, 4], -2.0, 2.0),
        SampleInput::typed([3, 4], DType::Bool, 0.0, 1.9),
    ];
    vec![Sample {
        op: Box::new(MaskedSelect),
        inputs,
        dtypes: DType::ALL,
    }]
}
