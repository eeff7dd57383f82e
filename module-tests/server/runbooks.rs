//! The runbooks of docs/operations.md: their commands as they are printed, with other paths and ports, on a system that
//! has servers started by `systemctl`, and what is printed after them.

use crate::harness::printed::headings;
use crate::harness::{System, Version, each_version, paths};
use std::fs;

const OPERATIONS: &str = include_str!("../../docs/operations.md");

fn follow(system: &System, heading: &str) {
    system.follow(OPERATIONS, heading);
}

#[test]
fn every_runbook_is_followed_here() {
    for heading in headings(OPERATIONS) {
        let call = format!("follow(&system, {heading:?})");
        assert!(include_str!("runbooks.rs").contains(&call), "no test follows '{heading}'");
    }
}

each_version! {
    fn are_data_safe_now(version: Version) {
        let system = System::serving(version, "");
        follow(&system, "Are data safe now?");
    }

    fn watch_it_with_prometheus(version: Version) {
        let system = System::serving(version, "");
        follow(&system, "Watch it with Prometheus");
    }

    fn disk_full(version: Version) {
        let system = System::serving(version, "wbl.max-log-bytes 64kb");
        system.run("valkey-cli wbl.backup start");
        let set = "head -c 40000 /dev/zero | tr '\\0' x | valkey-cli -x set big";
        system.run(&format!("{set} && {set} | grep -q MISCONF"));
        follow(&system, "Disk full");
        assert_eq!(system.run("valkey-cli wbl.backup status"), "");
    }

    fn a_failing_disk(version: Version) {
        let system = System::serving(version, "repl-diskless-sync-delay 0");
        follow(&system, "A failing disk");
        assert!(fs::metadata(system.path("/var/backups/rescue.rdb")).is_ok_and(|file| file.len() > 0));
    }

    fn slow_disk(version: Version) {
        let system = System::serving(version, "");
        follow(&system, "Slow disk");
    }

    fn the_server_refuses_to_start(version: Version) {
        let system = System::serving(version, "");
        system.run("valkey-cli append other v");
        system.run("systemctl stop valkey-server && echo 'rename-command APPEND \"\"' >> /etc/valkey/valkey.conf");
        system.run("! systemctl start valkey-server");
        follow(&system, "The server refuses to start");
        assert_eq!(system.run("valkey-cli get k; valkey-cli exists other"), "v\n0");
        assert_eq!(system.run("ls /var/lib/valkey/copy-*/wbl/appendonly.aof.manifest | wc -l"), "1");
        system.run("systemctl restart valkey-server");
    }

    fn a_damaged_log(version: Version) {
        let system = System::serving(version, "");
        system.run("valkey-cli set damaged 1 && valkey-cli set later 1 && systemctl stop valkey-server");
        let segment = system.path("/var/lib/valkey/wbl/appendonly.aof.1.incr.aof");
        let mut bytes = fs::read(&segment).expect("the segment");
        let at = bytes.windows(7).position(|found| found == b"damaged").expect("the key");
        bytes[at] = b'D';
        fs::write(&segment, bytes).expect("a damaged segment");
        system.run("! systemctl start valkey-server");
        follow(&system, "A damaged log");
        assert_eq!(system.run("valkey-cli get k; valkey-cli exists damaged later"), "v\n0");
        assert_eq!(system.run("ls /var/lib/valkey/copy-*/wbl/appendonly.aof.manifest | wc -l"), "1");
        assert_eq!(system.run("cat /var/lib/valkey/wbl/cut-by-repair-*/* | grep -c later"), "1");
    }

    fn backup_and_restore(version: Version) {
        let system = System::serving(version, "save 3600 1000000");
        // The newest of several counts.
        for (value, number) in [("first", "1"), ("second", "2")] {
            system.run(&format!("valkey-cli set k {value}"));
            follow(&system, "Backup");
            assert_eq!(system.run("valkey-cli wbl.backup status"), "");
            system.run("valkey-cli set k after && valkey-cli set other after && valkey-cli save");
            follow(&system, "Restore");
            assert_eq!(system.run("valkey-cli get k; valkey-cli exists other"), format!("{value}\n0"));
            assert_eq!(system.run("ls -d /var/lib/valkey/before-*/wbl | wc -l"), number);
        }
    }

    fn fail_over(version: Version) {
        let system = System::serving(version, "repl-diskless-sync-delay 0");
        system.run(
            "mkdir /var/lib/valkey/replica && sed -e 's/^port.*/port 6380/; s/^pidfile.*/pidfile \
             REPLICA/; s/^dir .*/dir FOLDER/' /etc/valkey/valkey.conf > /etc/valkey/replica.conf",
        );
        let conf = system.path("/etc/valkey/replica.conf");
        let text = fs::read_to_string(&conf).expect("a configuration");
        let text = text.replace("REPLICA", &system.text("/etc/valkey/replica.pid"));
        let text = text.replace("FOLDER", &system.text("/var/lib/valkey/replica"));
        fs::write(&conf, format!("{text}\nreplicaof 127.0.0.1 {}\n", system.ports[0])).expect("a configuration");
        system.run("valkey-server /etc/valkey/replica.conf");
        system.run("timeout 20 sh -c 'until valkey-cli -p 6380 role | grep -q connected; do sleep 0.1; done'");
        follow(&system, "Fail-over");
        assert_eq!(system.run("valkey-cli -p 6380 get k"), "v");
    }

    fn from_the_append_only_file_to_the_log_and_back(version: Version) {
        let system = System::new(version);
        system.configure("save \"\"\nappendonly yes\nenable-module-command local");
        system.run("systemctl start valkey-server && valkey-cli set k v && valkey-cli lpush list a b");
        follow(&system, "From `appendonly yes` to the log");
        assert_eq!(system.run("valkey-cli get k; valkey-cli waitaof 1 0 0; valkey-cli llen list"), "v\n1\n0\n2");
        system.run("valkey-cli set after change");
        follow(&system, "Back to the append-only file");
        assert_eq!(system.run("valkey-cli get k; valkey-cli get after; valkey-cli module list | grep -c wbl; true"), "v\nchange\n0");
    }

    fn upgrade(version: Version) {
        let system = System::serving(version, "");
        fs::copy(paths::module(), system.path("/libvalkey_wbl.so")).expect("the module");
        follow(&system, "Upgrade and downgrade");
        assert_eq!(system.run("valkey-cli get k"), "v");
    }

    fn sizing(version: Version) {
        let system = System::serving(version, "");
        follow(&system, "Sizing");
    }

    fn look_at_a_log(version: Version) {
        let system = System::serving(version, "");
        system.run("valkey-cli set user:17 a && valkey-cli flushdb && valkey-cli set user:17 b");
        follow(&system, "Look at a log");
        assert_eq!(system.run("wbl history /var/lib/valkey/wbl user:17 | grep -c user:17"), "2");
        assert_eq!(system.run("wbl stat --json /var/lib/valkey/compacted | grep -c base"), "1");
    }

    fn point_in_time(version: Version) {
        let system = System::serving(version, "");
        system.run("valkey-cli set other before && valkey-cli flushall && valkey-cli set later 1");
        follow(&system, "Point in time");
        assert_eq!(system.run("valkey-cli mget k other later"), "v\nbefore\n1");
        // Up to the mistake, as a stock server loads it.
        system.run("systemctl stop valkey-server");
        system.configure("appendonly yes\nappenddirname before-mistake");
        system.run("systemctl start valkey-server");
        assert_eq!(system.run("valkey-cli mget k other; valkey-cli exists later"), "v\nbefore\n0");
    }
}
