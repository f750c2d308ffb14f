//! `einsum`: sums of products given by an equation over the operands' dims.

use std::collections::BTreeMap;

use super::matmul::Product;
use crate::ops::prelude::*;
use crate::ops::view::DiagonalOptions;

#[derive(Debug, Clone)]
struct Einsum {
    equation: String,
}

impl Tensor {
    /// The Einstein sum of tensors: each letter names a dim, letters missing after `->` are summed over.
    ///
    /// `...` stands for dims without letters, which broadcast and come first in a result that is not spelled out; then follow the
    /// letters that occur once, in alphabetical order. A letter twice in one operand takes its diagonal. Operands are multiplied
    /// pair by pair from the left, each pair as one batched matrix product.
    /// Dtypes: all but `bool`, equal ones. PyTorch: `torch.einsum`. NPU: `aclnnMatmul`, `aclnnReduceSum`.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let x = Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]);
    /// assert_eq!(Tensor::einsum("ij,kj->ik", &[&x, &x])?.to_vec::<f32>()?, [5.0, 11.0, 11.0, 25.0]);
    /// assert_eq!(Tensor::einsum("ii", &[&x])?.item::<f32>()?, 5.0);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for an equation that cannot be read, or for other operands than it names; `Shape` for dims or sizes that do not
    /// fit it; `DType` for unequal dtypes.
    pub fn einsum(equation: &str, operands: &[&Tensor]) -> Result<Tensor> {
        run_one(
            &Einsum {
                equation: equation.to_string(),
            },
            operands,
        )
    }
}

/// A dim's name: a letter, or the place of a nameless dim counted from the last one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Label {
    Nameless(std::cmp::Reverse<usize>),
    Letter(char),
}

/// The labels of each operand's dims and of the result's, with their sizes.
struct Reading {
    operands: Vec<Vec<Label>>,
    result: Vec<Label>,
    sizes: BTreeMap<Label, usize>,
}

fn refuse(why: impl std::fmt::Display) -> Error {
    Error::option("einsum", "equation", why)
}

/// The labels of a term; `nameless` is how many dims `...` stands for.
fn labels(term: &str, nameless: impl FnOnce(usize) -> Result<usize>) -> Result<Vec<Label>> {
    let (front, back) = match term.split_once("...") {
        Some((front, back)) => (front, Some(back)),
        None => (term, None),
    };
    let mut letters = front.chars().chain(back.unwrap_or_default().chars());
    if let Some(other) = letters.find(|letter| !letter.is_ascii_alphabetic()) {
        return Err(refuse(format!(
            "got {other:?} in {term:?}, wanted letters and one ..."
        )));
    }
    let count = front.len() + back.unwrap_or_default().len();
    let nameless = nameless(count)?;
    let dots = (0..if back.is_some() { nameless } else { 0 })
        .rev()
        .map(|place| Label::Nameless(std::cmp::Reverse(place)));
    Ok(front
        .chars()
        .map(Label::Letter)
        .chain(dots)
        .chain(back.unwrap_or_default().chars().map(Label::Letter))
        .collect())
}

