//! The op behind every convolution, plain and transposed: its shape rule, its kernels, its composition.
//!
//! Knows strides, paddings and groups over one to three dims. Must not know how the public methods describe them.

use super::gradient::ConvolutionGradient;
use super::{ConvOptions, ConvTransposeOptions, Padding};
use crate::cpu::conv::Geometry;
use crate::cpu::dense::{dense, into_dense};
use crate::ops::linear::KEEP;
use crate::ops::prelude::*;
use crate::ops::view::{SliceOptions, UnfoldOptions};

/// Which way a convolution goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Direction {
    /// From the input to weighted sums of its windows.
    Plain,
    /// From weighted sums back to the windows.
    Transposed,
}

/// A convolution over the last `dims` dims. Arrays speak of three dims; those that are not there have the neutral number.
#[derive(Debug, Clone, Copy)]
pub(super) struct Convolution {
    pub name: &'static str,
    pub direction: Direction,
    pub dims: usize,
    pub stride: [usize; 3],
    pub padding: [usize; 3],
    pub output_padding: [usize; 3],
    pub dilation: [usize; 3],
    pub groups: usize,
}

/// The largest stride, padding or dilation.
const MOST: usize = i32::MAX as usize;

/// A shape with three spatial dims; those that are not there have size 1.
fn last_of_three(sizes: &[usize]) -> [usize; 3] {
    let mut all = [1; 3];
    for (to, from) in all.iter_mut().rev().zip(sizes.iter().rev()) {
        *to = *from;
    }
    all
}

impl Convolution {
    /// A plain convolution by its options; `Padding::Same` is added by [`Self::run_plain`], which sees the weight.
    pub fn plain<const N: usize>(name: &'static str, options: &ConvOptions<'_, N>) -> Self {
        Convolution {
            name,
            direction: Direction::Plain,
            dims: N,
            stride: options.stride.last_of_three(1),
            padding: match options.padding {
                Padding::Both(padding) => padding.last_of_three(0),
                _ => [0; 3],
            },
            output_padding: [0; 3],
            dilation: options.dilation.last_of_three(1),
            groups: options.groups,
        }
    }

    /// A transposed convolution by its options.
    pub fn transposed<const N: usize>(
        name: &'static str,
        options: &ConvTransposeOptions<'_, N>,
    ) -> Self {
        Convolution {
            name,
            direction: Direction::Transposed,
            dims: N,
            stride: options.stride.last_of_three(1),
            padding: options.padding.last_of_three(0),
            output_padding: options.output_padding.last_of_three(0),
            dilation: options.dilation.last_of_three(1),
            groups: options.groups,
        }
    }

    /// Runs a plain convolution. Where `Padding::Same` is an odd number of zeros, the last of them is padded beforehand.
    pub fn run_plain<const N: usize>(
        name: &'static str,
        x: &Tensor,
        weight: &Tensor,
        options: &ConvOptions<'_, N>,
    ) -> Result<Tensor> {
        let mut op = Convolution::plain(name, options);
        if options.padding != Padding::Same || weight.rank() != N + 2 || x.rank() < N {
            return op.run(x, weight, options.bias);
        }
        if op.stride != [1; 3] {
            let got = options.stride.get();
            let why = format!("got same with a stride of {got:?}, wanted a stride of 1");
            return Err(Error::option(name, "padding", why));
        }
        op.check_numbers()?;
        let kernel = last_of_three(weight.dims().get(2..).unwrap_or(&[]));
        let total: [usize; 3] = std::array::from_fn(|axis| {
            op.dilation[axis].saturating_mul(kernel[axis].saturating_sub(1))
        });
        op.padding = total.map(|total| total / 2);
        if total.iter().all(|total| total % 2 == 0) {
            return op.run(x, weight, options.bias);
        }
        let last = total.iter().rev().take(N);
        let ends: Vec<i64> = last.flat_map(|total| [0, (total % 2) as i64]).collect();
        op.run(&x.pad(&ends, ())?, weight, options.bias)
    }

    /// Runs on tensors.
    pub fn run(&self, x: &Tensor, weight: &Tensor, bias: Option<&Tensor>) -> Result<Tensor> {
        match bias {
            Some(bias) => run_one(self, &[x, weight, bias]),
            None => run_one(self, &[x, weight]),
        }
    }

