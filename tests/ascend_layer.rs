//! The safe layer over CANN through its public interface, on the emulator: memory, streams, failures, threads, shutdown.
//!
//! Knows how faults are injected into the emulator. Must not know the ops of the crate.

use std::ptr;
use std::sync::{Arc, Mutex, MutexGuard, Once, PoisonError};

use ascend_tensor::ascend::{self, Buffer, Dev, Launch, Stream};
use ascend_tensor::{DType, Error, ErrorKind, Layout, Result, Usable};

/// The emulator is one per process: tests take turns, and each leaves the device usable and without faults.
fn turn() -> MutexGuard<'static, ()> {
    static TURN: Mutex<()> = Mutex::new(());
    static START: Once = Once::new();
    let guard = TURN.lock().unwrap_or_else(PoisonError::into_inner);
    START.call_once(|| {
        let mut settings = ascend_emulator::Settings::default();
        settings.devices = 2;
        settings.delay = Some((7, 200));
        ascend_emulator::reset(settings).unwrap();
        ascend::install(ascend_sys::Api::from_resolver(
            "ascend-emulator",
            ascend_emulator::resolve,
        ))
        .unwrap();
    });
    ascend_emulator::set_faults("").unwrap();
    for device in [0, 1] {
        ascend::reset(device).unwrap();
    }
    guard
}

fn upload(values: &[f32]) -> Result<Buffer> {
    let bytes: Vec<u8> = values
        .iter()
        .flat_map(|value| value.to_ne_bytes())
        .collect();
    Buffer::upload("test", 0, &bytes)
}

fn read(buffer: &Buffer) -> Result<Vec<f32>> {
    let mut bytes = vec![0; buffer.len()];
    buffer.read("test", 0, &mut bytes)?;
    Ok(bytes
        .chunks_exact(4)
        .map(|bytes| f32::from_ne_bytes(bytes.try_into().unwrap()))
        .collect())
}

/// Runs one kernel: the values as i32.
fn to_i32(buffer: &Buffer) -> Result<Vec<i32>> {
    let cx = Launch::new("test", buffer.device())?;
    let x = Dev::new(buffer, Layout::contiguous([buffer.len() / 4]), DType::F32);
    let made = cx.cast(&x, DType::I32)?;
    let mut bytes = vec![0; buffer.len()];
    made.dev().buffer().read("test", 0, &mut bytes)?;
    Ok(bytes
        .chunks_exact(4)
        .map(|bytes| i32::from_ne_bytes(bytes.try_into().unwrap()))
        .collect())
}

/// No rule of CANN was broken.
fn assert_clean() {
    assert_eq!(ascend_emulator::violations(), Vec::<String>::new());
}

/// What is alive in the emulator and of the given kind.
fn living(kind: &str) -> usize {
    ascend_emulator::leaks()
        .iter()
        .filter(|line| line.starts_with(kind))
        .count()
}

#[test]
fn bytes_come_back_and_ranges_are_checked() {
    let _turn = turn();
    let buffer = upload(&[1.0, 2.0, 3.0, 4.0]).unwrap();
    assert_eq!((buffer.len(), buffer.device()), (16, 0));
    buffer.write("test", 4, &9.0f32.to_ne_bytes()).unwrap();
    assert_eq!(read(&buffer).unwrap(), [1.0, 9.0, 3.0, 4.0]);
    let other = Buffer::allocate("test", 0, 8).unwrap();
    Buffer::copy("test", &buffer, 4, &other, 0, 8).unwrap();
    assert_eq!(read(&other).unwrap(), [9.0, 3.0]);
    let mut byte = [0];
    for failed in [
        buffer.read("test", 16, &mut byte),
        buffer.write("test", usize::MAX, &[1]),
        Buffer::copy("test", &buffer, 0, &other, 1, 8),
    ] {
        assert_eq!(failed.unwrap_err().kind(), ErrorKind::Value);
    }
    assert!(matches!(
        Buffer::copy("test", &buffer, 0, &buffer, 4, 8),
        Err(Error::Overlap { .. })
    ));
    let empty = Buffer::upload("test", 0, &[]).unwrap();
    empty.read("test", 0, &mut []).unwrap();
    assert!(matches!(
        Buffer::allocate("test", 0, usize::MAX),
        Err(Error::OutOfMemory { .. })
    ));
    assert!(
        Buffer::allocate("test", 7, 4).is_err() && Buffer::allocate("test", u32::MAX, 4).is_err()
    );
    assert_clean();
}

