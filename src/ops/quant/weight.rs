//! Products of floats with quantised weights: what the rooms for eight and four bits share.
//!
//! Knows scales per column or per group of rows, and CANN's kernel for both widths. Must not know how weights are packed beyond
//! the number of columns in a byte.

use crate::cpu::dense::{dense, into_dense};
use crate::cpu::gemm::{Each, FEW, Sizes, Weights, weighed};
use crate::ops::prelude::*;

/// Settings of [`Tensor::weight_int8_matmul`] and [`Tensor::weight_int4_matmul`]. Made from `()` or built up.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct WeightMatmulOptions<'a> {
    zero_point: Option<&'a Tensor>,
    bias: Option<&'a Tensor>,
    group_size: usize,
}

impl<'a> WeightMatmulOptions<'a> {
    /// No zero points, no bias, a scale for each column or one for all.
    pub fn new() -> Self {
        WeightMatmulOptions::default()
    }

    /// What is subtracted from the weights: as many as there are scales.
    pub fn zero_point(mut self, zero_point: &'a Tensor) -> Self {
        self.zero_point = Some(zero_point);
        self
    }

    /// A term of each column: `f32 [n]`.
    pub fn bias(mut self, bias: &'a Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// Scales are `[ceil(k / size), n]`: one for each column and so many rows.
    pub fn group_size(mut self, size: usize) -> Self {
        self.group_size = size;
        self
    }

    /// The op with these settings, on its inputs.
    pub(super) fn run(
        self,
        bits: Bits,
        x: &Tensor,
        weight: &Tensor,
        scale: &Tensor,
    ) -> Result<Tensor> {
        let op = WeightMatmul {
            bits,
            zero_point: self.zero_point.is_some(),
            bias: self.bias.is_some(),
            group_size: self.group_size,
        };
        let mut inputs = vec![x, weight, scale];
        inputs.extend(self.zero_point);
        inputs.extend(self.bias);
        run_one(&op, &inputs)
    }
}

impl From<()> for WeightMatmulOptions<'_> {
    fn from((): ()) -> Self {
        WeightMatmulOptions::new()
    }
}

/// How wide a weight is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Bits {
    Eight,
    Four,
}

impl Bits {
    fn op(self) -> &'static str {
        match self {
            Bits::Eight => "weight_int8_matmul",
            Bits::Four => "weight_int4_matmul",
        }
    }

    fn dtype(self) -> DType {
        match self {
            Bits::Eight => DType::I8,
            Bits::Four => DType::U8,
        }
    }

    /// Columns in a byte.
    fn packed(self) -> usize {
        match self {
            Bits::Eight => 1,
            Bits::Four => 2,
        }
    }
}

/// Inputs: floats, weights, scales, then zero points and bias if there are some.
#[derive(Debug, Clone, Copy)]
pub(super) struct WeightMatmul {
    pub bits: Bits,
    pub zero_point: bool,
    pub bias: bool,
    pub group_size: usize,
}

impl WeightMatmul {
    /// Rows and columns of the weights.
    fn sizes(&self, x: &Shape, weight: &Shape) -> Result<[usize; 2]> {
        let misfit = || {
            Error::shape(
                self.bits.op(),
                format!("{x} and weights of {weight}"),
                "[.., m, k] and [k, n], packed as the op says",
            )
        };
        let ([.., _, inner], [own, bytes]) = (x.dims(), weight.dims()) else {
            return Err(misfit());
        };
        if inner != own {
            return Err(misfit());
        }
        Ok([*inner, bytes * self.bits.packed()])
    }

