//! Shadow mode on the emulated NPU: all ops or a sample, forward and backward, and what a difference is told as.
//!
//! The ops that go wrong are the test's own: their kernel on the NPU is another than on the host.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::path::Path;
use std::rc::Rc;

use ascend_tensor::ascend::{Dev, Launch};
use ascend_tensor::io::load_safetensors;
use ascend_tensor::models::deepseek::{DeepSeek, LossOptions};
use ascend_tensor::nn::{
    Activation, Dropout, Layer, LayerNorm, Linear, Module, Phase, Place, Sequential,
};
use ascend_tensor::optim::{Adam, AdamOptions, Optimizer};
use ascend_tensor::{
    Call, Counts, DType, Device, Error, GradCx, Gradient, Grads, Host, HostMut, Meta, Mismatch, Op,
    Plan, Result, Sample, ShadowCounts, ShadowOptions, Tensor, ascend, autocast, catalog, dispatch,
    observe, shadow, shadow_counts, shadow_with,
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

fn install() -> Result<()> {
    static ONCE: std::sync::Once = std::sync::Once::new();
    let mut done = Ok(());
    ONCE.call_once(|| {
        let api = ascend_sys::Api::from_resolver("ascend-emulator", ascend_emulator::resolve);
        done = ascend::install(api);
    });
    done
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
    install()?;
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

/// Numbers from 0 to 1, the same ones in every run.
struct Numbers(u64);

impl Numbers {
    fn next(&mut self) -> f64 {
        self.0 = self
            .0
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 11) as f64 / (1u64 << 53) as f64
    }
}

/// A sample's inputs on the host; in float ones of two dims or more, the last row is so many times the others.
fn inputs(sample: &Sample, dtype: DType, last: f64) -> Result<Vec<Tensor>> {
    let mut numbers = Numbers(7);
    let one = |input: &ascend_tensor::SampleInput| {
        let dtype = input.dtype.unwrap_or(dtype);
        let low = input.low.max(if dtype == DType::U8 {
            0.0
        } else {
            f64::NEG_INFINITY
        });
        let count = input.shape.elements();
        let mut values: Vec<f64> = (0..count)
            .map(|_| low + (input.high - low) * numbers.next())
            .collect();
        let dims = input.shape.dims();
        if !dtype.is_float() {
            values.iter_mut().for_each(|value| *value = value.floor());
        } else if dims.len() > 1 {
            let row = dims[dims.len() - 1];
            let block = (row * dims[dims.len() - 2]).max(1);
            for block in values.chunks_mut(block) {
                let small = block.len() - row;
                block[small..].iter_mut().for_each(|value| *value *= last);
            }
        }
        Tensor::from_vec(values, input.shape)?.to_dtype(dtype)
    };
    sample.inputs.iter().map(one).collect()
}

/// An op of the catalog that gives other bytes on the NPU than it should.
#[derive(Debug)]
struct Damaged {
    op: Box<dyn Op>,
    bytes: Vec<u8>,
}

impl Op for Damaged {
    fn name(&self) -> &'static str {
        self.op.name()
    }

    fn infer(&self, x: &[Meta], plan: &mut Plan) -> Result<()> {
        self.op.infer(x, plan)
    }

    fn cpu(&self, x: &[Host<'_>], y: &mut [HostMut<'_>]) -> Result<Counts> {
        self.op.cpu(x, y)
    }

    fn ascend(&self, _: &Launch, _: &[Dev<'_>], y: &[Dev<'_>]) -> Result<Counts> {
        y[0].buffer().write("damaged", 0, &self.bytes)?;
        Ok(Counts::EXACT)
    }

    fn compose(&self, x: &[Tensor]) -> Result<ascend_tensor::Outputs> {
        self.op.compose(x)
    }

    fn gradient(&self) -> Gradient {
        Gradient::Constant
    }

    fn boxed(&self) -> Box<dyn Op> {
        self.op.boxed()
    }
}

