//! README's tables of settings and INFO fields are those of the code.

use crate::harness::printed::headings;
use crate::harness::{RawConnection, ServerBuilder, Version, each_version};
use std::collections::{BTreeMap, BTreeSet};

const README: &str = include_str!("../../README.md");

/// The cells of the rows of the table with this heading.
fn table(heading: &str) -> Vec<Vec<&'static str>> {
    let rows = README.lines().skip_while(|line| *line != heading).skip(2).take_while(|line| line.starts_with('|'));
    rows.map(|row| row.trim_matches('|').split(" | ").map(str::trim).collect()).collect()
}

/// The names in a cell, which stand in backquotes.
fn names(cell: &'static str) -> impl Iterator<Item = &'static str> {
    cell.split('`').skip(1).step_by(2)
}

fn settings(client: &mut RawConnection) -> BTreeMap<String, String> {
    let all = client.run("CONFIG GET wbl.*");
    all.items().chunks(2).map(|pair| (pair[0].text(), pair[1].text())).collect()
}

/// A number with a unit, as the server reads it.
fn bytes(text: &str) -> Option<i64> {
    let units = [("kb", 1 << 10), ("mb", 1 << 20), ("gb", 1 << 30), ("", 1)];
    units.iter().find_map(|(unit, factor)| Some(text.strip_suffix(unit)?.parse::<i64>().ok()? * factor))
}

/// What the bounds refuse, and what they allow.
fn bounds(text: &str) -> (Vec<String>, Vec<String>) {
    if let Some(min) = text.strip_suffix(" or more") {
        let min = bytes(min).expect("a number");
        return (vec![(min - 1).to_string()], vec![min.to_string()]);
    }
    if let Some((min, max)) = text.split_once(" to ") {
        let [min, max] = [min, max].map(|bound| bytes(bound).expect("a number"));
        return (vec![(min - 1).to_string(), (max + 1).to_string()], vec![min.to_string(), max.to_string()]);
    }
    match text {
        "letters" => (vec!["?".into()], vec!["KEA".into(), String::new()]),
        "a path" => (vec![], vec![]),
        names => (vec!["neither".into()], names.split(", ").map(String::from).collect()),
    }
}

#[test]
fn every_command_is_followed_by_a_test() {
    for heading in headings(README) {
        let call = format!("README, {heading:?}");
        let tests = [include_str!("newcomer.rs"), include_str!("packages.rs")];
        assert!(tests.iter().any(|test| test.contains(&call)), "no test follows '{heading}'");
    }
}

each_version! {
    fn the_table_of_settings_is_that_of_the_code(version: Version) {
        let builder = ServerBuilder::with_module(version).allow_warning("");
        let server = builder.unset("wbl.enabled").unset("wbl.debug-commands").unset("wbl.commit-mode").start();
        let mut client = server.raw();
        let mut found = settings(&mut client);
        for row in table("| setting | default | bounds | changeable | |") {
            let [name, default, allowed, changeable, text] = row[..] else { panic!("{row:?}") };
            let name = name.trim_matches('`');
            let value = found.remove(name).unwrap_or_else(|| panic!("there is no setting {name}"));
            let default = default.trim_matches('"');
            assert_eq!(bytes(default).map_or(default.into(), |bytes| bytes.to_string()), value, "{name}: default");
            assert!(!text.is_empty(), "{name}");
            let mut set = |value: &str| format!("{:?}", client.call(&["CONFIG", "SET", name, value]));
            let is_fixed = set(&value).contains("immutable");
            assert_eq!(changeable, if is_fixed { "at the start" } else { "at any time" }, "{name}");
            if is_fixed {
                continue;
            }
            let (refused, allowed) = bounds(allowed);
            refused.iter().for_each(|value| assert!(set(value).starts_with('-'), "{name} {value} is not refused"));
            allowed.iter().for_each(|value| assert_eq!(set(value), "+OK", "{name} {value}"));
            assert_eq!(set(&value), "+OK", "{name} {value}");
        }
        assert!(found.is_empty(), "not in README: {found:?}");
    }

    fn the_bounds_of_settings_that_are_fixed_at_the_start_are_those_of_the_code(version: Version) {
        for row in table("| setting | default | bounds | changeable | |") {
            let (name, (refused, allowed)) = (row[0].trim_matches('`'), bounds(row[2]));
            if row[3] != "at the start" {
                continue;
            }
            for value in refused {
                let builder = ServerBuilder::with_module(version).set(name, &value).allow_warning("");
                let mut server = builder.prepare();
                server.launch();
                assert!(!server.wait_exit().success(), "{name} {value}");
            }
            for value in allowed {
                ServerBuilder::with_module(version).set(name, &value).in_memory().start();
            }
        }
    }

    fn the_table_of_info_fields_is_that_of_the_code(version: Version) {
        let server = ServerBuilder::with_module(version).start();
        let info = server.raw().run("INFO wbl").text();
        let found: BTreeSet<&str> =
            info.lines().filter_map(|line| line.split_once(':')).map(|(name, _)| name).collect();
        let rows = table("| field | unit | meaning | do |");
        let documented: Vec<&str> = rows.iter().flat_map(|row| names(row[0])).collect();
        let is = |documented: &str, field: &str| match documented.strip_suffix('*') {
            Some(begins) => field.starts_with(begins),
            None => field == documented,
        };
        for field in &found {
            assert!(documented.iter().any(|name| is(name, field)), "{field} is not in README");
        }
        for name in documented {
            assert!(found.iter().any(|field| is(name, field)), "INFO has no {name}");
        }
        for row in rows {
            assert!(row.len() == 4 || row.len() == 3, "{row:?}");
            assert!(!row[1].is_empty() && !row[2].is_empty(), "{row:?}");
        }
        // WBL.STATUS has the same.
        let status = server.raw().run("WBL.STATUS");
        assert_eq!(status.items().len() / 2, found.len());
    }
}