    fn zeros<'a, T>(&self, x: &'a [T]) -> Option<&'a T> {
        x.get(3).filter(|_| self.zero_point)
    }

    fn bias<'a, T>(&self, x: &'a [T]) -> Option<&'a T> {
        x.get(3 + usize::from(self.zero_point))
            .filter(|_| self.bias)
    }

    fn check_scale(&self, [inner, columns]: [usize; 2], own: &Meta) -> Result<()> {
        let op = self.bits.op();
        if own.dtype != DType::F32 {
            return Err(Error::dtype(op, own.dtype, "f32 scales and zero points"));
        }
        let fits = match self.group_size {
            0 => own.shape.elements() == 1 || own.shape == Shape::from([columns]),
            size => own.shape == Shape::from([inner.div_ceil(size), columns]),
        };
        if fits {
            return Ok(());
        }
        Err(Error::shape(
            op,
            format!("scales or zero points of {}", own.shape),
            format!("[{columns}] or one, or with groups [ceil({inner} / size), {columns}]"),
        ))
    }

    /// The weights as numbers: `[k, n]` in f32.
    fn weights(&self, weight: &Tensor) -> Result<Tensor> {
        if self.bits == Bits::Eight {
            return weight.to_dtype(DType::F32);
        }
        let rows = weight.shape().size(0);
        let columns = weight.shape().size(1) * 2;
        let whole = weight.to_dtype(DType::I32)?;
        let high = whole.floor_divide(16i64)?;
        let low = whole.sub(&high.mul(16i64)?)?;
        let both = Tensor::stack(&[&low, &high], -1)?.reshape([rows, columns])?;
        // 8 to 15 stand for -8 to -1.
        let wrapped = both.ge(8i64)?.to_dtype(DType::I32)?.mul(16i64)?;
        both.sub(&wrapped)?.to_dtype(DType::F32)
    }

    /// Scales or zero points of each weight.
    fn each(&self, own: &Tensor, inner: usize) -> Result<Tensor> {
        if self.group_size == 0 {
            return Ok(own.clone());
        }
        let rows = own.repeat_interleave(self.group_size as i64, 0)?;
        rows.narrow(0, 0, inner as i64)
    }

    /// Whether a kernel of the host reads the weights as they are: bytes, for a few rows.
    fn is_direct(&self, x: &[Meta]) -> bool {
        let [.., inner] = x[0].shape.dims() else {
            return false;
        };
        let rows = x[0].shape.elements() / (*inner).max(1);
        self.bits == Bits::Eight && x[0].dtype != DType::F64 && *inner > 0 && rows <= FEW
    }

    /// Whether CANN's kernel takes the call.
    fn fused(&self, x: &[Dev<'_>], [inner, columns]: [usize; 2]) -> bool {
        let groups =
            self.group_size == 0 || self.group_size.is_multiple_of(32) && self.group_size < inner;
        let whole = self.bits == Bits::Eight || columns.is_multiple_of(8);
        groups && whole && x[0].dtype().is_half() && !x[0].is_empty() && !x[1].is_empty()
    }
}

