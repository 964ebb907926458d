//! The picture of a report.

use std::fmt::Write;

use super::report::{CircuitShares, Moment, Report, TargetReport};

const WIDTH: f64 = 1_040.0;
const LEFT: f64 = 150.0;
const RIGHT: f64 = 36.0;
const REQUESTS: Panel = Panel { top: 86.0, height: 210.0 };
const LATENCY: Panel = Panel { top: 340.0, height: 100.0 };
const STRIPS: f64 = 490.0;
const STRIP: f64 = 34.0;

const SERVED: [&str; 8] = ["#4477aa", "#66a8c9", "#44997f", "#9bbf65", "#8a78b8", "#c79a4b", "#6b8e9e", "#b487a6"];
const REFUSED: &str = "#d1495b";
const BROKEN: &str = "#7d2035";
const INK: &str = "#27313b";
const FAINT: &str = "#8a949e";
const CLOSED: &str = "#dfe9e2";
const THROTTLED: &str = "#e3a02c";
const FAILING: &str = "#c8423b";
const PROBING: &str = "#5b7fd1";
const UNABLE: &str = "#39424c";

/// A part of the picture with a vertical axis.
struct Panel {
    top: f64,
    height: f64,
}

impl Panel {
    const fn bottom(&self) -> f64 {
        self.top + self.height
    }

    fn y(&self, value: f64, most: f64) -> f64 {
        self.bottom() - self.height * (value / most).min(1.0)
    }
}

pub(super) fn draw(report: &Report) -> String {
    let mut picture = Picture { report, svg: String::new() };
    picture.head();
    picture.requests();
    picture.latency();
    picture.strips();
    picture.svg.push_str("</svg>\n");
    picture.svg
}

struct Picture<'a> {
    report: &'a Report,
    svg: String,
}

