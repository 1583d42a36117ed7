//! The chaos harness: boots a cluster of real processes on network hosts of its own, breaks it by a seeded schedule,
//! records what clients and tasks saw, and judges that offline.
//!
//! `topo`, `process` and `nemesis` act on the machine; `check`, `export` and `report` are pure functions of a run's folder.

pub mod binaries;
pub mod bug;
pub mod caps;
pub mod check;
pub mod clean;
pub mod client;
pub mod clients;
pub mod clock;
pub mod cluster;
pub mod commands;
pub mod disk;
pub mod export;
pub mod history;
pub mod host;
pub mod lock;
pub mod mutants;
pub mod nemesis;
pub mod observe;
pub mod process;
pub mod record;
pub mod report;
pub mod run;
pub mod rundir;
pub mod schedule;
pub mod seed;
pub mod sequence;
pub mod shim;
pub mod topo;
pub mod workload;
