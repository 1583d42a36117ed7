//! The bug that a run of tests is to find: `make mutants`.

/// Puts the bug back that the environment names, in builds that have bugs to put back.
pub(crate) fn put_back() {
    #[cfg(feature = "mutants")]
    if let Ok(name) = std::env::var(tidemill_model::mutant::VARIABLE) {
        tidemill_model::mutant::activate(name.parse().expect("a known bug's name"));
    }
}
