//! `int8_matmul`: exact products of integers, scaled by row and column.

use crate::cpu::gemm::{Scales, scaled};
use crate::ops::prelude::*;

/// Settings of [`Tensor::int8_matmul`]. Made from `()`, from the result's dtype, or built up.
#[derive(Debug, Clone, Copy)]
#[must_use]
pub struct Int8MatmulOptions<'a> {
    bias: Option<&'a Tensor>,
    dtype: DType,
}

impl<'a> Int8MatmulOptions<'a> {
    /// No bias, a result of `f32`.
    pub fn new() -> Self {
        Int8MatmulOptions {
            bias: None,
            dtype: DType::F32,
        }
    }

    /// A term of each column: `f32 [n]`.
    pub fn bias(mut self, bias: &'a Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// The dtype of the result: `f32` or a half.
    pub fn dtype(mut self, dtype: DType) -> Self {
        self.dtype = dtype;
        self
    }
}

impl Default for Int8MatmulOptions<'_> {
    fn default() -> Self {
        Int8MatmulOptions::new()
    }
}

impl From<()> for Int8MatmulOptions<'_> {
    fn from((): ()) -> Self {
        Int8MatmulOptions::new()
    }
}

impl From<DType> for Int8MatmulOptions<'_> {
    fn from(dtype: DType) -> Self {
        Int8MatmulOptions::new().dtype(dtype)
    }
}

/// Inputs: integers, weights, the scales of rows and of columns, and the bias if there is one.
#[derive(Debug, Clone, Copy)]
struct Int8Matmul {
    dtype: DType,
}

const NAME: &str = "int8_matmul";

/// Sums of so many products of `i8` are exact in f32.
const EXACT: usize = 1024;

impl Tensor {
    /// `(x weight) * x_scale * weight_scale + bias`: the product exactly in integers, the rest in f32, then cast.
    ///
    /// Shapes: `i8 [.., m, k]`, weights `i8 [k, n]`, `f32` scales 0-d or `[.., m]` for rows and 0-d or `[n]` for columns ->
    /// `[.., m, n]`. PyTorch: `torch._int_mm` and scaling (`torch_npu.npu_quant_matmul`). NPU: `aclnnQuantMatmulV4`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[100i8, 100], [1, -1]]);
    /// let weight = Tensor::new([[100i8], [50]]);
    /// let rows = Tensor::new([0.1f32, 1.0]);
    /// let columns = Tensor::new([0.5f32]);
    /// assert_eq!(x.int8_matmul(&weight, &rows, &columns, ())?.to_vec::<f32>()?, [750.0, 25.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for sizes that do not fit, `DType` for other dtypes.
    pub fn int8_matmul<'a>(
        &self,
        weight: &Tensor,
        x_scale: &Tensor,
        weight_scale: &Tensor,
        options: impl Into<Int8MatmulOptions<'a>>,
    ) -> Result<Tensor> {
        let Int8MatmulOptions { bias, dtype } = options.into();
        let op = Int8Matmul { dtype };
        match bias {
            Some(bias) => run_one(&op, &[self, weight, x_scale, weight_scale, bias]),
            None => run_one(&op, &[self, weight, x_scale, weight_scale]),
        }
    }
}

/// The shape of the result.
fn result(x: &Shape, weight: &Shape) -> Result<Shape> {
    match (x.dims(), weight.dims()) {
        ([.., _, inner], [own, columns]) if inner == own => Ok(x.with(x.rank() - 1, *columns)),
        _ => Err(Error::shape(
            NAME,
            format!("{x} and weights of {weight}"),
            "[.., m, k] and [k, n]",
        )),
    }
}

fn check_scale(what: &'static str, own: &Meta, want: &[usize]) -> Result<()> {
    if own.dtype != DType::F32 {
        return Err(Error::dtype(NAME, own.dtype, "f32 scales and bias"));
    }
    if own.shape.rank() == 0 && what != "a bias" || own.shape.dims() == want {
        return Ok(());
    }
    Err(Error::shape(
        NAME,
        format!("{what} of {}", own.shape),
        Shape::from(want),
    ))
}