#[test]
fn long_copies_go_piece_by_piece() {
    let _turn = turn();
    let bytes: Vec<u8> = (0..40u32 << 20)
        .map(|index| (index.wrapping_mul(2_654_435_761) >> 24) as u8)
        .collect();
    let buffer = Buffer::upload("test", 0, &bytes).unwrap();
    let mut back = vec![0; bytes.len()];
    buffer.read("test", 0, &mut back).unwrap();
    assert!(bytes == back);
    let far = Buffer::allocate("test", 1, 9 << 20).unwrap();
    Buffer::copy("test", &buffer, 3 << 20, &far, 0, 9 << 20).unwrap();
    let mut back = vec![0; 9 << 20];
    far.read("test", 0, &mut back).unwrap();
    assert!(bytes[3 << 20..12 << 20] == back);
    assert_clean();
}

#[test]
fn kernels_see_layouts() {
    let _turn = turn();
    let buffer = upload(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]).unwrap();
    assert_eq!(to_i32(&buffer).unwrap(), [1, 2, 3, 4, 5, 6]);
    let cx = Launch::new("test", 0).unwrap();
    let whole = Dev::new(&buffer, Layout::contiguous([6]), DType::F32);
    let same = cx.contiguous(&whole).unwrap();
    assert!(ptr::eq(same.dev().buffer(), &buffer));
    let outside = Dev::new(&buffer, Layout::contiguous([7]), DType::F32);
    assert_eq!(
        cx.cast(&outside, DType::I32).unwrap_err().kind(),
        ErrorKind::Shape
    );
    let scalar = Dev::new(&buffer, Layout::contiguous(()), DType::F32);
    let cast = cx.cast(&scalar, DType::F64).unwrap();
    let mut bytes = [0; 8];
    cast.dev().buffer().read("test", 0, &mut bytes).unwrap();
    assert_eq!(f64::from_ne_bytes(bytes), 1.0);
    let elsewhere = Launch::new("test", 1).unwrap();
    assert_eq!(
        elsewhere.cast(&whole, DType::I32).unwrap_err().kind(),
        ErrorKind::Device
    );
    assert_eq!(
        cx.constant(&[1, 2], [3], DType::U8).unwrap_err().kind(),
        ErrorKind::Shape
    );
    assert_eq!(
        read(cx.constant_f32(&[2.5, -1.0]).unwrap().dev().buffer()).unwrap(),
        [2.5, -1.0]
    );
    assert_clean();
}

#[test]
fn the_steady_state_takes_no_memory_from_the_device() {
    let _turn = turn();
    let step = || {
        let small = upload(&[1.5; 100]).unwrap();
        let large = upload(&[2.5; 700_000]).unwrap();
        assert_eq!(to_i32(&small).unwrap(), [1; 100]);
        assert_eq!(to_i32(&large).unwrap()[699_999], 2);
    };
    step();
    // Pinned staging grows with the copies that are under way at once, so its count is bounded rather than fixed.
    let calls = ["aclrtMalloc", "aclrtFree", "aclrtCreateStreamWithConfig"];
    let count = || calls.map(ascend_emulator::calls);
    let (before, taken) = (count(), ascend::statistics(0));
    for _ in 0..20 {
        step();
    }
    let now = ascend::statistics(0);
    assert_eq!(count(), before);
    assert!(ascend_emulator::calls("aclrtMallocHost") <= 8);
    assert_eq!(now.device_allocations, taken.device_allocations);
    assert!(now.hits >= taken.hits + 80);
    assert!(now.peak_allocated >= 2_800_000 && now.reserved <= now.peak_reserved);
    ascend::empty_cache(0).unwrap();
    let now = ascend::statistics(0);
    assert!(now.reserved < now.peak_reserved, "{now:?}");
    assert_clean();
}

