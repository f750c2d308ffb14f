//! Shadow mode on the emulated NPU: all ops or a sample, forward and backward, and what a difference is told as.
//!
//! The ops that go wrong are the test's own: their kernel on the NPU is another than on the host.

use ascend_tensor::ascend::{Dev, Launch};
use ascend_tensor::nn::{
    Activation, Dropout, Layer, LayerNorm, Linear, Module, Phase, Place, Sequential,
};
use ascend_tensor::optim::{Adam, AdamOptions, Optimizer};
use ascend_tensor::{
    Counts, DType, Device, Error, GradCx, Gradient, Grads, Host, HostMut, Meta, Mismatch, Op, Plan,
    Result, ShadowOptions, Tensor, ascend, dispatch, shadow, shadow_with,
};

/// Twice its input on the host; on the NPU what it finds in fresh memory that was filled with one value.
#[derive(Debug, Clone)]
struct Wrong;

impl Op for Wrong {
    fn name(&self) -> &'static str {
        "wrong"
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        plan.output(x[0].shape, x[0].dtype);
        Ok(())
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        let values: Vec<f32> = x[0].to_vec::<f32>().iter().map(|x| 2.0 * x).collect();
        for (index, value) in values.into_iter().enumerate() {
            y[0].as_mut_slice::<f32>().expect("contiguous")[index] = value;
        }
        Ok(Counts::EXACT)
    }

    fn ascend(&self, cx: &Launch, x: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        let values = vec![2.5f32; x[0].elements()];
        let bytes: Vec<u8> = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
        let made = cx.constant(&bytes, *x[0].shape(), DType::F32)?;
        y[0].buffer().write("wrong", 0, &bytes)?;
        drop(made);
        Ok(Counts::EXACT)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Backward
    }

    fn backward(&self, cx: &GradCx<'_>) -> Result<Grads> {
        Ok([Some(cx.gradient()?.mul(2.0)?)].into_iter().collect())
    }

    fn boxed(&self) -> Box<dyn Op> {
        Box::new(self.clone())
    }
}

fn mismatch(error: Error) -> Mismatch {
    match error {
        Error::Mismatch(found) => *found,
        other => panic!("{other}"),
    }
}

fn train(steps: usize) -> Result<f32> {
    let place = Place::new(Device::ascend(0));
    let network = Sequential::new()
        .then(Linear::new([12, 6], (), &place)?)
        .then(Activation::Gelu)
        .then(Dropout::new(0.1))
        .then(LayerNorm::new(12, 1e-5, &place)?)
        .then(Linear::new([4, 12], (), &place)?);
    let mut adam = Adam::w(network.parameters(), AdamOptions::new().lr(0.01));
    let x = (0..48)
        .map(|i| (i as f32 * 0.7).sin())
        .collect::<Vec<f32>>();
    let x = Tensor::new(x)
        .reshape([8, 6])?
        .to_device(Device::ascend(0))?;
    let labels = Tensor::new([0i64, 1, 2, 3, 0, 1, 2, 3]).to_device(Device::ascend(0))?;
    let mut last = f32::NAN;
    for _ in 0..steps {
        let loss = network
            .forward(&x, Phase::Training)?
            .cross_entropy(&labels, ())?;
        adam.step(&loss.backward()?)?;
        last = loss.item()?;
    }
    Ok(last)
}

#[test]
fn differences_are_found_and_told() -> Result<()> {
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))?;
    // A sound training passes, all of it compared, and costs kernels only once.
    let before = ascend::counters();
    assert!(shadow(|| train(2))?.is_finite());
    assert!(ascend::counters().since(before).launches > 20);

    let x = Tensor::new([[1.0f32, 1.25, 3.0], [1.0, 0.5, 1.25]]).to_device(Device::ascend(0))?;
    let run = || dispatch::run_one(&Wrong, &[&x]);
    let told = shadow(run).unwrap_err();
    let text = told.to_string();
    let found = mismatch(told);
    assert_eq!(
        (found.op, &*found.inputs, found.output),
        ("wrong", "f32 [2, 3]", 0)
    );
    assert_eq!((found.position, found.got, found.want), (2, 2.5, 6.0));
    assert_eq!((found.error(), found.count), (3.5, 4));
    for part in ["wrong", "f32 [2, 3]", "at 2", "3.5e0"] {
        assert!(text.contains(part), "{text}");
    }
    assert!(run().is_ok(), "outside of it nothing is compared");

    // A sample: about one in ten of a hundred calls, the same ones each time.
    let sample = || -> Vec<usize> {
        shadow_with(ShadowOptions::new().every(10), || {
            (0..100).filter(|_| run().is_err()).collect()
        })
    };
    let found = sample();
    assert!((3..25).contains(&found.len()), "{found:?}");
    assert_eq!(found, sample());
    assert!(
        found.windows(2).any(|pair| pair[1] - pair[0] != 10),
        "not in step with a loop"
    );

    // Gradients are compared, too: the backward pass of a sound op around a wrong one.
    let leaf = x.requires_grad()?;
    let wrong = dispatch::run_one(&Wrong, &[&leaf])?;
    assert!(shadow(|| wrong.sum(())?.backward()).is_ok());
    let wrong = shadow(|| dispatch::run_one(&Wrong, &[&leaf])).unwrap_err();
    assert_eq!(mismatch(wrong).op, "wrong");
    Ok(())
}