    /// Refuses numbers that no convolution has.
    fn check_numbers(&self) -> Result<()> {
        let numbers = [
            ("stride", self.stride, 1),
            ("padding", self.padding, 0),
            ("output_padding", self.output_padding, 0),
            ("dilation", self.dilation, 1),
            ("groups", [self.groups; 3], 1),
        ];
        for (name, values, least) in numbers {
            if let Some(bad) = values.iter().find(|value| !(least..=MOST).contains(*value)) {
                return Err(Error::option(
                    self.name,
                    name,
                    format!("got {bad}, wanted {least} to {MOST}"),
                ));
            }
        }
        let longer = (0..3).find(|axis| {
            self.output_padding[*axis] >= self.stride[*axis].max(self.dilation[*axis])
        });
        match longer.filter(|_| self.output_padding != [0; 3]) {
            Some(axis) => Err(Error::option(
                self.name,
                "output_padding",
                format!(
                    "got {}, wanted less than the stride or the dilation",
                    self.output_padding[axis]
                ),
            )),
            None => Ok(()),
        }
    }

    /// The size of the result along a dim, if there is one.
    fn extent(&self, axis: usize, size: usize, kernel: usize) -> Option<usize> {
        let span = self.dilation[axis]
            .checked_mul(kernel.checked_sub(1)?)?
            .checked_add(1)?;
        let padding = 2 * self.padding[axis];
        match self.direction {
            Direction::Plain => {
                Some(size.checked_add(padding)?.checked_sub(span)? / self.stride[axis] + 1)
            }
            Direction::Transposed => (size.checked_sub(1)?.checked_mul(self.stride[axis])?)
                .checked_add(span)?
                .checked_add(self.output_padding[axis])?
                .checked_sub(padding)
                .filter(|size| *size > 0),
        }
    }

    /// The plain convolution between the shapes of an input and a weight: its channels and sizes.
    pub fn geometry(&self, x: &Shape, weight: &Shape) -> Result<Geometry> {
        let dims = self.dims;
        let ranks = || {
            let got = format!("an input of {x} and a weight of {weight}");
            Error::shape(
                self.name,
                got,
                format!("{} or {} dims and {}", dims + 1, dims + 2, dims + 2),
            )
        };
        let lead = x
            .rank()
            .checked_sub(dims + 1)
            .filter(|lead| *lead < 2)
            .ok_or_else(ranks)?;
        let &[first, second, ref kernel @ ..] = weight.dims() else {
            return Err(ranks());
        };
        if kernel.len() != dims {
            return Err(ranks());
        }
        self.check_numbers()?;
        let (channels, space) = (x.size(lead), &x.dims()[lead + 1..]);
        let wanted = match self.direction {
            Direction::Plain => second.saturating_mul(self.groups),
            Direction::Transposed => first,
        };
        if channels != wanted || !first.is_multiple_of(self.groups) {
            let got = format!(
                "{channels} channels with a weight of {weight} in {} groups",
                self.groups
            );
            return Err(Error::shape(
                self.name,
                got,
                "channels that fit the weight and divide into the groups",
            ));
        }
        let (sizes, kernel) = (last_of_three(space), last_of_three(kernel));
        let mut result = [1; 3];
        for axis in 0..3 {
            result[axis] = self
                .extent(axis, sizes[axis], kernel[axis])
                .ok_or_else(|| {
                    let got = format!("a kernel of {weight} over an input of {x}");
                    Error::shape(
                        self.name,
                        got,
                        "a kernel that fits into the padded input, and a result that is not empty",
                    )
                })?;
        }
        let (input, output) = match self.direction {
            Direction::Plain => (sizes, result),
            Direction::Transposed => (result, sizes),
        };
        Ok(Geometry {
            batch: if lead == 1 { x.size(0) } else { 1 },
            groups: self.groups,
            inputs: second,
            outputs: first / self.groups,
            input,
            output,
            kernel,
            stride: self.stride,
            padding: self.padding,
            dilation: self.dilation,
        })
    }

    /// The convolution back from the result to the input, which may be longer than the input where the result ignored its end.
    pub fn reversed(&self, geometry: &Geometry) -> Self {
        let ignored = |axis: usize| {
            let span = self.dilation[axis] * (geometry.kernel[axis] - 1) + 1;
            (geometry.input[axis] + 2 * self.padding[axis] - span) % self.stride[axis]
        };
        let plain = self.direction == Direction::Plain;
        Convolution {
            direction: if plain {
                Direction::Transposed
            } else {
                Direction::Plain
            },
            output_padding: if plain {
                std::array::from_fn(ignored)
            } else {
                [0; 3]
            },
            ..*self
        }
    }

    /// The channels of the result, and its sizes.
    pub fn result(&self, geometry: &Geometry) -> (usize, [usize; 3]) {
        match self.direction {
            Direction::Plain => (geometry.groups * geometry.outputs, geometry.output),
            Direction::Transposed => (geometry.groups * geometry.inputs, geometry.input),
        }
    }

