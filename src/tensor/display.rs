//! Printing: tensors as PyTorch prints them.
//!
//! Knows text only. Must not know ops; a failed device read prints its error's text instead of failing.

use std::fmt::{self, Write};

use crate::dtype::{Category, DType};
use crate::error::Result;
use crate::tensor::Tensor;

/// Dims longer than this are cut in tensors of more than [`THRESHOLD`] elements.
const EDGE: usize = 3;
/// Larger tensors are summarised.
const THRESHOLD: usize = 1000;
/// Digits after the point.
const PRECISION: usize = 4;
/// The width of a line.
const LINE: usize = 80;

impl fmt::Debug for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "Tensor({} {} on {}",
            self.dtype(),
            self.shape(),
            self.device()
        )?;
        if let Some(node) = self.node() {
            write!(f, ", {node:?}")?;
        }
        f.write_str(")")
    }
}

impl fmt::Display for Tensor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (values, integers) = match self.numbers() {
            Ok(numbers) => numbers,
            Err(error) => return write!(f, "tensor(<{error}>)"),
        };
        let printer = Printer::new(self, &values, &integers);
        f.write_str("tensor(")?;
        if self.elements() == 0 {
            f.write_str("[]")?;
            if self.rank() != 1 {
                write!(f, ", size={}", self.shape())?;
            }
        } else {
            f.write_str(&printer.nested(0, 0, 7))?;
        }
        if !matches!(self.dtype(), DType::F32 | DType::I64 | DType::Bool)
            || self.elements() == 0 && self.dtype() != DType::F32
        {
            write!(f, ", dtype={}", self.dtype())?;
        }
        if !self.device().is_cpu() {
            write!(f, ", device='{}'", self.device())?;
        }
        if let Some(node) = self.node() {
            write!(f, ", grad_fn=<{node:?}>")?;
        }
        f.write_str(")")
    }
}

impl Tensor {
    /// The elements, and for the dtype whose values a double cannot hold as integers too; read once.
    fn numbers(&self) -> Result<(Vec<f64>, Vec<i64>)> {
        if self.dtype() != DType::I64 {
            return Ok((self.to_f64_vec()?, Vec::new()));
        }
        let integers = self.to_vec::<i64>()?;
        let values = integers.iter().map(|value| *value as f64).collect();
        Ok((values, integers))
    }
}

/// How the numbers of one tensor are written.
enum Style {
    Integers,
    Bools,
    /// Whole floats: `3.`
    Whole,
    Fixed,
    Scientific,
}

struct Printer<'a> {
    dims: &'a [usize],
    values: &'a [f64],
    integers: &'a [i64],
    style: Style,
    width: usize,
    summarize: bool,
}

impl<'a> Printer<'a> {
    fn new(tensor: &'a Tensor, values: &'a [f64], integers: &'a [i64]) -> Self {
        let summarize = values.len() > THRESHOLD;
        let mut printer = Printer {
            dims: tensor.dims(),
            values,
            integers,
            style: Style::Integers,
            width: 0,
            summarize,
        };
        let shown = printer.shown();
        printer.style = match tensor.dtype().category() {
            Category::Bool => Style::Bools,
            Category::Int => Style::Integers,
            Category::Float => float_style(
                shown
                    .iter()
                    .filter_map(|position| values.get(*position).copied()),
            ),
        };
        printer.width = shown
            .iter()
            .map(|position| printer.number(*position).len())
            .max()
            .unwrap_or(0);
        printer
    }

    /// The positions that are printed.
    fn shown(&self) -> Vec<usize> {
        let mut positions = vec![0];
        for size in self.dims {
            let indices = self.indices(*size);
            positions = positions
                .iter()
                .flat_map(|base| {
                    indices
                        .iter()
                        .flatten()
                        .map(move |index| base * size + index)
                })
                .collect();
        }
        positions
    }

    /// The indices along a dim that are printed; `None` stands for the dots.
    fn indices(&self, size: usize) -> Vec<Option<usize>> {
        if self.summarize && size > 2 * EDGE {
            return (0..EDGE)
                .map(Some)
                .chain([None])
                .chain((size - EDGE..size).map(Some))
                .collect();
        }
        (0..size).map(Some).collect()
    }

    fn number(&self, position: usize) -> String {
        let value = self.values.get(position).copied().unwrap_or(f64::NAN);
        match self.style {
            Style::Bools => if value == 0.0 { "false" } else { "true" }.to_string(),
            Style::Integers => self
                .integers
                .get(position)
                .map_or_else(|| format!("{value:.0}"), ToString::to_string),
            _ if value.is_nan() => "nan".to_string(),
            _ if value.is_infinite() => if value > 0.0 { "inf" } else { "-inf" }.to_string(),
            Style::Whole => format!("{value:.0}."),
            Style::Fixed => format!("{value:.PRECISION$}"),
            Style::Scientific => scientific(value),
        }
    }