#[test]
fn counters_count_calls_and_kernels() {
    let _turn = turn();
    let buffer = upload(&[1.0]).unwrap();
    to_i32(&buffer).unwrap();
    let before = ascend::counters();
    let cx = Launch::new("test", 0).unwrap();
    let x = Dev::new(&buffer, Layout::contiguous([1]), DType::F32);
    let _made = cx.cast(&x, DType::I32).unwrap();
    let now = ascend::counters().since(before);
    assert_eq!((now.launches, cx.kernels()), (1, 1));
    assert_eq!(
        now.calls, 6,
        "two descriptions made and destroyed, and two phases"
    );
}

#[test]
fn a_full_device_gives_back_its_cache_first() {
    let _turn = turn();
    drop(Buffer::allocate("test", 0, 30 << 20).unwrap());
    ascend_emulator::set_faults("aclrtMalloc:1=207001").unwrap();
    let frees = ascend_emulator::calls("aclrtFree");
    let buffer = Buffer::allocate("test", 0, 50 << 20).unwrap();
    assert!(ascend_emulator::calls("aclrtFree") > frees);
    ascend_emulator::set_faults("aclrtMalloc:1+=207018").unwrap();
    match Buffer::allocate("test", 0, 70 << 20) {
        Err(Error::OutOfMemory { asked, free, .. }) => assert!(asked == 70 << 20 && free > 0),
        other => panic!("{other:?}"),
    }
    ascend_emulator::set_faults("").unwrap();
    drop(Buffer::allocate("test", 0, 70 << 20).unwrap());
    drop(buffer);
    assert_clean();
}

#[test]
fn refusals_carry_all_that_is_known_and_harm_nothing() {
    let _turn = turn();
    let (tensors, executors) = (living("tensor"), living("executor"));
    let buffer = upload(&[1.0, 2.0]).unwrap();
    for (fault, code, usable) in [
        (
            "aclnnCastGetWorkspaceSize:1=161002",
            161_002,
            Usable::Device,
        ),
        ("aclnnCast:1=561003", 561_003, Usable::Device),
        ("aclrtMemcpyAsync:1=107000", 107_000, Usable::Device),
        (
            "aclrtSynchronizeStream:1=507046",
            507_046,
            Usable::NotStream,
        ),
    ] {
        ascend_emulator::set_faults(fault).unwrap();
        match to_i32(&buffer) {
            Err(Error::Acl(error)) => {
                assert_eq!(
                    (error.code, error.usable, error.op),
                    (code, usable, "test"),
                    "{fault}"
                );
                assert!(fault.starts_with(error.call), "{error}");
                assert!(
                    error.name.starts_with("ACL")
                        && !error.action.is_empty()
                        && !error.detail.is_empty(),
                    "{error:?}"
                );
            }
            other => panic!("{fault}: {other:?}"),
        }
        assert_eq!(to_i32(&buffer).unwrap(), [1, 2], "after {fault}");
    }
    ascend_emulator::set_faults("aclnnCastGetWorkspaceSize:1=207001").unwrap();
    assert_eq!(
        to_i32(&buffer).unwrap(),
        [1, 2],
        "the first phase is tried again"
    );
    ascend_emulator::set_faults("aclCreateTensor:2=161001").unwrap();
    assert_eq!(to_i32(&buffer).unwrap_err().kind(), ErrorKind::Acl);
    assert_eq!(to_i32(&buffer).unwrap(), [1, 2]);
    assert_eq!(living("tensor"), tensors);
    assert_eq!(living("executor"), executors);
    assert_clean();
}

