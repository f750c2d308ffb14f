//! The taps of a resize along one dim: where each output stands in the input, and what its neighbours weigh.
//!
//! Knows coordinates and weights. Must not know tensors.

use crate::cpu::alloc::room;
use crate::cpu::lane::Lane;
use crate::cpu::pool_resize::Taps;
use crate::dtype::DType;
use crate::error::Result;

/// How [`Tensor::interpolate`](crate::Tensor::interpolate) finds a value between elements.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum InterpolateMode {
    /// The element at `floor(i s)`, over one or two dims.
    #[default]
    Nearest,
    /// The element at `floor((i + 0.5) s)`, over one or two dims.
    NearestExact,
    /// On the line between two elements, over one dim.
    Linear,
    /// On lines between two elements of two dims.
    Bilinear,
    /// On cubics (`a = -0.75`) through four elements of two dims.
    Bicubic,
}

/// One dim of a resize.
#[derive(Debug, Clone, Copy)]
pub(super) struct Axis {
    pub input: usize,
    pub output: usize,
    /// The factor that was given.
    pub factor: Option<f64>,
}

impl Axis {
    /// The taps of one dim, with coordinates in the lane's precision.
    pub fn taps<T: Lane>(
        self,
        op: &'static str,
        mode: InterpolateMode,
        align: bool,
    ) -> Result<Taps<T>> {
        let axis = self;
        let each = match mode {
            InterpolateMode::Nearest | InterpolateMode::NearestExact => 1,
            InterpolateMode::Linear | InterpolateMode::Bilinear => 2,
            InterpolateMode::Bicubic => 4,
        };
        let mut taps = Taps {
            size: axis.input,
            each,
            places: room(op, axis.output.saturating_mul(each))?,
            weights: room(op, axis.output.saturating_mul(each))?,
        };
        let double = T::DTYPE == DType::F64;
        let round = |x: f64| if double { x } else { f64::from(x as f32) };
        let last = axis.input as i64 - 1;
        let step = round(match axis.factor {
            _ if align && axis.output == 1 => 0.0,
            _ if align => round(last as f64) / round((axis.output - 1) as f64),
            Some(factor) => 1.0 / factor,
            None => round(axis.input as f64) / round(axis.output as f64),
        });
        for index in 0..axis.output {
            let index = index as f64;
            let exact = round(round(step * (index + 0.5)) - 0.5);
            let center = if align { round(step * index) } else { exact };
            match mode {
                InterpolateMode::Nearest => {
                    push(&mut taps, last, round(index * step).floor() as i64, 1.0)
                }
                InterpolateMode::NearestExact => push(
                    &mut taps,
                    last,
                    round((index + 0.5) * step).floor() as i64,
                    1.0,
                ),
                InterpolateMode::Linear | InterpolateMode::Bilinear => {
                    let center = if axis.input == axis.output {
                        index
                    } else {
                        center.max(0.0)
                    };
                    let low = (center.floor() as i64).min(last);
                    let part = round(center - low as f64).clamp(0.0, 1.0);
                    push(&mut taps, last, low, round(1.0 - part));
                    push(&mut taps, last, low + 1, part);
                }
                InterpolateMode::Bicubic => {
                    let low = center.floor();
                    let part = round(center - low);
                    for (tap, weight) in cubic(part).into_iter().enumerate() {
                        push(&mut taps, last, low as i64 + tap as i64 - 1, weight);
                    }
                }
            }
        }
        Ok(taps)
    }
}

/// Adds a tap; places beyond the edge are the edge.
fn push<T: Lane>(taps: &mut Taps<T>, last: i64, place: i64, weight: f64) {
    taps.places.push(place.clamp(0, last) as usize);
    taps.weights.push(T::from_f64(weight));
}

/// The weights of four neighbours, for a place `part` of the way from the second to the third.
fn cubic(part: f64) -> [f64; 4] {
    const A: f64 = -0.75;
    let near = |d: f64| ((A + 2.0) * d - (A + 3.0)) * d * d + 1.0;
    let far = |d: f64| ((A * d - 5.0 * A) * d + 8.0 * A) * d - 4.0 * A;
    [
        far(part + 1.0),
        near(part),
        near(1.0 - part),
        far(2.0 - part),
    ]
}
