//! Tables of text: columns as wide as they must be, numbers to the right.

/// One table. Every row has as many cells as the head.
pub(super) struct Table {
    rows: Vec<Vec<String>>,
}

impl Table {
    pub(super) fn new(head: &[&str]) -> Table {
        Table { rows: vec![head.iter().map(ToString::to_string).collect()] }
    }

    pub(super) fn row(&mut self, cells: impl IntoIterator<Item = String>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// True if it has a head only.
    pub(super) fn is_empty(&self) -> bool {
        self.rows.len() == 1
    }

    /// The lines, the head first.
    pub(super) fn lines(&self) -> Vec<String> {
        let columns = self.rows[0].len();
        let cell = |row: &'_ Vec<String>, column: usize| row.get(column).cloned().unwrap_or_default();
        let widths: Vec<usize> = (0..columns)
            .map(|column| self.rows.iter().map(|row| cell(row, column).chars().count()).max().unwrap_or(0))
            .collect();
        let is_number = |text: &str| !text.is_empty() && text.chars().all(|c| c.is_ascii_digit() || c == ',');
        let numeric: Vec<bool> = (0..columns)
            .map(|column| !self.is_empty() && self.rows.iter().skip(1).all(|row| is_number(&cell(row, column))))
            .collect();
        let line = |row: &Vec<String>| {
            let cells = (0..columns).map(|column| {
                let (text, width) = (cell(row, column), widths[column]);
                if numeric[column] { format!("{text:>width$}") } else { format!("{text:<width$}") }
            });
            cells.collect::<Vec<_>>().join("  ").trim_end().to_owned()
        };
        self.rows.iter().map(line).collect()
    }
}

/// `1234567` as `1,234,567`.
pub(super) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut text = String::with_capacity(digits.len() + digits.len() / 3);
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            text.push(',');
        }
        text.push(digit);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_stand_to_the_right() {
        let mut table = Table::new(&["port", "packets"]);
        table.row(["uplink".into(), thousands(1_234_567)]);
        table.row(["web1".into(), thousands(999)]);
        assert_eq!(table.lines(), ["port      packets", "uplink  1,234,567", "web1          999"]);
    }

    #[test]
    fn thousands_are_parted() {
        assert_eq!([0, 999, 1000, 1_000_000].map(thousands), ["0", "999", "1,000", "1,000,000"]);
    }
}
