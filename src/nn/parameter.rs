//! Parameters: shared handles of the tensors that a module owns.
//!
//! Knows one tensor and whether it is trained. Must not know modules, names or optimisers.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};

use crate::error::{Error, Result};
use crate::tensor::Tensor;

/// A tensor that a module owns: trained, or kept as a buffer. Clones are handles of the same parameter.
///
/// ```
/// use ascend_tensor::{Tensor, nn::Parameter};
/// # fn main() -> ascend_tensor::Result<()> {
/// let weight = Parameter::new(&Tensor::new([1.0f32, 2.0]))?;
/// let loss = weight.tensor().mul(3.0)?.sum(())?;
/// let gradients = loss.backward()?;
/// let gradient = gradients.get(&weight.tensor()).map(|g| g.to_vec::<f32>()).transpose()?;
/// assert_eq!(gradient, Some(vec![3.0, 3.0]));
/// # Ok(())
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Parameter(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    tensor: RwLock<Tensor>,
    trained: AtomicBool,
}

impl Parameter {
    /// A trained parameter that starts with this tensor's values.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn new(tensor: &Tensor) -> Result<Self> {
        Ok(Parameter::shared(tensor.requires_grad()?, true))
    }

    /// A tensor that belongs to the module's state but is not trained.
    pub fn buffer(tensor: &Tensor) -> Self {
        Parameter::shared(tensor.detach(), false)
    }

    fn shared(tensor: Tensor, trained: bool) -> Self {
        Parameter(Arc::new(Shared {
            tensor: RwLock::new(tensor),
            trained: AtomicBool::new(trained),
        }))
    }

    /// The present value; of a trained parameter, the leaf to which `backward` leads.
    pub fn tensor(&self) -> Tensor {
        self.0
            .tensor
            .read()
            .unwrap_or_else(PoisonError::into_inner)
            .clone()
    }

    /// Whether the parameter is trained.
    pub fn is_trained(&self) -> bool {
        self.0.trained.load(Ordering::Acquire)
    }

    /// Whether two handles are of the same parameter.
    pub fn is_same(&self, other: &Parameter) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }

    /// Replaces the tensor by another of the same shape; dtype and device may change. The tensor is not copied: an optimiser
    /// moves it, so give a copy of what has to stay.
    ///
    /// # Errors
    /// `Shape` for another shape; if a trained parameter would not be a float.
    pub fn set(&self, tensor: &Tensor) -> Result<()> {
        let own = self.tensor();
        if own.shape() != tensor.shape() {
            return Err(Error::shape("set", tensor.shape(), own.shape()));
        }
        let fresh = if self.is_trained() {
            tensor.requires_grad()?
        } else {
            tensor.detach()
        };
        self.put(fresh);
        Ok(())
    }

    /// Stops training the parameter.
    pub fn freeze(&self) {
        self.0.trained.store(false, Ordering::Release);
        self.put(self.tensor().detach());
    }

    /// Trains the parameter from now on.
    ///
    /// # Errors
    /// If the dtype is not a float.
    pub fn unfreeze(&self) -> Result<()> {
        let tensor = self.tensor().requires_grad()?;
        self.0.trained.store(true, Ordering::Release);
        self.put(tensor);
        Ok(())
    }

    /// Changes the value in place, without history.
    ///
    /// # Errors
    /// Those of `change`.
    pub fn update<R>(&self, change: impl FnOnce(&mut Tensor) -> Result<R>) -> Result<R> {
        let mut tensor = self.tensor().detach();
        crate::mode::no_grad(|| change(&mut tensor))
    }

    fn put(&self, tensor: Tensor) {
        *self
            .0
            .tensor
            .write()
            .unwrap_or_else(PoisonError::into_inner) = tensor;
    }
}