    /// The text of the part of the tensor below `dim`, whose elements start at `base` (in units of the remaining dims).
    fn nested(&self, dim: usize, base: usize, indent: usize) -> String {
        let Some(size) = self.dims.get(dim) else {
            return format!("{:>width$}", self.number(base), width = self.width);
        };
        let indices = self.indices(*size);
        let last = dim + 1 == self.dims.len();
        let parts = indices.iter().map(|index| match index {
            Some(index) => self.nested(dim + 1, base * size + index, indent + 1),
            None if last => " ...".to_string(),
            None => "...".to_string(),
        });
        let parts: Vec<String> = parts.collect();
        if last {
            return format!("[{}]", self.row(&parts, indent + 1));
        }
        let gap = "\n".repeat(self.dims.len() - dim - 1);
        format!(
            "[{}]",
            parts.join(&format!(",{gap}{}", " ".repeat(indent + 1)))
        )
    }

    /// A row of numbers, broken where the line is full.
    fn row(&self, parts: &[String], indent: usize) -> String {
        let per_line = ((LINE.saturating_sub(indent)) / (self.width + 2)).max(1);
        let mut text = String::new();
        for (line, chunk) in parts.chunks(per_line).enumerate() {
            if line > 0 {
                let _ = write!(text, ",\n{}", " ".repeat(indent));
            }
            text += &chunk.join(", ");
        }
        text
    }
}

fn float_style(values: impl Iterator<Item = f64> + Clone) -> Style {
    let sizes = values
        .clone()
        .filter(|value| value.is_finite() && *value != 0.0)
        .map(f64::abs);
    let (least, most) = sizes.fold((f64::INFINITY, 0.0f64), |(least, most), size| {
        (least.min(size), most.max(size))
    });
    let wide = most > 0.0 && (most / least > 1000.0 || most > 1e8);
    if values
        .filter(|value| value.is_finite())
        .all(|value| value == value.ceil())
    {
        return if wide && most > 1e8 {
            Style::Scientific
        } else {
            Style::Whole
        };
    }
    if wide || least < 1e-4 {
        Style::Scientific
    } else {
        Style::Fixed
    }
}

/// A number as C's `%.4e` writes it.
fn scientific(value: f64) -> String {
    let text = format!("{value:.PRECISION$e}");
    match text.split_once('e') {
        Some((mantissa, exponent)) => {
            let (sign, digits) = exponent
                .strip_prefix('-')
                .map_or(('+', exponent), |digits| ('-', digits));
            format!("{mantissa}e{sign}{digits:0>2}")
        }
        None => text,
    }
}

#[cfg(test)]
mod tests {
    use crate::{DType, Device, Tensor};

    #[test]
    fn prints_as_pytorch() -> crate::Result<()> {
        assert_eq!(
            Tensor::new([[1.0f32, 2.5], [-3.0, 4.0]]).to_string(),
            "tensor([[ 1.0000,  2.5000],\n        [-3.0000,  4.0000]])"
        );
        assert_eq!(Tensor::new([1.0f32, 2.0]).to_string(), "tensor([1., 2.])");
        assert_eq!(Tensor::new(3i64).to_string(), "tensor(3)");
        assert_eq!(
            Tensor::new([true, false]).to_string(),
            "tensor([ true, false])"
        );
        assert_eq!(
            Tensor::new([1e-6f32, 1.0]).to_string(),
            "tensor([1.0000e-06, 1.0000e+00])"
        );
        assert_eq!(
            Tensor::new([f32::NAN, 1.5])
                .to_dtype(DType::BF16)?
                .to_string(),
            "tensor([   nan, 1.5000], dtype=bf16)"
        );
        assert_eq!(
            Tensor::zeros([0, 3], DType::F32, Device::Cpu)?.to_string(),
            "tensor([], size=[0, 3])"
        );
        assert_eq!(
            Tensor::new([i64::MAX]).to_string(),
            "tensor([9223372036854775807])"
        );
        let cut = Tensor::zeros([2000], DType::I32, Device::Cpu)?.to_string();
        assert_eq!(cut, "tensor([0, 0, 0,  ..., 0, 0, 0], dtype=i32)");
        assert_eq!(
            Tensor::new([[[1i64, 2]], [[3, 4]]]).to_string(),
            "tensor([[[1, 2]],\n\n        [[3, 4]]])"
        );
        Ok(())
    }
}