impl Op for WeightMatmul {
    fn name(&self) -> &'static str {
        self.bits.op()
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let op = self.bits.op();
        crate::ops::norm::float_only(op, x[0].dtype)?;
        if x[1].dtype != self.bits.dtype() {
            return Err(Error::dtype(op, x[1].dtype, self.bits.dtype()));
        }
        let sizes = self.sizes(&x[0].shape, &x[1].shape)?;
        self.check_scale(sizes, &x[2])?;
        if let Some(zeros) = self.zeros(x) {
            self.check_scale(sizes, zeros)?;
        }
        if let Some(bias) = self.bias(x) {
            if bias.dtype != DType::F32 {
                return Err(Error::dtype(op, bias.dtype, "an f32 bias"));
            }
            if bias.shape != Shape::from([sizes[1]]) {
                let want = format!("[{}]", sizes[1]);
                return Err(Error::shape(op, format!("a bias of {}", bias.shape), want));
            }
        }
        let last = x[0].shape.rank() - 1;
        plan.output(x[0].shape.with(last, sizes[1]), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let op = self.bits.op();
        let metas = x.iter().map(|x| Meta {
            shape: *x.shape(),
            dtype: x.dtype(),
        });
        if !self.is_direct(&metas.collect::<Vec<_>>()) {
            let why = "the op is composed of others";
            return Err(Error::unsupported(op, Device::Cpu, x[0].dtype(), why));
        }
        let [inner, columns] = self.sizes(x[0].shape(), x[1].shape())?;
        let sizes = Sizes {
            rows: x[0].elements() / inner,
            inner,
            columns,
        };
        let (mut own, mut weight, mut held) = (Vec::new(), Vec::new(), [const { Vec::new() }; 3]);
        let [scale, zero, bias] = &mut held;
        let own = dense::<f32>(op, &x[0], &mut own)?;
        let each = |values| Each { values, columns };
        let weights = Weights {
            values: dense(op, &x[1], &mut weight)?,
            scale: each(dense(op, &x[2], scale)?),
            zero: match self.zeros(x) {
                Some(zeros) => each(dense(op, zeros, zero)?),
                None => each(&[0.0]),
            },
            group: if self.group_size == 0 {
                inner
            } else {
                self.group_size
            },
        };
        let bias = self.bias(x).map(|own| dense(op, own, bias)).transpose()?;
        into_dense(op, &mut y[0], |y| {
            weighed(sizes, own, &weights, bias, y);
            Ok(())
        })?;
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let sizes = self.sizes(x[0].shape(), x[1].shape())?;
        let dtype = x[0].dtype();
        if !self.fused(x, sizes) {
            let why = "aclnnWeightQuantBatchMatmulV2 takes halves by CANN's dtype table, groups of a multiple of 32 rows and whole words of weights";
            let device = Device::Ascend(cx.device());
            return Err(Error::unsupported(self.bits.op(), device, dtype, why));
        }
        let [inner, columns] = sizes;
        let rows = x[0].elements() / inner;
        let flat = cx.contiguous(&x[0])?;
        let flat = flat.dev();
        let own =
            flat.with_layout(Layout::contiguous([rows, inner]).with_offset(flat.layout().offset()));
        let weight = cx.contiguous(&x[1])?;
        let weight = words(self.bits, &weight.dev(), [inner, columns]);
        let scale = cx.cast(&x[2], dtype)?;
        let offset = match self.zeros(x) {
            None => None,
            Some(zeros) => {
                let half = cx.cast(zeros, dtype)?;
                let shift = cx.temporary(*zeros.shape(), dtype)?;
                aclnn::neg(cx, &half.dev(), &shift.dev())?;
                Some(shift)
            }
        };
        // The kernel adds a bias in f32 to products of bf16.
        let bias = match self.bias(x) {
            Some(bias) if dtype == DType::F16 => Some(cx.cast(bias, DType::F16)?),
            Some(bias) => Some(crate::ascend::Ready::Given(*bias)),
            None => None,
        };
        let to = Layout::contiguous([rows, columns]).with_offset(y[0].layout().offset());
        aclnn::weight_quant_batch_matmul_v2(
            cx,
            &own,
            &weight,
            &scale.dev(),
            offset.as_ref().map(|offset| offset.dev()).as_ref(),
            None,
            None,
            bias.as_ref().map(|bias| bias.dev()).as_ref(),
            self.group_size as i32,
            &y[0].with_layout(to),
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let [inner, _] = self.sizes(x[0].shape(), x[1].shape())?;
        let mut weight = self.weights(&x[1])?;
        if let Some(zeros) = self.zeros(x) {
            weight = weight.sub(&self.each(zeros, inner)?)?;
        }
        weight = weight.mul(&self.each(&x[2], inner)?)?;
        let wide = x[0].dtype().promote(DType::F32);
        let mut y = x[0].to_dtype(wide)?.matmul(&weight.to_dtype(wide)?)?;
        if let Some(bias) = self.bias(x) {
            y = y.add(bias)?;
        }
        Ok(smallvec![y.to_dtype(x[0].dtype())?])
    }

    fn is_composed(&self, x: &[Meta], device: Device) -> bool {
        if device.is_cpu() {
            !self.is_direct(x)
        } else {
            !x[0].dtype.is_half()
        }
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

/// Weights of four bits as CANN sees them: eight in an i32, the first in its lowest bits, which is how bytes of two lie.
fn words<'a>(bits: Bits, weight: &Dev<'a>, [inner, columns]: [usize; 2]) -> Dev<'a> {
    if bits == Bits::Eight {
        return *weight;
    }
    let layout = Layout::contiguous([inner, columns / 8]);
    let offset = weight.layout().offset() / size_of::<i32>();
    Dev::new(weight.buffer(), layout.with_offset(offset), DType::I32)
}

/// Samples of one width.
pub(super) fn samples_of(bits: Bits) -> Vec<Sample> {
    let sample = |zero_point: bool, bias: bool, group_size: usize, sizes: [usize; 2]| {
        let [inner, columns] = sizes;
        let low = if bits == Bits::Eight { -90.0 } else { 0.0 };
        let high = if bits == Bits::Eight { 90.0 } else { 255.9 };
        let scales: Shape = match group_size {
            0 => [columns].into(),
            size => [inner.div_ceil(size), columns].into(),
        };
        let scale = if bits == Bits::Eight { 0.002 } else { 0.02 };
        let mut inputs = vec![
            SampleInput::new([2, 3, inner], -1.0, 1.0),
            SampleInput::typed([inner, columns / bits.packed()], bits.dtype(), low, high),
            SampleInput::typed(scales, DType::F32, scale, scale * 2.0),
        ];
        if zero_point {
            inputs.push(SampleInput::typed(scales, DType::F32, 3.0, 3.0));
        }
        if bias {
            inputs.push(SampleInput::typed([columns], DType::F32, -1.0, 1.0));
        }
        let op = WeightMatmul {
            bits,
            zero_point,
            bias,
            group_size,
        };
        Sample {
            op: Box::new(op),
            inputs,
            dtypes: FLOATS,
        }
    };
    vec![
        sample(false, false, 0, [6, 8]),
        sample(true, true, 0, [5, 4]),
        sample(true, false, 2, [5, 8]),
        sample(false, true, 32, [64, 8]),
    ]
}
