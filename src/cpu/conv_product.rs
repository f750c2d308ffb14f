//! Convolutions whose kernel is a single tap, as matrix products: channels by channels times channels by positions.
//!
//! Knows which convolutions are one, and the layouts of the factors. Must not know vectors.

use super::conv::Geometry;
use super::gemm;
use super::view::{Host, HostMut};
use crate::error::Result;
use crate::layout::Layout;
use crate::shape::Shape;

/// Products of fewer channels or positions than these are better tiles.
const CHANNELS: usize = 16;
const POSITIONS: usize = 64;

/// Which way numbers go through a convolution.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    Forward,
    Back,
}

/// A bare convolution of many channels and positions: the product of the weight, or of its transpose, and the channels of each
/// sample, group by group; false if it is none.
pub(crate) fn product(
    op: &'static str,
    of: &Geometry,
    way: Way,
    (w, x): (&[f32], &[f32]),
    bias: Option<&[f32]>,
    y: &mut [f32],
) -> Result<bool> {
    if !is_bare(of) || of.inputs.min(of.outputs) < CHANNELS || of.output_plane() < POSITIONS {
        return Ok(false);
    }
    let (batch, groups, plane) = (of.batch, of.groups, of.output_plane());
    let (w_layout, reads, writes) = {
        let layout = Layout::contiguous([1, groups, of.outputs, of.inputs]);
        match way {
            Way::Forward => (layout, of.inputs, of.outputs),
            Way::Back => (layout.permute(&[0, 1, 3, 2]), of.outputs, of.inputs),
        }
    };
    let w_layout = w_layout.expand(op, &Shape::from([batch, groups, writes, reads]))?;
    let shape = Shape::from([batch, groups, writes, plane]);
    let (Some(w), Some(x), Some(mut y)) = (
        Host::from_slice(w, &Shape::from([w.len()])),
        Host::from_slice(x, &Shape::from([batch, groups, reads, plane])),
        HostMut::from_slice(y, &shape),
    ) else {
        return Ok(false);
    };
    let layout = Layout::contiguous([1, groups, writes, 1]).expand(op, &shape)?;
    let bias = bias.and_then(|bias| Host::from_slice(bias, &Shape::from([bias.len()])));
    let bias = bias.map(|bias| bias.with_layout(layout));
    let start = bias.as_ref().map(|bias| (bias, 1.0));
    gemm::products::<f32>(op, &w.with_layout(w_layout), &x, &mut y, 1.0, start)?;
    Ok(true)
}

/// A kernel of a single tap without stride or padding.
pub(crate) fn is_bare(of: &Geometry) -> bool {
    of.kernel == [1; 3] && of.stride == [1; 3] && of.padding == [0; 3]
}
