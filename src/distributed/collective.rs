//! The collectives: one op, whose kind says what the ranks exchange.
//!
//! Knows shapes, dtypes and gradients of each kind. Must not know streams or HCCL's calls.

use std::sync::Arc;

use crate::ascend::{Communicator, Dev, Launch, ReduceOp, aclnn};
use crate::device::Device;
use crate::dispatch;
use crate::dtype::DType;
use crate::error::{Error, Result};
use crate::mode::{self, Modes};
use crate::op::{Counts, GradCx, Gradient, Grads, Meta, Op, Outputs, Plan, Saves};

use crate::shape::Shape;
use crate::tensor::Tensor;

/// What the ranks exchange.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kind {
    AllReduce(ReduceOp),
    Broadcast { root: u32 },
    AllGather,
    ReduceScatter(ReduceOp),
    AllToAll,
    Send { to: u32 },
    Receive { from: u32, meta: Meta },
}

/// A collective of one communicator.
#[derive(Debug, Clone)]
struct Collective {
    comm: Arc<Communicator>,
    kind: Kind,
}

impl Communicator {
    /// Joins the elements that are in the same place on each rank; every rank gets the result:
    /// `y = reduce over ranks r of x_r`.
    ///
    /// Shapes: any, the same on all ranks. Dtypes: `f32 f16 bf16 i8 i16 i32 i64` where the chip reduces them (not the product of
    /// `bf16` and `i16`). The gradient of a sum is the sum of the ranks' gradients. HCCL: `HcclAllReduce`. PyTorch:
    /// `torch.distributed.all_reduce`.
    ///
    /// ```
    /// # use ascend_tensor::distributed::{Communicator, Membership, ReduceOp, RootInfo};
    /// # use ascend_tensor::{Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
    /// # let comm = Communicator::join(0, &RootInfo::new(0)?, Membership { rank: 0, ranks: 1 })?;
    /// let x = Tensor::new([1.0f32, 2.0]).to_device(Device::ascend(0))?;
    /// let sum = comm.all_reduce(&x, ReduceOp::Sum)?; // of one rank here
    /// assert_eq!(sum.to_vec::<f32>()?, [1.0, 2.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Device` for a tensor that is not on the rank's device; `DType` for `bool` and `u8`, and `Unsupported` for others that the
    /// chip does not reduce; `NoGradient` for a tracked tensor and another reduction than the sum; a communicator that was closed;
    /// HCCL's failures, of which a missing or different rank surfaces when the result is waited for.
    pub fn all_reduce(self: &Arc<Self>, x: &Tensor, reduce: ReduceOp) -> Result<Tensor> {
        self.exchange(Kind::AllReduce(reduce), x)
    }

    /// Gives every rank the elements of one: `y = x_root`.
    ///
    /// Shapes: any, the same on all ranks, whose values count on the root only. Dtypes: all. The gradient reaches the root: the
    /// sum of the ranks' gradients; it is zero on the others. HCCL: `HcclBroadcast`. PyTorch: `torch.distributed.broadcast`.
    ///
    /// ```
    /// # use ascend_tensor::distributed::{Communicator, Membership, RootInfo};
    /// # use ascend_tensor::{Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
    /// # let comm = Communicator::join(0, &RootInfo::new(0)?, Membership { rank: 0, ranks: 1 })?;
    /// let x = Tensor::new([1i64, 2]).to_device(Device::ascend(0))?;
    /// assert_eq!(comm.broadcast(&x, 0)?.to_vec::<i64>()?, [1, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Option` for a root that is no rank; else as [`all_reduce`](Communicator::all_reduce).
    pub fn broadcast(self: &Arc<Self>, x: &Tensor, root: u32) -> Result<Tensor> {
        self.check_rank("broadcast", root)?;
        self.exchange(Kind::Broadcast { root }, x)
    }