impl Reading {
    fn new(equation: &str, shapes: &[Shape]) -> Result<Self> {
        let text: String = equation
            .chars()
            .filter(|letter| !letter.is_whitespace())
            .collect();
        let (inputs, output) = match text.split_once("->") {
            Some((inputs, output)) => (inputs, Some(output)),
            None => (text.as_str(), None),
        };
        let terms: Vec<&str> = inputs.split(',').collect();
        if terms.len() != shapes.len() || shapes.is_empty() {
            return Err(refuse(format!(
                "{} terms for {} operands",
                terms.len(),
                shapes.len()
            )));
        }
        let (mut operands, mut sizes, mut widest) = (Vec::new(), BTreeMap::new(), 0);
        for (term, shape) in terms.iter().zip(shapes) {
            let misfit = || {
                Error::shape(
                    "einsum",
                    format!("an operand of {shape}"),
                    format!("dims as in {term:?}"),
                )
            };
            let dotted = term.contains("...");
            let own = labels(term, |count| match shape.rank().checked_sub(count) {
                Some(rest) if dotted || rest == 0 => Ok(rest),
                _ => Err(misfit()),
            })?;
            widest = widest.max(
                own.iter()
                    .filter(|label| matches!(label, Label::Nameless(_)))
                    .count(),
            );
            for (label, size) in own.iter().zip(shape.dims()) {
                let known = sizes.entry(*label).or_insert(*size);
                *known = match (*known, *size) {
                    (known, size) if known == size || size == 1 => known,
                    (1, size) => size,
                    _ => return Err(misfit()),
                };
            }
            operands.push(own);
        }
        let result = match output {
            Some(output) => labels(output, |_| Ok(widest))?,
            None => {
                let once = |label: &Label| {
                    operands
                        .iter()
                        .flatten()
                        .filter(|own| *own == label)
                        .count()
                        == 1
                };
                sizes
                    .keys()
                    .copied()
                    .filter(|label| matches!(label, Label::Nameless(_)) || once(label))
                    .collect()
            }
        };
        for (index, label) in result.iter().enumerate() {
            if !sizes.contains_key(label)
                || result.iter().skip(index + 1).any(|other| other == label)
            {
                return Err(refuse(
                    "the result names a dim that no operand has, or one twice",
                ));
            }
        }
        Ok(Reading {
            operands,
            result,
            sizes,
        })
    }

    fn size(&self, label: &Label) -> usize {
        self.sizes.get(label).copied().unwrap_or(1)
    }

    fn shape(&self, labels: &[Label]) -> Shape {
        labels.iter().map(|label| self.size(label)).collect()
    }
}

/// A tensor with a label for each dim.
struct Labelled {
    x: Tensor,
    labels: Vec<Label>,
}

impl Labelled {
    /// Takes the diagonals of labels that occur twice.
    fn new(x: &Tensor, labels: &[Label]) -> Result<Self> {
        let mut own = Labelled {
            x: x.clone(),
            labels: labels.to_vec(),
        };
        while let Some((first, second)) = own.twice() {
            let label = own.labels[first];
            own.x = own
                .x
                .diagonal(DiagonalOptions::new().dims([first as i64, second as i64]))?;
            own.labels.remove(second);
            own.labels.remove(first);
            own.labels.push(label);
        }
        Ok(own)
    }

    /// The places of the first label that occurs twice.
    fn twice(&self) -> Option<(usize, usize)> {
        self.labels.iter().enumerate().find_map(|(second, label)| {
            let first = self.labels.iter().position(|other| other == label)?;
            (first < second).then_some((first, second))
        })
    }

    /// Sums over the labels that are not wanted.
    fn keeping(self, wanted: impl Fn(&Label) -> bool) -> Result<Self> {
        let dims: Vec<i64> = (0..)
            .zip(&self.labels)
            .filter(|(_, label)| !wanted(label))
            .map(|(dim, _)| dim)
            .collect();
        if dims.is_empty() {
            return Ok(self);
        }
        let x = self.x.sum(dims)?.to_dtype(self.x.dtype())?;
        Ok(Labelled {
            x,
            labels: self
                .labels
                .into_iter()
                .filter(|label| wanted(label))
                .collect(),
        })
    }

    /// The dims in this order, those that others have larger expanded.
    fn ordered(&self, reading: &Reading, order: &[Label]) -> Result<Tensor> {
        let place =
            |label: &Label| self.labels.iter().position(|own| own == label).unwrap_or(0) as i64;
        let dims: Vec<i64> = order.iter().map(place).collect();
        let x = if dims.is_empty() {
            self.x.clone()
        } else {
            self.x.permute(dims)?
        };
        x.expand(reading.shape(order))
    }

