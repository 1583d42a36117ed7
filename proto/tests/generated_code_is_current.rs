//! The checked-in generated code equals what the `.proto` files give: `make golden` rewrites it.
//!
//! It is checked in so that a user's job builds without a protobuf compiler, in Rust or otherwise.

use std::path::Path;

const PROTOS: [&str; 5] = [
    "tidemill/job.proto",
    "tidemill/client.proto",
    "tidemill/task_manager.proto",
    "tidemill/executor.proto",
    "tidemill/raft.proto",
];

fn generate(out: &Path) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("proto");
    let descriptors = protox::compile(PROTOS, [&root]).expect("the .proto files compile");
    tonic_prost_build::configure()
        .bytes(".")
        .btree_map(".")
        .build_transport(true)
        .server_mod_attribute(".", "#[cfg(feature = \"server\")]")
        .out_dir(out)
        .compile_fds(descriptors)
        .expect("generate code");
    std::fs::read_to_string(out.join("tidemill.v1.rs")).expect("the package's file")
}

#[test]
fn generated_code_is_current() {
    let out = tempfile::tempdir().expect("a temporary folder");
    let fresh = generate(out.path());
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("src/generated/tidemill.v1.rs");
    if std::env::var_os("TIDEMILL_UPDATE_GOLDEN").is_some() {
        std::fs::write(&path, &fresh).expect("write the generated code");
    }
    let checked_in = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(fresh == checked_in, "{} is stale: run `make golden`", path.display());
}
