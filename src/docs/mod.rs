//! Chapters beside the reference: they hold documentation only.
//!
//! Knows nothing. The tables are built by `tests/tables.rs` from the catalog and from the methods' own documentation.

/// Coming from PyTorch, candle or ndarray: what is called how here, and what differs.
///
/// | there | here |
/// |---|---|
/// | `torch.tensor([1., 2.])` | [`Tensor::new`](crate::Tensor::new)`([1.0f32, 2.0])` |
/// | `torch.from_numpy(a)`, `Array` | [`Tensor::from_ndarray`](crate::Tensor::from_ndarray), [`into_ndarray`](crate::Tensor::into_ndarray) |
/// | `x.to("npu:0")` | [`x.to_device(Device::ascend(0))?`](crate::Tensor::to_device) |
/// | `x.tolist()`, `x.item()` | [`x.to_vec::<f32>()?`](crate::Tensor::to_vec), [`x.item::<f32>()?`](crate::Tensor::item) |
/// | `x.requires_grad_()` | [`x.requires_grad()?`](crate::Tensor::requires_grad), a new leaf on the same storage |
/// | `loss.backward(); w.grad` | `let gradients = loss.backward()?; gradients.get(&w)`: [`Gradients`](crate::Gradients) belong to the caller, nothing accumulates unseen |
/// | `torch.no_grad()` | [`no_grad`](crate::no_grad)`(\|\| ..)` |
/// | `torch.autocast("npu", torch.bfloat16)` | [`autocast`](crate::autocast)`(DType::BF16, \|\| ..)` |
/// | `torch.npu.synchronize()` | [`Device::synchronize`](crate::Device::synchronize) |
/// | `safetensors.torch.load_file` | [`io::load_safetensors`](crate::io::load_safetensors) |
///
/// Every fallible call returns a [`Result`](crate::Result); operators do too, and take a `Result` on either side. A scalar goes
/// where a tensor goes. Keyword arguments are an options struct, and `()` stands for the defaults.
///
/// ```
/// use ascend_tensor::{ReduceOptions, Tensor, no_grad};
/// # fn main() -> ascend_tensor::Result<()> {
/// let (x, w) = (Tensor::new([[1.0f32, 2.0], [3.0, 4.0]]), Tensor::new([0.5f32, -0.5]).requires_grad()?);
/// let y = (&x * &w + &x)?;
/// let loss = y.square()?.mean(())?;
/// let gradients = loss.backward()?;
/// assert_eq!(gradients.get(&w).map(|g| g.to_vec::<f32>()).transpose()?, Some(vec![7.5, 5.0]));
/// let rows = no_grad(|| y.sum(ReduceOptions::new().dim(1).keepdim()))?;
/// assert_eq!(rows.dims(), [2, 1]);
/// # Ok(())
/// # }
/// ```
///
/// # Methods
///
#[doc = include_str!("names.md")]
pub mod coming_from {}

/// The kernels of CANN that each op starts, as seen in [`trace`](crate::trace) mode on the emulated NPU.
///
#[doc = include_str!("kernels.md")]
pub mod kernels {}

/// The memory that CPU ops take.
///
#[doc = include_str!("memory.md")]
pub mod memory {}

/// The errors of elementwise ops on the CPU.
///
#[doc = include_str!("accuracy.md")]
pub mod accuracy {}
