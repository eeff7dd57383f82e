//! The fields of INFO in the form in which Prometheus reads metrics:
//! <https://prometheus.io/docs/instrumenting/exposition_formats/>.

use super::table::{Kind, Row, row};
use std::fmt::Write;
use std::time::Duration;

/// 16 microseconds to 34 seconds.
const FLUSH_LIMITS_LOG2: std::ops::RangeInclusive<u32> = 4..=25;

/// Metrics of one name.
struct Family {
    name: String,
    kind: &'static str,
    help: String,
    /// What follows the name, and the value.
    samples: Vec<(String, String)>,
}

/// Metrics, each name once, in the order in which they came.
#[derive(Default)]
struct Families(Vec<Family>);

impl Families {
    fn add(&mut self, name: &str, kind: &'static str, help: &str, label: &str, value: impl ToString) {
        let index = self.0.iter().position(|family| family.name == name).unwrap_or(self.0.len());
        if index == self.0.len() {
            self.0.push(Family { name: name.into(), kind, help: help.into(), samples: Vec::new() });
        }
        if let Some(family) = self.0.get_mut(index) {
            family.samples.push((label.into(), value.to_string()));
        }
    }

    fn text(&self) -> String {
        let mut text = String::new();
        for Family { name, kind, help, samples } in &self.0 {
            // A String takes all that is written to it.
            let _ = write!(text, "# HELP {name} {}\n# TYPE {name} {kind}\n", help.replace('\\', "\\\\"));
            for (rest, value) in samples {
                let _ = writeln!(text, "{name}{rest} {value}");
            }
        }
        text
    }
}

/// The page of metrics: of this text of INFO, or of a server that could not be asked.
pub fn page(info: Option<&str>, took: Duration) -> String {
    let mut families = Families::default();
    let help = "1 when the server answers and has the module, else 0: then there are no other fields.";
    families.add("wbl_up", "gauge", help, "", u8::from(info.is_some()));
    let help = "How long it took to ask the server.";
    families.add("wbl_scrape_duration_seconds", "gauge", help, "", took.as_secs_f64());
    if let Some(info) = info {
        add_server(&mut families, info);
        let fields = info.lines().filter_map(|line| line.trim_end_matches('\r').split_once(':'));
        fields
            .filter(|(name, _)| name.starts_with("wbl_"))
            .for_each(|(name, value)| add(&mut families, info, name, value));
    }
    families.text()
}

/// A field of INFO.
fn field<'i>(info: &'i str, name: &str) -> Option<&'i str> {
    let rest = |line: &'i str| line.strip_prefix(name)?.strip_prefix(':');
    info.lines().find_map(rest).map(|value| value.trim_end_matches('\r'))
}

fn label(name: &str, value: &str) -> String {
    labels(&[(name, value)])
}

fn labels(labels: &[(&str, &str)]) -> String {
    let one = |(name, value): &(&str, &str)| {
        let value = value.replace('\\', "\\\\").replace('"', "\\\"").replace('\n', "\\n");
        format!("{name}=\"{value}\"")
    };
    format!("{{{}}}", labels.iter().map(one).collect::<Vec<_>>().join(","))
}

fn add_server(families: &mut Families, info: &str) {
    let of = |name| field(info, name).unwrap_or_default();
    let labels = labels(&[("role", of("role")), ("version", of("valkey_version"))]);
    families.add("wbl_server_info", "gauge", "1, with the server's role and version.", &labels, 1);
    if let Ok(seconds) = of("uptime_in_seconds").parse::<u64>() {
        families.add("wbl_server_uptime_seconds", "gauge", "How long the server has run.", "", seconds);
    }
}

/// Adds the metrics of a field.
fn add(families: &mut Families, info: &str, name: &str, value: &str) {
    let Some(Row { kind, help, .. }) = row(name) else {
        // From a newer module: it is unknown whether it only grows.
        if value.parse::<f64>().is_ok() {
            families.add(name, "untyped", &format!("The field {name} of INFO."), "", value);
        }
        return;
    };
    match kind {
        Kind::Gauge if value.parse::<f64>().is_ok() => families.add(name, "gauge", help, "", value),
        Kind::Counter if value.parse::<u64>().is_ok() => {
            families.add(&counter(name), "counter", help, "", value);
        }
        Kind::ByReason(prefix) if value.parse::<u64>().is_ok() => {
            let reason = label("reason", name.strip_prefix(prefix).unwrap_or(name));
            families.add(&counter(prefix.trim_end_matches('_')), "counter", help, &reason, value);
        }
        Kind::Word(words) => {
            let known = words.iter().copied().filter(|word| *word != value);
            if !value.is_empty() {
                families.add(name, "gauge", help, &label("value", value), 1);
            }
            known.for_each(|word| families.add(name, "gauge", help, &label("value", word), 0));
        }
        Kind::YesNo => families.add(name, "gauge", help, "", u8::from(value == "yes")),
        Kind::IsThere => families.add(name, "gauge", help, "", u8::from(!value.is_empty())),
        Kind::Histogram { name, sum } => add_histogram(families, name, help, value, field(info, sum)),
        Kind::Left | Kind::Gauge | Kind::Counter | Kind::ByReason(_) => {}
    }
}

