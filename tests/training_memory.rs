//! Memory in training: parts whose inner results are computed again have the same gradients.

use std::cell::Cell;
use std::path::Path;
use std::rc::Rc;

use ascend_tensor::autograd::checkpoint;
use ascend_tensor::io::load_safetensors;
use ascend_tensor::models::deepseek::{DeepSeek, LossOptions};
use ascend_tensor::nn::{Activation, Dropout, Layer, Linear, Module, Phase, Place, Sequential};
use ascend_tensor::{
    Call, DType, Generator, Gradients, Result, Tensor, autocast, manual_seed, observe,
};

fn network() -> Result<Sequential> {
    let place = Place::default().generator(&Generator::new(2));
    Ok(Sequential::new()
        .then(Linear::new([16, 8], (), &place)?)
        .then(Activation::Tanh)
        .then(Dropout::new(0.2))
        .then(Linear::new([4, 16], (), &place)?))
}

#[test]
fn a_checkpointed_part_has_the_same_gradients() -> Result<()> {
    let x = Tensor::new([[0.3f32, -1.0, 0.7, 0.1, 0.2, 0.5, -0.4, 0.9]]);
    let gradients = |kept: bool| -> Result<Vec<Vec<f32>>> {
        manual_seed(5);
        let network = std::sync::Arc::new(network()?);
        let leaves: Vec<Tensor> = network
            .parameters()
            .iter()
            .map(|(_, own)| own.tensor())
            .collect();
        let start = x.requires_grad()?;
        let y = if kept {
            network.forward(&start, Phase::Training)?
        } else {
            let inner = std::sync::Arc::clone(&network);
            let body = move |x: &[Tensor]| Ok(vec![inner.forward(&x[0], Phase::Training)?]);
            checkpoint(&[&start], &leaves.iter().collect::<Vec<_>>(), body)?.remove(0)
        };
        let all = y.square()?.sum(())?.backward()?;
        let of = |leaf: &Tensor| all.get(leaf).expect("a gradient").to_vec::<f32>();
        leaves.iter().chain([&start]).map(of).collect()
    };
    assert_eq!(gradients(true)?, gradients(false)?);
    Ok(())
}

#[test]
fn a_part_with_several_outputs_runs_backward_once() -> Result<()> {
    let weight = Tensor::new([[0.5f32, -1.0], [2.0, 0.25]]).requires_grad()?;
    let x = Tensor::new([[1.0f32, 2.0], [3.0, -1.0]]).requires_grad()?;
    let body = |x: &Tensor, weight: &Tensor| -> Result<Vec<Tensor>> {
        let shared = x.matmul(weight)?.tanh()?;
        Ok(vec![shared.exp()?, shared.square()?, x.mul(2.0)?])
    };
    let total = |parts: &[Tensor]| parts[0].sum(())?.add(&parts[1].mul(3.0)?.sum(())?);
    let want = total(&body(&x, &weight)?)?.backward()?;
    let inner = weight.clone();
    let parts = checkpoint(&[&x], &[&weight], move |x| body(&x[0], &inner))?;
    let total = total(&parts)?;
    let count = Rc::new(Cell::new(0));
    let seen = Rc::clone(&count);
    let note = move |call: &Call<'_>| {
        seen.set(seen.get() + usize::from(call.op == "matmul"));
        Ok(())
    };
    let got = observe(note, || total.backward())?;
    for leaf in [&x, &weight] {
        let values = |all: &Gradients| all.get(leaf).expect("a gradient").to_vec::<f32>();
        assert_eq!(values(&got)?, values(&want)?);
    }
    // Forward again, and the two products of its gradient.
    assert_eq!(count.get(), 3);
    Ok(())
}

#[test]
fn a_checkpointed_model_trains_as_the_plain_one() -> Result<()> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/base");
    let tokens = load_safetensors(folder.join("batches.safetensors"))?["tokens"].select(0, 0)?;
    let plain = DeepSeek::load_pretrained(&folder, &Place::default())?;
    let checkpointed = plain.clone().checkpointed();
    let options = LossOptions::new().balance(0.01);
    for lowered in [false, true] {
        let pass = |model: &DeepSeek| -> Result<(f32, Vec<Vec<f32>>)> {
            let loss = if lowered {
                autocast(DType::BF16, || model.loss(&tokens, options))?
            } else {
                model.loss(&tokens, options)?
            };
            let gradients = loss.total.backward()?;
            let of = |leaf: Tensor| gradients.get(&leaf).expect("a gradient").to_vec::<f32>();
            let all = model
                .parameters()
                .into_iter()
                .map(|(_, own)| of(own.tensor()));
            Ok((loss.total.item()?, all.collect::<Result<_>>()?))
        };
        let (want, got) = (pass(&plain)?, pass(&checkpointed)?);
        assert_eq!(want.0, got.0);
        let pairs = || want.1.iter().flatten().zip(got.1.iter().flatten());
        if !lowered {
            for (want, got) in pairs() {
                let close = (want - got).abs() <= 1e-6 + 1e-5 * want.abs();
                assert!(close, "{got} for {want}");
            }
        }
        // Sums in another order may round a bf16 the other way: there the gradient as a whole is compared.
        let apart: f32 = pairs().map(|(want, got)| (want - got).powi(2)).sum();
        let whole: f32 = pairs().map(|(want, _)| want.powi(2)).sum();
        let limit: f32 = if lowered { 1e-2 } else { 1e-5 };
        assert!(
            apart.sqrt() <= limit * whole.sqrt(),
            "{} apart of {}, lowered: {lowered}",
            apart.sqrt(),
            whole.sqrt()
        );
    }
    Ok(())
}
