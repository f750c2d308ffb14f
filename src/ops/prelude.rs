//! What almost every op room uses.
//!
//! Knows names only.

pub(crate) use smallvec::smallvec;

pub(crate) use crate::ascend::{Dev, Launch, Number as AclScalar, aclnn};
pub(crate) use crate::cpu::lane::{with_float, with_lane};
pub(crate) use crate::cpu::number::{Float, Number};
pub(crate) use crate::cpu::simd::{Simd, vectorised};
pub(crate) use crate::cpu::{Host, HostMut, map};
pub(crate) use crate::device::Device;
pub(crate) use crate::dispatch::{broadcast, run, run_one};
pub(crate) use crate::dtype::{DType, Scalar};
pub(crate) use crate::error::{Error, Result};
pub(crate) use crate::layout::Layout;
pub(crate) use crate::op::{
    CastRule, Counts, FLOATS, GradCx, Gradient, Grads, Meta, NUMBERS, Op, OpInfo, Outputs, Plan,
    Sample, SampleInput, Saves, Writes, result_type,
};
pub(crate) use crate::shape::{Axes, Shape};
pub(crate) use crate::tensor::{Operand, Tensor};
