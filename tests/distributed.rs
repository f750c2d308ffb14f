//! Several ranks on the emulator: each collective against values made by hand, data-parallel training against one rank, faults.
//!
//! Knows threads and processes as ranks. Must not know HCCL's calls.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};
use std::time::{Duration, Instant};

use ascend_tensor::ascend::{self, Stream};
use ascend_tensor::distributed::{
    Communicator, Membership, ReduceOp, RootInfo, all_reduce_gradients, broadcast_parameters,
};
use ascend_tensor::nn::{Activation, Layer, Linear, Module, Phase, Place, Sequential};
use ascend_tensor::optim::{Adam, AdamOptions, Optimizer};
use ascend_tensor::{DType, Device, Error, ErrorKind, Generator, Result, Tensor, no_grad};

/// The emulator is one per process: tests take turns. Ranks that do not come are given up after two seconds.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    START.call_once(start);
    for device in 0..4 {
        ascend::reset(device).unwrap();
    }
    guard
}

fn start() {
    let mut settings = ascend_emulator::Settings::default();
    settings.devices = 4;
    settings.delay = Some((11, 200));
    settings.hccl_connect_timeout = Duration::from_secs(2);
    settings.hccl_exec_timeout = Some(Duration::from_secs(2));
    ascend_emulator::reset(settings).unwrap();
    ascend::install(ascend_sys::Api::from_resolver(
        "ascend-emulator",
        ascend_emulator::resolve,
    ))
    .unwrap();
}

/// Runs a function on each of some ranks, a thread for each, and gives what they answered, by rank.
fn on_ranks<R: Send + 'static>(
    ranks: u32,
    body: impl Fn(Arc<Communicator>) -> Result<R> + Send + Sync + 'static,
) -> Vec<Result<R>> {
    let devices: Vec<u32> = (0..ranks).collect();
    let body = Arc::new(body);
    let threads: Vec<_> = Communicator::of_devices(&devices)
        .unwrap()
        .into_iter()
        .map(|comm| {
            let body = Arc::clone(&body);
            std::thread::spawn(move || body(comm))
        })
        .collect();
    threads
        .into_iter()
        .map(|thread| thread.join().unwrap())
        .collect()
}

fn all<R>(answers: Vec<Result<R>>) -> Vec<R> {
    answers.into_iter().map(Result::unwrap).collect()
}

fn here(comm: &Communicator, values: &[f32]) -> Result<Tensor> {
    Tensor::new(values).to_device(Device::ascend(comm.device()))
}

#[test]
fn all_reduce_joins_elements() {
    let _turn = turn();
    let answers = all(on_ranks(3, |comm| {
        // Ranks have [1, -2], [2, 0] and [3, 2].
        let rank = comm.rank() as f32;
        let x = here(&comm, &[rank + 1.0, 2.0 * rank - 2.0])?;
        let kinds = [
            ReduceOp::Sum,
            ReduceOp::Product,
            ReduceOp::Minimum,
            ReduceOp::Maximum,
        ];
        let one = |reduce| comm.all_reduce(&x, reduce)?.to_vec::<f32>();
        kinds.into_iter().map(one).collect::<Result<Vec<_>>>()
    }));
    for answer in answers {
        assert_eq!(answer, [[6.0, 0.0], [6.0, 0.0], [1.0, -2.0], [3.0, 2.0]]);
    }
    assert_eq!(ascend_emulator::violations(), Vec::<String>::new());
}

#[test]
fn dtypes_and_layouts_do_not_change_the_meaning() {
    let _turn = turn();
    let answers = all(on_ranks(2, |comm| {
        let device = Device::ascend(comm.device());
        let wide = Tensor::new([[1i64, 2, 3], [4, 5, 6]]).to_device(device)?;
        let turned = wide.transpose(0, 1)?.add(i64::from(comm.rank()))?;
        let part = turned.narrow(0, 1, 2)?.transpose(0, 1)?;
        let mut found = vec![comm.all_reduce(&part, ReduceOp::Sum)?.to_vec::<i64>()?];
        for dtype in [DType::F32, DType::F16, DType::BF16, DType::I32, DType::I8] {
            let sum = comm.all_reduce(&part.to_dtype(dtype)?, ReduceOp::Sum)?;
            assert_eq!(sum.dtype(), dtype);
            found.push(sum.to_dtype(DType::I64)?.to_vec()?);
        }
        let flags = Tensor::new([true, false]).to_device(device)?;
        let gathered = comm.all_gather(&flags)?.to_vec::<bool>()?;
        let nothing = Tensor::zeros([0, 3], DType::F32, device)?;
        let none = comm.all_reduce(&nothing, ReduceOp::Sum)?;
        let lone = Tensor::full((), 2.5f64, device)?.to_dtype(DType::F64)?;
        let pair = comm.all_gather(&lone)?.to_vec::<f64>()?;
        Ok((found, gathered, none.dims().to_vec(), pair))
    }));
    for (found, gathered, none, pair) in answers {
        // [[2, 3], [5, 6]] and one more on the other rank.
        for values in found {
            assert_eq!(values, [5, 7, 11, 13]);
        }
        assert_eq!(gathered, [true, false, true, false]);
        assert_eq!(none, [0, 3]);
        assert_eq!(pair, [2.5, 2.5]);
    }
}

