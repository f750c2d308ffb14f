//! Products of groups of rows with one matrix each: `aclnnGroupedMatmul` and its later forms, for floating-point operands.
//!
//! Knows the kernel interface and ndarray's product; it must not know streams, handles or device memory.

use super::common::{Arithmetic, volume};
use crate::failure::{Fault, Refusal};
use crate::kernel::{Call, Prepare, Work};
use crate::tensor::Tensor;
use ndarray::{ArrayD, ArrayView2, Axis, Ix2};

/// This family's ops.
pub(crate) const KERNELS: &[(&str, Prepare)] = &[
    ("aclnnGroupedMatmul", first as Prepare),
    ("aclnnGroupedMatmulV2", second as Prepare),
    ("aclnnGroupedMatmulV3", third as Prepare),
    ("aclnnGroupedMatmulV4", |call| fourth(call, 16)),
    ("aclnnGroupedMatmulV5", |call| fourth(call, 17)),
    ("aclnnGroupedMatmulAdd", |call| gradients(call, None)),
    ("aclnnGroupedMatmulAddV2", |call| gradients(call, Some(7))),
];

/// Where the groups end.
#[derive(Debug, Clone)]
pub(super) enum Bounds {
    /// There is no list: tensor by tensor.
    None,
    /// Cumulative ends, or lengths where the flag is set, on the device.
    Device(Tensor, bool),
    /// Cumulative ends on the host.
    Host(Vec<i64>),
}

impl Bounds {
    pub fn count(&self) -> usize {
        match self {
            Bounds::None => 0,
            Bounds::Device(tensor, _) => tensor.count(),
            Bounds::Host(ends) => ends.len(),
        }
    }

    /// Start and end of each group, which must lie within `limit`.
    pub fn spans(&self, op: &str, limit: usize) -> Result<Vec<(usize, usize)>, Fault> {
        let (list, lengths) = match self {
            Bounds::None => (Vec::new(), false),
            Bounds::Device(tensor, lengths) => (tensor.load_vec::<i64>(), *lengths),
            Bounds::Host(ends) => (ends.clone(), false),
        };
        let mut start = 0usize;
        list.into_iter()
            .map(|value| {
                let end = if lengths {
                    value.plus(start as i64)
                } else {
                    value
                };
                let end = usize::try_from(end)
                    .ok()
                    .filter(|&end| end >= start && end <= limit)
                    .ok_or_else(|| {
                        Fault::exception(format!(
                            "{op}: group ends at {end} after {start}, of {limit}"
                        ))
                    })?;
                let span = (start, end);
                start = end;
                Ok(span)
            })
            .collect()
    }
}

/// How the operands are grouped.
struct Grouped {
    x: Vec<Tensor>,
    weight: Vec<Tensor>,
    bias: Vec<Tensor>,
    bounds: Bounds,
    /// −1 tensor by tensor, 0 rows, 2 the inner dim.
    kind: i64,
    out: Vec<Tensor>,
}

/// The elements of a list that are there; none for a null or empty list.
fn present(call: &Call, index: usize) -> Vec<Tensor> {
    call.optional_tensors(index)
        .unwrap_or_default()
        .into_iter()
        .flatten()
        .filter(|tensor| !tensor.is_empty())
        .collect()
}

fn refuse_quantised(call: &Call, lists: std::ops::Range<usize>) -> Result<(), Refusal> {
    for index in lists {
        if !present(call, index).is_empty() {
            return Err(call.unsupported(format!(
                "the quantised form (parameter {index}) has no kernel here"
            )));
        }
    }
    Ok(())
}

fn host_bounds(call: &Call, index: usize) -> Bounds {
    match call.optional_ints(index) {
        Some(ends) if !ends.is_empty() => Bounds::Host(ends.to_vec()),
        _ => Bounds::None,
    }
}

fn device_bounds(call: &Call, index: usize, lengths: bool) -> Bounds {
    match call.optional_tensor(index) {
        Some(tensor) => Bounds::Device(tensor, lengths),
        None => Bounds::None,
    }
}

