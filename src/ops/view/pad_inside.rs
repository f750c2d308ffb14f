//! Padding with elements of the tensor itself: reflected, replicated or from the other end.
//!
//! Knows how many elements a mode can add, and CANN's kernels for one to three dims. Must not know the public method.

use super::pad::{PadMode, padded};
use crate::ops::elementwise::unary::wide;
use crate::ops::prelude::*;

const NAME: &str = "pad";

/// The op behind [`Tensor::pad`] with a mode other than a constant.
#[derive(Debug, Clone)]
pub(super) struct PadInside {
    /// Pairs for the last dim, the dim before, ...
    pub pad: Vec<i64>,
    pub mode: PadMode,
}

/// `dx` from `dy` and the input.
#[derive(Debug, Clone)]
struct PadInsideBackward(PadInside);

/// Which of CANN's kernels: the mode, and how many dims it pads.
#[derive(Debug, Clone, Copy)]
enum Kernel {
    Reflection(usize),
    Replication(usize),
    Circular(usize),
}

/// The kernel, and its padding and tensors with the dims that it wants.
struct Form {
    kernel: Kernel,
    pad: Vec<i64>,
    lead: bool,
}

impl Form {
    /// A tensor with the batch dim that the kernel wants.
    fn lifted<'a>(&self, x: &Dev<'a>) -> Dev<'a> {
        if self.lead {
            x.with_layout(x.layout().unsqueeze(0))
        } else {
            *x
        }
    }
}

impl PadInside {
    /// The most elements that the mode can add at an end of a dim.
    fn most(&self, size: i64) -> i64 {
        match self.mode {
            PadMode::Reflect => size - 1,
            PadMode::Circular => size,
            _ if size == 0 => 0,
            _ => i64::MAX,
        }
    }

    /// Where the element at `index`, counted from the input's first, comes from.
    fn source(&self, index: i64, size: i64) -> i64 {
        match self.mode {
            PadMode::Reflect if index < 0 => -index,
            PadMode::Reflect if index >= size => 2 * (size - 1) - index,
            PadMode::Circular => index.rem_euclid(size.max(1)),
            _ => index.clamp(0, (size - 1).max(0)),
        }
    }

    /// For each place of a padded dim, from the dim's sizes before and after, the place whose element it shows.
    fn sources(&self, left: i64, [size, padded]: [usize; 2]) -> Tensor {
        let places = 0..padded as i64;
        let index: Vec<i64> = places
            .map(|place| self.source(place - left, size as i64))
            .collect();
        Tensor::new(index)
    }

    /// The result's shape, after all checks.
    fn result(&self, x: &Shape) -> Result<Shape> {
        let shape = padded(NAME, x, &self.pad)?;
        let dims = self.pad.len() / 2;
        if !(1..=3).contains(&dims) || !(dims + 1..=dims + 2).contains(&x.rank()) {
            let got = format!("{dims} dims to pad of a tensor of {x}");
            return Err(Error::shape(
                NAME,
                got,
                "1 to 3 dims, and one or two more before them",
            ));
        }
        for (back, pair) in self.pad.chunks_exact(2).enumerate() {
            let size = x.size(x.rank() - 1 - back) as i64;
            let most = self.most(size);
            if pair.iter().any(|count| *count > most) {
                return Err(Error::shape(
                    NAME,
                    format!("{pair:?} for a dim of {size} with {:?}", self.mode),
                    format!("at most {most}"),
                ));
            }
        }
        Ok(shape)
    }

    /// The kernel for an input; there is none that cuts off or takes an empty one.
    fn form(&self, cx: &Launch, x: &Dev<'_>) -> Result<Form> {
        let dims = self.pad.len() / 2;
        if x.is_empty() || self.pad.iter().any(|count| *count < 0) {
            return Err(Error::unsupported(
                NAME,
                Device::Ascend(cx.device()),
                x.dtype(),
                "the kernels take no empty input and no negative counts",
            ));
        }
        let (mut pad, mut lead) = (self.pad.clone(), false);
        let kernel = match self.mode {
            PadMode::Reflect => Kernel::Reflection(dims),
            PadMode::Circular => {
                // One dim is padded as the last of two.
                if dims == 1 {
                    pad.extend([0, 0]);
                    lead = x.shape().rank() == 2;
                }
                Kernel::Circular(dims.max(2))
            }
            _ => Kernel::Replication(dims),
        };
        Ok(Form { kernel, pad, lead })
    }
}

impl Op for PadInside {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(self.result(&x[0].shape)?, x[0].dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let form = self.form(cx, &x[0])?;
        let (x, y, pad) = (form.lifted(&x[0]), form.lifted(&y[0]), &form.pad);
        match form.kernel {
            Kernel::Reflection(1) => aclnn::reflection_pad1d(cx, &x, pad, &y)?,
            Kernel::Reflection(2) => aclnn::reflection_pad2d(cx, &x, pad, &y)?,
            Kernel::Reflection(_) => aclnn::reflection_pad3d(cx, &x, pad, &y)?,
            Kernel::Replication(1) => aclnn::replication_pad1d(cx, &x, pad, &y)?,
            Kernel::Replication(2) => aclnn::replication_pad2d(cx, &x, pad, &y)?,
            Kernel::Replication(_) => aclnn::replication_pad3d(cx, &x, pad, &y)?,
            Kernel::Circular(2) => aclnn::circular_pad2d(cx, &x, pad, &y)?,
            Kernel::Circular(_) => aclnn::circular_pad3d(cx, &x, pad, &y)?,
        }
        Ok(Counts::EXACT)
    }

