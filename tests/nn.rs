//! Modules and optimisers: states by name, and PyTorch's numbers (`tests/parity/layers.py` made them).

use std::collections::BTreeMap;

use ascend_tensor::io::load_safetensors;
use ascend_tensor::nn::{
    AttentionMask, BatchNorm, Conv1d, Conv2d, ConvLayerOptions, Dropout, Embedding, GroupNorm,
    Groups, Init, Layer, LayerNorm, Linear, MaxPool2d, Module, MultiHeadAttention,
    MultiHeadOptions, Parameter, Phase, Place, Sequential,
};
use ascend_tensor::ops::conv::Padding;
use ascend_tensor::optim::{
    Accumulator, Adam, AdamOptions, Ema, Optimizer, Schedule, Sgd, SgdOptions, clip_grad_norm,
};
use ascend_tensor::{DType, Error, Generator, Result, Tensor};

fn reference() -> Result<BTreeMap<String, Tensor>> {
    load_safetensors(concat!(
        env!("CARGO_MANIFEST_DIR"),
        "/tests/parity/layers.safetensors"
    ))
}

/// The entries below a prefix, without it.
fn below(all: &BTreeMap<String, Tensor>, prefix: &str) -> BTreeMap<String, Tensor> {
    let under = |(name, tensor): (&String, &Tensor)| {
        Some((name.strip_prefix(prefix)?.to_string(), tensor.clone()))
    };
    all.iter().filter_map(under).collect()
}

fn close(got: &Tensor, want: &Tensor, tolerance: f64) -> Result<()> {
    assert_eq!(got.dims(), want.dims());
    for (got, want) in got.to_f64_vec()?.iter().zip(want.to_f64_vec()?) {
        assert!(
            (got - want).abs() <= tolerance * (1.0 + want.abs()),
            "{got} for {want}"
        );
    }
    Ok(())
}

#[test]
fn attention_is_pytorchs() -> Result<()> {
    let all = reference()?;
    let layer = MultiHeadAttention::new(MultiHeadOptions::new(12).heads(3), &Place::default())?;
    layer.load_state_dict(&below(&all, "attention.state."))?;
    let x = &all["attention.x"];
    let full = layer.forward(x, AttentionMask::None, Phase::Evaluation)?;
    close(&full, &all["attention.full"], 1e-5)?;
    let causal = layer.forward(x, AttentionMask::Causal, Phase::Evaluation)?;
    close(&causal, &all["attention.causal"], 1e-5)
}

#[test]
fn norms_are_pytorchs() -> Result<()> {
    let all = reference()?;
    let place = Place::default();
    let norm = BatchNorm::new(6, &place)?;
    norm.load_state_dict(&below(&all, "batch_norm.state."))?;
    let x = &all["batch_norm.x"];
    close(
        &norm.forward(x, Phase::Training)?,
        &all["batch_norm.trained"],
        1e-5,
    )?;
    let state = norm.state_dict();
    close(&state["running_mean"], &all["batch_norm.mean"], 1e-5)?;
    close(&state["running_var"], &all["batch_norm.var"], 1e-5)?;
    assert_eq!(state["num_batches_tracked"].item::<i64>()?, 1);
    close(
        &norm.forward(x, Phase::Evaluation)?,
        &all["batch_norm.evaluated"],
        1e-5,
    )?;
    let size = Groups {
        channels: 6,
        groups: 2,
    };
    let norm = GroupNorm::new(size, 1e-5, &place)?;
    close(&norm.forward(x)?, &all["group_norm.y"], 1e-5)?;
    let norm = LayerNorm::new(3, 1e-3, &place)?;
    close(&norm.forward(x)?, &all["layer_norm.y"], 1e-5)
}

/// A convolution layer's state, output, pooled output and weight gradient.
fn convolve(name: &str, layer: &impl Layer) -> Result<()> {
    let all = reference()?;
    layer.load_state_dict(&below(&all, &format!("{name}.state.")))?;
    let of = |part: &str| &all[&format!("{name}.{part}")];
    let y = layer.forward(of("x"), Phase::Training)?;
    close(&y, of("y"), 1e-5)?;
    if y.rank() == 4 {
        close(
            &MaxPool2d::new(2).forward(&y, Phase::Training)?,
            of("pooled"),
            1e-5,
        )?;
    }
    let gradients = y.square()?.sum(())?.backward()?;
    let (_, weight) = layer.parameters().into_iter().next().expect("a weight");
    let gradient = gradients.get(&weight.tensor()).expect("a gradient");
    close(gradient, of("gradient"), 1e-4)
}