    /// The product with another operand, summed over the labels that both have and nobody wants.
    fn times(
        self,
        other: Labelled,
        reading: &Reading,
        wanted: &dyn Fn(&Label) -> bool,
    ) -> Result<Labelled> {
        let a = {
            let shared = other.labels.clone();
            self.keeping(|label| wanted(label) || shared.contains(label))?
        };
        let b = {
            let shared = a.labels.clone();
            other.keeping(|label| wanted(label) || shared.contains(label))?
        };
        let both = |label: &&Label| b.labels.contains(label);
        let pick = |test: &dyn Fn(&Label) -> bool, from: &[Label]| {
            from.iter()
                .copied()
                .filter(|label| test(label))
                .collect::<Vec<_>>()
        };
        let batch = pick(&|label| both(&label) && wanted(label), &a.labels);
        let inner = pick(&|label| both(&label) && !wanted(label), &a.labels);
        let left = pick(&|label| !both(&label), &a.labels);
        let right = pick(&|label| !a.labels.contains(label), &b.labels);
        let count = |labels: &[Label]| {
            labels
                .iter()
                .map(|label| reading.size(label))
                .product::<usize>()
        };
        let flat = |x: &Labelled, parts: [&[Label]; 3]| {
            x.ordered(reading, &parts.concat())?
                .reshape(parts.map(count))
        };
        let (x, y) = (
            flat(&a, [&batch, &left, &inner])?,
            flat(&b, [&batch, &inner, &right])?,
        );
        let labels = [batch, left, right].concat();
        let x = Product::run([false, false], &x, &y)?.reshape(reading.shape(&labels))?;
        Ok(Labelled { x, labels })
    }
}

impl Op for Einsum {
    fn name(&self) -> &'static str {
        "einsum"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = super::same_dtype("einsum", x)?;
        let shapes: Vec<Shape> = x.iter().map(|own| own.shape).collect();
        let reading = Reading::new(&self.equation, &shapes)?;
        plan.output(reading.shape(&reading.result), dtype);
        Ok(())
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let shapes: Vec<Shape> = x.iter().map(|own| *own.shape()).collect();
        let reading = Reading::new(&self.equation, &shapes)?;
        let mut operands = x.iter().zip(&reading.operands).enumerate();
        let Some((_, (first, labels))) = operands.next() else {
            return Err(refuse("no operands"));
        };
        let mut product = Labelled::new(first, labels)?;
        for (index, (next, labels)) in operands {
            let later = reading.operands.get(index + 1..).unwrap_or_default();
            let wanted = |label: &Label| {
                reading.result.contains(label) || later.iter().flatten().any(|other| other == label)
            };
            product = product.times(Labelled::new(next, labels)?, &reading, &wanted)?;
        }
        let product = product.keeping(|label| reading.result.contains(label))?;
        let y = product.ordered(&reading, &reading.result)?;
        Ok(smallvec![if x.iter().any(|own| y.shares_storage(own)) {
            y.copy()?
        } else {
            y
        }])
    }

    fn is_composed(&self, _x: &[Meta], _device: Device) -> bool {
        true
    }

    fn gradient(&self) -> Gradient {
        Gradient::Compose
    }

    fn cast(&self) -> CastRule {
        CastRule::Lower
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

pub(super) const INFO: OpInfo = OpInfo {
    name: "einsum",
    family: "linear",
    kernels: &["aclnnMatmul", "aclnnReduceSum"],
    samples,
};

fn samples() -> Vec<Sample> {
    let sample = |equation: &str, shapes: &[&[usize]]| Sample {
        op: Box::new(Einsum {
            equation: equation.to_string(),
        }),
        inputs: shapes
            .iter()
            .map(|shape| SampleInput::new(*shape, -2.0, 2.0))
            .collect(),
        dtypes: NUMBERS,
    };
    vec![
        sample("ij,jk->ik", &[&[2, 3], &[3, 4]]),
        sample("...ij,...jk->...ik", &[&[2, 3, 4], &[4, 2]]),
        sample("ii->i", &[&[3, 3]]),
        sample("aibj,jb->ai", &[&[2, 3, 2, 4], &[4, 2]]),
    ]
}
