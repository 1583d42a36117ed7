//! What the demo, the benchmarks and the tests of whole clusters share.

pub mod bench;
pub mod cluster;
pub mod control;
pub mod demo;
pub mod every_operator;
pub mod http;
pub mod invariants;
pub mod load;
pub mod orders;
pub mod orders_cluster;
pub mod s3;
pub mod sim;