#[test]
fn convolutions_are_pytorchs() -> Result<()> {
    let place = Place::default();
    let options = ConvLayerOptions::new()
        .stride(2)
        .padding(1)
        .dilation(2)
        .groups(2);
    convolve("conv1d", &Conv1d::new([6, 2, 3], options, &place)?)?;
    let options = ConvLayerOptions::new()
        .stride([1, 2])
        .padding([1, 0])
        .groups(2);
    convolve("conv2d", &Conv2d::new([6, 2, 3, 2], options, &place)?)?;
    let options = ConvLayerOptions::new()
        .padding(Padding::Same)
        .without_bias();
    convolve("conv2d_same", &Conv2d::new([5, 3, 3, 3], options, &place)?)
}

/// Three clipped steps of a two-group optimiser.
fn descend(kind: &str) -> Result<()> {
    let all = reference()?;
    let own = |name: &str| Parameter::new(&all[&format!("{kind}.{name}")].copy()?);
    let (a, b) = (own("a")?, own("b")?);
    let (first, second) = (
        vec![("a".to_string(), a.clone())],
        vec![("b".to_string(), b.clone())],
    );
    let adam = AdamOptions::new()
        .lr(0.05)
        .betas([0.8, 0.95])
        .weight_decay(0.1);
    let other = adam.lr(0.02).weight_decay(0.0);
    let sgd = SgdOptions::new(0.05).momentum(0.9).nesterov();
    let mut optimizer: Box<dyn Optimizer> = match kind {
        "sgd" => Box::new(
            Sgd::new(first, sgd.weight_decay(0.1))
                .group(second, SgdOptions::new(0.02).momentum(0.9).nesterov()),
        ),
        "adam" => Box::new(Adam::new(first, adam).group(second, other)),
        _ => Box::new(Adam::w(first, adam).group(second, other)),
    };
    let mut norm = 0.0;
    for _ in 0..3 {
        let product = a.tensor().matmul(&b.tensor().transpose(0, 1)?)?;
        let mut gradients = product.sin()?.mul(3.0)?.sum(())?.backward()?;
        norm = clip_grad_norm(&mut gradients, &optimizer.parameters(), 2.0)?.item::<f32>()?;
        optimizer.step(&gradients)?;
    }
    close(&a.tensor(), &all[&format!("{kind}.a_after")], 2e-5)?;
    close(&b.tensor(), &all[&format!("{kind}.b_after")], 2e-5)?;
    close(&Tensor::new(norm), &all[&format!("{kind}.norm")], 1e-4)
}

#[test]
fn optimisers_are_pytorchs() -> Result<()> {
    ["sgd", "adam", "adamw"].into_iter().try_for_each(descend)
}

