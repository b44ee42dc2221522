//! Small curves in a line of text: one sign for each stretch of time.
//! Keeps no points: `api/picture/curve.rs` does.

use super::paint::Paint;

/// Which value of a stretch is shown when there are several: the one that somebody has to know of.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Worst {
    Low,
    High,
}

/// The newest value at the right; a gap where nothing was measured. Few points have a sign each; more of them share one, so that the
/// whole curve fits. `full`: what the highest sign stands for at least.
pub fn line(
    points: &[Option<u64>],
    width: usize,
    worst: Worst,
    full: Option<u64>,
    paint: Paint,
) -> String {
    if width == 0 {
        return String::new();
    }
    let shown = fold(points, width, worst);
    let top = shown.iter().flatten().copied().chain(full).max();
    let steps = paint.steps();
    let sign = |value: u64| {
        let last = steps.len() - 1;
        let at = u128::from(value) * last as u128 / u128::from(top.unwrap_or(0).max(1));
        steps[usize::try_from(at).unwrap_or(last).min(last)]
    };
    let gaps = " ".repeat(width.saturating_sub(shown.len()));
    let signs = shown.iter().map(|of| of.map_or(" ", sign));
    gaps + &signs.collect::<String>()
}

/// Of so many stretches at most.
fn fold(points: &[Option<u64>], width: usize, worst: Worst) -> Vec<Option<u64>> {
    let each = points.len().div_ceil(width).max(1);
    let mut shown: Vec<Option<u64>> = points
        .rchunks(each)
        .map(|stretch| {
            let known = stretch.iter().flatten().copied();
            match worst {
                Worst::Low => known.min(),
                Worst::High => known.max(),
            }
        })
        .collect();
    shown.reverse();
    shown
}

#[cfg(test)]
mod tests {
    use super::*;

    const ASCII: Paint = Paint {
        colours: false,
        signs: false,
    };

    /// Goal: whoever sees a curve sees its worst value, however narrow it is, and gaps as gaps. Method: one peak among many points.
    #[test]
    fn the_worst_is_seen() {
        let mut points = vec![Some(10); 180];
        points[77] = Some(1000);
        assert_eq!(line(&points, 10, Worst::High, None, ASCII), "____@_____");
        points[77] = Some(1);
        assert_eq!(line(&points, 10, Worst::Low, None, ASCII), "@@@@_@@@@@");
        let few = [Some(0), None, Some(50), Some(100)];
        assert_eq!(line(&few, 6, Worst::High, None, ASCII), "  _ =@");
        assert_eq!(line(&few, 6, Worst::High, Some(800), ASCII), "  _ __");
        assert_eq!(line(&[], 3, Worst::High, None, ASCII), "   ");
        assert_eq!(line(&few, 0, Worst::High, Some(u64::MAX), ASCII), "");
    }
}