    /// The shape of the result for an input.
    pub fn result_shape(&self, x: &Shape, geometry: &Geometry) -> Shape {
        let (channels, sizes) = self.result(geometry);
        let lead = x.rank() - self.dims - 1;
        let batch = x.dims().iter().take(lead).copied();
        batch
            .chain([channels])
            .chain(sizes.into_iter().skip(3 - self.dims))
            .collect()
    }

    /// Whether kernel and numbers lie in the ranges that the manuals of CANN's kernels give for every chip.
    pub fn fits_kernel(&self, weight: &Shape, backward: bool) -> bool {
        let back = backward || self.direction == Direction::Transposed;
        let (kernel, deep) = (
            last_of_three(weight.dims().get(2..).unwrap_or(&[])),
            self.dims == 3,
        );
        let most = |values: [usize; 3], most: usize| values[1..].iter().all(|value| *value <= most);
        most(self.padding, 255)
            && (!(back || deep)
                || most(self.dilation, 255) && most(kernel, if back { 255 } else { 511 }))
            && (!deep || most(self.stride, 63))
    }

    /// The numbers of the dims that are there, as CANN takes them.
    pub fn numbers(&self, all: [usize; 3]) -> smallvec::SmallVec<[i64; 3]> {
        all.iter()
            .skip(3 - self.dims)
            .map(|number| *number as i64)
            .collect()
    }

    /// A tensor with a batch dim, as CANN wants it.
    pub fn batched<'a>(&self, x: &Dev<'a>) -> Dev<'a> {
        if x.shape().rank() == self.dims + 1 {
            x.with_layout(x.layout().unsqueeze(0))
        } else {
            *x
        }
    }
}

impl Op for Convolution {
    fn name(&self) -> &'static str {
        self.name
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        let dtype = crate::ops::linear::same_dtype(self.name, x)?;
        let geometry = self.geometry(&x[0].shape, &x[1].shape)?;
        let channels = self.result(&geometry).0;
        if let Some(bias) = x
            .get(2)
            .filter(|bias| bias.shape != Shape::from([channels]))
        {
            return Err(Error::shape(
                self.name,
                format!("a bias of {}", bias.shape),
                format!("[{channels}]"),
            ));
        }
        plan.output(self.result_shape(&x[0].shape, &geometry), dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let geometry = self.geometry(x[0].shape(), x[1].shape())?;
        with_lane!(x[0].dtype(), T => {
            let (mut input, mut weight, mut bias) = (Vec::<T>::new(), Vec::new(), Vec::new());
            let input = dense(self.name, &x[0], &mut input)?;
            let weight = dense(self.name, &x[1], &mut weight)?;
            let bias = x.get(2).map(|own| dense(self.name, own, &mut bias)).transpose()?;
            into_dense(self.name, &mut y[0], |y| {
                match self.direction {
                    Direction::Plain => geometry.forward(self.name, input, weight, bias, y),
                    Direction::Transposed => geometry.input_gradient(self.name, input, weight, bias, y),
                }
            })?;
        });
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        if x[0].is_empty() || x[1].is_empty() || !self.fits_kernel(x[1].shape(), false) {
            return Err(Error::unsupported(
                self.name,
                Device::Ascend(cx.device()),
                x[0].dtype(),
                "the kernel takes no empty input, and no numbers beyond its manual",
            ));
        }
        aclnn::convolution(
            cx,
            &self.batched(&x[0]),
            &x[1],
            x.get(2),
            &self.numbers(self.stride),
            &self.numbers(self.padding),
            &self.numbers(self.dilation),
            self.direction == Direction::Transposed,
            &self.numbers(self.output_padding),
            self.groups as i64,
            &self.batched(&y[0]),
            KEEP,
        )?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<Outputs> {
        let geometry = self.geometry(x[0].shape(), x[1].shape())?;
        let lead = x[0].rank() - self.dims - 1;
        let batched: Shape = [geometry.batch]
            .into_iter()
            .chain(x[0].dims().iter().skip(lead).copied())
            .collect();
        let batched = x[0].reshape(batched)?;
        let y = match self.direction {
            Direction::Plain => self.windows_by_weight(&batched, &x[1], &geometry)?,
            Direction::Transposed => self.spread(&batched, &x[1], &geometry)?,
        };
        let y = y.reshape(self.result_shape(x[0].shape(), &geometry))?;
        let Some(bias) = x.get(2) else {
            return Ok(smallvec![y]);
        };
        let column: Shape = [bias.elements()]
            .into_iter()
            .chain([1; 3].into_iter().take(self.dims))
            .collect();
        Ok(smallvec![y.add(&bias.reshape(column)?)?])
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING.and_input(0).and_input(1)
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let wants = [cx.needs(0), cx.needs(1), cx.len() > 2 && cx.needs(2)];
        let op = ConvolutionGradient {
            forward: *self,
            wants,
        };
        let mut made = op
            .run(cx.gradient()?, cx.input(0)?, cx.input(1)?)?
            .into_iter();
        Ok(wants
            .iter()
            .take(cx.len())
            .map(|wanted| if *wanted { made.next() } else { None })
            .collect())
    }

    fn cast(&self) -> CastRule {
        CastRule::Lower
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(*self)
    }
}

impl Convolution {
    /// A plain convolution as a product: the windows of each group as columns, its weight as rows.
    fn windows_by_weight(
        &self,
        x: &Tensor,
        weight: &Tensor,
        geometry: &Geometry,
    ) -> Result<Tensor> {
        let first = 3 - self.dims;
        let ends: Vec<i64> = self
            .padding
            .iter()
            .skip(first)
            .rev()
            .flat_map(|pad| [*pad as i64; 2])
            .collect();
        let mut windows = if self.padding == [0; 3] {
            x.clone()
        } else {
            x.pad(&ends, ())?
        };
        for axis in first..3 {
            let (dim, step) = ((2 + axis - first) as i64, self.dilation[axis]);
            let span = step * (geometry.kernel[axis] - 1) + 1;
            windows = windows
                .unfold(
                    dim,
                    UnfoldOptions::new(span as i64).step(self.stride[axis] as i64),
                )?
                .slice(-1, SliceOptions::new().step(step as i64))?;
        }
        let Geometry {
            batch,
            groups,
            inputs,
            outputs,
            ..
        } = *geometry;
        let (dims, taps, plane) = (self.dims as i64, geometry.taps(), geometry.output_plane());
        let order: Vec<i64> = [0, 1]
            .into_iter()
            .chain(2 + dims..2 + 2 * dims)
            .chain(2..2 + dims)
            .collect();
        let columns = windows
            .permute(order)?
            .reshape([batch, groups, inputs * taps, plane])?;
        weight
            .reshape([groups, outputs, inputs * taps])?
            .matmul(&columns)
    }