impl Picture<'_> {
    fn add(&mut self, element: std::fmt::Arguments<'_>) {
        // Writing to a string cannot fail.
        let _ = self.svg.write_fmt(element);
        self.svg.push('\n');
    }

    fn text(&mut self, x: f64, y: f64, class: &str, text: &str) {
        self.add(format_args!(r#"<text x="{x:.1}" y="{y:.1}" class="{class}">{}</text>"#, escaped(text)));
    }

    fn rect(&mut self, (x, y): (f64, f64), (width, height): (f64, f64), fill: &str, opacity: f64) {
        if width <= 0.0 || height <= 0.0 || opacity <= 0.0 {
            return;
        }
        self.add(format_args!(
            r#"<rect x="{x:.2}" y="{y:.2}" width="{width:.2}" height="{height:.2}" fill="{fill}" fill-opacity="{opacity:.3}"/>"#
        ));
    }

    fn line(&mut self, points: impl Iterator<Item = (f64, f64)>, stroke: &str, more: &str) {
        let points: Vec<_> = points.map(|(x, y)| format!("{x:.2},{y:.2}")).collect();
        self.add(format_args!(r#"<polyline points="{}" fill="none" stroke="{stroke}" {more}/>"#, points.join(" ")));
    }

    fn x(&self, ms: f64) -> f64 {
        LEFT + (WIDTH - LEFT - RIGHT) * ms / (self.report.lasted_ms as f64).max(1.0)
    }

    /// The left edge and the width of each moment.
    fn columns(&self) -> Vec<(f64, f64)> {
        let ends = self.report.timeline.iter().skip(1).map(|moment| moment.from_ms).chain([self.report.lasted_ms]);
        let starts = self.report.timeline.iter().map(|moment| moment.from_ms);
        starts.zip(ends).map(|(from, to)| (self.x(from as f64), self.x(to as f64) - self.x(from as f64))).collect()
    }

    /// Requests in a moment, by the second.
    fn rate(&self, requests: u64) -> f64 {
        let seconds =
            self.report.timeline.get(1).map_or(self.report.lasted_ms, |second| second.from_ms) as f64 / 1_000.0;
        requests as f64 / seconds.max(0.001)
    }

    fn head(&mut self) {
        let report = self.report;
        let height = STRIPS + STRIP * report.targets.len() as f64 + 64.0;
        self.add(format_args!(
            r##"<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}" font-family="Inter, 'Segoe UI', 'DejaVu Sans', sans-serif">
<style>text{{fill:{INK};font-size:12px}}.title{{font-size:18px;font-weight:600}}.faint{{fill:{FAINT};font-size:11px}}.axis{{fill:{FAINT};font-size:11px;text-anchor:end}}.tick{{fill:{FAINT};font-size:11px;text-anchor:middle}}.name{{font-size:12px;text-anchor:end}}.weather{{fill:{FAINT};font-size:10px}}</style>
<rect width="{WIDTH}" height="{height}" fill="#fbfcfd"/>"##
        ));
        self.text(24.0, 32.0, "title", &format!("{} · {}", report.scenario, report.strategy));
        let summary = format!(
            "goodput {:.2} %, {:.2} % of the all-knowing router's · p50 {} ms, p99 {} ms to the first content · {:.2} attempts per request · seed {}",
            100.0 * report.goodput(),
            100.0 * report.share_of_all_knowing(),
            report.first_content_ms.p50,
            report.first_content_ms.p99,
            report.attempts.per_request,
            report.seed
        );
        self.text(24.0, 52.0, "faint", &summary);
    }

    fn axis(&mut self, panel: &Panel, title: &str, most: f64, unit: &str) {
        self.text(24.0, panel.top + 10.0, "", title);
        for step in 0..=2 {
            let value = most * f64::from(step) / 2.0;
            let y = panel.y(value, most);
            self.line([(LEFT, y), (WIDTH - RIGHT, y)].into_iter(), "#e3e8ec", r#"stroke-width="1""#);
            self.text(LEFT - 8.0, y + 4.0, "axis", &format!("{}{unit}", short(value)));
        }
    }

    fn requests(&mut self) {
        let report = self.report;
        let busiest = report.timeline.iter().map(|moment| moment.offered).max().unwrap_or_default();
        let most = rounded_up(self.rate(busiest));
        self.axis(&REQUESTS, "requests", most, "/s");
        let columns = self.columns();
        for (moment, (x, width)) in report.timeline.iter().zip(&columns) {
            let mut below = 0;
            for (count, color) in stacked(moment) {
                let (low, high) = (REQUESTS.y(self.rate(below), most), REQUESTS.y(self.rate(below + count), most));
                // A little wider, so that no background shows between columns.
                self.rect((*x, high), (width + 0.3, low - high), color, 1.0);
                below += count;
            }
        }
        let best: Vec<_> = report.all_knowing.timeline.iter().zip(&columns).collect();
        let points = best.iter().flat_map(|(served, (x, width))| {
            let y = REQUESTS.y(self.rate(**served), most);
            [(*x, y), (x + width, y)]
        });
        let points: Vec<_> = points.collect();
        self.line(points.into_iter(), INK, r#"stroke-width="1" stroke-dasharray="2 3""#);
        self.legend_of_requests();
    }

    fn legend_of_requests(&mut self) {
        let totals = self.report.requests;
        let ends = [(totals.refused, REFUSED, "refused"), (totals.broken, BROKEN, "broken off")];
        let ends = ends.into_iter().filter(|(requests, ..)| *requests > 0);
        let mut entries: Vec<_> = ends.map(|(_, color, text)| (color, text.to_owned())).collect();
        let by = |i: usize| if i == 0 { "served by " } else { "" };
        let targets = self.report.targets.iter().enumerate();
        entries.extend(targets.map(|(i, target)| (color_of(i), format!("{}{}", by(i), name(target)))));
        self.legend(REQUESTS.top - 10.0, Some("the all-knowing router"), &entries);
    }

    fn legend(&mut self, y: f64, dashed: Option<&str>, entries: &[(&str, String)]) {
        let width = |text: &str| 6.2 * text.chars().count() as f64;
        let mut x = LEFT;
        if let Some(text) = dashed {
            let points = [(x, y - 4.0), (x + 16.0, y - 4.0)];
            self.line(points.into_iter(), INK, r#"stroke-width="1" stroke-dasharray="2 3""#);
            self.text(x + 21.0, y, "faint", text);
            x += 36.0 + width(text);
        }
        for (color, text) in entries {
            if x + 15.0 + width(text) > WIDTH - RIGHT {
                self.text(x, y, "faint", "…");
                return;
            }
            self.rect((x, y - 9.0), (10.0, 10.0), color, 1.0);
            self.text(x + 15.0, y, "faint", text);
            x += 30.0 + width(text);
        }
    }

    fn latency(&mut self) {
        let report = self.report;
        let longest = report.timeline.iter().map(|moment| moment.p95_ms).max().unwrap_or_default();
        let most = rounded_up(longest as f64 / 1_000.0);
        self.axis(&LATENCY, "first content", most, " s");
        let columns = self.columns();
        let busy = || report.timeline.iter().zip(&columns).filter(|(moment, _)| moment.p50_ms > 0);
        let curve = |of: fn(&Moment) -> u64| -> Vec<_> {
            let point = |(moment, (x, width)): (&Moment, &(f64, f64))| {
                (x + width / 2.0, LATENCY.y(of(moment) as f64 / 1_000.0, most))
            };
            busy().map(point).collect()
        };
        let (p50, p95) = (curve(|moment| moment.p50_ms), curve(|moment| moment.p95_ms));
        self.line(p95.into_iter(), SERVED[1], r#"stroke-width="1.3""#);
        self.line(p50.into_iter(), SERVED[0], r#"stroke-width="1.8""#);
        let entries = [(SERVED[0], "half are faster".to_owned()), (SERVED[1], "19 in 20 are faster".to_owned())];
        self.legend(LATENCY.top - 10.0, None, &entries);
    }

    fn strips(&mut self) {
        let entries = [
            (CLOSED, "circuit closed"),
            (THROTTLED, "open: asked to wait"),
            (FAILING, "open: failed"),
            (PROBING, "half-open"),
            (UNABLE, "in truth: would not serve"),
        ];
        self.legend(STRIPS - 14.0, None, &entries.map(|(color, text)| (color, text.to_owned())));
        let (report, columns) = (self.report, self.columns());
        for (index, target) in report.targets.iter().enumerate() {
            let y = STRIPS + STRIP * index as f64;
            self.text(LEFT - 8.0, y + 15.0, "name", &name(target));
            self.rect((LEFT, y), (WIDTH - LEFT - RIGHT, 16.0), CLOSED, 1.0);
            for (moment, (x, width)) in report.timeline.iter().zip(&columns) {
                let Some(circuit) = moment.circuits.get(index) else { continue };
                self.strip(*x, width + 0.3, y, circuit);
            }
            self.weather(&target.backend, y + 16.0);
        }
        self.times(STRIPS + STRIP * report.targets.len() as f64 + 12.0);
    }

    fn strip(&mut self, x: f64, width: f64, y: f64, circuit: &CircuitShares) {
        let mut top = y;
        for (share, color) in [(circuit.throttled, THROTTLED), (circuit.failing, FAILING), (circuit.probing, PROBING)] {
            self.rect((x, top), (width, 16.0 * share), color, 1.0);
            top += 16.0 * share;
        }
        self.rect((x, y + 18.0), (width, 4.0), UNABLE, 1.0 - circuit.able);
    }

    /// Writes what the weather is called, under the strip of its backend, from when it begins.
    fn weather(&mut self, backend: &str, y: f64) {
        let report = self.report;
        let mut free = LEFT;
        for spell in report.weather.iter().filter(|spell| spell.backend == backend) {
            let (from, until) = (self.x(spell.from_ms as f64), self.x(spell.until_ms as f64));
            self.line([(from, y + 7.0), (until, y + 7.0)].into_iter(), FAINT, r#"stroke-width="1""#);
            // Names of several stand side by side, as far as there is room.
            let at = from.max(free);
            if at < WIDTH - RIGHT {
                self.text(at, y + 16.0, "weather", &spell.weather);
                free = at + 5.4 * spell.weather.chars().count() as f64 + 10.0;
            }
        }
    }

    fn times(&mut self, y: f64) {
        let seconds = self.report.lasted_ms.div_ceil(1_000);
        let steps = [1, 2, 5, 10, 30, 60, 120, 300, 600, 1_800, 3_600, 7_200, 14_400];
        let step = steps.into_iter().find(|step| seconds / step <= 12).unwrap_or(seconds / 10);
        for second in (0..=seconds).step_by(step as usize) {
            let text = if step < 60 { format!("{second} s") } else { format!("{} min", second / 60) };
            self.text(self.x(1_000.0 * second as f64), y + 4.0, "tick", &text);
        }
    }
}

fn stacked(moment: &Moment) -> impl Iterator<Item = (u64, &'static str)> {
    let served = moment.served.iter().enumerate().map(|(index, served)| (*served, color_of(index)));
    served.chain([(moment.refused, REFUSED), (moment.broken, BROKEN)])
}

const fn color_of(target: usize) -> &'static str {
    SERVED[target % SERVED.len()]
}

fn name(target: &TargetReport) -> String {
    let TargetReport { backend, deployment, .. } = target;
    if deployment == super::ALIAS { backend.clone() } else { format!("{backend}/{deployment}") }
}

/// 1, 2 or 5 times a power of ten.
fn rounded_up(value: f64) -> f64 {
    let mut power = 0.01;
    while power * 10.0 <= value {
        power *= 10.0;
    }
    [1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 8.0]
        .into_iter()
        .map(|digit| digit * power)
        .find(|round| *round >= value)
        .unwrap_or(power * 10.0)
}

fn short(value: f64) -> String {
    if value >= 10.0 || value.fract() == 0.0 { format!("{value:.0}") } else { format!("{value:.1}") }
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn axes_end_at_round_numbers() {
        let table = [(0.0, 0.01), (0.7, 0.8), (1.0, 1.0), (7.0, 8.0), (9.0, 10.0), (41.0, 50.0), (120.0, 200.0)];
        for (value, end) in table {
            assert!((rounded_up(value) - end).abs() < 1e-9, "{value}: {}", rounded_up(value));
        }
    }

    #[test]
    fn names_cannot_break_out() {
        assert_eq!(escaped("a<b>&c"), "a&lt;b&gt;&amp;c");
    }
}
