//! How the small curves of the pages are drawn.
//! Keeps no points: `api/picture/curve.rs` does.

use std::fmt::Write as _;

use maud::{Markup, html};

use crate::api::picture::curve::POINTS_MAX;

/// Of a drawn curve, in its own units.
const WIDTH: usize = 2 * POINTS_MAX;
const HEIGHT: u64 = 32;

/// Draws points, the newest at the end; `label` says in words what is drawn. `bound`: where a line is drawn across.
pub fn draw(points: &[Option<u64>], bound: Option<u64>, label: &str) -> Markup {
    let known = || points.iter().flatten().copied();
    let top = known().chain(bound).max().unwrap_or(0).max(1);
    let y = |value: u64| HEIGHT - (value.min(top).saturating_mul(HEIGHT - 2) / top) - 1;
    let began = POINTS_MAX.saturating_sub(points.len());
    let mut path = String::new();
    let mut pen_down = false;
    for (at, point) in points.iter().enumerate() {
        let Some(value) = point else {
            pen_down = false;
            continue;
        };
        let x = 2 * (began + at);
        let letter = if pen_down { 'L' } else { 'M' };
        // A point beside gaps is a dot: a line to itself, with round ends.
        let dot = if pen_down { "" } else { "h1" };
        let _ = write!(path, "{letter}{x} {}{dot}", y(*value));
        pen_down = true;
    }
    let said = match (known().next_back(), known().min(), known().max()) {
        (Some(now), Some(low), Some(high)) => format!("{label}: {now}, {low} to {high}"),
        _ => format!("{label}: -"),
    };
    html! {
        svg.curve viewBox=(format!("0 0 {WIDTH} {HEIGHT}")) preserveAspectRatio="none" role="img" aria-label=(said) {
            title { (said) }
            @if let Some(bound) = bound {
                line.bound x1="0" x2=(WIDTH) y1=(y(bound)) y2=(y(bound)) {}
            }
            path d=(path) {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::picture::curve::Counted;

    /// Goal: what is counted together is what coreapps tell, by the names under which they tell it. Method: a coreapp's own figures.
    #[test]
    fn what_is_counted_is_told() {
        let told = crate::metrics::CoreappMetrics::new().figures();
        for of in Counted::ALL {
            let figure = told.get(of.figure());
            let figure = figure.unwrap_or_else(|| panic!("{of:?}: {:?}", told.keys()));
            assert_eq!(figure.r#type == "counter", of.is_counter(), "{of:?}");
        }
    }

    /// Goal: a curve is drawn within its frame, for points of any size, and says in words what it shows. Method: extremes.
    #[test]
    fn curves_are_drawn_within_their_frame() {
        let drawn = draw(
            &[Some(0), None, Some(u64::MAX / 64), Some(5)],
            Some(10),
            "age",
        );
        let drawn = drawn.into_string();
        assert!(drawn.contains("M352 31h1M356 1h1L358 31"), "{drawn}");
        assert!(drawn.contains("aria-label=\"age: 5, 0 to "), "{drawn}");
        assert!(draw(&[], None, "age").into_string().contains("age: -"));
    }
}