#[test]
fn parts_move_between_ranks() {
    let _turn = turn();
    let answers = all(on_ranks(3, |comm| {
        // Rank r has [10 r, 10 r + 1, 10 r + 2].
        let base = 10.0 * comm.rank() as f32;
        let x = here(&comm, &[base, base + 1.0, base + 2.0])?;
        Ok([
            comm.broadcast(&x, 1)?.to_vec::<f32>()?,
            comm.all_gather(&x)?.to_vec::<f32>()?,
            comm.reduce_scatter(&x, ReduceOp::Sum)?.to_vec::<f32>()?,
            comm.all_to_all(&x)?.to_vec::<f32>()?,
        ])
    }));
    for (rank, [sent, gathered, scattered, exchanged]) in answers.into_iter().enumerate() {
        let rank = rank as f32;
        assert_eq!(sent, [10.0, 11.0, 12.0]);
        assert_eq!(gathered, [0., 1., 2., 10., 11., 12., 20., 21., 22.]);
        assert_eq!(scattered, [30.0 + 3.0 * rank]);
        assert_eq!(exchanged, [rank, 10.0 + rank, 20.0 + rank]);
    }
}

#[test]
fn messages_and_barriers() {
    let _turn = turn();
    let answers = all(on_ranks(2, |comm| {
        comm.barrier()?;
        let other = 1 - comm.rank();
        if comm.rank() == 0 {
            comm.send(&here(&comm, &[1.0, 2.0])?, other)?;
            comm.receive([2], DType::I32, other)?
                .to_dtype(DType::F32)?
                .to_vec::<f32>()
        } else {
            let got = comm.receive([2], DType::F32, other)?;
            comm.send(&got.mul(10.0)?.to_dtype(DType::I32)?, other)?;
            got.to_vec::<f32>()
        }
    }));
    assert_eq!(answers, [[10.0, 20.0], [1.0, 2.0]]);
}

#[test]
fn collectives_keep_their_order_across_streams() {
    let _turn = turn();
    let answers = all(on_ranks(2, |comm| {
        let x = here(&comm, &[1.0 + comm.rank() as f32])?;
        let side = Stream::new(comm.device())?;
        let y = comm.all_reduce(&x, ReduceOp::Sum)?;
        let z = side.with(|| comm.all_reduce(&y, ReduceOp::Sum))?;
        let sum = comm.all_reduce(&z, ReduceOp::Sum)?.to_vec::<f32>()?;
        comm.close()?;
        Ok(sum)
    }));
    assert_eq!(answers, [[12.0], [12.0]]);
    assert_eq!(ascend_emulator::violations(), Vec::<String>::new());
}