#[test]
fn a_state_is_taken_over_whole_or_not_at_all() -> Result<()> {
    let place = Place::default().generator(&Generator::new(3));
    let network = |hidden: usize| -> Result<Sequential> {
        Ok(Sequential::new()
            .then(Linear::new([hidden, 3], (), &place)?)
            .then(Dropout::new(0.5))
            .then(Linear::new([2, hidden], (), &place)?))
    };
    let (one, two) = (network(4)?, network(4)?);
    let names: Vec<String> = one.state().into_iter().map(|(name, _)| name).collect();
    assert_eq!(names, ["0.weight", "0.bias", "2.weight", "2.bias"]);
    assert_eq!(one.parameter_count(), 4 * 3 + 4 + 2 * 4 + 2);
    let x = Tensor::new([[0.5f32, -1.0, 2.0]]);
    let y = one.forward(&x, Phase::Evaluation)?.to_vec::<f32>()?;
    assert_ne!(y, two.forward(&x, Phase::Evaluation)?.to_vec::<f32>()?);

    let folder = std::env::temp_dir().join(format!("ascend-tensor-nn-{}", std::process::id()));
    std::fs::create_dir_all(&folder).expect("a temporary folder");
    let path = folder.join("network.safetensors");
    one.save(&path)?;
    two.load(&path)?;
    assert_eq!(y, two.forward(&x, Phase::Evaluation)?.to_vec::<f32>()?);

    let mut state = one.state_dict();
    state.remove("2.bias");
    let told = two.load_state_dict(&state).unwrap_err().to_string();
    assert!(
        told.contains("2.bias") && told.contains("missing"),
        "{told}"
    );
    state.insert("2.bias".into(), Tensor::new([1.0f32, 2.0, 3.0]));
    let told = two.load_state_dict(&state).unwrap_err().to_string();
    assert!(told.contains("2.bias") && told.contains("[3]"), "{told}");
    assert_eq!(y, two.forward(&x, Phase::Evaluation)?.to_vec::<f32>()?);
    state.insert("3.bias".into(), Tensor::new(1.0f32));
    let told = two.load_state_dict(&state).unwrap_err();
    assert!(matches!(&told, Error::Entry { name, .. } if &**name == "3.bias"));
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

#[test]
fn dropout_and_padding_differ_by_phase() -> Result<()> {
    let x = Tensor::ones([1000], DType::F32, ascend_tensor::Device::Cpu)?;
    let dropout = Dropout::new(0.25).with_generator(&Generator::new(1));
    assert_eq!(
        dropout.forward(&x, Phase::Evaluation)?.to_vec::<f32>()?,
        [1.0; 1000]
    );
    let dropped = dropout.forward(&x, Phase::Training)?.to_vec::<f32>()?;
    let zeros = dropped.iter().filter(|x| **x == 0.0).count();
    assert!((150..350).contains(&zeros), "{zeros}");
    let table = Embedding::new([5, 2], None, &Place::default())?.with_padding(-2)?;
    let ids = Tensor::new([3i64, 1, 3]);
    let y = table.forward(&ids)?;
    assert_eq!(y.to_vec::<f32>()?[..2], [0.0, 0.0]);
    let gradients = y.sum(())?.backward()?;
    let gradient = gradients.get(&table.weight().tensor()).expect("a gradient");
    let want = [0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0, 0.0, 0.0, 0.0];
    assert_eq!(gradient.to_vec::<f32>()?, want);
    Ok(())
}

#[test]
fn initialisers_have_the_spread_they_promise() -> Result<()> {
    let place = Place::default().generator(&Generator::new(9));
    let spread = |init: Init| -> Result<f64> {
        let x = init.tensor([300, 100], &place)?.to_f64_vec()?;
        Ok((x.iter().map(|x| x * x).sum::<f64>() / x.len() as f64).sqrt())
    };
    let near = |got: f64, want: f64| assert!((got / want - 1.0).abs() < 0.03, "{got} for {want}");
    near(spread(Init::Normal { deviation: 0.02 })?, 0.02);
    near(
        spread(Init::KaimingUniform { slope: 5f64.sqrt() })?,
        0.1 / 3f64.sqrt(),
    );
    near(
        spread(Init::KaimingNormal { slope: 0.0 })?,
        (2.0f64 / 100.0).sqrt(),
    );
    near(spread(Init::XavierUniform)?, (2.0f64 / 400.0).sqrt());
    // A normal cut at one deviation keeps 1 - 2 p(1) / (2 P(1) - 1) of its variance: 0.29112.
    let cut = Init::TruncatedNormal {
        deviation: 1.0,
        limit: 1.0,
    };
    near(spread(cut)?, 0.29112f64.sqrt());
    Ok(())
}

#[test]
fn sums_of_gradients_averages_and_schedules() -> Result<()> {
    let weight = Parameter::new(&Tensor::new([1.0f32, 2.0]))?;
    let all = vec![("w".to_string(), weight.clone())];
    let mut sum = Accumulator::new();
    for factor in [1.0, 3.0] {
        sum.add(weight.tensor().mul(factor)?.sum(())?.backward()?)?;
    }
    let mean = sum.mean(&all)?.expect("two passes");
    assert_eq!(
        mean.get(&weight.tensor()).expect("it").to_vec::<f32>()?,
        [2.0, 2.0]
    );
    assert_eq!(sum.passes(), 0);

    let mut ema = Ema::new(all, 0.75)?;
    weight.update(|own| own.add_(4.0))?;
    ema.update()?;
    assert_eq!(ema.state_dict()["w"].to_vec::<f32>()?, [2.0, 3.0]);
    ema.with_averages(|| {
        assert_eq!(weight.tensor().to_vec::<f32>()?, [2.0, 3.0]);
        Ok(())
    })?;
    assert_eq!(weight.tensor().to_vec::<f32>()?, [5.0, 6.0]);

    let stable = Schedule::StableDecay {
        stable: 10,
        decay: 10,
        least: 0.0,
    };
    let factors: Vec<f64> = [0, 10, 15, 20, 99].map(|step| stable.factor(step)).into();
    assert_eq!(factors, [1.0, 1.0, 0.5, 0.0, 0.0]);
    let risen = stable.with_warm_up(4);
    assert_eq!([0, 3, 4].map(|step| risen.factor(step)), [0.25, 1.0, 1.0]);
    Ok(())
}

#[test]
fn half_parameters_train_through_wide_copies() -> Result<()> {
    let start = Tensor::new([1.0f32]).to_dtype(DType::BF16)?;
    let weight = Parameter::new(&start)?;
    let mut sgd = Sgd::new(vec![("w".into(), weight.clone())], 1e-3);
    // 1 - 0.001 rounds to 1 in bf16; ten such steps do not.
    for _ in 0..10 {
        let loss = weight.tensor().sum(())?;
        sgd.step(&loss.backward()?)?;
    }
    let want = Tensor::new([0.99f32]).to_dtype(DType::BF16)?.to_f64_vec()?;
    assert_eq!(weight.tensor().to_f64_vec()?, want);
    Ok(())
}