/// `..., groupList (host), splitItem, y`; groups are of rows.
fn first(call: &Call) -> Result<Work, Refusal> {
    refuse_quantised(call, 3..7)?;
    let bounds = host_bounds(call, 7);
    let kind = if bounds.count() == 0 { -1 } else { 0 };
    grouped(call, bounds, kind, call.int(8)?, 9)
}

/// As the first form, with groupType after splitItem.
fn second(call: &Call) -> Result<Work, Refusal> {
    refuse_quantised(call, 3..7)?;
    grouped(call, host_bounds(call, 7), call.int(9)?, call.int(8)?, 10)
}

/// As the second form, with the list of groups on the device.
fn third(call: &Call) -> Result<Work, Refusal> {
    refuse_quantised(call, 3..7)?;
    grouped(
        call,
        device_bounds(call, 7, false),
        call.int(9)?,
        call.int(8)?,
        10,
    )
}

/// As the third form, with the meaning of the list (0 ends, 1 lengths) and an activation; `out` is the position of the outputs.
fn fourth(call: &Call, out: usize) -> Result<Work, Refusal> {
    refuse_quantised(call, 3..8)?;
    refuse_quantised(call, 9..12)?;
    let lengths = match call.int(14)? {
        0 => false,
        1 => true,
        other => return Err(call.invalid(format!("groupListType is {other}, wanted 0 or 1"))),
    };
    if call.int(15)? != 0 {
        return Err(call.unsupported("an activation has no kernel here, wanted actType 0"));
    }
    grouped(
        call,
        device_bounds(call, 8, lengths),
        call.int(13)?,
        call.int(12)?,
        out,
    )
}

fn grouped(
    call: &Call,
    bounds: Bounds,
    kind: i64,
    split: i64,
    out: usize,
) -> Result<Work, Refusal> {
    let grouped = Grouped {
        x: call.tensors(0)?,
        weight: call.tensors(1)?,
        bias: present(call, 2),
        bounds,
        kind,
        out: call.tensors(out)?,
    };
    if !(0..=3).contains(&split) || !matches!(kind, -1 | 0 | 2) {
        return Err(call.invalid(format!("splitItem is {split}, groupType {kind}")));
    }
    let single = split >= 2;
    if single != (grouped.out.len() == 1) && grouped.bounds.count() > 1 {
        return Err(call.invalid(format!(
            "splitItem {split} with {} outputs",
            grouped.out.len()
        )));
    }
    grouped.check(call)?;
    let op = call.name();
    Ok(Work::new(move || grouped.run(op)))
}

impl Grouped {
    fn check(&self, call: &Call) -> Result<(), Refusal> {
        let lists = [&self.x, &self.weight, &self.bias, &self.out];
        if lists.iter().any(|list| list.len() > 128) || self.x.is_empty() || self.weight.is_empty()
        {
            return Err(call.invalid("wanted 1 to 128 tensors in each list"));
        }
        for tensor in self.x.iter().chain(&self.weight) {
            if !tensor.dtype().is_float() {
                return Err(call.unsupported(format!("no kernel for {} here", tensor.dtype())));
            }
            call.expect_dtype("an operand", tensor, &[self.x[0].dtype()])?;
        }
        match (self.kind, &self.bounds) {
            (-1, Bounds::None) => self.check_pairs(call),
            (0, bounds) if bounds.count() > 0 && self.x.len() == 1 => self.check_rows(call),
            (2, bounds) if bounds.count() > 0 && self.x.len() == 1 && self.bias.is_empty() => {
                self.check_inner(call)
            }
            (kind, bounds) => Err(call.invalid(format!(
                "groupType {kind} with {} groups and {} tensors in x",
                bounds.count(),
                self.x.len()
            ))),
        }
    }

    fn check_pairs(&self, call: &Call) -> Result<(), Refusal> {
        let count = self.x.len();
        let biases = self.bias.len();
        if self.weight.len() != count || self.out.len() != count || (biases != 0 && biases != count)
        {
            return Err(call.invalid(format!("{count} tensors, {} weights", self.weight.len())));
        }
        for (x, (weight, out)) in self.x.iter().zip(self.weight.iter().zip(&self.out)) {
            let (Some((k, lead)), &[rows, columns]) = (x.shape().split_last(), weight.shape())
            else {
                return Err(call.invalid(format!("{:?} times {:?}", x.shape(), weight.shape())));
            };
            if *k != rows {
                return Err(call.invalid(format!("{:?} times {:?}", x.shape(), weight.shape())));
            }
            call.expect_shape("an output", out, &[lead, &[columns]].concat())?;
        }
        Ok(())
    }

