//! Training on the CPU: resumption after a kill, checkpoints, data in order, loss scaling, and where bad numbers come from.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use ascend_tensor::nn::{Activation, Dropout, Layer, Linear, Module, Phase, Place, Sequential};
use ascend_tensor::optim::{Adam, AdamOptions, Schedule};
use ascend_tensor::train::{
    BatchLoader, Checkpoints, Difference, GradScaler, LoaderOptions, OverflowMode, Position,
    Report, Saver, StepLoss, Telemetry, TokenWidth, Tokens, Trainer, TrainerOptions,
    find_not_finite, record,
};
use ascend_tensor::{
    BackwardFault, DType, Error, Generator, Result, Tensor, anomaly, manual_seed, no_grad,
};

const STEPS: u64 = 60;

fn temporary(name: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("ascend-tensor-{name}-{}", std::process::id()));
    let _ = std::fs::remove_dir_all(&path);
    std::fs::create_dir_all(&path).expect("a temporary folder");
    path
}

fn network(seed: u64) -> Result<Sequential> {
    let place = Place::default().generator(&Generator::new(seed));
    Ok(Sequential::new()
        .then(Linear::new([16, 8], (), &place)?)
        .then(Activation::Tanh)
        .then(Dropout::new(0.2))
        .then(Linear::new([4, 16], (), &place)?))
}

/// The loss of telling a sequence's last token (modulo 4) from those before it.
fn loss<'a>(model: &'a Sequential, batch: &Tensor) -> Result<StepLoss<'a>> {
    let x = batch.narrow(1, 0, 8)?.to_dtype(DType::F32)?.mul(0.02)?;
    let labels = batch.select(1, 8)?.remainder(4)?;
    let logits = model.forward(&x, Phase::Training)?;
    Ok(StepLoss::new(
        logits.cross_entropy(&labels, ())?,
        batch.dims()[0],
    ))
}

fn loader() -> Result<BatchLoader> {
    let tokens = Tokens::new((0..2000).map(|i| i * i % 97).collect());
    BatchLoader::new(tokens, LoaderOptions::new(8).batch(4).seed(3))
}

fn trainer(model: &Sequential) -> Result<Trainer<'_>> {
    let adam = AdamOptions::new().lr(0.01);
    let options = TrainerOptions::new().clip(0.5);
    let options = options.schedule(
        Schedule::Linear {
            steps: 60,
            least: 0.1,
        }
        .with_warm_up(5),
    );
    Trainer::new(model, Adam::w(model.parameters(), adam), options)
}

/// All bits of the model's state.
fn bits(model: &Sequential) -> Result<Vec<u32>> {
    let mut all = Vec::new();
    for value in model.state_dict().values() {
        all.extend(value.to_vec::<f32>()?.into_iter().map(f32::to_bits));
    }
    Ok(all)
}

/// Trains from the last checkpoint of a folder to the last step, saving after each step on another thread.
fn run(folder: &Path) -> Result<()> {
    manual_seed(11);
    let model = network(5)?;
    let (mut trainer, mut loader) = (trainer(&model)?, loader()?);
    let checkpoints = Checkpoints::new(folder)?;
    if let Some(snapshot) = checkpoints.latest()? {
        trainer.restore(&snapshot)?;
        loader.seek(snapshot.data.unwrap_or_default());
    }
    let mut saver = Saver::new(checkpoints)?;
    while trainer.steps() < STEPS {
        trainer.step(&[loader.next()?], &|batch| loss(&model, batch))?;
        let mut snapshot = trainer.snapshot()?;
        snapshot.data = Some(loader.position());
        saver.save(snapshot)?;
    }
    saver.finish()
}