/// What shadow mode says when one element of an op's result, which `pick` chooses, is off by a thousandth; `None` if the op has
/// no such element.
fn damage(
    sample: Sample,
    last: f64,
    pick: impl Fn(&[f64], &[usize]) -> Option<usize>,
) -> Result<Option<Result<()>>> {
    let host = inputs(&sample, DType::F32, last)?;
    if host.is_empty() || !sample.op.writes().is_nothing() {
        return Ok(None);
    }
    let borrowed: Vec<&Tensor> = host.iter().collect();
    let made = dispatch::run(sample.op.as_ref(), &borrowed)?;
    let [made] = made.as_slice() else {
        return Ok(None);
    };
    if made.dtype() != DType::F32 || sample.op.view(host[0].layout())?.is_some() {
        return Ok(None);
    }
    let mut values: Vec<f32> = made.to_vec()?;
    let wide: Vec<f64> = values.iter().map(|x| f64::from(*x)).collect();
    let Some(at) = pick(&wide, made.dims()) else {
        return Ok(None);
    };
    values[at] *= 1.001;
    let bytes = values.iter().flat_map(|x| x.to_ne_bytes()).collect();
    let op = Damaged {
        op: sample.op,
        bytes,
    };
    let device: Vec<Tensor> = host
        .iter()
        .map(|x| x.to_device(Device::ascend(0)))
        .collect::<Result<_>>()?;
    let device: Vec<&Tensor> = device.iter().collect();
    Ok(Some(shadow(|| dispatch::run(&op, &device)).map(|_| ())))
}

/// The position of the largest element.
fn largest(values: &[f64]) -> Option<usize> {
    let finite = (0..values.len()).filter(|at| values[*at].is_finite());
    finite.max_by(|a, b| values[*a].abs().total_cmp(&values[*b].abs()))
}

#[test]
fn a_thousandth_in_one_element_is_found() -> Result<()> {
    install()?;
    let (mut found, mut small, mut missed) = (0, 0, Vec::new());
    for info in catalog() {
        if info.family == "random" || info.name == "to_device" {
            continue;
        }
        for sample in (info.samples)() {
            if !sample.dtypes.contains(&DType::F32) {
                continue;
            }
            // The largest element of all.
            let name = format!("{} {:?}", info.name, sample.op);
            let pick =
                |values: &[f64], _: &[usize]| largest(values).filter(|at| values[*at].abs() > 1e-2);
            match damage(sample, 1.0, pick)? {
                None => {}
                Some(Err(Error::Mismatch(told))) if told.count == 1 => found += 1,
                other => missed.push(format!("largest of {name}: {other:?}")),
            }
        }
        for sample in (info.samples)() {
            if !sample.dtypes.contains(&DType::F32) {
                continue;
            }
            // The largest element of a last row that is thousands of times smaller than the others.
            let name = format!("{} {:?}", info.name, sample.op);
            let pick = |values: &[f64], dims: &[usize]| {
                let row = *dims.last().filter(|_| dims.len() > 1)?;
                let start = values.len().checked_sub(row)?;
                let at = start + largest(&values[start..])?;
                let whole = values[largest(values)?].abs();
                (values[at].abs() > 2e-3 && values[at].abs() < 1e-2 * whole).then_some(at)
            };
            match damage(sample, 2e-3, pick)? {
                None => {}
                Some(Err(Error::Mismatch(told))) if told.count == 1 => small += 1,
                other => missed.push(format!("small row of {name}: {other:?}")),
            }
        }
    }
    println!("{found} largest elements and {small} small ones found");
    assert!(missed.is_empty(), "{}", missed.join("\n"));
    assert!(found > 150 && small > 20, "{found} {small}");
    Ok(())
}

