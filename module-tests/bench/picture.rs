//! Line charts as SVG. The vertical axis is logarithmic.

use std::fmt::Write;

/// A line.
pub struct Line {
    /// Its entry in the legend.
    pub title: String,
    /// Drawn in the module's colour.
    pub is_module: bool,
    /// Drawn with dashes.
    pub is_dashed: bool,
    /// In the axes' units.
    pub points: Vec<(f64, f64)>,
}

/// A chart.
pub struct Picture {
    /// What it shows.
    pub title: String,
    /// The horizontal axis.
    pub x: String,
    /// The vertical axis.
    pub y: String,
    /// The horizontal axis is logarithmic.
    pub is_x_log: bool,
    /// The lines.
    pub lines: Vec<Line>,
}

const WIDTH: f64 = 720.0;
const HEIGHT: f64 = 400.0;
const LEFT: f64 = 70.0;
const RIGHT: f64 = 20.0;
/// Of the legend.
const TOP: f64 = 40.0;
const LEGEND_LINE: f64 = 18.0;
const BOTTOM: f64 = 50.0;

/// An axis from one pixel to another.
struct Axis {
    is_log: bool,
    low: f64,
    high: f64,
    from: f64,
    to: f64,
}

impl Axis {
    fn new(values: impl Iterator<Item = f64> + Clone, is_log: bool, from: f64, to: f64) -> Axis {
        let (low, high) =
            values.fold((f64::INFINITY, f64::NEG_INFINITY), |(low, high), value| (low.min(value), high.max(value)));
        let (low, high) = if is_log { (low.max(1e-3) * 0.9, high.max(2e-3) * 1.1) } else { (low.min(0.0), high) };
        Axis { is_log, low, high, from, to }
    }

    fn at(&self, value: f64) -> f64 {
        let scale = |value: f64| if self.is_log { value.max(self.low).log10() } else { value };
        let share = (scale(value) - scale(self.low)) / (scale(self.high) - scale(self.low));
        self.from + share * (self.to - self.from)
    }

    /// Where there are lines with numbers.
    fn marks(&self) -> Vec<f64> {
        if !self.is_log {
            return (0..=self.high as u32).map(f64::from).filter(|mark| *mark >= self.low).collect();
        }
        let decades = (self.low.log10().floor() as i32)..=(self.high.log10().ceil() as i32);
        let marks = decades.flat_map(|decade| [1.0, 2.0, 5.0].map(|step| step * 10f64.powi(decade)));
        marks.filter(|mark| (self.low..=self.high).contains(mark)).collect()
    }
}

impl Picture {
    /// The document.
    pub fn svg(&self) -> String {
        let points = || self.lines.iter().flat_map(|line| line.points.iter());
        let x = Axis::new(points().map(|point| point.0), self.is_x_log, LEFT, WIDTH - RIGHT);
        let top = TOP + LEGEND_LINE * self.lines.len() as f64;
        let y = Axis::new(points().map(|point| point.1), true, HEIGHT - BOTTOM, top);
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {HEIGHT}\" font-family=\"sans-serif\" font-size=\"12\">\n\
             <rect width=\"{WIDTH}\" height=\"{HEIGHT}\" fill=\"white\"/>\n\
             <text x=\"{LEFT}\" y=\"22\" font-size=\"14\">{}</text>\n",
            self.title
        );
        for mark in x.marks() {
            let at = x.at(mark);
            let _ = writeln!(svg, "<path d=\"M{at:.1} {top:.1}V{:.1}\" stroke=\"#ddd\"/>", HEIGHT - BOTTOM);
            let _ = writeln!(
                svg,
                "<text x=\"{at:.1}\" y=\"{:.1}\" text-anchor=\"middle\">{}</text>",
                HEIGHT - BOTTOM + 16.0,
                number(mark)
            );
        }
        for mark in y.marks() {
            let at = y.at(mark);
            let _ = writeln!(svg, "<path d=\"M{LEFT} {at:.1}H{:.1}\" stroke=\"#ddd\"/>", WIDTH - RIGHT);
            let _ = writeln!(
                svg,
                "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
                LEFT - 6.0,
                at + 4.0,
                number(mark)
            );
        }
        let _ = writeln!(
            svg,
            "<text x=\"{:.1}\" y=\"{:.1}\" text-anchor=\"end\">{}</text>",
            WIDTH - RIGHT,
            HEIGHT - 14.0,
            self.x
        );
        let middle = (top + HEIGHT - BOTTOM) / 2.0;
        let _ = writeln!(
            svg,
            "<text transform=\"translate(16 {middle:.1}) rotate(-90)\" text-anchor=\"middle\">{}</text>",
            self.y
        );
        for (index, line) in self.lines.iter().enumerate() {
            draw(&mut svg, line, &x, &y, TOP + LEGEND_LINE * index as f64);
        }
        svg + "</svg>\n"
    }
}

fn draw(svg: &mut String, line: &Line, x: &Axis, y: &Axis, legend_at: f64) {
    let colour = if line.is_module { "#1764ab" } else { "#c0392b" };
    let dashes = if line.is_dashed { " stroke-dasharray=\"6 4\"" } else { "" };
    let path: Vec<String> =
        line.points.iter().map(|(at, value)| format!("{:.1} {:.1}", x.at(*at), y.at(*value))).collect();
    let style = format!("fill=\"none\" stroke=\"{colour}\" stroke-width=\"1.5\"{dashes}");
    let _ = writeln!(svg, "<path d=\"M{}\" {style}/>", path.join("L"));
    let _ = writeln!(svg, "<path d=\"M{} {legend_at:.1}h28\" {style}/>", LEFT + 10.0);
    let _ = writeln!(svg, "<text x=\"{:.1}\" y=\"{:.1}\">{}</text>", LEFT + 44.0, legend_at + 4.0, line.title);
}

fn number(value: f64) -> String {
    if value >= 1e6 {
        format!("{} M", value / 1e6)
    } else if value >= 1e3 {
        format!("{} k", value / 1e3)
    } else {
        format!("{}", (value * 1e6).round() / 1e6)
    }
}