#[test]
fn wrong_calls_are_refused_before_they_are_made() {
    let _turn = turn();
    let before = ascend_emulator::calls("HcclAllReduce");
    all(on_ranks(2, |comm| {
        let x = here(&comm, &[1.0, 2.0, 3.0])?;
        let kind = |result: Result<Tensor>| result.unwrap_err().kind();
        let sum = ReduceOp::Sum;
        assert_eq!(
            kind(comm.all_reduce(&Tensor::new([1.0f32]), sum)),
            ErrorKind::Device
        );
        let other = Tensor::new([1.0f32]).to_device(Device::ascend(3))?;
        assert_eq!(kind(comm.all_gather(&other)), ErrorKind::Device);
        assert_eq!(kind(comm.reduce_scatter(&x, sum)), ErrorKind::Shape);
        assert_eq!(kind(comm.all_to_all(&x)), ErrorKind::Shape);
        assert_eq!(kind(comm.broadcast(&x, 2)), ErrorKind::Value);
        assert_eq!(
            kind(comm.receive([1], DType::F32, comm.rank())),
            ErrorKind::Value
        );
        assert_eq!(comm.send(&x, 7).unwrap_err().kind(), ErrorKind::Value);
        let flags = x.gt(2.0)?;
        assert_eq!(kind(comm.all_reduce(&flags, sum)), ErrorKind::DType);
        let half = x.to_dtype(DType::BF16)?;
        assert_eq!(
            kind(comm.all_reduce(&half, ReduceOp::Product)),
            ErrorKind::DType
        );
        let tracked = x.requires_grad()?;
        assert_eq!(
            kind(comm.all_reduce(&tracked, ReduceOp::Maximum)),
            ErrorKind::Gradient
        );
        comm.close()?;
        assert_eq!(kind(comm.all_reduce(&x, sum)), ErrorKind::Value);
        assert_eq!(comm.barrier().unwrap_err().kind(), ErrorKind::Value);
        Ok(())
    }));
    assert_eq!(ascend_emulator::calls("HcclAllReduce"), before);
    let wide = |comm: Arc<Communicator>| {
        let x = Tensor::new([1.0f64]).to_device(Device::ascend(comm.device()))?;
        // Only Ascend 950 reduces f64: HCCL itself is asked.
        let error = comm.all_reduce(&x, ReduceOp::Sum).unwrap_err();
        assert!(matches!(error, Error::Unsupported { .. }), "{error}");
        Ok(())
    };
    all(on_ranks(2, wide));
    for devices in [&[][..], &[0, 0], &[0, 9]] {
        assert!(Communicator::of_devices(devices).is_err());
    }
    assert!(RootInfo::from_bytes(&[1, 2, 3]).is_err());
}

#[test]
fn gradients_cross_ranks() {
    let _turn = turn();
    let answers = all(on_ranks(2, |comm| {
        let rank = comm.rank() as f32;
        let x = here(&comm, &[1.0, 2.0])?.requires_grad()?;
        // Each rank weighs its result by rank + 1 and the place.
        let weight = here(&comm, &[1.0 + rank, 10.0 * (1.0 + rank)])?;
        let gradient = |y: Tensor, weight: &Tensor| -> Result<Vec<f32>> {
            let gradients = y.mul(weight)?.sum(())?.backward()?;
            gradients.get(&x).map_or(Ok(Vec::new()), Tensor::to_vec)
        };
        let long = Tensor::cat(&[&weight, &weight.mul(100.0)?], 0)?;
        let first = weight.narrow(0, 0, 1)?;
        Ok([
            gradient(comm.all_reduce(&x, ReduceOp::Sum)?, &weight)?,
            gradient(comm.broadcast(&x, 1)?, &weight)?,
            gradient(comm.all_gather(&x)?, &long)?,
            gradient(comm.reduce_scatter(&x, ReduceOp::Sum)?, &first)?,
            gradient(comm.all_to_all(&x)?, &weight)?,
        ])
    }));
    let wanted = [
        [[3., 30.], [0., 0.], [3., 30.], [1., 2.], [1., 2.]],
        [[3., 30.], [3., 30.], [300., 3000.], [1., 2.], [10., 20.]],
    ];
    for (answer, wanted) in answers.iter().zip(wanted) {
        assert_eq!(*answer, wanted);
    }
}

/// A batch of eight rows, and its labels.
fn batch(device: Device) -> Result<(Tensor, Tensor)> {
    let x: Vec<f32> = (0..8 * 6)
        .map(|at| ((at * 7 % 13) as f32 - 6.0) / 5.0)
        .collect();
    let labels: Vec<i64> = (0..8).map(|row| row * 5 % 3).collect();
    let x = Tensor::new(x).reshape([8, 6])?.to_device(device)?;
    Ok((x, Tensor::new(labels).to_device(device)?))
}

fn network(device: Device, seed: u64) -> Result<Sequential> {
    let place = Place::new(device).generator(&Generator::new(seed));
    Ok(Sequential::new()
        .then(Linear::new([16, 6], (), &place)?)
        .then(Activation::Tanh)
        .then(Linear::new([3, 16], (), &place)?))
}