/// Runs a sample on the NPU in shadow mode: `None` if all agrees, an empty text for what a device
/// cannot do, and else what is wrong.
fn soundness(sample: &Sample, dtype: DType, last: f64) -> Result<Option<String>> {
    let host = inputs(sample, dtype, last)?;
    let run = |host: &[Tensor]| -> Result<()> {
        let device: Result<Vec<Tensor>> = host
            .iter()
            .map(|x| x.to_device(Device::ascend(0)))
            .collect();
        let device = device?;
        let device: Vec<&Tensor> = device.iter().collect();
        dispatch::run(sample.op.as_ref(), &device).map(|_| ())
    };
    // Numbers outside an op's domain, which a host kernel refuses, have no result to compare with.
    let refused = dispatch::run(sample.op.as_ref(), &host.iter().collect::<Vec<_>>()).is_err();
    if refused || run(&host).is_err() {
        return Ok(Some(String::new()));
    }
    let told = shadow(|| run(&host)).err();
    Ok(told.map(|told| format!("{:?} of {dtype}, last row {last}: {told}", sample.op)))
}

#[test]
fn the_whole_catalog_is_sound() -> Result<()> {
    install()?;
    let (mut compared, mut wrong) = (0, Vec::new());
    for info in catalog() {
        for last in [1.0, 2e-3, 100.0] {
            // Numbers beyond an integer's range become others on each device.
            if info.name == "to_dtype" && last > 1.0 {
                continue;
            }
            for sample in (info.samples)() {
                for dtype in [DType::F32, DType::F16, DType::BF16] {
                    if !sample.dtypes.contains(&dtype) {
                        continue;
                    }
                    let told = soundness(&sample, dtype, last)?;
                    compared += usize::from(told != Some(String::new()));
                    wrong.extend(told.filter(|told| !told.is_empty()));
                }
            }
        }
    }
    println!("{compared} calls compared");
    assert!(compared > 3500, "only {compared} calls were compared");
    assert!(
        wrong.is_empty(),
        "{} of {compared}\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    Ok(())
}

/// What shadow mode did in the backward pass of a sample on the NPU, from irregular gradients of all its results at once.
struct Backward {
    /// The ops of the pass.
    ops: BTreeSet<&'static str>,
    counts: ShadowCounts,
    told: Option<Error>,
}

/// The backward pass of a sample; `None` if there is none, or a device cannot run the sample.
fn backward(sample: &Sample, dtype: DType, last: f64) -> Result<Option<Backward>> {
    let mut host = inputs(sample, dtype, last)?;
    if sample.op.name() == "moe_token_unpermute" {
        // Each row has one place, in whatever order.
        let places = (0..host[1].elements() as i32).rev();
        host[1] = Tensor::new(places.collect::<Vec<i32>>());
    }
    let borrowed: Vec<&Tensor> = host.iter().collect();
    let refused = dispatch::run(sample.op.as_ref(), &borrowed).is_err();
    if refused || sample.op.gradient() == Gradient::Constant || !sample.op.writes().is_nothing() {
        return Ok(None);
    }
    let leaf = |x: &Tensor| -> Result<Tensor> {
        let x = x.to_device(Device::ascend(0))?;
        if x.dtype().is_float() {
            x.requires_grad()
        } else {
            Ok(x)
        }
    };
    let leaves: Vec<Tensor> = host.iter().map(leaf).collect::<Result<_>>()?;
    let leaves: Vec<&Tensor> = leaves.iter().collect();
    let Ok(made) = dispatch::run(sample.op.as_ref(), &leaves) else {
        return Ok(None);
    };
    let mut numbers = Numbers(11);
    let mut total: Option<Tensor> = None;
    for made in made
        .iter()
        .filter(|made| made.is_tracked() && !made.device().is_cpu())
    {
        let weights: Vec<f64> = (0..made.elements())
            .map(|_| 2.0 * numbers.next() - 1.0)
            .collect();
        let weights = Tensor::from_vec(weights, *made.shape())?.to_dtype(made.dtype())?;
        let part = made
            .mul(&weights.to_device(Device::ascend(0))?)?
            .sum(())?
            .to_dtype(DType::F32)?;
        total = Some(match total {
            None => part,
            Some(sum) => sum.add(&part)?,
        });
    }
    let Some(total) = total else {
        return Ok(None);
    };
    let seen = Rc::new(RefCell::new(BTreeSet::new()));
    let list = Rc::clone(&seen);
    let note = move |call: &Call<'_>| {
        list.borrow_mut().insert(call.op);
        Ok(())
    };
    let before = shadow_counts();
    let told = observe(note, || shadow(|| total.backward())).err();
    let ops = seen.take();
    Ok(Some(Backward {
        ops,
        counts: shadow_counts().since(before),
        told,
    }))
}