    fn check_rows(&self, call: &Call) -> Result<(), Refusal> {
        let groups = self.bounds.count();
        let &[rows, k] = self.x[0].shape() else {
            return Err(call.invalid(format!(
                "x has shape {:?}, wanted 2 dims",
                self.x[0].shape()
            )));
        };
        let matrices: usize = self
            .weight
            .iter()
            .map(|w| if w.rank() == 3 { w.shape()[0] } else { 1 })
            .sum();
        let columns = self.weight[0].shape().last().copied().unwrap_or(0);
        let fits = |weight: &Tensor| weight.shape().ends_with(&[k, columns]) && weight.rank() <= 3;
        if matrices != groups || !self.weight.iter().all(fits) {
            return Err(call.invalid(format!(
                "{groups} groups, weights of {:?}, x {:?}",
                self.weight[0].shape(),
                self.x[0].shape()
            )));
        }
        let biases: usize = self.bias.iter().map(Tensor::count).sum();
        if biases != 0 && biases != groups * columns {
            return Err(call.invalid(format!(
                "biases of {biases} elements, wanted {groups} times {columns}"
            )));
        }
        match self.out.as_slice() {
            [out] => call.expect_shape("out", out, &[rows, columns]),
            list if list.len() == groups => Ok(()),
            list => Err(call.invalid(format!("{} outputs for {groups} groups", list.len()))),
        }
    }

    fn check_inner(&self, call: &Call) -> Result<(), Refusal> {
        let (&[rows, k], &[inner, columns]) = (self.x[0].shape(), self.weight[0].shape()) else {
            return Err(call.invalid("x and weight must have 2 dims"));
        };
        if k != inner || self.weight.len() != 1 || self.out.len() != 1 {
            return Err(call.invalid(format!(
                "x {:?}, weight [{inner}, {columns}]",
                self.x[0].shape()
            )));
        }
        call.expect_shape("out", &self.out[0], &[self.bounds.count(), rows, columns])
    }

    fn run(&self, op: &str) -> Result<(), Fault> {
        let bad = || Fault::exception(format!("{op}: operands do not fit"));
        let weights: Vec<ArrayD<f32>> = self.weight.iter().map(Tensor::load).collect();
        let biases: Vec<f32> = self
            .bias
            .iter()
            .flat_map(|bias| bias.load_vec::<f32>())
            .collect();
        if self.kind == -1 {
            let mut used = 0;
            for ((x, weight), out) in self.x.iter().zip(&weights).zip(&self.out) {
                let width = x.shape().last().copied().unwrap_or(1);
                let values = x.load_vec::<f32>();
                let rows = x.count() / width.max(1);
                let left = ArrayView2::from_shape((rows, width), &values).map_err(|_| bad())?;
                let right = weight
                    .view()
                    .into_dimensionality::<Ix2>()
                    .map_err(|_| bad())?;
                let bias = biases.get(used..used + right.ncols());
                used += right.ncols();
                out.store_slice(&product(left, right, bias))?;
            }
            return Ok(());
        }
        let x = self.x[0].load::<f32>();
        let x = x.view().into_dimensionality::<Ix2>().map_err(|_| bad())?;
        if self.kind == 2 {
            let right = weights[0]
                .view()
                .into_dimensionality::<Ix2>()
                .map_err(|_| bad())?;
            let mut all = Vec::with_capacity(volume(self.out[0].shape()));
            for (start, end) in self.bounds.spans(op, x.ncols())? {
                let left = x.slice(ndarray::s![.., start..end]);
                all.extend(product(
                    left,
                    right.slice(ndarray::s![start..end, ..]),
                    None,
                ));
            }
            return self.out[0].store_slice(&all);
        }
        let matrices: Vec<ArrayView2<f32>> = weights
            .iter()
            .flat_map(|weight| {
                let stack = if weight.ndim() == 2 {
                    weight.view().insert_axis(Axis(0))
                } else {
                    weight.view()
                };
                (0..stack.len_of(Axis(0)))
                    .map(move |at| stack.clone().index_axis_move(Axis(0), at))
                    .collect::<Vec<_>>()
            })
            .filter_map(|matrix| matrix.into_dimensionality::<Ix2>().ok())
            .collect();
        let mut all = Vec::new();
        let columns = matrices.first().map_or(0, |matrix| matrix.ncols());
        for (group, (start, end)) in self.bounds.spans(op, x.nrows())?.into_iter().enumerate() {
            let right = matrices.get(group).ok_or_else(bad)?.view();
            let bias = biases.get(group * columns..(group + 1) * columns);
            let part = product(x.slice(ndarray::s![start..end, ..]), right, bias);
            match self.out.as_slice() {
                [_] => all.extend(part),
                list => list.get(group).ok_or_else(bad)?.store_slice(&part)?,
            }
        }
        if let [out] = self.out.as_slice() {
            all.resize(out.count(), 0.0);
            out.store_slice(&all)?;
        }
        Ok(())
    }
}

