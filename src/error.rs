//! The one error type of the crate.
//!
//! Knows every way in which an op, a device, a file or a library can fail, and what the failing call got and wanted.
//! Must not know how any op works, nor format anything that a caller did not hand over.

use std::path::PathBuf;

use crate::device::Device;
use crate::dtype::DType;
use crate::shape::Shape;

/// The result of every fallible call of this crate.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What went wrong: which op, what it got, what it wanted.
///
/// Match on [`Error::kind`] or use the predicates ([`Error::is_out_of_memory`], ...) rather than on the text.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Sizes, ranks or element counts do not fit the op or each other.
    #[error("{op}: got {got}, wanted {want}")]
    Shape {
        /// The op that refused.
        op: &'static str,
        /// The shapes it got.
        got: Box<str>,
        /// The shapes it takes.
        want: Box<str>,
    },
    /// Two shapes do not broadcast to a common one.
    #[error("{op}: got shapes {} and {}, wanted shapes that broadcast to a common shape", shapes.0, shapes.1)]
    Broadcast {
        /// The op that refused.
        op: &'static str,
        /// The left and right shapes.
        shapes: Box<(Shape, Shape)>,
    },
    /// A dimension number is out of range.
    #[error(
        "{op}: got dim {axis}, wanted a dim of a tensor with {rank} dims (negative counts from the end)"
    )]
    Axis {
        /// The op that refused.
        op: &'static str,
        /// The dimension asked for.
        axis: i64,
        /// The number of dims there are.
        rank: usize,
    },
    /// An element index, class or label is out of range.
    #[error("{op}: got index {index}, wanted one that fits an extent of {len}")]
    Index {
        /// The op that refused.
        op: &'static str,
        /// The index asked for.
        index: i64,
        /// The extent that it had to fit.
        len: usize,
    },
    /// The dtypes do not fit the op or each other.
    #[error("{op}: got dtype {got}, wanted {want}")]
    DType {
        /// The op that refused.
        op: &'static str,
        /// The dtypes it got.
        got: Box<str>,
        /// The dtypes it takes.
        want: Box<str>,
    },
    /// The tensors of one call are on different devices.
    #[error("{op}: got tensors on {lhs} and {rhs}, wanted one device (move one with to_device)")]
    Device {
        /// The op that refused.
        op: &'static str,
        /// The device of the first tensor.
        lhs: Device,
        /// The device of the other tensor.
        rhs: Device,
    },
    /// An option or attribute has a value outside its domain.
    #[error("{op}: {name}: {why}")]
    Option {
        /// The op that refused.
        op: &'static str,
        /// The option's name.
        name: &'static str,
        /// What it got and what it takes.
        why: Box<str>,
    },
    /// A named tensor of a state, a checkpoint or a data file is missing, superfluous or not what it should be.
    #[error("{op}: tensor {name}: {why}")]
    Entry {
        /// The call that looked at it.
        op: &'static str,
        /// The tensor's dotted name.
        name: Box<str>,
        /// What is wrong with it: what was got and wanted.
        why: Box<str>,
    },
    /// No kernel and no composition exists for this device and dtype.
    #[error("{op}: no kernel on {device} for {dtype}: {why}")]
    Unsupported {
        /// The op that has no kernel.
        op: &'static str,
        /// The device it was asked for.
        device: Device,
        /// The dtype it was asked for.
        dtype: DType,
        /// What rules it out, and what to do.
        why: Box<str>,
    },
    /// The op is differentiable in principle, but has no gradient here.
    #[error("{op}: has no gradient, and an input requires one (detach it, or use no_grad)")]
    NoGradient {
        /// The op without a gradient.
        op: &'static str,
    },
    /// A backward pass cannot be done.
    #[error("backward through {op}: {why}")]
    Backward {
        /// The op whose gradient was asked for.
        op: &'static str,
        /// Why it cannot be had.
        why: BackwardFault,
    },
    /// The destination of an in-place op overlaps itself or a source.
    #[error(
        "{op}: the destination overlaps {with}, so the result would depend on the order of the writes"
    )]
    Overlap {
        /// The in-place op.
        op: &'static str,
        /// What the destination overlaps.
        with: &'static str,
    },
    /// The CANN libraries could not be loaded.
    #[error("{0}")]
    Load(Box<ascend_sys::LoadError>),
    /// The loaded CANN lacks a function.
    #[error(
        "{op}: this CANN has no function {symbol} (looked for in {library}); a newer CANN may have it"
    )]
    Symbol {
        /// The op that needed it.
        op: &'static str,
        /// The C function.
        symbol: &'static str,
        /// The library that should have it.
        library: &'static str,
    },
    /// A CANN call failed.
    #[error("{0}")]
    Acl(Box<AclError>),
    /// A failure that happened earlier, where it could not be returned (in a `Drop`, or on a stream), and surfaces now.
    #[error("{op}: an earlier failure surfaces here: {cause}")]
    Deferred {
        /// The op in which it surfaced.
        op: &'static str,
        /// The earlier failure.
        #[source]
        cause: Box<Error>,
    },
    /// A device or the host has no memory left.
    #[error("{op}: out of memory on {device}: asked for {asked} bytes, {free} bytes free")]
    OutOfMemory {
        /// The op that allocated.
        op: &'static str,
        /// The device that is full.
        device: Device,
        /// The bytes asked for.
        asked: usize,
        /// The bytes that were free at that moment (0 where unknown).
        free: usize,
    },
    /// A host and a device result differ beyond the op's tolerance (shadow mode).
    #[error("{0}")]
    Mismatch(Box<Mismatch>),
    /// An op made a number that is not finite from inputs that are.
    #[error("{0}")]
    NotFinite(Box<NotFinite>),
    /// A file's content is not what its format promises.
    #[error("{op}: {what}")]
    Format {
        /// The call that read it.
        op: &'static str,
        /// The file, and what is wrong in it.
        what: Box<str>,
    },
    /// A file could not be read or written.
    #[error("{op}: {}: {}", at.0.display(), at.1)]
    Io {
        /// The call that touched the file.
        op: &'static str,
        /// The path and the system's error.
        at: Box<(PathBuf, std::io::Error)>,
    },
}

