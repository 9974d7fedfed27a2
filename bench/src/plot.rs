//! A bar chart as SVG: one bar per name, with the interval of its median as a line.

use std::fmt::Write as _;

use crate::statistics::Estimate;

const LEFT: f64 = 290.0;
const WIDTH: f64 = 420.0;
const ROW: f64 = 26.0;
const TOP: f64 = 44.0;

/// The chart; `unit` stands behind the title.
pub(crate) fn bars(title: &str, unit: &str, rows: &[(&str, Estimate)]) -> String {
    let most = rows.iter().map(|(_, row)| row.high).fold(1e-9, f64::max);
    let x = |value: f64| LEFT + value.max(0.0) / most * WIDTH;
    let height = TOP + ROW * rows.len() as f64 + 14.0;
    let mut svg = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 800 {height}\" font-family=\"sans-serif\" font-size=\"13\">\n\
         <rect width=\"800\" height=\"{height}\" fill=\"white\"/>\n\
         <text x=\"12\" y=\"24\" font-size=\"15\">{} ({unit})</text>\n",
        escaped(title)
    );
    for (number, (name, row)) in rows.iter().enumerate() {
        let y = TOP + ROW * number as f64;
        let color = if name.starts_with("ombre") {
            "#5b4b8a"
        } else {
            "#9aa5b1"
        };
        let (bar, middle) = (x(row.median) - LEFT, y + 9.0);
        writeln!(
            svg,
            "<text x=\"{}\" y=\"{}\" text-anchor=\"end\">{}</text>\
             <rect x=\"{LEFT}\" y=\"{y}\" width=\"{bar:.1}\" height=\"18\" fill=\"{color}\"/>\
             <path d=\"M{:.1} {middle}H{:.1}\" stroke=\"black\"/>\
             <text x=\"{:.1}\" y=\"{}\">{:.1}</text>",
            LEFT - 8.0,
            y + 14.0,
            escaped(name),
            x(row.low),
            x(row.high),
            x(row.high) + 6.0,
            y + 14.0,
            row.median,
        )
        .ok();
    }
    svg.push_str("</svg>\n");
    svg
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;")
}
