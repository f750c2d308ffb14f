//! The functions of one CANN, found by name on first use.
//! Knows the table of addresses and the one place where an address becomes a function pointer; the search is elsewhere.

use std::ffi::{CStr, c_void};
use std::fmt;
use std::mem;
use std::path::Path;
use std::ptr::{self, NonNull};
use std::sync::atomic::{AtomicPtr, Ordering};

use crate::error::{LoadError, MissingSymbol, Place};
use crate::function::{FUNCTION_COUNT, Function};
use crate::libraries::{Libraries, LibraryReport};
use crate::search::LoadOptions;

type Resolver = Box<dyn Fn(&CStr) -> Option<NonNull<c_void>> + Send + Sync>;

enum Source {
    Libraries(Libraries),
    Resolver { name: String, resolve: Resolver },
}

/// The functions of one CANN: of the libraries on this machine, or of a stand-in.
///
/// A function is looked up on its first use; later uses cost one load. Libraries stay loaded until the process ends, so
/// pointers stay valid when the `Api` is gone.
pub struct Api {
    source: Source,
    /// For each function: null before the first use, the address of [`ABSENT`] when nothing exports it, else its address.
    table: Box<[AtomicPtr<c_void>]>,
}

/// Its address marks a function that was looked for and not found.
static ABSENT: u8 = 0;

fn absent() -> *mut c_void {
    ptr::from_ref(&ABSENT).cast_mut().cast()
}

impl Api {
    /// Loads the libraries of CANN from the first place of the [search order](LoadOptions) that has them.
    ///
    /// Only the runtime library is opened at once; the others are opened when one of their functions is asked for.
    ///
    /// # Errors
    ///
    /// [`LoadError::NotFound`] with every path tried and why it failed.
    pub fn open(options: &LoadOptions) -> Result<Api, LoadError> {
        Libraries::open(options).map(|libraries| Self::of(Source::Libraries(libraries)))
    }

    /// Takes the functions from a stand-in: `resolve` gives the address of a function by its C name.
    ///
    /// Calls through these addresses are as unsafe as any call to C: the caller vouches for the signature.
    pub fn from_resolver(
        name: &str,
        resolve: impl Fn(&CStr) -> Option<NonNull<c_void>> + Send + Sync + 'static,
    ) -> Api {
        Self::of(Source::Resolver {
            name: name.to_owned(),
            resolve: Box::new(resolve),
        })
    }

    fn of(source: Source) -> Api {
        let table = (0..FUNCTION_COUNT)
            .map(|_| AtomicPtr::new(ptr::null_mut()))
            .collect();
        Api { source, table }
    }

    /// The pointer to a C function.
    ///
    /// # Errors
    ///
    /// [`MissingSymbol`] when what is loaded does not export it.
    #[inline]
    pub fn function<F: Function>(&self, function: F) -> Result<F::Pointer, MissingSymbol> {
        const { assert!(size_of::<F::Pointer>() == size_of::<*mut c_void>()) };
        let _ = function;
        let address = self.address::<F>().ok_or_else(missing::<F>)?.as_ptr();
        // SAFETY: `Function` is sealed, and each of its implementations names a pointer to an `extern "C"` function, which
        // has the size of the address (checked above) and any non-null address as a valid value.
        Ok(unsafe { mem::transmute_copy::<*mut c_void, F::Pointer>(&address) })
    }

    /// Whether the function is there.
    pub fn has<F: Function>(&self, function: F) -> bool {
        let _ = function;
        self.address::<F>().is_some()
    }

    #[inline]
    fn address<F: Function>(&self) -> Option<NonNull<c_void>> {
        let known = self.table.get(F::INDEX)?.load(Ordering::Acquire);
        match NonNull::new(known) {
            Some(known) if known.as_ptr() == absent() => None,
            None => self.look_up(F::INDEX),
            known => known,
        }
    }

    #[cold]
    fn look_up(&self, index: usize) -> Option<NonNull<c_void>> {
        let info = crate::FUNCTIONS.get(index)?;
        let found = match &self.source {
            Source::Libraries(libraries) => libraries.symbol(info),
            Source::Resolver { resolve, .. } => resolve(info.name),
        };
        let entry = found.map_or_else(absent, NonNull::as_ptr);
        self.table.get(index)?.store(entry, Ordering::Release);
        found
    }

    /// What was loaded, and from where.
    pub fn origin(&self) -> Origin<'_> {
        Origin {
            source: &self.source,
        }
    }
}

#[cold]
fn missing<F: Function>() -> MissingSymbol {
    MissingSymbol {
        symbol: F::NAME.to_str().unwrap_or("a symbol"),
        library: crate::FUNCTIONS
            .get(F::INDEX)
            .map_or("unknown library", |info| info.library()),
    }
}

impl fmt::Debug for Api {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let known = self.table.iter().filter(|entry| {
            let entry = entry.load(Ordering::Relaxed);
            !entry.is_null() && entry != absent()
        });
        formatter
            .debug_struct("Api")
            .field("origin", &self.origin())
            .field("functions_in_use", &known.count())
            .finish()
    }
}

/// What an [`Api`] was made from.
pub struct Origin<'a> {
    source: &'a Source,
}

impl Origin<'_> {
    /// The name of the stand-in, when the functions come from one.
    pub fn resolver(&self) -> Option<&str> {
        match self.source {
            Source::Resolver { name, .. } => Some(name),
            Source::Libraries(_) => None,
        }
    }

    /// What named the place of the libraries.
    pub fn place(&self) -> Option<Place> {
        self.libraries_of().map(|libraries| libraries.place)
    }

    /// The root of the installation, when it is not the loader's own search path.
    pub fn root(&self) -> Option<&Path> {
        self.libraries_of()
            .and_then(|libraries| libraries.root.as_deref())
    }

    /// The version that the installation writes into its files; `aclsysGetCANNVersion` knows better once CANN runs.
    pub fn version_hint(&self) -> Option<&str> {
        self.libraries_of()
            .and_then(|libraries| libraries.version.as_deref())
    }

    /// The libraries, whether open or not yet.
    pub fn libraries(&self) -> Vec<LibraryReport> {
        self.libraries_of()
            .map(Libraries::report)
            .unwrap_or_default()
    }

    fn libraries_of(&self) -> Option<&Libraries> {
        match self.source {
            Source::Libraries(libraries) => Some(libraries),
            Source::Resolver { .. } => None,
        }
    }
}

impl fmt::Display for Origin<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.resolver(), self.root()) {
            (Some(name), _) => write!(formatter, "{name}"),
            (None, Some(root)) => write!(formatter, "CANN at {}", root.display()),
            (None, None) => write!(formatter, "CANN on the loader's search path"),
        }?;
        match self.version_hint() {
            Some(version) => write!(formatter, ", version {version}"),
            None => Ok(()),
        }
    }
}

impl fmt::Debug for Origin<'_> {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "Origin({self})")
    }
}