/// Why a backward pass cannot be done.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
// A whole word, as all first fields of `Error`'s variants: so its tag is one as well, and a `Result` of a tensor is copied in words.
#[repr(u64)]
pub enum BackwardFault {
    /// `backward()` needs a single element.
    #[error("the tensor has more than one element; give backward_with the gradient of the output")]
    NotScalar,
    /// Nothing that leads to the tensor requires a gradient.
    #[error("the tensor does not depend on any tensor that requires a gradient")]
    NotTracked,
    /// A tensor that the gradient needs was changed in place after it was saved.
    #[error("a tensor saved for the gradient was changed in place afterwards")]
    Stale,
    /// The history of a tensor was replaced by an in-place op on another handle of the same storage.
    #[error(
        "the tensor's storage was changed in place through another handle, whose history this handle lacks"
    )]
    History,
    /// A leaf that requires a gradient may not be changed in place while the tape records.
    #[error(
        "a leaf that requires a gradient cannot be changed in place while the tape records (use no_grad)"
    )]
    LeafInPlace,
    /// Only floating-point tensors have gradients.
    #[error("only floating-point tensors can require a gradient")]
    NotFloat,
    /// The gradient handed in does not have the output's shape, dtype or device.
    #[error("the gradient handed in does not have the output's shape, dtype and device")]
    Seed,
    /// A gradient is NaN or infinite (anomaly mode).
    #[error("a gradient of its inputs is not finite")]
    NotFinite,
    /// The op returned fewer gradients than it has inputs, or one of a wrong shape.
    #[error("the op's backward returned gradients that do not fit its inputs")]
    Arity,
}

