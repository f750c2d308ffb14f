//! Which dtypes, ranks and layouts each op's parameters take on each product family.
//!
//! Knows the table `shims/rules.tsv` (made from the facts of the C interface); it must not know kernels.

use crate::dtype::DType;
use crate::failure::Refusal;
use crate::kernel::{Arg, Family};
use crate::tensor::Tensor;
use std::collections::HashMap;
use std::sync::OnceLock;

/// What a family's column says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Allow {
    /// Nothing known: no check.
    Any,
    /// The op is not listed for this family.
    Absent,
    /// One bit per `aclDataType` code.
    Mask(u64),
}

/// What the table says about one parameter.
#[derive(Debug)]
pub(crate) struct Rule {
    index: usize,
    name: &'static str,
    /// Written by the op.
    pub output: bool,
    families: [Allow; 6],
    /// One bit per rank; 0 for no check.
    ranks: u32,
    contiguous: bool,
}

static TABLE: OnceLock<HashMap<&'static str, Vec<Rule>>> = OnceLock::new();

fn table() -> &'static HashMap<&'static str, Vec<Rule>> {
    TABLE.get_or_init(|| {
        let mut table: HashMap<&'static str, Vec<Rule>> = HashMap::new();
        for line in include_str!("shims/rules.tsv").lines() {
            if let Some((op, rule)) = parse(line) {
                table.entry(op).or_default().push(rule);
            }
        }
        table
    })
}

fn parse(line: &'static str) -> Option<(&'static str, Rule)> {
    let mut columns = line.split('\t');
    let op = columns.next()?;
    let index = columns.next()?.parse().ok()?;
    let name = columns.next()?;
    let output = columns.next()? != "in";
    let mut families = [Allow::Any; 6];
    for family in &mut families {
        *family = match columns.next()? {
            "-" => Allow::Any,
            "n" => Allow::Absent,
            mask => Allow::Mask(u64::from_str_radix(mask, 16).ok()?),
        };
    }
    let ranks = columns.next()?.parse().ok()?;
    let contiguous = columns.next()? == "no";
    Some((
        op,
        Rule {
            index,
            name,
            output,
            families,
            ranks,
            contiguous,
        },
    ))
}

/// The rules of an op.
pub(crate) fn of(op: &str) -> &'static [Rule] {
    table().get(op).map_or(&[], Vec::as_slice)
}

fn column(family: Family) -> usize {
    match family {
        Family::A2 => 0,
        Family::A3 => 1,
        Family::A950 => 2,
        Family::P310 => 3,
        Family::A910 => 4,
        Family::B310 => 5,
    }
}

impl Rule {
    /// What a family's column says; A3 has the attention and triangle kernels of A2 although its column is empty.
    fn allow(&self, op: &str, family: Family) -> Allow {
        let said = self.families[column(family)];
        let as_a2 = family == Family::A3
            && [
                "aclnnFlashAttention",
                "aclnnTril",
                "aclnnTriu",
                "aclnnInplaceTril",
                "aclnnInplaceTriu",
            ]
            .iter()
            .any(|prefix| op.starts_with(prefix));
        if as_a2 && said == Allow::Absent {
            self.families[0]
        } else {
            said
        }
    }
}

/// Whether a parameter is written, by the table; `None` where it says nothing.
pub(crate) fn is_output(op: &str, index: usize) -> Option<bool> {
    of(op)
        .iter()
        .find(|rule| rule.index == index)
        .map(|rule| rule.output)
}

/// Checks all arguments of a call.
pub(crate) fn check(op: &str, family: Family, args: &[Arg]) -> Result<(), Refusal> {
    let rules = of(op);
    let strict = matches!(family, Family::A2 | Family::A3 | Family::A950);
    let tensors = rules
        .iter()
        .filter(|rule| matches!(args.get(rule.index), Some(Arg::Tensor(_) | Arg::Tensors(_))));
    let mut absent = tensors
        .clone()
        .map(|rule| rule.allow(op, family) == Allow::Absent);
    if strict && tensors.clone().next().is_some() && absent.all(|absent| absent) {
        return Err(Refusal::unsupported(format!(
            "{op} has no kernel on {family:?}"
        )));
    }
    for rule in rules {
        match args.get(rule.index) {
            Some(Arg::Tensor(Some(tensor))) => check_tensor(op, family, rule, tensor)?,
            Some(Arg::Tensors(Some(list))) => {
                // An empty tensor stands for an absent one, whatever its dtype: PyTorch's client passes f32 among indices.
                for tensor in list.iter().flatten().filter(|tensor| !tensor.is_empty()) {
                    check_tensor(op, family, rule, tensor)?;
                }
            }
            Some(Arg::Scalar(Some(scalar))) => check_scalar(op, family, rule, scalar.dtype())?,
            Some(Arg::Scalars(Some(list))) => {
                for scalar in list {
                    check_scalar(op, family, rule, scalar.dtype())?;
                }
            }
            _ => {}
        }
    }
    Ok(())
}

fn check_tensor(op: &str, family: Family, rule: &Rule, tensor: &Tensor) -> Result<(), Refusal> {
    let (index, name) = (rule.index, rule.name);
    check_dtype(op, family, rule, tensor.dtype())?;
    let rank = tensor.rank();
    if rank > 8 || (rule.ranks != 0 && !tensor.is_empty() && rule.ranks & (1 << rank) == 0) {
        return Err(Refusal::invalid(format!(
            "{op}: parameter {index} ({name}) has rank {rank} (shape {:?}), which is not supported",
            tensor.shape()
        )));
    }
    if rule.contiguous && !tensor.is_contiguous() {
        return Err(Refusal::invalid(format!(
            "{op}: parameter {index} ({name}) must be contiguous, got strides {:?} for shape {:?}",
            tensor.strides(),
            tensor.shape()
        )));
    }
    Ok(())
}

/// Scalars are converted by the operator: where the documents name any real dtype, each bool, integer and f32 or f64 is
/// taken (PyTorch's client passes every number as bool, i64 or f64, to ops whose manual names only f32, too).
fn check_scalar(op: &str, family: Family, rule: &Rule, dtype: DType) -> Result<(), Refusal> {
    let real: u64 = [DType::F32, DType::F64, DType::I32, DType::I64, DType::Bool]
        .iter()
        .filter_map(|real| u32::try_from(real.code()).ok())
        .fold(0, |mask, code| mask | (1 << code));
    let any_real = matches!(rule.allow(op, family), Allow::Mask(mask) if mask & real != 0);
    if any_real && u32::try_from(dtype.code()).is_ok_and(|code| real & (1 << code) != 0) {
        return Ok(());
    }
    check_dtype(op, family, rule, dtype)
}

fn check_dtype(op: &str, family: Family, rule: &Rule, dtype: DType) -> Result<(), Refusal> {
    let Allow::Mask(mask) = rule.allow(op, family) else {
        return Ok(());
    };
    if u32::try_from(dtype.code()).is_ok_and(|code| mask & (1 << code) != 0) {
        return Ok(());
    }
    let wanted: Vec<&str> = (0..64)
        .filter(|code| mask & (1 << code) != 0)
        .filter_map(DType::from_code)
        .map(DType::name)
        .collect();
    Err(Refusal::invalid(format!(
        "{op}: parameter {} ({}) has dtype {dtype}, which {family:?} does not take, wanted one of {}",
        rule.index,
        rule.name,
        wanted.join(", ")
    )))
}
