//! Columns of text, and lines of names and values.

use crate::terminal::printable;

/// What a cell says about the node.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Tone {
    #[default]
    Plain,
    Bad,
    Good,
    Warning,
}

impl Tone {
    /// Around text, when colours are wanted (ECMA-48, select graphic rendition).
    pub(crate) fn paint(self, text: &str, colour: bool) -> String {
        let code = match self {
            Self::Plain => return text.to_owned(),
            Self::Bad => 31,
            Self::Good => 32,
            Self::Warning => 33,
        };
        if colour {
            format!("\x1b[{code}m{text}\x1b[0m")
        } else {
            text.to_owned()
        }
    }
}

/// One cell.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cell {
    text: String,
    tone: Tone,
}

impl Cell {
    pub(crate) fn toned(text: impl Into<String>, tone: Tone) -> Self {
        Self {
            text: text.into(),
            tone,
        }
    }

    /// What is shown: one line, and something when there is nothing.
    fn shown(&self) -> String {
        match self.text.as_str() {
            "" => "-".to_owned(),
            text => printable(text).replace(['\n', '\t'], " "),
        }
    }
}

impl<T: Into<String>> From<T> for Cell {
    fn from(text: T) -> Self {
        Self::toned(text, Tone::Plain)
    }
}

/// Rows of cells below a head.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Table {
    head: Vec<&'static str>,
    rows: Vec<Vec<Cell>>,
}

impl Table {
    pub(crate) fn new<const N: usize>(head: [&'static str; N]) -> Self {
        Self {
            head: head.to_vec(),
            rows: Vec::new(),
        }
    }

    /// Adds columns for those who want to see more; rows get as many more cells.
    pub(crate) fn more<const N: usize>(&mut self, wide: bool, head: [&'static str; N]) {
        if wide {
            self.head.extend(head);
        }
    }

    /// Adds a row; cells beyond the head, which only the wide form shows, are left out.
    pub(crate) fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows
            .push(cells.into_iter().take(self.head.len()).collect());
    }

    /// Puts a column in front.
    pub(crate) fn prefix(&mut self, head: &'static str, text: &str) {
        self.head.insert(0, head);
        for row in &mut self.rows {
            row.insert(0, text.into());
        }
    }

    /// Adds the rows of another table with the same head.
    pub(crate) fn append(&mut self, other: Self) {
        self.rows.extend(other.rows);
    }

    /// The text, one line for each row.
    pub(crate) fn render(&self, colour: bool) -> String {
        let rows: Vec<Vec<(String, Tone)>> = self
            .rows
            .iter()
            .map(|row| row.iter().map(|cell| (cell.shown(), cell.tone)).collect())
            .collect();
        let head = self
            .head
            .iter()
            .map(|name| ((*name).to_owned(), Tone::Plain));
        let lines: Vec<Vec<(String, Tone)>> = std::iter::once(head.collect()).chain(rows).collect();
        let mut widths = vec![0; self.head.len()];
        for line in &lines {
            for (width, (text, _)) in widths.iter_mut().zip(line) {
                *width = (*width).max(text.chars().count());
            }
        }
        lines
            .iter()
            .map(|line| render_line(line, &widths, colour))
            .collect()
    }
}

/// Between columns; two blanks run together with texts of several words.
const GAP: usize = 3;

fn render_line(cells: &[(String, Tone)], widths: &[usize], colour: bool) -> String {
    let mut line = String::new();
    for (i, ((text, tone), width)) in cells.iter().zip(widths).enumerate() {
        line.push_str(&tone.paint(text, colour));
        if i + 1 < cells.len() {
            let blanks = GAP + width - text.chars().count();
            line.extend(std::iter::repeat_n(' ', blanks));
        }
    }
    line.push('\n');
    line
}

/// Names and values below each other; those without a value are left out.
pub(crate) fn fields(fields: &[(&str, String)]) -> String {
    let shown = || fields.iter().filter(|(_, value)| !value.is_empty());
    let width = shown().map(|(name, _)| name.len()).max().unwrap_or(0);
    shown()
        .map(|(name, value)| format!("{name:<width$}   {}\n", printable(value)))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(["NAME", "STATE"]);
        table.more(true, ["WHY"]);
        table.row([
            "kubelet".into(),
            Cell::toned("ready", Tone::Good),
            "".into(),
        ]);
        table.row(["é".into(), "x\n\u{1b}y".into(), "a".into()]);
        table
    }

    #[test]
    fn columns_line_up_and_lines_stay_lines() {
        assert_eq!(
            table().render(false),
            "NAME      STATE       WHY\n\
             kubelet   ready       -\n\
             é         x \\u{1b}y   a\n"
        );
    }

    #[test]
    fn colours_do_not_move_columns() {
        let painted = table().render(true);
        assert!(painted.contains("\x1b[32mready\x1b[0m"));
        let bare = painted.replace("\x1b[32m", "").replace("\x1b[0m", "");
        assert_eq!(bare, table().render(false));
    }

    #[test]
    fn the_short_form_leaves_out_what_is_wide() {
        let mut table = Table::new(["NAME"]);
        table.more(false, ["WHY"]);
        table.row(["a".into(), "because".into()]);
        table.prefix("NODE", "n1");
        assert_eq!(table.render(false), "NODE   NAME\nn1     a\n");
    }

    #[test]
    fn fields_without_a_value_are_left_out() {
        let text = fields(&[
            ("name", "a".to_owned()),
            ("x", String::new()),
            ("up", "b".to_owned()),
        ]);
        assert_eq!(text, "name   a\nup     b\n");
    }
}