/// A failed CANN call, with all that is known about its code.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{op}: {call} failed with {code} ({name}: {meaning}); {action}{}{detail}", if detail.is_empty() { "" } else { "; CANN says: " })]
#[non_exhaustive]
pub struct AclError {
    /// The op during which the call was made.
    pub op: &'static str,
    /// The C function.
    pub call: &'static str,
    /// The returned code.
    pub code: i32,
    /// The code's name in CANN's headers, or `unknown code`.
    pub name: &'static str,
    /// What the code means.
    pub meaning: &'static str,
    /// What can be done.
    pub action: &'static str,
    /// What is still usable after it.
    pub usable: Usable,
    /// The text of `aclGetRecentErrMsg`, taken at once on the failing thread.
    pub detail: Box<str>,
}

/// What is still usable after a CANN error.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Usable {
    /// The device and its context are as before.
    Device,
    /// Only the stream is affected.
    NotStream,
    /// The context is poisoned: destroy everything on it and reset the device.
    NotContext,
    /// The process must be restarted.
    NotProcess,
    /// An operator or hardware action is needed.
    NotHardware,
}

/// The first difference beyond the tolerance between a device's result and the host's.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{op} of {inputs}: output {output} at {position} is {got} on {device}, but {want} on the host, off by {:e} (tolerance rtol {rtol:e}, atol {atol:e}, {count} elements differ)", self.error()
)]
#[non_exhaustive]
pub struct Mismatch {
    /// The op that was compared.
    pub op: &'static str,
    /// The shapes and dtypes of its inputs.
    pub inputs: Box<str>,
    /// Which of its outputs.
    pub output: usize,
    /// The row-major position of the worst element.
    pub position: usize,
    /// The device that computed `got`.
    pub device: Device,
    /// The device's value.
    pub got: f64,
    /// The host's value.
    pub want: f64,
    /// The relative tolerance.
    pub rtol: f64,
    /// The absolute tolerance.
    pub atol: f64,
    /// How many elements differ.
    pub count: usize,
}

impl Mismatch {
    /// The worst element's error.
    pub fn error(&self) -> f64 {
        (self.got - self.want).abs()
    }
}

/// The first op of a pass that made a number that is not finite.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error(
    "{op}: output {output} at {position} is {value}, the first number of the pass that is not finite (op {call} of it, inputs {inputs})"
)]
#[non_exhaustive]
pub struct NotFinite {
    /// The op.
    pub op: &'static str,
    /// Which op of the pass it was, from 0.
    pub call: usize,
    /// Which of its outputs.
    pub output: usize,
    /// The row-major position of the first such element.
    pub position: usize,
    /// The element.
    pub value: f64,
    /// The shapes and dtypes of the inputs.
    pub inputs: Box<str>,
}

/// The family of an [`Error`], for callers that branch on it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum ErrorKind {
    /// Sizes or ranks do not fit.
    Shape,
    /// Dtypes do not fit.
    DType,
    /// A dim number or an element index is out of range.
    Index,
    /// Another argument is out of its domain.
    Value,
    /// Tensors of one call are on different devices.
    Device,
    /// No kernel for this device and dtype.
    Unsupported,
    /// The gradient cannot be had.
    Gradient,
    /// CANN could not be loaded, or lacks a function.
    Load,
    /// A CANN call failed.
    Acl,
    /// No memory left.
    OutOfMemory,
    /// Device and host differ.
    Mismatch,
    /// A file is damaged or cannot be read or written.
    File,
}

impl Error {
    pub(crate) fn shape(op: &'static str, got: impl ToString, want: impl ToString) -> Self {
        Error::Shape {
            op,
            got: got.to_string().into(),
            want: want.to_string().into(),
        }
    }

    pub(crate) fn broadcast(op: &'static str, lhs: Shape, rhs: Shape) -> Self {
        Error::Broadcast {
            op,
            shapes: Box::new((lhs, rhs)),
        }
    }