    /// Puts the tensors of all ranks one after the other, along the first dim, in the order of ranks:
    /// `[n, ..] -> [ranks * n, ..]`; tensors without dims make `[ranks]`.
    ///
    /// Dtypes: all. The gradient is a [`reduce_scatter`](Communicator::reduce_scatter) of sums. HCCL: `HcclAllGather`. PyTorch:
    /// `torch.distributed.all_gather_into_tensor`.
    ///
    /// ```
    /// # use ascend_tensor::distributed::{Communicator, Membership, RootInfo};
    /// # use ascend_tensor::{Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
    /// # let comm = Communicator::join(0, &RootInfo::new(0)?, Membership { rank: 0, ranks: 1 })?;
    /// let x = Tensor::new([[1.0f32, 2.0]]).to_device(Device::ascend(0))?;
    /// assert_eq!(comm.all_gather(&x)?.dims(), [comm.ranks() as usize, 2]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`all_reduce`](Communicator::all_reduce).
    pub fn all_gather(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        self.exchange(Kind::AllGather, x)
    }

    /// Joins the elements of all ranks and leaves each rank its part, along the first dim: `[ranks * n, ..] -> [n, ..]`.
    ///
    /// Dtypes: as [`all_reduce`](Communicator::all_reduce). The gradient of a sum is an
    /// [`all_gather`](Communicator::all_gather). HCCL: `HcclReduceScatter`. PyTorch:
    /// `torch.distributed.reduce_scatter_tensor`.
    ///
    /// ```
    /// # use ascend_tensor::distributed::{Communicator, Membership, ReduceOp, RootInfo};
    /// # use ascend_tensor::{Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
    /// # let comm = Communicator::join(0, &RootInfo::new(0)?, Membership { rank: 0, ranks: 1 })?;
    /// let x = Tensor::new([3.0f32, 4.0]).to_device(Device::ascend(0))?;
    /// assert_eq!(comm.reduce_scatter(&x, ReduceOp::Maximum)?.to_vec::<f32>()?, [3.0, 4.0]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `Shape` if the first dim does not divide by the number of ranks; else as [`all_reduce`](Communicator::all_reduce).
    pub fn reduce_scatter(self: &Arc<Self>, x: &Tensor, reduce: ReduceOp) -> Result<Tensor> {
        self.exchange(Kind::ReduceScatter(reduce), x)
    }

    /// Cuts the first dim in as many parts as there are ranks, gives part `i` to rank `i`, and puts what the ranks gave one after
    /// the other: `[ranks * n, ..] -> [ranks * n, ..]`.
    ///
    /// Dtypes: all. The gradient is the same exchange. HCCL: `HcclAlltoAll`. PyTorch: `torch.distributed.all_to_all_single`.
    ///
    /// ```
    /// # use ascend_tensor::distributed::{Communicator, Membership, RootInfo};
    /// # use ascend_tensor::{Device, Tensor};
    /// # fn main() -> ascend_tensor::Result<()> {
    /// # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
    /// # let comm = Communicator::join(0, &RootInfo::new(0)?, Membership { rank: 0, ranks: 1 })?;
    /// let x = Tensor::new([5i32, 6]).to_device(Device::ascend(0))?;
    /// assert_eq!(comm.all_to_all(&x)?.to_vec::<i32>()?, [5, 6]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// As [`reduce_scatter`](Communicator::reduce_scatter).
    pub fn all_to_all(self: &Arc<Self>, x: &Tensor) -> Result<Tensor> {
        self.exchange(Kind::AllToAll, x)
    }

    /// Gives a tensor to another rank, which must [`receive`](Communicator::receive) it. Dtypes: all. HCCL: `HcclSend`. PyTorch:
    /// `torch.distributed.send`.
    ///
    /// # Errors
    /// `Option` for no rank, or this one; `NoGradient` for a tracked tensor; else as
    /// [`all_reduce`](Communicator::all_reduce).
    pub fn send(self: &Arc<Self>, x: &Tensor, to: u32) -> Result<()> {
        self.check_peer("send", to)?;
        self.on_device("send", x)?;
        self.run(Kind::Send { to }, &[x]).map(drop)
    }

