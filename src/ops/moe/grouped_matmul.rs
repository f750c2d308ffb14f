//! `grouped_matmul`: rows in groups, each group times a matrix of its own.

use super::matrix;
use crate::cpu::alloc::{collected, room};
use crate::cpu::gemm::products;
use crate::cpu::grouped::in_parts;
use crate::mode::{Modes, current};
use crate::ops::elementwise::unary::may_fuse;
use crate::ops::index::read_back;
use crate::ops::prelude::*;

/// What the list of groups holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum GroupList {
    /// The row after the last one of each group.
    #[default]
    Ends,
    /// The number of rows of each group.
    Counts,
}

/// Settings of [`Tensor::grouped_matmul`]. Made from `()`, from a [`GroupList`], or built up.
#[derive(Debug, Clone, Copy, Default)]
#[must_use]
pub struct GroupedMatmulOptions<'a> {
    bias: Option<&'a Tensor>,
    list: GroupList,
}

impl<'a> GroupedMatmulOptions<'a> {
    /// No bias; the list holds ends.
    pub fn new() -> Self {
        GroupedMatmulOptions::default()
    }

    /// A term of each group and column: `[e, n]`.
    pub fn bias(mut self, bias: &'a Tensor) -> Self {
        self.bias = Some(bias);
        self
    }

    /// What the list of groups holds.
    pub fn list(mut self, list: GroupList) -> Self {
        self.list = list;
        self
    }
}

impl From<()> for GroupedMatmulOptions<'_> {
    fn from((): ()) -> Self {
        GroupedMatmulOptions::new()
    }
}

impl From<GroupList> for GroupedMatmulOptions<'_> {
    fn from(list: GroupList) -> Self {
        GroupedMatmulOptions::new().list(list)
    }
}

/// Inputs: rows, matrices, the bias if there is one, the list.
#[derive(Debug, Clone, Copy)]
struct GroupedMatmul {
    bias: bool,
    list: GroupList,
}

/// `x^T y` of each group: the gradient of its matrix. Inputs: rows of x, rows of y, the list.
#[derive(Debug, Clone, Copy)]
struct GroupedOuter {
    groups: usize,
    list: GroupList,
}

const NAME: &str = "grouped_matmul";

impl Tensor {
    /// `x[group] weight[e] + bias[e]` for the rows of each group, which lie one group after the other; halves accumulate in f32.
    ///
    /// Shapes: rows `[m, k]`, matrices `[e, k, n]`, a list `i64 [e]`, a bias `[e, n]` -> `[m, n]`. Dtypes: floats, equal ones.
    /// PyTorch: `torch._grouped_mm` with offsets. NPU: `aclnnGroupedMatmulV4`, for the gradients too.
    ///
    /// ```
    /// use ascend_tensor::{Tensor, ops::moe::GroupList};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32], [2.0], [3.0]]);
    /// let weight = Tensor::new([[[10.0f32]], [[100.0]]]);
    /// let y = x.grouped_matmul(&weight, &Tensor::new([1i64, 3]), ())?;
    /// assert_eq!(y.to_vec::<f32>()?, [10.0, 200.0, 300.0]);
    /// let y = x.grouped_matmul(&weight, &Tensor::new([2i64, 1]), GroupList::Counts)?;
    /// assert_eq!(y.to_vec::<f32>()?, [10.0, 20.0, 300.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` for sizes that do not fit, `DType` for unequal or other dtypes, `Option` for a list that does not cover the rows
    /// in order (on the NPU only under [`check_data`](crate::check_data)).
    pub fn grouped_matmul<'a>(
        &self,
        weight: &Tensor,
        groups: &Tensor,
        options: impl Into<GroupedMatmulOptions<'a>>,
    ) -> Result<Tensor> {
        let GroupedMatmulOptions { bias, list } = options.into();
        let op = GroupedMatmul {
            bias: bias.is_some(),
            list,
        };
        match bias {
            Some(bias) => run_one(&op, &[self, weight, bias, groups]),
            None => run_one(&op, &[self, weight, groups]),
        }
    }
}

impl GroupList {
    /// CANN's number.
    fn code(self) -> i64 {
        match self {
            GroupList::Ends => 0,
            GroupList::Counts => 1,
        }
    }

    /// The rows of each group; all `rows` must be in one, in order.
    fn ranges(self, list: &[i64], rows: usize) -> Result<Vec<std::ops::Range<usize>>> {
        let refuse = || {
            Error::option(
                NAME,
                "group list",
                format!("got {self:?} {list:?}, wanted groups of all {rows} rows, in order"),
            )
        };
        let mut start = 0;
        let mut ranges = room(NAME, list.len())?;
        for value in list {
            let value = usize::try_from(*value).map_err(|_| refuse())?;
            let end = match self {
                GroupList::Ends => value,
                GroupList::Counts => value.saturating_add(start),
            };
            if end < start || end > rows {
                return Err(refuse());
            }
            ranges.push(start..end);
            start = end;
        }
        if start != rows {
            return Err(refuse());
        }
        Ok(ranges)
    }

