//! Figures as `bench/pictures` draws them: a text file for each, a line for each point, columns parted by tabs. The first
//! lines begin with `#`: what was measured, the columns, and the machine.

use std::fmt::{Display, Write as _};
use std::fs;
use std::path::PathBuf;

use hdrhistogram::Histogram;

use super::machine;

/// Points of a distribution for each halving of the distance to 100%.
const TICKS: u32 = 2;

/// Where figures are kept, if anywhere.
pub struct Figures {
    directory: Option<PathBuf>,
    machine: String,
}

impl Figures {
    /// In this directory.
    pub fn new(directory: Option<PathBuf>) -> Figures {
        if let Some(directory) = &directory {
            fs::create_dir_all(directory).expect("a directory");
        }
        Figures { directory, machine: machine::describe() }
    }

    /// Keeps a table.
    pub fn table(&self, name: &str, what: &str, columns: &[&str], rows: &[Vec<String>]) {
        let mut text = self.head(what, columns);
        for row in rows {
            text.push_str(&row.join("\t"));
            text.push('\n');
        }
        self.write(name, &text);
    }

    /// Keeps a distribution of nanoseconds, as `HdrHistogram` plots are drawn: by how many halvings a quantile is away
    /// from 100%.
    pub fn distribution(&self, name: &str, what: &str, times: &Histogram<u64>) {
        let mut text = self.head(what, &["quantile", "one_in", "microseconds"]);
        for point in times.iter_quantiles(TICKS) {
            let quantile = point.quantile_iterated_to();
            if quantile < 1.0 {
                let (one_in, time) = (1.0 / (1.0 - quantile), point.value_iterated_to() as f64 / 1e3);
                let _ = writeln!(text, "{quantile:.6}\t{one_in:.1}\t{time:.1}");
            }
        }
        let _ = writeln!(text, "1\t{}\t{:.1}", times.len().max(1), times.max() as f64 / 1e3);
        self.write(name, &text);
    }

    fn head(&self, what: &str, columns: &[&str]) -> String {
        format!("# {what}\n# {}\n# {}\n", self.machine, columns.join("\t"))
    }

    fn write(&self, name: &str, text: &str) {
        if let Some(directory) = &self.directory {
            fs::write(directory.join(format!("{name}.tsv")), text).expect("a file");
        }
    }
}

/// Columns of a row, no number of them with more than four decimals.
pub fn row(columns: &[&dyn Display]) -> Vec<String> {
    let text = |column: &&dyn Display| {
        let text = column.to_string();
        let number = text.parse::<f64>().ok().filter(|_| text.contains('.'));
        number.map_or(text, |number| format!("{number:.4}"))
    };
    columns.iter().map(text).collect()
}
