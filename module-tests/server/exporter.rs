//! `wbl exporter`: what Prometheus reads, and what alert rules and dashboard make of it.

use crate::harness::tool::exporter::{Exporter, Page};
use crate::harness::{PATIENCE, ServerBuilder, Version, each_version, wait_until};
use std::collections::BTreeSet;
use std::io::{Read, Write};
use std::net::TcpStream;

const ALERTS: &str = include_str!("../../docs/alerts.yml");
const DASHBOARD: &str = include_str!("../../docs/grafana.json");
const OPERATIONS: &str = include_str!("../../docs/operations.md");
/// Fields that are words for people, or a part of another metric.
const NOT_EXPORTED: [&str; 4] = ["wbl_safe_why", "wbl_safe_advice", "wbl_flush_usec_histogram", "wbl_flush_total_usec"];

/// The names of metrics in a text.
fn metrics(text: &str) -> BTreeSet<&str> {
    let words = text.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
    words.filter(|word| word.starts_with("wbl_")).collect()
}

/// What the labels of this name are compared with in a text: `role="master"`.
fn values<'t>(text: &'t str, label: &str) -> Vec<&'t str> {
    let quote = |rest: &'t str| rest.split('"').next().unwrap();
    let starts = [format!("{label}=\""), format!("{label}=\\\"")];
    starts
        .iter()
        .flat_map(|start| text.split(start.as_str()).skip(1).map(quote))
        .map(|v| v.trim_end_matches('\\'))
        .collect()
}