/// The product in row-major order, plus a bias for each column.
fn product(left: ArrayView2<f32>, right: ArrayView2<f32>, bias: Option<&[f32]>) -> Vec<f32> {
    let columns = right.ncols().max(1);
    let mut values: Vec<f32> = left.dot(&right).iter().copied().collect();
    if let Some(bias) = bias {
        for (at, value) in values.iter_mut().enumerate() {
            *value += bias.get(at % columns).copied().unwrap_or(0.0);
        }
    }
    values
}

/// `y[g] += x[rows of g]^T weight[rows of g]`: the gradient of the weights of a grouped product.
fn gradients(call: &Call, kind_of_list: Option<usize>) -> Result<Work, Refusal> {
    let lengths = match kind_of_list.map_or(Ok(0), |index| call.int(index))? {
        0 => false,
        1 => true,
        kind => return Err(call.invalid(format!("groupListType is {kind}, wanted 0 or 1"))),
    };
    let (x, weight, ends, y) = (
        call.tensor(0)?,
        call.tensor(1)?,
        call.tensor(2)?,
        call.tensor(3)?,
    );
    let modes = (call.bool(4)?, call.bool(5)?, call.int(6)?);
    if modes != (true, false, 2) {
        return Err(call.invalid(format!(
            "transposeX, transposeWeight and groupType are {modes:?}, wanted true, false and 2"
        )));
    }
    let (&[rows, m], &[other, n]) = (x.shape(), weight.shape()) else {
        return Err(call.invalid(format!(
            "x has shape {:?}, weight {:?}",
            x.shape(),
            weight.shape()
        )));
    };
    if rows != other || y.count() != ends.count() * m * n || y.shape().last() != Some(&n) {
        return Err(call.invalid(format!(
            "x has shape {:?}, weight {:?}, y {:?} for {} groups",
            x.shape(),
            weight.shape(),
            y.shape(),
            ends.count()
        )));
    }
    call.expect_dtype("weight", &weight, &[x.dtype()])?;
    let (bounds, op) = (Bounds::Device(ends, lengths), call.name());
    Ok(Work::new(move || {
        let failed = |error: ndarray::ShapeError| Fault::exception(error.to_string());
        let left = x
            .load::<f32>()
            .into_dimensionality::<Ix2>()
            .map_err(failed)?;
        let right = weight
            .load::<f32>()
            .into_dimensionality::<Ix2>()
            .map_err(failed)?;
        let mut sums = y.load_vec::<f32>();
        for (group, (start, end)) in bounds.spans(op, rows)?.into_iter().enumerate() {
            let part = ndarray::s![start..end, ..];
            let product = left.slice(part).t().dot(&right.slice(part));
            let target = sums[group * m * n..].iter_mut();
            target.zip(&product).for_each(|(sum, value)| *sum += value);
        }
        y.store_slice(&sums)
    }))
}