#[test]
fn failures_of_drops_surface_once_at_the_next_call() {
    let _turn = turn();
    let buffer = upload(&[1.0]).unwrap();
    to_i32(&buffer).unwrap();
    ascend_emulator::set_faults("aclDestroyTensor:1=107017").unwrap();
    let cx = Launch::new("test", 0).unwrap();
    cx.cast(
        &Dev::new(&buffer, Layout::contiguous([1]), DType::F32),
        DType::I32,
    )
    .unwrap();
    let error = Launch::new("next", 0).unwrap_err();
    assert!(
        matches!(&error, Error::Deferred { op: "next", .. }),
        "{error}"
    );
    assert_eq!(error.acl_code(), Some(107_017));
    assert!(!error.is_device_lost());
    assert_eq!(to_i32(&buffer).unwrap(), [1]);
}

#[test]
fn a_poisoned_device_says_so_until_it_is_reset() {
    let _turn = turn();
    let buffer = upload(&[1.0; 64]).unwrap();
    let other = Buffer::allocate("test", 0, 1 << 20).unwrap();
    ascend_emulator::set_faults("kernel:1=507015").unwrap();
    let error = to_i32(&buffer).unwrap_err();
    assert_eq!(
        (error.acl_code(), error.is_device_lost()),
        (Some(507_015), true),
        "{error}"
    );
    ascend_emulator::set_faults("").unwrap();
    let calls = ascend_emulator::all_calls().len();
    for error in [
        to_i32(&buffer).unwrap_err(),
        read(&buffer).unwrap_err(),
        Buffer::allocate("test", 0, 4).unwrap_err(),
        ascend::synchronize(0).unwrap_err(),
        ascend::empty_cache(0).unwrap_err(),
    ] {
        assert!(
            matches!(error, Error::Deferred { .. }) && error.is_device_lost(),
            "{error}"
        );
        assert_eq!(error.acl_code(), Some(507_015));
    }
    assert_eq!(ascend_emulator::all_calls().len(), calls);
    drop(other);
    ascend::reset(0).unwrap();
    let fresh = upload(&[5.0]).unwrap();
    assert_eq!(to_i32(&fresh).unwrap(), [5]);
    assert!(
        read(&buffer).unwrap_err().is_device_lost(),
        "its memory went with the reset"
    );
    let cx = Launch::new("test", 0).unwrap();
    let gone = Dev::new(&buffer, Layout::contiguous([64]), DType::F32);
    assert!(cx.cast(&gone, DType::I32).unwrap_err().is_device_lost());
    drop(buffer);
    assert_eq!(to_i32(&fresh).unwrap(), [5]);
}

#[test]
fn threads_share_a_device() {
    let _turn = turn();
    let shared = Arc::new(upload(&[7.0; 1000]).unwrap());
    let work = |seed: u32| {
        let shared = Arc::clone(&shared);
        move || {
            for round in 0..25 {
                let value = (seed * 100 + round) as f32;
                let own =
                    upload(&vec![value; 1 + (seed * 331 + round * 97) as usize % 5000]).unwrap();
                assert!(
                    to_i32(&own)
                        .unwrap()
                        .iter()
                        .all(|found| *found == value as i32)
                );
                assert_eq!(to_i32(&shared).unwrap(), [7; 1000]);
            }
        }
    };
    let threads: Vec<_> = (0..4).map(|seed| std::thread::spawn(work(seed))).collect();
    threads
        .into_iter()
        .for_each(|thread| thread.join().unwrap());
    assert_clean();
}

#[test]
fn buffers_drop_on_threads_that_never_used_the_device() {
    let _turn = turn();
    let buffer = upload(&[1.0; 10_000]).unwrap();
    let stream = Stream::new(0).unwrap();
    assert_eq!(stream.with(|| to_i32(&buffer)).unwrap(), [1; 10_000]);
    std::thread::spawn(move || drop((buffer, stream)))
        .join()
        .unwrap();
    assert_eq!(
        to_i32(&upload(&[3.0; 10_000]).unwrap()).unwrap(),
        [3; 10_000]
    );
    assert_clean();
}