each_version! {
    fn every_field_of_info_is_exported_with_its_type(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        (0..20).for_each(|number| drop(client.run(&format!("SET k {number}"))));
        wait_until("no flush is under way", PATIENCE, || server.wbl_info("wbl_inflight_flushes") == "0");
        let page = Exporter::of_socket(&server).page();
        let info = client.run("INFO wbl").text();
        for (name, value) in info.lines().filter_map(|line| line.trim_end().split_once(':')) {
            let by_reason = ["wbl_waits_", "wbl_wait_usec_"].into_iter().find(|begin| name.starts_with(begin));
            let (metric, label) = match by_reason {
                Some(begin) => (begin.trim_end_matches('_'), format!("{{reason=\"{}\"}}", &name[begin.len()..])),
                None => (name, String::new()),
            };
            let counter = format!("{}_total", metric.strip_suffix("_count").unwrap_or(metric));
            let metric = if page.has(&counter) { &counter } else { metric };
            assert!(page.has(metric) || NOT_EXPORTED.contains(&name), "{name} is not exported");
            assert_ne!(page.kinds.get(metric).map(String::as_str), Some("untyped"), "the exporter does not know {name}");
            // Nothing happens meanwhile: what is a number has that value. The exporter is a client itself.
            if let (Ok(number), Some(sample)) = (value.parse::<f64>(), page.samples.get(&format!("{metric}{label}"))) {
                let is_time = name.contains("usec") || name.contains("_us") || name.ends_with("_ms");
                let differs = is_time || name == "wbl_clients";
                assert!(number == *sample || differs, "{name}: {number} is {sample}");
            }
        }
        assert_eq!(page.value("wbl_units_total"), 20.0);
        assert_eq!(page.value("wbl_flush_seconds_count"), page.value("wbl_log_syncs_total"));
        assert!(page.value("wbl_flush_seconds_sum") > 0.0);
        assert_eq!((page.value("wbl_up"), page.value("wbl_safe")), (1.0, 1.0));
        assert_eq!((page.value("wbl_state{value=\"active\"}"), page.value("wbl_state{value=\"failing\"}")), (1.0, 0.0));
    }

    fn alert_rules_and_dashboard_name_what_is_exported(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let page = Exporter::of_socket(&server).page();
        for (file, text) in [("docs/alerts.yml", ALERTS), ("docs/grafana.json", DASHBOARD)] {
            // Below the head, which speaks of the names of fields.
            let names = metrics(text.split("groups:").last().unwrap());
            assert!(names.len() > 8, "{file}: {names:?}");
            for name in names {
                assert!(page.has(name), "{file}: {name} is not exported");
            }
            for value in values(text, "value") {
                assert!(page.text.contains(&format!("value=\"{value}\"")), "{file}: {value}");
            }
            for role in values(text, "role") {
                assert!(page.text.contains(&format!("role=\"{role}\"")), "{file}: {role}");
            }
        }
        // A rate is taken of counters only, and of each that stands there.
        let rules = ALERTS.split("groups:").last().unwrap();
        for (before, after) in rules.match_indices("_total").map(|(at, _)| rules.split_at(at)) {
            assert!(before.rsplit(' ').next().unwrap().contains('(') && after.starts_with("_total["), "{after}");
        }
        for runbook in ALERTS.lines().filter_map(|line| line.trim().strip_prefix("runbook: docs/operations.md, ")) {
            let heading = format!("## {}\n", runbook.trim_matches('"'));
            assert!(OPERATIONS.contains(&heading), "no runbook {runbook}");
        }
    }

    fn a_server_out_of_reach_is_down_until_it_is_back(version: Version) {
        let mut server = ServerBuilder::with_module(version).set("enable-module-command", "yes").start();
        let exporter = Exporter::of_socket(&server);
        assert_eq!(exporter.page().value("wbl_up"), 1.0);
        server.kill9();
        let page = exporter.page();
        assert_eq!(page.value("wbl_up"), 0.0);
        assert!(!page.has("wbl_safe"), "{}", page.text);
        server.start();
        assert_eq!(exporter.page().value("wbl_up"), 1.0);
        // One that takes connections and does not answer.
        server.signal("STOP");
        let page = exporter.page();
        server.signal("CONT");
        assert_eq!(page.value("wbl_up"), 0.0);
        assert!(exporter.errors().contains("no answer in time"), "{}", exporter.errors());
        wait_until("the server answers again", PATIENCE, || exporter.page().value("wbl_up") == 1.0);
        server.raw().run("MODULE UNLOAD wbl");
        assert_eq!(exporter.page().value("wbl_up"), 0.0);
        assert!(exporter.errors().contains("is the module loaded?"), "{}", exporter.errors());
    }

    fn a_server_whose_queue_of_connections_is_full_holds_up_nobody(version: Version) {
        let server = ServerBuilder::with_module(version).set("tcp-backlog", "1").start();
        let exporter = Exporter::of_socket(&server);
        server.signal("STOP");
        let pages: Vec<Page> = (0..6).map(|_| exporter.page()).collect();
        server.signal("CONT");
        assert!(pages.iter().all(|page| page.value("wbl_up") == 0.0));
        wait_until("the server answers again", PATIENCE, || exporter.page().value("wbl_up") == 1.0);
    }

    fn a_user_with_the_right_to_info_is_enough(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let mut client = server.raw();
        client.run("ACL SETUSER watcher on >secret +info");
        client.run("CONFIG SET requirepass other");
        let file = server.folder().join("password");
        std::fs::write(&file, "secret\n").unwrap();
        let words = ["--user", "watcher", "--password-file", file.to_str().unwrap()];
        assert_eq!(Exporter::start(&server, &words).page().value("wbl_up"), 1.0);
        std::fs::write(&file, "wrong\n").unwrap();
        let exporter = Exporter::start(&server, &words);
        assert_eq!(exporter.page().value("wbl_up"), 0.0);
        assert!(exporter.errors().contains("WRONGPASS"), "{}", exporter.errors());
        // The password is that of now.
        std::fs::write(&file, "secret\n").unwrap();
        assert_eq!(exporter.page().value("wbl_up"), 1.0);
        assert_eq!(Exporter::of_socket(&server).page().value("wbl_up"), 0.0);
    }

    fn clients_that_send_nothing_are_given_up(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let exporter = Exporter::of_socket(&server);
        let silent: Vec<TcpStream> = (0..8).map(|_| TcpStream::connect(exporter.address()).unwrap()).collect();
        // They have the workers, and lose them.
        assert_eq!(exporter.page().value("wbl_up"), 1.0);
        for mut client in silent {
            client.set_read_timeout(Some(PATIENCE)).unwrap();
            assert_eq!(client.read(&mut [0]).unwrap_or(0), 0);
        }
        let answer = |request: &[u8]| {
            let mut client = TcpStream::connect(exporter.address()).unwrap();
            client.write_all(request).unwrap();
            let mut answer = String::new();
            client.read_to_string(&mut answer).unwrap();
            answer.lines().next().unwrap_or_default().to_string()
        };
        assert_eq!(answer(b"GET / HTTP/1.1\r\n\r\n"), "HTTP/1.1 200 OK");
        assert_eq!(answer(b"GET /other HTTP/1.1\r\n\r\n"), "HTTP/1.1 404 Not Found");
        assert_eq!(answer(b"POST /metrics HTTP/1.1\r\n\r\n"), "HTTP/1.1 405 Method Not Allowed");
        assert_eq!(answer(b"nothing\r\n\r\n"), "HTTP/1.1 400 Bad Request");
        // A head without an end is read up to 8 KB.
        let mut client = TcpStream::connect(exporter.address()).unwrap();
        client.set_read_timeout(Some(PATIENCE)).unwrap();
        let _ = client.write_all(&[b'a'; 1 << 16]);
        let _ = client.read_to_end(&mut Vec::new());
        assert_eq!(exporter.page().value("wbl_up"), 1.0);
    }
}
