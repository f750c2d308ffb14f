//! Models: configurations, tokens, sampling, caches.
//!
//! Knows what each call names. Must not know what a model computes.

use super::{Change, Either, Fine, Names, hold, place, row};
use ascend_tensor::models::bert;
use ascend_tensor::models::deepseek::{self, DeepSeek, LossOptions, Sampling};
use ascend_tensor::nn::{
    LatentAttention, LatentAttentionOptions, Phase, Rotary, RotaryOptions, RotaryScaling, Router,
    RouterOptions,
};
use ascend_tensor::{DType, Device, Generator, Result, Tensor};

/// A small configuration.
fn small() -> deepseek::Config {
    let text = r#"{"vocab_size": 10, "hidden_size": 8, "intermediate_size": 8, "moe_intermediate_size": 4,
        "num_hidden_layers": 2, "num_attention_heads": 2, "num_key_value_heads": 2, "n_routed_experts": 4, "n_group": 1,
        "topk_group": 1, "num_experts_per_tok": 2, "first_k_dense_replace": 1, "kv_lora_rank": 4, "q_lora_rank": null,
        "qk_rope_head_dim": 2, "qk_nope_head_dim": 4, "v_head_dim": 4}"#;
    deepseek::Config::parse(text).expect("a configuration")
}

#[test]
fn configurations_of_deepseek() {
    let mut rows = Vec::new();
    let sizes: [Change<deepseek::Config>; 12] = [
        ("vocab_size", |c| c.vocab_size = 0),
        ("hidden_size", |c| c.hidden_size = 0),
        ("intermediate_size", |c| c.intermediate_size = usize::MAX),
        ("moe_intermediate_size", |c| c.moe_intermediate_size = 0),
        ("num_hidden_layers", |c| c.num_hidden_layers = 0),
        ("num_hidden_layers", |c| c.num_hidden_layers = 1 << 30),
        ("num_attention_heads", |c| c.num_attention_heads = 0),
        ("n_routed_experts", |c| c.n_routed_experts = 0),
        ("num_nextn_predict_layers", |c| {
            c.num_nextn_predict_layers = usize::MAX
        }),
        ("n_shared_experts", |c| c.n_shared_experts = usize::MAX),
        ("kv_lora_rank", |c| c.kv_lora_rank = 0),
        ("q_lora_rank", |c| c.q_lora_rank = Some(0)),
    ];
    let rules: [Change<deepseek::Config>; 14] = [
        ("qk_rope_head_dim", |c| c.qk_rope_head_dim = 3),
        ("v_head_dim", |c| c.v_head_dim = 0),
        ("n_group", |c| c.n_group = 0),
        ("topk_group", |c| c.topk_group = 2),
        ("num_experts_per_tok", |c| c.num_experts_per_tok = 5),
        ("attention_dropout", |c| c.attention_dropout = f64::NAN),
        ("rms_norm_eps", |c| c.rms_norm_eps = -1.0),
        ("initializer_range", |c| c.initializer_range = f64::INFINITY),
        ("routed_scaling_factor", |c| {
            c.routed_scaling_factor = f64::NAN
        }),
        ("rope_theta", |c| c.rope_theta = 0.0),
        ("pad_token_id", |c| c.pad_token_id = Some(10)),
        ("factor", |c| {
            c.rope_scaling = RotaryScaling::Linear { factor: 0.0 }
        }),
        ("weight_block_size", |c| c.weight_block_size = [0, 128]),
        ("rope_score_factor", |c| c.rope_score_factor = f64::NAN),
    ];
    for (name, change) in sizes.into_iter().chain(rules) {
        let mut config = small();
        change(&mut config);
        rows.push(row(format!("deepseek {name}"), Names(name), move || {
            deepseek::DeepSeek::new(&config, &place())
        }));
    }
    hold(rows);
}

#[test]
fn other_configurations() {
    let mut rows = Vec::new();
    let mut config = small();
    (config.hidden_size, config.vocab_size) = (1 << 30, 1 << 30);
    rows.push(row("deepseek without end", Names("memory"), move || {
        DeepSeek::new(&config, &place())
    }));
    let bert: [Change<bert::Config>; 6] = [
        ("vocab_size", |c| c.vocab_size = 0),
        ("hidden_size", |c| c.hidden_size = 0),
        ("num_attention_heads", |c| c.num_attention_heads = 0),
        ("num_attention_heads", |c| c.num_attention_heads = 7),
        ("num_hidden_layers", |c| c.num_hidden_layers = usize::MAX),
        ("layer_norm_eps", |c| c.layer_norm_eps = f64::NAN),
    ];
    for (name, change) in bert {
        let mut config = bert::Config::default();
        change(&mut config);
        rows.push(row(format!("bert {name}"), Names(name), move || {
            bert::Bert::new(&config, &place())
        }));
    }
    for text in [
        "",
        "[]",
        "3",
        "{\"vocab_size\": -1}",
        "{\"vocab_size\": 1e99}",
        "{\"hidden_size\": 18446744073709551615}",
    ] {
        rows.push(row(format!("config {text}"), Names("config"), move || {
            deepseek::Config::parse(text)
        }));
        rows.push(row(
            format!("bert config {text}"),
            Names("config"),
            move || bert::Config::parse(text),
        ));
    }
    hold(rows);
}