    /// Takes the tensor that another rank sends, whose shape and dtype both must know. HCCL: `HcclRecv`. PyTorch:
    /// `torch.distributed.recv`.
    ///
    /// # Errors
    /// As [`send`](Communicator::send); no memory.
    pub fn receive(
        self: &Arc<Self>,
        shape: impl Into<Shape>,
        dtype: DType,
        from: u32,
    ) -> Result<Tensor> {
        self.check_peer("receive", from)?;
        let meta = Meta {
            shape: shape.into(),
            dtype,
        };
        let mut outputs = self.run(Kind::Receive { from, meta }, &[])?;
        outputs.pop().ok_or(Error::NoGradient { op: "receive" })
    }

    fn check_peer(&self, op: &'static str, rank: u32) -> Result<()> {
        self.check_rank(op, rank)?;
        if rank == self.rank() {
            let why = format!("got this rank, {rank}, wanted another one");
            return Err(Error::option(op, "rank", why));
        }
        Ok(())
    }

    fn on_device(&self, op: &'static str, x: &Tensor) -> Result<()> {
        let own = Device::Ascend(self.device());
        if x.device() == own {
            return Ok(());
        }
        Err(Error::Device {
            op,
            lhs: own,
            rhs: x.device(),
        })
    }

    fn exchange(self: &Arc<Self>, kind: Kind, x: &Tensor) -> Result<Tensor> {
        self.on_device(kind.name(), x)?;
        let mut outputs = self.run(kind, &[x])?;
        outputs.pop().ok_or(Error::NoGradient { op: kind.name() })
    }

    /// The host has no other ranks to compare a result with.
    fn run(self: &Arc<Self>, kind: Kind, inputs: &[&Tensor]) -> Result<Outputs> {
        let comm = Arc::clone(self);
        let op = Collective { comm, kind };
        mode::scoped(Modes::SHADOW, false, || dispatch::run(&op, inputs))
    }
}

impl Kind {
    const fn name(self) -> &'static str {
        match self {
            Kind::AllReduce(_) => "all_reduce",
            Kind::Broadcast { .. } => "broadcast",
            Kind::AllGather => "all_gather",
            Kind::ReduceScatter(_) => "reduce_scatter",
            Kind::AllToAll => "all_to_all",
            Kind::Send { .. } => "send",
            Kind::Receive { .. } => "receive",
        }
    }

    /// No chip reduces these dtypes.
    fn check_dtype(self, dtype: DType) -> Result<()> {
        let reduce = match self {
            Kind::AllReduce(reduce) | Kind::ReduceScatter(reduce) => reduce,
            _ => return Ok(()),
        };
        let refused = matches!(dtype, DType::Bool | DType::U8)
            || reduce == ReduceOp::Product && matches!(dtype, DType::BF16 | DType::I16);
        if refused {
            let want = format!(
                "a dtype that HCCL reduces by {reduce:?} (f32 f16 i8 i32 i64, and bf16 and i16 but for Product)"
            );
            return Err(Error::dtype(self.name(), dtype, want));
        }
        Ok(())
    }
}

impl Collective {
    /// A shape with another first size.
    fn resized(x: &Shape, first: usize) -> Shape {
        let rest = x.dims().iter().skip(1).copied();
        Shape::from_iter(std::iter::once(first).chain(rest))
    }

    /// The size of one rank's part along the first dim.
    fn part(&self, x: &Shape) -> Result<usize> {
        let ranks = self.comm.ranks() as usize;
        match x.dims().first() {
            Some(first) if first % ranks == 0 => Ok(first / ranks),
            _ => {
                let want = format!("a first dim that divides by {ranks} ranks");
                Err(Error::shape(self.name(), x, want))
            }
        }
    }
}