    /// The same from a list on the host.
    fn host_ranges(self, list: &Host<'_>, rows: usize) -> Result<Vec<std::ops::Range<usize>>> {
        self.ranges(&list.to_vec::<i64>(), rows)
    }

    /// Under `check_data`: reads a list on an NPU back and checks it.
    fn check(self, cx: &Launch, list: &Dev<'_>, rows: usize) -> Result<()> {
        if current().has(Modes::CHECK_DATA) {
            self.ranges(&read_back(cx, list)?, rows)?;
        }
        Ok(())
    }
}

/// The list of groups of a call, checked.
fn check_list(list: &Meta, groups: usize) -> Result<()> {
    if list.dtype != DType::I64 {
        return Err(Error::dtype(NAME, list.dtype, "an i64 list of groups"));
    }
    if list.shape != Shape::from([groups]) {
        return Err(Error::shape(
            NAME,
            format!("a list of groups of {}", list.shape),
            format!("[{groups}]"),
        ));
    }
    Ok(())
}

fn same_floats(x: &[Meta]) -> Result<()> {
    let first = x[0].dtype;
    match x.iter().find(|x| !x.dtype.is_float() || x.dtype != first) {
        None => Ok(()),
        Some(other) => Err(Error::dtype(
            NAME,
            format!("{first} and {}", other.dtype),
            "equal float dtypes",
        )),
    }
}

fn refused(cx: &Launch, dtype: DType) -> Error {
    let why = "aclnnGroupedMatmulV4 takes no empty operands and at most 1024 groups";
    Error::unsupported(NAME, Device::Ascend(cx.device()), dtype, why)
}

/// The kernel's most groups in one tensor.
const GROUPS: usize = 1024;