#[test]
fn tokens_of_any_shape() -> Result<()> {
    let model = DeepSeek::new(&small(), &place())?;
    let model = &model;
    let mut rows = Vec::new();
    for shape in [
        vec![],
        vec![3],
        vec![0, 3],
        vec![2, 0],
        vec![2, 1],
        vec![1, 2, 3],
    ] {
        let tokens = move || Tensor::zeros(shape.clone(), DType::I64, Device::Cpu);
        let (a, b, c) = (tokens.clone(), tokens.clone(), tokens.clone());
        rows.push(row("forward", Either, move || {
            model.forward(&a()?, Phase::Training)
        }));
        rows.push(row("loss", Names("length"), move || {
            model.loss(&b()?, LossOptions::new())
        }));
        rows.push(row("decode", Either, move || {
            model.decode(&c()?, &mut model.cache([1, 4])?)
        }));
        rows.push(row("next", Either, move || model.next(&tokens()?)));
    }
    let shapes = [vec![], vec![0, 8], vec![2, 8], vec![1, 2, 7]];
    for shape in shapes {
        rows.push(row(format!("attention of {shape:?}"), Either, move || {
            let options = LatentAttentionOptions::new(8);
            let layer = LatentAttention::new(options, &place())?;
            let rotation = Rotary::new(RotaryOptions::new(64))?.rotation(2, 0, Device::Cpu)?;
            let x = Tensor::ones(shape, DType::F32, Device::Cpu)?;
            let _ = layer.forward(&x, &rotation, Phase::Training);
            layer.decode(&x, &rotation, &mut layer.cache([1, 4])?)
        }));
    }
    rows.push(row("routing of no tokens", Either, || {
        let router = Router::new(RouterOptions::new(4), &place())?;
        let routing = router.forward(&Tensor::ones([0, 4], DType::F32, Device::Cpu)?)?;
        routing.auxiliary_loss(0)
    }));
    hold(rows);
    Ok(())
}

#[test]
fn sampling_and_caches() -> Result<()> {
    let model = DeepSeek::new(&small(), &place())?;
    let (model, generator) = (&model, &Generator::new(1));
    let mut rows = Vec::new();
    for (name, sampling) in [
        ("temperature", Sampling::greedy().temperature(f64::NAN)),
        ("temperature", Sampling::greedy().temperature(-1.0)),
        ("top_k", Sampling::greedy().top_k(0)),
        ("top_p", Sampling::greedy().top_p(0.0)),
        ("top_p", Sampling::greedy().top_p(f64::NAN)),
    ] {
        rows.push(row(format!("sampling {name}"), Names(name), move || {
            model.generate(&[1], 1, sampling, generator)
        }));
    }
    let hot = || Sampling::greedy().temperature(f64::INFINITY);
    rows.push(row("logits of NaN", Names("logits"), move || {
        hot().pick(&[f32::NAN, 1.0], generator)
    }));
    rows.push(row("no logits", Names("logits"), move || {
        hot().pick(&[], generator)
    }));
    rows.push(row("logits without an end", Fine, move || {
        hot().pick(&[f32::INFINITY, f32::NEG_INFINITY], generator)
    }));
    rows.push(row("no prompt", Names("length"), move || {
        model.generate(&[], 1, hot(), generator)
    }));
    rows.push(row("another token", Names("index"), move || {
        model.generate(&[99], 1, hot(), generator)
    }));
    rows.push(row("a token below 0", Names("index"), move || {
        model.generate(&[i64::MIN], 1, hot(), generator)
    }));
    rows.push(row("tokens without end", Names("memory"), move || {
        model.generate(&[1], usize::MAX, hot(), generator)
    }));
    rows.push(row("no tokens", Fine, move || {
        model.generate(&[1], 0, hot(), generator)
    }));
    rows.push(row("a cache of all memory", Names("memory"), move || {
        model.cache([usize::MAX, usize::MAX])
    }));
    rows.push(row("a full cache", Names("capacity"), move || {
        model.decode(&Tensor::new([[1i64, 2, 3]]), &mut model.cache([1, 2])?)
    }));
    rows.push(row("a cache of another batch", Either, move || {
        model.decode(&Tensor::new([[1i64, 2, 3]]), &mut model.cache([2, 8])?)
    }));
    hold(rows);
    Ok(())
}