impl Op for Collective {
    fn name(&self) -> &'static str {
        self.kind.name()
    }

    fn infer(&self, inputs: &[Meta], plan: &mut Plan) -> Result<()> {
        if let Kind::Receive { meta, .. } = self.kind {
            plan.output(meta.shape, meta.dtype);
            return Ok(());
        }
        let Some(x) = inputs.first() else {
            return Err(Error::shape(self.name(), "no tensor", "one"));
        };
        self.kind.check_dtype(x.dtype)?;
        let ranks = self.comm.ranks() as usize;
        let shape = match self.kind {
            Kind::Send { .. } => return Ok(()),
            Kind::AllGather => {
                let first = x.shape.dims().first().copied().unwrap_or(1);
                Self::resized(&x.shape, first.saturating_mul(ranks))
            }
            Kind::ReduceScatter(_) => Self::resized(&x.shape, self.part(&x.shape)?),
            Kind::AllToAll => self.part(&x.shape).map(|_| x.shape)?,
            _ => x.shape,
        };
        plan.output(shape, x.dtype);
        Ok(())
    }

    fn ascend(&self, cx: &Launch, inputs: &[Dev<'_>], outputs: &[Dev<'_>]) -> Result<Counts> {
        let comm = &self.comm;
        let done = match (self.kind, inputs, outputs) {
            (Kind::Receive { from, .. }, _, [y]) => comm.receive_into(cx, y, from),
            (Kind::Send { .. }, [x], _) if x.is_empty() => Ok(()),
            (Kind::Broadcast { root }, [x], [y]) => {
                if comm.rank() == root {
                    aclnn::inplace_copy(cx, y, x)?;
                }
                comm.broadcast_in_place(cx, y, root)
            }
            (kind, [x], outputs) => {
                let ready = cx.contiguous(x)?;
                let x = &ready.dev();
                match (kind, outputs) {
                    (Kind::Send { to }, _) => comm.send_from(cx, x, to),
                    (Kind::AllReduce(reduce), [y]) => comm.all_reduce_into(cx, [x, y], reduce),
                    (Kind::ReduceScatter(reduce), [y]) => {
                        comm.reduce_scatter_into(cx, [x, y], reduce)
                    }
                    (Kind::AllGather, [y]) => comm.all_gather_into(cx, [x, y]),
                    (Kind::AllToAll, [y]) => comm.all_to_all_into(cx, [x, y]),
                    _ => Ok(()),
                }
            }
            _ => Ok(()),
        };
        done.map(|()| Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        match self.kind {
            Kind::AllReduce(ReduceOp::Sum)
            | Kind::ReduceScatter(ReduceOp::Sum)
            | Kind::AllGather
            | Kind::AllToAll
            | Kind::Broadcast { .. } => Gradient::Backward,
            Kind::AllReduce(_) | Kind::ReduceScatter(_) | Kind::Send { .. } => Gradient::Missing,
            Kind::Receive { .. } => Gradient::Constant,
        }
    }

    fn saves(&self) -> Saves {
        Saves::NOTHING
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        let dy = cx.gradient()?;
        let dx = match self.kind {
            Kind::AllReduce(_) => self.comm.all_reduce(dy, ReduceOp::Sum)?,
            Kind::ReduceScatter(_) => self.comm.all_gather(dy)?,
            Kind::AllGather => {
                let own = self.comm.reduce_scatter(dy, ReduceOp::Sum)?;
                own.reshape(cx.meta(0)?.shape)?
            }
            Kind::AllToAll => self.comm.all_to_all(dy)?,
            Kind::Broadcast { root } => {
                let sum = self.comm.all_reduce(dy, ReduceOp::Sum)?;
                if self.comm.rank() == root {
                    sum
                } else {
                    sum.zeros_like()?
                }
            }
            Kind::Send { .. } | Kind::Receive { .. } => {
                return Err(Error::NoGradient { op: self.name() });
            }
        };
        Ok(Grads::from_iter([Some(dx)]))
    }

    fn device(&self) -> Device {
        Device::Ascend(self.comm.device())
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}
