//! A chart of horizontal bars in panels, as SVG. It has its own light background, so that it reads the same on a dark page.

use std::fmt::Write;

const WIDTH: u32 = 1000;
const MARGIN: u32 = 24;
const COLUMNS: u32 = 2;
const GAP: u32 = 28;
const PANEL_WIDTH: u32 = (WIDTH - 2 * MARGIN - GAP) / COLUMNS;
const LABEL_WIDTH: u32 = 212;
const VALUE_WIDTH: u32 = 84;
const BAR_WIDTH: f64 = (PANEL_WIDTH - LABEL_WIDTH - VALUE_WIDTH) as f64;
const ROW: u32 = 27;
const BAR: u32 = 18;
const HEAD: u32 = 74;
const PANEL_HEAD: u32 = 38;
const NOTE: u32 = 21;

const STYLE: &str = "\
text { font-family: system-ui, 'Segoe UI', 'DejaVu Sans', Helvetica, Arial, sans-serif; fill: #1f2328 }
.title { font-size: 22px; font-weight: 600 }
.panel { font-size: 16px; font-weight: 600 }
.label, .value { font-size: 14px }
.value { font-weight: 600 }
.note { font-size: 13px; fill: #57606a }
.ours { fill: #0b7a75 }
.other { fill: #b3541e }
.pale { fill-opacity: 0.45 }
.axis { stroke: #d0d7de }
";

/// A bar.
pub struct Bar {
    pub label: String,
    /// Infinite: longer than was waited for. Such a bar is as long as the longest of the others.
    pub value: f64,
    /// What is written behind it.
    pub text: String,
    /// In our colour, or in the other's.
    pub ours: bool,
    pub pale: bool,
}

/// Bars that are compared.
pub struct Panel {
    pub title: String,
    pub bars: Vec<Bar>,
}

/// The whole.
pub struct Chart {
    pub title: String,
    pub panels: Vec<Panel>,
    /// Lines at the foot.
    pub notes: Vec<String>,
}

impl Chart {
    pub fn draw(&self) -> String {
        let panels: Vec<&Panel> = self.panels.iter().filter(|panel| !panel.bars.is_empty()).collect();
        let mut body = String::new();
        let mut y = HEAD;
        for row in panels.chunks(COLUMNS as usize) {
            for (column, panel) in (0..).zip(row) {
                panel.draw(&mut body, MARGIN + column * (PANEL_WIDTH + GAP), y);
            }
            y += row.iter().map(|panel| panel.height()).max().unwrap_or_default() + GAP;
        }
        for note in &self.notes {
            text(&mut body, "note", MARGIN, y, note);
            y += NOTE;
        }
        let height = y + MARGIN - NOTE / 2;
        let mut svg = format!(
            "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {WIDTH} {height}\" width=\"{WIDTH}\" \
             height=\"{height}\" role=\"img\" aria-label=\"{title}\">\n<style>\n{STYLE}</style>\n\
             <rect width=\"{WIDTH}\" height=\"{height}\" rx=\"10\" fill=\"#ffffff\" stroke=\"#d0d7de\"/>\n",
            title = escaped(&self.title)
        );
        text(&mut svg, "title", MARGIN, 42, &self.title);
        svg + &body + "</svg>\n"
    }
}

impl Panel {
    fn height(&self) -> u32 {
        PANEL_HEAD + ROW * u32::try_from(self.bars.len()).unwrap_or_default()
    }

    fn draw(&self, svg: &mut String, x: u32, y: u32) {
        text(svg, "panel", x, y + 16, &self.title);
        let longest = self.bars.iter().map(|bar| bar.value).filter(|value| value.is_finite());
        let longest = longest.fold(f64::MIN_POSITIVE, f64::max);
        let left = x + LABEL_WIDTH;
        let (top, bottom) = (y + PANEL_HEAD - 6, y + self.height() - 2);
        let _ = writeln!(svg, "<path class=\"axis\" d=\"M{left}.5 {top}V{bottom}\"/>");
        for (row, bar) in (0..).zip(&self.bars) {
            let y = y + PANEL_HEAD + row * ROW;
            let width = ((bar.value / longest).min(1.0) * BAR_WIDTH).max(1.5);
            let class = if bar.ours { "ours" } else { "other" };
            let pale = if bar.pale { " pale" } else { "" };
            text(svg, "label", x, y + BAR - 4, &bar.label);
            let _ = writeln!(
                svg,
                "<rect class=\"{class}{pale}\" x=\"{left}\" y=\"{y}\" width=\"{width:.1}\" height=\"{BAR}\" rx=\"2\"/>"
            );
            text(svg, "value", left + 6 + width as u32, y + BAR - 4, &bar.text);
        }
    }
}

fn text(svg: &mut String, class: &str, x: u32, y: u32, text: &str) {
    let _ = writeln!(svg, "<text class=\"{class}\" x=\"{x}\" y=\"{y}\">{}</text>", escaped(text));
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

/// Three digits, and what is before the point whole.
pub fn short(value: f64) -> String {
    let digits = (2 - value.abs().max(1e-3).log10().floor() as i32).clamp(0, 2);
    if value >= 1000.0 { thousands(value.round() as u64) } else { format!("{value:.*}", digits as usize) }
}

/// With commas.
pub fn thousands(number: u64) -> String {
    if number < 1000 { number.to_string() } else { format!("{},{:03}", thousands(number / 1000), number % 1000) }
}
