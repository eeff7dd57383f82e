//! The Debian package and the image's command.

use crate::harness::temp::TempDir;
use crate::harness::{ServerBuilder, System, Version, each_version, paths};
use std::process::Command;

const README: &str = include_str!("../../README.md");

/// Has the package of the module and tool under test made and installed, as README prints it.
fn install(system: &System) {
    std::fs::remove_file(system.module()).unwrap();
    let package = paths::repository().join("scripts/package");
    system.program("scripts/package", &format!("exec {} \"$PWD/target/package\"", package.display()));
    // Has none of the packages that this one needs, and needs no rights.
    system.program(
        "bin/dpkg-here",
        "exec dpkg --root=\"$PWD\" --force-depends --force-not-root --force-bad-path --log=\"$PWD/log\" \"$@\"",
    );
    // What the snippet says has the paths of here then.
    let modules = "/usr/lib/valkey/modules";
    let paths = format!("sed -i 's#{modules}#{}#' etc/valkey/wbl.conf", system.path(modules).display());
    system.program("bin/apt", &format!("[ \"$1\" = install ] && dpkg-here --install \"$2\" && {paths}"));
    system.run("mkdir -p var/lib/dpkg/updates var/lib/dpkg/info && touch var/lib/dpkg/status");
    system.run("systemctl start valkey-server");
    system.follow(README, "Install");
}

#[test]
fn the_package_starts_in_a_clean_debian() {
    let out = TempDir::new();
    let script = |name: &str| {
        let mut script = Command::new(paths::repository().join("scripts").join(name));
        script.env("WBL_MODULE", paths::module()).env("WBL_TOOL", env!("CARGO_BIN_EXE_wbl"));
        script
    };
    let made = script("package").arg(out.path()).output().expect("scripts/package starts");
    let deb = String::from_utf8_lossy(&made.stdout).trim().to_string();
    assert!(made.status.success(), "{deb}{}", String::from_utf8_lossy(&made.stderr));
    let tried = script("try-package").arg(deb).output().expect("scripts/try-package starts");
    let said = [tried.stdout, tried.stderr].map(|text| String::from_utf8_lossy(&text).into_owned()).concat();
    println!("{said}");
    match tried.status.code() {
        Some(0) => assert!(said.contains("installed, started, crashed, started and removed"), "{said}"),
        // Without root, or a mirror.
        Some(77) => {}
        code => panic!("{code:?}: {said}"),
    }
}

each_version! {
    fn the_package_has_what_it_says_and_takes_it_away_again(version: Version) {
        let system = System::new(version);
        system.configure("");
        install(&system);
        let files = system.run("dpkg-here --listfiles valkey-wbl");
        for file in [
            "/usr/lib/valkey/modules/libvalkey_wbl.so",
            "/usr/bin/wbl",
            "/etc/valkey/wbl.conf",
            "/usr/lib/systemd/system/wbl-exporter.service",
            "/usr/include/valkey_wbl.h",
            "/usr/share/man/man1/wbl.1.gz",
            "/usr/share/man/man1/wbl-export.1.gz",
            "/usr/share/doc/valkey-wbl/README.md",
            "/usr/share/doc/valkey-wbl/operations.md",
            "/usr/share/doc/valkey-wbl/copyright",
        ] {
            assert!(files.lines().any(|line| line == file) && system.path(file).is_file(), "{file}: {files}");
        }
        assert!(system.run("dpkg-here --status valkey-wbl").contains("Depends: libc6 (>= 2."));
        let page = system.run("zcat usr/share/man/man1/wbl-export.1.gz");
        assert!(page.contains("wbl\\-export") && page.contains("\\-\\-until"), "{page}");
        // The command of the unit.
        let unit = std::fs::read_to_string(system.path("/usr/lib/systemd/system/wbl-exporter.service")).unwrap();
        let command = unit.lines().find_map(|line| line.strip_prefix("ExecStart=/")).unwrap();
        let page = system.run(&format!("OPTIONS='--port 6379 --once'; {command}"));
        assert!(page.contains("wbl_up 1"), "{page}");
        system.run("dpkg-here --purge valkey-wbl");
        assert!(!system.module().exists() && !system.path("/etc/valkey/wbl.conf").exists());
    }

    fn the_images_command_starts_a_server_with_the_module(version: Version) {
        let dockerfile = std::fs::read_to_string(paths::repository().join("Dockerfile")).unwrap();
        let command = dockerfile.lines().find_map(|line| line.strip_prefix("CMD [")).unwrap().trim_end_matches(']');
        let words: Vec<&str> = command.split(", ").map(|word| word.trim_matches('"')).collect();
        let place = "/usr/lib/valkey/modules/libvalkey_wbl.so";
        assert!(dockerfile.contains(&format!("release/libvalkey_wbl.so {place}\n")));
        let ["valkey-server", "--loadmodule", module, options @ ..] = &words[..] else { panic!("{words:?}") };
        assert_eq!(*module, place);
        let mut builder = ServerBuilder::with_module(version).unset("wbl.enabled").unset("wbl.debug-commands");
        for option in options.chunks(2) {
            builder = builder.set(option[0].trim_start_matches("--"), option[1]);
        }
        let mut server = builder.start();
        assert_eq!(server.raw().run("SET k v").text(), "OK");
        server.kill9();
        server.launch();
        assert_eq!(server.wait_answers().run("GET k").text(), "v");
        assert_eq!(server.wbl_info("wbl_state"), "active");
    }
}