/// `aclnnGroupedMatmulV4` with one tensor in each list; `kind` is 0 for groups of rows, 2 for groups along the inner dim.
fn launch(
    cx: &Launch,
    [x, y, list, z]: [&Dev<'_>; 4],
    bias: Option<&Dev<'_>>,
    kind: i64,
    code: i64,
) -> Result<()> {
    let bias = bias.map(std::slice::from_ref);
    aclnn::grouped_matmul_v4(
        cx,
        &[*x],
        &[*y],
        bias,
        None,
        None,
        None,
        None,
        None,
        Some(list),
        None,
        None,
        None,
        3,
        kind,
        code,
        0,
        &[*z],
        None,
        None,
    )
}

impl Op for GroupedMatmul {
    fn name(&self) -> &'static str {
        NAME
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let [rows, inner] = matrix(NAME, "rows", &x[0].shape)?;
        let (groups, columns) = match x[1].shape.dims() {
            [groups, own, columns] if *own == inner => (*groups, *columns),
            _ => {
                return Err(Error::shape(
                    NAME,
                    format!("matrices of {} for rows of {}", x[1].shape, x[0].shape),
                    format!("[e, {inner}, n]"),
                ));
            }
        };
        let (list, floats) = x.split_last().map_or((&x[0], x), |split| split);
        same_floats(floats)?;
        check_list(list, groups)?;
        if self.bias && x[2].shape != Shape::from([groups, columns]) {
            return Err(Error::shape(
                NAME,
                format!("a bias of {}", x[2].shape),
                format!("[{groups}, {columns}]"),
            ));
        }
        plan.output([rows, columns].into(), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let ranges = self
            .list
            .host_ranges(&x[x.len() - 1], x[0].shape().size(0))?;
        let work = x[0].elements().saturating_mul(y[0].shape().size(1));
        with_float!(x[0].dtype(), T => in_parts(NAME, &mut y[0], &ranges, work, |group, to| {
            let range = &ranges[group];
            let own = x[0].with_layout(x[0].layout().slice(0, range.start, range.len(), 1));
            let weight = x[1].with_layout(x[1].layout().select(0, group));
            let bias = self.bias.then(|| {
                x[2].with_layout(x[2].layout().select(0, group)).broadcast(to.shape())
            });
            let bias = bias.as_ref().map(|bias| (bias, T::ONE));
            products::<T>(NAME, &own, &weight, to, T::ONE, bias)
        })?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let list = &x[x.len() - 1];
        self.list.check(cx, list, x[0].shape().size(0))?;
        if x[1].is_empty() || x[1].shape().size(0) > GROUPS {
            return Err(refused(cx, x[0].dtype()));
        }
        // The kernel adds a bias in f32 to products of bf16.
        let bias = match x[0].dtype() {
            _ if !self.bias => None,
            DType::BF16 => Some(cx.cast(&x[2], DType::F32)?),
            _ => Some(cx.cast(&x[2], x[2].dtype())?),
        };
        let bias = bias.as_ref().map(|bias| bias.dev());
        let code = self.list.code();
        launch(cx, [&x[0], &x[1], list, &y[0]], bias.as_ref(), 0, code)?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let list = x[x.len() - 1].to_vec::<i64>()?;
        let ranges = self.list.ranges(&list, x[0].shape().size(0))?;
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let (rows, weight) = (wide(&x[0])?, wide(&x[1])?);
        let columns = weight.shape().size(2);
        let mut parts = vec![Tensor::zeros([0, columns], rows.dtype(), rows.device())?];
        for (group, range) in ranges.into_iter().enumerate() {
            let own = rows.narrow(0, range.start as i64, range.len() as i64)?;
            let part = own.matmul(&weight.select(0, group as i64)?)?;
            parts.push(if self.bias {
                part.add(&wide(&x[2])?.select(0, group as i64)?)?
            } else {
                part
            });
        }
        let parts: Vec<&Tensor> = parts.iter().collect();
        Ok(smallvec![Tensor::cat(&parts, 0)?.to_dtype(x[0].dtype())?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let (x, weight, dy) = (cx.input(0)?, cx.input(1)?, cx.gradient()?);
        let at = 2 + usize::from(self.bias);
        let list = cx.input(at)?;
        let outer = GroupedOuter {
            groups: weight.shape().size(0),
            list: self.list,
        };
        let outer = |x: &Tensor| {
            if may_fuse() {
                run_one(&outer, &[x, dy, list])
            } else {
                outer.formula(x, dy, list)
            }
        };
        let dx = cx.want(0, || {
            let options = GroupedMatmulOptions::new().list(self.list);
            dy.grouped_matmul(&weight.transpose(1, 2)?, list, options)
        })?;
        let dweight = cx.want(1, || outer(x))?;
        if !self.bias {
            return Ok(smallvec![dx, dweight, None]);
        }
        let dbias = cx.want(2, || {
            let ones = Tensor::ones([dy.shape().size(0), 1], dy.dtype(), dy.device())?;
            outer(&ones)?.reshape(cx.meta(2)?.shape)
        })?;
        Ok(smallvec![dx, dweight, dbias, None])
    }

    fn cast(&self) -> CastRule {
        CastRule::Lower
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl GroupedOuter {
    fn formula(&self, x: &Tensor, y: &Tensor, list: &Tensor) -> Result<Tensor> {
        let ranges = self
            .list
            .ranges(&list.to_vec::<i64>()?, x.shape().size(0))?;
        let wide = |x: &Tensor| x.to_dtype(x.dtype().compute());
        let (wide_x, wide_y) = (wide(x)?, wide(y)?);
        let (inner, columns) = (x.shape().size(1), y.shape().size(1));
        let mut parts = vec![Tensor::zeros(
            [0, inner, columns],
            wide_x.dtype(),
            x.device(),
        )?];
        for range in ranges {
            let (start, length) = (range.start as i64, range.len() as i64);
            let own = wide_x.narrow(0, start, length)?.transpose(0, 1)?;
            let part = own.matmul(&wide_y.narrow(0, start, length)?)?;
            parts.push(part.unsqueeze(0)?);
        }
        let parts: Vec<&Tensor> = parts.iter().collect();
        Tensor::cat(&parts, 0)?.to_dtype(x.dtype())
    }
}

impl Op for GroupedOuter {
    fn name(&self) -> &'static str {
        "grouped_matmul_backward"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let sizes = [self.groups, x[0].shape.size(1), x[1].shape.size(1)];
        plan.output(sizes.into(), x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let ranges = self.list.host_ranges(&x[2], x[0].shape().size(0))?;
        let work = x[0].elements().saturating_mul(x[1].shape().size(1));
        let each = collected(NAME, (0..ranges.len()).map(|group| group..group + 1))?;
        with_float!(x[0].dtype(), T => in_parts(NAME, &mut y[0], &each, work, |group, to| {
            let range = &ranges[group];
            let part = |x: &Layout| x.slice(0, range.start, range.len(), 1);
            let own = x[0].with_layout(part(x[0].layout()).transpose(0, 1));
            let other = x[1].with_layout(part(x[1].layout()));
            let matrix = to.layout().select(0, 0);
            products::<T>(NAME, &own, &other, &mut to.with_layout(matrix), T::ONE, None)
        })?);
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        // Groups without rows are left as they are.
        aclnn::inplace_zero(cx, &y[0])?;
        if x[0].is_empty() || x[1].is_empty() {
            return Ok(Counts::EXACT);
        }
        if self.groups > GROUPS {
            return Err(refused(cx, x[0].dtype()));
        }
        let turned = x[0].with_layout(x[0].layout().transpose(0, 1));
        launch(
            cx,
            [&turned, &x[1], &x[2], &y[0]],
            None,
            2,
            self.list.code(),
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        Ok(smallvec![self.formula(&x[0], &x[1], &x[2])?])
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
    family: "moe",
    kernels: &["aclnnGroupedMatmulV4"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |bias: bool, rows: usize| {
        let mut inputs = vec![
            SampleInput::new([rows, 4], -2.0, 2.0),
            SampleInput::new([2, 4, 3], -2.0, 2.0),
        ];
        inputs.resize(2 + usize::from(bias), SampleInput::new([2, 3], -2.0, 2.0));
        let each = rows as f64 / 2.0;
        inputs.push(SampleInput::typed([2], DType::I64, each, each));
        Sample {
            op: Box::new(GroupedMatmul {
                bias,
                list: GroupList::Counts,
            }),
            inputs,
            dtypes: FLOATS,
        }
    };
    vec![sample(true, 6), sample(false, 2)]
}