#[test]
fn a_killed_run_goes_on_bit_by_bit() -> Result<()> {
    if let Some(folder) = std::env::var_os("ASCEND_TENSOR_TRAINING_CHILD") {
        return run(Path::new(&folder));
    }
    let own = std::env::current_exe().expect("the test's own file");
    let start = |folder: &Path| {
        Command::new(&own)
            .args(["--exact", "a_killed_run_goes_on_bit_by_bit", "--nocapture"])
            .env("ASCEND_TENSOR_TRAINING_CHILD", folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child")
    };
    // In a process of its own as well: other tests draw from the default generator of this one.
    let whole = temporary("whole");
    assert!(start(&whole).wait().expect("an end").success());
    let folder = temporary("killed");
    let (mut kills, mut random) = (0, u64::from(std::process::id()) | 1);
    for attempt in 0..200 {
        let mut child = start(&folder);
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        // A run's first attempts are short, so that it is killed often; later ones are long enough to end.
        std::thread::sleep(Duration::from_millis(20 + random % (60 + 10 * attempt)));
        let _ = child.kill();
        let code = child.wait().expect("an end");
        if code.success() {
            break;
        }
        assert_eq!(code.code(), None, "the child failed by itself");
        kills += 1;
        // Whatever the moment of the kill: what has a checkpoint's name is whole.
        for path in Checkpoints::new(&folder)?.list()? {
            Checkpoints::load(path)?;
        }
    }
    assert!(kills > 0, "the run was never killed");
    let state = |folder: &Path| -> Result<Vec<u32>> {
        let last = Checkpoints::new(folder)?.latest()?.expect("a checkpoint");
        assert_eq!(last.step, STEPS);
        let model = network(1)?;
        trainer(&model)?.restore(&last)?;
        bits(&model)
    };
    assert!(
        state(&folder)? == state(&whole)?,
        "the runs differ after {kills} kills"
    );
    for folder in [whole, folder] {
        let _ = std::fs::remove_dir_all(folder);
    }
    Ok(())
}

/// Writes checkpoints of some megabytes, one after the other, as long as it lives.
fn write_on(folder: &Path) -> Result<()> {
    let model = Sequential::new().then(Linear::new([1024, 1024], (), &Place::default())?);
    let adam = Adam::w(model.parameters(), AdamOptions::new());
    let trainer = Trainer::new(&model, adam, TrainerOptions::new())?;
    let checkpoints = Checkpoints::new(folder)?;
    let first = checkpoints.latest()?.map_or(0, |last| last.step + 1);
    for step in first.. {
        let mut snapshot = trainer.snapshot()?;
        snapshot.step = step;
        checkpoints.save(&snapshot)?;
    }
    Ok(())
}

#[test]
fn a_kill_in_the_middle_of_writing_leaves_a_whole_checkpoint() -> Result<()> {
    const CHILD: &str = "ASCEND_TENSOR_WRITING_CHILD";
    if let Some(folder) = std::env::var_os(CHILD) {
        return write_on(Path::new(&folder));
    }
    let own = std::env::current_exe().expect("the test's own file");
    let name = "a_kill_in_the_middle_of_writing_leaves_a_whole_checkpoint";
    let folder = temporary("writing");
    let hidden = || {
        let entries = std::fs::read_dir(&folder).expect("the folder");
        let names = entries.map(|entry| entry.expect("an entry").file_name());
        names
            .filter(|name| name.to_string_lossy().ends_with(".part"))
            .count()
    };
    let (mut halves, mut newest) = (0, None);
    for attempt in 0..60 {
        let before = hidden();
        let mut child = Command::new(&own)
            .args(["--exact", name, "--nocapture"])
            .env(CHILD, &folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("a child");
        // Kills it while a part is being written, and some time into it.
        let begun = std::time::Instant::now();
        while hidden() <= before && begun.elapsed() < Duration::from_secs(20) {
            std::thread::sleep(Duration::from_micros(300));
        }
        std::thread::sleep(Duration::from_micros(attempt * 911 % 20_000));
        child.kill().expect("a kill");
        child.wait().expect("an end");
        halves += usize::from(hidden() > 0);
        let all = Checkpoints::new(&folder)?;
        for path in all.list()? {
            Checkpoints::load(path)?;
        }
        let last = all.latest()?.map(|last| last.step);
        assert!(last >= newest, "{last:?} after {newest:?}");
        newest = last;
        if halves >= 8 && newest > Some(8) {
            break;
        }
    }
    assert!(halves > 0, "no kill came in the middle of writing");
    println!("{halves} kills in the middle of writing, {newest:?} checkpoints");
    // What killed writers left behind is cleared away by the next save.
    let model = network(5)?;
    Checkpoints::new(&folder)?.save(&trainer(&model)?.snapshot()?)?;
    assert_eq!(hidden(), 0);
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

#[test]
fn weights_that_are_no_numbers_are_named_before_the_first_step() -> Result<()> {
    let model = network(5)?;
    let (name, bias) = model.parameters().into_iter().nth(1).expect("a bias");
    bias.update(|bias| bias.mul_(f64::NAN))?;
    match trainer(&model) {
        Err(Error::Entry {
            name: told, why, ..
        }) => {
            assert!(*told == *name && why.contains("NaN"), "{told}: {why}");
        }
        other => panic!("{other:?}"),
    }
    Ok(())
}

#[test]
fn damaged_and_foreign_checkpoints_are_told() -> Result<()> {
    let folder = temporary("damaged");
    let model = network(5)?;
    let mut one = trainer(&model)?;
    one.step(&[loader()?.next()?], &|batch| loss(&model, batch))?;
    let checkpoints = Checkpoints::new(&folder)?.keep(1);
    checkpoints.save(&one.snapshot()?)?;
    let path = checkpoints.save(&one.snapshot()?)?;
    assert_eq!(
        checkpoints.list()?,
        std::slice::from_ref(&path),
        "the older one goes"
    );
    let told = |path: &Path| Checkpoints::load(path).unwrap_err().to_string();
    let weights = path.join("model.safetensors");
    let sound = std::fs::read(&weights).expect("a file");
    let mut damaged = sound.clone();
    if let Some(byte) = damaged.last_mut() {
        *byte ^= 1;
    }
    std::fs::write(&weights, &damaged).expect("a write");
    assert!(
        told(&path).contains("model.safetensors: damaged: its checksum"),
        "{}",
        told(&path)
    );
    std::fs::write(&weights, &sound[..sound.len() / 2]).expect("a write");
    assert!(told(&path).contains("bytes"), "{}", told(&path));
    std::fs::remove_file(&weights).expect("a removal");
    assert!(matches!(Checkpoints::load(&path), Err(Error::Io { .. })));
    std::fs::write(path.join("state.json"), "{\"format\": \"other\"}").expect("a write");
    assert!(
        told(&path).contains("no checkpoint's state"),
        "{}",
        told(&path)
    );
    std::fs::write(path.join("state.json"), "{").expect("a write");
    assert!(told(&path).contains("no JSON"), "{}", told(&path));
    let foreign = Sequential::new().then(Linear::new([2, 2], (), &Place::default())?);
    let adam = Adam::w(foreign.parameters(), AdamOptions::new());
    let mut other = Trainer::new(&foreign, adam, TrainerOptions::new())?;
    let refused = other.restore(&one.snapshot()?).unwrap_err();
    assert!(matches!(refused, Error::Entry { .. }), "{refused}");
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

#[test]
fn batches_come_in_an_order_that_can_be_taken_up() -> Result<()> {
    let folder = temporary("tokens");
    let path = folder.join("tokens.bin");
    let tokens: Vec<u16> = (0..1001).map(|i| i * 3).collect();
    let bytes: Vec<u8> = tokens
        .iter()
        .flat_map(|token| token.to_le_bytes())
        .collect();
    std::fs::write(&path, &bytes).expect("a write");
    let mapped = Tokens::open(&path, TokenWidth::U16)?;
    assert_eq!((mapped.len(), mapped.read(1000, 9)?), (1001, vec![3000]));
    let options = LoaderOptions::new(10).batch(7).seed(1);
    let mut loader = BatchLoader::new(mapped.clone(), options)?;
    assert_eq!(loader.batches(), 14);
    let mut starts = Vec::new();
    let mut kept = None;
    for number in 0..14 {
        let batch = loader.next()?;
        for row in batch.to_vec::<i64>()?.chunks(11) {
            assert!(row.windows(2).all(|pair| pair[1] == pair[0] + 3));
            starts.push(row[0] / 30);
        }
        if number == 8 {
            kept = Some((loader.position(), loader.next()?));
            loader.seek(kept.as_ref().expect("it").0);
        }
    }
    starts.sort_unstable();
    starts.dedup();
    assert_eq!(starts.len(), 98, "each window once");
    assert_eq!(loader.position(), Position { epoch: 1, batch: 0 });
    let (position, want) = kept.expect("it");
    let mut other = BatchLoader::new(mapped.clone(), options.ahead(0))?;
    other.seek(position);
    assert_eq!(other.next()?.to_vec::<i64>()?, want.to_vec::<i64>()?);
    let odd = folder.join("odd.bin");
    std::fs::write(&odd, &bytes[..7]).expect("a write");
    assert!(matches!(
        Tokens::open(&odd, TokenWidth::U16),
        Err(Error::Format { .. })
    ));
    // Only once no loader reads ahead: a read under way cannot notice that the file is cut.
    drop((loader, other));
    let file = std::fs::OpenOptions::new().write(true).open(&path);
    file.and_then(|file| file.set_len(1000)).expect("a cut");
    let cut = mapped.read(0, 1).unwrap_err();
    assert!(
        cut.to_string().contains("got 1000 bytes, wanted 2002"),
        "{cut}"
    );
    for options in [
        LoaderOptions::new(0),
        LoaderOptions::new(4).batch(0),
        LoaderOptions::new(9),
    ] {
        let few = Tokens::new((0..9).collect());
        assert!(matches!(
            BatchLoader::new(few, options),
            Err(Error::Option { .. })
        ));
    }
    assert!(BatchLoader::new(Tokens::new(vec![]), LoaderOptions::new(1)).is_err());
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}

#[test]
fn an_overflow_skips_the_step_and_halves_the_scale() -> Result<()> {
    let model = network(5)?;
    let adam = Adam::w(model.parameters(), AdamOptions::new().lr(0.01));
    let scaler = GradScaler::new(1e9).growth_interval(3);
    let options = TrainerOptions::new().precision(DType::F16).scaler(scaler);
    let mut trainer = Trainer::new(&model, adam, options)?;
    let mut loader = loader()?;
    let mut reports: Vec<Report> = Vec::new();
    while reports.iter().filter(|report| !report.skipped).count() < 5 {
        let before = bits(&model)?;
        let report = trainer.step(&[loader.next()?], &|batch| loss(&model, batch))?;
        assert_eq!(
            bits(&model)? == before,
            report.skipped,
            "a skipped step changes nothing"
        );
        reports.push(report);
        assert!(reports.len() < 40, "the scale never fits");
    }
    assert!(reports[0].skipped && reports[0].scale == 1e9);
    assert_eq!(reports[1].scale, 5e8);
    let done: Vec<&Report> = reports.iter().filter(|report| !report.skipped).collect();
    assert!(
        done.iter()
            .all(|report| report.grad_norm.is_finite() && report.grad_norm < 100.0)
    );
    assert_eq!(trainer.steps(), reports.len() as u64);
    Ok(())
}

#[test]
fn where_the_device_saturates_a_full_gradient_counts_as_overflow() -> Result<()> {
    let model = network(5)?;
    // The gradient of the weight reaches the largest f16 number, as a device that saturates would leave it.
    let full = |batch: &Tensor| -> Result<StepLoss<'static>> {
        let x = batch.narrow(1, 0, 8)?.to_dtype(DType::F32)?;
        let y = model.forward(&x, Phase::Evaluation)?.sum(())?;
        Ok(StepLoss::new(y.mul(65_504.0)?, 4))
    };
    let try_with = |mode| -> Result<bool> {
        let adam = Adam::w(model.parameters(), AdamOptions::new());
        let scaler = GradScaler::new(1.0).mode(mode);
        let mut trainer = Trainer::new(&model, adam, TrainerOptions::new().scaler(scaler))?;
        Ok(trainer.step(&[loader()?.next()?], &full)?.skipped)
    };
    assert!(try_with(OverflowMode::Saturate)?);
    assert!(!try_with(OverflowMode::Infinite)?);
    Ok(())
}

#[test]
fn the_op_of_the_first_bad_number_is_found() -> Result<()> {
    let x = Tensor::new([[1.0f32, 0.0], [2.0, 3.0]]);
    let pass = || x.mul(2.0)?.log()?.add(1.0)?.exp()?.sum(());
    let found = find_not_finite(pass)?.expect("log of 0");
    assert_eq!((found.op, found.call, found.position), ("log", 1, 1));
    assert!(found.value == f64::NEG_INFINITY && found.inputs.contains("f32 [2, 2]"));
    assert!(find_not_finite(|| x.mul(2.0)?.sum(()))?.is_none());

    // A run without a scaler ends with the op's name, and the model as it was.
    let model = network(5)?;
    let before = bits(&model)?;
    let bad = |batch: &Tensor| -> Result<StepLoss<'static>> {
        let x = batch.narrow(1, 0, 8)?.to_dtype(DType::F32)?;
        let y = model.forward(&x, Phase::Training)?;
        Ok(StepLoss::new(y.sub(&y)?.rsqrt()?.sum(())?, 4))
    };
    let told = trainer(&model)?
        .step(&[loader()?.next()?], &bad)
        .unwrap_err();
    assert!(
        matches!(&told, Error::NotFinite(found) if found.op == "rsqrt"),
        "{told}"
    );
    assert!(bits(&model)? == before);
    Ok(())
}

#[test]
fn anomaly_mode_names_the_forward_op() -> Result<()> {
    let x = Tensor::new([1.0f32, 0.0]).requires_grad()?;
    let loss = x.sqrt()?.sum(())?;
    loss.backward()?;
    let told = anomaly(|| x.sqrt()?.sum(())?.backward()).unwrap_err();
    let is_it = matches!(
        told,
        Error::Backward {
            op: "sqrt",
            why: BackwardFault::NotFinite
        }
    );
    assert!(is_it, "{told}");
    Ok(())
}

#[test]
fn the_first_op_that_differs_is_named() -> Result<()> {
    let x = Tensor::new([[1.0f32, -2.0, 0.5, 3.0, 0.1, 0.2, 0.3, 0.4]]);
    let pass = |model: &Sequential| {
        record(|| no_grad(|| model.forward(&x, Phase::Evaluation)?.softmax(-1)))
    };
    let (one, two) = (network(5)?, network(5)?);
    let ((_, first), (_, second)) = (pass(&one)?, pass(&two)?);
    assert!(first.len() > 3 && first.compare(&second, None)?.is_none());
    let (name, bias) = two.parameters().into_iter().next_back().expect("a bias");
    assert_eq!(name, "3.bias");
    bias.update(|bias| bias.add_(1e-2))?;
    let (_, second) = pass(&two)?;
    match first.compare(&second, None)? {
        Some(Difference::Values {
            op,
            first,
            second,
            share,
            ..
        }) => {
            assert_eq!((op, share), ("linear", 1.0));
            assert!((second - first - 1e-2).abs() < 1e-4);
        }
        other => panic!("{other:?}"),
    }
    let (_, other) = record(|| x.exp()?.sum(()))?;
    assert!(matches!(
        first.compare(&other, None)?,
        Some(Difference::Order { call: 0, .. })
    ));
    Ok(())
}

#[test]
fn accumulated_steps_and_reports() -> Result<()> {
    let folder = temporary("telemetry");
    let path = folder.join("steps.jsonl");
    let (one, two) = (network(5)?, network(5)?);
    let plain = |model: &Sequential, batch: &Tensor| -> Result<StepLoss<'static>> {
        let x = batch.narrow(1, 0, 8)?.to_dtype(DType::F32)?.mul(0.02)?;
        let labels = batch.select(1, 8)?.remainder(4)?;
        let logits = model.forward(&x, Phase::Evaluation)?;
        Ok(StepLoss::new(
            logits.cross_entropy(&labels, ())?,
            batch.dims()[0],
        ))
    };
    let batch = loader()?.next()?;
    let halves = [batch.narrow(0, 0, 2)?, batch.narrow(0, 2, 2)?];
    let whole = trainer(&one)?.step(&[batch], &|batch| plain(&one, batch))?;
    let parts = trainer(&two)?.step(&halves, &|batch| plain(&two, batch))?;
    assert!(
        (whole.loss - parts.loss).abs() < 1e-6 && (whole.grad_norm - parts.grad_norm).abs() < 1e-5
    );
    assert_eq!((whole.tokens, parts.tokens), (4, 4));
    let mut telemetry = Telemetry::with_file(&path)?;
    telemetry.send(&whole)?;
    telemetry.send(&parts)?;
    let text = std::fs::read_to_string(&path).expect("a file");
    let lines: Vec<serde_json::Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).expect("JSON"))
        .collect();
    assert_eq!(lines.len(), 2);
    assert_eq!(lines[0]["loss"].as_f64(), Some(whole.loss));
    assert_eq!(lines[1]["retries"], 0);
    let fields = [
        "step",
        "loss",
        "grad_norm",
        "rate",
        "scale",
        "tokens_per_second",
        "peak_memory",
        "launches",
        "syncs",
    ];
    assert!(fields.iter().all(|field| lines[0][*field].is_number()));
    assert!(
        trainer(&one)?
            .step(&[], &|batch| plain(&one, batch))
            .is_err()
    );
    let _ = std::fs::remove_dir_all(folder);
    Ok(())
}
