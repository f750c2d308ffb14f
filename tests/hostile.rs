//! Hostile values for the public constructors of `nn`, `optim`, `train` and `models`: each gives a typed error that names the
//! field, or a value where the value means something; none panics.

use std::panic::{AssertUnwindSafe, catch_unwind};

use ascend_tensor::Result;
use ascend_tensor::nn::Place;

#[path = "hostile/layers.rs"]
mod layers;
#[path = "hostile/models.rs"]
mod models;
#[path = "hostile/training.rs"]
mod training;

/// What a row of the table wants.
#[derive(Debug, Clone, Copy)]
enum Want {
    /// An error whose text names this.
    Names(&'static str),
    /// No error: the value means something.
    Fine,
    /// An error or none, but no panic.
    Either,
}
use Want::{Either, Fine, Names};

type Row<'a> = (String, Want, Box<dyn FnOnce() -> Result<()> + 'a>);

/// A row of the table.
fn row<'a, T>(
    name: impl Into<String>,
    want: Want,
    make: impl FnOnce() -> Result<T> + 'a,
) -> Row<'a> {
    (name.into(), want, Box::new(move || make().map(|_| ())))
}

/// Runs all rows, and reports all failures together.
fn hold(rows: Vec<Row<'_>>) {
    let count = rows.len();
    let mut wrong = Vec::new();
    for (name, want, make) in rows {
        let told = match (catch_unwind(AssertUnwindSafe(make)), want) {
            (Err(_), _) => "it panicked".to_string(),
            (Ok(Err(error)), Names(field)) if error.to_string().contains(field) => continue,
            (Ok(Err(error)), Names(field)) => format!("{error} does not name {field}"),
            (Ok(Err(error)), Fine) => error.to_string(),
            (Ok(Ok(())), Names(field)) => format!("no error names {field}"),
            (Ok(_), _) => continue,
        };
        wrong.push(format!("{name}: {told}"));
    }
    assert!(count > 5, "{count}");
    assert!(
        wrong.is_empty(),
        "{} of {count}\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

fn place() -> Place {
    Place::default()
}

/// Sizes that are too large for any memory, or whose products are beyond all integers.
const HUGE: [usize; 3] = [1 << 45, usize::MAX / 2, usize::MAX];
/// Numbers that are no probability, rate or epsilon.
const BAD: [f64; 3] = [f64::NAN, -1.0, f64::NEG_INFINITY];

/// A change to some options, and the field that has to be named.
type Change<T> = (&'static str, fn(&mut T));