#[test]
fn streams_wait_for_each_other_where_they_share_a_buffer() {
    let _turn = turn();
    let streams = [Stream::new(0).unwrap(), Stream::new(0).unwrap()];
    for round in 0..30 {
        let value = round as f32;
        let buffer = upload(&[value; 3000]).unwrap();
        let made = streams[round % 2].with(|| {
            let half = upload(&[0.5; 3000]).unwrap();
            Buffer::copy("test", &buffer, 0, &half, 4, 8000).unwrap();
            half
        });
        let found = streams[(round + 1) % 2].with(|| read(&made)).unwrap();
        assert!(found[1..2001].iter().all(|found| *found == value) && found[2500] == 0.5);
        drop(buffer);
        assert_eq!(read(&upload(&[-1.0; 3000]).unwrap()).unwrap(), [-1.0; 3000]);
    }
    for stream in &streams {
        stream.synchronize().unwrap();
        stream.close().unwrap();
        assert_eq!(stream.synchronize().unwrap_err().kind(), ErrorKind::Value);
    }
    assert_eq!(
        streams[0].with(|| upload(&[1.0])).unwrap_err().kind(),
        ErrorKind::Value
    );
    assert_clean();
}

#[test]
fn devices_are_described() {
    let _turn = turn();
    assert_eq!(ascend::device_count().unwrap(), 2);
    let found = ascend::devices().unwrap();
    assert_eq!(
        found.iter().map(|device| device.number).collect::<Vec<_>>(),
        [0, 1]
    );
    assert!(found.iter().all(|device| device.soc.starts_with("Ascend")
        && device.free <= device.total
        && device.total > 0));
    assert_eq!(ascend::synchronize(2).unwrap_err().kind(), ErrorKind::Value);
    assert_eq!(ascend::reset(9).unwrap_err().kind(), ErrorKind::Value);
    let second = ascend_sys::Api::from_resolver("second", ascend_emulator::resolve);
    assert_eq!(
        ascend::install(second).unwrap_err().kind(),
        ErrorKind::Value
    );
}

#[test]
fn shutdown_reports_what_is_alive_and_leaves_nothing() {
    let _turn = turn();
    // Faults that other tests injected into destroying functions leave things alive.
    let before = ascend_emulator::leaks();
    let buffer = upload(&[4.0; 10]).unwrap();
    let stream = Stream::new(0).unwrap();
    drop(Buffer::allocate("test", 1, 100).unwrap());
    let report = ascend::shutdown().unwrap();
    assert!(report.failures.is_empty() && !report.released, "{report:?}");
    let alive: Vec<_> = report
        .alive
        .iter()
        .map(|alive| (alive.device, alive.buffers, alive.bytes))
        .collect();
    assert_eq!(alive, [(0, 1, 40)]);
    assert_eq!(
        to_i32(&buffer).unwrap(),
        [4; 10],
        "what is alive stays usable"
    );
    drop(buffer);
    let report = ascend::shutdown().unwrap();
    assert!(
        report.alive.is_empty() && report.failures.is_empty() && report.released,
        "{report:?}"
    );
    let left: Vec<_> = ascend_emulator::leaks()
        .into_iter()
        .filter(|line| !before.contains(line))
        .collect();
    assert_eq!(left, Vec::<String>::new());
    assert!(stream.synchronize().is_err());
    drop(stream);
    assert_eq!(
        to_i32(&upload(&[6.0]).unwrap()).unwrap(),
        [6],
        "a later use begins anew"
    );
    assert_clean();
}

#[test]
fn handles_cross_threads_where_that_is_safe() {
    fn send_and_sync<T: Send + Sync>() {}
    send_and_sync::<Buffer>();
    send_and_sync::<Stream>();
    send_and_sync::<Error>();
    send_and_sync::<Dev<'_>>();
}
