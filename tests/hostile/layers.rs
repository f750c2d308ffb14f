//! Layers: sizes, epsilons, probabilities, starting values, positions, windows.
//!
//! Knows what each constructor names. Must not know what a layer computes.

use super::{BAD, Change, Either, Fine, HUGE, Names, hold, place, row};
use ascend_tensor::nn::{
    BatchNorm, Conv1d, Conv2d, ConvLayerOptions, Dropout, Embedding, Experts, ExpertsSize,
    GroupNorm, Groups, Init, LatentAttention, LatentAttentionOptions, Layer, LayerNorm, Linear,
    MaxPool2d, MultiHeadAttention, MultiHeadOptions, Phase, RmsNorm, Rotary, RotaryOptions,
    RotaryScaling, Router, RouterOptions, SwiGlu, SwiGluSize,
};
use ascend_tensor::{DType, Device, Tensor};

#[test]
fn layers_of_any_size() {
    let mut rows = Vec::new();
    for a in [0, 1, HUGE[0], HUGE[1], HUGE[2]] {
        for b in [0, 1, HUGE[0], HUGE[1], HUGE[2]] {
            rows.push(row(format!("linear {a} {b}"), Either, move || {
                Linear::new([a, b], (), &place())
            }));
            rows.push(row(format!("embedding {a} {b}"), Either, move || {
                Embedding::new([a, b], None, &place())
            }));
            rows.push(row(format!("conv1d {a} {b}"), Either, move || {
                Conv1d::new([a, b, 3], (), &place())
            }));
            rows.push(row(format!("conv2d {a} {b}"), Either, move || {
                Conv2d::new([a, b, b, 3], (), &place())
            }));
            let groups = Groups {
                channels: a,
                groups: b,
            };
            rows.push(row(format!("group_norm {a} {b}"), Either, move || {
                GroupNorm::new(groups, 1e-5, &place())
            }));
            let options = MultiHeadOptions::new(a).heads(b);
            rows.push(row(format!("multi_head {a} {b}"), Either, move || {
                MultiHeadAttention::new(options, &place())
            }));
            let size = SwiGluSize {
                width: a,
                hidden: b,
            };
            rows.push(row(format!("swiglu {a} {b}"), Either, move || {
                SwiGlu::new(size, Init::Ones, &place())
            }));
            let size = ExpertsSize {
                experts: a,
                width: b,
                hidden: a,
            };
            rows.push(row(format!("experts {a} {b}"), Either, move || {
                Experts::new(size, Init::Ones, &place())
            }));
        }
        rows.push(row(format!("layer_norm {a}"), Either, move || {
            LayerNorm::new(a, 1e-5, &place())
        }));
        rows.push(row(format!("rms_norm {a}"), Either, move || {
            RmsNorm::new(a, 1e-5, &place())
        }));
        rows.push(row(format!("batch_norm {a}"), Either, move || {
            BatchNorm::new(a, &place())
        }));
    }
    // Where 0 means something, it is a layer as PyTorch's: an empty result, a bias alone.
    rows.push(row("linear without inputs", Fine, || {
        Linear::new([3, 0], (), &place())?.forward(&Tensor::zeros([2, 0], DType::F32, Device::Cpu)?)
    }));
    rows.push(row("embedding of no width", Fine, || {
        Embedding::new([3, 0], None, &place())
    }));
    rows.push(row("padding", Names("padding_index"), || {
        Embedding::new([3, 2], None, &place())?.with_padding(i64::MIN)
    }));
    rows.push(row("no rows to pad", Names("padding_index"), || {
        Embedding::new([0, 2], None, &place())?.with_padding(0)
    }));
    hold(rows);
}

