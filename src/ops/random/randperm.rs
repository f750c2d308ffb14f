//! `randperm`: a random order; made on the host, so without an op of its own.

use super::RandomOptions;
use crate::cpu::alloc::collected;
use crate::ops::prelude::*;

impl Tensor {
    /// The numbers `0 .. n` in random order.
    ///
    /// Dtypes: any but bool that holds `n - 1`, `i64` if none is given. PyTorch: `torch.randperm` (another order). NPU: made on
    /// the host.
    ///
    /// ```
    /// use ascend_tensor::Tensor;
    /// # fn main() -> ascend_tensor::Result<()> {
    /// let mut order = Tensor::randperm(5, ())?.to_vec::<i64>()?;
    /// order.sort();
    /// assert_eq!(order, [0, 1, 2, 3, 4]);
    /// # Ok(())
    /// # }
    /// ```
    ///
    /// # Errors
    /// `DType` for `bool`, and memory and device errors.
    pub fn randperm(n: usize, options: impl Into<RandomOptions>) -> Result<Tensor> {
        let options = options.into();
        let dtype = options.dtype.unwrap_or(DType::I64);
        if dtype == DType::Bool {
            return Err(Error::dtype("randperm", dtype, "a number"));
        }
        Shape::from([n]).check("randperm")?;
        let source = options.reserve(n.div_ceil(2) as u64);
        let mut order = collected("randperm", (0..n).map(|index| index as i64))?;
        for last in (1..n).rev() {
            let bits = u128::from(source.bits(last as u64));
            order.swap(last, ((bits * (last as u128 + 1)) >> 64) as usize);
        }
        Tensor::new(order)
            .to_dtype(dtype)?
            .to_device(options.device.unwrap_or(Device::Cpu))
    }
}