/// The product in `i32`, in parts whose sums are exact in f32.
fn exact(x: &Tensor, weight: &Tensor) -> Result<Tensor> {
    let inner = weight.shape().size(0);
    let (x, weight) = (x.to_dtype(DType::F32)?, weight.to_dtype(DType::F32)?);
    let mut sum: Option<Tensor> = None;
    for start in (0..inner.max(1)).step_by(EXACT) {
        let length = EXACT.min(inner - start.min(inner)) as i64;
        let start = start as i64;
        let part = x
            .narrow(-1, start, length)?
            .matmul(&weight.narrow(0, start, length)?)?
            .to_dtype(DType::I32)?;
        sum = Some(match sum {
            Some(sum) => sum.add(&part)?,
            None => part,
        });
    }
    sum.ok_or(Error::NoGradient { op: NAME })
}

impl Int8Matmul {
    /// The product in `i32` on the NPU, then scaled by elementwise kernels.
    fn in_parts(&self, cx: &Launch, x: &[Dev<'_>], y: &Dev<'_>) -> Result<()> {
        let [rows, inner, columns] = flat_sizes(x);
        let own = cx.contiguous(&x[0])?;
        let own = own.dev();
        let flat =
            own.with_layout(Layout::contiguous([rows, inner]).with_offset(own.layout().offset()));
        let (sums, ones) = (
            cx.temporary([rows, columns], DType::I32)?,
            cx.constant_f32(&[1.0])?,
        );
        let weight = cx.contiguous(&x[1])?;
        aclnn::quant_matmul_v4(
            cx,
            &flat,
            &weight.dev(),
            &ones.dev(),
            None,
            None,
            None,
            false,
            false,
            &sums.dev(),
        )?;
        let wide = cx.temporary([rows, columns], DType::F32)?;
        aclnn::cast(cx, &sums.dev(), DType::F32, &wide.dev())?;
        let scales = row_scales(cx, &x[2], rows)?;
        let column = Layout::contiguous([rows, 1]);
        let scales = scales.dev();
        let scales = scales.with_layout(column.with_offset(scales.layout().offset()));
        aclnn::mul(cx, &wide.dev(), &scales, &wide.dev())?;
        aclnn::mul(cx, &wide.dev(), &x[3], &wide.dev())?;
        if let Some(bias) = x.get(4) {
            let one = AclScalar::of(1, DType::F32);
            aclnn::add(cx, &wide.dev(), bias, one, &wide.dev())?;
        }
        aclnn::inplace_copy(cx, y, &wide.dev())
    }

    /// One kernel that scales too.
    fn at_once(&self, cx: &Launch, x: &[Dev<'_>], y: &Dev<'_>) -> Result<()> {
        let [rows, inner, _] = flat_sizes(x);
        let own = cx.contiguous(&x[0])?;
        let own = own.dev();
        let flat =
            own.with_layout(Layout::contiguous([rows, inner]).with_offset(own.layout().offset()));
        let weight = cx.contiguous(&x[1])?;
        let tokens = row_scales(cx, &x[2], rows)?;
        let scale = match x[3].shape().rank() {
            0 => x[3].with_layout(x[3].layout().unsqueeze(0)),
            _ => x[3],
        };
        aclnn::quant_matmul_v4(
            cx,
            &flat,
            &weight.dev(),
            &scale,
            None,
            Some(&tokens.dev()),
            x.get(4),
            false,
            false,
            y,
        )
    }
}

/// All rows, the inner size and the columns.
fn flat_sizes(x: &[Dev<'_>]) -> [usize; 3] {
    let (inner, columns) = (x[1].shape().size(0), x[1].shape().size(1));
    [x[0].elements() / inner.max(1), inner, columns]
}

/// The scales of rows as a vector without gaps.
fn row_scales<'a>(cx: &Launch, scale: &Dev<'a>, rows: usize) -> Result<crate::ascend::Ready<'a>> {
    let vector = Shape::from([rows]);
    let wide = match scale.shape().rank() {
        0 => scale.with_layout(scale.layout().expand(NAME, &vector)?),
        _ => *scale,
    };
    let ready = cx.contiguous(&wide)?;
    if wide.shape().rank() == 1 {
        return Ok(ready);
    }
    let flat = cx.temporary(vector, DType::F32)?;
    let to = flat.dev().with_layout(Layout::contiguous(*wide.shape()));
    aclnn::inplace_copy(cx, &to, &ready.dev())?;
    Ok(crate::ascend::Ready::Made(flat))
}

impl Op for Int8Matmul {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        if x[0].dtype != DType::I8 || x[1].dtype != DType::I8 {
            let got = format!("{} and {}", x[0].dtype, x[1].dtype);
            return Err(Error::dtype(NAME, got, "i8 factors"));
        }
        if !matches!(self.dtype, DType::F32 | DType::F16 | DType::BF16) {
            return Err(Error::dtype(NAME, self.dtype, "f32, f16 or bf16 to give"));
        }
        let result = result(&x[0].shape, &x[1].shape)?;
        let (last, columns) = (result.rank() - 1, result.size(result.rank() - 1));
        check_scale("a scale of rows", &x[2], result.without(last).dims())?;
        check_scale("a scale of columns", &x[3], &[columns])?;
        if let Some(bias) = x.get(4) {
            check_scale("a bias", bias, &[columns])?;
        }
        plan.output(result, self.dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let rows = match x[2].shape().rank() {
            0 => x[2],
            rank => x[2].with_layout(x[2].layout().unsqueeze(rank)),
        };
        let scales = Scales {
            rows,
            columns: x[3],
            bias: x.get(4).copied(),
        };
        scaled(NAME, &x[0], &x[1], scales, &mut y[0])?;
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let [rows, inner, columns] = flat_sizes(x);
        if inner == 0 {
            let why = "aclnnQuantMatmulV4 takes no empty factors";
            let device = Device::Ascend(cx.device());
            return Err(Error::unsupported(NAME, device, x[0].dtype(), why));
        }
        let flat = Layout::contiguous([rows, columns]).with_offset(y[0].layout().offset());
        let to = y[0].with_layout(flat);
        if self.dtype.is_half() {
            self.at_once(cx, x, &to)?;
        } else {
            self.in_parts(cx, x, &to)?;
        }
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let sums = exact(&x[0], &x[1])?.to_dtype(DType::F32)?;
        let rows = match x[2].rank() {
            0 => x[2].clone(),
            _ => x[2].unsqueeze(-1)?,
        };
        let mut y = sums.mul(&rows)?.mul(&x[3])?;
        if let Some(bias) = x.get(4) {
            y = y.add(bias)?;
        }
        Ok(smallvec![y.to_dtype(self.dtype)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: NAME,
    family: "quant",
    kernels: &["aclnnQuantMatmulV4"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |dtype, rows: &[usize], bias: bool| {
        let mut inputs = vec![
            SampleInput::new([2, 3, 5], -128.0, 128.0),
            SampleInput::typed([5, 4], DType::I8, -128.0, 128.0),
            SampleInput::typed(rows, DType::F32, 0.01, 0.02),
            SampleInput::typed([4], DType::F32, 0.01, 0.02),
        ];
        inputs.resize(
            4 + usize::from(bias),
            SampleInput::typed([4], DType::F32, -1.0, 1.0),
        );
        Sample {
            op: Box::new(Int8Matmul { dtype }),
            inputs,
            dtypes: &[DType::I8],
        }
    };
    vec![
        sample(DType::F32, &[2, 3], true),
        sample(DType::F16, &[], false),
        sample(DType::BF16, &[2, 3], true),
    ]
}
