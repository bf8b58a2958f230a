//! Stubs from the contract; protox reads the protos, so that no protoc has to be installed.

use std::{error::Error, fs, path::Path};

fn main() -> Result<(), Box<dyn Error>> {
    let protos = Path::new("../../protos");
    let mut files = Vec::new();
    for entry in fs::read_dir(protos.join("venuemesh/v1"))? {
        let path = entry?.path();
        if path.extension().is_some_and(|extension| extension == "proto") {
            files.push(path);
        }
    }
    files.sort();
    println!("cargo:rerun-if-changed={}", protos.display());
    let descriptors = protox::compile(&files, [protos])?;
    tonic_prost_build::configure().build_server(false).compile_fds(descriptors)?;
    Ok(())
}
