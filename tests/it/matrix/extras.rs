//! What is exercised once with a foreign client rather than in every cell.

use std::fmt;

use super::{Outcome, Stage, caught};

/// One exchange beside the matrix.
pub(super) struct Extra {
    /// What is shown, as a sentence of the table.
    pub(super) name: &'static str,
    /// With whom.
    pub(super) client: &'static str,
    run: fn(&Stage, usize),
}

impl fmt::Display for Extra {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ({})", self.name, self.client)
    }
}

impl Extra {
    pub(super) fn outcome(&self, stage: &Stage, at: usize) -> Outcome {
        caught(|| (self.run)(stage, 500 + at))
    }
}

/// All of them.
pub(super) fn all() -> Vec<Extra> {
    Vec::new()
}