    /// A transposed convolution as a plain one: the input with zeros between its elements and around them, by the weight
    /// with its taps in reverse.
    fn spread(&self, x: &Tensor, weight: &Tensor, geometry: &Geometry) -> Result<Tensor> {
        let first = 3 - self.dims;
        let (mut spread, mut ends) = (x.clone(), Vec::new());
        for axis in first..3 {
            let (dim, stride) = (2 + axis - first, self.stride[axis]);
            let size = spread.dims()[dim];
            if stride > 1 {
                let mut after = vec![0; 2 * (spread.rank() - dim - 1)];
                after.extend([0, stride as i64 - 1]);
                let shape = spread.shape().with(dim, size * stride);
                let apart = spread.unsqueeze(dim as i64 + 1)?.pad(&after, ())?;
                let length = ((size - 1) * stride + 1) as i64;
                spread = apart.reshape(shape)?.narrow(dim as i64, 0, length)?;
            }
            let reach = (self.dilation[axis] * (geometry.kernel[axis] - 1)) as i64;
            let pad = reach - self.padding[axis] as i64;
            ends.push([pad, pad + self.output_padding[axis] as i64]);
        }
        let ends: Vec<i64> = ends.into_iter().rev().flatten().collect();
        let spread = spread.pad(&ends, ())?;
        let taps: Vec<i64> = (2..2 + self.dims as i64).collect();
        let Geometry {
            groups,
            inputs,
            outputs,
            ..
        } = *geometry;
        let grouped: Shape = [groups, outputs, inputs]
            .into_iter()
            .chain(weight.dims().iter().skip(2).copied())
            .collect();
        let swapped: Shape = [groups * inputs, outputs]
            .into_iter()
            .chain(weight.dims().iter().skip(2).copied())
            .collect();
        let flipped = weight
            .flip(taps)?
            .reshape(grouped)?
            .transpose(1, 2)?
            .reshape(swapped)?;
        let plain = Convolution {
            direction: Direction::Plain,
            stride: [1; 3],
            padding: [0; 3],
            output_padding: [0; 3],
            ..*self
        };
        let geometry = plain.geometry(spread.shape(), flipped.shape())?;
        plain.windows_by_weight(&spread, &flipped, &geometry)
    }
}
