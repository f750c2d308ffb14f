//! Gradient clipping.
//!
//! Knows norms and limits. Must not know optimisers.

use crate::autograd::Gradients;
use crate::check;
use crate::error::Result;
use crate::nn::Parameter;
use crate::ops::elementwise::ClampOptions;
use crate::ops::update::ClipOptions;
use crate::tensor::Tensor;

fn present<'g>(
    gradients: &'g Gradients,
    parameters: &[(String, Parameter)],
) -> Vec<(Tensor, &'g Tensor)> {
    let leaves = parameters.iter().map(|(_, own)| own.tensor());
    leaves
        .filter_map(|leaf| gradients.get(&leaf).map(|gradient| (leaf, gradient)))
        .collect()
}

/// The Euclidean norm of all gradients together, as a tensor without dims: no wait for the device.
///
/// # Errors
/// Memory and device errors.
pub fn grad_norm(gradients: &Gradients, parameters: &[(String, Parameter)]) -> Result<Tensor> {
    let found: Vec<&Tensor> = present(gradients, parameters)
        .into_iter()
        .map(|(_, gradient)| gradient)
        .collect();
    Ok(Tensor::clip_grad_norm(&found, ClipOptions::new(f64::INFINITY))?.0)
}

/// Scales all gradients down so that their norm together is at most `max_norm`; the answer is the norm before, as a tensor
/// without dims. PyTorch: `torch.nn.utils.clip_grad_norm_`.
///
/// ```
/// use ascend_tensor::nn::Parameter;
/// use ascend_tensor::optim::clip_grad_norm;
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let weight = Parameter::new(&Tensor::new([1.0f32, 2.0]))?;
/// let all = vec![("weight".to_string(), weight.clone())];
/// let mut gradients = weight.tensor().mul(&Tensor::new([3.0f32, 4.0]))?.sum(())?.backward()?;
/// let before = clip_grad_norm(&mut gradients, &all, 1.0)?;
/// assert_eq!(before.item::<f32>()?, 5.0);
/// let clipped = gradients.get(&weight.tensor()).map(|own| own.to_vec::<f32>()).transpose()?.unwrap_or_default();
/// assert!((clipped[0] - 0.6).abs() < 1e-5 && (clipped[1] - 0.8).abs() < 1e-5);
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Option` for a limit that is negative or NaN; memory and device errors.
pub fn clip_grad_norm(
    gradients: &mut Gradients,
    parameters: &[(String, Parameter)],
    max_norm: f64,
) -> Result<Tensor> {
    check::not_negative("clip_grad_norm", "max_norm", max_norm)?;
    let found = present(gradients, parameters);
    let list: Vec<&Tensor> = found.iter().map(|(_, gradient)| *gradient).collect();
    let (norm, clipped) = Tensor::clip_grad_norm(&list, ClipOptions::new(max_norm))?;
    let leaves: Vec<Tensor> = found.into_iter().map(|(leaf, _)| leaf).collect();
    for (leaf, gradient) in leaves.iter().zip(clipped) {
        gradients.put(leaf, gradient);
    }
    Ok(norm)
}

/// Limits each element of each gradient to `[-limit, limit]`. PyTorch: `torch.nn.utils.clip_grad_value_`.
///
/// ```
/// use ascend_tensor::nn::Parameter;
/// use ascend_tensor::optim::clip_grad_value;
/// use ascend_tensor::Tensor;
/// # fn main() -> ascend_tensor::Result<()> {
/// let weight = Parameter::new(&Tensor::new([1.0f32, 2.0]))?;
/// let all = vec![("weight".to_string(), weight.clone())];
/// let mut gradients = weight.tensor().mul(&Tensor::new([3.0f32, -0.5]))?.sum(())?.backward()?;
/// clip_grad_value(&mut gradients, &all, 1.0)?;
/// let clipped = gradients.get(&weight.tensor()).map(|own| own.to_vec::<f32>()).transpose()?;
/// assert_eq!(clipped, Some(vec![1.0, -0.5]));
/// # Ok(())
/// # }
/// ```
///
/// # Errors
/// `Option` for a limit that is negative or NaN; memory and device errors.
pub fn clip_grad_value(
    gradients: &mut Gradients,
    parameters: &[(String, Parameter)],
    limit: f64,
) -> Result<()> {
    check::not_negative("clip_grad_value", "limit", limit)?;
    for (_, parameter) in parameters {
        let leaf = parameter.tensor();
        if let Some(gradient) = gradients.get(&leaf) {
            let clipped = gradient.clamp(ClampOptions::new().min(-limit).max(limit))?;
            gradients.put(&leaf, clipped);
        }
    }
    Ok(())
}
