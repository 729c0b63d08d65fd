//! From a mapping file to tables, in a process of its own, so that its memory is that of the mapping alone.

use std::fs;
use std::io::Write;
use std::process::Command;
use std::time::Instant;

use super::figures::{Figures, row};
use super::{median, resident, sizes, world};

/// Then comes the mapping file.
pub const CHILD: &str = "--boot";

/// What is to be reached: seconds from file to tables, bytes a binding, seconds of a whole replacement.
const BOOT: f64 = 2.0;
const BYTES: f64 = 200.0;
const REPLACE: f64 = 5.0;

pub fn run(bindings: usize, rounds: usize, figures: &Figures) {
    println!(
        "\nin memory, a process each time, median of {rounds}; targets at a million: {BOOT} s from file to tables, {BYTES} bytes a \
         binding resident, {REPLACE} s for a whole mapping with every service elsewhere moved"
    );
    println!(
        "{:>9} {:>7} {:>7} {:>7} {:>7} {:>9}  {:>12} {:>14}",
        "bindings", "file", "lines", "tables", "boot", "replaced", "bytes tables", "bytes resident"
    );
    let rows = sizes(bindings).map(|size| time(size, rounds, size == bindings));
    let columns = ["bindings", "file_s", "lines_s", "tables_s", "replaced_s", "bytes_tables", "bytes_resident"];
    figures.table("boot", "from a mapping file to tables, and a whole replacement", &columns, &rows);
}

/// Prints a row, and gives it. Targets are for the largest size.
fn time(bindings: usize, rounds: usize, is_largest: bool) -> Vec<String> {
    let file = std::env::temp_dir().join(format!("sixway-updates-{}", std::process::id()));
    let mut text = Vec::new();
    let specs = world::specs(bindings);
    for spec in &specs {
        writeln!(text, "{}", spec.value).expect("memory");
    }
    fs::write(&file, text).expect("a file");
    let bindings = specs.len();
    drop(specs);
    let mut figures = vec![Vec::new(); 6];
    for _ in 0..rounds {
        let program = std::env::current_exe().expect("a path");
        let output = Command::new(program).arg(CHILD).arg(&file).output().expect("it starts");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        let words = String::from_utf8_lossy(&output.stdout).into_owned();
        let numbers = words.split_whitespace().map(|word| word.parse::<f64>().expect("a number"));
        figures.iter_mut().zip(numbers).for_each(|(all, one)| all.push(one));
    }
    let _ = fs::remove_file(&file);
    let medians: Vec<f64> = figures.iter_mut().map(|all| median(all)).collect();
    let [read, parse, tables, replace, tables_bytes, resident] = medians[..] else { unreachable!("six figures") };
    let each = |bytes: f64| bytes / bindings as f64;
    let boot = read + parse + tables;
    let verdict = match boot <= BOOT && each(resident) <= BYTES && replace <= REPLACE {
        _ if !is_largest => "",
        true => "met",
        false => "missed",
    };
    println!(
        "{bindings:>9} {read:>7.3} {parse:>7.3} {tables:>7.3} {boot:>7.3} {replace:>9.3}  {:>12.0} {:>14.0}  {}",
        each(tables_bytes),
        each(resident),
        verdict
    );
    row(&[&bindings, &read, &parse, &tables, &replace, &each(tables_bytes), &each(resident)])
}

/// What runs in the process of its own.
pub fn child(file: &str) {
    let before = resident();
    let began = Instant::now();
    let text = fs::read(file).expect("the mapping");
    let read = began.elapsed();
    let specs = sixway::naming::parse_mapping(&text).expect("a mapping without mistakes");
    let parsed = began.elapsed();
    let (names, mut writer) = world::tables();
    writer.replace(&specs).expect("bindings that do not clash");
    let loaded = began.elapsed();
    drop((text, specs));
    let (tables, resident) = (names.memory_bytes(), resident().saturating_sub(before));
    let mut changes = super::changes::Changes::new(names.len());
    let whole = changes.whole(super::changes::Kind::Move);
    let began = Instant::now();
    writer.replace(whole).expect("bindings that do not clash");
    let replaced = began.elapsed().as_secs_f64();
    let [read, parse, tabled] = [read, parsed - read, loaded - parsed].map(|time| time.as_secs_f64());
    println!("{read} {parse} {tabled} {replaced} {tables} {resident}");
}