#[test]
fn epsilons_and_probabilities() {
    let mut rows = Vec::new();
    for bad in BAD {
        rows.push(row(
            format!("layer_norm {bad}"),
            Names("epsilon"),
            move || LayerNorm::new(2, bad, &place()),
        ));
        rows.push(row(
            format!("rms_norm {bad}"),
            Names("epsilon"),
            move || RmsNorm::new(2, bad, &place()),
        ));
        let two = Groups {
            channels: 4,
            groups: 2,
        };
        rows.push(row(
            format!("group_norm {bad}"),
            Names("epsilon"),
            move || GroupNorm::new(two, bad, &place()),
        ));
        let attention = MultiHeadOptions::new(4).heads(2).dropout(bad);
        rows.push(row(
            format!("multi_head {bad}"),
            Names("dropout"),
            move || MultiHeadAttention::new(attention, &place()),
        ));
        let x = || Tensor::ones([4, 2], DType::F32, Device::Cpu);
        rows.push(row(
            format!("dropout {bad}"),
            Names("probability"),
            move || Dropout::new(bad).forward(&x()?, Phase::Training),
        ));
        rows.push(row(
            format!("batch_norm epsilon {bad}"),
            Names("eps"),
            move || {
                BatchNorm::new(2, &place())?
                    .epsilon(bad)
                    .forward(&x()?, Phase::Training)
            },
        ));
        rows.push(row(
            format!("batch_norm momentum {bad}"),
            Names("momentum"),
            move || {
                BatchNorm::new(2, &place())?
                    .momentum(bad)
                    .forward(&x()?, Phase::Training)
            },
        ));
    }
    rows.push(row("groups", Names("groups"), || {
        GroupNorm::new(
            Groups {
                channels: 4,
                groups: 3,
            },
            1e-5,
            &place(),
        )
    }));
    rows.push(row("heads", Names("heads"), || {
        MultiHeadAttention::new(MultiHeadOptions::new(4).heads(3), &place())
    }));
    rows.push(row("width", Names("width"), || {
        MultiHeadAttention::new(MultiHeadOptions::new(0), &place())
    }));
    hold(rows);
}

#[test]
fn starting_values() {
    let mut rows = Vec::new();
    for bad in BAD {
        for (name, init) in [
            ("deviation", Init::Normal { deviation: bad }),
            (
                "deviation",
                Init::TruncatedNormal {
                    deviation: bad,
                    limit: 2.0,
                },
            ),
            (
                "limit",
                Init::TruncatedNormal {
                    deviation: 1.0,
                    limit: bad,
                },
            ),
        ] {
            rows.push(row(format!("{init:?}"), Names(name), move || {
                init.tensor([2, 2], &place())
            }));
        }
    }
    for (name, init) in [
        (
            "bound",
            Init::Uniform {
                bound: f64::INFINITY,
            },
        ),
        ("slope", Init::KaimingUniform { slope: f64::NAN }),
        (
            "slope",
            Init::KaimingNormal {
                slope: f64::INFINITY,
            },
        ),
        (
            "deviation",
            Init::TruncatedNormal {
                deviation: 0.0,
                limit: 2.0,
            },
        ),
    ] {
        rows.push(row(format!("{init:?}"), Names(name), move || {
            init.tensor([2, 2], &place())
        }));
    }
    hold(rows);
}

#[test]
fn rotations() {
    let mut rows = Vec::new();
    for bad in BAD {
        rows.push(row(format!("rotary {bad}"), Names("theta"), move || {
            Rotary::new(RotaryOptions::new(4).theta(bad))
        }));
        for scaling in [
            RotaryScaling::Linear { factor: bad },
            RotaryScaling::Dynamic {
                factor: bad,
                trained: 8,
            },
            RotaryScaling::Llama3 {
                factor: bad,
                trained: 8,
                low: 1.0,
                high: 4.0,
            },
        ] {
            rows.push(row(format!("{scaling:?}"), Names("factor"), move || {
                Rotary::new(RotaryOptions::new(4).scaling(scaling))
            }));
        }
    }
    rows.push(row("odd dims", Names("dims"), || {
        Rotary::new(RotaryOptions::new(3))
    }));
    rows.push(row("no dims", Names("dims"), || {
        Rotary::new(RotaryOptions::new(0))
    }));
    let trained = RotaryScaling::Dynamic {
        factor: 2.0,
        trained: 0,
    };
    rows.push(row("trained 0", Names("trained"), move || {
        Rotary::new(RotaryOptions::new(4).scaling(trained))
    }));
    for (length, offset) in [(usize::MAX, 1), (1, usize::MAX), (usize::MAX, usize::MAX)] {
        rows.push(row(
            format!("rotation {length} {offset}"),
            Names("offset"),
            move || Rotary::new(RotaryOptions::new(4))?.rotation(length, offset, Device::Cpu),
        ));
    }
    rows.push(row(
        "rotation of all memory",
        Names("out of memory"),
        || Rotary::new(RotaryOptions::new(4))?.rotation(usize::MAX / 2, 0, Device::Cpu),
    ));
    hold(rows);
}