/// The losses of some steps of one rank, on its part of the batch; alone, on all of it.
fn train(comm: Option<&Arc<Communicator>>, seed: u64) -> Result<Vec<f32>> {
    let device = Device::ascend(comm.map_or(3, |comm| comm.device()));
    let model = network(device, seed)?;
    let parameters = model.parameters();
    let (mut x, mut labels) = batch(device)?;
    if let Some(comm) = comm {
        broadcast_parameters(comm, &parameters, 0)?;
        let start = 4 * i64::from(comm.rank());
        (x, labels) = (x.narrow(0, start, 4)?, labels.narrow(0, start, 4)?);
    }
    let mut adam = Adam::new(parameters.clone(), AdamOptions::new().lr(0.05));
    let mut losses = Vec::new();
    for _ in 0..30 {
        let loss = model
            .forward(&x, Phase::Training)?
            .cross_entropy(&labels, ())?;
        let mut gradients = loss.backward()?;
        let mut whole = loss.detach();
        if let Some(comm) = comm {
            all_reduce_gradients(comm, &mut gradients, &parameters)?;
            whole = comm.all_reduce(&whole, ReduceOp::Sum)?.div(2.0)?;
        }
        no_grad(|| adam.step(&gradients))?;
        losses.push(whole.to_vec::<f32>()?[0]);
    }
    Ok(losses)
}

/// Equal but for the order of sums.
fn assert_same(got: &[f32], want: &[f32]) {
    assert_eq!(got.len(), want.len());
    for (got, want) in got.iter().zip(want) {
        assert!(
            (got - want).abs() <= 2e-5 * want.abs().max(0.1),
            "{got} and {want}"
        );
    }
}

#[test]
fn two_ranks_train_as_one_with_the_joined_batch() {
    let _turn = turn();
    let alone = train(None, 5).unwrap();
    assert!(alone[29] < 0.2 * alone[0], "{alone:?}");
    // The second rank starts from other numbers until the first one's are broadcast.
    let answers = all(on_ranks(2, |comm| {
        train(Some(&comm), 5 + u64::from(comm.rank()))
    }));
    for losses in answers {
        assert_same(&losses, &alone);
    }
    assert_eq!(ascend_emulator::violations(), Vec::<String>::new());
}

#[test]
fn parameters_without_a_gradient_count_as_zero() {
    let _turn = turn();
    let answers = all(on_ranks(2, |comm| {
        let model = network(Device::ascend(comm.device()), 1)?;
        let parameters = model.parameters();
        let first = parameters[0].1.tensor();
        let last = parameters[3].1.tensor();
        // Only the first rank uses the first parameter, by which each of its elements has the gradient 4.
        let mut loss = last.sum(())?;
        if comm.rank() == 0 {
            loss = loss.add(&first.sum(())?.mul(4.0)?)?;
        }
        let mut gradients = loss.backward()?;
        parameters[1].1.freeze();
        all_reduce_gradients(&comm, &mut gradients, &parameters)?;
        let first = gradients
            .get(&first)
            .map(|g| (g.dims().to_vec(), g.to_vec::<f32>()));
        let last = gradients.get(&last).map(Tensor::to_vec::<f32>);
        Ok((first, last.transpose()?, gradients.len()))
    }));
    for (first, last, count) in answers {
        let (dims, values) = first.unwrap();
        assert_eq!((dims, values.unwrap()), (vec![16, 6], vec![2.0; 96]));
        assert_eq!(last.unwrap(), [1.0; 3]);
        assert_eq!(count, 3);
    }
}

/// Nothing hangs: within this time each fault was an error.
const BOUND: Duration = Duration::from_secs(20);

#[test]
fn a_rank_that_never_joins_is_named() {
    let _turn = turn();
    let start = Instant::now();
    let root = RootInfo::new(0).unwrap();
    let member = Membership { rank: 0, ranks: 2 };
    let error = Communicator::join(0, &root, member).unwrap_err();
    assert!(start.elapsed() < BOUND);
    assert_eq!(error.acl_code(), Some(9), "{error}");
    let text = error.to_string();
    assert!(
        text.contains("HCCL_E_TIMEOUT") && text.contains("rank 1"),
        "{text}"
    );
    // The device is as before.
    let x = Tensor::new([1.0f32]).to_device(Device::ascend(0)).unwrap();
    assert_eq!(x.add(1.0).unwrap().to_vec::<f32>().unwrap(), [2.0]);
    let beyond = Membership { rank: 2, ranks: 2 };
    let error = Communicator::join(0, &root, beyond).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::Value);
}