    /// Dim by dim, an index into the tensor itself.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let x = &x[0];
        let shape = self.result(x.shape())?;
        // Elements that many places show sum up their gradients in f32.
        let taped = x.is_tracked() && x.dtype().is_half();
        let mut y = if taped { wide(x)? } else { x.clone() };
        for (back, pair) in self.pad.chunks_exact(2).enumerate() {
            if pair == [0, 0] {
                continue;
            }
            let dim = x.rank() - 1 - back;
            let index = self.sources(pair[0], [x.dims()[dim], shape.size(dim)]);
            y = y.index_select(dim as i64, &index.to_device(x.device())?)?;
        }
        let y = if taped { y.to_dtype(x.dtype())? } else { y };
        Ok(smallvec![if y.shares_storage(x) { y.copy()? } else { y }])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    /// The kernel's on the NPU; else the composition's.
    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        if cx.device().is_cpu() {
            return Err(Error::NoGradient { op: NAME });
        }
        let op = PadInsideBackward(self.clone());
        Ok(smallvec![Some(run_one(
            &op,
            &[cx.gradient()?, cx.input(0)?]
        )?)])
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

impl Op for PadInsideBackward {
    fn name(&self) -> &'static str {
        "pad_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[1].shape, x[1].dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let form = self.0.form(cx, &x[1])?;
        let [dy, x, dx] = [&x[0], &x[1], &y[0]].map(|own| form.lifted(own));
        let pad = &form.pad;
        match form.kernel {
            Kernel::Reflection(1) => aclnn::reflection_pad1d_backward(cx, &dy, &x, pad, &dx)?,
            Kernel::Reflection(2) => aclnn::reflection_pad2d_backward(cx, &dy, &x, pad, &dx)?,
            Kernel::Reflection(_) => aclnn::reflection_pad3d_backward(cx, &dy, &x, pad, &dx)?,
            Kernel::Replication(1) => aclnn::replication_pad1d_backward(cx, &dy, &x, pad, &dx)?,
            Kernel::Replication(2) => aclnn::replication_pad2d_backward(cx, &dy, &x, pad, &dx)?,
            Kernel::Replication(_) => aclnn::replication_pad3d_backward(cx, &dy, &x, pad, &dx)?,
            Kernel::Circular(2) => aclnn::circular_pad2d_backward(cx, &dy, &x, pad, &dx)?,
            Kernel::Circular(_) => aclnn::circular_pad3d_backward(cx, &dy, &x, pad, &dx)?,
        }
        Ok(Counts::EXACT)
    }

    /// Dim by dim, sums in f32 of what each element was shown as.
    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let (mut dx, shape) = (wide(&x[0])?, x[1].shape());
        for (back, pair) in self.0.pad.chunks_exact(2).enumerate() {
            let dim = shape.rank() - 1 - back;
            let index = self.0.sources(pair[0], [shape.size(dim), dx.dims()[dim]]);
            let mut smaller = *dx.shape();
            smaller.dims_mut()[dim] = shape.size(dim);
            let zeros = Tensor::zeros(smaller, dx.dtype(), dx.device())?;
            dx = zeros.index_add(dim as i64, &index.to_device(dx.device())?, &dx, ())?;
        }
        Ok(smallvec![dx.to_dtype(x[1].dtype())?])
    }

    fn is_composed(&self, _x: &[Meta], device: Device) -> bool {
        device.is_cpu()
    }

    fn gradient(&self) -> Gradient {
        Gradient::Missing
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

/// All kernels of padding.
pub(super) const KERNELS: &[&str] = &[
    "aclnnConstantPadNd",
    "aclnnReflectionPad1d",
    "aclnnReflectionPad2d",
    "aclnnReflectionPad3d",
    "aclnnReplicationPad1d",
    "aclnnReplicationPad2d",
    "aclnnReplicationPad3d",
    "aclnnCircularPad2d",
    "aclnnCircularPad3d",
];

pub(super) fn samples() -> Vec<Sample> {
    let sample = |mode, pad: &[i64], shape: &[usize]| Sample {
        op: Box::new(PadInside {
            pad: pad.to_vec(),
            mode,
        }),
        inputs: vec![SampleInput::new(shape, -2.0, 2.0)],
        dtypes: DType::ALL,
    };
    vec![
        sample(PadMode::Reflect, &[1, 2], &[2, 3, 4]),
        sample(PadMode::Reflect, &[1, 0, 2, 1, 1, 1], &[2, 2, 3, 4]),
        sample(PadMode::Replicate, &[0, 3, 2, 1], &[2, 3, 4]),
        sample(PadMode::Circular, &[2, 1], &[2, 3]),
        sample(PadMode::Circular, &[1, 1, 0, 2], &[2, 1, 3, 4]),
    ]
}
