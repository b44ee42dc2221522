//! One table of milliseconds, three times: printed, as CSV, and drawn as bars on a logarithmic scale.

use std::fmt::Write as _;
use std::fs;

use plotters::coord::Shift;
use plotters::prelude::*;

/// One figure.
pub struct Row {
    pub label: String,
    pub column: String,
    pub ms: f64,
}

impl Row {
    pub fn new(label: &str, column: &str, ms: f64) -> Self {
        Self {
            label: label.to_owned(),
            column: column.to_owned(),
            ms,
        }
    }
}

const WIDTH: u32 = 960;
const BAR: i32 = 14;
const LEFT: i32 = 330;
const RIGHT: i32 = 90;
const TOP: i32 = 40;
const SHADES: [RGBColor; 4] = [
    RGBColor(120, 160, 200),
    RGBColor(200, 90, 60),
    RGBColor(150, 150, 150),
    RGBColor(60, 60, 60),
];

/// Prints it and writes `target/bench/NAME.csv` and `.svg`.
pub fn write(name: &str, title: &str, rows: &[Row]) -> Result<(), String> {
    let folder = crate::bench::folder()?;
    let columns = columns(rows);
    let mut csv = format!(
        "what,{}\n",
        columns
            .iter()
            .map(|c| format!("{c}_ms"))
            .collect::<Vec<_>>()
            .join(",")
    );
    println!("{title}");
    for label in labels(rows) {
        let value = |column: &&str| {
            rows.iter()
                .find(|r| r.label == label && r.column == **column)
                .map_or(f64::NAN, |r| r.ms)
        };
        let values: Vec<f64> = columns.iter().map(value).collect();
        let shown: Vec<String> = columns
            .iter()
            .zip(&values)
            .map(|(c, ms)| format!("{c} {:>9}", crate::bench::shown(*ms)))
            .collect();
        println!("  {label:<44} {}", shown.join("  "));
        let cells: Vec<String> = values.iter().map(|ms| format!("{ms:.1}")).collect();
        let _ = writeln!(csv, "\"{label}\",{}", cells.join(","));
    }
    let at = |ending: &str| folder.join(format!("{name}.{ending}"));
    fs::write(at("csv"), csv).map_err(|e| e.to_string())?;
    fs::write(at("svg"), draw(title, rows)?).map_err(|e| e.to_string())?;
    println!("  written: target/bench/{name}.csv, target/bench/{name}.svg");
    Ok(())
}

fn labels(rows: &[Row]) -> Vec<&str> {
    let mut labels: Vec<&str> = Vec::new();
    for row in rows {
        if !labels.contains(&&*row.label) {
            labels.push(&row.label);
        }
    }
    labels
}

fn columns(rows: &[Row]) -> Vec<&str> {
    let mut columns: Vec<&str> = Vec::new();
    for row in rows {
        if !columns.contains(&&*row.column) {
            columns.push(&row.column);
        }
    }
    columns
}

/// A picture in SVG.
fn draw(title: &str, rows: &[Row]) -> Result<String, String> {
    let height = u32::try_from(TOP + (rows.len() as i32 + labels(rows).len() as i32) * BAR + 20)
        .unwrap_or(400);
    let mut svg = String::new();
    {
        let area = SVGBackend::with_string(&mut svg, (WIDTH, height)).into_drawing_area();
        area.fill(&WHITE).map_err(|e| e.to_string())?;
        bars(&area, title, rows).map_err(|e| e.to_string())?;
        area.present().map_err(|e| e.to_string())?;
    }
    Ok(svg)
}

type Area<'a> = DrawingArea<SVGBackend<'a>, Shift>;

fn bars(area: &Area<'_>, title: &str, rows: &[Row]) -> Result<(), Box<dyn std::error::Error>> {
    let most = rows.iter().map(|r| r.ms).fold(10.0, f64::max);
    // From a tenth of a millisecond: twice the length is ten times as long, not twice.
    let length = |ms: f64| {
        let share = (ms.max(0.1) * 10.0).log10() / (most * 10.0).log10();
        (share * f64::from(WIDTH as i32 - LEFT - RIGHT)) as i32
    };
    let text = |size: i32| ("sans-serif", size).into_font().color(&BLACK);
    area.draw(&Text::new(
        format!("{title} (ms, logarithmic)"),
        (10, 10),
        text(15),
    ))?;
    let columns = columns(rows);
    let mut y = TOP;
    for label in labels(rows) {
        area.draw(&Text::new(label.to_owned(), (10, y), text(12)))?;
        for row in rows.iter().filter(|r| r.label == label) {
            let shade = columns.iter().position(|c| *c == row.column).unwrap_or(0) % SHADES.len();
            let to = LEFT + length(row.ms).max(1);
            area.draw(&Rectangle::new(
                [(LEFT, y), (to, y + BAR - 2)],
                SHADES[shade].filled(),
            ))?;
            let said = format!("{} {}", row.column, crate::bench::shown(row.ms));
            area.draw(&Text::new(said, (to + 4, y), text(11)))?;
            y += BAR;
        }
        y += BAR;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Goal: every figure is in the picture, and the picture is one.
    #[test]
    fn a_picture_shows_every_figure() {
        let rows = [
            Row::new("a, kill", "median", 12.3),
            Row::new("a, kill", "worst", 456.0),
            Row::new("b", "median", 0.0),
        ];
        let svg = draw("title", &rows).expect("drawn");
        assert!(
            svg.starts_with("<svg") && svg.trim_end().ends_with("</svg>"),
            "{svg}"
        );
        for words in [
            "title",
            "a, kill",
            "median 12.3 ms",
            "worst 456 ms",
            "median 0.0 ms",
        ] {
            assert!(svg.contains(words), "{words}: {svg}");
        }
    }
}