#[test]
fn windows() {
    let mut rows = Vec::new();
    for (stride, kernel) in [(0, 3), (1, 0), (usize::MAX, 3)] {
        rows.push(row(format!("conv {stride} {kernel}"), Either, move || {
            let conv = Conv1d::new(
                [1, 1, kernel],
                ConvLayerOptions::new().stride(stride).padding(usize::MAX),
                &place(),
            )?;
            conv.forward(&Tensor::ones([1, 1, 5], DType::F32, Device::Cpu)?)
        }));
        rows.push(row(format!("pool {stride} {kernel}"), Either, move || {
            MaxPool2d::new(kernel).forward(
                &Tensor::ones([1, 1, 2, 2], DType::F32, Device::Cpu)?,
                Phase::Training,
            )
        }));
    }
    hold(rows);
}

#[test]
fn attention_and_routers() {
    let mut rows = Vec::new();
    let changes: [Change<LatentAttentionOptions>; 14] = [
        ("hidden_size", |o| o.hidden_size = 0),
        ("heads", |o| o.heads = 0),
        ("heads", |o| o.heads = usize::MAX),
        ("q_lora_rank", |o| o.q_lora_rank = Some(0)),
        ("kv_lora_rank", |o| o.kv_lora_rank = 0),
        ("kv_lora_rank", |o| o.kv_lora_rank = usize::MAX),
        ("qk_nope_head_dim", |o| o.qk_nope_head_dim = 0),
        ("qk_rope_head_dim", |o| o.qk_rope_head_dim = 0),
        ("v_head_dim", |o| o.v_head_dim = usize::MAX),
        ("dropout", |o| o.dropout = 1.5),
        ("dropout", |o| o.dropout = f64::NAN),
        ("epsilon", |o| o.epsilon = f64::NAN),
        ("scale", |o| o.scale = Some(f64::NAN)),
        ("deviation", |o| o.init = Init::Normal { deviation: -1.0 }),
    ];
    for (name, change) in changes {
        let mut options = LatentAttentionOptions::new(4);
        change(&mut options);
        rows.push(row(
            format!("latent_attention {name}"),
            Names(name),
            move || LatentAttention::new(options, &place()),
        ));
    }
    let changes: [Change<RouterOptions>; 10] = [
        ("hidden_size", |o| o.hidden_size = 0),
        ("experts", |o| o.experts = 0),
        ("experts", |o| o.experts = usize::MAX),
        ("top_k", |o| o.top_k = 0),
        ("top_k", |o| o.top_k = 9),
        ("groups", |o| o.groups = 0),
        ("groups", |o| o.groups = 3),
        ("top_groups", |o| o.top_groups = 0),
        ("top_groups", |o| o.top_groups = 2),
        ("scale", |o| o.scale = f64::INFINITY),
    ];
    for (name, change) in changes {
        let mut options = RouterOptions::new(4);
        change(&mut options);
        rows.push(row(format!("router {name}"), Names(name), move || {
            Router::new(options, &place())
        }));
    }
    for (name, experts, width, hidden) in [
        ("experts", 0, 1, 1),
        ("width", 1, 0, 1),
        ("hidden", 1, 1, 0),
    ] {
        let size = ExpertsSize {
            experts,
            width,
            hidden,
        };
        rows.push(row(format!("experts {name}"), Names(name), move || {
            Experts::new(size, Init::Ones, &place())
        }));
    }
    for (name, width, hidden) in [("width", 0, 1), ("hidden", 1, 0)] {
        let size = SwiGluSize { width, hidden };
        rows.push(row(format!("swiglu {name}"), Names(name), move || {
            SwiGlu::new(size, Init::Ones, &place())
        }));
    }
    hold(rows);
}
