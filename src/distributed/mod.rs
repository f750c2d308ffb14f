//! Several NPUs that compute together: collectives on tensors, and what data-parallel training needs of them.
//!
//! Knows tensors and their gradients across ranks. Must not know HCCL's calls: those are the communicator's.
//!
//! A rank is one NPU, with a thread or a process of its own. All ranks call the same collectives in the same order with tensors
//! of the same dtype and shape; each call is an op, queued on the thread's stream, with a gradient where one is defined.
//!
//! ```
//! use ascend_tensor::distributed::{Communicator, ReduceOp};
//! use ascend_tensor::{Device, Result, Tensor};
//!
//! # fn main() -> Result<()> {
//! # let mut settings = ascend_emulator::Settings::default();
//! # settings.devices = 2;
//! # ascend_emulator::reset(settings).unwrap();
//! # ascend_tensor::ascend::install(ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve))?;
//! let ranks: Vec<_> = Communicator::of_devices(&[0, 1])?
//!     .into_iter()
//!     .map(|comm| {
//!         std::thread::spawn(move || -> Result<Vec<f32>> {
//!             let own = Tensor::new([1.0f32, 2.0 + comm.rank() as f32]).to_device(Device::ascend(comm.device()))?;
//!             comm.all_reduce(&own, ReduceOp::Sum)?.to_vec()
//!         })
//!     })
//!     .collect();
//! for rank in ranks {
//!     assert_eq!(rank.join().unwrap()?, [2.0, 5.0]);
//! }
//! # Ok(())
//! # }
//! ```

mod collective;
mod gradients;

pub use crate::ascend::{Communicator, Membership, ReduceOp, RootInfo};
pub use gradients::{all_reduce_gradients, broadcast_parameters};
