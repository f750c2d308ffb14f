//! The dtype table: which dtypes CANN's manuals list for each parameter of each op, by product family.
//!
//! Knows the text table in `abi/dtypes.tsv` and how chips group into families. Must not know any tensor library.

use std::collections::HashMap;
use std::sync::OnceLock;

const TABLE: &str = include_str!("../abi/dtypes.tsv");

/// A product family: chips that share kernels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Family {
    /// Atlas A2: Ascend 910B with a digit.
    A2,
    /// Atlas A3: Ascend 910_93.
    A3,
    /// Ascend 950.
    A950,
    /// The Atlas inference series: Ascend 310P.
    P310,
    /// The Atlas training series: the first Ascend 910.
    A910,
    /// Atlas 200I/500 A2: Ascend 310B.
    B310,
}

impl Family {
    /// The family of a SoC name such as `Ascend910B3`; `None` for unknown names.
    ///
    /// ```
    /// use ascend_sys::dtypes::Family;
    /// assert_eq!(Family::of_soc("Ascend910B3"), Some(Family::A2));
    /// assert_eq!(Family::of_soc("Ascend910B"), Some(Family::A910));
    /// ```
    pub fn of_soc(name: &str) -> Option<Family> {
        let chip = name.strip_prefix("Ascend")?;
        let digit_after = |prefix: &str| {
            let rest = chip.strip_prefix(prefix)?;
            rest.chars().next().filter(char::is_ascii_digit)
        };
        if chip.starts_with("910_93") {
            Some(Family::A3)
        } else if digit_after("910B").is_some() {
            Some(Family::A2)
        } else if chip.starts_with("950") {
            Some(Family::A950)
        } else if chip.starts_with("310P") {
            Some(Family::P310)
        } else if chip.starts_with("310B") {
            Some(Family::B310)
        } else {
            chip.starts_with("910").then_some(Family::A910)
        }
    }

    /// The column's name in the table.
    pub fn name(self) -> &'static str {
        match self {
            Family::A2 => "A2",
            Family::A3 => "A3",
            Family::A950 => "950",
            Family::P310 => "310P",
            Family::A910 => "910A",
            Family::B310 => "310B",
        }
    }

    fn column(self) -> usize {
        match self {
            Family::A2 => 5,
            Family::A3 => 6,
            Family::A950 => 7,
            Family::P310 => 8,
            Family::A910 => 9,
            Family::B310 => 10,
        }
    }
}

/// One row of the table for one family.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parameter {
    /// The parameter's position in the first phase's signature.
    pub index: usize,
    /// The parameter's name in the manual.
    pub name: &'static str,
    /// The dtypes as the table writes them: `f32,f16,bf16`, or `n/a` where the manual does not list the op for the family.
    pub dtypes: &'static str,
}

impl Parameter {
    /// Whether the row lists a dtype by its short name (`f32`, `bf16`, `bool`); `None` where the row says nothing.
    ///
    /// ```
    /// use ascend_sys::dtypes::{Family, parameters};
    /// let row = parameters("aclnnAdd", Family::A2).next();
    /// assert_eq!(row.and_then(|row| row.lists("f32")), Some(true));
    /// ```
    pub fn lists(&self, dtype: &str) -> Option<bool> {
        match self.dtypes {
            "n/a" => Some(false),
            "-" | "?" | "" => None,
            list => Some(list.split(',').any(|listed| listed == dtype)),
        }
    }
}

fn index() -> &'static HashMap<&'static str, Vec<&'static str>> {
    static INDEX: OnceLock<HashMap<&'static str, Vec<&'static str>>> = OnceLock::new();
    INDEX.get_or_init(|| {
        let mut index: HashMap<&str, Vec<&str>> = HashMap::new();
        for line in TABLE.lines().filter(|line| line.starts_with("aclnn")) {
            if let Some((op, _)) = line.split_once('\t') {
                index.entry(op).or_default().push(line);
            }
        }
        index
    })
}

/// The rows of an op for a family, in the order of the parameters; none for an op that the table does not have.
pub fn parameters(op: &str, family: Family) -> impl Iterator<Item = Parameter> {
    let rows = index().get(op).map(Vec::as_slice).unwrap_or_default();
    rows.iter().filter_map(move |line| {
        let cells: Vec<&'static str> = line.split('\t').collect();
        let index = cells.get(1)?.parse().ok()?;
        Some(Parameter {
            index,
            name: cells.get(2)?,
            dtypes: cells.get(family.column())?,
        })
    })
}