#[test]
fn the_gradients_of_the_whole_catalog_are_sound() -> Result<()> {
    install()?;
    let (mut passes, mut compared, mut ops) = (0, 0, BTreeSet::new());
    let (mut passed_over, mut wrong) = (BTreeSet::new(), Vec::new());
    for info in catalog() {
        for sample in (info.samples)() {
            for (dtype, last) in [DType::F32, DType::F16, DType::BF16]
                .into_iter()
                .flat_map(|dtype| [(dtype, 1.0), (dtype, 2e-3)])
            {
                if !sample.dtypes.contains(&dtype) {
                    continue;
                }
                let Some(one) = backward(&sample, dtype, last)? else {
                    continue;
                };
                passes += 1;
                compared += one.counts.compared;
                if one.counts.passed_over > 0 {
                    passed_over.insert(info.name);
                }
                match one.told {
                    Some(told) => wrong.push(format!(
                        "{:?} of {dtype}, last row {last}: {told}",
                        sample.op
                    )),
                    None => ops.extend(one.ops),
                }
            }
        }
    }
    println!(
        "{passes} backward passes, {compared} calls compared of {} ops",
        ops.len()
    );
    assert!(
        wrong.is_empty(),
        "{} of {passes}\n{}",
        wrong.len(),
        wrong.join("\n")
    );
    assert!(
        passed_over.is_empty(),
        "nothing to compare with: {passed_over:?}"
    );
    assert!(
        passes > 2000 && compared > 13000,
        "{passes} passes, {compared} calls"
    );
    let several = [
        "batch_norm_backward",
        "group_norm_backward",
        "layer_norm_backward",
        "rms_norm_backward",
        "lstm_cell_backward",
        "moe_token_unpermute_backward",
        "max_pool_backward",
        "convolution_backward",
        "scaled_dot_product_attention_backward",
    ];
    for op in several {
        assert!(ops.contains(op), "{op} is missing in {ops:?}");
    }
    Ok(())
}

#[test]
fn a_model_trains_without_false_alarms() -> Result<()> {
    install()?;
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/parity/base");
    let tokens = load_safetensors(folder.join("batches.safetensors"))?["tokens"].clone();
    let tokens = tokens.to_dtype(DType::I64)?;
    for precision in [DType::F32, DType::F16, DType::BF16] {
        let model = DeepSeek::load_pretrained(&folder, &Place::new(Device::ascend(0)))?;
        let mut adamw = Adam::w(model.parameters(), AdamOptions::new().lr(1e-3));
        for step in 0..3 {
            let batch = tokens.select(0, step)?.to_device(Device::ascend(0))?;
            let run = || -> Result<f32> {
                let forward = || model.loss(&batch, LossOptions::new());
                let loss = match precision {
                    DType::F32 => forward()?,
                    half => autocast(half, forward)?,
                };
                adamw.step(&loss.total.backward()?)?;
                loss.total.item()
            };
            let loss = shadow(run).map_err(|told| {
                println!("{precision}, step {step}: {told}");
                told
            })?;
            assert!(loss.is_finite());
        }
    }
    Ok(())
}