    pub(crate) fn dtype(op: &'static str, got: impl ToString, want: impl ToString) -> Self {
        Error::DType {
            op,
            got: got.to_string().into(),
            want: want.to_string().into(),
        }
    }

    pub(crate) fn option(op: &'static str, name: &'static str, why: impl ToString) -> Self {
        Error::Option {
            op,
            name,
            why: why.to_string().into(),
        }
    }

    pub(crate) fn entry(op: &'static str, name: &str, why: impl ToString) -> Self {
        Error::Entry {
            op,
            name: name.into(),
            why: why.to_string().into(),
        }
    }

    pub(crate) fn unsupported(
        op: &'static str,
        device: Device,
        dtype: DType,
        why: impl ToString,
    ) -> Self {
        Error::Unsupported {
            op,
            device,
            dtype,
            why: why.to_string().into(),
        }
    }

    pub(crate) fn format(op: &'static str, what: impl ToString) -> Self {
        Error::Format {
            op,
            what: what.to_string().into(),
        }
    }

    pub(crate) fn io(op: &'static str, path: impl Into<PathBuf>, error: std::io::Error) -> Self {
        Error::Io {
            op,
            at: Box::new((path.into(), error)),
        }
    }

    /// The family of the error.
    ///
    /// ```
    /// use ascend_tensor::{ErrorKind, Tensor};
    /// let x = Tensor::new([1.0f32, 2.0]);
    /// let y = Tensor::new([1.0f32, 2.0, 3.0]);
    /// assert_eq!(x.add(&y).unwrap_err().kind(), ErrorKind::Shape);
    /// ```
    pub fn kind(&self) -> ErrorKind {
        match self {
            Error::Shape { .. } | Error::Broadcast { .. } => ErrorKind::Shape,
            Error::Axis { .. } | Error::Index { .. } => ErrorKind::Index,
            Error::DType { .. } => ErrorKind::DType,
            Error::Device { .. } => ErrorKind::Device,
            Error::Option { .. } | Error::Overlap { .. } | Error::Entry { .. } => ErrorKind::Value,
            Error::Unsupported { .. } => ErrorKind::Unsupported,
            Error::NoGradient { .. } | Error::Backward { .. } => ErrorKind::Gradient,
            Error::Load(_) | Error::Symbol { .. } => ErrorKind::Load,
            Error::Acl(_) => ErrorKind::Acl,
            Error::Deferred { cause, .. } => cause.kind(),
            Error::OutOfMemory { .. } => ErrorKind::OutOfMemory,
            Error::Mismatch(_) => ErrorKind::Mismatch,
            Error::NotFinite(_) => ErrorKind::Value,
            Error::Format { .. } | Error::Io { .. } => ErrorKind::File,
        }
    }

    /// The CANN status code, if a CANN call failed.
    pub fn acl_code(&self) -> Option<i32> {
        match self {
            Error::Acl(error) => Some(error.code),
            Error::Deferred { cause, .. } => cause.acl_code(),
            _ => None,
        }
    }

    /// Whether memory ran out; freeing tensors or emptying the pool may help.
    pub fn is_out_of_memory(&self) -> bool {
        self.kind() == ErrorKind::OutOfMemory || matches!(self.acl_code(), Some(207_001 | 207_018))
    }

    /// Whether the device's context is lost: nothing on it can be used until it is reset.
    pub fn is_device_lost(&self) -> bool {
        match self {
            Error::Acl(error) => !matches!(error.usable, Usable::Device | Usable::NotStream),
            Error::Deferred { cause, .. } => cause.is_device_lost(),
            _ => false,
        }
    }
}

impl From<Box<AclError>> for Error {
    fn from(error: Box<AclError>) -> Self {
        Error::Acl(error)
    }
}

impl From<ascend_sys::LoadError> for Error {
    fn from(error: ascend_sys::LoadError) -> Self {
        Error::Load(Box::new(error))
    }
}
