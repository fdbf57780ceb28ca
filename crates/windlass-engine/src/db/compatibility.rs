//! Whether this program runs on a schema that a newer version has migrated, according to the names of the migrations
//! that it does not know.
//!
//! Replicas are updated one by one, so an older program must run on the schema of the next version, and must be able to
//! start on it: after a crash, or when the update is rolled back. The names are in refinery's history, so they tell also
//! programs that were built before the migration was written.

/// The last migration that was named before this rule; programs that know only these refuse every newer schema.
pub const LAST_UNNAMED: i32 = 13;

/// What a migration does to programs that do not know it, as its name says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Effect {
    /// `expand_…`: it only adds. Every program for which the schema was suitable can still run.
    Expand,
    /// `contract_<n>_…`: it removes what programs use that do not know `V<n>`. All others can still run.
    Contract {
        /// The number `n`.
        oldest: i32,
    },
    /// Any other name: only programs that know it can run.
    Unknown,
}

impl Effect {
    /// Reads the effect from the name of a migration.
    pub fn of(name: &str) -> Self {
        if name.strip_prefix("expand_").is_some_and(|it| !it.is_empty()) {
            return Self::Expand;
        }
        let oldest = name.strip_prefix("contract_").and_then(|it| it.split_once('_')).filter(|it| !it.1.is_empty());
        oldest.and_then(|it| it.0.parse().ok()).map_or(Self::Unknown, |oldest| Self::Contract { oldest })
    }

    /// The oldest version that a program must know to run on a schema with this migration, which is `V<version>`.
    pub fn oldest_program(self, version: i32) -> i32 {
        match self {
            Self::Expand => 0,
            Self::Contract { oldest } => oldest,
            Self::Unknown => version,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_name_of_a_migration_tells_which_programs_can_still_run() {
        for (name, oldest) in [
            ("expand_add_a_column", 0),
            ("contract_17_drop_a_column", 17),
            ("add_a_column", 20),
            ("expand_", 20),
            ("expanded", 20),
            ("contract_drop_a_column", 20),
            ("contract_17", 20),
            ("contract_17_", 20),
            ("contract_x_drop", 20),
            ("contract_99999999999_drop", 20),
        ] {
            assert_eq!(Effect::of(name).oldest_program(20), oldest, "{name}");
        }
    }
}