/// The name of a counter: `_count`, which belongs to histograms, gives way.
fn counter(name: &str) -> String {
    format!("{}_total", name.strip_suffix("_count").unwrap_or(name))
}

/// Of `MICROSECONDS=COUNT,...`, where each count has those before it, and the last one all. The limits are always the
/// same, because they are names of series.
fn add_histogram(families: &mut Families, name: &str, help: &str, text: &str, sum_us: Option<&str>) {
    let limit = |pair: &str| {
        let (us, count) = pair.split_once('=')?;
        Some((us.parse::<u64>().ok()?, count.parse::<u64>().ok()?))
    };
    let found: Vec<(u64, u64)> = text.split(',').filter_map(limit).collect();
    let up_to = |us: u64| found.iter().rfind(|(limit, _)| *limit <= us).map_or(0, |(_, count)| *count);
    let seconds = |us: u64| us as f64 / 1e6;
    for us in FLUSH_LIMITS_LOG2.map(|exponent| 1_u64 << exponent) {
        let le = label("le", &seconds(us).to_string());
        families.add(name, "histogram", help, &format!("_bucket{le}"), up_to(us));
    }
    let all = up_to(u64::MAX);
    families.add(name, "histogram", help, "_bucket{le=\"+Inf\"}", all);
    if let Some(us) = sum_us.and_then(|us| us.parse().ok()) {
        families.add(name, "histogram", help, "_sum", seconds(us));
    }
    families.add(name, "histogram", help, "_count", all);
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(lines: &str) -> String {
        page(Some(lines), Duration::from_millis(5))
    }

    #[test]
    fn histograms_are_cumulative_and_in_seconds() {
        let page = of("wbl_flush_total_usec:6100\r\nwbl_flush_usec_histogram:512=1,1024=3,2048=3\r\n");
        let of_le = |le: &str| {
            let line = format!("wbl_flush_seconds_bucket{{le=\"{le}\"}} ");
            page.lines().find_map(|found| found.strip_prefix(&line)).map(str::to_string)
        };
        let limits = ["0.000016", "0.000256", "0.000512", "0.001024", "0.002048", "33.554432", "+Inf"];
        let counts = limits.map(|le| of_le(le).unwrap_or_default());
        assert_eq!(counts, ["0", "0", "1", "3", "3", "3", "3"]);
        assert!(page.contains("wbl_flush_seconds_sum 0.0061\nwbl_flush_seconds_count 3\n"), "{page}");
        assert!(of("wbl_flush_usec_histogram:\r\n").contains("wbl_flush_seconds_bucket{le=\"+Inf\"} 0\n"));
    }

    #[test]
    fn texts_become_numbers_and_labels() {
        let page = of(
            "role:master\r\nwbl_state:active\r\nwbl_safe:no\r\nwbl_failure:disk \"x\"\r\nwbl_disk_error:\r\nwbl_io_mode:\r\n",
        );
        for line in [
            "wbl_server_info{role=\"master\",version=\"\"} 1",
            "wbl_state{value=\"active\"} 1",
            "wbl_state{value=\"failing\"} 0",
            "wbl_safe 0",
            "wbl_failure 1",
            "wbl_disk_error 0",
            "wbl_io_mode{value=\"direct\"} 0",
        ] {
            assert!(page.lines().any(|found| found == line), "{line}: {page}");
        }
        assert!(!page.contains("disk \"x") && !page.contains("{value=\"\"}"), "{page}");
    }

    #[test]
    fn fields_of_a_newer_module_are_kept_where_they_are_numbers() {
        let page = of("wbl_new:7\r\nwbl_other:word\r\n");
        assert!(page.contains("# TYPE wbl_new untyped\nwbl_new 7\n") && !page.contains("wbl_other"), "{page}");
    }
}