#[test]
fn a_rank_that_never_calls_is_named() {
    let _turn = turn();
    let start = Instant::now();
    let answers = on_ranks(3, |comm| {
        let x = here(&comm, &[1.0])?;
        if comm.rank() == 2 {
            std::thread::sleep(Duration::from_secs(4));
            return Ok(Vec::new());
        }
        let y = comm.all_reduce(&x, ReduceOp::Sum)?;
        let failed = y.to_vec::<f32>();
        assert!(comm.check().is_err());
        failed
    });
    assert!(start.elapsed() < BOUND);
    for answer in &answers[..2] {
        let error = answer.as_ref().unwrap_err();
        assert_eq!(error.acl_code(), Some(107_020), "{error}");
        assert!(error.to_string().contains("rank 2"), "{error}");
    }
    // After a reset the ranks can begin anew.
    for device in 0..3 {
        ascend::reset(device).unwrap();
    }
    let again = all(on_ranks(3, |comm| {
        comm.all_reduce(&here(&comm, &[1.0])?, ReduceOp::Sum)?
            .to_vec::<f32>()
    }));
    assert_eq!(again, [[3.0], [3.0], [3.0]]);
}

#[test]
fn what_is_dropped_is_gone_and_failures_surface() {
    let _turn = turn();
    let living = || {
        let leaks = ascend_emulator::leaks();
        leaks
            .iter()
            .filter(|line| line.starts_with("communicator"))
            .count()
    };
    let before = living();
    let pair = Communicator::of_devices(&[0, 1]).unwrap();
    assert_eq!(living(), before + 2);
    drop(pair);
    assert_eq!(living(), before);

    let pair = Communicator::of_devices(&[0, 1]).unwrap();
    ascend_emulator::set_faults("HcclCommDestroy:1=4").unwrap();
    drop(pair);
    ascend_emulator::set_faults("").unwrap();
    let failed = |device| {
        Tensor::new([1.0f32])
            .to_device(Device::ascend(device))
            .err()
    };
    let found: Vec<Error> = [0, 1].into_iter().filter_map(failed).collect();
    assert_eq!(found.len(), 1);
    assert!(matches!(found[0], Error::Deferred { .. }), "{}", found[0]);
    assert_eq!(found[0].acl_code(), Some(4));
    assert!(
        found[0].to_string().contains("HcclCommDestroy"),
        "{}",
        found[0]
    );
    assert!(failed(0).is_none() && failed(1).is_none());

    let kept = Communicator::of_devices(&[0, 1]).unwrap();
    ascend::reset(0).unwrap();
    assert!(kept[0].barrier().is_err());
    assert!(kept[1].check().is_ok());
}

const ROLE: &str = "ASCEND_TENSOR_TEST_RANK";
const FOLDER: &str = "ASCEND_TENSOR_TEST_FOLDER";

/// One of the processes that `processes_train_together` starts; in a usual run, nothing.
#[test]
fn a_process() {
    let Ok(rank) = std::env::var(ROLE) else {
        return;
    };
    let rank: u32 = rank.parse().unwrap();
    let _turn = turn();
    let path = PathBuf::from(std::env::var(FOLDER).unwrap()).join("root");
    let root = if rank == 0 {
        let root = RootInfo::new(0).unwrap();
        std::fs::write(path.with_extension("new"), root.as_bytes()).unwrap();
        std::fs::rename(path.with_extension("new"), &path).unwrap();
        root
    } else {
        RootInfo::from_bytes(&published(&path)).unwrap()
    };
    let comm = Communicator::join(rank, &root, Membership { rank, ranks: 2 }).unwrap();
    let losses = train(Some(&comm), 5).unwrap();
    comm.close().unwrap();
    println!("losses {losses:?}");
}

fn published(path: &Path) -> Vec<u8> {
    let deadline = Instant::now() + Duration::from_secs(30);
    loop {
        match std::fs::read(path) {
            Ok(bytes) => return bytes,
            Err(error) if Instant::now() > deadline => panic!("{}: {error}", path.display()),
            Err(_) => std::thread::sleep(Duration::from_millis(5)),
        }
    }
}

#[test]
fn processes_train_together() {
    let _turn = turn();
    let alone = train(None, 5).unwrap();
    let name = format!("distributed-{}", std::process::id());
    let folder = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
    std::fs::create_dir_all(&folder).unwrap();
    let start = |rank: u32| {
        Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "a_process", "--nocapture"])
            .env(ROLE, rank.to_string())
            .env(FOLDER, &folder)
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap()
    };
    let children = [start(0), start(1)];
    for child in children {
        let output = child.wait_with_output().unwrap();
        let said = String::from_utf8_lossy(&output.stdout);
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{said}\n{errors}");
        let list = said
            .split_once("losses [")
            .unwrap()
            .1
            .split(']')
            .next()
            .unwrap();
        let losses: Vec<f32> = list.split(", ").map(|loss| loss.parse().unwrap()).collect();
        assert_same(&losses, &alone);
    }
    let _ = std::fs::remove_dir_all(folder);
}
