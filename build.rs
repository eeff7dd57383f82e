//! Build script: makes declarations of the module API that the crate valkey-module lacks, from `src/ffi/api.h`.

use std::path::PathBuf;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let header = "src/ffi/api.h";
    println!("cargo:rerun-if-changed={header}");
    let output = PathBuf::from(std::env::var("OUT_DIR")?).join("api.rs");
    bindgen::Builder::default()
        .header(header)
        .allowlist_type("Wbl.*")
        .allowlist_var("WBL_.*")
        .layout_tests(false)
        .generate()?
        .write_to_file(output)?;
    Ok(())
}
