//! Where the servers and the module under test are.

use std::env;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::OnceLock;

/// The server versions that the module supports.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V8_1,
    V9_1,
}

impl Version {
    pub fn text(self) -> &'static str {
        match self {
            Version::V8_1 => "8.1",
            Version::V9_1 => "9.1",
        }
    }

    /// The `valkey-server` of this version: of `VALKEY_SERVER_8_1` or `VALKEY_SERVER_9_1`, else of `scripts/valkey`.
    pub fn server(self) -> &'static Path {
        static FOUND: [OnceLock<PathBuf>; 2] = [OnceLock::new(), OnceLock::new()];
        FOUND[self as usize].get_or_init(|| {
            let variable = format!("VALKEY_SERVER_{}", self.text().replace('.', "_"));
            if let Some(path) = env::var_os(variable) {
                return path.into();
            }
            let output = Command::new(repository().join("scripts/valkey"))
                .arg(self.text())
                .stderr(Stdio::inherit())
                .output()
                .expect("scripts/valkey starts");
            assert!(output.status.success(), "scripts/valkey {} failed", self.text());
            String::from_utf8(output.stdout).expect("a path").trim().into()
        })
    }

    /// A program that is installed beside the server, such as `valkey-check-aof`.
    pub fn program(self, name: &str) -> PathBuf {
        let path = self.server().with_file_name(name);
        assert!(path.exists(), "{} is missing", path.display());
        path
    }
}

/// The module that changes data in every way, built against this version's header.
pub fn test_module(version: Version) -> PathBuf {
    c_module(version, "effects")
}

/// A module of `module-tests/test-module`, built against this version's header.
pub fn c_module(version: Version, name: &str) -> PathBuf {
    let source = repository().join(format!("module-tests/test-module/{name}.c"));
    let offered = repository().join("api");
    let headers = version.server().parent().expect("the server's folder");
    let folder = repository().join("target/test-module");
    std::fs::create_dir_all(&folder).expect("a folder for the test module");
    let built = folder.join(format!("{name}-{}.so", version.text()));
    let time = |path: &Path| path.metadata().and_then(|metadata| metadata.modified()).ok();
    let from = [source.clone(), headers.join("valkeymodule.h"), offered.join("valkey_wbl.h")];
    if from.iter().all(|file| time(&built) > time(file)) {
        return built;
    }
    // Another test process may be building it, too.
    let unfinished = folder.join(format!("{name}-{}.{}", version.text(), std::process::id()));
    let output = Command::new("cc")
        .args(["-shared", "-fPIC", "-O1", "-std=gnu11", "-Wall", "-Wextra", "-Werror", "-I"])
        .arg(headers)
        .arg("-I")
        .arg(offered)
        .arg("-o")
        .args([&unfinished, &source])
        .output()
        .expect("a C compiler");
    assert!(output.status.success(), "the test module: {}", String::from_utf8_lossy(&output.stderr));
    std::fs::rename(&unfinished, &built).expect("the test module can be put in place");
    built
}

/// The module of `module-tests/test-module` that is written in Rust.
pub fn rust_module(name: &str) -> PathBuf {
    let source = repository().join(format!("module-tests/test-module/{name}.rs"));
    let folder = repository().join("target/test-module");
    // Another test process may be building it, too, and rustc puts what it needs on the way beside the result.
    let own = folder.join(format!("{name}-{}", std::process::id()));
    std::fs::create_dir_all(&own).expect("a folder for the test module");
    let (built, unfinished) = (folder.join(format!("{name}.so")), own.join(name));
    let rustc = env::var_os("RUSTC").unwrap_or_else(|| "rustc".into());
    let mut command = Command::new(rustc);
    command.args(["--edition", "2024", "--crate-type", "cdylib", "-O", "-D", "warnings", "-A", "dead_code", "-o"]);
    let status = command.args([&unfinished, &source]).status().expect("rustc starts");
    assert!(status.success(), "the test module does not build");
    std::fs::rename(&unfinished, &built).expect("the test module can be put in place");
    std::fs::remove_dir_all(&own).expect("the folder can be removed");
    built
}

pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The module under test: `WBL_MODULE`, else a build of its own.
///
/// `cargo test` builds the library with the features of the dev-dependencies, and such a module does not load in a
/// server; so it comes from a plain build in a target folder that no test build touches.
pub fn module() -> &'static Path {
    static BUILT: OnceLock<PathBuf> = OnceLock::new();
    BUILT.get_or_init(|| {
        if let Some(path) = env::var_os("WBL_MODULE") {
            let path = PathBuf::from(path);
            assert!(path.exists(), "WBL_MODULE names no file: {}", path.display());
            return path;
        }
        let target = repository().join("target/module");
        let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
            .args(["build", "--release", "--quiet", "--lib", "--no-default-features", "--target-dir"])
            .arg(&target)
            .current_dir(repository())
            .status()
            .expect("cargo starts");
        assert!(status.success(), "the module does not build");
        target.join("release/libvalkey_wbl.so")
    })
}
